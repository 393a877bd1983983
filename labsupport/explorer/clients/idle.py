"""How long the entries of streams are pending, on the explorer's clock.

The server counts the idle time of an entry by the machine's clock. Here each entry gets an idle time far
beyond what a run takes, on a coarse scale (`labsupport.explorer.clients.server_time`): so a slow machine
makes no entry older, and one that was delivered since is recognized by being young.
"""

from labsupport.explorer.clients.direct_redis import DirectRedis
from labsupport.explorer.clients.server_time import IDLE_BASE_MS, scaled_idle
from labsupport.explorer.clock import Clock

__all__ = ["IdleTimes"]

# Returns the pending entries of all groups, as {stream, group, id, consumer, idle ms}; not those whose
# entry was deleted, as a claim would remove them. KEYS, ARGV: none.
_PENDING = """
local found, cursor = {}, '0'
repeat
  local page = redis.call('SCAN', cursor, 'COUNT', 1000, 'TYPE', 'stream')
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    for _, group in ipairs(redis.call('XINFO', 'GROUPS', key)) do
      for _, one in ipairs(redis.call('XPENDING', key, group[2], '-', '+', 10000)) do
        if #redis.call('XRANGE', key, one[1], one[1]) > 0 then
          found[#found + 1] = {key, group[2], one[1], one[2], one[3]}
        end
      end
    end
  end
until cursor == '0'
return found
"""


class IdleTimes:
    """Keeps the idle times of one system's streams.

    Args:
        redis: a connection of the explorer.
        clock: of the exploration.
    """

    def __init__(self, redis: DirectRedis, clock: Clock) -> None:
        self._redis = redis
        self._clock = clock
        self._delivered: dict[tuple[str, str, str], int] = {}  # in ms, on the clock

    def restart(self) -> None:
        """Forget what an earlier run has delivered."""
        self._delivered.clear()

    def settle(self) -> None:
        """Give each pending entry the idle time that it has on the clock."""
        now = self._clock.now_ms
        for key, group, entry, consumer, idle in self._redis.raw("EVAL", _PENDING, 0):
            name = (key, group, entry)
            if idle < IDLE_BASE_MS // 2:  # delivered since
                self._delivered[name] = now
            since = now - self._delivered.get(name, now)
            kept = IDLE_BASE_MS if since == 0 else scaled_idle(since)
            self._redis.raw("XCLAIM", key, group, consumer, 0, entry, "IDLE", kept, "JUSTID")

    def moments_us(self) -> list[int]:
        """When the pending entries were delivered, in microseconds on the clock."""
        return [delivered * 1000 for delivered in self._delivered.values()]
