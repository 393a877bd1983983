"""A Redis client that stops its worker before any command of the code under study."""

from typing import Any

import redis
from redis.connection import Connection

from labsupport.servers import connect_client
from labsupport.workers.client import point


class Breakpoint:
    """Holds a gated worker at the point "breakpoint", before the n-th command that its client sends.

    A MULTI/EXEC block, a pipeline and a script are sent as one.
    """

    def __init__(self) -> None:
        self._left = 0

    def before(self, place: int) -> None:
        """From now on, stop before the command in that place, counted from 1."""
        self._left = place

    def over(self) -> bool:
        """Stop now if there were too few commands, so that the lab need not know how many.

        Returns:
            True when the worker was stopped between two commands or before the first.
        """
        stopped, self._left = not self._left, 0
        if not stopped:
            point("breakpoint")
        return stopped

    def passed(self) -> None:
        """The next command is about to be sent."""
        if self._left:
            self._left -= 1
            if not self._left:
                point("breakpoint")


def breakpoint_client(url: str, **options: Any) -> tuple[redis.Redis, Breakpoint]:
    """A connected client, as `connect_client` makes it, and the breakpoint in it.

    Args:
        url: of the server.
        options: passed to `connect_client`.
    """
    client, stop = connect_client(url, **options), Breakpoint()
    kind: type[Connection] = client.connection_pool.connection_class

    class Stopping(kind):  # type: ignore[misc, valid-type]
        def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            stop.passed()
            super().send_packed_command(command, check_health)

    client.connection_pool.connection_class = Stopping
    client.ping()  # what a connection says first is no command of the code under study
    return client, stop
