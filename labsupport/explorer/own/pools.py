"""The Redis clients that explored code makes for itself: their pools hand out stepped connections.

`redis.Redis(…)`, `from_url(…)` and pools are redis-py's own, with their retries, callbacks and pipelines.
Only the connection is another: it goes to the exploration's server, never to the one that the code names.
"""

import functools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from greenlet import getcurrent
from redis.connection import AbstractConnection, BlockingConnectionPool, ConnectionPool

from labsupport.errors import NotSteppableError
from labsupport.explorer.clients.actor import actor_here
from labsupport.explorer.clients.stand_ins import timekeeper_here
from labsupport.explorer.own.exchange import Exchange
from labsupport.explorer.own.turns import ActorTurn, HostTurn, Turn
from labsupport.explorer.own.wires import Settings, Wires

__all__ = ["SteppedConnection", "kept_options", "now", "pools_stepped", "turn_here"]

_KEPT = ("retry", "retry_on_error", "retry_on_timeout", *Settings._fields)
_HOST = HostTurn()


def kept_options(options: dict[str, Any]) -> dict[str, Any]:
    """Those options of a pool's connections that do not speak of a server."""
    return {name: options[name] for name in _KEPT if name in options}


def turn_here() -> Turn | None:
    """Whose turn it is; None outside of all explored functions, and in the explorer's own code."""
    actor: Any = actor_here()
    if actor is None:
        return None if timekeeper_here() is None else _HOST
    if actor.trusted:
        return None
    turn = getattr(actor, "turn", None)
    if turn is None:
        turn = actor.turn = ActorTurn(actor)
    return turn


def now(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("a synchronous step was left half done")


class SteppedConnection(AbstractConnection):
    """A connection of the code's own, each of whose commands is a step on the exploration's server.

    Args:
        exchange: what is said on it.
        options: of its pool's connections.
    """

    def __init__(self, exchange: Exchange, options: dict[str, Any]) -> None:
        super().__init__(**kept_options(options))
        self.exchange = exchange
        self.db = options.get("db") or 0
        self._host = options.get("host") or ""

    @property
    def host(self) -> str:
        return self._host

    @host.setter
    def host(self, value: str) -> None:
        self._host = value

    def repr_pieces(self) -> list[tuple[str, Any]]:
        return [("explored", True)]

    def connect(self, *args: Any, **options: Any) -> None:
        pass

    def disconnect(self, *args: Any, **options: Any) -> None:
        self.exchange.let_go()

    def pack_command(self, *args: Any) -> Any:
        return [args]

    def pack_commands(self, commands: Any) -> Any:
        return list(commands)

    def send_command(self, *args: Any, **options: Any) -> None:
        self.exchange.ask([args])

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self.exchange.ask(command)

    def can_read(self, timeout: float = 0) -> bool:
        return False

    def read_response(self, disable_decoding: bool = False, **options: Any) -> Any:
        turn = turn_here()
        if turn is None:
            raise _outlived()
        return now(self.exchange.answer(turn, raw=disable_decoding))

    def _connect(self) -> None:
        raise _outlived()

    def _host_error(self) -> str:
        return self._host


@contextmanager
def pools_stepped(wires: Wires) -> Iterator[None]:
    """Let the pools of explored code hand out stepped connections; elsewhere they are as ever."""
    replaced: list[tuple[type, str, Any]] = []
    stock: WeakKeyDictionary[Any, list[SteppedConnection]] = WeakKeyDictionary()

    def replace(owner: type, name: str, make: Callable[[Any], Any]) -> None:
        usual = owner.__dict__.get(name)
        if usual is not None:
            replaced.append((owner, name, usual))
            setattr(owner, name, functools.wraps(usual)(make(usual)))

    def taking(usual: Any) -> Any:
        def get_connection(pool: Any, *args: Any, **options: Any) -> Any:
            turn = turn_here()
            if turn is None:
                return usual(pool, *args, **options)
            free = stock.get(pool)
            return free.pop() if free else make_connection(pool, turn)

        return get_connection

    def make_connection(pool: Any, turn: Turn) -> SteppedConnection:
        check_pool(pool, turn, wires)
        options = pool.connection_kwargs
        return SteppedConnection(Exchange(wires, Settings.of(options)), options)

    def giving(usual: Any) -> Any:
        def release(pool: Any, connection: Any) -> Any:
            if not isinstance(connection, SteppedConnection):
                return usual(pool, connection)
            connection.disconnect()
            stock.setdefault(pool, []).append(connection)
            return None

        return release

    def guarding(usual: Any) -> Any:
        def send(connection: Any, *args: Any, **options: Any) -> Any:
            refuse_foreign()
            return usual(connection, *args, **options)

        return send

    try:
        for pool in (ConnectionPool, BlockingConnectionPool):
            replace(pool, "get_connection", taking)
            replace(pool, "release", giving)
        replace(AbstractConnection, "send_command", guarding)
        replace(AbstractConnection, "send_packed_command", guarding)
        yield
    finally:
        for owner, name, usual in reversed(replaced):
            setattr(owner, name, usual)


def check_pool(pool: Any, turn: Turn, wires: Wires) -> None:
    """Refuse a pool that cannot be played."""
    try:
        if getattr(pool, "cache", None) is not None:
            raise NotSteppableError(
                "The explored code uses redis-py's client-side cache, which listens to the server.",
                "Make the client without cache_config here; put the cache to an experiment.",
            )
        wires.meet(pool.connection_kwargs)
    except NotSteppableError as error:
        turn.refuse(error)
        raise


def refuse_foreign() -> None:
    """Refuse a connection that was opened outside the exploration, when explored code uses it."""
    actor = actor_here()
    if actor is None:
        if getattr(getcurrent(), "timekeeper", None) is None:
            return
        raise _opened_before("`given` or the invariant")
    if actor.trusted:
        return
    actor.fault = actor.fault or _opened_before(f"The client {actor.name!r}")
    raise actor.fault


def _opened_before(who: str) -> NotSteppableError:
    return NotSteppableError(
        f"{who} uses a connection to Redis that was opened before the exploration.",
        "Let a pool open it (leave out single_connection_client), or make it in the function.",
    )


def _outlived() -> NotSteppableError:
    return NotSteppableError(
        "A Redis connection that was made in an exploration is used outside of it.",
        "Make the client anew.",
    )
