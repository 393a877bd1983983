"""The process and the directory behind a `Server`."""

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

from labsupport.processes import undisturbed
from labsupport.processes.reaper import discard, protect, release, spawn

__all__ = ["ServerProcess"]

_LONGEST_SOCKET_PATH = 99  # macOS takes 103 bytes, Linux 107


class ServerProcess:
    """A redis-server and its private directory.

    It does not know the `Server` that it belongs to, so that it can be ended when that is forgotten.
    """

    def __init__(self, program: Path) -> None:
        self._program = program.absolute()
        self._owner = os.getpid()
        self._child: subprocess.Popen[bytes] | None = None
        name = f"labsupport-{secrets.token_hex(6)}"
        self.directory = Path(tempfile.gettempdir(), name).absolute()
        if len(os.fsencode(self.socket)) > _LONGEST_SOCKET_PATH:
            self.directory = Path("/tmp", name)

    @property
    def socket(self) -> Path:
        return self.directory / "redis.sock"

    @property
    def pid(self) -> int:
        return self._child.pid if self._child else 0

    @property
    def alive(self) -> bool:
        if self._child is None or self._owner != os.getpid():
            return False
        if self._child.poll() is None:
            return True
        release(self._child.pid)  # the number may be given to another process now
        return False

    def start(self, settings: str) -> None:
        """Start the program, which need not be ready yet; the directory comes back if it is gone."""
        self.kill()
        if not self.directory.exists():
            # before it exists: there is no moment at which it could be left
            protect(self.directory)
            self.directory.mkdir(mode=0o700)
        (self.directory / "redis.conf").write_text(settings)
        self._log.unlink(missing_ok=True)
        command = [str(self._program), "redis.conf"]
        with undisturbed():
            self._child = spawn(command, directory=self.directory, log=self._log)

    def wait(self, *, seconds: float) -> bool:
        """Wait for its end."""
        if self._child is None:
            return True
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(timeout=seconds)
        return not self.alive

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
        """Kill it and remove its directory."""
        if self._owner != os.getpid():
            return  # a forked child has no say
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
        discard(self.directory)

    def last_words(self) -> str:
        """The end of what it printed."""
        with suppress(OSError):
            return self._log.read_text(errors="replace")[-2000:]
        return ""

    @property
    def _log(self) -> Path:
        return self.directory / "redis.log"
