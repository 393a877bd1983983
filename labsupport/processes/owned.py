"""A process that the lab owns: it can be paused, resumed and killed, and is seen as it is."""

import os
import signal
from typing import ClassVar, Protocol

from labsupport.errors import LabError
from labsupport.processes.status import ProcessStatus, process_status, wait_for_status


class Child(Protocol):
    """A process of ours, however it was started."""

    @property
    def pid(self) -> int:
        """Its number; 0 before it was started."""

    def ended(self) -> bool:
        """Whether it is gone, or a forked child asks, which has no say."""

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""


class OwnedProcess:
    """What can be done to a process, also when it does not know; it ends with the kernel at last."""

    _Error: ClassVar[type[LabError]] = LabError
    _remedy: ClassVar[str]

    def __init__(self, child: Child) -> None:
        self._child = child

    @property
    def pid(self) -> int:
        """Its number."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the process exists, paused or not."""
        return not self._child.ended()

    def status(self) -> ProcessStatus:
        """ "running", "stopped" (paused) or "dead", as the operating system says."""
        return process_status(self.pid) if self.alive else "dead"

    def pause(self) -> None:
        """SIGSTOP: it does nothing more, and does not know. Returns when it is stopped.

        Raises:
            LabError: it is dead.
        """
        self._signal(signal.SIGSTOP, "stopped")

    def resume(self) -> None:
        """SIGCONT: it goes on, unaware that time has passed.

        Raises:
            LabError: it is dead.
        """
        self._signal(signal.SIGCONT, "running")

    def kill(self) -> None:
        """SIGKILL (kill -9), also when it is paused. Returns when it is gone."""
        self._child.kill()

    def _signal(self, number: signal.Signals, wanted: ProcessStatus) -> None:
        if self.alive:
            os.kill(self.pid, number)
        if not self.alive or not wait_for_status(self.pid, wanted):
            raise self._Error(f"{self!r} does not obey {number.name}.", self._remedy)
