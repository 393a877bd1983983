"""One step of a client: what it is called, and which keys and tables it reads or writes."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = [
    "EVERYTHING",
    "NOTHING",
    "Effects",
    "Move",
    "Names",
    "Operation",
    "command_effects",
    "shorten",
    "sql_effects",
]

Arguments = tuple[Any, ...]

# Commands without a key that neither change nor reveal what another client may change.
_HARMLESS = frozenset({"PING", "ECHO", "TIME", "UNWATCH"})
_SCRIPTED = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO"})
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
    """

    kind: str
    commands: Sequence[Arguments]
    site: int = 0
    transaction: str = ""
    watched: tuple[Any, ...] = ()
    replies: Sequence[Any] = ()

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
        """True when it was taken, and the server or the script said nothing, no or 0."""
        return bool(self.replies) and all(map(_is_nothing, self.replies))

    def repeats(self, other: "Operation") -> bool:
        """True when this is `other` once more, or another attempt after a reply of nothing."""
        if self.commands == other.commands:
            return True
        return (
            self.kind == other.kind == "redis"
            and other.refused
            and list(map(_target, self.commands)) == list(map(_target, other.commands))
        )


class Move(NamedTuple):
    """What the adversary does next: it lets a client `step`, `crash`, `idle` or `timeout`, or it lets
    a key `expire`."""

    kind: str
    who: str


class Names:
    """Readable, repeatable text for values, within one run.

    What differs from run to run by design (tokens, times) is replaced by a name given in order of
    first appearance, so that the same schedule reads the same each time.
    """

    _RANDOM = re.compile(
        r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"  # a UUID
        r"|(?<!\w)[0-9a-f]{16,}(?!\w)"  # hex
        r"|(?<![\w-])(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{20,}(?![\w-])"  # URL-safe base64
    )
    _TIME = re.compile(r"(?<![\w.-])\d{10,}(?:\.\d+)?(?:-\d+)?(?![\w.-])")

    def __init__(self) -> None:
        self._given: dict[str, str] = {}

    def of(self, value: Any) -> str:
        """`value` as text, with tokens and times named."""
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        return self._RANDOM.sub(self._token, self._TIME.sub("‹time›", text))

    def _token(self, match: re.Match[str]) -> str:
        return self._given.setdefault(match[0], f"‹token {len(self._given) + 1}›")

    def label(self, operation: Operation) -> str:
        """The step in one line: `SET user:1 {"id": 1… EX 60`, `UPDATE users SET …`."""
        if operation.kind == "sql":
            sql, params = operation.commands[0]
            return shorten(self.of(_inline(" ".join(sql.split()), params)), 72)
        if operation.transaction == "multi":
            inner = "; ".join(self._command(args) for args in operation.commands)
            return f"MULTI {shorten(inner, 80)} EXEC" if inner else "MULTI EXEC"
        return self._command(operation.commands[0])

    def reply(self, operation: Operation) -> str:
        """What the server answered, in a few characters; empty where it says nothing of interest."""
        if not operation.replies:
            return ""
        reply = operation.replies[-1]
        if isinstance(reply, Exception):
            return shorten(type(reply).__name__, 24)
        if operation.kind == "sql":
            if reply is None or not reply.columns:
                return ""
            return shorten(self.of(_row(reply.rows[0])), 24) if reply.rows else "no row"
        if reply is None or reply == []:
            return "nil"
        if reply is True:
            return "OK"
        if reply is False:
            return "no"
        if isinstance(reply, set):  # in whose order nobody may trust
            reply = "{" + ", ".join(sorted(map(repr, reply))) + "}"
        return shorten(self.of(reply), 24)

    def _command(self, args: Arguments) -> str:
        name = str(args[0])
        if name in _SCRIPTED:
            count = int(args[2])
            shown = [name, "script", *args[3 : 3 + count]]
            rest = args[3 + count :]
        else:
            shown, rest = [name, *args[1:2]], args[2:]
        parts = [shorten(self.of(part), 40) for part in shown]
        return " ".join([*parts, *(shorten(self.of(part), 16) for part in rest)])[:90]


def _target(args: Arguments) -> Arguments:
    """The command and its first key; of a script, the script and all its keys."""
    if str(args[0]).upper() in _SCRIPTED:
        return args[: 3 + int(args[2])]
    return args[:2]


def _is_nothing(reply: Any) -> bool:
    if isinstance(reply, list | tuple):
        return all(map(_is_nothing, reply))
    return reply is None or reply is False or (isinstance(reply, int) and reply == 0)


def _row(row: Sequence[Any]) -> str:
    return ", ".join(map(str, row))


def _inline(sql: str, params: Mapping[str, Any]) -> str:
    def value(match: re.Match[str]) -> str:
        return repr(params[match[1]]) if match[1] in params else match[0]

    return re.sub(r"(?<!:):(\w+)", value, sql)


def shorten(text: str, width: int) -> str:
    """`text`, cut to `width` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"
