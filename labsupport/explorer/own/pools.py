"""The Redis clients that explored code makes for itself: their pools hand out stepped connections.

`redis.Redis(…)`, `from_url(…)` and pools are redis-py's own, with their retries, callbacks and pipelines.
Only the connection is another: it goes to the exploration's server, never to the one that the code names.
"""

import functools
import inspect
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

__all__ = ["SteppedConnection", "kept_options", "pools_replaced", "pools_stepped", "turn_here"]

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


def _now(coroutine: Coroutine[Any, Any, Any]) -> Any:
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
        return _now(self.exchange.answer(turn, raw=disable_decoding))

    def _connect(self) -> None:
        raise _outlived()

    def _host_error(self) -> str:
        return self._host


@contextmanager
def pools_stepped(wires: Wires) -> Iterator[None]:
    """Let the pools of explored code hand out stepped connections; elsewhere they are as ever."""
    with pools_replaced(
        (ConnectionPool, BlockingConnectionPool),
        AbstractConnection,
        SteppedConnection,
        wires,
        turn_here,
    ):
        yield


@contextmanager
def pools_replaced(
    pools: tuple[type, ...],
    connection: type,
    stepped: Callable[[Exchange, dict[str, Any]], Any],
    wires: Wires,
    whose: Callable[[], Turn | None],
    handed_out: type | None = None,
) -> Iterator[None]:
    """Replace what pools do when explored code asks them for a connection, or gives it back.

    Args:
        pools: their classes.
        connection: the class that all connections derive from; explored code uses none but `stepped`.
        stepped: makes a connection that is.
        wires: of the exploration's server.
        whose: whose turn it is, None when redis-py is to do as ever.
        handed_out: the class of pools that name no server.
    """
    replaced: list[tuple[type, str, Any]] = []
    stock: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()
    waits = inspect.iscoroutinefunction(connection.send_command)  # type: ignore[attr-defined]

    def replace(owner: type, name: str, other: Callable[[Any], Any]) -> None:
        usual = owner.__dict__[name]
        replaced.append((owner, name, usual))
        setattr(owner, name, functools.wraps(usual)(other(usual)))

    def taking(usual: Any) -> Any:
        def get_connection(pool: Any, *args: Any, **options: Any) -> Any:
            turn = whose()
            if turn is None:
                return usual(pool, *args, **options)
            free = stock.get(pool)
            taken = free.pop() if free else None
            if taken is None or taken.asked_retry is not pool.connection_kwargs.get("retry"):
                taken = make_connection(pool, turn)
            return _ready(taken) if waits else taken

        return get_connection

    def make_connection(pool: Any, turn: Turn) -> Any:
        options = pool.connection_kwargs
        if handed_out is None or not isinstance(pool, handed_out):
            _check_pool(pool, turn, wires)
        made = stepped(Exchange(wires, Settings.of(options)), options)
        made.asked_retry = options.get("retry")  # set_retry may come later
        return made

    def giving(usual: Any) -> Any:
        def release(pool: Any, given: Any) -> Any:
            if not hasattr(given, "exchange"):
                return usual(pool, given)
            given.exchange.let_go()
            stock.setdefault(pool, []).append(given)
            return _ready(None) if waits else None

        return release

    def guarding(usual: Any) -> Any:
        def send(given: Any, *args: Any, **options: Any) -> Any:
            _refuse_foreign()
            return usual(given, *args, **options)

        return send

    try:
        for pool in pools:
            replace(pool, "get_connection", taking)
            replace(pool, "release", giving)
        replace(connection, "send_command", guarding)
        replace(connection, "send_packed_command", guarding)
        yield
    finally:
        for owner, name, usual in reversed(replaced):
            setattr(owner, name, usual)


async def _ready(value: Any) -> Any:
    return value


def _check_pool(pool: Any, turn: Turn, wires: Wires) -> None:
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


def _refuse_foreign() -> None:
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
