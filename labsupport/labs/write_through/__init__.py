"""02 Write-through: what a write costs."""

from labsupport.labs.write_through.write_cost import WriteCost

__all__ = ["WriteCost"]
