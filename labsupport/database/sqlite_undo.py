"""The way back to a snapshot in SQLite: an undo log, and a copy for when the tables changed.

Triggers write the log, so that the way back costs what was changed and not what is stored
(https://www.sqlite.org/undoredo.html). Where triggers cannot see a change (the schema is another,
a table has no rowid), the pages of a full copy are written back.
"""

import sqlite3
from collections.abc import Callable
from typing import Any, Protocol

_LOG = "labsupport_undo"
_ORDER = ["trigger", "view", "index", "table"]
_LONGEST_LOG = 2_000  # beyond it, the pages of the full copy are written back sooner

# The tables, and whether triggers are not enough for one: no rowid, virtual, or AUTOINCREMENT's
# counters, which are kept in sqlite_sequence.
_TABLES = """
SELECT name, wr OR type <> 'table' OR name = 'sqlite_sequence' FROM pragma_table_list
WHERE schema = 'main' AND type <> 'view'
AND name <> 'sqlite_schema' AND name NOT LIKE 'sqlite_stat%'
"""


class _Connection(Protocol):
    def plain(self, sql: str) -> list[tuple[Any, ...]]: ...
    def begin(self) -> None: ...
    def rollback(self) -> None: ...


class Undo:
    """A snapshot of one database file.

    Args:
        connection: runs statements; its errors are the lab's.
        driver: the driver's own connection beneath it.
    """

    def __init__(self, connection: _Connection, driver: sqlite3.Connection) -> None:
        self._run = connection.plain
        self._begin = connection.begin
        self._rollback = connection.rollback
        self._driver = driver
        self._copy: sqlite3.Connection | None = None
        self._schema = -1
        self._objects: dict[tuple[str, str], str] = {}
        self._logged = False
        self._inverses: list[tuple[str, int]] = []  # statements, and how many values each takes

    def snapshot(self) -> None:
        """Keep the present state."""
        self.forget()
        tables = self._run(_TABLES)
        # A learner's own trigger would run once more in the replay.
        triggers = self._run("SELECT 1 FROM sqlite_master WHERE type = 'trigger'")
        logged = not triggers and not any(odd for _, odd in tables)
        if logged:
            self._together(lambda: self._watch([name for name, _ in tables]))
        self._logged = logged
        self._copy = sqlite3.connect(":memory:", check_same_thread=False)
        self._driver.backup(self._copy)
        self._schema = self._schema_version()
        self._objects = self._find_objects()

    def restore(self) -> None:
        """Go back to it."""
        if self._together(self._replay):
            return
        assert self._copy is not None  # `Database` has asked for a snapshot first
        self._copy.backup(self._driver)
        self._schema = self._schema_version()

    def forget(self) -> None:
        """Drop it: writes are no longer logged."""
        if self._copy is None:
            return
        if self._logged:
            self._together(self._unwatch)
        self._logged = False
        self._copy.close()
        self._copy = None

    def _together(self, action: Callable[[], object]) -> bool:
        """Do something in one transaction; False, and nothing is done, when it returns False.

        One around all, since each lock and unlock costs as much as a statement.
        """
        try:
            self._begin()
            if action() is not False:
                self._run("COMMIT")
                return True
            return False
        finally:
            self._rollback()

    def _replay(self) -> bool:
        """Take back what was logged; False when it cannot, or would take too long."""
        if not self._logged:
            return False
        if self._schema_version() != self._schema and not self._drop_added():
            return False
        execute = self._driver.execute
        changes = execute(f"SELECT * FROM {_LOG} ORDER BY seq DESC LIMIT {_LONGEST_LOG + 1}")
        found = changes.fetchall()
        if len(found) > _LONGEST_LOG:
            return False
        try:
            for _, which, *values in found:
                sql, count = self._inverses[which]
                execute(sql, values[:count])
        except sqlite3.Error:  # the copy will do
            return False
        if found:
            execute(f"DELETE FROM {_LOG}")  # what the replay logged, too
        return True

    def _drop_added(self) -> bool:
        """Drop what was created since; False when anything else was done to the schema."""
        found = self._find_objects()
        if any(found.get(one) != sql for one, sql in self._objects.items()):
            return False
        added = found.keys() - self._objects.keys()
        if any(name.startswith("sqlite_") and kind == "table" for kind, name in added):
            return False  # AUTOINCREMENT's counters, which stay
        for kind, name in sorted(added, key=lambda one: _ORDER.index(one[0])):
            if not name.startswith("sqlite_"):  # an index that goes with its table
                self._driver.execute(f"DROP {kind} IF EXISTS {_quote(name)}")
        self._schema = self._schema_version()
        return True

    def _find_objects(self) -> dict[tuple[str, str], str]:
        """The text of each table, index, view and trigger, by kind and name."""
        rows = self._run("SELECT type, name, sql FROM sqlite_master")
        return {(kind, name): sql for kind, name, sql in rows}

    def _schema_version(self) -> int:
        return int(self._run("PRAGMA schema_version")[0][0])

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
        self._run(f"CREATE TABLE {_LOG}(seq INTEGER PRIMARY KEY, which, {', '.join(logged)})")
        for event, table, which, values in triggers:
            self._run(
                f"CREATE TRIGGER {_quote(f'{_LOG}_{event}_{table}')} AFTER {event} ON"
                f" {_quote(table)} BEGIN INSERT INTO {_LOG}(which,"
                f" {', '.join(logged[: len(values)])}) VALUES ({which}, {', '.join(values)}); END"
            )

    def _unwatch(self) -> None:
        ours = f"SELECT name FROM sqlite_master WHERE type = 'trigger' AND name GLOB '{_LOG}_*'"
        for (name,) in self._run(ours):
            self._run(f"DROP TRIGGER {_quote(name)}")
        self._run(f"DROP TABLE IF EXISTS {_LOG}")


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
