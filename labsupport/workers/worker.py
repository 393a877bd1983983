"""A worker process as the lab sees it."""

import os
import signal
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

import cloudpickle

from labsupport.errors import ImplementationError, LabError, WorkerError
from labsupport.processes.reaper import adopt, release
from labsupport.processes.status import ProcessStatus, process_status, wait_for_status
from labsupport.workers.client import Failure
from labsupport.workers.failure import rebuild

__all__ = ["Worker"]

_SECONDS_TO_ARRIVE = 30.0


class Worker:
    """A worker process; `WorkerPool.start` makes one.

    Attributes:
        name: what it is called in messages.
        clients: the numbers of its clients.
        results: for each client whose function has returned, what it returned.
        ready: the clients that wait in `Client.meet`.
        killed: whether the lab killed it.
    """

    def __init__(
        self,
        name: str,
        clients: tuple[int, ...],
        process: ForkServerProcess,
        connection: Connection,
        *,
        tick: Callable[[], None],
    ) -> None:
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
        self.pid = process.pid or 0
        adopt(self.pid)

    @property
    def done(self) -> bool:
        """True when its function has returned for all clients."""
        return len(self.results) == len(self.clients)

    @property
    def result(self) -> Any:
        """What its function returned, for its first client; None as long as it has not."""
        return self.results.get(self.clients[0])

    def status(self) -> ProcessStatus:
        """ "running", "stopped" or "dead", as the operating system says."""
        return process_status(self.pid) if self._process.exitcode is None else "dead"

    def pause(self) -> None:
        """SIGSTOP: it does nothing more, and does not know. Returns when it is stopped.

        Raises:
            WorkerError: it is dead.
        """
        self._signal(signal.SIGSTOP, "stopped")

    def resume(self) -> None:
        """SIGCONT: it goes on, unaware that time has passed.

        Raises:
            WorkerError: it is dead.
        """
        self._signal(signal.SIGCONT, "running")

    def kill(self) -> None:
        """SIGKILL (kill -9), also when it is paused. Returns when it is gone."""
        self.killed = True
        release(self.pid)
        if self._process.exitcode is None:
            self._process.kill()
        self._process.join()

    def until(self, point: str, *, seconds: float = _SECONDS_TO_ARRIVE) -> None:
        """Let it run until it arrives at a point (again, if it is at one), and hold it there.

        Args:
            point: the name that its code gives to `point`.
            seconds: how long to wait.

        Raises:
            WorkerError: it ended before, or did not arrive in time.
        """
        deadline = time.monotonic() + seconds
        if not self._arrivals:  # else it is at a point that nobody has asked for yet
            self.go()
        while True:
            arrived = self._arrive(deadline, f"did not reach the point {point!r}")
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
        deadline = time.monotonic() + seconds
        self.go()
        while self._arrive(deadline, "did not end") is not None:
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

    def end(self) -> None:
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

    def _arrive(self, deadline: float, complaint: str) -> str | None:
        """The next point at which it is held; None when its function has returned."""
        while not self._arrivals:
            if self.done:
                return None
            if self.killed:
                raise WorkerError(f"{self.name} {complaint}: it was killed.", "Start another.")
            if time.monotonic() > deadline:
                raise WorkerError(
                    f"{self.name} {complaint} in time; it is {self.status()}.",
                    "Resume it if it is stopped, and see what it waits for.",
                )
            self._tick()
        return self._arrivals.popleft()

    def _signal(self, number: signal.Signals, wanted: ProcessStatus) -> None:
        if self.status() == "dead":
            raise WorkerError(f"{self.name} is dead and cannot be {number.name}.", "Start another.")
        os.kill(self.pid, number)
        if not wait_for_status(self.pid, wanted):
            raise WorkerError(f"{self.name} did not obey {number.name}.", "Run the cell again.")

    def _died(self) -> None:
        self._process.join(timeout=5)
        raise WorkerError(
            f"The process of {self.name} ended by itself (exit code {self._process.exitcode}).",
            "A function under study must not end its process; see what in it does.",
        )
