"""04 Cache invalidation: how long readers see an old row."""

from labsupport.labs.cache_invalidation.stale_reads import StaleReads

__all__ = ["StaleReads"]
