"""On a server of yours: a command that reaches beyond the lab's database is refused before it is sent."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import redis

from labsupport.errors import BeyondDatabaseError

__all__ = ["keep_within", "on_a_server_of_yours"]

_REFUSED = frozenset(
    {"BGREWRITEAOF", "BGSAVE", "DEBUG", "FAILOVER", "FLUSHALL", "MIGRATE", "MONITOR", "MOVE"}
    | {"PSYNC", "REPLICAOF", "SAVE", "SHUTDOWN", "SLAVEOF", "SWAPDB", "SYNC"}
)
_REFUSED_PARTS = {
    "CLIENT": frozenset({"PAUSE", "UNPAUSE"}),
    "FUNCTION": frozenset({"FLUSH", "KILL", "RESTORE"}),
    "LATENCY": frozenset({"RESET"}),
    "MEMORY": frozenset({"PURGE"}),
    "SCRIPT": frozenset({"FLUSH", "KILL"}),
    "SLOWLOG": frozenset({"RESET"}),
}
_ALLOWED_PARTS = {
    "ACL": frozenset({"CAT", "DRYRUN", "GENPASS", "HELP", "WHOAMI"}),
    "CLUSTER": frozenset({"HELP", "INFO", "KEYSLOT", "MYID", "NODES", "SHARDS", "SLOTS"}),
    "CONFIG": frozenset({"GET", "HELP"}),
    "MODULE": frozenset({"HELP", "LIST"}),
}
_IN_A_SCRIPT = re.compile(
    r"""call\s*\(\s*(['"])(FLUSHALL|MIGRATE|MOVE|SELECT|SWAPDB)\1""", re.IGNORECASE
)
_SCRIPTS = frozenset({"EVAL", "EVAL_RO", "SCRIPT", "FUNCTION"})


def on_a_server_of_yours(url: str) -> bool:
    """True for an address on the server that REDIS_URL names."""
    yours = os.environ.get("REDIS_URL", "").strip()
    with suppress(ValueError):  # `check_url` says what is wrong with it
        return bool(yours) and _address(url) == _address(yours)
    return False


def keep_within(client: redis.Redis) -> None:
    """Let a client refuse what reaches beyond its database.

    Raises:
        BeyondDatabaseError: later, by the command; it is not sent.
    """
    kind: Any = client.connection_pool.connection_class

    class Within(kind):  # type: ignore[misc]
        def send_command(self, *args: Any, **options: Any) -> None:
            _check(args, self.db)
            super().send_command(*args, **options)

        def pack_command(self, *args: Any) -> Any:
            _check(args, self.db)
            return super().pack_command(*args)

        def pack_commands(self, commands: Iterable[Any]) -> Any:
            commands = list(commands)
            for args in commands:
                _check(args, self.db)
            return super().pack_commands(commands)

    client.connection_pool.connection_class = Within


def _check(args: tuple[Any, ...], db: Any) -> None:
    if name := _beyond(args, db):
        raise BeyondDatabaseError(
            f"{name} reaches beyond the lab's database, and the server is yours (REDIS_URL).",
            "Use start_server(): that server is the lab's own, and may be hurt.",
        )


def _beyond(args: tuple[Any, ...], db: Any) -> str:
    """The name of what reaches beyond the database; "" when nothing does."""
    first, _, second = _word(args[0]).partition(" ")
    rest = [second, *args[1:]] if second else list(args[1:])
    part = _word(rest[0]) if rest else ""
    if first == "SELECT" or (first == "COPY" and len(rest) > 3 and _word(rest[-2]) == "DB"):
        return first if str(rest[-1]) != str(db or 0) else ""
    if first in _SCRIPTS:
        for text in map(_text, rest[:3]):
            if found := _IN_A_SCRIPT.search(text):
                return f"{found[2].upper()} in a script"
    if (first, part) == ("CLIENT", "KILL"):  # one connection may be ended, and not all of a kind
        return "" if _word(rest[1] if len(rest) > 2 else "") == "ID" else "CLIENT KILL"
    if first in _ALLOWED_PARTS:
        return "" if part in _ALLOWED_PARTS[first] else f"{first} {part}"
    if part in _REFUSED_PARTS.get(first, ()):
        return f"{first} {part}"
    return first if first in _REFUSED else ""


def _text(part: Any) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else str(part)


def _word(part: Any) -> str:
    return _text(part).upper()


def _address(url: str) -> tuple[Any, ...]:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return ("unix", parts.path)
    return ("tcp", parts.hostname, parts.port or 6379)
