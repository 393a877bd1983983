"""Real Redis servers: the lab's own, yours (REDIS_URL), and sets of them."""

from labsupport.servers.binary import find_server
from labsupport.servers.claim import OWNER_KEY
from labsupport.servers.connection import MINIMUM_VERSION, check_server, connect_client
from labsupport.servers.embedded import Server, start_masters, start_server
from labsupport.servers.endpoint import Endpoint, open_redis
from labsupport.servers.processes import ProcessStatus, process_status, wait_for_status
from labsupport.servers.proxy import Proxy
from labsupport.servers.reaper import adopt, discard, protect, release

__all__ = [
    "MINIMUM_VERSION",
    "OWNER_KEY",
    "Endpoint",
    "ProcessStatus",
    "Proxy",
    "Server",
    "adopt",
    "check_server",
    "connect_client",
    "discard",
    "find_server",
    "open_redis",
    "process_status",
    "protect",
    "release",
    "start_masters",
    "start_server",
    "wait_for_status",
]
