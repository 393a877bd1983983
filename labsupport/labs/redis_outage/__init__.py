"""13 When Redis is gone: a cache that takes the site down with it."""

from labsupport.labs.redis_outage.faults import FAULTS, fill, struck
from labsupport.labs.redis_outage.ordeal import LOST_REPLY, Ordeal, Pattern, put_through
from labsupport.labs.redis_outage.outage import Outage

__all__ = [
    "FAULTS",
    "LOST_REPLY",
    "Ordeal",
    "Outage",
    "Pattern",
    "fill",
    "put_through",
    "struck",
]
