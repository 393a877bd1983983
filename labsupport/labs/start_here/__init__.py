"""00 Start here: the smallest race, and what a round trip costs."""

from labsupport.labs.start_here.lost_updates import LostUpdates

__all__ = ["LostUpdates"]
