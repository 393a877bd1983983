"""The cluster that the checks of lab 14 share: to start one for each answer would take too long."""

import functools

from labsupport.servers.cluster import Cluster, start_cluster

__all__ = ["checks_cluster"]


@functools.cache
def _shared() -> Cluster:
    return start_cluster()


def checks_cluster() -> Cluster:
    """A cluster that is whole and without keys; it ends with the kernel."""
    cluster = _shared()
    cluster.heal()
    with cluster.client() as redis:
        for key in list(redis.scan_iter()):
            redis.delete(key)
    return cluster
