"""A redis-py client whose commands go straight over one connection."""

from typing import Any

import redis

__all__ = ["DirectRedis"]


class DirectRedis(redis.Redis):
    """A client with one connection, past redis-py's retries and metrics.

    These cost about as much as a command's round trip, and nothing is retried here. Pipelines and
    subscriptions are redis-py's own, on connections of theirs.

    Args:
        client: a client of the server; its connections are used.

    Attributes:
        wire: the connection; None until the first command.
        number: what the server calls the connection (CLIENT ID).
    """

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(connection_pool=client.connection_pool)
        self.wire: Any = None
        self.number = 0

    def execute_command(self, *args: Any, **options: Any) -> Any:
        wire = self.wire or self.dial()
        wire.send_packed_command(wire.pack_command(*args), check_health=False)
        return self.parse_response(wire, args[0], **options)

    def dial(self) -> Any:
        """Open the connection."""
        wire = self.connection_pool.get_connection()
        wire.send_command("CLIENT", "ID")
        self.number = wire.read_response()
        self.wire = wire
        return wire

    def hang_up(self) -> None:
        """Close the connection, and those of the pipelines; the next command opens one anew."""
        if self.wire is not None:
            self.wire.disconnect()
            self.connection_pool.release(self.wire)
            self.wire = None
        self.connection_pool.disconnect()
