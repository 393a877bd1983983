"""Nodes whose answers take a while, by the client's own clock, and that know what they were asked."""

from typing import Any

from labsupport.explorer.clients.nodes import Node

__all__ = ["nodes_of"]


class _SlowNode(Node):
    """A node.

    Attributes:
        asked: the commands that it has answered, and not with an error.
    """

    def __init__(self, client: Any, name: str, seconds: float) -> None:
        super().__init__(client, name)
        self._left = seconds
        self.asked: list[tuple[Any, ...]] = []

    def execute_command(self, *args: Any, **options: Any) -> Any:
        reply = super().execute_command(*args, **options)
        self.asked.append(args)
        return reply

    def answered(self) -> None:
        if self._left:
            self._client.actor.sleep(self._left)  # type: ignore[attr-defined]
            self._left = 0.0


def nodes_of(redis: Any, count: int, seconds: float = 0.0) -> list[_SlowNode]:
    """So many nodes, whose first answer takes so many seconds each."""
    return [_SlowNode(redis, f"node{place + 1}", seconds) for place in range(count)]
