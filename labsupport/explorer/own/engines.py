"""SQLAlchemy engines of the learner's own: each statement, and each commit, is a step.

SQLAlchemy's events see every statement of every engine, the ORM's too.
"""

import itertools
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from labsupport.errors import NotSteppableError
from labsupport.explorer.clients.actor import Actor, actor_here
from labsupport.explorer.guards.foreign import note_statement
from labsupport.explorer.operations import Operation, changes_rows, looks_twice
from labsupport.explorer.own.async_engines import Replaced, TaskTurn
from labsupport.explorer.own.async_engines import connect as async_connect
from labsupport.explorer.own.coroutines import CoroutineActor
from labsupport.explorer.own.drivers import STEPPED, Driver, find_driver, roll_back

__all__ = ["engines_stepped"]


class _Engines:
    """What the events of all engines do in one exploration."""

    def __init__(self) -> None:
        # connections, and how they waited
        self._patient: dict[int, tuple[Any, Driver, dict[str, Any]]] = {}
        self._ready: dict[int, Any] = {}  # connections that a pool has handed out
        self._changed: set[int] = set()  # connections whose transaction has changed something
        self._unsure: dict[int, tuple[Operation, Any, bool]] = {}  # and what was changed before
        self._watched: dict[int, Any] = {}  # those of sqlite3, which tell of each statement

    def execute(self, cursor: Any, sql: str, parameters: Any, context: Any) -> Any:
        """What `do_execute` does."""
        return self.step(sql, parameters, context, lambda: cursor.execute(sql, parameters))

    def execute_many(self, cursor: Any, sql: str, parameters: Any, context: Any) -> Any:
        """What `do_executemany` does."""
        if actor_here() is not None and _commits_each(context.root_connection):
            for row in parameters:
                self.step(sql, row, context, lambda row=row: cursor.execute(sql, row))
                context._rowcount = (context._rowcount or 0) + cursor.rowcount
            return True
        rows = _flat(parameters)
        return self.step(sql, rows, context, lambda: cursor.executemany(sql, parameters))

    def execute_no_params(self, cursor: Any, sql: str, context: Any) -> Any:
        """What `do_execute_no_params` does."""
        return self.step(sql, (), context, lambda: cursor.execute(sql))

    def step(self, sql: str, parameters: Any, context: Any, run: Any) -> Any:
        """Run a statement as a step of the client; None outside of all clients."""
        actor = actor_here()
        pooled = context.root_connection.connection
        connection = pooled.dbapi_connection
        if actor is None or self._is_made_ready(actor, connection):
            return None
        driver = _driver(actor, context.dialect)
        turn = _turn(actor, context.dialect)
        if not driver.in_transaction(connection):
            self._changed.discard(id(connection))
        total = self._settle(connection)
        operation = Operation("sql", ((sql, parameters),), transaction="inside", own=True)
        before = self._impatient(actor, connection, driver)
        given_back = pooled if context.dialect.is_async else None
        actor.others[id(connection)] = lambda: roll_back(connection, given_back)
        while True:
            turn.gate(operation)
            try:
                with actor.trusting():
                    done = driver.run(connection, sql, run, before)
            except Exception as error:
                operation.unchanged = driver.locked(error)
                turn.took(operation, error)
                raise
            if done:
                self._note(operation, connection, sql, context.cursor.rowcount, total)
                turn.took(operation, None)
                if turn.delayed and _fetched(context):
                    turn.arrival()
                return True
            turn.busy = True  # a lock is not free: the step was not taken
            actor.whole.looked_anew |= driver.keeps_its_view and looks_twice(sql)

    def ended(self, connection: Any, word: str) -> None:
        """Let a commit or a rollback be a step, if there is a transaction."""
        actor = actor_here()
        if actor is None or connection.invalidated:  # what was cancelled has dropped its connection
            return
        used = connection.connection.dbapi_connection
        if self._is_made_ready(actor, used):
            return
        driver = _driver(actor, connection.dialect)
        if not driver.in_transaction(used):
            return
        turn = _turn(actor, connection.dialect)
        self._settle(used)
        operation = Operation("sql", ((word, {}),), transaction="inside", own=True)
        before = self._impatient(actor, used, driver)
        while True:
            turn.gate(operation)
            with actor.trusting():
                done = driver.end(used, word, before)
            if done:
                operation.changed = id(used) in self._changed
                operation.unchanged = not operation.changed
                self._changed.discard(id(used))
                turn.took(operation, None)
                turn.arrival()
                return
            turn.busy = True

    def _note(
        self, operation: Operation, connection: Any, sql: str, count: int, total: int | None
    ) -> None:
        """Remember whether a statement has changed anything: no reply of it says so.

        Args:
            operation: the step.
            connection: the driver's.
            sql: the statement.
            count: how many rows it has changed, as the driver says; -1 if it does not.
            total: how many the connection had changed before; None if it does not count them.
        """
        here, unsure = id(connection), total is not None and "returning" in sql.lower()
        changed = changes_rows(sql) and (unsure or count != 0)
        operation.changed, operation.unchanged = changed, not changed
        if unsure:
            self._unsure[here] = operation, total, here in self._changed
        if changed:
            self._changed.add(here)

    def _settle(self, connection: Any) -> Any:
        """Say of a RETURNING whether it changed anything: SQLite counts when all has been fetched."""
        total = getattr(connection, "total_changes", None)
        if (unsure := self._unsure.pop(id(connection), None)) is not None:
            operation, before, changed = unsure
            operation.changed, operation.unchanged = total != before, total == before
            if total == before and not changed:
                self._changed.discard(id(connection))
        return total

    def _impatient(self, actor: Actor, connection: Any, driver: Driver) -> dict[str, Any]:
        """Let a connection not wait for locks any more; how it did."""
        if id(connection) not in self._patient:
            self.watch(connection)
            with actor.trusting():
                self._patient[id(connection)] = connection, driver, driver.impatient(connection)
        return self._patient[id(connection)][2]

    def handed_out(self, connection: Any) -> None:
        """A pool hands out a connection: from now on what is done on it is a step."""
        self._ready[id(connection)] = connection
        self.watch(connection)
        _connecting(actor_here(), False)

    def _is_made_ready(self, actor: Actor, connection: Any) -> bool:
        """True for what SQLAlchemy does on a connection before its pool hands it out."""
        if actor.connecting and id(connection) in self._ready:
            _connecting(actor, False)  # another one could not be made ready
        return actor.connecting

    def watch(self, connection: Any) -> None:
        """Notice the statements that no event of SQLAlchemy tells of."""
        if isinstance(connection, sqlite3.Connection) and id(connection) not in self._watched:
            self._watched[id(connection)] = connection
            with suppress(sqlite3.ProgrammingError):  # it is closed, or another thread's
                connection.set_trace_callback(note_statement)

    def restore(self) -> None:
        """Let all connections wait for locks as they did."""
        for connection in self._watched.values():
            with suppress(sqlite3.ProgrammingError):
                connection.set_trace_callback(None)
        for connection, driver, before in self._patient.values():
            with suppress(Exception):  # it may be closed
                driver.patient(connection, before)


@contextmanager
def engines_stepped() -> Iterator[Callable[[Any], None]]:
    """Step what clients do on engines that they were not handed.

    Returns:
        What lets a driver's connection notice each statement that is not a step.
    """
    from sqlalchemy import event
    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import Pool

    engines, replaced = _Engines(), Replaced()

    def checkout(connection: Any, record: Any, pooled: Any) -> None:
        replaced.checkout(connection, record)
        engines.handed_out(connection)

    listeners: list[tuple[Any, str, Callable[..., Any]]] = [
        (Engine, "do_connect", _connect),
        (Engine, "do_execute", engines.execute),
        (Engine, "do_executemany", engines.execute_many),
        (Engine, "do_execute_no_params", engines.execute_no_params),
        (Engine, "commit", lambda connection: engines.ended(connection, "COMMIT")),
        (Engine, "rollback", lambda connection: engines.ended(connection, "ROLLBACK")),
        (Pool, "checkout", checkout),
    ]
    for listener in listeners:
        event.listen(*listener)
    try:
        yield engines.watch
    finally:
        for listener in listeners:
            event.remove(*listener)
        engines.restore()
        replaced.restore()


def _connect(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
    """What `do_connect` does: where a client's engine connects, that is no step."""
    actor = actor_here()
    if actor is None:  # `given`, or the invariant
        return async_connect(dialect, arguments, options) if dialect.is_async else None
    _driver(actor, dialect)
    _connecting(actor, True)
    try:
        if dialect.is_async:
            return async_connect(dialect, arguments, options)
        return dialect.connect(*arguments, **options)
    except BaseException:
        _connecting(actor, False)
        raise


def _commits_each(connection: Any) -> bool:
    """Whether SQLite commits each row of an executemany on its own: another may see some of them."""
    used = connection.connection.dbapi_connection
    if not isinstance(used, sqlite3.Connection) or used.in_transaction:
        return False
    return used.isolation_level is None or getattr(used, "autocommit", None) is True


def _flat(parameters: Any) -> tuple[Any, ...]:
    """The values of all rows, one after the other."""
    rows = (row.values() if isinstance(row, Mapping) else row for row in parameters)
    return tuple(itertools.chain.from_iterable(rows))


def _fetched(context: Any) -> bool:
    """Fetch the rows, as SQLite keeps its lock until somebody has; False if their number is not known."""
    from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy
    from sqlalchemy.engine.interfaces import ExecuteStyle

    if context.execute_style is ExecuteStyle.INSERTMANYVALUES:  # SQLAlchemy fetches them itself
        return False
    cursor = context.cursor
    if cursor.description is not None:
        context.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(cursor, cursor.description)
    return True


def _connecting(actor: Actor | None, value: bool) -> None:
    if actor is not None and actor.connecting != value:
        actor.connecting = value
        actor.trusted += 1 if value else -1


def _turn(actor: Actor, dialect: Any) -> Any:
    """Who takes the step: the client, or its task that awaits it."""
    return TaskTurn(actor) if dialect.is_async and isinstance(actor, CoroutineActor) else actor


def _driver(actor: Actor, dialect: Any) -> Driver:
    driver = find_driver(dialect)
    if driver is None:
        actor.fault = NotSteppableError(
            f"The client {actor.name!r} uses an engine of {dialect.name}+{dialect.driver}; the explorer "
            f"steps {', '.join(STEPPED)}.",
            "Use the db that the function is called with, or an engine of these in this exploration.",
        )
        raise actor.fault
    return driver
