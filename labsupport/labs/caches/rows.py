"""A contract with rows: the model knows what is in the database, and which rows are cached."""

import fnmatch
import json
from contextlib import suppress
from typing import Any, ClassVar

from labsupport.exercises.contract import Contract
from labsupport.exercises.matching import Words
from labsupport.exercises.state import State

__all__ = ["Rows"]

_MOST_ROWS = 6

_ALIKE: dict[str, dict[str, Any]] = {
    "users": {"email": "ada@example.com", "country": "JP", "created_at": "2025-01-01T07:16:29Z"},
    "products": {"stock": 89, "fence": 0},
}
"""The columns that are the same in all rows of a table, and of no interest."""


class Rows(Contract):
    """The state names a table: under it are rows of the shop by id, or None where there is to be none.

    What has a blank in its name is the model's affair, and in no database. A contract's `visible`
    keys include the table.

    Attributes:
        table: "users" or "products"; a row in the state has only the columns that may differ.
        cached: patterns of the keys that hold a row as JSON; the state has the whole row there.
        direct: a client and a session that take no steps.
    """

    table: ClassVar[str] = "users"
    cached: ClassVar[tuple[str, ...]] = ()
    takes = ("redis", "db")

    def __init__(self) -> None:
        self._ids: list[int] = []
        self.direct: tuple[Any, Any] = (None, None)

    def row(self, state: State, number: int) -> dict[str, Any] | None:
        """A row as a SELECT gives it."""
        columns: dict[str, Any] | None = state[self.table].get(number)
        return columns and {"id": number, **_ALIKE[self.table], **columns}

    def write(self, start: State, redis: Any, db: Any) -> None:
        """Put the rows into the database, and those that are cached into Redis."""
        self.direct = redis, db
        keys = {key: value for key, value in start.items() if " " not in key}
        self._ids = [*keys.pop(self.table, {})]
        for number in self._ids:
            row = self.row(start, number)
            if row is None:
                db.execute(f"DELETE FROM {self.table} WHERE id = :id", id=number)
            else:
                columns = ", ".join(f"{name} = :{name}" for name in row)
                db.execute(f"UPDATE {self.table} SET {columns} WHERE id = :id", **row)
        for key, value in keys.items():
            if self.is_cached(key) and isinstance(value, dict):
                keys[key] = json.dumps(value)
        State(keys, start.lives).write(redis)

    def read(self, redis: Any, db: Any) -> State:
        """The rows of the ids that were written, and all that is in Redis."""
        state = State.read(redis)
        for key, value in state.items():
            if self.is_cached(key):
                with suppress(ValueError, TypeError):
                    row = json.loads(value)
                    state[key] = row if isinstance(row, dict) else value
        select = f"SELECT * FROM {self.table} WHERE id = :id"
        rows = {number: self._columns(db.fetch_one(select, id=number)) for number in self._ids}
        state.keep(self.table, rows)
        return state

    def begins(self, start: State) -> str:
        """What is in the database, and in Redis."""
        keys = {key: value for key, value in start.items() if " " not in key and key != self.table}
        first = list(start[self.table].items())[:_MOST_ROWS]
        rows = ", ".join(
            f"no row {number}" if columns is None else f"row {number} ({_told(columns)})"
            for number, columns in first
        )
        if more := len(start[self.table]) - len(first):
            rows += f" and {more} more"
        in_redis = State(keys, start.lives).shown()
        return f"At the start in the table {self.table}: {rows}; in Redis: {in_redis}"

    def is_cached(self, key: str) -> bool:
        """True when that key should hold a row."""
        return any(fnmatch.fnmatchcase(key, pattern) for pattern in self.cached)

    def others_than(self, state: State) -> dict[str, Any]:
        """What is cached, and not the row of the database."""
        rows = {f"{self.table[:-1]}:{number}": number for number in state[self.table]}
        return {
            key: Words(f"another row than the database ({_told(self._columns(value))})")
            for key, value in sorted(state.items())
            if key in rows and value != self.row(state, rows[key])
        }

    def _columns(self, row: Any) -> Any:
        """A row without its id, and without what is alike."""
        if not isinstance(row, dict):
            return row
        alike = {**_ALIKE[self.table], "id": row.get("id")}
        return {name: one for name, one in row.items() if alike.get(name, ...) != one}


def _told(columns: Any) -> str:
    if not isinstance(columns, dict):
        return repr(columns)
    return ", ".join(f"{name} {value!r}" for name, value in columns.items()) or "the usual values"
