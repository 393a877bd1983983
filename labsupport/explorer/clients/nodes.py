"""Several servers, played by the explorer's one: a node's keys are those that begin with its name."""

from typing import Any

import redis
from redis.commands import CoreCommands

from labsupport.errors import InvalidSettingError, NotSteppableError

__all__ = ["Node", "as_nodes"]

_SCRIPTED = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO"})
_MANY_KEYS = frozenset({"DEL", "EXISTS", "MGET", "TOUCH", "UNLINK"})
_ONE_KEY = frozenset(
    {"DELEX", "DIGEST", "EXPIRE", "GET", "GETDEL", "GETEX", "INCR", "INCRBY", "PERSIST", "PEXPIRE"}
    | {"PEXPIREAT", "PEXPIRETIME", "PTTL", "SET", "SETNX", "TTL"}
)
_NO_KEY = frozenset({"ECHO", "PING", "SCRIPT EXISTS", "SCRIPT LOAD", "TIME"})


class Node(CoreCommands):
    """One server of several, as one server can play it.

    It shares no key with the other nodes, and each of its commands is a step of its own. What it
    cannot play is to be down or to hang: that takes servers of their own, and an experiment.

    Args:
        client: the explorer's client.
        name: what the names of its keys begin with.
    """

    def __init__(self, client: redis.Redis, name: str) -> None:
        self.name = name
        self._client = client
        self.connection_pool = client.connection_pool
        self._event_dispatcher: Any = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        return self._client.execute_command(*self._named(args), **options)

    def get_encoder(self) -> Any:
        return self._client.get_encoder()

    def _named(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The command with this node's keys."""
        command = str(args[0]).upper()
        if command in _NO_KEY:
            return args
        if command in _SCRIPTED:
            first, after = 3, 3 + int(args[2])
        elif command in _ONE_KEY or command in _MANY_KEYS:
            first, after = 1, 2 if command in _ONE_KEY else len(args)
        else:
            raise NotSteppableError(
                f"A node of the explorer does not know the command {command}.",
                f"It knows {', '.join(sorted(_ONE_KEY | _MANY_KEYS | _SCRIPTED | _NO_KEY))}.",
            )
        keys = [f"{self.name}:{_text(key)}" for key in args[first:after]]
        return (*args[:first], *keys, *args[after:])

    def pipeline(self, *args: Any, **options: Any) -> Any:
        raise NotSteppableError(
            "A node of the explorer has no pipeline.", "Send its commands one by one, or a script."
        )

    lock = pubsub = monitor = pipeline

    def __repr__(self) -> str:
        return f"<{self.name}, played by the explorer>"


def as_nodes(client: redis.Redis, count: int = 5) -> list[Node]:
    """Let the explorer's one server play several that know nothing of one another.

    Args:
        client: what the explorer hands to a function.
        count: how many; the keys of the first begin with `node1:`, and so on.
    """
    if not 1 <= count <= 9:
        raise InvalidSettingError(f"{count} is not a number of nodes.", "Take 1 to 9.")
    return [Node(client, f"node{number}") for number in range(1, count + 1)]


def _text(key: Any) -> str:
    return key.decode(errors="replace") if isinstance(key, bytes) else str(key)
