"""A redis-py client whose commands go straight over one connection, under the explorer's clock."""

import functools
import hashlib
import itertools
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import redis
from redis.client import Pipeline
from redis.commands.core import AsyncScript, Script
from redis.exceptions import NoScriptError, ResponseError

from labsupport.errors import NotSteppableError
from labsupport.explorer.clients.actor import actor_here, refusal
from labsupport.explorer.clients.scripts import BEYOND, SCANNED, Scripts
from labsupport.explorer.clients.server_time import on_the_wire, word
from labsupport.explorer.clock import Clock
from labsupport.explorer.names import as_sent, as_text
from labsupport.explorer.operations import Operation

__all__ = ["DirectPipeline", "DirectRedis", "Wiring", "note_times", "transmit"]

_BEYOND = frozenset(
    {"ACL", "AUTH", "BGREWRITEAOF", "BGSAVE", "CLUSTER", "DEBUG", "FAILOVER", "FLUSHALL", "HELLO"}
    | {"MIGRATE", "MODULE", "MONITOR", "MOVE", "PSUBSCRIBE", "PSYNC", "QUIT", "REPLICAOF", "RESET"}
    | {"LASTSAVE", "SAVE", "SELECT", "SENTINEL", "SHUTDOWN", "SLAVEOF", "SSUBSCRIBE", "SUBSCRIBE"}
    | {"SWAPDB", "SYNC"}
)
_ALLOWED = {
    "CLIENT": frozenset({"ID", "INFO", "LIST", "GETNAME", "UNBLOCK"}),
    "CONFIG": frozenset({"GET"}),
    "XINFO": frozenset({"STREAM", "GROUPS", "HELP"}),
    "OBJECT": frozenset({"ENCODING", "REFCOUNT", "HELP"}),
    "FUNCTION": frozenset({"LOAD", "DELETE", "LIST", "DUMP", "HELP"}),
    "LATENCY": frozenset({"HELP"}),
    "MEMORY": frozenset({"USAGE", "HELP"}),
    "SLOWLOG": frozenset({"HELP"}),
}
# an option, and where they begin
_BEYOND_WITH = {"COPY": ("DB", 3), "XINFO": ("FULL", 2), "XREADGROUP": ("CLAIM", 4)}
_BLOCK = frozenset({"MULTI", "EXEC", "DISCARD"})
_REPLICATED = frozenset({"WAIT", "WAITAOF"})  # which end with a number of replicas, and a timeout
_SCRIPTS = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO"})
_FUNCTIONS = frozenset({"FCALL", "FCALL_RO"})
_DRAWN = frozenset({"HRANDFIELD", "SPOP", "SRANDMEMBER", "ZRANDMEMBER"})
_DRAW = "return redis.pcall(ARGV[1], KEYS[1], unpack(ARGV, 2))"
_DRAW_KEY = "return redis.call('RANDOMKEY')"
_IDLE = frozenset({"XAUTOCLAIM", "XCLAIM", "XPENDING"})
_OVERVIEWS = frozenset({"KEYS", "SCAN", "DBSIZE"})
_SPECIAL = (
    _SCRIPTS
    | _OVERVIEWS
    | _FUNCTIONS
    | _BEYOND
    | _ALLOWED.keys()
    | _IDLE
    | _BEYOND_WITH.keys()
    | _DRAWN
    | {"", "FLUSHDB", "INFO", "RANDOMKEY", "SCRIPT"}
    | _BLOCK
    | _REPLICATED
)


_ALWAYS = (-1, "")


class Wiring:
    """What the connections of one system share.

    Args:
        clock: of the exploration that is running.
        scripts: what was loaded.
        empty: the digest of the script that empties the database, and its argument.

    Attributes:
        hidden: a key of the server's that nobody is shown; "" if there is none.
        streams: True once an entry was read by a group: then idle times matter.
        settle: brings the idle times of pending entries up to the clock.
        changes: how many changes the server has made to its data, and where others use it, too, a digest
            of the database.
        state: a digest of its data.
        libraries: those of functions that the run has loaded, by name.
        has_library: whether the server has one.
        draws: how often each client, or task, has let the server draw from what.
        version: another one whenever something in Redis may have changed, and none that was there before.
        counted: the version at which the changes were counted last, and what was told.
    """

    def __init__(self, clock: Clock, scripts: Scripts, empty: tuple[Any, ...]) -> None:
        self.clock = clock
        self.scripts = scripts
        self.empty = empty
        self.hidden = ""
        self.streams = False
        self.settle: Any = None
        self.changes: Any = None
        self.state: Any = None
        self.libraries: set[str] = set()
        self.has_library: Any = None
        self.draws: dict[Any, int] = {}
        self.version = self._versions = 0
        self.counted: tuple[int, tuple[int, str]] = (-1, (0, ""))

    def touch(self) -> None:
        """Note that something in Redis may change now."""
        self.version = self._versions = self._versions + 1

    def is_as_at(self, version: int) -> None:
        """Note that nothing has changed since that version."""
        if self.counted[0] == self.version:
            self.counted = version, self.counted[1]
        self.version = version

    def changes_before(self, operation: Operation, version: int) -> tuple[int, str]:
        """What `changes` says, or has said of this version; nothing is asked where `changed` is known."""
        counted, told = self.counted
        if operation.always_changes and not self.hidden:
            return _ALWAYS
        return told if counted == version and not self.streams else self.changes()

    def changed(self, before: tuple[int, str]) -> bool:
        """Whether anything in the database is not as it was when `changes` said this."""
        if before is _ALWAYS:
            return True
        after = self.changes()
        self.counted = self.version, after
        return before[0] != after[0] and (before[1] != after[1] or not before[1])

    def moment(self, *asked: Any, chance: bool) -> str | int:
        """What a script is passed: the time, and a seed where chance counts, as the clock has it.

        Args:
            asked: the command, and the key or the script.
        """
        if not chance:
            return self.clock.now_ms
        actor = actor_here()
        who = actor.running_as if actor is not None else ""
        # who draws from a seed that is half of all away draws what is half of all away, time and again
        shift = self.clock.shift(self.clock.drew, who) if actor is not None else 0
        self.draws[who, *asked] = count = self.draws.get((who, *asked), 0) + 1
        return f"{self.clock.now_ms}:{(zlib.crc32(f':{count}'.encode()) + shift) % 2**32}"

    def own(self, library: str) -> bool:
        """Take a library for the run's own; False if it was there before."""
        if library not in self.libraries and self.has_library(library):
            return False
        self.libraries.add(library)
        return True


@functools.lru_cache(maxsize=512)
def plain(name: Any) -> bool:
    """True for a command that is sent as it is written, but for its times."""
    return word(name).partition(" ")[0] not in _SPECIAL


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
        name = args[0]
        if plain(name):
            return False, None
        first, _, second = word(name).partition(" ")
        second = second or (word(args[1]) if len(args) > 1 else "")
        if not first:
            raise refusal(
                "An empty command was sent: a server never answers it.", "Name a command."
            )
        if first in _BLOCK:
            raise refusal(
                f"{first} was sent by itself; the explorer cannot tell where its block ends.",
                "Use a pipeline: with redis.pipeline() as pipe: … pipe.execute().",
            )
        if first in _REPLICATED and _waits_for_ever(args):
            raise refusal(
                f"{first} without a timeout never ends: the explorer's server has no replica.",
                "Give it a timeout in ms, or put it to an experiment with a replica.",
            )
        if first in _BEYOND or (first in _ALLOWED and second not in _ALLOWED[first]):
            raise refused(f"{first} {second}" if first in _ALLOWED else first)
        if first in _BEYOND_WITH:
            option, begin = _BEYOND_WITH[first]
            options = itertools.takewhile(lambda one: one != "STREAMS", map(word, args[begin:]))
            if option in options:
                raise refused(f"{first} {option}")
        scripts = self.wiring.scripts
        if first == "SCRIPT":
            digests = args[1:] if " " in str(name) else args[2:]
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
        if plain(args[0]):
            return on_the_wire(args, wiring.clock.now_ms)
        return _special(args, wiring)

    def receive(
        self, args: tuple[Any, ...], sent: tuple[Any, ...], convert: Any, **options: Any
    ) -> Any:
        """The reply of a command that was sent."""
        try:
            reply = self.parse_response(self.wire, sent[0], **options)
        except ResponseError as error:
            if word(args[0]) != "XADD" or "equal or smaller" not in str(error):
                raise _as_seen(error, self.wiring) from None
            # the stream is ahead of the clock: the server takes the next id of the same moment
            transmit(self.wire, args)
            reply = self.parse_response(self.wire, args[0], **options)
        return _held(reply if convert is None else convert(reply))

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
            raise _as_seen(error, self.direct.wiring) from None
        return _held(reply if convert is None else convert(reply))

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
            raise _as_seen(error, wiring) from None
        told = [
            _as_seen(reply, wiring)
            if isinstance(reply, Exception)
            else _held(reply if convert is None else convert(reply))
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
    if not all(type(part) in _PLAIN_TYPES for part in args):  # True equals 1, and is sent otherwise
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
    if all(type(part) in _PLAIN_TYPES for part in args):
        return args
    return tuple(
        int(part) if isinstance(part, int) and not isinstance(part, bool) else part for part in args
    )


_MOST_PACKED = 1024
_packed: dict[tuple[Any, ...], Any] = {}


def note_times(args: tuple[Any, ...], wiring: Wiring) -> None:
    """Remember the moments, and the spans of time, that a command names: time may pass up to them."""
    wiring.clock.note(*args[1:])
    name = word(args[0])
    if name.endswith("TTL"):
        wiring.clock.watch_ends(exact="PTTL" in name)
    counted = 3 if name in _SCRIPTS else 2 if name == "HINCRBY" else 1  # a key, or a field
    wiring.clock.note_windows(*args[counted : counted + 1])
    for ms in idle_times(args, wiring):
        wiring.clock.span(ms / 1000)


def idle_times(args: tuple[Any, ...], wiring: Wiring) -> list[int]:
    """The idle times in ms that a command may wait for, as it claims what is pending."""
    name = word(args[0])
    if name in {"XAUTOCLAIM", "XCLAIM"}:
        asked = [args[4]]
    elif name in _SCRIPTS and wiring.scripts.reads_idle_times(digest_of(args[1])):
        asked = list(args[3:])
    else:
        return []
    return [int(value) for value in asked if word(value).isdigit() and int(value) > 1]


def _ageless(clients: Any) -> Any:
    """What CLIENT tells of connections, without what the machine's clock makes of them."""
    for one in clients if isinstance(clients, list) else [clients]:
        if isinstance(one, dict):
            one.update(dict.fromkeys(one.keys() & {"age", "idle"}, "0"))
    return clients


class HeldInfo(dict[str, Any]):
    """What INFO tells of the server, without what changes by itself.

    Raises:
        NotSteppableError: something else is asked for.
    """

    _STAYS = re.compile(
        r"(redis|valkey|server|os|arch|gcc|maxmemory|maxclients|aof_enabled|role|cluster_enabled"
        r"|connected_slaves|mem_allocator)(_(?!seconds|time).*)?"
    )

    def __init__(self, found: dict[str, Any]) -> None:
        super().__init__({k: v for k, v in found.items() if self._STAYS.fullmatch(k)})
        self._others = found.keys() - self.keys()

    def __missing__(self, key: str) -> Any:
        if key in self._others:
            raise refused(f"INFO's {key}")
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self or key in self._others else default


class SetInOrder(set[Any]):
    """A set of a reply, in the order of its members: Python has another one in each process."""

    __class__ = set  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__(), key=lambda one: (type(one).__name__, one)))

    def __repr__(self) -> str:
        return f"{{{', '.join(map(repr, self))}}}" if self else "set()"

    def pop(self) -> Any:
        one = next(iter(self), None)
        if not self:
            raise KeyError("pop from an empty set")
        self.remove(one)
        return one


def _in_order(name: str) -> Callable[..., Any]:
    plain = getattr(set, name)

    @functools.wraps(plain)
    def made(self: set[Any], *others: Any) -> Any:
        found = plain(self, *others)
        return SetInOrder(found) if type(found) is set else found

    return made


for _name in (
    "__and__", "__or__", "__sub__", "__xor__", "__rand__", "__ror__", "__rsub__", "__rxor__",
    "copy", "difference", "intersection", "symmetric_difference", "union",
):  # fmt: skip
    setattr(SetInOrder, _name, _in_order(_name))


def _held(reply: Any) -> Any:
    return SetInOrder(reply) if type(reply) is set else reply


def digest_of(script: Any) -> str:
    """The digest of a script, or of the text of one."""
    text = script.decode() if isinstance(script, bytes) else str(script)
    if len(text) == 40 and text.isalnum():
        return text
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _waits_for_ever(args: tuple[Any, ...]) -> bool:
    """Whether a WAIT asks for replicas, and has no timeout."""
    return len(args) > 2 and word(args[-2]) != "0" and word(args[-1]) == "0"


def refused(name: str) -> NotSteppableError:
    """What is said of a command that an exploration cannot have, whatever the code makes of it."""
    if name.endswith(" WITH"):
        return refusal(
            f"{name}{'VALUES' if name.startswith('H') else 'SCORES'} draws by the server's chance, which "
            "the explorer does not hold there.",
            "Draw without them, and ask for the values or scores of what was drawn.",
        )
    return refusal(
        f"{name.strip()} reaches beyond the database that the explorer sets back, or reads the machine's "
        "clock.",
        "Leave it out of the explored functions; put it to an experiment with a server of its own.",
    )


def _as_seen(error: Exception, wiring: Wiring) -> Exception:
    """An error of the server's as the client is to see it."""
    found = BEYOND.search(str(error))
    return refused(found[1]) if found else wiring.scripts.as_written(error)


def _overview(args: tuple[Any, ...], hidden: str) -> tuple[tuple[Any, ...], Any]:
    """KEYS, SCAN or DBSIZE without a key that is not the client's, and in an order that is no server's.

    KEYS come in the order of their names; of SCAN, which key is on which page goes by a digest of its
    name: what is there all the time comes once, whatever else comes and goes, as Redis has it.
    """

    def others(keys: Any) -> list[Any]:
        return sorted(key for key in keys if key not in (hidden, hidden.encode()))

    name = word(args[0])
    if name == "DBSIZE":
        return args, lambda count: count - bool(hidden)
    if name == "KEYS":
        return args, others
    options = list(args[2:])
    try:
        at = next(n for n in range(0, len(options) - 1, 2) if word(options[n]) == "COUNT")
        count = int(options.pop(at + 1))
        del options[at]
    except StopIteration:
        count = 10
    except ValueError:
        return args, None
    cursor = int(_text(args[1])) if len(args) > 1 and _text(args[1]).isdigit() else None
    if cursor is None or count < 1:  # the server says what is wrong
        return args, None

    def page(reply: Any) -> tuple[Any, list[Any]]:
        ranked = sorted((_rank(key), key) for key in others(reply[1]))
        rest = [one for one in ranked if one[0] >= cursor]
        begin = rest[count][0] if len(rest) > count else 0
        found = sorted(key for rank, key in rest if rank < begin or not begin)
        kind = type(reply[0])
        return (str(begin).encode() if kind is bytes else kind(begin)), found

    return (args[0], 0, *options, "COUNT", SCANNED), page


def _rank(key: Any) -> int:
    sent = key if isinstance(key, bytes) else str(key).encode(errors="surrogateescape")
    return int(hashlib.sha1(sent, usedforsecurity=False).hexdigest()[:12], 16) + 1


def _text(part: Any) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else str(part)


def _library_of(code: Any) -> str:
    """The name of a library of functions, from its first line."""
    found = re.match(r"#!.*?\bname=(\S+)", _text(code), re.IGNORECASE)
    return found[1] if found else ""


def _special(args: tuple[Any, ...], wiring: Wiring) -> tuple[tuple[Any, ...], Any]:
    name, now_ms = word(args[0]), wiring.clock.now_ms
    if name == "FUNCTION" and len(args) > 1:
        name = f"FUNCTION {word(args[1])}"
    if name in _SCRIPTS:
        evaluates = name.startswith("EVAL") and not name.startswith("EVALSHA")
        digest = wiring.scripts.load(args[1]) if evaluates else args[1]
        if wiring.scripts.reads_idle_times(digest):
            wiring.streams = True
            wiring.settle()
        by_digest = "EVALSHA_RO" if name.endswith("_RO") else "EVALSHA"
        moment = wiring.moment("EVAL", str(digest), chance=wiring.scripts.draws(digest))
        return (by_digest, wiring.scripts.wrapped(digest), *args[2:], moment), None
    if name in _DRAWN:
        script = wiring.scripts.wrapped(wiring.scripts.load(_DRAW))
        return (
            "EVALSHA",
            script,
            1,
            *args[1:2],
            *args[:1],
            *args[2:],
            wiring.moment(name, *map(str, args[1:2]), chance=True),
        ), None
    if name == "RANDOMKEY":
        script = wiring.scripts.wrapped(wiring.scripts.load(_DRAW_KEY))
        return ("EVALSHA", script, 0, wiring.moment(name, chance=True)), None
    if (
        name in _REPLICATED and len(args) > 2
    ):  # what comes in time from the replicas that there are: nothing
        return (*args[:-2], 0, *args[-1:]), None
    if name == "INFO":
        return args, lambda found: HeldInfo(found) if isinstance(found, dict) else found
    if name.startswith("CLIENT"):
        return args, _ageless
    if name in _OVERVIEWS:
        return _overview(args, wiring.hidden)
    if name in _FUNCTIONS:
        return (*args, wiring.moment(name, *map(str, args[1:2]), chance=True)), None
    if name == "FUNCTION LOAD":
        library = _library_of(args[-1])
        if not wiring.own(library) and "REPLACE" in map(word, args[1:-1]):
            raise refused(f"FUNCTION LOAD REPLACE of {library!r}, which was there before,")
        return (*args[:-1], wiring.scripts.library(args[-1])), None
    if name == "FUNCTION DELETE" and not wiring.own(_text(args[-1])):
        raise refused(f"FUNCTION DELETE of {args[-1]!r}, which was there before,")
    if name == "FLUSHDB":
        return wiring.empty, lambda _: True
    if name == "XREADGROUP":
        wiring.streams = True
    elif name in _IDLE and wiring.streams:
        wiring.settle()
    return on_the_wire(args, now_ms)
