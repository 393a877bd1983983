"""What is said on a connection of the code's own: each command goes to the exploration's server.

Nothing is sent before its reply is asked for. So one place stops before each step, whether redis-py sends
a command alone, in a pipeline, or between MULTI and EXEC.
"""

import sys
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from redis.exceptions import ResponseError, WatchError
from redis.exceptions import TimeoutError as RedisTimeoutError

from labsupport.errors import LabError, NotSteppableError
from labsupport.explorer.clients.actor import refusal
from labsupport.explorer.clients.stepped_redis import BLOCKING, without_timeout
from labsupport.explorer.commands.server_time import word
from labsupport.explorer.commands.wiring import Difference
from labsupport.explorer.operations import Operation
from labsupport.explorer.own.turns import Turn
from labsupport.explorer.own.wires import Settings, Wire, Wires

__all__ = ["Exchange"]

Arguments = tuple[Any, ...]
_ENDLESS = frozenset({"MONITOR", "PSUBSCRIBE", "SSUBSCRIBE", "SUBSCRIBE"})


class _Block:
    """A MULTI/EXEC block that was sent, and of which some replies are still to be read."""

    def __init__(self, operation: Operation, wire: Wire, converts: list[Any], before: Any) -> None:
        self.operation = operation
        self.before = before  # how many changes the server had made, where this is a repetition
        self.wire = wire
        self.converts = converts
        self.left = len(converts) + 2


class Exchange:
    """One connection of the code's own.

    Args:
        wires: lends the wire that the commands go over.
        settings: how the connection's client talks.
    """

    def __init__(self, wires: Wires, settings: Settings) -> None:
        self._wires = wires
        self._settings = settings
        self._asked: deque[Arguments] = deque()
        self._wire: Wire | None = None
        self._holder: Turn | None = None
        self._block: _Block | None = None

    def ask(self, commands: Iterable[Arguments]) -> None:
        """Take commands in, to be sent when their replies are asked for.

        Raises:
            NotSteppableError: one of them asks for replies without end.
        """
        for args in commands:
            if word(args[0]) in _ENDLESS:
                raise refusal(
                    f"{word(args[0])} waits for messages, whose coming the explorer cannot order.",
                    "Leave Pub/Sub and MONITOR to an experiment. Celery subscribes to results: let its "
                    "tasks ignore theirs (ignore_result=True).",
                )
            self._asked.append(args)

    async def answer(self, turn: Turn, *, raw: bool = False) -> Any:
        """The next reply.

        Args:
            turn: whose command it is.
            raw: leave it undecoded.
        """
        try:
            if self._block is not None:
                reply = self._next_of_block(turn, self._block, raw)
                if self._block is None:
                    await turn.arrival()
                return reply
            if not self._asked:
                raise NotSteppableError(
                    "A connection of the code's own was read without a command.",
                    "Subscriptions and MONITOR cannot be stepped; test them in an experiment.",
                )
            args = self._asked.popleft()
            if word(args[0]) == "MULTI":
                return await self._begin_block(turn, raw)
            return await self._single(turn, args, raw)
        except LabError as error:
            turn.refuse(error)
            raise

    def let_go(self) -> None:
        """Give the wire back: the connection is in the pool, or closed."""
        self._asked.clear()
        wire, holder, block = self._wire, self._holder, self._block
        self._wire = self._holder = self._block = None
        if holder is not None:
            holder.lets_go(id(self))
            if block is not None:
                holder.took(block.operation, None)
        if wire is not None:
            self._wires.give_back(wire)

    async def _single(self, turn: Turn, args: Arguments, raw: bool) -> Any:
        direct = self._wires.direct
        done, reply = direct.without_the_server(args)
        if done:
            return reply
        name = word(args[0])
        operation = Operation("redis", (args,))
        if name == "UNWATCH" and _is_reset():  # redis-py's own, when a pipeline ends: no step
            wire = self._hold(turn)
            if not wire.clean:  # the client ends in a blocking command, whose reply will never come
                self.let_go()
                return b"OK"
            wire.watched = ()
            return self._ask_now(wire, args, args, None, raw)
        await turn.gate(operation)
        if name == "TIME":
            turn.note_present()
        difference = Difference(direct.wiring, operation, again=turn.repeated(operation))
        try:
            prepared = direct.prepare(args)  # which may change what the server knows
            difference.look()
            reply = await self._take(turn, operation, prepared, name, raw)
        except Exception as error:
            turn.took(operation, error)
            if not isinstance(error, ResponseError):  # e.g. no text: nor is what follows it
                self.let_go()
                raise
            self._lose(turn)
            raise
        turn.took(operation, self._shown(name, reply))
        difference.note(reply)
        self._lose(turn)
        await turn.arrival()
        return reply

    async def _take(
        self, turn: Turn, operation: Operation, prepared: tuple[Any, Any], name: str, raw: bool
    ) -> Any:
        """Send the command of a step as it was prepared; its reply."""
        (args,), (sent, convert) = operation.commands, prepared
        wire = self._hold(turn)
        if name == "WATCH":
            wire.watched += args[1:]
        elif name in {"UNWATCH", "DISCARD", "EXEC"}:
            wire.watched = ()
        timeout = None
        if name in BLOCKING and turn.explored:
            sent, timeout = without_timeout(sent)
        if timeout is not None:
            wire.send(sent)
            await turn.block(operation, wire.real, wire.number, timeout)
            return self._read(wire, convert, raw)
        return self._as_sent(name, self._ask_now(wire, args, sent, convert, raw))

    def _as_sent(self, name: str, reply: Any) -> Any:
        """A reply as the server would have sent it, where a script did the work."""
        if name != "FLUSHDB" or isinstance(reply, Exception):
            return reply
        return "OK" if self._settings.decode_responses else b"OK"

    def _ask_now(
        self, wire: Wire, args: Arguments, sent: Arguments, convert: Any, raw: bool
    ) -> Any:
        wire.send(sent)
        try:
            return self._read(wire, convert, raw)
        except ResponseError as error:
            if word(args[0]) != "XADD" or "equal or smaller" not in str(error):
                raise
            # the stream is ahead of the clock: the server takes the next id of the same moment
            wire.send(args)
            return self._read(wire, None, raw)

    def _read(self, wire: Wire, convert: Any, raw: bool) -> Any:
        try:
            reply = wire.real.read_response(disable_decoding=raw)
        except ResponseError:
            wire.clean = True
            raise
        wire.clean = True
        return reply if convert is None else convert(reply)

    async def _begin_block(self, turn: Turn, raw: bool) -> Any:
        commands = []
        while self._asked and word(self._asked[0][0]) != "EXEC":
            commands.append(self._asked.popleft())
        if not self._asked:
            raise NotSteppableError(
                "MULTI was sent by itself; the explorer cannot tell where its block ends.",
                "Use a pipeline: with client.pipeline() as pipe: … pipe.execute().",
            )
        self._asked.popleft()
        direct = self._wires.direct
        for args in commands:
            direct.without_the_server(args)
        watched = self._wire.watched if self._wire is not None else ()
        operation = Operation("redis", commands, transaction="multi", watched=watched)
        await turn.gate(operation)
        prepared = [direct.prepare(args) for args in commands]
        wire = self._hold(turn)
        before = direct.wiring.changes() if turn.repeated(operation) else None
        sent = [("MULTI",), *(sent for sent, _ in prepared), ("EXEC",)]
        wire.watched = ()
        wire.send(*sent)
        self._block = _Block(operation, wire, [convert for _, convert in prepared], before)
        return self._next_of_block(turn, self._block, raw)

    def _next_of_block(self, turn: Turn, block: _Block, raw: bool) -> Any:
        block.left -= 1
        if block.left:
            return block.wire.real.read_response(disable_decoding=raw)
        self._block = None
        try:
            reply = block.wire.real.read_response(disable_decoding=raw)
        except Exception as error:
            block.wire.clean = True
            turn.took(block.operation, error)
            self._lose(turn)
            raise
        block.wire.clean = True
        if reply is None:
            turn.took(block.operation, WatchError("Watched variable changed."))
        else:
            names = [word(args[0]) for args in block.operation.commands]
            reply = [
                self._as_sent(
                    name, one if convert is None or isinstance(one, Exception) else convert(one)
                )
                for name, one, convert in zip(names, reply, block.converts, strict=True)
            ]
            shown = list(map(self._shown, names, reply))
            turn.took(block.operation, shown)
        if block.before is not None and reply is not None:
            block.operation.changed = self._wires.direct.wiring.changed(block.before)
        self._lose(turn)
        return reply

    def _hold(self, turn: Turn) -> Wire:
        if self._wire is None:
            self._wire = self._wires.lend(self._settings)
            self._holder = turn
            turn.holds(id(self), self.let_go)
        return self._wire

    def _lose(self, turn: Turn) -> None:
        if turn.loses():
            self.let_go()
            raise RedisTimeoutError("Timeout reading from socket")

    def _shown(self, name: str, reply: Any) -> Any:
        """A plain reply as redis-py's client has it, for the report."""
        if reply is None or isinstance(reply, int | str | bytes):
            with suppress(Exception):
                return self._wires.direct.response_callbacks[name](reply)
        return reply


def _is_reset() -> bool:
    """True when redis-py's pipeline says UNWATCH as it ends, and not the code."""
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_name in _BETWEEN:
        frame = frame.f_back
    return frame is not None and frame.f_code.co_name == "reset"


_BETWEEN = frozenset({"_now", "_single", "answer", "read_response"})
