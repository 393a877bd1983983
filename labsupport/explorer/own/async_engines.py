"""Asynchronous SQLAlchemy engines, on synchronous drivers whose waits are the explorer's.

SQLAlchemy's asynchronous engines are its synchronous ones, whose code runs in a greenlet that may await.
aiosqlite works in a thread and asynchronous psycopg on the loop's sockets; neither can be stepped. For the
length of an exploration new connections are therefore those of the synchronous drivers that speak the same
dialect; to await a statement is to await the explorer.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable
from typing import Any, cast

from greenlet import getcurrent

from labsupport.explorer.clients.actor import actor_here
from labsupport.explorer.operations import Operation
from labsupport.explorer.own.coroutines import CoroutineActor

__all__ = ["Replaced", "TaskTurn", "connect"]


def _awaits_here() -> bool:
    """True in the code of an asynchronous engine."""
    return bool(getattr(getcurrent(), "__sqlalchemy_greenlet_provider__", False))


def _await_here(awaitable: Awaitable[Any]) -> Any:
    """Await in code of an asynchronous engine."""
    from sqlalchemy.util import await_only

    return await_only(awaitable)


class TaskTurn:
    """What a statement of an asynchronous engine calls: it is a step of the task that awaits it.

    Args:
        client: whose task it is.
    """

    def __init__(self, client: CoroutineActor) -> None:
        self.strand = client.strand()
        self.others = client.others
        self.took = self.strand.took

    @property
    def delayed(self) -> bool:
        """True when the reply of the step is to come later."""
        return self.strand.delayed

    @property
    def busy(self) -> bool:
        """True when the step was not taken, as a lock is not free."""
        return self.strand.busy

    @busy.setter
    def busy(self, value: bool) -> None:
        self.strand.busy = value

    def gate(self, operation: Operation) -> None:
        """Stop before a step until the explorer lets the task take it."""
        _await_here(self.strand.pause(operation))

    def arrival(self) -> None:
        """Return when the reply of the step that was taken is there, if it is to come later."""
        _await_here(self.strand.later())


_STOOD_FOR = ("aiosqlite", "psycopg")


def connect(dialect: Any, arguments: Any, options: dict[str, Any]) -> Any:
    """A connection for an engine of an asynchronous driver; None for a driver that nothing stands for."""
    kind = f"{dialect.name}+{dialect.driver}"
    if kind == "sqlite+aiosqlite" and "async_creator_fn" not in options:
        options = {**options, "check_same_thread": False, "factory": _SqliteConnection}
        return sqlite3.connect(*arguments, **options)
    if kind == "postgresql+psycopg":
        return _psycopg(dialect, arguments, options)
    return None


class Replaced:
    """The connections of pools that were open before the exploration: others stand for them meanwhile."""

    def __init__(self) -> None:
        self._kept: list[tuple[Any, Any]] = []

    def checkout(self, connection: Any, record: Any) -> None:
        """Let the pool open another connection in the place of one that cannot be stepped."""
        from sqlalchemy.engine import AdaptedConnection
        from sqlalchemy.exc import DisconnectionError

        if _awaits_here() and actor_here() is not None:
            # a connection may be opened here, or tried first: its loop's other tasks go on meanwhile
            _await_here(asyncio.sleep(0))
        driver = type(connection).__module__.rpartition(".")[2]
        if isinstance(connection, AdaptedConnection) and driver in _STOOD_FOR:
            self._kept.append((record, connection))
            record.dbapi_connection = None
            raise DisconnectionError

    def restore(self) -> None:
        """Put them back."""
        for record, connection in self._kept:
            stand_in, record.dbapi_connection = record.dbapi_connection, connection
            if stand_in is not None:
                stand_in.close()


class _Adapted:
    """What SQLAlchemy asks an asynchronous connection for beside the DBAPI."""

    @property
    def _connection(self) -> Any:
        return self

    def terminate(self) -> None:
        """Close at once."""
        self.close()  # type: ignore[attr-defined]


async def _nothing() -> None:
    pass


def _wait() -> None:
    # an asynchronous engine insists on having awaited something
    if _awaits_here():
        _await_here(_nothing())


class _AdaptedCursor:
    """Its statements await, and it has what SQLAlchemy asks an asynchronous cursor for."""

    server_side = False

    def execute(self, *args: Any, **options: Any) -> Any:
        _wait()
        return super().execute(*args, **options)  # type: ignore[misc]

    def executemany(self, *args: Any, **options: Any) -> Any:
        _wait()
        return super().executemany(*args, **options)  # type: ignore[misc]

    async def _async_soft_close(self) -> None:
        pass


class _SqliteCursor(_AdaptedCursor, sqlite3.Cursor):
    pass


class _SqliteConnection(_Adapted, sqlite3.Connection):
    def cursor(self, factory: Any = None, *, server_side: bool = False) -> Any:
        return super().cursor(factory or _SqliteCursor)


def _psycopg(dialect: Any, arguments: Any, options: dict[str, Any]) -> Any:
    import psycopg
    from psycopg.types import TypeInfo

    class Cursor(_AdaptedCursor, psycopg.Cursor[Any]):
        pass

    class Connection(_Adapted, psycopg.Connection[Any]):
        cursor_factory: Any = Cursor

    usual = dialect._type_info_fetch  # awaits; SQLAlchemy asks on an engine's first connection

    def type_info(connection: Any, name: str) -> Any:
        asked = connection.connection.dbapi_connection
        if isinstance(asked, _Adapted):  # synchronous beneath
            return TypeInfo.fetch(cast(Any, asked), name)
        return usual(connection, name)

    if "_type_info_fetch" not in vars(dialect):
        dialect._type_info_fetch = type_info
    made = Connection.connect(*arguments, **options)
    made.cursor_factory = Cursor
    return made
