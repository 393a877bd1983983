"""What stepping a statement takes with each database driver: not to wait for a lock, and to undo."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

__all__ = ["STEPPED", "Driver", "find_driver", "roll_back"]


class Driver(Protocol):
    """How one driver's connections are handled while clients are explored."""

    def impatient(self, connection: Any) -> Any:
        """Let a connection not wait for locks; what `patient` needs to undo that."""

    def patient(self, connection: Any, before: Any) -> None:
        """Let it wait for locks as it did."""

    def run(self, connection: Any, sql: str, statement: Callable[[], Any]) -> bool:
        """Run a statement; False when a lock is not free, and nothing was done."""

    def in_transaction(self, connection: Any) -> bool:
        """True while a transaction may hold locks."""


class Sqlite:
    """The standard library's sqlite3.

    Explored connections do not wait for the disk, as no run outlives the machine.
    """

    def impatient(self, connection: Any) -> Any:
        before = {}
        for setting in ("busy_timeout", "synchronous"):
            before[setting] = connection.execute(f"PRAGMA {setting}").fetchone()[0]
            if setting == "busy_timeout" or not connection.in_transaction:
                connection.execute(f"PRAGMA {setting} = 0")
        return before

    def patient(self, connection: Any, before: Any) -> None:
        for setting, value in before.items():
            connection.execute(f"PRAGMA {setting} = {value}")

    def run(self, connection: Any, sql: str, statement: Callable[[], Any]) -> bool:
        try:
            statement()
        except Exception as error:
            if "locked" in str(error):
                return False
            raise
        return True

    def in_transaction(self, connection: Any) -> bool:
        return bool(getattr(connection, "in_transaction", False))


class Psycopg:
    """psycopg 3 on PostgreSQL.

    A statement that waits for a lock fails after a millisecond, and with it would fail its transaction;
    a savepoint in front of it takes it back. The lock's holder stands still meanwhile: no machine is
    so slow that it would let go.
    """

    _OWN = re.compile(r"\s*(?:savepoint|release|rollback|begin|commit|set|show)\b", re.IGNORECASE)
    _POINT = "labsupport_step"

    def impatient(self, connection: Any) -> Any:
        before = connection.execute("SHOW lock_timeout").fetchone()[0]
        self._set(connection, "1ms")
        return before

    def patient(self, connection: Any, before: Any) -> None:
        connection.rollback()
        self._set(connection, before)

    def run(self, connection: Any, sql: str, statement: Callable[[], Any]) -> bool:
        from psycopg.errors import LockNotAvailable

        kept = not connection.autocommit and not self._OWN.match(sql)
        if kept:
            connection.execute(f"SAVEPOINT {self._POINT}")
        try:
            statement()
        except LockNotAvailable:
            if kept:
                connection.execute(f"ROLLBACK TO SAVEPOINT {self._POINT}")
                connection.execute(f"RELEASE SAVEPOINT {self._POINT}")
            return False
        if kept:
            connection.execute(f"RELEASE SAVEPOINT {self._POINT}")
        return True

    def in_transaction(self, connection: Any) -> bool:
        return int(connection.pgconn.transaction_status) != 0

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
