"""A redis-py client whose commands go straight over one connection, under the explorer's clock."""

import sys
from collections.abc import Callable
from typing import Any

import redis
from redis.client import Pipeline
from redis.commands.core import AsyncScript, Script
from redis.exceptions import NoScriptError, ResponseError

from labsupport.explorer.commands.reach import as_seen, check_reach, refused
from labsupport.explorer.commands.replies import held
from labsupport.explorer.commands.sent import note_times, plain, what_is_sent
from labsupport.explorer.commands.server_time import word
from labsupport.explorer.commands.wiring import Wiring
from labsupport.explorer.names import as_sent, as_text

__all__ = ["DirectPipeline", "DirectRedis", "plain_numbers", "transmit"]


class _Passing(type(redis.Redis)):  # type: ignore[misc]
    """Passes on what is set on a class to the one that it stands for, where all find it."""

    def __setattr__(cls, name: str, value: Any) -> None:
        of_python = name.startswith("__") or name in {"_abc_impl", "_is_protocol"}
        stood_for = next(one for one in cls.__mro__ if not isinstance(one, _Passing))
        type.__setattr__(cls if of_python else stood_for, name, value)


class DirectRedis(redis.Redis, metaclass=_Passing):
    """A client with one connection, past redis-py's retries and metrics.

    These cost about as much as a command's round trip, and nothing is retried here. Subscriptions are
    redis-py's own, on connections of theirs.

    Args:
        client: a client of the server; its connections are used.
        wiring: the clock and the scripts.

    Attributes:
        wire: the connection; None until the first command.
        number: what the server calls the connection (CLIENT ID).
    """

    def __init__(self, client: redis.Redis, wiring: Wiring) -> None:
        super().__init__(connection_pool=client.connection_pool)
        self.wiring = wiring
        self.wire: Any = None
        self.number = 0

    def execute_command(self, *args: Any, **options: Any) -> Any:
        done, reply = self.without_the_server(args)
        if done:
            return reply
        return self.send(args, **options)

    def raw(self, *args: Any) -> Any:
        """Run a command of the explorer's own, as it is written; what is no text is told as such, too."""
        wire = self.wire or self.dial()
        transmit(wire, tuple(map(as_sent, args)))
        return as_text(wire.read_response(disable_decoding=True))

    def without_the_server(self, args: tuple[Any, ...]) -> tuple[bool, Any]:
        """Whether a command was dealt with here, and its reply; what reaches too far is refused.

        Raises:
            NotSteppableError: it reaches beyond the explorer's database, or reads a clock that cannot
                be held.
        """
        if plain(args[0]):
            return False, None
        first, second = check_reach(args)
        scripts = self.wiring.scripts
        if first == "SCRIPT":
            digests = args[1:] if " " in str(args[0]) else args[2:]
            if second == "EXISTS":
                return True, [digest in scripts for digest in digests]
            if second == "LOAD":
                return True, scripts.load(digests[0])
            raise refused(f"SCRIPT {second}")
        if first.startswith("EVALSHA") and args[1] not in scripts and _loads_it_then():
            raise NoScriptError("No matching script.")  # which is no step
        return False, None

    def send(self, args: tuple[Any, ...], **options: Any) -> Any:
        """Send a command under the explorer's clock; its reply."""
        version = self.wiring.version
        sent, convert = self.prepare(args)
        wire = self.wire or self.dial()
        transmit(wire, sent)
        try:
            reply = self.receive(args, sent, convert, **options)
        except ResponseError:
            raise
        except Exception:  # e.g. it cannot be read as text: nor can what follows it
            self.hang_up()
            raise
        if word(args[0]).endswith("_RO"):
            self.wiring.is_as_at(version)
        return reply

    def prepare(self, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
        """What goes over the wire for a command, and what converts its reply."""
        wiring = self.wiring
        wiring.touch()
        if wiring.clock.passing:
            note_times(args, wiring)
        return what_is_sent(args, wiring)

    def receive(
        self, args: tuple[Any, ...], sent: tuple[Any, ...], convert: Any, **options: Any
    ) -> Any:
        """The reply of a command that was sent."""
        try:
            reply = self.parse_response(self.wire, sent[0], **options)
        except ResponseError as error:
            if word(args[0]) != "XADD" or "equal or smaller" not in str(error):
                raise as_seen(error, self.wiring) from None
            # the stream is ahead of the clock: the server takes the next id of the same moment
            transmit(self.wire, args)
            reply = self.parse_response(self.wire, args[0], **options)
        return held(reply if convert is None else convert(reply))

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> "DirectPipeline":
        return DirectPipeline(self, transaction)

    def dial(self) -> Any:
        """Open the connection."""
        wire = self.connection_pool.get_connection()
        wire.send_command("CLIENT", "ID")
        self.number = wire.read_response()
        self.wire = wire
        return wire

    def hang_up(self) -> None:
        """Close the connection, and those of the pipelines; the next command opens one anew."""
        if self.wire is not None:
            self.wire.disconnect()
            self.connection_pool.release(self.wire)
            self.wire = None
        self.connection_pool.disconnect()


class DirectPipeline(Pipeline, metaclass=_Passing):
    """A pipeline under the explorer's clock.

    Attributes:
        convert: makes of the reply to a command that is sent at once, as after WATCH, what it is under
            that clock; None where nothing does.
    """

    convert: Callable[[Any], Any] | None = None

    def __init__(self, client: DirectRedis, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self.direct = client

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        done, reply = self.direct.without_the_server(args)
        if done:
            return reply
        sent, convert = self.direct.prepare(args)
        self.convert = convert
        try:
            reply = super().immediate_execute_command(*sent, **options)
        except ResponseError as error:
            raise as_seen(error, self.direct.wiring) from None
        return held(reply if convert is None else convert(reply))

    def _execute_transaction(self, connection: Any, commands: Any, raise_on_error: bool) -> Any:
        return self.run(super()._execute_transaction, connection, commands, raise_on_error)

    def _execute_pipeline(self, connection: Any, commands: Any, raise_on_error: bool) -> Any:
        return self.run(super()._execute_pipeline, connection, commands, raise_on_error)

    def run(self, execute: Any, connection: Any, commands: Any, raise_on_error: bool) -> Any:
        """Execute commands under the explorer's clock; their replies."""
        for args, _ in commands:
            self.direct.without_the_server(args)
        prepared = [self.direct.prepare(args) for args, _ in commands]
        changed = [
            (sent, options) for (sent, _), (_, options) in zip(prepared, commands, strict=True)
        ]
        wiring = self.direct.wiring
        try:
            replies = execute(connection, changed, False)
        except ResponseError as error:
            raise as_seen(error, wiring) from None
        told = [
            as_seen(reply, wiring)
            if isinstance(reply, Exception)
            else held(reply if convert is None else convert(reply))
            for reply, (_, convert) in zip(replies, prepared, strict=True)
        ]
        if raise_on_error:  # here, as the commands that redis-py would name are the changed ones
            self.raise_first_error(commands, told)
        return told


def _loads_it_then() -> bool:
    """Whether it is redis-py's Script that asks: it loads what is not there, and asks again."""
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code not in _SCRIPT_CALLS:
        frame = frame.f_back
    return frame is not None


_SCRIPT_CALLS = (Script.__call__.__code__, AsyncScript.__call__.__code__)


def transmit(wire: Any, args: tuple[Any, ...]) -> None:
    """Send a command; what one run sends, the next one sends again."""
    if not _PLAIN_TYPES.issuperset(map(type, args)):  # True equals 1, and is sent otherwise
        args = plain_numbers(args)  # the packer knows no other
        wire.send_packed_command(wire.pack_command(*args), check_health=False)
        return
    packed = _packed.get(args)
    if packed is None:
        if len(_packed) >= _MOST_PACKED:
            _packed.clear()
        packed = _packed[args] = wire.pack_command(*args)
    wire.send_packed_command(packed, check_health=False)


_PLAIN_TYPES = frozenset({str, int, bytes})


def plain_numbers(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments in which numbers are of Python's own type: hiredis packs no other."""
    if _PLAIN_TYPES.issuperset(map(type, args)):
        return args
    return tuple(
        int(part) if isinstance(part, int) and not isinstance(part, bool) else part for part in args
    )


_MOST_PACKED = 1024
_packed: dict[tuple[Any, ...], Any] = {}
