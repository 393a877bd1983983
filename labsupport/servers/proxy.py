"""A network that can be frozen and cut: a process between a client and a server."""

import os
import signal
import sys
import time
import weakref
from pathlib import Path

from labsupport.errors import ServerUnreachableError
from labsupport.processes import Closing, OwnedProcess, Program

_SECONDS_TO_START = 30.0


class Proxy(OwnedProcess, Closing):
    """A process that passes TCP traffic on to a port; `Server.proxy` makes one.

    Paused, it lets nothing through and tells nobody; killed, it breaks all connections, and what it
    was sent and has not passed on is lost. `lose_reply` makes it swallow a reply. It ends with
    `close()`, with the `with` block, when nothing refers to it any more, and in any case with the
    kernel.

    Args:
        target: the port of 127.0.0.1 that it passes traffic on to.

    Attributes:
        port: the port of 127.0.0.1 that it listens on.
        directory: its private directory.

    Raises:
        ServerUnreachableError: it did not start.
    """

    port: int
    _Error = ServerUnreachableError
    _remedy = "Make a new one."

    def __init__(self, target: int) -> None:
        program = Program()
        super().__init__(program)
        self.directory = program.directory
        self._program = program
        self._lost = 0
        self._end = weakref.finalize(self, program.end)
        try:
            # no site packages: it starts in a third of the time
            forward = Path(__file__).with_name("forward.py").absolute()
            program.start([sys.executable, "-I", "-S", str(forward), str(target)])
            self.port = _await_port(program)
        except BaseException:
            self.close()
            raise

    def lose_reply(self) -> None:
        """Swallow the next reply of the server, and break the connection that waits for it.

        Raises:
            ServerUnreachableError: it is paused or dead.
        """
        self._lost += 1
        if self.status() == "running":
            os.kill(self.pid, signal.SIGUSR1)
            deadline = time.monotonic() + _SECONDS_TO_START
            while self.alive and time.monotonic() < deadline:
                if self._program.printed().endswith(f"loses {self._lost}\n"):
                    return
                time.sleep(0.001)
        raise ServerUnreachableError(f"{self!r} does not obey.", "resume() it, or make a new one.")

    def close(self) -> None:
        """End it at once; may be called again."""
        self._end()

    def __repr__(self) -> str:
        return f"<proxy of the lab, {self.status()}>"


def _await_port(program: Program) -> int:
    deadline = time.monotonic() + _SECONDS_TO_START
    while time.monotonic() < deadline and not program.ended():
        said = program.printed()
        if said.endswith("\n") and said.strip().isdecimal():
            return int(said)
        time.sleep(0.001)
    raise ServerUnreachableError(
        f"The proxy did not start: {program.printed()[-500:] or 'it printed nothing'}",
        "Run the cell again.",
    )
