"""One step of a client: what it is called, and which keys and tables it reads or writes."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = [
    "EVERYTHING",
    "NOTHING",
    "Effects",
    "Move",
    "Operation",
    "Taken",
    "command_effects",
    "owner",
    "reads",
    "sql_effects",
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
_TABLE = re.compile(r"\b(?:from|join|into|update|table)\s+([\w.\"]+)", re.IGNORECASE)
_WRITING = re.compile(
    r"\b(?:insert|update|delete|replace|create|drop|alter|truncate)\b", re.IGNORECASE
)


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
        return bool(
            self.writes & other.writes or self.writes & other.reads or self.reads & other.writes
        )

    def __or__(self, other: "Effects") -> "Effects":
        return Effects(
            self.reads | other.reads,
            self.writes | other.writes,
            self.everything or other.everything,
        )


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
    name = str(args[0]).upper()
    if name in _HARMLESS:
        return NOTHING
    if name in {"PUBLISH", "SPUBLISH"}:
        return Effects(writes=frozenset({f"channel:{args[1]}"}))
    if name == "WATCH":  # the server lists WATCH's keys as untouched; a later EXEC depends on them
        return Effects(reads=frozenset(f"key:{key}" for key in args[1:]))
    found = get_keys(args)
    if not found:
        return EVERYTHING
    reads = {f"key:{key}" for key, flags in found if "RO" in flags}
    return Effects(frozenset(reads), frozenset(f"key:{key}" for key, _ in found) - reads)


def sql_effects(sql: str) -> Effects:
    """Effects of one SQL statement, by the tables it names."""
    tables = frozenset(f"table:{name.lower()}" for name in _TABLE.findall(sql))
    if not tables:
        return EVERYTHING
    if _WRITING.search(sql):
        return Effects(writes=tables)
    return Effects(reads=tables)


@dataclass(slots=True)
class Operation:
    """A step that a client is about to take.

    Args:
        kind: "redis" or "sql".
        commands: Redis commands in wire form (several for a MULTI/EXEC block), or (statement, params).
        site: where in the client's code it stands; equal for repetitions of a loop.
        transaction: "multi" for MULTI/EXEC; for SQL "inside" a transaction.
        watched: keys that the EXEC depends on.
        replies: what came back.
        own: True on a database engine of the code's own.
        unchanged: True once it is known that it changed nothing, whatever it replied.
        changed: True once it is known that it changed something, whatever it replied.
        noted: True once the moments are remembered that it names.
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

    @property
    def word(self) -> str:
        """The command's name, or the statement; of a block, its first."""
        return self.commands[0][0] if self.commands else "MULTI"  # EXEC of nothing

    def effects(
        self, get_keys: Callable[[Arguments], Sequence[tuple[str, Iterable[str]]]]
    ) -> Effects:
        """Keys and tables touched; a transaction on the database counts as touching all of it."""
        if self.kind == "sql":
            if self.transaction:
                return EVERYTHING
            return sql_effects(self.commands[0][0])
        total = Effects(reads=frozenset(f"key:{key}" for key in self.watched))
        for args in self.commands:
            total |= command_effects(args, get_keys)
        return total

    @property
    def refused(self) -> bool:
        """True when it was taken, and changed nothing or was told nothing, no or 0."""
        if self.unchanged or self.changed:
            return self.unchanged
        return bool(self.replies) and all(map(_is_nothing, self.replies))

    @property
    def tells(self) -> bool:
        """True when its reply says whether it changed anything: a command that reads, or SET NX."""
        if self.kind != "redis" or len(self.commands) != 1:
            return False
        return reads(self.commands[0]) or _sets_if_absent(self.commands[0])

    def told_that_nothing_changed(self, reply: Any) -> bool:
        """Whether the reply of a command that `tells` says so."""
        return reply is None or reads(self.commands[0])

    def same_target(self, other: "Operation") -> bool:
        """True when both send the same commands to the same keys, whatever their other arguments."""
        return self.kind == other.kind == "redis" and (
            list(map(_target, self.commands)) == list(map(_target, other.commands))
        )

    def answered_alike(self, other: "Operation") -> bool:
        """True when both were answered with the same."""
        return list(map(repr, self.replies)) == list(map(repr, other.replies))

    def repeats(self, other: "Operation") -> bool:
        """True when this is `other` once more, or another attempt after a reply of nothing."""
        if self.commands == other.commands:
            return True
        return other.refused and self.same_target(other)


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


def _sets_if_absent(args: Arguments) -> bool:
    options = {_word(part) for part in args[3:]} if _word(args[0]) == "SET" else set()
    return "NX" in options and "GET" not in options


def _word(part: Any) -> str:
    return (part.decode(errors="replace") if isinstance(part, bytes) else str(part)).upper()


def _target(args: Arguments) -> Arguments:
    """The command and its first key; of a script, the script and all its keys."""
    if str(args[0]).upper() in _SCRIPTED:
        return args[: 3 + int(args[2])]
    return args[:2]


def _is_nothing(reply: Any) -> bool:
    if isinstance(reply, list | tuple):
        return all(map(_is_nothing, reply))
    return reply is None or reply is False or (isinstance(reply, int) and reply == 0)
