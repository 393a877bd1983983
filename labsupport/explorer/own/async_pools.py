"""redis.asyncio in explored code: its pools hand out connections whose commands are steps of a task."""

import asyncio
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis.asyncio
from redis.asyncio.connection import AbstractConnection, BlockingConnectionPool, ConnectionPool

from labsupport.errors import LabError, NotSteppableError
from labsupport.explorer.clients.actor import actor_here
from labsupport.explorer.operations import Operation
from labsupport.explorer.own.coroutines import CoroutineActor, Strand
from labsupport.explorer.own.exchange import Exchange
from labsupport.explorer.own.pools import Unpacked, kept_options, pools_replaced, turn_here
from labsupport.explorer.own.turns import ActorTurn, Turn
from labsupport.explorer.own.wires import Wires

__all__ = ["async_pools_stepped", "handed_out"]


class _HandedOutPool(ConnectionPool):
    """The pool of the client that a coroutine function is called with."""


def handed_out(before: Any = None) -> Any:
    """A redis.asyncio client of the exploration's server; replies are text, retries redis-py's own.

    Args:
        before: one that was handed out in an earlier run; it is so again, unless its settings changed.
    """
    if before is not None and before.get_retry() is _usual().get_retry():
        return before
    pool = _HandedOutPool(decode_responses=True, retry=_usual().get_retry())
    return redis.asyncio.Redis(connection_pool=pool)


@functools.cache
def _usual() -> Any:
    return redis.asyncio.Redis()


class StrandTurn(ActorTurn):
    """A task of a client, which waits for its turn while others of its loop go on.

    Args:
        strand: the task.
    """

    def __init__(self, strand: Strand) -> None:
        super().__init__(strand)
        self.strand = strand
        self.note_present = strand.client.note_present

    async def gate(self, operation: Operation) -> None:
        await self.strand.pause(operation)

    async def arrival(self) -> None:
        await self.strand.later()

    async def block(self, operation: Operation, wire: Any, number: int, timeout: float) -> None:
        await self.strand.wait_for_reply(operation, wire, number, timeout)

    def refuse(self, error: LabError) -> None:
        self.strand.client.fault = self.strand.client.fault or error

    def holds(self, key: int, drop: Any) -> None:
        self.strand.client.others[key] = drop

    def lets_go(self, key: int) -> None:
        self.strand.client.others.pop(key, None)


def _turn_of_task() -> Turn | None:
    actor = actor_here()
    if actor is None:
        return turn_here()
    if not isinstance(actor, CoroutineActor):
        actor.fault = actor.fault or NotSteppableError(
            f"The client {actor.name!r} uses redis.asyncio in an event loop of its own (asyncio.run).",
            "Give the coroutine function itself to explore: clients={'ada': function}.",
        )
        raise actor.fault
    strand: Any = actor.strand()
    turn: Turn | None = getattr(strand, "turn", None)
    if turn is None:
        turn = strand.turn = StrandTurn(strand)
    return turn


class AsyncSteppedConnection(Unpacked, AbstractConnection):
    """A connection of the code's own, each of whose commands is a step on the exploration's server.

    Args:
        exchange: what is said on it.
        options: of its pool's connections.
    """

    def __init__(self, exchange: Exchange, options: dict[str, Any]) -> None:
        super().__init__(**kept_options(options))
        self.exchange = exchange
        self.db = options.get("db") or 0
        self.host = options.get("host") or ""

    async def connect(self, *args: Any, **options: Any) -> None:
        pass

    async def disconnect(self, *args: Any, **options: Any) -> None:
        self.exchange.let_go()

    async def send_command(self, *args: Any, **options: Any) -> None:
        self.exchange.ask([args])

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        self.exchange.ask(command)

    async def can_read(self) -> bool:
        return False

    async def read_response(  # type: ignore[override]
        self, disable_decoding: bool = False, **options: Any
    ) -> Any:
        turn = _turn_of_task()
        if turn is None:
            raise NotSteppableError(
                "A Redis connection that was made in an exploration is used outside of it.",
                "Create the client again.",
            )
        try:
            return await self.exchange.answer(turn, raw=disable_decoding)
        except asyncio.CancelledError:
            self.exchange.let_go()
            raise

    async def _connect(self) -> None:
        pass

    def _host_error(self) -> str:
        return str(self.host)


@contextmanager
def async_pools_stepped(wires: Wires) -> Iterator[None]:
    """Let the pools of explored coroutines hand out stepped connections."""
    with pools_replaced(
        (ConnectionPool, BlockingConnectionPool),
        AbstractConnection,
        AsyncSteppedConnection,
        wires,
        _turn_of_task,
        handed_out=_HandedOutPool,
    ):
        yield
