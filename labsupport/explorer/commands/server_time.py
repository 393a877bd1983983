"""What goes over the wire in place of commands that depend on the server's clock.

A time to live is sent as the moment at which it ends, and read back as what is left of it; TIME, the
ids of streams and idle times follow the explorer's clock. So no key ends, and no entry is idle long
enough, because the machine was slow.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

from labsupport.explorer.clock import Clock

__all__ = ["IDLE_BASE_MS", "IDLE_SCALE", "IdleTimes", "on_the_wire"]

Arguments = tuple[Any, ...]
Convert = Callable[[Any], Any] | None
Wire = tuple[Arguments, Convert]

IDLE_BASE_MS = 1_000_000_000
"""Pending entries are kept this much idler than they are, see `IdleTimes`."""
IDLE_SCALE = 1_000
"""… and each of their milliseconds counts as so many, so that a slow machine adds none."""
_SLOW_MS = 60
"""… but for a few, where the machine takes a minute for what is between two steps."""

_MS = {"EX": 1000, "PX": 1}
_MOMENT_MS = {"EXAT": 1000, "PXAT": 1}
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
_PAST = 1  # a moment that is over on any clock


def on_the_wire(args: Arguments, now_ms: int) -> Wire:
    """The command to be sent, and what makes the reply that the client is to see (None: as it is)."""
    change = _change(args[0])
    if change is None:
        return args, None
    try:
        return change(args, now_ms)
    except (ValueError, TypeError, IndexError):  # the server says what is wrong with it
        return args, None


@functools.lru_cache(maxsize=512)
def _change(name: Any) -> "Callable[[Arguments, int], Wire] | None":
    return _CHANGES.get(word(name))


def word(part: Any) -> str:
    """An argument as a word of a command."""
    if type(part) is str:  # nearly always
        return part.upper()
    return (part.decode(errors="replace") if isinstance(part, bytes) else str(part)).upper()


def _whole(part: Any) -> int:
    """A number as the server reads it: in digits, nothing else.

    Raises:
        ValueError: the server will say so itself.
    """
    if isinstance(part, float):
        raise ValueError("a fraction, and if it were 60.0")
    if isinstance(part, str | bytes) and not re.fullmatch(r"-?\d+", word(part)):
        raise ValueError("no whole number")
    return int(part)


def _options(args: Arguments, begin: int, end: int, now_ms: int) -> Arguments:
    """EX, PX, EXAT and PXAT between two places, as PXAT."""
    sent = list(args)
    for at in range(begin, end - 1):
        name = word(args[at])
        if name in _MS and _whole(args[at + 1]) > 0:
            sent[at : at + 2] = "PXAT", now_ms + _whole(args[at + 1]) * _MS[name]
        elif name in _MOMENT_MS and 0 < _whole(args[at + 1]) * _MOMENT_MS[name] <= now_ms:
            sent[at : at + 2] = "PXAT", _PAST
    return tuple(sent)


def _set(args: Arguments, now_ms: int) -> Wire:
    return (_options(args, 3, len(args), now_ms) if len(args) > 3 else args), None


def _getex(args: Arguments, now_ms: int) -> Wire:
    return _options(args, 2, len(args), now_ms), None


def _field_options(args: Arguments, now_ms: int) -> Wire:
    fields = next(at for at, part in enumerate(args) if word(part) == "FIELDS")
    return _options(args, 2, fields, now_ms), None


def _setex(args: Arguments, now_ms: int) -> Wire:
    factor = 1 if word(args[0]) == "PSETEX" else 1000
    if _whole(args[2]) <= 0:
        return args, None
    return ("SET", args[1], args[3], "PXAT", now_ms + _whole(args[2]) * factor), None


def _expire(args: Arguments, now_ms: int) -> Wire:
    """EXPIRE, PEXPIRE and those of hash fields, as PEXPIREAT or HPEXPIREAT."""
    name = word(args[0])
    factor = 1 if "PEXPIRE" in name else 1000
    if _whole(args[2]) <= 0:
        return args, None
    later = "HPEXPIREAT" if name.startswith("H") else "PEXPIREAT"
    return (later, args[1], now_ms + _whole(args[2]) * factor, *args[3:]), None


def _expire_at(args: Arguments, now_ms: int) -> Wire:
    factor = 1 if "PEXPIRE" in word(args[0]) else 1000
    if _whole(args[2]) * factor <= now_ms:
        return (args[0], args[1], _PAST, *args[3:]), None
    return args, None


def _ttl(args: Arguments, now_ms: int) -> Wire:
    name = word(args[0])
    exact = "PTTL" in name

    def left(moment: Any) -> Any:
        if isinstance(moment, list):
            return [left(one) for one in moment]
        if not isinstance(moment, int) or moment < 0:
            return moment
        rest = max(moment - now_ms, 0)
        return rest if exact else (rest + 500) // 1000

    return ("HPEXPIRETIME" if name.startswith("H") else "PEXPIRETIME", *args[1:]), left


def _restore(args: Arguments, now_ms: int) -> Wire:
    ms = _whole(args[2])
    if "ABSTTL" in map(word, args[4:]):
        return (args if ms > now_ms or ms <= 0 else (*args[:2], _PAST, *args[3:])), None
    return (args if ms <= 0 else (*args[:2], now_ms + ms, *args[3:], "ABSTTL")), None


def _msetex(args: Arguments, now_ms: int) -> Wire:
    return _options(args, 2 + 2 * _whole(args[1]), len(args), now_ms), None


def _time(args: Arguments, now_ms: int) -> Wire:
    return args, lambda _: (now_ms // 1000, now_ms % 1000 * 1000)


def _xadd(args: Arguments, now_ms: int) -> Wire:
    at = 2
    while word(args[at]) in _XADD_OPTIONS:
        at += _XADD_OPTIONS[word(args[at])]
        while word(args[at]) in {"=", "~"} or (word(args[at - 1]) in {"=", "~", "MAXLEN", "MINID"}):
            at += 1
    if word(args[at]) != "*":
        return args, None
    return (*args[:at], f"{now_ms}-*", *args[at + 1 :]), None


def _claim(args: Arguments, now_ms: int) -> Wire:
    """XAUTOCLAIM and XCLAIM: the idle time that is asked for, and the one that is set."""
    sent = [*args[:4], scaled_idle(_whole(args[4])), *args[5:]]
    for at in range(6, len(sent) - 1):
        if word(args[at]) == "IDLE":
            sent[at + 1] = scaled_idle(_whole(args[at + 1]))
        elif word(args[at]) == "TIME":
            sent[at : at + 2] = "IDLE", scaled_idle(now_ms - _whole(args[at + 1]))
    return tuple(sent), None


def _pending(args: Arguments, now_ms: int) -> Wire:
    if len(args) <= 3:
        return args, None

    def shown(reply: Any) -> Any:
        for entry in reply if isinstance(reply, list) else ():
            if isinstance(entry, dict):  # as redis-py shows it
                entry["time_since_delivered"] = idle_of(entry["time_since_delivered"])
            else:
                entry[2] = idle_of(entry[2])
        return reply

    if word(args[3]) == "IDLE":
        return (*args[:4], scaled_idle(_whole(args[4])), *args[5:]), shown
    return args, shown


def scaled_idle(milliseconds: int) -> int:
    """An idle time as the server keeps it."""
    return IDLE_BASE_MS + milliseconds * IDLE_SCALE if milliseconds > 0 else milliseconds


def idle_of(kept: int) -> int:
    """An idle time as it is on the explorer's clock."""
    return max(kept - IDLE_BASE_MS, 0) // IDLE_SCALE


_XADD_OPTIONS = {
    "NOMKSTREAM": 1,
    "KEEPREF": 1,
    "DELREF": 1,
    "ACKED": 1,
    "MAXLEN": 1,
    "MINID": 1,
    "LIMIT": 2,
}
_CHANGES: dict[str, Callable[[Arguments, int], Wire]] = {
    "SET": _set,
    "SETEX": _setex,
    "PSETEX": _setex,
    "GETEX": _getex,
    "EXPIRE": _expire,
    "PEXPIRE": _expire,
    "EXPIREAT": _expire_at,
    "PEXPIREAT": _expire_at,
    "TTL": _ttl,
    "PTTL": _ttl,
    "HEXPIRE": _expire,
    "HPEXPIRE": _expire,
    "HEXPIREAT": _expire_at,
    "HPEXPIREAT": _expire_at,
    "HTTL": _ttl,
    "HPTTL": _ttl,
    "HSETEX": _field_options,
    "HGETEX": _field_options,
    "RESTORE": _restore,
    "MSETEX": _msetex,
    "TIME": _time,
    "XADD": _xadd,
    "XAUTOCLAIM": _claim,
    "XCLAIM": _claim,
    "XPENDING": _pending,
}


class IdleTimes:
    """How long the entries of one system's streams are pending, on the explorer's clock.

    The server counts the idle time of an entry by the machine's clock. Here each entry gets an idle time
    far beyond what a run takes, on a coarse scale: so a slow machine makes no entry older, and one that
    was delivered since is recognized by being young.

    Args:
        run: sends a command on a connection of the explorer.
        clock: of the exploration.
    """

    def __init__(self, run: Callable[..., Any], clock: Clock) -> None:
        self._send = run
        self._clock = clock
        self._delivered: dict[tuple[str, str, str], int] = {}  # in ms, on the clock
        self._kept: dict[tuple[str, str, str], int] = {}  # as the server was told

    def restart(self) -> None:
        """Forget what an earlier run has delivered."""
        self._delivered.clear()
        self._kept.clear()

    def settle(self) -> None:
        """Give each pending entry the idle time that it has on the clock."""
        now = self._clock.now_ms
        for key, group, entry, consumer, idle in self._send("EVAL", _PENDING, 0):
            name = (key, group, entry)
            if idle < IDLE_BASE_MS // 2:  # delivered since
                self._delivered[name] = now
            since = now - self._delivered.get(name, now)
            set_ms = idle_of(idle) - idle_of(self._kept.get(name, 0))
            if idle >= IDLE_BASE_MS // 2 and abs(set_ms) > _SLOW_MS:  # XCLAIM … IDLE
                since = idle_of(idle)
                self._delivered[name] = now - since
            kept = self._kept[name] = IDLE_BASE_MS if since == 0 else scaled_idle(since)
            if not 0 <= idle - kept < IDLE_SCALE // 20:  # else it has this idle time already
                self._send("XCLAIM", key, group, consumer, 0, entry, "IDLE", kept, "JUSTID")

    def moments_us(self) -> list[int]:
        """When the pending entries were delivered, in microseconds on the clock."""
        return [delivered * 1000 for delivered in self._delivered.values()]
