"""What stepping a statement takes with each database driver: not to wait for a lock, and to undo."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

__all__ = ["STEPPED", "Driver", "find_driver", "roll_back"]


class Driver(Protocol):
    """How one driver's connections are handled while clients are explored.

    Attributes:
        keeps_its_view: True where a statement that has waited goes by what was there when it began.
    """

    keeps_its_view: bool

    def impatient(self, connection: Any) -> dict[str, Any]:
        """Let a connection not wait for locks; how it waited, to be handed to the others."""

    def patient(self, connection: Any, before: dict[str, Any]) -> None:
        """Let it wait for locks as it did."""

    def run(
        self, connection: Any, sql: str, statement: Callable[[], Any], before: dict[str, Any]
    ) -> bool:
        """Run a statement; False when it waits for a lock, and nothing was done."""

    def end(self, connection: Any, word: str, before: dict[str, Any]) -> bool:
        """COMMIT or ROLLBACK, unless SQLAlchemy does it in any case; False when it waits for a lock."""

    def locked(self, error: Exception) -> bool:
        """Whether a statement failed as a lock is not free."""

    def in_transaction(self, connection: Any) -> bool:
        """True while a transaction may hold locks."""


class Sqlite:
    """The standard library's sqlite3.

    Explored connections do not wait for the disk, as no run outlives the machine. What SQLite refuses
    at once, and would without a timeout of ours, is refused: to wait would be a deadlock.
    """

    keeps_its_view = False
    _BEGINS = re.compile(r"\s*(?:begin|pragma|savepoint)\b", re.IGNORECASE)

    def impatient(self, connection: Any) -> dict[str, Any]:
        before = {}
        for setting in ("busy_timeout", "synchronous"):
            before[setting] = connection.execute(f"PRAGMA {setting}").fetchone()[0]
            if setting == "busy_timeout" or not connection.in_transaction:
                connection.execute(f"PRAGMA {setting} = 0")
        return before

    def patient(self, connection: Any, before: dict[str, Any]) -> None:
        for setting in ("busy_timeout", "synchronous"):
            connection.execute(f"PRAGMA {setting} = {before[setting]}")

    def run(
        self, connection: Any, sql: str, statement: Callable[[], Any], before: dict[str, Any]
    ) -> bool:
        if not connection.in_transaction:
            before["has_read"] = False
        try:
            statement()
        except Exception as error:
            if self.locked(error) and before["busy_timeout"] and not before["has_read"]:
                return False
            raise
        if not self._BEGINS.match(sql):
            before["has_read"] = connection.in_transaction
        return True

    def end(self, connection: Any, word: str, before: dict[str, Any]) -> bool:
        try:
            getattr(connection, word.lower())()
        except Exception as error:  # SQLAlchemy meets it again, and tells the client
            return not (self.locked(error) and before["busy_timeout"])
        return True

    def locked(self, error: Exception) -> bool:
        return "locked" in str(error)

    def in_transaction(self, connection: Any) -> bool:
        return bool(getattr(connection, "in_transaction", False))


class Psycopg:
    """psycopg 3 on PostgreSQL.

    A statement that waits for a lock fails after a millisecond, and with it would fail its transaction;
    a savepoint in front of it takes it back. The lock's holder stands still meanwhile: no machine is
    so slow that it would let go. NOWAIT, and a lock_timeout of the code's own, are refused at once.
    """

    keeps_its_view = True
    _OWN = re.compile(r"\s*(?:savepoint|release|rollback|begin|commit|set|show)\b", re.IGNORECASE)
    _POINT = "labsupport_step"

    def impatient(self, connection: Any) -> dict[str, Any]:
        found = self._timeout(connection)
        self._set(connection, "1ms")
        return {"timeout": found, "session": found, "transaction": found}

    def patient(self, connection: Any, before: dict[str, Any]) -> None:
        connection.rollback()
        self._set(connection, before["timeout"])

    def run(
        self, connection: Any, sql: str, statement: Callable[[], Any], before: dict[str, Any]
    ) -> bool:
        if not self.in_transaction(connection):
            before["transaction"] = before["session"]
        kept = not connection.autocommit and not self._OWN.match(sql)
        if kept:
            connection.execute(f"SAVEPOINT {self._POINT}")
        try:
            statement()
        except Exception as error:
            if not self._waits(error, before):
                raise
            if kept:
                connection.execute(f"ROLLBACK TO SAVEPOINT {self._POINT}")
                connection.execute(f"RELEASE SAVEPOINT {self._POINT}")
            return False
        if kept:
            connection.execute(f"RELEASE SAVEPOINT {self._POINT}")
        if "lock_timeout" in sql.lower():
            self._take_over(connection, sql, before)
        return True

    def end(self, connection: Any, word: str, before: dict[str, Any]) -> bool:
        return True

    def locked(self, error: Exception) -> bool:
        from psycopg.errors import LockNotAvailable

        return isinstance(error, LockNotAvailable)

    def in_transaction(self, connection: Any) -> bool:
        return int(connection.pgconn.transaction_status) != 0

    def _waits(self, error: Any, before: dict[str, Any]) -> bool:
        """Whether it is the explorer's millisecond that is over; NOWAIT fails elsewhere in the server."""
        if not self.locked(error) or before["transaction"] != "0":
            return False
        return error.diag.source_function in (None, "ProcessInterrupts")

    def _take_over(self, connection: Any, sql: str, before: dict[str, Any]) -> None:
        """The code has set how long it waits: so it is refused, and after a millisecond all the same."""
        if (found := self._timeout(connection)) == "1ms":
            return
        before["transaction"] = found
        scope = "LOCAL" if "local" in sql.lower() and not connection.autocommit else "SESSION"
        if scope == "SESSION":
            before["session"] = found
        connection.execute(f"SET {scope} lock_timeout = '1ms'")

    def _timeout(self, connection: Any) -> Any:
        return connection.execute("SHOW lock_timeout").fetchone()[0]

    def _set(self, connection: Any, value: str) -> None:
        # outside of a transaction, as a rollback would undo it
        connection.execute(f"SET lock_timeout = '{value}'")
        if not connection.autocommit:
            connection.commit()


_SQLITE, _PSYCOPG = Sqlite(), Psycopg()
_DRIVERS: dict[tuple[str, bool], Driver] = {
    ("sqlite+pysqlite", False): _SQLITE,
    ("sqlite+aiosqlite", True): _SQLITE,
    ("postgresql+psycopg", False): _PSYCOPG,
    ("postgresql+psycopg", True): _PSYCOPG,
}
STEPPED = tuple(dict.fromkeys(kind for kind, _ in _DRIVERS))
"""The drivers whose engines the explorer steps."""


def find_driver(dialect: Any) -> Driver | None:
    """The driver of an engine's dialect; None when the explorer does not know it."""
    return _DRIVERS.get((f"{dialect.name}+{dialect.driver}", bool(dialect.is_async)))


def roll_back(connection: Any, pooled: Any) -> None:
    """Undo what a client that is gone has begun.

    Args:
        connection: the driver's.
        pooled: SQLAlchemy's of an asynchronous engine; it goes back to its pool, as SQLAlchemy complains
            of one that nobody gave back.
    """
    with suppress(Exception):  # it may be closed
        connection.rollback()
        if pooled is not None:
            pooled.close()
