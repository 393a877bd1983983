"""A real Redis Cluster on this machine: six nodes, and a network between them that can be cut."""

from labsupport.servers.cluster.bus import published_between
from labsupport.servers.cluster.client import connect_cluster
from labsupport.servers.cluster.cluster import PRIMARIES, SLOTS, Cluster, start_cluster
from labsupport.servers.cluster.endpoint import ClusterEndpoint, open_cluster
from labsupport.servers.cluster.network import Network

__all__ = [
    "PRIMARIES",
    "SLOTS",
    "Cluster",
    "ClusterEndpoint",
    "Network",
    "connect_cluster",
    "open_cluster",
    "published_between",
    "start_cluster",
]
