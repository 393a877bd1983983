"""Nodes whose answers take a while, by the client's own clock, and nodes that fail."""

from collections.abc import Mapping
from typing import Any

import redis

from labsupport.explorer.clients.nodes import Node

__all__ = ["DOWN", "LOST", "REFUSES", "nodes_of"]

DOWN, REFUSES, LOST = (
    "is down",
    "answers with an error",
    "does as told, and its first reply is lost",
)
_UNDONE = {
    DOWN: redis.ConnectionError("Connection refused."),
    REFUSES: redis.ResponseError("MISCONF Redis is configured to save, but cannot."),
}


class _FaultyNode(Node):
    """One of several; its first answer takes some seconds.

    Args:
        client: the explorer's client.
        name: what the names of its keys begin with.
        seconds: how long the first answer takes.
        fault: how it fails, if it does.
    """

    def __init__(self, client: Any, name: str, seconds: float, fault: str) -> None:
        super().__init__(client, name)
        self._left, self._fault = seconds, fault

    def asked(self) -> None:
        if self._fault in _UNDONE:
            self._take_time()
            raise _UNDONE[self._fault]

    def answered(self) -> None:
        self._take_time()
        if self._fault == LOST:
            self._fault = ""
            raise redis.TimeoutError("Timeout reading from socket.")

    def _take_time(self) -> None:
        if self._left:
            self._client.actor.sleep(self._left)  # type: ignore[attr-defined]
            self._left = 0.0


def nodes_of(
    redis: Any, count: int, seconds: float = 0.0, faults: Mapping[int, str] = {}
) -> list[Node]:
    """So many nodes, whose first answer takes so many seconds each; faults by number, from 1."""
    return [
        _FaultyNode(redis, f"node{number}", seconds, faults.get(number, ""))
        for number in range(1, count + 1)
    ]
