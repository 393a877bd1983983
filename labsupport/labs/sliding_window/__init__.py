"""05 Sliding window: a limiter that neither starves nor overfills."""

from labsupport.labs.sliding_window.rate_limit import RateLimit

__all__ = ["RateLimit"]
