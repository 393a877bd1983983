"""Several servers, played by the explorer's one: a node's keys are those that begin with its name."""

from typing import Any

import redis
from redis.commands import CoreCommands

from labsupport.errors import InvalidSettingError
from labsupport.explorer.clients.actor import refusal

__all__ = ["Node", "NodePipeline", "as_nodes"]

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
        reply = self._client.execute_command(*self.named(args), **options)
        self.answered()
        return reply

    def answered(self) -> None:
        """Called when a reply has come."""

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> "NodePipeline":
        """As redis-py's: a transaction is one step."""
        return NodePipeline(self, self._client.pipeline(transaction, shard_hint))

    transaction = redis.Redis.transaction  # which asks for no more than a pipeline

    def get_encoder(self) -> Any:
        return self._client.get_encoder()

    def named(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The command with this node's keys."""
        command = str(args[0]).upper()
        if command in _NO_KEY:
            return args
        if command in _SCRIPTED:
            first, after = 3, 3 + int(args[2])
        elif command in _ONE_KEY or command in _MANY_KEYS:
            first, after = 1, 2 if command in _ONE_KEY else len(args)
        else:
            raise refusal(
                f"A node of the explorer does not know the command {command}.",
                f"It knows {', '.join(sorted(_ONE_KEY | _MANY_KEYS | _SCRIPTED | _NO_KEY))}.",
            )
        return (*args[:first], *map(self.key, args[first:after]), *args[after:])

    def key(self, key: Any) -> str:
        """What the explorer's server has the node's key under."""
        return f"{self.name}:{_text(key)}"

    def lock(self, *args: Any, **options: Any) -> Any:
        raise refusal(
            "A node of the explorer has neither lock, nor pubsub, nor monitor.",
            "Send its commands.",
        )

    pubsub = monitor = lock

    def __repr__(self) -> str:
        return f"<{self.name}, played by the explorer>"


class NodePipeline(CoreCommands):
    """A pipeline to one node.

    Args:
        node: knows the names of its keys.
        pipeline: that of the explorer's client.
    """

    def __init__(self, node: Node, pipeline: Any) -> None:
        self._node, self._pipeline = node, pipeline
        self._event_dispatcher: Any = None

    def execute_command(self, *args: Any, **options: Any) -> Any:
        reply = self._pipeline.execute_command(*self._node.named(args), **options)
        return self if reply is self._pipeline else reply

    def watch(self, *names: Any) -> Any:
        return self._pipeline.watch(*map(self._node.key, names))

    def unwatch(self) -> Any:
        return self._pipeline.unwatch()

    def execute(self, raise_on_error: bool = True) -> Any:
        replies = self._pipeline.execute(raise_on_error)
        self._node.answered()
        return replies

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    def __enter__(self) -> "NodePipeline":
        return self

    def __exit__(self, *error: object) -> None:
        self._pipeline.reset()

    def __len__(self) -> int:
        return len(self._pipeline)


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
