"""07 Distributed lock: two holders of one lock."""

from labsupport.labs.distributed_lock.lock_race import LockRace

__all__ = ["LockRace"]
