"""What the operating system says of a process."""

import subprocess
import time
from pathlib import Path
from typing import Literal

from labsupport.processes.interrupt import deaf

ProcessStatus = Literal["running", "stopped", "dead"]

_SECONDS_TO_OBEY = 10.0


def process_status(pid: int) -> ProcessStatus:
    """Whether a process (not only a child) runs, is stopped by a signal in all threads, or is dead."""
    states = _states(pid) - {"Z", "X", "x"}
    if not states:
        return "dead"
    return "stopped" if states <= {"T"} else "running"


def wants_a_core(pid: int) -> bool:
    """Whether one of a process's threads computes, waits for a core, or for a disk."""
    return bool(_states(pid) & {"R", "D", "U"})


def _states(pid: int) -> set[str]:
    """The states of a process's threads, or, where there is no /proc, its own."""
    proc = Path("/proc")
    if not (proc / "self").exists():
        command = ["ps", "-o", "state=", "-p", str(pid)]
        with deaf():
            return set(subprocess.run(command, capture_output=True, text=True).stdout.strip()[:1])
    states = set()
    try:
        for stat in (proc / str(pid) / "task").glob("*/stat"):
            # the name in parentheses may hold anything, a parenthesis too
            states.add(stat.read_text().rpartition(") ")[2][:1])
    except OSError:
        pass  # it, or one of its threads, ended while we looked
    return states


def wait_for_status(pid: int, wanted: ProcessStatus) -> bool:
    """Wait until a process is in a state, as the operating system sees it.

    Returns:
        False if it died instead, or did not get there in ten seconds.
    """
    deadline = time.monotonic() + _SECONDS_TO_OBEY
    while (status := process_status(pid)) != wanted:
        if status == "dead" or time.monotonic() > deadline:
            return False
        time.sleep(0.0005)
    return True
