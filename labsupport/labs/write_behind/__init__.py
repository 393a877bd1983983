"""03 Write-behind: what a crash takes with it."""

from labsupport.labs.write_behind.write_behind_crash import WriteBehindCrash

__all__ = ["WriteBehindCrash"]
