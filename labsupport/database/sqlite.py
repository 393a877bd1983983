"""One connection to the lab's SQLite file, and its way back to a snapshot.

The way back is an undo log that triggers write, so that it costs what was changed and not what is
stored (https://www.sqlite.org/undoredo.html); where triggers cannot see the change (the schema
is another, a table has no rowid), the pages of a full copy are written back.
"""

import contextlib
import sqlite3
from functools import lru_cache
from typing import Any

from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import NullPool

from labsupport.database.statements import Result, check_params, prepare, shorten
from labsupport.errors import (
    ConstraintError,
    DatabaseBusyError,
    DatabaseUnreachableError,
    LabError,
    StatementError,
)

__all__ = ["SQLite"]

_UNDO = "labsupport_undo"
_LONGEST_UNDO = 2_000  # beyond it, the pages of the full copy are written back sooner
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
            self._driver: sqlite3.Connection = self._pooled.driver_connection  # type: ignore[assignment]
            self._driver.execute(
                "PRAGMA synchronous = OFF"
            )  # a private copy: no one needs it after a crash
            self._driver.execute("PRAGMA recursive_triggers = ON")  # or REPLACE is not undone
        except Exception as error:
            raise DatabaseUnreachableError(
                f"The database file cannot be opened: {getattr(error, 'orig', error)}.",
                "It is removed when the lab that opened it is closed: open the lab again.",
            ) from None
        self._copy: sqlite3.Connection | None = None
        self._schema = -1
        self._undoable = False
        self._inverses: list[tuple[str, int]] = []  # statements, and how many values each takes

    def run(self, sql: str, params: dict[str, Any], *, inside: bool) -> Result:
        """Run one statement and take all its rows."""
        prepared = prepare(sql, self._dialect)
        if params or prepared.names:
            check_params(sql, prepared.names, params)
        try:
            cursor = self._driver.execute(prepared.text, params)
            if cursor.description is None:
                return Result((), [], max(cursor.rowcount, 0))
            rows = cursor.fetchall()
        except (sqlite3.Error, OverflowError, UnicodeError) as error:
            raise _explain(error, sql) from error
        return Result(tuple([column[0] for column in cursor.description]), rows, len(rows))

    def begin(self) -> None:
        """Begin a transaction that holds the lock for writing: no other can come between."""
        self._plain("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Commit."""
        self._plain("COMMIT")

    def rollback(self) -> None:
        """Roll back; nothing to do where an error did it already."""
        if self._driver.in_transaction:
            self._plain("ROLLBACK")

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        with contextlib.suppress(sqlite3.Error, LabError):  # the file may be gone, or busy
            self.rollback()
            self.forget()
        self._pooled.close()

    def snapshot(self) -> None:
        """Keep the state to which `restore` goes back."""
        self.forget()
        tables = self._driver.execute(
            "SELECT name, wr OR type <> 'table' OR name = 'sqlite_sequence' FROM pragma_table_list"
            " WHERE schema = 'main' AND type <> 'view'"
            " AND name <> 'sqlite_schema' AND name NOT LIKE 'sqlite_stat%'"
        ).fetchall()
        triggers = self._driver.execute("SELECT 1 FROM sqlite_master WHERE type = 'trigger'")
        # Not for triggers: tables without a rowid, virtual ones, and AUTOINCREMENT's counters (they
        # are in sqlite_sequence). And a learner's own trigger would run once more in the replay.
        self._undoable = not triggers.fetchall() and not any(odd for _, odd in tables)
        if self._undoable:
            self._watch([name for name, _ in tables])
        self._copy = sqlite3.connect(":memory:", check_same_thread=False)
        self._driver.backup(self._copy)
        self._schema = self._schema_version()

    def restore(self) -> None:
        """Go back to the snapshot."""
        assert self._copy is not None  # `Database` has asked for a snapshot first
        # One transaction around all: each lock and unlock of its own costs as much as a statement.
        self._plain("BEGIN IMMEDIATE")
        if self._undoable and self._schema_version() == self._schema and self._replay():
            return
        self._plain("ROLLBACK")
        try:
            self._copy.backup(self._driver)
        except sqlite3.Error as error:
            raise _explain(error, "restore") from error
        self._schema = self._schema_version()

    def _replay(self) -> bool:
        """Take back what was logged, and commit; False when it cannot, or would take too long."""
        try:
            changes = self._driver.execute(
                f"SELECT * FROM {_UNDO} ORDER BY seq DESC LIMIT {_LONGEST_UNDO + 1}"
            ).fetchall()
            if len(changes) > _LONGEST_UNDO:
                return False
            for _, which, *values in changes:
                sql, count = self._inverses[which]
                self._driver.execute(sql, values[:count])
            if changes:
                self._driver.execute(f"DELETE FROM {_UNDO}")  # what the replay logged, too
            self._driver.execute("COMMIT")
        except sqlite3.Error:
            return False
        return True

    def forget(self) -> None:
        """Drop the snapshot: writes are no longer logged."""
        if self._copy is None:
            return
        self._copy.close()
        self._copy = None
        if self._undoable:
            self._plain("BEGIN IMMEDIATE")
            triggers = self._driver.execute(
                f"SELECT name FROM sqlite_master WHERE type = 'trigger' AND name GLOB '{_UNDO}_*'"
            ).fetchall()
            for (name,) in triggers:
                self._plain(f"DROP TRIGGER {_quote(name)}")
            self._plain(f"DROP TABLE IF EXISTS {_UNDO}")
            self._plain("COMMIT")

    def _schema_version(self) -> int:
        return int(self._driver.execute("PRAGMA schema_version").fetchone()[0])

    def _watch(self, tables: list[str]) -> None:
        """Log, for each change of a row, which statement takes it back, and its values.

        Values and not the statement's text: the driver prepares each statement once, which takes
        longer than to run it.
        """
        self._inverses = []
        triggers = []
        for table in tables:
            name = _quote(table)
            columns = ["rowid"] + [
                _quote(column)
                for column, hidden in self._driver.execute(
                    "SELECT name, hidden FROM pragma_table_xinfo(?)", (table,)
                )
                if not hidden  # 2 and 3: generated columns, which compute themselves
            ]
            old = [f"OLD.{column}" for column in columns]
            marks = ", ".join("?" * len(columns))
            sets = ", ".join(f"{column} = ?" for column in columns)
            for event, inverse, values in (
                ("INSERT", f"DELETE FROM {name} WHERE rowid = ?", ["NEW.rowid"]),
                ("DELETE", f"INSERT INTO {name}({', '.join(columns)}) VALUES ({marks})", old),
                ("UPDATE", f"UPDATE {name} SET {sets} WHERE rowid = ?", [*old, "NEW.rowid"]),
            ):
                triggers.append((event, table, len(self._inverses), values))
                self._inverses.append((inverse, len(values)))
        width = max((count for _, count in self._inverses), default=1)
        logged = [f"v{at}" for at in range(width)]  # no type: each value is kept as it is
        self._plain("BEGIN IMMEDIATE")
        self._plain(f"CREATE TABLE {_UNDO}(seq INTEGER PRIMARY KEY, which, {', '.join(logged)})")
        for event, table, which, values in triggers:
            self._plain(
                f"CREATE TRIGGER {_quote(f'{_UNDO}_{event}_{table}')} AFTER {event} ON"
                f" {_quote(table)} BEGIN INSERT INTO {_UNDO}(which,"
                f" {', '.join(logged[: len(values)])}) VALUES ({which}, {', '.join(values)}); END"
            )
        self._plain("COMMIT")

    def _plain(self, sql: str) -> None:
        try:
            self._driver.execute(sql)
        except sqlite3.Error as error:
            raise _explain(error, sql) from error


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


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


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
