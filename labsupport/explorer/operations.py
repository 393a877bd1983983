"""One step of a client: what it is called, and which keys and tables it reads or writes."""

import fnmatch
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from labsupport.explorer.clock import START

__all__ = [
    "ANY_KEY",
    "EVERYTHING",
    "NOTHING",
    "RANDOM",
    "Effects",
    "Move",
    "Operation",
    "Taken",
    "asks_clock",
    "changes_rows",
    "command_effects",
    "glob_matches",
    "looks_twice",
    "owner",
    "prolongs",
    "reads",
    "sql_effects",
    "tables_named",
    "tries",
    "without_times",
]

Arguments = tuple[Any, ...]

# Commands without a key that neither change nor reveal what another client may change.
_HARMLESS = frozenset({"PING", "ECHO", "TIME", "UNWATCH"})
_READS = frozenset(
    {"EXISTS", "GET", "GETRANGE", "HEXISTS", "HGET", "HGETALL", "HLEN", "HMGET", "LINDEX", "LLEN"}
    | {"LRANGE", "MGET", "PTTL", "SCARD", "SISMEMBER", "SMEMBERS", "STRLEN", "TIME", "TTL", "XLEN"}
    | {"XRANGE", "ZCARD", "ZCOUNT", "ZRANGE", "ZRANGEBYSCORE", "ZSCORE"}
)
_SCRIPTED = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"})
_NAME = r'(?:"[^"]+"|\[\w+\]|`[^`]+`|[^\W\d]\w*)'
_NAMES = re.compile(_NAME)
_TABLE = re.compile(rf"\b(?:from|join|into|update|table)\s+({_NAME}(?:\.{_NAME})*)", re.IGNORECASE)
_TARGET = re.compile(
    rf"\b(?:into|update|delete\s+from)\s+(?:only\s+|or\s+\w+\s+)?({_NAME}(?:\.{_NAME})*)",
    re.IGNORECASE,
)
_NO_CODE = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/|\bdo\s+update\b", re.DOTALL | re.I)
_CLOCK = re.compile(
    r"\bcurrent_(?:timestamp|date|time)\b|\blocaltime(?:stamp)?\b|\b(?:now|(?:transaction|statement|clock)"
    r"_timestamp|unixepoch|julianday|date|time|datetime)\(\s*\)"
    r"|\b(?:date|time|datetime|julianday|unixepoch|strftime)\([^)]*'now'",
    re.IGNORECASE,
)
_FROM = re.compile(r"\bfrom\b", re.IGNORECASE)
_ELSEWHERE = re.compile(r"\bselect\b|\bupdate\b.*\bfrom\b|\busing\b", re.I | re.DOTALL)
_LOCKS = re.compile(r"\bfor\s+(?:no\s+key\s+|key\s+)?(?:update|share)\b", re.IGNORECASE)
_CHOOSES = re.compile(r"\b(?:limit|fetch|join)\b|\bselect\b.*\bselect\b", re.I | re.DOTALL)
_CALL = re.compile(rf"({_NAME})\s*\(")
_UNCLEAR = re.compile(r"\bfor\s+(?:no\s+key\s+|key\s+)?(?:update|share)\b|\$\$|\\", re.IGNORECASE)
_DEFINES = re.compile(r"\s*(?:create|alter|drop|truncate|merge|call|do)\b", re.IGNORECASE)
_CHANGES = re.compile(r"\b(?:insert|update|delete|into)\b|^\s*replace\b", re.IGNORECASE)
# Statements that say all that they touch, and what stands before a "(" in them and touches nothing.
_PLAIN = re.compile(r"\s*(?:select|insert|update|delete|replace|with|values)\b", re.IGNORECASE)
_PURE = frozenset({
    "abs", "all", "and", "any", "as", "avg", "between", "by", "case", "cast", "coalesce", "concat",
    "conflict", "count", "datetime", "distinct", "else", "except", "exists", "filter", "from",
    "greatest", "having", "ifnull", "in", "intersect", "is", "join", "json_array", "json_object",
    "least", "length", "like", "limit", "lower", "max", "min", "not", "nullif", "numeric", "offset",
    "on", "or", "over", "rank", "replace", "returning", "round", "row_number", "select", "set",
    "strftime", "substr", "substring", "sum", "then", "total", "trim", "union", "upper", "using",
    "values", "varchar", "when", "where",
})  # fmt: skip
ANY_KEY = "key:*"
"""Stands for every key, in the effects of what may touch more than it names."""


@dataclass(frozen=True, slots=True)
class Effects:
    """The keys and tables that a step reads and writes; two steps commute unless they conflict."""

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    everything: bool = False

    def conflicts(self, other: "Effects") -> bool:
        """True when the order of the two steps may matter."""
        if self.everything or other.everything:
            return True
        touched = other.reads | other.writes
        return _meet(self.writes, touched) or _meet(self.reads, other.writes)

    def __or__(self, other: "Effects") -> "Effects":
        return Effects(
            self.reads | other.reads,
            self.writes | other.writes,
            self.everything or other.everything,
        )


def _meet(some: frozenset[str], others: frozenset[str]) -> bool:
    if some and others and (ANY_KEY in some or ANY_KEY in others):
        return True
    return not some.isdisjoint(others)


NOTHING = Effects()
EVERYTHING = Effects(everything=True)


def command_effects(
    args: Arguments, get_keys: Callable[[Arguments], Sequence[tuple[str, Iterable[str]]]]
) -> Effects:
    """Effects of one Redis command.

    Args:
        args: the command as it goes over the wire.
        get_keys: asks the server (COMMAND GETKEYSANDFLAGS, Redis 7.0): key and flags for each key.
    """
    name = _word(args[0])
    if name in _HARMLESS:
        return NOTHING
    if name in {"PUBLISH", "SPUBLISH"}:
        return Effects(writes=frozenset({f"channel:{_text(args[1])}"}))
    if name == "WATCH":  # the server lists WATCH's keys as untouched; a later EXEC depends on them
        return Effects(reads=_keys(args[1:]))
    found = get_keys(args)
    if not found:
        return EVERYTHING
    # of XREADGROUP, the server says that it reads: it hands entries out, to nobody else
    reads, writes = set[str](), set[str]()  # a key may be named twice: to read, and to store to
    for key, flags in found:
        (reads if "RO" in flags and name != "XREADGROUP" else writes).add(f"key:{key}")
    return Effects(frozenset(reads), frozenset(writes))


def _keys(args: Arguments) -> frozenset[str]:
    return frozenset(f"key:{_text(key)}" for key in args)


def looks_twice(sql: str) -> bool:
    """Whether a statement locks or changes what another part of it, or a LIMIT, has found."""
    code = _NO_CODE.sub(" ", sql)
    if _LOCKS.search(code) is not None:
        return _CHOOSES.search(code) is not None
    return _CHANGES.search(code) is not None and _ELSEWHERE.search(code) is not None


def prolongs(args: Arguments) -> tuple[str, ...]:
    """The key that a command gives a new time to live whatever there was before; none for most."""
    name, *words = map(_word, args)
    options = set(words[1:])
    sets = {"EXPIRE", "PEXPIRE", "SETEX", "PSETEX"}
    if name in {"SET", "GETEX"} and not options.isdisjoint({"EX", "PX", "EXAT", "PXAT"}):
        sets.add(name)
    return (_text(args[1]),) if name in sets and options.isdisjoint({"NX", "LT"}) else ()


def tries(operation: "Operation") -> bool:
    """Whether a step takes what may be another's: what follows when it is refused is a wait."""
    return any(
        word == "SETNX" or (word == "SET" and "NX" in rest)
        for word, *rest in (map(_word, args) for args in operation.commands)
    )


def glob_matches(pattern: str, key: str) -> bool:
    """Whether a key is one of a pattern's, as Redis has it."""
    return fnmatch.fnmatchcase(key, re.sub(r"\\(.)", r"[\1]", pattern).replace("[^", "[!"))


def changes_rows(sql: str) -> bool:
    """Whether a statement may change rows or tables, and not only read or lock them."""
    code = _LOCKS.sub(" ", _NO_CODE.sub(" ", sql))
    return _CHANGES.search(code) is not None or _DEFINES.match(code) is not None


def asks_clock(sql: str) -> bool:
    """Whether a statement asks the database what time it is."""
    return _CLOCK.search(sql) is not None


def sql_effects(sql: str) -> Effects:
    """Effects of one SQL statement: it reads at the most what it mentions, and changes what it says.

    A statement that calls a function may do anything, and so may one that is not known.
    """
    code = _NO_CODE.sub(" ", sql)
    changed = _bare(_NAMES.findall(name)[-1] for name in _TARGET.findall(code))
    called = _bare(_CALL.findall(code)) - _PURE - changed
    if called or _UNCLEAR.search(sql) or not _PLAIN.match(code):
        return EVERYTHING
    if not changed and (_CHANGES.search(code) or not _FROM.search(code)):
        return EVERYTHING  # one that names no table stands for what its client does besides
    return Effects(_tables(_bare(_NAMES.findall(code)) - changed), _tables(changed))


def _bare(names: Iterable[str]) -> set[str]:
    return {name.translate(_QUOTES).lower() for name in names}


def _tables(names: Iterable[str]) -> frozenset[str]:
    return frozenset(f"table:{name}" for name in names)


RANDOM = re.compile(
    r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"  # a UUID
    r"|(?<![\w.])[0-9a-f]{16,}(?![\w.])"  # hex, and no fraction
    r"|(?<![\w-])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{20,}(?![\w-])"  # URL-safe base64
)
"""A token that code draws."""
_NUMBER = re.compile(r"(?<![\w.-])(\d{10,})(?:\.\d+)?(?:-\d+)?(?![\w.-])")
_YEARS = 10 * 365 * 86_400
_FROM_2020, _TO_2040 = 1_577_836_800, 2_208_988_800
# a token that is short, or a fraction; in a loop over members it is taken for another attempt
_DRAWN = re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b|\b\d+\.\d+\b")
_QUOTES = str.maketrans("", "", '"[]`')


def tables_named(sql: str) -> set[str]:
    """The tables that a statement names as such, without their quotes."""
    return {name.lower() for name in _TABLE.findall(sql)}


@dataclass(slots=True)
class Operation:
    """A step that a client is about to take.

    Args:
        kind: "redis" or "sql"; "begin" before a client's first line.
        commands: Redis commands in wire form (several for a MULTI/EXEC block), or (statement, params).
        site: where in the client's code it stands; equal for repetitions of a loop.
        transaction: "multi" for MULTI/EXEC; for SQL "inside" a transaction.
        watched: keys that the EXEC depends on.
        replies: what came back.
        own: True on a database engine of the code's own.
        unchanged: True once it is known that it changed nothing, whatever it replied.
        changed: True once it is known that it changed something, whatever it replied.
        noted: True once the moments are remembered that it names.
        waited: True when its reply came only after another's step.
        looks: how often its client had drawn by chance, looked at a clock, and slept.
    """

    kind: str
    commands: Sequence[Arguments]
    site: int = 0
    transaction: str = ""
    watched: tuple[Any, ...] = ()
    replies: Sequence[Any] = ()
    own: bool = False
    unchanged: bool = False
    changed: bool = False
    noted: bool = False
    waited: bool = False
    looks: tuple[int, int, int] = (0, 0, 0)
    _target: tuple[Arguments, ...] | None = field(default=None, init=False, compare=False)
    _tells: bool | None = field(default=None, init=False, compare=False)
    _effects: Effects | None = field(default=None, init=False, compare=False)

    @property
    def word(self) -> str:
        """The command's name, or the statement; of a block, its first."""
        return self.commands[0][0] if self.commands else "MULTI"  # EXEC of nothing

    def effects(
        self, get_keys: Callable[[Arguments], Sequence[tuple[str, Iterable[str]]]]
    ) -> Effects:
        """Keys and tables touched; a transaction on the database counts as touching all of it."""
        if self._effects is None:  # it is asked for with each attempt that comes after
            self._effects = self._touched(get_keys)
        return self._effects

    def _touched(
        self, get_keys: Callable[[Arguments], Sequence[tuple[str, Iterable[str]]]]
    ) -> Effects:
        if self.kind == "sql":
            if self.transaction:
                return EVERYTHING
            return sql_effects(self.commands[0][0])
        if len(self.commands) == 1 and not self.watched:
            return command_effects(self.commands[0], get_keys)
        total = Effects(reads=_keys(self.watched))
        for args in self.commands:
            total |= command_effects(args, get_keys)
        return total

    @property
    def lets_go(self) -> bool:
        """True when it ends a transaction of a database of the code's own, and frees its locks."""
        return self.own and self.word in ("COMMIT", "ROLLBACK")

    @property
    def refused(self) -> bool:
        """True when it was taken, and changed nothing or was told nothing, no or 0."""
        if self.unchanged or self.changed:
            return self.unchanged
        return bool(self.replies) and all(map(_is_nothing, self.replies))

    @property
    def only_reads(self) -> bool:
        """True when it can change nothing: commands that read, a watch, an empty block."""
        return self.word == "WATCH" or all(map(reads, self.commands))

    @property
    def tells(self) -> bool:
        """True when its reply says whether it changed anything: a command that reads, or SET NX."""
        if self._tells is None:
            alone = self.kind == "redis" and len(self.commands) == 1
            one = self.commands[0] if alone else ()
            self._tells = alone and (reads(one) or _sets_if_absent(one))
        return self._tells

    @property
    def always_changes(self) -> bool:
        """True when it changes something unless it is refused with an error, whatever it replies."""
        alone = _ADDS if len(self.commands) == 1 and not self.transaction else frozenset[str]()
        return self.kind == "redis" and any(
            _word(args[0]) in alone or _sets(args) for args in self.commands
        )

    def told_that_nothing_changed(self, reply: Any) -> bool:
        """Whether the reply of a command that `tells` says so."""
        return reply is None or self.only_reads

    def same_target(self, other: "Operation") -> bool:
        """True when both send the same commands to the same keys, whatever their other arguments."""
        mine, theirs = self._target or self.target, other._target or other.target
        return mine == theirs and self.kind == other.kind == "redis"

    @property
    def target(self) -> tuple[Arguments, ...]:
        """The commands and their keys; of SQL nothing."""
        if self._target is None:  # it is asked for with each attempt that comes after
            self._target = tuple(map(_target, self.commands)) if self.kind == "redis" else ()
        return self._target

    def answered_alike(self, other: "Operation") -> bool:
        """True when both were answered with the same."""
        return list(map(repr, self.replies)) == list(map(repr, other.replies))

    def repeats(self, other: "Operation") -> bool:
        """True when this is `other` once more, or another attempt after a reply of nothing.

        An attempt may have another token if one was drawn, or another time; of what is set only if there
        is nothing, the value does not matter.
        """
        if self.commands == other.commands:
            return True
        if not self.retries(other):
            return False
        drawn, timed = self.looks[0] != other.looks[0], self.looks[1] != other.looks[1]
        alike = partial(_attempts, drawn=drawn, timed=timed)
        return all(map(alike, self.commands, other.commands))

    def retries(self, other: "Operation") -> bool:
        """True when this is `other` once more, or the same command after a reply of nothing."""
        if self.commands == other.commands:
            return True
        return self.same_target(other) and other.refused


class Taken(NamedTuple):
    """A move that was made: with the step that it is about, and what there is to say of it."""

    move: "Move"
    operation: Operation | None
    note: str = ""


class Move(NamedTuple):
    """What the adversary does next.

    It lets a client `step`, `crash`, `idle` or `timeout`, or `lose` the reply of its step; it lets a key
    `expire`, or time `pass`.
    """

    kind: str
    who: str


def owner(who: str) -> str:
    """The client that a move's name belongs to; a task's is the client's, and its number."""
    return who.partition("\0")[0]


def reads(args: Arguments) -> bool:
    """True when a command only reads."""
    return _word(args[0]) in _READS


# each counts as a change, of whatever it adds
_ADDS = frozenset(
    {"DECR", "DECRBY", "HINCRBY", "HINCRBYFLOAT", "INCR", "INCRBY", "INCRBYFLOAT", "LPUSH", "RPUSH"}
)
_ALWAYS_SET = frozenset({"MSET", "PSETEX", "SETEX"})
_IF = frozenset({"NX", "XX", "IFEQ", "IFNE", "IFDEQ", "IFDNE"})


def _sets(args: Arguments) -> bool:
    """Whether a command sets a key whatever there was before; it fails for want of memory only."""
    name = _word(args[0])
    return name in _ALWAYS_SET or (name == "SET" and _IF.isdisjoint(map(_word, args[3:])))


def _sets_if_absent(args: Arguments) -> bool:
    if _word(args[0]) != "SET" or len(args) < 4:
        return False
    options = [_word(part) for part in args[3:]]
    return "NX" in options and "GET" not in options


def _word(part: Any) -> str:
    return part.upper() if type(part) is str else _text(part).upper()


def _text(part: Any) -> str:
    """An argument, which is the same in text and in bytes."""
    if isinstance(part, str):
        return part
    if isinstance(part, bytes | bytearray | memoryview):
        return bytes(part).decode(errors="surrogateescape")
    return str(part)


def without_times(text: str) -> str:
    """A text in which the times of an exploration, and the IDs of entries, are named as such."""
    return _NUMBER.sub(lambda found: "‹time›" if _is_time(int(found[1])) else found[0], text)


def _is_time(number: int) -> bool:
    """Whether a number is a moment of these years, or near an exploration's, since 1970.

    In s, ms, µs or ns; any other number of as many digits is an id, or an amount.
    """
    seconds = (number / unit for unit in (1, 10**3, 10**6, 10**9))
    return any(abs(one - START) < _YEARS or _FROM_2020 <= one < _TO_2040 for one in seconds)


def _attempts(one: Arguments, other: Arguments, *, drawn: bool, timed: bool) -> bool:
    """Whether two commands to the same key ask for the same, at another time or with another token."""
    if _word(one[0]) == "SETNX" or (_sets_if_absent(one) and _sets_if_absent(other)):
        return True
    if _word(one[0]) == "HSETNX":
        one, other = one[:3], other[:3]
    alike = partial(_alike, drawn=drawn, timed=timed)
    return len(one) == len(other) and all(map(alike, one, other))


def _alike(one: Any, other: Any, *, drawn: bool, timed: bool) -> bool:
    if one == other or ((drawn or timed) and isinstance(one, float) and isinstance(other, float)):
        return True
    first, second = map(_text, (one, other))
    if timed:
        first, second = map(without_times, (first, second))
    if drawn:
        first, second = (_DRAWN.sub("?", RANDOM.sub("?", text)) for text in (first, second))
    return first == second


def _target(args: Arguments) -> Arguments:
    """The command and its first key; of a script, the script and all its keys."""
    sent = args[: 3 + int(args[2])] if _word(args[0]) in _SCRIPTED else args[:2]
    return tuple([part if type(part) is str else _text(part) for part in sent])


def _is_nothing(reply: Any) -> bool:
    if isinstance(reply, list | tuple):
        return all(map(_is_nothing, reply))
    return reply is None or reply is False or (isinstance(reply, int) and reply == 0)
