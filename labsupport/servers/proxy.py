"""A network that can be frozen and cut: a process between a client and a server."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Self

from labsupport.errors import ServerUnreachableError
from labsupport.processes import undisturbed
from labsupport.processes.reaper import discard, protect, release, spawn
from labsupport.processes.status import ProcessStatus, process_status, wait_for_status

__all__ = ["Proxy"]

_SECONDS_TO_START = 30.0


class Proxy:
    """A process that passes TCP traffic on to a port; `Server.proxy` makes one.

    What it was sent and has not passed on is lost with it, as in a network. It ends with `close()`,
    with the `with` block, when nothing refers to it any more, and in any case with the kernel.

    Args:
        target: the port of 127.0.0.1 that it passes traffic on to.

    Attributes:
        port: the port of 127.0.0.1 that it listens on.

    Raises:
        ServerUnreachableError: it did not start.
    """

    port: int

    def __init__(self, target: int) -> None:
        self._directory = Path(tempfile.gettempdir(), f"labsupport-{secrets.token_hex(6)}")
        protect(self._directory.absolute())
        self._directory.mkdir(mode=0o700)
        log = self._directory / "proxy.log"
        # no site packages: it starts in a third of the time
        program = Path(__file__).with_name("forward.py").absolute()
        command = [sys.executable, "-I", "-S", str(program), str(target)]
        with undisturbed():
            self._child = spawn(command, directory=self._directory, log=log)
            self._end = weakref.finalize(self, _end, self._child, self._directory, os.getpid())
        try:
            self.port = self._await_port(log)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._child.pid

    def status(self) -> ProcessStatus:
        """ "running", "stopped" (paused) or "dead", as the operating system says."""
        return process_status(self.pid) if self._child.poll() is None else "dead"

    def pause(self) -> None:
        """SIGSTOP: what is sent gets no further, and nobody is told. Returns when it is stopped."""
        self._send(signal.SIGSTOP, "stopped")

    def resume(self) -> None:
        """SIGCONT: what was held up goes on."""
        self._send(signal.SIGCONT, "running")

    def kill(self) -> None:
        """SIGKILL (kill -9): connections break, and what was under way is lost."""
        _kill(self._child)

    def close(self) -> None:
        """End it at once; may be called again."""
        self._end()

    def _send(self, number: signal.Signals, wanted: ProcessStatus) -> None:
        if self.status() != "dead":
            os.kill(self.pid, number)
        if self.status() == "dead" or not wait_for_status(self.pid, wanted):
            raise ServerUnreachableError(f"{self!r} cannot be signalled.", "Make a new one.")

    def _await_port(self, log: Path) -> int:
        deadline = time.monotonic() + _SECONDS_TO_START
        while time.monotonic() < deadline and self._child.poll() is None:
            said = log.read_text()
            if said.endswith("\n") and said.strip().isdecimal():
                return int(said)
            time.sleep(0.001)
        raise ServerUnreachableError(
            f"The proxy did not start: {log.read_text()[-500:] or 'it printed nothing'}",
            "Run the cell again.",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<proxy of the lab, {self.status()}>"


def _kill(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        child.kill()
    release(child.pid)
    child.wait()


def _end(child: "subprocess.Popen[bytes]", directory: Path, owner: int) -> None:
    if owner != os.getpid():
        return  # a forked child has no say
    _kill(child)
    shutil.rmtree(directory, ignore_errors=True)
    discard(directory.absolute())
