"""A program that runs in a directory of its own; neither outlives the kernel."""

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from labsupport.processes.directory import PrivateDirectory, writing_to
from labsupport.processes.interrupt import undisturbed
from labsupport.processes.reaper import release, spawn


class Program:
    """A child process with its directory; it can be started again.

    It does not know the object that it serves, so that it can be ended when that is forgotten.

    Args:
        socket: the name of a socket in its directory, see `PrivateDirectory`.

    Attributes:
        directory: where it runs.
    """

    def __init__(self, socket: str = "") -> None:
        self._owner = os.getpid()
        self._child: subprocess.Popen[bytes] | None = None
        self._private = PrivateDirectory(socket)
        self.directory: Path = self._private.path
        self._log = self.directory / "printed.log"

    @property
    def pid(self) -> int:
        """Its number; 0 before the first start."""
        return self._child.pid if self._child else 0

    def start(self, command: list[str], files: Mapping[str, str] | None = None) -> None:
        """Start it, anew if it runs; the directory comes back if it is gone.

        Args:
            command: the program and its arguments.
            files: the texts that are to be in its directory, by name.

        Raises:
            LabError: nothing can be written there.
        """
        self.kill()
        self._private.make()
        with writing_to(self.directory):
            for name, text in (files or {}).items():
                (self.directory / name).write_text(text)
            self._log.write_bytes(b"")
        with undisturbed():
            self._child = spawn(command, directory=self.directory, log=self._log)

    def ended(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, or does so within some seconds; for a forked child it has."""
        if self._child is None or self._owner != os.getpid():
            return True
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=seconds)
            release(self._child.pid)  # the number may be given to another process now
            return True
        return False

    def kill(self) -> None:
        """SIGKILL, also to a child that saves in the background; returns when it is gone."""
        if self._child is None or self._owner != os.getpid():
            return
        if self._child.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.kill()
        release(self._child.pid)
        self._child.wait()

    def end(self) -> None:
        """Kill it and remove its directory; a forked child has no say."""
        self.kill()
        self._private.remove()

    def printed(self) -> str:
        """The end of what it printed."""
        with suppress(OSError):
            return self._log.read_text(errors="replace")[-2000:]
        return ""
