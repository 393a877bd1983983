"""Who takes part in `StaleReads`: services that read one row again and again, and its writer."""

import itertools
import time
from collections.abc import Callable
from typing import Any

from labsupport.database import Database
from labsupport.experiments import Implementation
from labsupport.labs.cache_invalidation.staleness import version_of
from labsupport.servers import connect_client
from labsupport.workers import Client, point

_USER = 1
_REST_SECONDS = 0.005


def serve(
    client: Client, service: Implementation, url: str, shop: Database, ttl: float, label: str
) -> None:
    """Be a service: read the row again and again."""
    get, _ = service(_connector(url, label), shop, ttl)
    client.meet()
    while client.running:
        start = time.monotonic_ns()
        number = version_of(get(_USER))
        client.record("read", start, time.monotonic_ns(), number)
        client.rest(_REST_SECONDS)


def write(client: Client, service: Implementation, url: str, shop: Database, ttl: float) -> None:
    """Be the writer: change the row each time that the lab says so."""
    _, update = service(_connector(url, "writer"), shop, ttl)
    client.meet()
    for number in itertools.count(2):
        point("before an update")
        if not client.running:
            return
        start = time.monotonic_ns()
        update(_USER, f"ada {number}")
        client.record("update", start, time.monotonic_ns(), number)
        point("after an update")


def _connector(url: str, label: str) -> Callable[..., Any]:
    """What makes clients of the run's Redis; all their connections bear the service's name."""

    def connect(**options: Any) -> Any:
        return connect_client(url, **options | {"client_name": label})

    return connect
