"""The server and the database that an exploration uses, and their way back to the start."""

import atexit
import functools
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redis.exceptions import ResponseError

from labsupport.database import Database, open_shop
from labsupport.errors import InvalidSettingError
from labsupport.explore.direct_redis import DirectRedis
from labsupport.explore.operations import Operation
from labsupport.explore.stepped_database import SteppedDatabase
from labsupport.explore.stepped_redis import SteppedRedis
from labsupport.servers import OWNER_KEY, open_redis

__all__ = ["Bench", "close_bench", "open_bench"]

# Returns those of the named keys (or keys that match a pattern) that have a time to live, sorted.
# KEYS: none; ARGV: names or glob patterns.
_EXPIRABLE = """
local found = {}
for _, pattern in ipairs(ARGV) do
  local names = {pattern}
  if string.find(pattern, '[*?%[]') then
    names = redis.call('KEYS', pattern)
  end
  for _, name in ipairs(names) do
    if redis.call('PTTL', name) > 0 then found[#found + 1] = name end
  end
end
table.sort(found)
return found
"""

# Deletes every key of the database, which is the lab's own, but its mark of ownership. FLUSHDB takes
# ten times as long on a small database. KEYS: none; ARGV[1]: the key to keep.
_EMPTY = """
local cursor = '0'
repeat
  local page = redis.call('SCAN', cursor, 'COUNT', 1000)
  cursor = page[1]
  for _, name in ipairs(page[2]) do
    if name ~= ARGV[1] then redis.call('DEL', name) end
  end
until cursor == '0'
"""


class Bench:
    """A Redis of the explorer's own (or an empty database of REDIS_URL's), and a copy of the shop."""

    def __init__(self) -> None:
        self._endpoint = open_redis()
        self.url = self._endpoint.url
        self.redis = DirectRedis(self.url)
        self.db: Database = open_shop()
        self.db.snapshot()
        self._keys: dict[tuple[Any, ...], list[tuple[str, list[str]]]] = {}
        self._expirable = self.redis.register_script(_EXPIRABLE)
        self._empty = self.redis.script_load(_EMPTY)
        self._seats: list[tuple[SteppedRedis, SteppedDatabase]] = []
        self._lock = threading.Lock()

    def seats(self, count: int) -> list[tuple[SteppedRedis, SteppedDatabase]]:
        """A client and a session for each of `count` clients; kept for the next exploration."""
        while len(self._seats) < count:
            session = self.db.session(cls=SteppedDatabase, busy_seconds=0)
            self._seats.append((SteppedRedis(self.url), session))
        return self._seats[:count]

    @property
    def busy(self) -> bool:
        """True while an exploration is running."""
        return self._lock.locked()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Refuse a second exploration at the same time, from a thread or from within a client."""
        if not self._lock.acquire(blocking=False):
            raise _busy()
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def one_core(self) -> Iterator[None]:
        """Keep this thread and the lab's server on one core: they take turns, and never work at once.

        A round trip between two sleeping cores costs several times one that stays on a core (here
        108 µs against 17 µs). Only where the system can do it (Linux), and only with a server that
        is ours.
        """
        server = self._endpoint.server
        if server is None or not hasattr(os, "sched_setaffinity"):
            yield
            return
        before = os.sched_getaffinity(0)
        core = int(Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()[36])
        try:
            os.sched_setaffinity(0, {core})
            os.sched_setaffinity(server.pid, {core})
            yield
        finally:
            os.sched_setaffinity(0, before)
            with suppress(ProcessLookupError):
                os.sched_setaffinity(server.pid, before)

    @property
    def alive(self) -> bool:
        """False when the server or the database is gone."""
        try:
            return bool(self.redis.ping()) and self.db.fetch_one("SELECT 1 AS one") is not None
        except Exception:
            return False

    def reset(self) -> None:
        """An empty Redis, and the database as it was."""
        self.redis.execute_command("EVALSHA", self._empty, 0, OWNER_KEY)
        self.db.restore()

    def expirable(self, patterns: Sequence[str]) -> list[str]:
        """The keys among `patterns` that have a time to live."""
        return list(self._expirable(args=patterns)) if patterns else []

    def expire(self, key: str) -> None:
        """Let a key's time to live end now, as the server does it."""
        self.redis.pexpire(key, 0)

    def keys_of(self, args: tuple[Any, ...]) -> list[tuple[str, list[str]]]:
        """The keys of a command and what it does to each, as the server sees it."""
        known = self._keys.get(args)
        if known is None:
            try:
                # past `foreign_use_noticed`: a client's step may be what asks
                wire = self.redis.wire or self.redis.dial()
                wire.send_command("COMMAND", "GETKEYSANDFLAGS", *args)
                found = wire.read_response()
            except ResponseError:  # the command has no keys
                found = []
            known = self._keys[args] = [(str(key), list(flags)) for key, flags in found]
        return known

    def vain(self, operation: Operation) -> bool:
        """True when a step that was taken changed nothing: it only read, or it was refused."""
        if operation.refused:
            return True
        effects = operation.effects(self.keys_of)
        return not effects.writes and not effects.everything

    def close(self) -> None:
        """End the connections, the database and, if it is ours, the server."""
        for client, session in self._seats:
            client.hang_up()
            session.close()
        self.redis.hang_up()
        self.db.close()
        self._endpoint.close()


@functools.cache
def _shared() -> list[Bench]:
    return []


def open_bench() -> Bench:
    """The bench of this process; made when first needed, and anew when its server is gone."""
    benches = _shared()
    if benches and benches[-1].busy:
        raise _busy()
    if benches and not benches[-1].alive:
        close_bench()
    if not benches:
        benches.append(Bench())
        atexit.register(close_bench)
    return benches[-1]


def close_bench() -> None:
    """Give back what the bench of this process has; the next exploration makes a new one.

    Raises:
        InvalidSettingError: an exploration is running.
    """
    benches = _shared()
    if benches and benches[-1].busy:
        raise _busy()
    for bench in list(benches):
        with suppress(Exception):  # its server may be gone, and with it what was to be closed
            bench.close()
    benches.clear()


def _busy() -> InvalidSettingError:
    return InvalidSettingError(
        "Another exploration is running in this kernel.",
        "Let it end, or interrupt it; then run the cell again.",
    )
