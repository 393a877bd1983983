"""The network of a cluster: a process that all its links go through, and that can hold some of them."""

import json
import socket
import sys
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from labsupport.errors import ServerUnreachableError
from labsupport.processes import Closing, OwnedProcess, Program
from labsupport.servers.cluster.switch import SOCKET

_SECONDS_TO_START = 30.0
_SECONDS_TO_OBEY = 10.0


class Network(OwnedProcess, Closing):
    """A process between the nodes of a cluster, and before them for clients.

    A link that it holds lets nothing through and tells nobody, as a network does that has lost its
    way. It ends with `close()`, with the `with` block, when nothing refers to it any more, and in any
    case with the kernel.

    Args:
        targets: the port and the bus port of each node.

    Attributes:
        ports: the two ports of 127.0.0.1 that it listens on in their place.
        directory: its private directory.

    Raises:
        ServerUnreachableError: it did not start.
    """

    ports: list[tuple[int, int]]
    _Error = ServerUnreachableError
    _remedy = "Start another cluster."

    def __init__(self, targets: Sequence[tuple[int, int]]) -> None:
        self._program = Program(SOCKET)
        super().__init__(self._program)
        self.directory = self._program.directory
        self._held: set[tuple[str, int]] = set()
        self._end = weakref.finalize(self, self._program.end)
        try:
            # no site packages: it starts in a third of the time
            switch = str(Path(__file__).with_name("switch.py").absolute())
            numbers = [str(port) for pair in targets for port in pair]
            self._program.start([sys.executable, "-I", "-S", switch, *numbers])
            self.ports = self._await_ports()
        except BaseException:
            self.close()
            raise

    def hold(self, node: int, *, bus: bool = False, replication: bool = False) -> None:
        """Hold the links of a node from now on: what the nodes say to each other, or the data."""
        wanted = {"bus": bus, "replication": replication}
        self._held |= {(kind, node) for kind, held in wanted.items() if held}
        self._order()

    def release(self) -> None:
        """Hold nothing any more; what was held arrives now."""
        self._held.clear()
        self._order()

    def bus_bytes(self) -> int:
        """How many bytes the cluster bus has carried so far."""
        return self._order()

    def close(self) -> None:
        """End it at once; may be called again."""
        self._end()

    def __repr__(self) -> str:
        return f"<network of the lab, {self.status()}>"

    def _order(self) -> int:
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(_SECONDS_TO_OBEY)
                line.connect(str(self.directory / SOCKET))
                line.sendall(json.dumps(sorted(self._held)).encode() + b"\n")
                return int(line.makefile().readline())
        except (OSError, ValueError) as error:
            raise ServerUnreachableError(f"{self!r} does not obey.", self._remedy) from error

    def _await_ports(self) -> list[tuple[int, int]]:
        deadline = time.monotonic() + _SECONDS_TO_START
        while time.monotonic() < deadline and not self._program.ended():
            with suppress(ValueError):
                return [(port, bus) for port, bus in json.loads(self._program.printed())]
            time.sleep(0.001)
        raise ServerUnreachableError(
            f"The network did not start: {self._program.printed()[-500:] or 'it printed nothing'}",
            "Run the cell again.",
        )
