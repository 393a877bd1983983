"""A worker process as the lab sees it."""

import signal
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any, NamedTuple

import cloudpickle

from labsupport.errors import ImplementationError, LabError, WorkerError
from labsupport.processes import Closing, OwnedProcess, adopt, release, wants_a_core
from labsupport.workers.client import Failure
from labsupport.workers.failure import rebuild

_SECONDS_TO_ARRIVE = 30.0
_AT_MOST = 4  # times as long, for who would arrive if the machine let it
_CALM = 20


class _Forked(NamedTuple):
    """A child of the fork server, as a process that is ours."""

    process: ForkServerProcess

    @property
    def pid(self) -> int:
        return self.process.pid or 0

    def ended(self) -> bool:
        return self.process.exitcode is not None

    def kill(self) -> None:
        release(self.pid)
        if not self.ended():
            self.process.kill()
        self.process.join()


class Worker(OwnedProcess, Closing):
    """A worker process; `WorkerPool.start` makes one.

    Attributes:
        name: what it is called in messages.
        clients: the numbers of its clients.
        results: for each client whose function has returned, what it returned.
        ready: the clients that wait in `Client.meet`.
        killed: whether the lab killed it.
    """

    _Error = WorkerError
    _remedy = "Start another."

    def __init__(
        self,
        name: str,
        clients: tuple[int, ...],
        process: ForkServerProcess,
        connection: Connection,
        *,
        tick: Callable[[], None],
    ) -> None:
        super().__init__(_Forked(process))
        adopt(self.pid)
        self.name = name
        self.clients = clients
        self.results: dict[int, Any] = {}
        self.ready: set[int] = set()
        self.killed = False
        self.up = False
        self.connection = connection
        self._process = process
        self._tick = tick
        self._arrivals: deque[str] = deque()
        self._passed: list[str] = []
        self._held = False

    @property
    def done(self) -> bool:
        """True when its function has returned for all clients."""
        return len(self.results) == len(self.clients)

    @property
    def result(self) -> Any:
        """What its function returned, for its first client; None as long as it has not."""
        return self.results.get(self.clients[0])

    def kill(self) -> None:
        """SIGKILL (kill -9), also when it is paused. Returns when it is gone."""
        self.killed = True
        super().kill()

    def until(self, point: str, *, seconds: float = _SECONDS_TO_ARRIVE) -> None:
        """Let it run until it arrives at a point (again, if it is at one), and hold it there.

        Args:
            point: the name that its code gives to `point`.
            seconds: how long to wait.

        Raises:
            WorkerError: it ended before, or did not arrive in time.
        """
        begin = time.monotonic()
        if not self._arrivals:  # else it is at a point that nobody has asked for yet
            self.go()
        while True:
            arrived = self._arrive(begin, seconds, f"did not reach the point {point!r}")
            if arrived is None:
                passed = ", ".join(map(repr, self._passed)) or "none"
                raise WorkerError(
                    f"{self.name} ended without reaching the point {point!r}; it passed: {passed}.",
                    "Call `point` with that name in the function, or wait for another name.",
                )
            if arrived == point:
                return
            self.go()

    def go(self) -> None:
        """Let it leave the point at which it is held; while it is paused, the order waits."""
        if self._held:
            self._held = False
            self._arrivals.clear()
            self.send("go")

    def finish(self, *, seconds: float = _SECONDS_TO_ARRIVE) -> Any:
        """Let it run to its end, through all points.

        Returns:
            what its function returned.

        Raises:
            WorkerError: it did not end in time.
        """
        begin = time.monotonic()
        self.go()
        while self._arrive(begin, seconds, "did not end") is not None:
            self.go()
        return self.result

    def send(self, order: str) -> None:
        """Send it an order; a dead worker's are lost, as they are in life."""
        try:
            self.connection.send(order)
        except OSError:
            if not self.killed:
                self._died()

    def receive(self) -> None:
        """Take in what it has said.

        Raises:
            ImplementationError: its function raised.
            WorkerError: the process ended by itself.
        """
        try:
            while not self.connection.closed and self.connection.poll():
                self._take(*self.connection.recv())
        except (EOFError, OSError):
            self.connection.close()
            if not self.killed:
                self._died()

    def close(self) -> None:
        """Kill it and forget it; may be called again."""
        self.kill()
        self.connection.close()

    def _take(self, kind: str, client: int, what: Any) -> None:
        match kind:
            case "up":
                self.up = True
            case "ready":
                self.ready.add(client)
            case "at":
                self._held = True
                self._passed.append(what)
                self._arrivals.append(what)
            case "done":
                self.results[client] = cloudpickle.loads(what)
            case "failed":
                failure: Failure = cloudpickle.loads(what)
                error = rebuild(failure)
                if isinstance(error, LabError):
                    raise error
                raise ImplementationError(self.name, error)

    def _arrive(self, begin: float, seconds: float, complaint: str) -> str | None:
        """The next point at which it is held; None when its function has returned."""
        calm = 0  # looks in a row, when it should be there, at which it did not even want a core
        while not self._arrivals:
            if self.done:
                return None
            if self.killed:
                raise WorkerError(f"{self.name} {complaint}: it was killed.", "Start another.")
            took = time.monotonic() - begin
            if took > seconds:
                calm = 0 if wants_a_core(self.pid) else calm + 1
            if calm > _CALM or took > max(_AT_MOST * seconds, 1):
                raise WorkerError(
                    f"{self.name} {complaint} in time; it is {self.status()}.",
                    "Resume it if it is stopped, and see what it waits for.",
                )
            self._tick()
        return self._arrivals.popleft()

    def __repr__(self) -> str:
        return f"<{self.name}, {self.status()}>"

    def _died(self) -> None:
        self._process.join(timeout=5)
        code = self._process.exitcode
        if code == -signal.SIGBUS:  # what is mapped into memory found no room in the file
            remedy = "The disk is full: make room, or set TMPDIR to a directory that has some."
        else:
            remedy = "A function under study must not end its process; see what in it does."
        raise WorkerError(f"The process of {self.name} ended by itself (exit code {code}).", remedy)
