"""Lua scripts and functions under the explorer's clock.

In front of a script stands a `redis` of its own, whose `call` does what
`labsupport.explorer.commands.server_time` does for a client's commands; the server is not touched. The
moment comes as one more ARGV, which the script does not see.
"""

import functools
import hashlib
import re
from typing import Any

from labsupport.explorer.clock import START
from labsupport.explorer.commands.server_time import IDLE_BASE_MS, IDLE_SCALE

__all__ = ["BEYOND", "SCANNED", "Scripts", "names_its_keys"]

SCANNED = 1_000_000
"""SCAN's COUNT, so that the server has one page; what its user is shown goes by another order."""

# One line, so that the line numbers of the script's own errors stay.
_PREFIX = """
(function(real, clock)
  local function whole(value)
    if type(value) == 'string' and not string.match(value, '^-?%d+$') then return nil end
    value = tonumber(value)
    return value and value == math.floor(value) and value or nil
  end
  local function at(ms) return string.format('%.0f', ms) end
  local function options(a, i)
    for n = i, #a - 1 do
      local name, value = string.upper(tostring(a[n])), whole(a[n + 1])
      if name == 'FIELDS' then break end
      if value and value > 0 and (name == 'EX' or name == 'PX') then
        a[n], a[n + 1] = 'PXAT', at(clock.now + value * (name == 'EX' and 1000 or 1))
      elseif value and value > 0 and (name == 'EXAT' or name == 'PXAT')
        and value * (name == 'EXAT' and 1000 or 1) <= clock.now then
        a[n], a[n + 1] = 'PXAT', '1'
      end
    end
    return a
  end
  local function expire(unit, name)
    return function(call, a)
      local value = whole(a[3])
      if value and value > 0 then a[1], a[3] = name, at(clock.now + value * unit) end
      return call(unpack(a))
    end
  end
  local function expire_at(unit)
    return function(call, a)
      local value = whole(a[3])
      if value and value * unit <= clock.now then a[3] = '1' end
      return call(unpack(a))
    end
  end
  local function left(moment, exact)
    if type(moment) ~= 'number' or moment < 0 then return moment end
    local rest = math.max(moment - clock.now, 0)
    return exact and rest or math.floor((rest + 500) / 1000)
  end
  local function ttl(name, exact)
    return function(call, a)
      a[1] = name
      local found = call(unpack(a))
      if type(found) ~= 'table' then return left(found, exact) end
      for i, one in ipairs(found) do found[i] = left(one, exact) end
      return found
    end
  end
  local function with_options(from)
    return function(call, a) return call(unpack(options(a, from))) end
  end
  local function setex(unit)
    return function(call, a)
      local value = whole(a[3])
      if not value or value <= 0 then return call(unpack(a)) end
      return call('SET', a[2], a[4], 'PXAT', at(clock.now + value * unit))
    end
  end
  local function idle(call, a)
    local value = whole(a[5])
    if value and value > 0 then a[5] = at(BASE + value * SCALE) end
    for i = 7, #a - 1 do
      local name, set = string.upper(tostring(a[i])), whole(a[i + 1])
      if set and name == 'TIME' then name, a[i], set = 'IDLE', 'IDLE', clock.now - set end
      if set and name == 'IDLE' then a[i + 1] = at(set > 0 and BASE + set * SCALE or set) end
    end
    return call(unpack(a))
  end
  local function add(call, a)
    for i = 3, #a do
      if a[i] == '*' then
        a[i] = at(clock.now) .. '-*'
        local found = call(unpack(a))
        if type(found) ~= 'table' or not found.err then return found end
        a[i] = '*'
        break
      end
      if string.match(tostring(a[i]), '^%d+%-') then break end
    end
    return call(unpack(a))
  end
  local function pending(call, a)
    if a[4] and string.upper(a[4]) == 'IDLE' then
      a[5] = at(BASE + a[5] * SCALE)
    end
    local found = call(unpack(a))
    if a[4] and type(found) == 'table' and not found.err then
      for _, one in ipairs(found) do one[3] = math.floor(math.max(one[3] - BASE, 0) / SCALE) end
    end
    return found
  end
  local function rank(key) return tonumber(string.sub(real().sha1hex(key), 1, 12), 16) + 1 end
  local function page(keys, cursor, count)
    local last, found = '0', {}
    table.sort(keys, function(one, other) return rank(one) < rank(other) end)
    for _, key in ipairs(keys) do
      if rank(key) >= cursor and last == '0' then
        if #found < count then table.insert(found, key) else last = at(rank(key)) end
      end
    end
    table.sort(found)
    return {last, found}
  end
  local function overview(call, a)
    local name, cursor, count = string.upper(tostring(a[1])), whole(a[2]), 10
    local asked = {unpack(a)}
    if name == 'SCAN' and cursor then
      asked[2] = '0'
      for n = 3, #a - 1, 2 do
        if string.upper(tostring(a[n])) == 'COUNT' and (whole(a[n + 1]) or 0) > 0 then
          count, asked[n + 1] = whole(a[n + 1]), 'EVERY'
        end
      end
      if count == 10 then asked[#asked + 1], asked[#asked + 2] = 'COUNT', 'EVERY' end
    end
    local found = call(unpack(asked))
    if type(found) == 'table' and found.err then return found end
    if name == 'DBSIZE' then return found - call('EXISTS', 'HIDDEN') end
    local keys = name == 'SCAN' and found[2] or found
    for i = #keys, 1, -1 do
      if keys[i] == 'HIDDEN' then table.remove(keys, i) end
    end
    if name == 'SCAN' then return page(keys, cursor, count) end
    table.sort(keys)
    return keys
  end
  local function restore(call, a)
    local value = whole(a[3])
    for n = 5, #a do
      if string.upper(tostring(a[n])) == 'ABSTTL' then
        if value and value > 0 and value <= clock.now then a[3] = '1' end
        return call(unpack(a))
      end
    end
    if value and value > 0 then a[3], a[#a + 1] = at(clock.now + value), 'ABSTTL' end
    return call(unpack(a))
  end
  local function empty(call, a)
    for _, key in ipairs(call('KEYS', '*')) do
      if key ~= 'HIDDEN' then call('UNLINK', key) end
    end
    return {ok = 'OK'}
  end
  local function has(a, option, begin)
    for n = begin, #a do
      local one = string.upper(tostring(a[n]))
      if one == 'STREAMS' then break end
      if one == option then return true end
    end
  end
  local reads = {
    SPOP = 'SMEMBERS', SRANDMEMBER = 'SMEMBERS', HRANDFIELD = 'HKEYS', ZRANDMEMBER = 'ZRANGE',
  }
  local function drawn(call, a)
    local name = string.upper(tostring(a[1]))
    local count = name == 'RANDOMKEY' and nil or a[3]
    local from
    if name == 'RANDOMKEY' then from = call('KEYS', '*')
    elseif name == 'ZRANDMEMBER' then from = call('ZRANGE', a[2], 0, -1)
    else from = call(reads[name], a[2]) end
    if from.err then return from end
    table.sort(from)
    if name == 'RANDOMKEY' then
      for i = #from, 1, -1 do if from[i] == 'HIDDEN' then table.remove(from, i) end end
    end
    if a[4] then error({err = 'MARK' .. name .. ' WITH'}) end
    local found, wanted = {}, count == nil and 1 or whole(count)
    if not wanted or (name == 'SPOP' and wanted < 0) then return call(unpack(a)) end
    for i = 1, wanted < 0 and -wanted or math.min(wanted, #from) do
      if #from == 0 then break end
      local at = math.random(#from)
      found[i] = from[at]
      if wanted > 0 then table.remove(from, at) end
    end
    if name == 'SPOP' and #found > 0 then call('SREM', a[2], unpack(found)) end
    if count == nil then return found[1] or false end
    return found
  end
  local beyond = {
    FLUSHALL = true, INFO = true, LASTSAVE = true, MIGRATE = true, MOVE = true, SELECT = true,
    SWAPDB = true,
  }
  local other = {COPY = {'DB', 4}, XREADGROUP = {'CLAIM', 5}}
  local allowed = {
    OBJECT = {ENCODING = true, REFCOUNT = true}, MEMORY = {USAGE = true}, SLOWLOG = {HELP = true},
  }
  local function about(call, a)
    if string.upper(tostring(a[2])) ~= 'CONSUMERS' then return call(unpack(a)) end
    if clock.now > START then error({err = 'MARKXINFO CONSUMERS'}) end
    local found = call(unpack(a))
    for _, one in ipairs(found) do
      for i = 1, #one, 2 do
        if one[i] == 'idle' or one[i] == 'inactive' then one[i + 1] = 0 end
      end
    end
    return found
  end
  local timed = {
    FLUSHDB = empty, RESTORE = restore, RANDOMKEY = drawn,
    SPOP = drawn, SRANDMEMBER = drawn, HRANDFIELD = drawn, ZRANDMEMBER = drawn,
    SET = with_options(4), GETEX = with_options(3), HSETEX = with_options(3), HGETEX = with_options(3),
    SETEX = setex(1000), PSETEX = setex(1),
    EXPIRE = expire(1000, 'PEXPIREAT'), PEXPIRE = expire(1, 'PEXPIREAT'),
    HEXPIRE = expire(1000, 'HPEXPIREAT'), HPEXPIRE = expire(1, 'HPEXPIREAT'),
    EXPIREAT = expire_at(1000), PEXPIREAT = expire_at(1),
    HEXPIREAT = expire_at(1000), HPEXPIREAT = expire_at(1),
    TTL = ttl('PEXPIRETIME', false), PTTL = ttl('PEXPIRETIME', true),
    HTTL = ttl('HPEXPIRETIME', false), HPTTL = ttl('HPEXPIRETIME', true),
    TIME = function() return {at(math.floor(clock.now / 1000)), at(clock.now % 1000 * 1000)} end,
    KEYS = overview, SCAN = overview, DBSIZE = overview,
    XADD = add, XAUTOCLAIM = idle, XCLAIM = idle, XPENDING = pending, XINFO = about,
  }
  local function through(name)
    return function(first, ...)
      local word = string.upper(tostring(first))
      local option = other[word]
      if beyond[word] or (option and has({first, ...}, unpack(option))) then
        error({err = 'MARK' .. word .. (option and ' ' .. option[1] or '')})
      end
      local second = string.upper(tostring((...)))
      if allowed[word] and not allowed[word][second] then
        error({err = 'MARK' .. word .. ' ' .. second})
      end
      if word == 'XINFO' and has({...}, 'FULL', 3) then error({err = 'MARKXINFO FULL'}) end
      local change = timed[word]
      if not change then return real()[name](first, ...) end
      return change(real()[name], {first, ...})
    end
  end
  return {call = through('call'), pcall = through('pcall')}
end)
"""
_FOR_SCRIPT = """
local os = TICKS
local redis = setmetatable(
  CORE(function() return redis end, MOMENT(table.remove(ARGV))), {__index = redis})
"""
# A library's functions get the moment as one more argument, too; while it loads, `redis` is another.
_FOR_LIBRARY = """
local os = TICKS
local clock = {now = 0}
local server = redis
local function api() return redis end
local timed = CORE(api, clock)
local function held(callback)
  return function(keys, args)
    clock.now = MOMENT(table.remove(args)).now
    return callback(keys, args)
  end
end
local redis = {
  call = timed.call, pcall = timed.pcall, log = server.log,
  LOG_DEBUG = server.LOG_DEBUG, LOG_VERBOSE = server.LOG_VERBOSE,
  LOG_NOTICE = server.LOG_NOTICE, LOG_WARNING = server.LOG_WARNING,
  setresp = function(...) return api().setresp(...) end,
  sha1hex = function(...) return api().sha1hex(...) end,
  error_reply = function(...) return api().error_reply(...) end,
  status_reply = function(...) return api().status_reply(...) end,
  register_function = function(name, callback)
    if callback == nil then
      name.callback = held(name.callback)
      return server.register_function(name)
    end
    return server.register_function(name, held(callback))
  end,
}
"""
# What is passed is the moment, and the seed of the script's chance.
_MOMENT = (
    "(function(now) math.randomseed(tonumber(string.match(now, ':(%d+)')) or 0) "
    "return {now = tonumber(string.match(now, '^%d+'))} end)"
)
# How long a script has run, on a clock that each look at it moves.
_TICKS = "(function() local n = 0 return {clock = function() n = n + 1e-6 return n end} end)()"
BEYOND = re.compile(r"explorer-refuses:([A-Z]+(?: [A-Z]+)?)")
"""What a script is told of a command that reaches beyond the database."""
_CHANCE = re.compile(r"rand|SPOP", re.IGNORECASE)
_DIGEST = re.compile(r"\b[0-9a-f]{40}\b")
_TIME = re.compile(r"['\"]TIME['\"]", re.IGNORECASE)
_TTL = re.compile(r"['\"]H?(P?)TTL['\"]", re.IGNORECASE)
# what may ask for a time, a time to live or an idle time, or calls what only a variable names
_VARIES = re.compile(r"TIME|TTL|IDLE|OBJECT|['\"]X|CLOCK|call\s*\(\s*[^'\"\s]", re.IGNORECASE)
_IDLE = re.compile(r"X(?:AUTO)?CLAIM|XPENDING|XREADGROUP", re.IGNORECASE)


def _line(lua: str) -> str:
    return (
        " ".join(lua.split())
        .replace("BASE", str(IDLE_BASE_MS))
        .replace("SCALE", str(IDLE_SCALE))
        .replace("MARK", "explorer-refuses:")
        .replace("START", str(START * 1000))
        .replace("EVERY", str(SCANNED))
        .replace("MOMENT", _MOMENT)
        .replace("TICKS", _TICKS)
    )


_CORE = _line(_PREFIX)
_SCRIPT_LINE = _line(_FOR_SCRIPT).replace("CORE", _CORE) + " "
_LIBRARY_LINE = _line(_FOR_LIBRARY).replace("CORE", _CORE) + " "


class Scripts:
    """The scripts that were loaded in an exploration, by the digest that their users know.

    Args:
        load: loads a text into the server; returns its digest.
        hidden: a key that scripts are not shown; "" if there is none.
    """

    def __init__(self, load: Any, hidden: str = "") -> None:
        self._load = load
        self._script_line, self._library_line = (
            line.replace("HIDDEN", hidden) for line in (_SCRIPT_LINE, _LIBRARY_LINE)
        )
        self._wrapped: dict[str, str] = {}
        self._written: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._loaded: set[str] = set()  # in this run
        self._idle: set[str] = set()
        self._chance: set[str] = set()
        self._varying: set[str] = set()
        # whether any of this run, or of its libraries, asks for these; "P" stands for milliseconds
        self.asks_time, self.asks_ttl = False, set[str]()
        self._has_library = False

    def __contains__(self, digest: object) -> bool:
        return _text(digest) in self._loaded

    def restart(self) -> None:
        """A run begins: the server knows none."""
        self._loaded.clear()
        self.asks_time = self._has_library = False
        self.asks_ttl.clear()

    @property
    def ran(self) -> bool:
        """True when this run has loaded a script, or a library."""
        return bool(self._loaded) or self._has_library

    def load(self, text: Any) -> str:
        """Load a script under the explorer's clock; the digest that its user expects."""
        text = text.decode() if isinstance(text, bytes) else str(text)
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        if digest not in self._wrapped:
            self._wrapped[digest] = self._load(_behind_shebang(text, self._script_line))
            self._written[self._wrapped[digest]] = digest
            self._texts[digest] = text
            if _IDLE.search(text):
                self._idle.add(digest)
            if _CHANCE.search(text):
                self._chance.add(digest)
            if _CHANCE.search(text) or _VARIES.search(text):
                self._varying.add(digest)
        if digest not in self._loaded:
            self._note_times(text)
        self._loaded.add(digest)
        return digest

    def wrapped(self, digest: Any) -> str:
        """The digest by which the server knows it; as it is when the run has not loaded it."""
        return self._wrapped[_text(digest)] if digest in self else _text(digest)

    def as_written(self, error: Exception) -> Exception:
        """The same error, which names a script by the digest that its user knows."""
        error.args = tuple(
            _DIGEST.sub(lambda found: self._written.get(found[0], found[0]), part)
            if isinstance(part, str)
            else part
            for part in error.args
        )
        return error

    def text(self, digest: Any) -> str:
        """The script as its user wrote it."""
        return self._texts.get(_text(digest), "")

    def reads_idle_times(self, digest: Any) -> bool:
        """True when what it does depends on how long entries are pending."""
        return _text(digest) in self._idle

    def draws(self, digest: Any) -> bool:
        """True when what it does may depend on chance."""
        return _text(digest) in self._chance

    def varies(self, digest: Any) -> bool:
        """True when it may reply otherwise to the same arguments, though nothing in Redis has changed."""
        return _text(digest) in self._varying or _text(digest) not in self._texts

    def library(self, code: Any) -> str:
        """A library of functions under the explorer's clock."""
        self._note_times(_text(code))
        self._has_library = True
        return _behind_shebang(_text(code), self._library_line)

    def _note_times(self, text: str) -> None:
        self.asks_time = self.asks_time or bool(_TIME.search(text))
        self.asks_ttl.update(found.upper() for found in _TTL.findall(text))


_ONE_KEY = re.compile(
    r"(?:P?EXPIRE(?:AT|TIME)?|P?TTL|PERSIST|TYPE|DUMP"
    r"|(?:GET|SET)(?:NX|EX|DEL|SET|RANGE|BIT)?|PSETEX|STRLEN|APPEND|(?:INC|DEC)R(?:BY|BYFLOAT)?"
    r"|H(?!SCAN)[A-Z]+|L(?:PUSH|PUSHX|POP|LEN|RANGE|REM|TRIM|INDEX|SET|INSERT|POS)|RPUSHX?|RPOP"
    r"|S(?:ADD|REM|CARD|ISMEMBER|MEMBERS|MISMEMBER|POP|RANDMEMBER)"
    r"|Z(?:ADD|REM|CARD|M?SCORE|COUNT|INCRBY|POPMIN|POPMAX|RANK|REVRANK|RANDMEMBER"
    r"|(?:REM|REV)?RANGE(?:BYSCORE|BYLEX|BYRANK)?)"
    r"|X(?:ADD|ACK|LEN|RANGE|REVRANGE|DEL|TRIM|PENDING|CLAIM|AUTOCLAIM))"
)
_TWO_KEYS = frozenset({"COPY", "LMOVE", "RENAME", "RENAMENX", "RPOPLPUSH", "SMOVE"})
_KEYS_ONLY = frozenset({"DEL", "EXISTS", "MGET", "TOUCH", "UNLINK"})
_A_CALL = re.compile(r"\bredis\s*\.\s*p?call\s*\(\s*(['\"])(\w+)\1\s*,?(?=([^()]*))")
_MAY_CALL = re.compile(
    r"\b(?:redis\b(?!\s*\.\s*(?!p?call)\w)|server|_G|loadstring|getfenv|setmetatable)\b"
)
# comments, and strings: what is in them is no code
_NO_CODE = re.compile(
    r"--\[(=*)\[.*?\]\1\]|--[^\n]*|\[(=*)\[.*?\]\2\]|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"",
    re.DOTALL,
)
_A_KEY = r"KEYS\s*\[[^\]]+\]"
# names of keys: the statement ends after them
_LOCAL = re.compile(
    rf"\blocal\s+([\w\s,]+?)\s*=\s*({_A_KEY}(?:\s*,\s*{_A_KEY})*)\s*(?:;|$|(?!and\b|or\b)(?=[A-Za-z_]))"
)
_EACH = re.compile(r"\bfor\s+\w+\s*,\s*(\w+)\s+in\s+ipairs\s*\(\s*KEYS\s*\)")
_USES = re.compile(rf"{_A_KEY}|#\s*KEYS\b|\bipairs\s*\(\s*KEYS\s*\)")
_SET = (
    r"\b{0}\b\s*(?:\[[^\]]*\]\s*)?(?:,(?:(?!\b(?:local|if|return|for|while|do|end|then|redis)\b)"
    r"[^=;(){{}}])*)?=(?!=)"
    r"|\bfor\b[\w\s,]*\b{0}\b[\w\s,]*\bin\b|\bfunction\b[^()]*\([^)]*\b{0}\b"
)


@functools.lru_cache(maxsize=512)
def names_its_keys(text: str) -> bool:
    """Whether it can be seen that a script touches no key but those that it is passed in KEYS."""
    text = _NO_CODE.sub(_word_only, text)
    calls = _A_CALL.findall(text)
    if len(calls) != len(_MAY_CALL.findall(text)) or "KEYS" in _USES.sub("", text):
        return False
    known = set(_EACH.findall(text))
    for names, keys in _LOCAL.findall(text):
        if names.count(",") == keys.count("[") - 1:
            known.update(re.findall(r"\w+", names))
    once = {name for name in known if len(re.findall(_SET.format(name), text)) <= 1}

    def is_key(part: str) -> bool:
        part = part.strip()
        return re.fullmatch(_A_KEY, part) is not None or part in once

    def is_clear(name: str, rest: str) -> bool:
        parts = rest.split(",")
        if name in _KEYS_ONLY or name in _TWO_KEYS:
            return all(map(is_key, parts if name in _KEYS_ONLY else parts[:2]))
        if name in {"XGROUP", "XINFO"}:  # after their first word
            return len(parts) > 1 and is_key(parts[1])
        return name == "TIME" or (_ONE_KEY.fullmatch(name) is not None and is_key(parts[0]))

    return re.search(_SET.format("KEYS"), text) is None and all(
        is_clear(name.upper(), rest) for _, name, rest in calls
    )


def _word_only(found: re.Match[str]) -> str:
    """A space for a comment; of a string, the word that it is."""
    if found[0].startswith("--"):
        return " "
    word = found[0][1:-1]
    return f"'{word}'" if re.fullmatch(r"\w*", word) else "' '"


def _behind_shebang(text: str, line: str) -> str:
    if text.startswith("#!"):
        shebang, _, rest = text.partition("\n")
        return f"{shebang}\n{line}{rest}"
    return line + text


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
