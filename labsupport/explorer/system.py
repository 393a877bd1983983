"""The system under test: a server and a database, the clients' seats, and the way back to the start."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redis.exceptions import ResponseError

from labsupport.errors import InvalidSettingError
from labsupport.explorer.clients.direct_redis import DirectRedis
from labsupport.explorer.clients.sql_steps import SqlSteps
from labsupport.explorer.clients.stepped_redis import SteppedRedis
from labsupport.explorer.operations import Operation
from labsupport.explorer.testbed import Session, Testbed

__all__ = ["Seat", "System"]

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


class Seat:
    """What one client is handed: a Redis client and a database session, both stepped."""

    def __init__(self, testbed: Testbed) -> None:
        self.steps = SqlSteps()
        self.redis = SteppedRedis(testbed.client())
        self.db: Session = testbed.session(self.steps)

    def close(self) -> None:
        """End both connections."""
        self.redis.hang_up()
        self.db.close()


class System:
    """A testbed, ready to be explored; one exploration at a time.

    Args:
        testbed: the server and the database; they end with the system.
    """

    def __init__(self, testbed: Testbed) -> None:
        self._testbed = testbed
        self.redis = DirectRedis(testbed.client())
        self.db = testbed.db
        self._keys: dict[tuple[Any, ...], list[tuple[str, list[str]]]] = {}
        self._expirable = self.redis.register_script(_EXPIRABLE)
        self._empty = self.redis.script_load(_EMPTY)
        self._seats: list[Seat] = []
        self._lock = threading.Lock()

    def seats(self, count: int) -> list[Seat]:
        """A seat for each of `count` clients; kept for the next exploration."""
        while len(self._seats) < count:
            self._seats.append(Seat(self._testbed))
        return self._seats[:count]

    @property
    def busy(self) -> bool:
        """True while an exploration is running."""
        return self._lock.locked()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Refuse a second exploration at the same time, from a thread or from within a client."""
        if not self._lock.acquire(blocking=False):
            raise InvalidSettingError(
                "Another exploration is running in this kernel.",
                "Let it end, or interrupt it; then run the cell again.",
            )
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
        server = self._testbed.server_pid
        if server is None or not hasattr(os, "sched_setaffinity"):
            yield
            return
        before = os.sched_getaffinity(0)
        core = int(Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()[36])
        try:
            os.sched_setaffinity(0, {core})
            os.sched_setaffinity(server, {core})
            yield
        finally:
            os.sched_setaffinity(0, before)
            with suppress(ProcessLookupError):
                os.sched_setaffinity(server, before)

    @property
    def alive(self) -> bool:
        """False when the server or the database is gone."""
        try:
            return bool(self.redis.ping()) and self._testbed.alive
        except Exception:
            return False

    def reset(self) -> None:
        """An empty Redis, and the database as it was."""
        self.redis.execute_command("EVALSHA", self._empty, 0, self._testbed.kept_key)
        self._testbed.restore()

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

    def no_op(self, operation: Operation) -> bool:
        """True when a step that was taken changed nothing: it only read, or it was refused."""
        if operation.refused:
            return True
        effects = operation.effects(self.keys_of)
        return not effects.writes and not effects.everything

    def close(self) -> None:
        """End the connections, and give back the testbed."""
        for seat in self._seats:
            seat.close()
        self.redis.hang_up()
        self._testbed.close()
