"""One connection to the lab's SQLite file."""

import contextlib
import sqlite3
from functools import lru_cache
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from labsupport.database.sqlite_undo import Undo
from labsupport.database.statements import ResultSet, check_params, prepare, shorten
from labsupport.errors import (
    ConstraintError,
    DatabaseBusyError,
    DatabaseUnreachableError,
    LabError,
    StatementError,
)

__all__ = ["SQLite"]

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


class SQLite:
    """A connection; `Database` says what goes through it.

    Args:
        url: "sqlite:///" and the path of the file.
        busy_seconds: how long a statement waits for a lock.
    """

    name = "sqlite"

    def __init__(self, url: str, busy_seconds: float) -> None:
        engine = _engine(url, busy_seconds)
        self._dialect = engine.dialect
        try:
            self._pooled = engine.raw_connection()
            driver: Any = self._pooled.driver_connection
            # The copy is private: after a crash of the machine, no one needs it.
            driver.execute("PRAGMA synchronous = OFF")
            driver.execute("PRAGMA recursive_triggers = ON")  # or REPLACE is not undone
        except Exception as error:
            raise DatabaseUnreachableError(
                f"The database file cannot be opened: {getattr(error, 'orig', error)}.",
                "It is removed when the lab that opened it is closed: open the lab again.",
            ) from None
        self._driver: sqlite3.Connection = driver
        self._undo = Undo(self, driver)

    def run(self, sql: str, params: dict[str, Any], *, inside: bool) -> ResultSet:
        """Run one statement and take all its rows."""
        prepared = prepare(sql, self._dialect)
        if params or prepared.names:
            check_params(sql, prepared.names, params)
        if not inside:
            self.rollback()  # of what an interrupt, in the midst of BEGIN or ROLLBACK, has left
        try:
            cursor = self._driver.execute(prepared.text, params)
            if cursor.description is None:
                return ResultSet((), [], max(cursor.rowcount, 0))
            rows = cursor.fetchall()
        except (sqlite3.Error, OverflowError, UnicodeError) as error:
            raise _explain(error, sql) from error
        return ResultSet(tuple([column[0] for column in cursor.description]), rows, len(rows))

    def plain(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement of the lab's own; its rows."""
        try:
            return self._driver.execute(sql).fetchall()
        except sqlite3.Error as error:
            raise _explain(error, sql) from error

    def begin(self) -> None:
        """Begin a transaction that holds the lock for writing: no other can come between."""
        self.rollback()
        self.plain("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Commit."""
        self.plain("COMMIT")

    def rollback(self) -> None:
        """Roll back; nothing to do where an error did it already."""
        try:
            if self._driver.in_transaction:
                self._driver.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise _explain(error, "ROLLBACK") from error

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        with contextlib.suppress(sqlite3.Error, LabError):  # the file may be gone, or busy
            self.rollback()
            self._undo.forget()
        self._pooled.close()

    def snapshot(self) -> None:
        """Keep the state to which `restore` goes back."""
        self._undo.snapshot()

    def restore(self) -> None:
        """Go back to the snapshot."""
        self._undo.restore()

    def forget(self) -> None:
        """Drop the snapshot."""
        self._undo.forget()


@lru_cache(maxsize=16)
def _engine(url: str, busy_seconds: float) -> Engine:
    return create_engine(
        url,
        poolclass=NullPool,
        pool_reset_on_return=None,
        paramstyle="named",
        connect_args={
            "timeout": busy_seconds,
            "isolation_level": None,  # each statement commits, unless BEGIN was sent
            "check_same_thread": False,  # a panel's thread may use what the main thread opened
        },
    )


def _explain(error: Exception, sql: str) -> LabError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _BUSY:
        return DatabaseBusyError(
            f"Another transaction holds the lock that {shorten(sql)} needs.",
            "Try again when that transaction has ended, or give the session more `busy_seconds`.",
        )
    if isinstance(error, sqlite3.IntegrityError):
        return ConstraintError(
            f"SQLite refused {shorten(sql)}: {error}.",
            "Nothing was changed; give values that keep the constraint, or use ON CONFLICT.",
        )
    if isinstance(error, sqlite3.ProgrammingError) and "closed database" in str(error):
        return DatabaseUnreachableError(
            "This database session is closed.", "Open the lab again, or take `db.session()`."
        )
    return StatementError(
        f"SQLite refused {shorten(sql)}: {error}.", "Mend the statement and run the cell again."
    )
