"""A session on the lab's database: the same few methods over SQLite and PostgreSQL."""

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, Self

from sqlalchemy import make_url

from labsupport.database.postgresql import PostgreSQL
from labsupport.database.postgresql_errors import locate
from labsupport.database.sqlite import SQLite
from labsupport.database.statements import ResultSet
from labsupport.errors import DatabaseUnreachableError, InvalidSettingError, LabError
from labsupport.processes import Closing

Around = Callable[[str, dict[str, Any], bool, Callable[[], Any]], Any]
"""What is called in place of each statement: with the SQL, its parameters, whether it is inside a
transaction, and the function that runs it. COMMIT and ROLLBACK come so, too."""


class Undo(Protocol):
    """A backend's way back to an earlier state of the data."""

    def snapshot(self) -> None:
        """Keep the state to which `restore` goes back."""

    def restore(self) -> None:
        """Go back to it."""

    def forget(self) -> None:
        """Drop the snapshot."""


class Connection(Protocol):
    """What a backend does for a session."""

    @property
    def undo(self) -> Undo:
        """The way back."""

    def run(self, sql: str, params: dict[str, Any], *, inside: bool) -> ResultSet:
        """Run one statement."""

    def begin(self) -> None:
        """Begin a transaction."""

    def commit(self) -> None:
        """Commit it."""

    def rollback(self) -> None:
        """Roll it back, if there is one."""

    def close(self) -> None:
        """Close the connection."""


class Database(Closing):
    """One session on a database: one connection, for one client at a time.

    Statements are SQL with named parameters; outside `transaction` each one commits by itself.
    Rows are plain dicts that `json.dumps` accepts. A session can be sent to a worker process (it
    is pickled as its address): it opens a connection of its own there.

    Args:
        url: the address of data that `open_shop` made, i.e. the `url` of another session.
        busy_seconds: how long a statement waits for a lock that another transaction holds.
        around: called in place of each statement, see `Around`; None runs it at once.

    Attributes:
        url: the address; it may hold a password, so do not print it (`description` is for that).
        backend: "sqlite" or "postgresql".
        connection: the backend's.
        description: what the session is connected to, in a line without secrets.

    Raises:
        DatabaseUnreachableError: there is no such database, or it does not answer.
    """

    def __init__(
        self, url: str, *, busy_seconds: float = 5.0, around: Around | None = None
    ) -> None:
        self.url = url
        self.busy_seconds = busy_seconds
        self.backend = make_url(url).get_backend_name()
        connect = PostgreSQL if self.backend == "postgresql" else SQLite
        self.connection: Connection = connect(url, busy_seconds)
        self._inside = False  # in a `with db.transaction()` block
        self._begun = False  # BEGIN was sent
        self._snapshot = False
        self._around = around
        self._end: Callable[[], object] = self.connection.close

    @property
    def in_transaction(self) -> bool:
        """True when a transaction was begun and has not ended: it may hold locks."""
        return self._begun

    @property
    def description(self) -> str:
        """What the session is connected to."""
        if self.backend == "sqlite":
            return "SQLite: a private copy of the shop"
        return f"PostgreSQL at {locate(self.url)}: a private copy of the shop"

    def execute(self, sql: str, **params: Any) -> int:
        """Run a statement and return how many rows it changed.

        Args:
            sql: one SQL statement with parameters as `:name`.
            params: a value for each parameter: a number, a text or None.

        Raises:
            StatementError: the statement or its parameters are wrong.
            ConstraintError: it would have broken a constraint.
            DatabaseBusyError: another transaction held a lock for longer than `busy_seconds`.
        """
        return self._statement(sql, params).changed

    def fetch_one(self, sql: str, **params: Any) -> dict[str, Any] | None:
        """Run a query and return its first row, or None; arguments and errors as for `execute`."""
        columns, rows, _ = self._statement(sql, params)
        return dict(zip(columns, rows[0], strict=True)) if rows else None

    def fetch_all(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        """Run a query and return all its rows; arguments and errors as for `execute`."""
        columns, rows, _ = self._statement(sql, params)
        return [dict(zip(columns, row, strict=True)) for row in rows]

    @contextmanager
    def transaction(self) -> Iterator[Self]:
        """Make the statements of a `with` block one transaction.

        It begins with the block's first statement, commits at the block's end, and is rolled back
        when the block raises. On SQLite it holds the only lock for writing (BEGIN IMMEDIATE); on
        PostgreSQL it is READ COMMITTED, with locks on the rows that it writes.

        Raises:
            InvalidSettingError: the session is in a transaction already.
        """
        if self._inside:
            raise InvalidSettingError(
                "A transaction was started inside another one of the same session.",
                "End the outer `with db.transaction():` first, or take `db.session()`.",
            )
        self._inside = True
        try:
            yield self
            if self._begun:
                self._through("COMMIT", {}, self._commit)
        except BaseException:
            if self._begun:
                with suppress(DatabaseUnreachableError):  # the connection is gone, so is its work
                    self._through("ROLLBACK", {}, self.rollback)
            raise
        finally:
            self._inside = self._begun = False

    def session(self, *, busy_seconds: float = 5.0, around: Around | None = None) -> "Database":
        """Open another session on the same data: another client.

        Args:
            busy_seconds: how long its statements wait for a lock; 0 does not wait.
            around: see `Database`.
        """
        return Database(self.url, busy_seconds=busy_seconds, around=around)

    def rollback(self) -> None:
        """Undo what was begun, as the database does for a client that is gone."""
        self._inside = self._begun = False
        self.connection.rollback()

    def snapshot(self) -> None:
        """Keep the present state of all data, for `restore`; it replaces an earlier snapshot.

        From here on each write is logged, by whichever session: `forget` ends that.

        Raises:
            InvalidSettingError: the session is in a transaction.
            DatabaseBusyError: another session is.
        """
        self._refuse_inside("snapshot")
        self._snapshot = False
        self.connection.undo.snapshot()
        self._snapshot = True

    def restore(self) -> None:
        """Take all data, and the tables themselves, back to the snapshot.

        It costs what was changed since, not what is stored. It can be repeated. No other session
        may be in a transaction.

        Raises:
            InvalidSettingError: there is no snapshot, or the session is in a transaction.
            DatabaseBusyError: another session is in a transaction.
        """
        self._refuse_inside("restore")
        if not self._snapshot:
            raise InvalidSettingError(
                "This session has no snapshot to restore.", "Call `db.snapshot()` first."
            )
        self.connection.undo.restore()

    def forget(self) -> None:
        """Drop the snapshot: the present state stays, and writes are no longer logged."""
        self._refuse_inside("forget")
        self.connection.undo.forget()
        self._snapshot = False

    def own(self, remove: Callable[[], object]) -> None:
        """Let the data go with this session: closed, collected, or at the process's end.

        Args:
            remove: removes the data and closes the connection; it does not refer to the session. A
                forked child does not call it: it must not take its parent's data away.
        """
        self._end = weakref.finalize(self, _remove_in, os.getpid(), remove)

    def close(self) -> None:
        """Close the session; what it began is rolled back. `open_shop`'s own removes the data."""
        self._inside = self._begun = False
        self._end()

    def _statement(self, sql: str, params: dict[str, Any]) -> ResultSet:
        found: ResultSet = self._through(sql, params, lambda: self._run(sql, params))
        return found

    def _through(self, sql: str, params: dict[str, Any], run: Callable[[], Any]) -> Any:
        return run() if self._around is None else self._around(sql, params, self._inside, run)

    def _run(self, sql: str, params: dict[str, Any]) -> ResultSet:
        if self._inside and not self._begun:
            self._begun = True  # first, so that an interrupt in `begin` is followed by a rollback
            try:
                self.connection.begin()
            except LabError:
                self._begun = False
                raise
        return self.connection.run(sql, params, inside=self._begun)

    def _commit(self) -> None:
        self.connection.commit()
        self._inside = self._begun = False

    def _refuse_inside(self, action: str) -> None:
        if self._inside:
            raise InvalidSettingError(
                f"`{action}` was called inside a transaction.",
                "Call it after the `with db.transaction():` block.",
            )

    def __repr__(self) -> str:
        return f"<Database {self.description}>"

    def __reduce__(self) -> tuple[type["Database"], tuple[str]]:
        return Database, (self.url,)


def _remove_in(process: int, remove: Callable[[], object]) -> None:
    if os.getpid() == process:
        remove()
