"""A Redis client that can hold its worker before any command of the code under study."""

from typing import Any

import redis
from redis.connection import Connection

from labsupport.servers import connect_client
from labsupport.workers.client import point

__all__ = ["Breakpoint", "breakpoint_client"]


class Breakpoint:
    """Holds a gated worker at the point "breakpoint", before the n-th command that its client sends.

    A MULTI/EXEC block, a pipeline and a script are sent as one.
    """

    def __init__(self) -> None:
        self._left = 0

    def before(self, place: int) -> None:
        """Breakpoint before the command in that place, counted from 1, from now on."""
        self._left = place

    def over(self) -> bool:
        """Breakpoint now if there were too few commands, so that the lab need not know how many.

        Returns:
            True when the worker was held between two commands or before the first.
        """
        held, self._left = not self._left, 0
        if not held:
            point("breakpoint")
        return held

    def passed(self) -> None:
        """The next command is about to be sent."""
        if self._left:
            self._left -= 1
            if not self._left:
                point("breakpoint")


def breakpoint_client(url: str, **options: Any) -> tuple[redis.Redis, Breakpoint]:
    """A connected client, as `connect_client` makes it, and what holds its worker.

    Args:
        url: of the server.
        options: passed to `connect_client`.
    """
    client, hold = connect_client(url, **options), Breakpoint()
    pool = client.connection_pool
    kind: type[Connection] = pool.connection_class

    class Held(kind):  # type: ignore[misc, valid-type]
        def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            hold.passed()
            super().send_packed_command(command, check_health)

    pool.connection_class = Held
    client.ping()  # what a connection says first is no command of the code under study
    return client, hold
