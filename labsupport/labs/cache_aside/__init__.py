"""01 Cache-aside: the thundering herd and the stale fill."""

from labsupport.labs.cache_aside.thundering_herd import ThunderingHerd

__all__ = ["ThunderingHerd"]
