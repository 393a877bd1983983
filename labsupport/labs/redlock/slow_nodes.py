"""Nodes whose answers take a while, by the client's own clock."""

from typing import Any

from labsupport.explorer.clients.nodes import Node

__all__ = ["nodes_of"]


class _SlowNode(Node):
    def __init__(self, client: Any, name: str, seconds: float) -> None:
        super().__init__(client, name)
        self._left = seconds

    def answered(self) -> None:
        if self._left:
            self._client.actor.sleep(self._left)  # type: ignore[attr-defined]
            self._left = 0.0


def nodes_of(redis: Any, count: int, seconds: float = 0.0) -> list[Node]:
    """So many nodes, whose first answer takes so many seconds each."""
    return [_SlowNode(redis, f"node{place + 1}", seconds) for place in range(count)]
