"""The cluster that the checks of lab 14 share: to start one for each answer would take too long."""

import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager

from redis.cluster import RedisCluster

from labsupport.errors import ServerUnreachableError
from labsupport.servers.cluster import Cluster, open_cluster, start_cluster

__all__ = ["checks_cluster", "cluster_for_commands"]

_NODE_TIMEOUT_MS = "15000"


@functools.cache
def _shared() -> Cluster:
    cluster = start_cluster()
    # no check lets a node fail; and one that is late, as the machine is busy, must not be replaced
    cluster.set_config(cluster_node_timeout=_NODE_TIMEOUT_MS)
    return cluster


def checks_cluster() -> Cluster:
    """A cluster that is whole and without keys; it ends with the kernel."""
    cluster = _shared()
    try:
        cluster.heal()
    except ServerUnreachableError:
        cluster.close()
        _shared.cache_clear()
        cluster = _shared()
    with cluster.client() as redis:
        for key in list(redis.scan_iter()):
            redis.delete(key)
    return cluster


@contextmanager
def cluster_for_commands() -> Iterator[RedisCluster]:
    """A client of a cluster without keys, whose nodes are left alone: REDIS_CLUSTER_URL's, if it is set."""
    if not os.environ.get("REDIS_CLUSTER_URL", "").strip():
        with checks_cluster().client() as redis:
            yield redis
        return
    with open_cluster() as cluster, cluster.client() as redis:
        yield redis
