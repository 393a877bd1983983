"""08 Redlock: two majorities out of five servers."""

from labsupport.labs.redlock.two_holders import TwoHolders

__all__ = ["TwoHolders"]
