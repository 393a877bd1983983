"""All workers of a run, started, begun, stopped and ended together."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from labsupport.errors import InvalidSettingError, WorkerError
from labsupport.history import History, Recorder
from labsupport.prints import show
from labsupport.processes import Closing, PrivateDirectory, undisturbed, wants_a_core, writing_to
from labsupport.workers.client import Job
from labsupport.workers.launch import launch, pack
from labsupport.workers.worker import Worker

_TICK_SECONDS = 0.02
_SECONDS_TO_MEET = 60.0  # and a few times as many for who would come if the machine let it
_MEETINGS = 4
_CAPACITY = 1 << 17
_OWN_CAPACITY = 1 << 12


class WorkerPool(Closing):
    """Starts workers and ends them all, whatever happens in between; use it in a `with` block.

    Args:
        idle: called all the time while the pool waits for something, e.g. to draw a frame.
        check: called before each start; what it raises ends it.

    Attributes:
        workers: all that were started.
        history: what they have recorded.
    """

    def __init__(
        self,
        *,
        idle: Callable[[], object] | None = None,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        self.workers: list[Worker] = []
        self.history = History()
        self.idle = idle
        self._check = check
        self._directory = PrivateDirectory()
        self._directory.make()
        self._prints = self._directory.path / "prints"
        self._next_client = 0
        self._recorder: Recorder | None = None

    def start(
        self,
        function: Callable[..., Any],
        *args: Any,
        clients: int = 1,
        gated: bool = False,
        name: str | None = None,
    ) -> Worker:
        """Start a process that calls `function(client, *args)` in a thread for each client.

        Args:
            function: it is sent by value, so it may be defined in a cell; its first argument is a
                `Client`.
            args: what else it is given; they are sent by value, too.
            clients: how many clients, i.e. threads, the process has.
            gated: hold its one client at each `point` until `Worker.go`, `until` or `finish`.
            name: what it is called in messages; default: the function's name.

        Raises:
            InvalidSettingError: the function uses what cannot be sent to another process.
        """
        if clients < 1 or (gated and clients != 1):
            raise InvalidSettingError(
                f"A {'gated ' if gated else ''}worker cannot have {clients} clients.",
                "A gated worker has one; any other has one or more.",
            )
        self._check()
        number = len(self.workers)
        numbers = tuple(range(self._next_client, self._next_client + clients))
        blob = pack(function, args)
        ring = self._ring(number, _CAPACITY)
        job = Job(blob, numbers, number, gated, ring, _CAPACITY, self._prints)
        name = name or str(getattr(function, "__name__", "a worker"))
        with undisturbed():  # between the start and the list it would be nobody's
            worker = Worker(name, numbers, *launch(job), tick=self._tick)
            self.workers.append(worker)
        self._next_client += clients
        return worker

    def begin(self) -> None:
        """Wait until each client is in `Client.meet`, then let them all go on at once.

        Raises:
            ImplementationError: a function raised before.
            WorkerError: one has ended, or did not come in time.
        """
        waiting = [worker for worker in self.workers if not worker.done]

        def late() -> list[Worker]:
            return [worker for worker in waiting if len(worker.ready) < len(worker.clients)]

        for _ in range(_MEETINGS):
            met = self.wait(lambda: not late(), seconds=_SECONDS_TO_MEET)
            if met or not self.wait(lambda: any(map(_works, late())), seconds=1.0):
                break
        if late():
            raise WorkerError(
                "Not all clients came to the start in time.",
                "See what they wait for before `client.meet()`.",
            )
        self.history.origin_ns = time.monotonic_ns()
        for worker in self.workers:
            worker.send("begin")

    def stop(self) -> None:
        """Let `Client.running` be False for all clients; returns at once."""
        for worker in self.workers:
            worker.send("stop")

    def note(self, event: str, client: int, value: float = 0.0) -> None:
        """Record what the lab itself has done to a client, now; its process is -1.

        Args:
            event: e.g. "killed"; a worker that is stopped or killed cannot record it.
            client: the number of the client.
            value: what belongs to it.
        """
        if self._recorder is None:
            ring = self._ring(-1, _OWN_CAPACITY)
            self._recorder = Recorder(ring, capacity=_OWN_CAPACITY)
        now = time.monotonic_ns()
        self._recorder.record(event, client, now, now, value)

    def wait(self, condition: Callable[[], bool] | None = None, *, seconds: float) -> bool:
        """Wait for a condition, or just for a while; the pool's idle function runs meanwhile.

        Returns:
            True as soon as the condition holds, False when the time is over.

        Raises:
            ImplementationError: a function raised.
            WorkerError: a process ended by itself.
        """
        deadline = time.monotonic() + seconds
        while condition is None or not condition():
            if time.monotonic() >= deadline:
                return False
            self._tick()
        return True

    def close(self) -> None:
        """Kill all workers, show what they have printed, and remove their files; the history stays."""
        for worker in self.workers:  # all at once: on a busy machine each takes its time to go
            with suppress(ProcessLookupError):  # it has just gone by itself
                if worker.alive:
                    os.kill(worker.pid, signal.SIGKILL)
        for worker in self.workers:
            worker.close()
        printed = self._prints.read_text("utf-8", "replace") if self._prints.exists() else ""
        self._directory.remove()
        show(printed)

    def _ring(self, process: int, capacity: int) -> Path:
        """A new ring file for a process's events, which the history reads."""
        ring = self._directory.path / f"{process}.ring"
        with writing_to(self._directory.path):
            self.history.add(ring, process=process, capacity=capacity)
        return ring

    def _tick(self) -> None:
        """Take in what the workers say in a moment, and let the idle function run."""
        talking = [worker for worker in self.workers if not worker.connection.closed]
        heard = wait([worker.connection for worker in talking], timeout=_TICK_SECONDS)
        for worker in talking:
            if worker.connection in heard:
                worker.receive()
        if not heard and not talking:
            time.sleep(_TICK_SECONDS)
        if self.idle is not None:
            self.idle()


def _works(worker: Worker) -> bool:
    return wants_a_core(worker.pid)
