"""What a Redis holds, as plain Python values: written to a server, read from it, and compared."""

import fnmatch
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from labsupport.exercises.matching import Between, Names, Rising
from labsupport.explorer.names import as_sent, as_text
from labsupport.servers import OWNER_KEY

__all__ = ["KEPT", "Entries", "Scores", "State", "copied"]

KEPT = None
"""The life of a key that stays until somebody deletes it."""

_MOST_ITEMS = 40
_NO_TEXT = re.compile(r"\\udc([89a-f][0-9a-f])")  # a byte that is none of UTF-8, as Python shows it
_MOST_CHARACTERS = 600

# Reads the whole database at one moment. KEYS: none; ARGV[1]: the key to leave out.
# Returns the server's time, then for each key its name, type, PTTL and value. A hash without a TTL
# whose fields all have one lives as long as the longest of them.
_READ = """
local time = redis.call('TIME')
local found = {time[1] .. '.' .. string.format('%06d', time[2])}
for _, key in ipairs(redis.call('KEYS', '*')) do
  if key ~= ARGV[1] then
    local kind, lives, value = redis.call('TYPE', key).ok, redis.call('PTTL', key), ''
    if kind == 'string' then value = redis.call('GET', key)
    elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
    elseif kind == 'set' then value = redis.call('SMEMBERS', key)
    elseif kind == 'stream' then
      local told = redis.call('XINFO', 'STREAM', key)
      for at = 1, #told, 2 do
        if told[at] == 'last-generated-id' then value = told[at + 1] end
      end
      value = {value, redis.call('XRANGE', key, '-', '+')}
    elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    elseif kind == 'hash' then
      value = redis.call('HGETALL', key)
      if lives == -1 then
        local names = redis.call('HKEYS', key)
        local each = redis.pcall('HPTTL', key, 'FIELDS', #names, unpack(names))
        if not each.err then
          for _, ms in ipairs(each) do
            if ms < 0 then lives = -1 break end
            lives = math.max(lives, ms)
          end
        end
      end
    end
    found[#found + 1] = {key, kind, lives, value}
  end
end
return found
"""


class Scores(dict[str, float]):
    """The members of a sorted set, each with its score."""


class Entries(list[dict[str, Any]]):
    """The fields of each entry of a stream, which are compared without the IDs.

    Attributes:
        ids: the ID of each, and the last one of the stream's; empty where a model has made the entries.
    """

    ids: Sequence[str] = ()

    def write(self, redis: Any, key: str) -> None:
        """Add the entries to an empty stream: with their IDs, as others may name them."""
        *ids, last = self.ids if len(self.ids) == len(self) + 1 else ["*"] * len(self) + [""]
        for one, fields in zip(ids, self, strict=True):
            redis.xadd(key, fields, id=one)
        if last not in {"", "0-0", *ids}:  # its entry is gone, and no other one gets its ID
            redis.xadd(key, {"": ""}, id=last)
            redis.xdel(key, last)


class State(dict[str, Any]):
    """Keys and values: a text or number, a list, a set, a dict (a hash), `Scores` or `Entries`.

    Args:
        keys: the value of each key; an empty collection is no key at all.
        lives: how many ms each key has to live; `KEPT`, as a key that is not named, has no end.

    Attributes:
        at: the server's time in seconds when this was read; 0 in a model.
        names: what a model knows of the texts and numbers that the answer has made up.
    """

    _KINDS: ClassVar[dict[str, type]] = {"list": list, "set": set, "hash": dict, "zset": Scores}

    def __init__(
        self, keys: Mapping[str, Any] = {}, lives: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(keys)
        self.lives: dict[str, Any] = dict(lives or {})
        self.at = 0.0
        self.names: Names = {}

    def __repr__(self) -> str:
        return self.shown()

    def copy(self) -> "State":
        """Another state, alike in all depth."""
        # of the lives, each is a number, or never changed
        other = State({key: copied(value) for key, value in self.items()}, self.lives)
        other.at, other.names = self.at, dict(self.names)
        return other

    # what a model does

    def list_at(self, key: str) -> list[Any]:
        """The list at a key, to be changed in place; empty if there is none."""
        found: list[Any] = self.setdefault(key, [])
        return found

    def set_at(self, key: str) -> set[str]:
        """The set at a key, to be changed in place; empty if there is none."""
        found: set[str] = self.setdefault(key, set())
        return found

    def hash_at(self, key: str) -> dict[str, Any]:
        """The hash at a key, to be changed in place; empty if there is none."""
        found: dict[str, Any] = self.setdefault(key, {})
        return found

    def scores_at(self, key: str) -> Scores:
        """The sorted set at a key, to be changed in place; empty if there is none."""
        found: Scores = self.setdefault(key, Scores())
        return found

    def number_at(self, key: str) -> int:
        """The whole number at a key; 0 if there is none."""
        return int(self.get(key, 0))

    def remove(self, key: str) -> None:
        """Delete a key, if it is there."""
        self.pop(key, None)
        self.lives.pop(key, None)

    def keep(self, key: str, value: Any, ms: Any = KEPT) -> None:
        """Set a key, and how long it lives."""
        self[key] = value
        self.lives[key] = ms

    def age(self, ms: float) -> None:
        """Let time pass: what has lived for long enough is gone."""
        for key, life in list(self.lives.items()):
            low, high = (life.low, life.high) if isinstance(life, Between) else (life, life)
            if isinstance(high, int | float):
                self.lives[key] = low - ms if low == high else Between(low - ms, high - ms)
                if high <= ms:
                    self.remove(key)

    # on a server

    def write(self, redis: Any) -> None:
        """Put every key into a database that holds none of them."""
        with redis.pipeline(transaction=False) as pipe:
            self._write(redis, pipe)
            pipe.execute()

    def _write(self, redis: Any, pipe: Any) -> None:
        for name, held in self.items():
            key, value = as_sent(name), as_sent(held)
            if isinstance(value, Scores):
                if value:
                    pipe.zadd(key, value)
            elif isinstance(value, Entries):
                value.ids = held.ids
                value.write(redis, key)
            elif isinstance(value, dict):
                if value:
                    pipe.hset(key, mapping=value)
            elif isinstance(value, list):
                if value:
                    pipe.rpush(key, *value)
            elif isinstance(value, set):
                if value:
                    pipe.sadd(key, *sorted(value, key=str))
            else:
                pipe.set(key, value)
            if self.lives.get(name) is not KEPT:
                pipe.pexpire(key, round(self.lives[name]))

    @classmethod
    def read(cls, redis: Any) -> "State":
        """All that a database holds now."""
        found = redis.execute_command("EVAL_RO", _READ, 0, OWNER_KEY, NEVER_DECODE=True)
        at, *keys = as_text(found)
        state = cls()
        state.at = float(at)
        for key, kind, lives, value in sorted(keys):
            state[key] = _plain(kind, value)
            state.lives[key] = KEPT if lives == -1 else lives
        return state

    def settled(self, patterns: Iterable[str], *, within: bool = True) -> dict[str, Any]:
        """The keys that match (or, with within=False, those that do not), as they can be compared."""
        return {
            key: _text(value)
            for key, value in sorted(self.items())
            if (value or isinstance(value, str | int | float))
            and any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns) is within
        }

    def shown(self) -> str:
        """The keys and their values in a line, for the learner."""
        parts = []
        for key, value in sorted(self.settled("*").items()):
            life = self.lives.get(key)
            end = "" if life is KEPT else f" (lives {_seconds(life)})"
            parts.append(f"{key} = {plain_text(value)}{end}")
        return "; ".join(parts) or "nothing"


_UNCHANGING = frozenset({str, int, float, bool, bytes, type(None)})


def copied(value: Any) -> Any:
    """A value that does not change with another; a list, a set or a dict of a kind stays of it."""
    if type(value) in _UNCHANGING:
        return value
    if isinstance(value, dict):
        return type(value)(zip(value, map(copied, value.values()), strict=True))
    if isinstance(value, list):
        other = type(value)(map(copied, value))
        if isinstance(value, Entries) and isinstance(other, Entries):
            other.ids = value.ids
        return other
    return value.copy() if isinstance(value, set) else value


def plain_text(value: Any) -> str:
    """A value in a few characters, sets in order; of a long one the beginning and the end."""
    if isinstance(value, list | set | frozenset) and len(value) > _MOST_ITEMS:
        ends = sorted(value) if isinstance(value, set | frozenset) else value
        first, last = (", ".join(map(repr, part)) for part in (ends[:5], ends[-2:]))
        return f"[{first}, … ({len(value):,} in all) …, {last}]"
    if isinstance(value, set | frozenset):
        text = "{" + ", ".join(map(repr, sorted(value))) + "}"
    else:
        text = repr(value) if not isinstance(value, Scores) else repr(dict(value))
    text = _NO_TEXT.sub(r"\\x\1", text)
    if len(text) <= _MOST_CHARACTERS:
        return text
    return f"{text[: _MOST_CHARACTERS // 2]} … ({len(value):,} in all) … {text[-40:]}"


def _seconds(ms: Any) -> str:
    return f"{math.ceil(ms / 1000):,} s" if isinstance(ms, int | float) else str(ms)


def _plain(kind: str, value: Any) -> Any:
    match kind:
        case "list":
            return list(value)
        case "set":
            return set(value)
        case "stream":
            last, each = value
            found = Entries(dict(zip(one[::2], one[1::2], strict=True)) for _, one in each)
            found.ids = [*(one for one, _ in each), last]
            return found
        case "hash":
            return dict(zip(value[::2], value[1::2], strict=True))
        case "zset":
            scores = map(float, value[1::2])
            return Scores(zip(value[::2], scores, strict=True))
    return value


def _text(value: Any) -> Any:
    """A value as Redis would give it back: numbers are text, but for scores."""
    if type(value) is str:
        return value
    if isinstance(value, Scores):
        return Scores({str(member): float(score) for member, score in value.items()})
    if isinstance(value, dict):
        return {str(name): _text(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_text(one) for one in value]
    if isinstance(value, set):
        return {str(one) for one in value}
    return str(value) if isinstance(value, int) and not isinstance(value, bool | Rising) else value


def frozen(value: Any) -> str:
    """A text that is the same for equal values, to find them again."""
    return json.dumps(value, sort_keys=True, default=lambda one: sorted(map(str, one)))
