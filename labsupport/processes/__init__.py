"""Starting, watching and ending processes that leave no orphan."""

from labsupport.processes.closing import Closing
from labsupport.processes.directory import PrivateDirectory, place_for_sockets, writing_to
from labsupport.processes.interrupt import deaf, undisturbed
from labsupport.processes.owned import OwnedProcess
from labsupport.processes.program import Program
from labsupport.processes.reaper import adopt, discard, protect, release
from labsupport.processes.status import (
    ProcessStatus,
    process_status,
    wait_for_status,
    wants_a_core,
)

__all__ = [
    "Closing",
    "OwnedProcess",
    "PrivateDirectory",
    "ProcessStatus",
    "Program",
    "adopt",
    "deaf",
    "discard",
    "place_for_sockets",
    "process_status",
    "protect",
    "release",
    "undisturbed",
    "wait_for_status",
    "wants_a_core",
    "writing_to",
]
