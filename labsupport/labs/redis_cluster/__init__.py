"""14 Redis Cluster: keys on different nodes, and a failover that forgets a write."""

from labsupport.labs.redis_cluster.cluster_fault import ClusterFault
from labsupport.labs.redis_cluster.slots import draw_slots

__all__ = ["ClusterFault", "draw_slots"]
