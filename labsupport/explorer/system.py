"""The system under test: a server and a database, the clients' seats, and the way back to the start."""

import hashlib
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from greenlet import getcurrent
from redis.commands.core import AsyncScript, Script
from redis.exceptions import RedisError, ResponseError

from labsupport.errors import InvalidSettingError
from labsupport.explorer.clients.direct_redis import DirectRedis
from labsupport.explorer.clients.stepped_redis import SteppedRedis
from labsupport.explorer.clock import Clock
from labsupport.explorer.commands.questions import DEADLINES, EMPTY, EXPIRABLE, STATE, VALUES
from labsupport.explorer.commands.scripts import Scripts, names_its_keys
from labsupport.explorer.commands.sent import idle_times, note_times
from labsupport.explorer.commands.server_time import IdleTimes, word
from labsupport.explorer.commands.wiring import Wiring
from labsupport.explorer.operations import EVERYTHING, Effects, Operation, asks_clock
from labsupport.explorer.own.sql_steps import SqlSteps
from labsupport.explorer.own.wires import Wires, reserve
from labsupport.explorer.replay import Replay
from labsupport.explorer.stand_ins.host import Host
from labsupport.explorer.testbed import Session, Testbed

__all__ = ["Seat", "System"]

_HARDLY_NS = 10_000_000  # as much as one slice of a core
_BY_TIME = ("TIME", "XAUTOCLAIM", "XCLAIM", "XPENDING")
_SCRIPTED = ("EVAL", "FCALL")

_EXPLORING = threading.Lock()


class Seat:
    """What one client is handed: a Redis client and a database session, both stepped."""

    def __init__(self, testbed: Testbed, wiring: Wiring, admin: DirectRedis) -> None:
        self.steps = SqlSteps()
        client = testbed.client()
        reserve(client.connection_pool)
        self.redis = SteppedRedis(client, wiring, admin)
        self.db: Session = testbed.session(self.steps)

    def close(self) -> None:
        """End both connections."""
        self.redis.hang_up()
        self.db.close()


class System:
    """A testbed, ready to be explored; one exploration at a time.

    Args:
        testbed: the server and the database; they end with the system.

    Attributes:
        clock: of the exploration that is running.
        wires: what the clients that the code makes itself are connected by.
    """

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self._server_ran_ns = 0
        self._cores = set[int]()  # that this thread may use, and on one of which it is kept
        self.clock = Clock()
        self._wiring = Wiring(self.clock, Scripts(self._load, testbed.kept_key), ())
        client = testbed.client()
        reserve(client.connection_pool)
        self.redis = DirectRedis(client, self._wiring)
        self.wires = Wires(self.redis)
        self._expirable = self._load(EXPIRABLE)
        self._empty = ("EVALSHA", self._load(EMPTY), 0, testbed.kept_key)
        self._deadlines = self._load(DEADLINES)
        self._values = self._load(VALUES)
        self._wiring.empty = self._empty
        self._wiring.changes = self.changes
        self._state = self._load(STATE)
        self._wiring.state = self.state
        self._wiring.has_library = self._has_library
        self.db = testbed.db
        self._keys: dict[tuple[Any, ...], list[tuple[str, list[str]]]] = {}
        self._ends: tuple[int, list[int]] = (-1, [])
        self._noted: Any = None
        self._told: dict[tuple[Any, ...], tuple[int, Any]] = {}
        self._seats: list[Seat] = []
        self.begin(self.clock)

    def _load(self, script: str) -> str:
        return str(self.redis.raw("SCRIPT", "LOAD", script))

    def begin(self, clock: Clock) -> None:
        """Begin an exploration under a clock."""
        self.clock = self._wiring.clock = clock
        self.host = Host(clock)
        self._idle = IdleTimes(self.redis.raw, clock)
        self._wiring.settle = self._idle.settle
        self._wiring.streams = False
        kept = self._testbed.kept_key
        self._wiring.hidden = kept if kept and self.redis.raw("EXISTS", kept) else ""
        self.wires.begin()

    def seats(self, count: int) -> list[Seat]:
        """A seat for each of `count` clients; kept for the next exploration."""
        while len(self._seats) < count:
            self._seats.append(Seat(self._testbed, self._wiring, self.redis))
        return self._seats[:count]

    @contextmanager
    def hosting(self, *, after: bool = False) -> Iterator[None]:
        """Let `given`, or after a run the invariant, read the explorer's clock."""
        here: Any = getcurrent()
        here.timekeeper = self.host
        self.host.advance = self.advance if after else None
        try:
            yield
        finally:
            del here.timekeeper

    @staticmethod
    @contextmanager
    def alone() -> Iterator[None]:
        """Refuse a second exploration at the same time, from a thread or from within a client.

        What stands for clocks and chance does so in all of the process, whatever the system.
        """
        if _EXPLORING.locked():
            Replay.end()
        if not _EXPLORING.acquire(blocking=False):
            raise InvalidSettingError(
                "Another exploration is running in this process.",
                "Let it end, or interrupt it; then run this again. Two at once take two processes.",
            )
        try:
            yield
        finally:
            _EXPLORING.release()

    @contextmanager
    def one_core(self) -> Iterator[None]:
        """Keep this thread and the lab's server on one core: they take turns, and never work at once.

        A round trip between two sleeping cores costs several times one that stays on a core (here
        108 µs against 17 µs). Only where the system can do it (Linux), and only with a server that
        is ours.
        """
        server = self._testbed.server_pid
        if server is None or not hasattr(os, "sched_setaffinity"):
            yield
            return
        before = self._cores = os.sched_getaffinity(0)
        core = int(Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()[36])
        try:
            os.sched_setaffinity(0, {core})
            os.sched_setaffinity(server, {core})
            yield
        finally:
            os.sched_setaffinity(0, before)
            with suppress(ProcessLookupError):
                os.sched_setaffinity(server, before)

    def relieve_server(self) -> bool:
        """Move the server to another core, if it has work and got neither core nor disk since it was asked.

        Linux has let one wait for seconds on the core that it shares with others.

        Returns:
            Whether it was so.
        """
        server = self._testbed.server_pid
        try:
            state = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[0]
            ran_ns = int(Path(f"/proc/{server}/schedstat").read_text().split()[0])
        except (OSError, ValueError):  # no Linux, or no server of ours
            return False
        before, self._server_ran_ns = self._server_ran_ns, ran_ns
        starved = state in {"R", "D"} and ran_ns - before < _HARDLY_NS
        if starved and server is not None:
            with suppress(OSError):
                os.sched_setaffinity(
                    server, self._cores - os.sched_getaffinity(server) or self._cores
                )
        return starved

    @property
    def alive(self) -> bool:
        """False when the server or the database is gone."""
        try:
            return bool(self.redis.ping()) and self._testbed.alive
        except Exception:
            return False

    def reset(self) -> None:
        """An empty Redis, the database as it was, and the clock at its first moment."""
        self.wires.restart()
        self.forget_libraries()
        self._wiring.draws.clear()
        self._wiring.scripts.restart()
        self.redis.raw(*self._empty)
        self._wiring.touch()
        self._testbed.restore()
        self.clock.restart()
        if self._wiring.streams:
            self._idle.restart()
        self.host.restart()

    def _has_library(self, name: str) -> bool:
        return bool(self.redis.raw("FUNCTION", "LIST", "LIBRARYNAME", name))

    def forget_libraries(self) -> None:
        """Functions belong to the whole server: what a run has loaded ends with it."""
        for name in sorted(self._wiring.libraries):
            with suppress(ResponseError):  # the run has deleted it
                self.redis.raw("FUNCTION", "DELETE", name)
        self._wiring.libraries.clear()

    def expirable(self, patterns: Sequence[str]) -> list[list[str]]:
        """What has a time to live: a key among `patterns`, or such a key and a field of its hash."""
        return list(self._now("EVALSHA", self._expirable, 0, *patterns)) if patterns else []

    def expire(self, key: str, field: str | None = None) -> None:
        """Let the time to live of a key, or of a field of its hash, end now, as the server does it."""
        self._wiring.touch()
        if field is None:
            self.redis.raw("PEXPIRE", key, 0)
        else:
            self.redis.raw("HDEL", key, field)

    def deadlines_us(self, effects: Effects = EVERYTHING) -> list[int]:
        """When keys and fields of hashes end, in microseconds since 1970.

        Args:
            effects: only of the keys that a step with these reads or writes.
        """
        if effects.everything:
            return self._all_deadlines_us()
        keys = sorted(effects.reads | effects.writes)
        names = [name.removeprefix("key:") for name in keys if name.startswith("key:")]
        return self._ask_for_deadlines(names) if names else []

    def _all_deadlines_us(self) -> list[int]:
        version, known = self._ends
        if version != self._wiring.version or any(end <= self.clock.now_us for end in known):
            known = self._ask_for_deadlines([])
            self._ends = self._wiring.version, known
        return list(known)

    def _ask_for_deadlines(self, names: list[str]) -> list[int]:
        """The deadlines of these keys, or of all; what is over ends."""
        ended, found = self.redis.raw("EVALSHA", self._deadlines, 0, self.clock.now_ms, *names)
        if ended:
            self._wiring.touch()
        return [moment * 1000 for moment in found]

    def note_idle_times(self, operation: Operation) -> None:
        """Remember for how long a step waits for another's entry to be idle."""
        if self._wiring.streams and operation.kind == "redis":
            for args in operation.commands:
                self.clock.idle_ms.update(idle_times(args, self._wiring))

    def asks_time(self, operation: Operation) -> bool:
        """Whether what a step does may depend on the server's clock, or on how long entries are pending."""
        names = [word(args[0]) for args in operation.commands if operation.kind == "redis"]
        timed = self._wiring.scripts.asks_time or self._wiring.streams
        by_time = (*_BY_TIME, *_SCRIPTED) if timed else _BY_TIME
        return any(name.startswith(by_time) for name in names)

    def ends_us(self) -> list[int]:
        """When keys end, and when entries that are pending may be claimed."""
        ends = self.deadlines_us()
        if self._wiring.streams:
            self._idle.settle()
            ends += self.clock.ends_of(self._idle.moments_us())
        return ends

    def moments_us(self) -> list[int]:
        """What is known to the server of the moments at which something changes."""
        moments = self.deadlines_us()
        for unit in self._wiring.scripts.asks_ttl:
            self.clock.watch_ends(exact=bool(unit))
        moments += self.clock.before(moments)
        self._note_what_scripts_made()
        if self._wiring.streams:
            self._idle.settle()
            for moment in self._idle.moments_us():
                self.clock.note(str(moment))
        return moments

    def _note_what_scripts_made(self) -> None:
        """Remember the moments in what is in Redis: a script names windows, and reckons when they end."""
        scripts = self._wiring.scripts
        noted = self._wiring.version, self.clock.now_us, scripts.asks_time, scripts.ran
        if noted == self._noted:
            return
        self._noted = noted
        if scripts.asks_time:
            self.clock.note_windows(*self._now("KEYS", "*"))
        if scripts.ran:
            self.clock.note_later(*self._now("EVALSHA", self._values, 0))

    def _now(self, *args: Any) -> Any:
        """What a command that only reads tells of this version of the data."""
        version, reply = self._told.get(args, (-1, None))
        if version != self._wiring.version:
            reply = self.redis.raw(*args)
            self._told[args] = self._wiring.version, reply
        return reply

    def note_times(self, operation: Operation) -> None:
        """Remember the moments, and the spans of time, that a step names."""
        for args in operation.commands:
            if operation.kind == "redis":
                note_times(args, self._wiring)
            else:
                self.clock.note(*args)
                self.clock.database = self.clock.database or asks_clock(args[0])

    def advance(self, moment_us: int) -> None:
        """Let time pass: keys end, and pending entries are idle for longer."""
        if self._wiring.streams:
            self._idle.settle()
        self.clock.now_us = moment_us
        self.deadlines_us()
        if self._wiring.streams:
            self._idle.settle()

    def changes(self) -> tuple[int, str]:
        """How many changes the server has made to its data; on one that others use, a digest of this."""
        info = self.redis.raw("INFO", "persistence")
        text = info.decode() if isinstance(info, bytes) else str(info)
        count = int(text.partition("rdb_changes_since_last_save:")[2].split()[0])
        return count, self.state() if self._wiring.hidden else ""

    def state(self) -> str:
        """A digest of what is in Redis, and of when it ends."""
        return str(self.redis.raw("EVALSHA", self._state, 0))

    def keys_of(self, args: tuple[Any, ...]) -> list[tuple[str, list[str]]]:
        """The keys of a command and what it does to each, as the server sees it.

        Where it may touch more than those, `*` is one of them, or there is none.
        """
        known = self._keys.get(args)
        if known is None:
            try:
                found = self.redis.raw("COMMAND", "GETKEYSANDFLAGS", *args)
            except ResponseError:  # the command has no keys
                found = []
            known = [(str(key), list(flags)) for key, flags in found]
            if self._reaches_further(args):
                reads = word(args[0]).endswith("_RO") or word(args[0]) == "SORT"
                known = [*known, ("*", ["RO"])] if reads else []
            self._keys[args] = known
        return known

    def _reaches_further(self, args: tuple[Any, ...]) -> bool:
        """Whether a command may touch keys that it does not name."""
        name = word(args[0])
        if name in {"SORT", "SORT_RO"}:
            return not {"BY", "GET"}.isdisjoint(map(word, args[2:]))
        if name.startswith("EVAL"):
            text = self._wiring.scripts.text(args[1]) if name.startswith("EVALSHA") else args[1]
            return not names_its_keys(text.decode() if isinstance(text, bytes) else str(text))
        return name.startswith("FCALL")

    def no_op(self, operation: Operation) -> bool:
        """True when a step that was taken changed nothing: it only read, or it was refused."""
        if operation.refused:
            return True
        effects = operation.effects(self.keys_of)
        return not effects.writes and not effects.everything

    def named_scripts(self, namespaces: Sequence[dict[str, Any]]) -> dict[str, str]:
        """The names that scripts have in the learner's code, by their text and by their digest."""
        found: dict[str, str] = {}
        for namespace in namespaces:
            for name, value in list(namespace.items()):
                kind = type(value)  # a stand-in is not asked what it stands for
                text = value.script if issubclass(kind, Script | AsyncScript) else value
                if issubclass(type(text), str) and "redis.call" in text:
                    digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
                    found[text] = found[digest] = name.lower().strip("_")
        return found

    def contents(self) -> dict[str, Any]:
        """What is in Redis, by key, as text."""
        return {
            _shown(key): _shown(self._content(key))
            for key in sorted(self.redis.raw("KEYS", "*"))
            if key != self._testbed.kept_key
        }

    def rows(self, tables: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        """The committed rows of tables, for a database that has `fetch_all`."""
        if not hasattr(self.db, "fetch_all"):
            return {}
        return {name: self.db.fetch_all(f"SELECT * FROM {name}") for name in sorted(tables)}

    def _content(self, key: str) -> Any:
        match self.redis.raw("TYPE", key):
            case "string":
                return self.redis.raw("GET", key)
            case "hash":
                return _pairs(self.redis.raw("HGETALL", key))
            case "list":
                return self.redis.raw("LRANGE", key, 0, -1)
            case "set":
                return sorted(self.redis.raw("SMEMBERS", key))
            case "zset":
                scores = _pairs(self.redis.raw("ZRANGE", key, 0, -1, "WITHSCORES"))
                return [(member, float(score)) for member, score in scores.items()]
            case "stream":
                entries = self.redis.raw("XRANGE", key, "-", "+")
                return [(entry, _pairs(fields)) for entry, fields in entries]
        return None

    def close(self) -> None:
        """End the connections, and give back the testbed."""
        for seat in self._seats:
            seat.close()
        self.wires.close()
        with suppress(RedisError):  # a server that is gone has no libraries
            self.forget_libraries()
        self.redis.hang_up()
        self._testbed.close()


def _pairs(reply: Any) -> dict[str, Any]:
    """A reply of names and values, in either protocol, as a dict."""
    if isinstance(reply, dict):
        return reply
    if reply and isinstance(reply[0], list):
        return dict(reply)
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _shown(value: Any) -> Any:
    """A value whose texts can be printed."""
    if isinstance(value, str):
        return value.encode(errors="surrogateescape").decode(errors="backslashreplace")
    if isinstance(value, list | tuple):
        return type(value)(_shown(one) for one in value)
    if isinstance(value, dict):
        return {_shown(key): _shown(one) for key, one in value.items()}
    return value
