"""SQL: each statement of a client, and each commit, is a step.

Those of the session that it was handed come by themselves; those of engines of the learner's own by
SQLAlchemy's events, which see every statement of every engine, the ORM's too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from labsupport.errors import DatabaseBusyError, NotSteppableError
from labsupport.explorer.clients.actor import Actor, actor_here
from labsupport.explorer.operations import Operation

__all__ = ["SqlSteps", "engines_stepped"]


class SqlSteps:
    """What a session calls in place of each statement: it stops first, until it may go on.

    Attributes:
        actor: whose statements they are.
    """

    actor: Actor

    def __call__(
        self, sql: str, params: dict[str, Any], inside: bool, run: Callable[[], Any]
    ) -> Any:
        operation = Operation("sql", ((sql, params),), transaction="inside" if inside else "")
        while True:
            self.actor.gate(operation)
            try:
                result = run()
            except DatabaseBusyError:  # a lock is not free: the step was not taken
                self.actor.busy = True
                continue
            except Exception as error:
                self.actor.took(operation, error)
                raise
            self.actor.took(operation, result)
            return result


@contextmanager
def engines_stepped() -> Iterator[None]:
    """Step what clients do on engines that they were not handed."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    patient: dict[int, tuple[Any, int]] = {}  # connections, and how long they would wait for a lock

    def step(cursor: Any, sql: str, parameters: Any, context: Any, run: Callable[[], Any]) -> Any:
        actor = actor_here()
        if actor is None:
            return None
        _refuse_others(actor, context.dialect.name)
        driver = cursor.connection
        if id(driver) not in patient:
            waits = driver.execute("PRAGMA busy_timeout").fetchone()[0]
            patient[id(driver)] = driver, waits
            driver.execute("PRAGMA busy_timeout = 0")
        actor.others[id(driver)] = lambda: _roll_back(driver)
        operation = Operation("sql", ((sql, parameters),), transaction="inside")
        while True:
            actor.gate(operation)
            try:
                run()
            except Exception as error:
                if "locked" in str(error):  # a lock is not free: the step was not taken
                    actor.busy = True
                    continue
                actor.took(operation, error)
                raise
            actor.took(operation, None)
            return True

    def do_execute(cursor: Any, sql: str, parameters: Any, context: Any) -> Any:
        return step(cursor, sql, parameters, context, lambda: cursor.execute(sql, parameters))

    def do_executemany(cursor: Any, sql: str, parameters: Any, context: Any) -> Any:
        return step(cursor, sql, (), context, lambda: cursor.executemany(sql, parameters))

    def do_execute_no_params(cursor: Any, sql: str, context: Any) -> Any:
        return step(cursor, sql, (), context, lambda: cursor.execute(sql))

    def end(word: str) -> Callable[[Any], None]:
        def ended(connection: Any) -> None:
            actor = actor_here()
            if actor is None:
                return
            driver = connection.connection.driver_connection
            if getattr(driver, "in_transaction", False):
                operation = Operation("sql", ((word, {}),), transaction="inside")
                actor.gate(operation)
                actor.took(operation, None)

        return ended

    def do_connect(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
        actor = actor_here()
        if actor is None:
            return None
        actor.trusted += 1  # a connection of an engine is stepped
        try:
            return dialect.connect(*arguments, **options)
        finally:
            actor.trusted -= 1

    listeners: list[tuple[str, Callable[..., Any]]] = [
        ("do_connect", do_connect),
        ("do_execute", do_execute),
        ("do_executemany", do_executemany),
        ("do_execute_no_params", do_execute_no_params),
        ("commit", end("COMMIT")),
        ("rollback", end("ROLLBACK")),
    ]
    for name, listener in listeners:
        event.listen(Engine, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners:
            event.remove(Engine, name, listener)
        for driver, waits in patient.values():
            with suppress(Exception):  # it may be closed
                driver.execute(f"PRAGMA busy_timeout = {waits}")


def _refuse_others(actor: Actor, dialect: str) -> None:
    if dialect != "sqlite":
        actor.fault = NotSteppableError(
            f"The client {actor.name!r} uses a {dialect} engine of its own; the explorer steps SQLite's.",
            "Use the db that the function is called with, or an SQLite engine in this exploration.",
        )
        raise actor.fault


def _roll_back(driver: Any) -> None:
    with suppress(Exception):  # it may be closed
        driver.rollback()
