"""Real Redis servers: the lab's own, yours (REDIS_URL), and sets of them."""

from labsupport.servers.binary import find_server
from labsupport.servers.connection import (
    MINIMUM_VERSION,
    check_server,
    connect_client,
    with_database,
)
from labsupport.servers.embedded import Server, start_masters, start_server
from labsupport.servers.endpoint import Endpoint, open_redis
from labsupport.servers.ownership import OWNER_KEY
from labsupport.servers.proxy import Proxy

__all__ = [
    "MINIMUM_VERSION",
    "OWNER_KEY",
    "Endpoint",
    "Proxy",
    "Server",
    "check_server",
    "connect_client",
    "find_server",
    "open_redis",
    "start_masters",
    "start_server",
    "with_database",
]
