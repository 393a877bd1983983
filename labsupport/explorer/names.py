"""Readable, repeatable text for the steps of a run."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from labsupport.explorer.operations import RANDOM, Operation, without_times

__all__ = ["Names", "as_sent", "as_text", "shorten"]

_LINE_ENDS = re.compile(r"[\n\r\t\x00-\x1f\x7f]")
_SCRIPTED = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO", "FCALL", "FCALL_RO"})


class Names:
    """Readable, repeatable text for values, within one run.

    What differs from run to run by design (tokens, times) is replaced by a name given in order of
    first appearance, so that the same schedule reads the same each time.

    Args:
        scripts: the names of scripts, by their digest or text.
    """

    def __init__(self, scripts: Mapping[str, str] | None = None) -> None:
        self._given: dict[str, str] = {}
        self._scripts = scripts or {}

    def of(self, value: Any) -> str:
        """`value` as text, with tokens and times named."""
        if isinstance(value, bytes):
            sent = value
        else:  # a text of an Enum is sent as the text
            told = value if isinstance(value, str) else str(value)
            sent = told.encode(errors="surrogateescape")
        text = sent.decode(errors="backslashreplace")
        text = _LINE_ENDS.sub(lambda end: repr(end[0])[1:-1], text)
        return RANDOM.sub(self._token, without_times(text))

    def _token(self, match: re.Match[str]) -> str:
        return self._given.setdefault(match[0], f"‹token {len(self._given) + 1}›")

    def label(self, operation: Operation) -> str:
        """The step in one line: `SET user:1 {"id": 1… EX 60`, `UPDATE users SET …`.

        Statements are whole; a long value is cut, but never what comes after it.
        """
        if operation.kind == "begin":
            return "its first line"
        if operation.kind == "sql":
            sql, params = operation.commands[0]
            return self.of(_inline(" ".join(sql.split()), params))
        if operation.transaction == "multi":
            inner = "; ".join(self._command(args) for args in operation.commands)
            return f"MULTI {inner} EXEC" if inner else "MULTI EXEC"
        return self._command(operation.commands[0])

    def reply(self, operation: Operation) -> str:
        """What the server answered, in a few characters; empty where it says nothing of interest."""
        if not operation.replies:
            return ""
        reply = operation.replies[-1]
        if isinstance(reply, Exception):
            return shorten(type(reply).__name__, 24)
        if operation.kind == "sql":
            if not getattr(reply, "columns", ()):
                return ""
            return shorten(self.of(_row(reply.rows[0])), 24) if reply.rows else "no row"
        if isinstance(reply, set):  # in whose order nobody may trust
            reply = "{" + ", ".join(sorted(map(repr, reply))) + "}"
        return shorten(self.of(_as_told(reply)), 24)

    def _command(self, args: tuple[Any, ...]) -> str:
        name = str(args[0])
        if name in _SCRIPTED:
            count = int(args[2])
            script = args[1].decode() if isinstance(args[1], bytes) else str(args[1])
            known = script if name.startswith("FCALL") else self._scripts.get(script, "script")
            shown = [name, known, *args[3 : 3 + count]]
            rest = args[3 + count :]
        else:
            shown, rest = [name, *args[1:2]], args[2:]
        parts = [shorten(self.of(part), 40) for part in shown]
        parts += [shorten(self.of(part), 16) for part in rest]
        return " ".join(part or '""' for part in parts)


def _as_told(reply: Any) -> Any:
    """What redis-py returned, in Redis's own words for nothing, yes and no; within a list, too."""
    if reply is None or reply == []:
        return "nil"
    if isinstance(reply, str | bytes) and not reply:
        return '""'
    if isinstance(reply, bool):
        return "OK" if reply else "no"
    return _listed(reply) if type(reply) is list else reply


def _listed(reply: list[Any]) -> str:
    parts = (
        _listed(one) if type(one) is list else _as_told(one) if _bare(one) else repr(one)
        for one in reply
    )
    return f"[{', '.join(parts)}]"


def _bare(reply: Any) -> bool:
    return reply is None or isinstance(reply, bool)


def as_text(reply: Any) -> Any:
    """A reply with each byte string as a text, from which `as_sent` makes the same bytes again."""
    if isinstance(reply, bytes):
        return reply.decode(errors="surrogateescape")
    if isinstance(reply, list | set):
        return [as_text(one) for one in reply]
    if isinstance(reply, dict):
        return {as_text(key): as_text(value) for key, value in reply.items()}
    return reply


def as_sent(value: Any) -> Any:
    """What `as_text` was made of: the bytes again where it is no text."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode(errors="surrogateescape")
    if isinstance(value, dict):
        return type(value)({as_sent(key): as_sent(one) for key, one in value.items()})
    if isinstance(value, list | set):
        return type(value)(as_sent(one) for one in value)
    return value


def shorten(text: str, width: int) -> str:
    """`text`, cut to `width` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _row(row: Sequence[Any]) -> str:
    return ", ".join(map(str, row))


def _inline(sql: str, params: Any) -> str:
    def value(match: re.Match[str]) -> str:
        return repr(params[match[1]]) if match[1] in params else match[0]

    if isinstance(params, Mapping):
        sql = re.sub(r"%\((\w+)\)s(?:::\w+)?", value, sql)  # as psycopg has it
        return re.sub(r"(?<!:):(\w+)", value, sql)
    left = iter(params)
    return re.sub(r"\?", lambda _: repr(next(left, "?")), sql)
