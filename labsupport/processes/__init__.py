"""Starting, watching and ending processes that leave no orphan."""

from labsupport.processes.interrupt import undisturbed
from labsupport.processes.reaper import adopt, discard, protect, release, spawn
from labsupport.processes.status import ProcessStatus, process_status, wait_for_status

__all__ = [
    "ProcessStatus",
    "adopt",
    "discard",
    "process_status",
    "protect",
    "release",
    "spawn",
    "undisturbed",
    "wait_for_status",
]
