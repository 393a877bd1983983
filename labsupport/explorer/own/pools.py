"""The Redis clients that explored code makes for itself: their pools hand out stepped connections.

`redis.Redis(…)`, `from_url(…)` and pools are redis-py's own, with their retries, callbacks and pipelines.
Only the connection is another: it goes to the exploration's server, never to the one that the code names.
"""

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from greenlet import getcurrent
from redis.connection import AbstractConnection, BlockingConnectionPool, ConnectionPool

from labsupport.errors import NotSteppableError
from labsupport.explorer.clients.actor import actor_here, refusal
from labsupport.explorer.own.exchange import Exchange
from labsupport.explorer.own.turns import ActorTurn, HostTurn, Turn
from labsupport.explorer.own.wires import Settings, Wires
from labsupport.explorer.stand_ins.timekeeper import timekeeper_here

__all__ = [
    "SteppedConnection",
    "Unpacked",
    "kept_options",
    "pools_replaced",
    "pools_stepped",
    "turn_here",
]

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


class Unpacked:
    """Commands go to the exchange as they were given."""

    def repr_pieces(self) -> list[tuple[str, Any]]:
        return [("explored", True)]

    def pack_command(self, *args: Any) -> Any:
        return [args]

    def pack_commands(self, commands: Any) -> Any:
        return list(commands)


class _NoSocket:
    """What a library finds that would wait on the connection's socket by itself, as kombu does."""

    def __bool__(self) -> bool:
        return False

    def fileno(self) -> int:
        raise refusal(
            "The code waits on the socket of a Redis connection by itself; the explorer's has none.",
            "Take from the queue with a command (kombu: get(block=False)); test a consumer that waits in "
            "an experiment.",
        )


class SteppedConnection(Unpacked, AbstractConnection):
    """A connection of the code's own, each of whose commands is a step on the exploration's server.

    Args:
        exchange: what is said on it.
        options: of its pool's connections.
    """

    def __init__(self, exchange: Exchange, options: dict[str, Any]) -> None:
        super().__init__(**kept_options(options))
        self._sock: Any = _NoSocket()
        self.exchange = exchange
        self.db = options.get("db") or 0
        self._host = options.get("host") or ""

    @property
    def host(self) -> str:
        return self._host

    @host.setter
    def host(self, value: str) -> None:
        self._host = value

    def connect(self, *args: Any, **options: Any) -> None:
        pass

    def disconnect(self, *args: Any, **options: Any) -> None:
        self.exchange.let_go()

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
    stock = _Stock(stepped, wires, handed_out)
    waits = inspect.iscoroutinefunction(connection.send_command)  # type: ignore[attr-defined]

    def get_connection(pool: Any, *_: Any) -> tuple[bool, Any]:
        turn = whose()
        return (False, None) if turn is None else (True, stock.take(pool, turn))

    def release(pool: Any, given: Any) -> tuple[bool, Any]:
        return stock.give_back(pool, given), None

    def send(*_: Any) -> tuple[bool, Any]:
        _refuse_foreign()
        return False, None

    with ExitStack() as undo:
        for owner, name, other in (
            *((pool, "get_connection", get_connection) for pool in pools),
            *((pool, "release", release) for pool in pools),
            (connection, "send_command", send),
            (connection, "send_packed_command", send),
        ):
            usual = owner.__dict__[name]
            undo.callback(setattr, owner, name, usual)
            setattr(owner, name, _unless_done(other, usual, waits=waits))
        yield


def _unless_done(
    other: Callable[..., tuple[bool, Any]], usual: Callable[..., Any], *, waits: bool
) -> Callable[..., Any]:
    """A method that does as usual, unless the other has done it; its value is awaited where it `waits`."""

    @functools.wraps(usual)
    def method(this: Any, *args: Any, **options: Any) -> Any:
        done, value = other(this, *args)
        if not done:
            return usual(this, *args, **options)
        return _ready(value) if waits else value

    return method


class _Stock:
    """The stepped connections of each pool that explored code has made."""

    def __init__(self, stepped: Callable[..., Any], wires: Wires, handed_out: type | None) -> None:
        self._stepped = stepped
        self._wires = wires
        self._handed_out = handed_out
        self._free: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()

    def take(self, pool: Any, turn: Turn) -> Any:
        """One that is free, or another; there is no limit to them."""
        options = pool.connection_kwargs
        free = self._free.get(pool)
        taken = free.pop() if free else None
        if taken is None or taken.asked_retry is not options.get("retry"):  # set_retry came later
            if self._handed_out is None or not isinstance(pool, self._handed_out):
                _check_pool(pool, turn, self._wires)
            taken = self._stepped(Exchange(self._wires, Settings.of(options)), options)
            taken.asked_retry = options.get("retry")
        return taken

    def give_back(self, pool: Any, connection: Any) -> bool:
        """Keep one; False for a connection of redis-py's own."""
        if not hasattr(connection, "exchange"):
            return False
        connection.exchange.let_go()
        self._free.setdefault(pool, []).append(connection)
        return True


async def _ready(value: Any) -> Any:
    return value


def _check_pool(pool: Any, turn: Turn, wires: Wires) -> None:
    """Refuse a pool that cannot be played."""
    try:
        if getattr(pool, "cache", None) is not None:
            raise NotSteppableError(
                "The explored code uses redis-py's client-side cache, which listens to the server.",
                "Make the client without cache_config here; test the cache in an experiment.",
            )
        if not getattr(pool, "is_master", True):
            raise NotSteppableError(
                "The explored code reads from a replica (Sentinel's slave_for), which lags behind.",
                "Use master_for here, as the explorer has one server; test the lag in an experiment.",
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
        f"{who} uses a connection to Redis that was opened before the exploration, or by no pool.",
        "Let a pool open it (leave out single_connection_client), or make it in the function; test "
        "what redis.asyncio.RedisCluster does in an experiment.",
    )


def _outlived() -> NotSteppableError:
    return NotSteppableError(
        "A Redis connection that was made in an exploration is used outside of it.",
        "Create the client again.",
    )
