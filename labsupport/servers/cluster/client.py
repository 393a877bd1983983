"""Connecting to a Redis Cluster: a client that knows all its nodes, and says an error at once."""

from collections.abc import Sequence
from typing import Any

from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

_SECONDS_TO_CONNECT = 5.0
_SECONDS_TO_ANSWER = 10.0


def connect_cluster(ports: Sequence[int], **options: Any) -> RedisCluster:
    """A client of the cluster with nodes at these ports of 127.0.0.1: replies are text.

    redis-py tries a command ten times by default, also one whose reply was lost. Here an error is an
    error at once, as every pattern in this course needs it; redirections are followed.

    Args:
        ports: of the nodes that are asked who has which slot; one that answers is enough.
        options: passed to `RedisCluster`; they win over the defaults of the lab.
    """
    nodes = [ClusterNode("127.0.0.1", port) for port in ports]
    return RedisCluster(startup_nodes=nodes, **(_defaults() | options))


def cluster_at(url: str, **options: Any) -> RedisCluster:
    """A client of the cluster that the node at `url` belongs to; see `connect_cluster`."""
    client: RedisCluster = RedisCluster.from_url(url, **(_defaults() | options))
    return client


def _defaults() -> dict[str, Any]:
    return {
        "decode_responses": True,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": _SECONDS_TO_CONNECT,
        "socket_timeout": _SECONDS_TO_ANSWER,
    }
