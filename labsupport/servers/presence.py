"""A sign of life on somebody's server: it is there as long as this kernel is."""

import os
import re
import secrets
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from labsupport.servers.connection import connect_client, with_database

_SECONDS_BETWEEN_TRIES = 0.2


class Presence:
    """A connection that is subscribed to the channel `labsupport:TOKEN` until `end()`.

    A subscribed connection is never idle to a server that closes idle ones; the channel is a sharded
    one, since those are not among the PUBSUB CHANNELS that a reader may look at. When the connection
    is lost (a restart, CLIENT KILL) it is made again.

    Args:
        url: the server's.
        again: called, in a thread, each time that the connection had to be made again.
        tag: what the token begins with; in braces, it says in which slot the channel is.

    Attributes:
        token: unique; it starts with `process`, which is the same for all of this process.

    Raises:
        RedisError: the server refuses.
    """

    def __init__(self, url: str, again: Callable[[], None], *, tag: str = "") -> None:
        self.process = f"{tag}{re.sub(r'[^A-Za-z0-9_.]', '_', socket.gethostname())}-{os.getpid()}-"
        self.token = self.process + secrets.token_hex(8)
        self._again = again
        self._over = threading.Event()
        options: dict[str, Any] = {
            "client_name": f"labsupport-{self.token}",
            "protocol": 2,
            "socket_timeout": None,  # nothing is ever published there
        }
        self._client = connect_client(with_database(url, 0), **options)
        self._connection = self._client.connection_pool.get_connection()
        self._thread = threading.Thread(target=self._hold, name="labsupport-presence", daemon=True)
        try:
            self._subscribe()
        except BaseException:
            self._client.close()
            raise
        self._thread.start()

    def end(self) -> None:
        """Let go of the connection."""
        self._over.set()
        self._connection.disconnect()  # wakes the thread
        self._thread.join(timeout=5)
        self._client.close()

    def _subscribe(self) -> None:
        self._connection.connect()
        self._connection.send_command("SSUBSCRIBE", f"labsupport:{self.token}")
        self._connection.read_response()

    def _hold(self) -> None:
        # Whatever fails, also in redis-py when end() disconnects it under our hands, is a lost connection.
        while not self._over.is_set():
            with suppress(Exception):
                self._connection.read_response()
                continue
            while not self._over.wait(_SECONDS_BETWEEN_TRIES):
                with suppress(Exception):
                    self._connection.disconnect()
                    self._subscribe()
                    self._again()
                    break
        self._connection.disconnect()
