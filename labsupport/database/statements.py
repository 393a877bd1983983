"""A SQL statement as a learner writes it, made ready for the driver once."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy.engine.interfaces import Dialect

from labsupport.errors import ConstraintError, DatabaseBusyError, StatementError

_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_TRANSACTION_WORDS = frozenset(
    {"ABORT", "BEGIN", "COMMIT", "END", "RELEASE", "ROLLBACK", "SAVEPOINT", "START"}
)
_VALUES = frozenset({int, float, str, bool, type(None)})


class ResultSet(NamedTuple):
    """What a statement gave back.

    Attributes:
        columns: the names of the columns; empty when the statement returns no rows.
        rows: the values of each row, in the order of `columns`.
        changed: how many rows it changed, or returned.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    changed: int

    @classmethod
    def of(cls, cursor: Any) -> "ResultSet":
        """All that a driver's cursor has to give."""
        if cursor.description is None:
            return cls((), [], max(cursor.rowcount, 0))
        rows = cursor.fetchall()
        return cls(tuple([column[0] for column in cursor.description]), rows, len(rows))


class Prepared(NamedTuple):
    """A statement in the driver's own parameter style, and the parameters it needs."""

    text: str
    names: frozenset[str]


@lru_cache(maxsize=1024)
def prepare(sql: str, dialect: Dialect) -> Prepared:
    """Turn a statement with `:name` parameters into the driver's form, by SQLAlchemy's `text`.

    The driver then runs it without SQLAlchemy's result layer: a lookup by primary key takes about
    10 µs so, and about 80 µs through `Connection.execute`, too much for the explorer.

    Raises:
        StatementError: it is empty, or begins or ends a transaction by itself.
    """
    first = _COMMENTS.sub(" ", sql).split(maxsplit=1)
    word = first[0].rstrip(";").upper() if first else ""
    if not word:
        raise StatementError("The SQL statement is empty.", "Write a statement, e.g. SELECT 1.")
    if word in _TRANSACTION_WORDS:
        raise StatementError(
            f"{word} was sent as a separate statement.",
            "Write `with db.transaction():` around the statements instead.",
        )
    compiled = sqlalchemy.text(sql).compile(dialect=dialect)
    return Prepared(str(compiled), frozenset(compiled.params))


def bind(sql: str, params: Mapping[str, Any], dialect: Dialect) -> str:
    """The text to be run with the parameters.

    Raises:
        StatementError: see `prepare` and `_check_params`.
    """
    prepared = prepare(sql, dialect)
    if params or prepared.names:
        _check_params(sql, prepared.names, params)
    return prepared.text


def _check_params(sql: str, needed: frozenset[str], params: Mapping[str, Any]) -> None:
    """Say what is wrong with a statement's parameters.

    Raises:
        StatementError: one is missing, or not in the statement, or of a type that does not have
            the same meaning in each database.
    """
    if params.keys() != needed:
        missing = ", ".join(f":{name}" for name in sorted(needed - params.keys()))
        extra = ", ".join(f":{name}" for name in sorted(params.keys() - needed))
        said = [f"needs {missing}"] * bool(missing) + [f"has no {extra}"] * bool(extra)
        raise StatementError(
            f"The statement {shorten(sql)} {' and '.join(said)}.",
            "Give each :name in the statement as a keyword argument of that name, and no other.",
        )
    for name, value in params.items():
        if type(value) not in _VALUES and not isinstance(value, int | float | str):
            raise StatementError(
                f"The parameter :{name} of {shorten(sql)} is a {type(value).__name__}.",
                "Give a number, a text or None; json.dumps makes a text of anything else.",
            )


def shorten(sql: str, length: int = 80) -> str:
    """A statement on one line, for a message."""
    line = " ".join(sql.split())
    return f"«{line if len(line) <= length else line[: length - 1] + '…'}»"


def busy(sql: str) -> DatabaseBusyError:
    """The error of a statement that waited too long for a lock."""
    return DatabaseBusyError(
        f"Another transaction holds the lock that {shorten(sql)} needs.",
        "Try again when that transaction has ended, or give the session more `busy_seconds`.",
    )


def refused(backend: str, sql: str, said: object, *, constraint: bool) -> StatementError:
    """The error of a statement that the database does not accept.

    Args:
        backend: the database, as it is called in a message.
        sql: the statement.
        said: the database's own words.
        constraint: whether it is one of the constraints that refuses.
    """
    problem = f"{backend} refused {shorten(sql)}: {said}."
    if constraint:
        remedy = "Nothing was changed; give values that keep the constraint, or use ON CONFLICT."
        return ConstraintError(problem, remedy)
    return StatementError(problem, "Mend the statement and run it again.")
