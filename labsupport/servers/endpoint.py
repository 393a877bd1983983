"""What a lab is connected to: a server of its own, or one database of yours (REDIS_URL)."""

import os
import weakref
from collections.abc import Callable
from typing import Any

import redis

from labsupport.processes import Closing
from labsupport.servers.connection import check_server, check_url, connect_client, redacted
from labsupport.servers.embedded import Server, start_server
from labsupport.servers.ownership import Ownership


class Endpoint(Closing):
    """A Redis that a lab may use as it likes; use `open_redis`.

    Attributes:
        url: its address for clients, with the password if there is one.
        description: the same for the reader's eyes.
        server: the embedded server; None when the server is not the lab's.
    """

    def __init__(
        self, url: str, description: str, end: Callable[[], None], *, server: Server | None = None
    ) -> None:
        self.url = url
        self.server = server
        self.description = description
        self._end = weakref.finalize(self, end)

    def client(self, **options: Any) -> redis.Redis:
        """A new client, see `connect_client`."""
        client = connect_client(self.url, **options)
        # whoever has a client has the endpoint
        client.connection_pool.labsupport_endpoint = self  # type: ignore[attr-defined]
        return client

    def close(self) -> None:
        """Stop the lab's own server, or remove the lab's keys from yours; may be called again."""
        self._end()

    def __repr__(self) -> str:
        return f"<{self.description}>"


def open_redis(url: str | None = None) -> Endpoint:
    """A Redis for one lab: its own embedded one, or one database of the server that you name.

    On your server the lab takes a database that is empty, marks it with `labsupport:owner`, and
    removes what it wrote when it closes; never with FLUSHALL. Labs on one server never meet.

    Args:
        url: default: the variable REDIS_URL; if that is not set, or "", an embedded server is started.

    Raises:
        ServerNotFoundError: there is no redis-server to start.
        ServerUnreachableError: the server does not answer, or refuses the credentials.
        ServerTooOldError: the server is older than `MINIMUM_VERSION`.
        ForeignKeysError: the database that the URL names, or every one, holds foreign keys.
        InvalidSettingError: the URL is malformed.
    """
    url = (os.environ.get("REDIS_URL", "") if url is None else url).strip()
    if not url:
        server = start_server()
        description = f"{server.product}, the lab's own"
        return Endpoint(server.url, description, server.close, server=server)
    check_url(url)
    product = check_server(url)
    owned = Ownership(url)
    return Endpoint(owned.url, f"{product} at {redacted(owned.url)}", owned.release)
