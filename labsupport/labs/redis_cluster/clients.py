"""The processes of `ClusterFault`: who takes orders, and who watches the nodes."""

from contextlib import suppress
from typing import Any

from redis.exceptions import RedisClusterException, RedisError

from labsupport.experiments import Implementation
from labsupport.servers import connect_client
from labsupport.servers.cluster import PRIMARIES, connect_cluster
from labsupport.workers import Client

KEYS = ("orders:{lima}", "orders:{oslo}", "orders:{cairo}")
"""A list for each primary. The last one's is struck: it is not the node that gets what has no key."""
GONE, REPLICA, PRIMARY = range(3)

_PACE_SECONDS = 0.006
_LOOK_SECONDS = 0.04
_SECONDS_TO_ANSWER = 2.0


def order_name(number: float) -> str:
    """An order as it is put into a list."""
    return f"order-{int(number)}"


def take_orders(client: Client, take: Implementation, ports: list[int]) -> None:
    """Take one order after the other, all of them for one list."""
    redis = connect_cluster(ports, socket_timeout=_SECONDS_TO_ANSWER)
    key, number = KEYS[client.number % (PRIMARIES + 1)], 0
    client.meet()
    while client.running:
        event = "refused"
        with suppress(RedisError, RedisClusterException, OSError), client.timed("tried"):
            event = "taken" if take(redis, key, order_name(number)) else "unconfirmed"
        client.note(event, number)
        number += 1
        client.rest(_PACE_SECONDS)


def watch(client: Client, urls: list[str]) -> None:
    """Look at each node all the time: whether it is there, and what it takes itself for."""
    nodes = [connect_client(url, socket_timeout=_SECONDS_TO_ANSWER) for url in urls]
    client.meet()
    while client.running:
        for place, node in enumerate(nodes):
            client.note(f"node {place}", _role(node))
        client.rest(_LOOK_SECONDS)


def _role(node: Any) -> int:
    try:
        return PRIMARY if node.info("replication")["role"] == "master" else REPLICA
    except RedisError:
        return GONE
