"""The inside of a worker process: its clients, each one a thread, and what they can do."""

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import cloudpickle

from labsupport.errors import LabError
from labsupport.history import Recorder
from labsupport.prints import keep_in


class Frame(NamedTuple):
    """A line of a traceback that can be sent to another process."""

    path: str
    line: int
    function: str


class Failure(NamedTuple):
    """An exception that can be sent to another process."""

    error: BaseException
    frames: tuple[Frame, ...]


class Job(NamedTuple):
    """What a worker process is to do.

    Attributes:
        blob: the function and its arguments, pickled by value.
        clients: the numbers of its clients; the function is called once for each, in a thread.
        process: the number of the process.
        gated: whether its one client stops at each `point`.
        ring: the file to record events in.
        capacity: how many events that holds.
        prints: the file for what it prints.
    """

    blob: bytes
    clients: tuple[int, ...]
    process: int
    gated: bool
    ring: Path
    capacity: int
    prints: Path


class _Control:
    """What the lab's process says to this one, and the other way round."""

    def __init__(self, connection: Connection) -> None:
        self.begun = threading.Event()
        self.stopping = threading.Event()
        self.goes = threading.Semaphore(0)
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, kind: str, client: int, what: Any = None) -> None:
        with self._lock:
            self._connection.send((kind, client, what))

    def listen(self) -> None:
        """Obey until the lab's process is gone or needs nothing more."""
        with contextlib.suppress(EOFError, OSError):
            while (order := self._connection.recv()) != "end":
                match order:
                    case "begin":
                        self.begun.set()
                    case "stop":
                        self.stopping.set()
                        self.begun.set()
                    case "go":
                        self.goes.release()


_CURRENT: ContextVar["Client | None"] = ContextVar("labsupport_client", default=None)


def point(name: str) -> None:
    """A named place in a worker's code at which the lab can hold it; elsewhere it does nothing.

    Args:
        name: what `Worker.until` calls it.
    """
    client = _CURRENT.get()
    if client is not None:
        client._pass(name)


class Client:
    """One client of an experiment: what a worker's function is given first.

    Attributes:
        number: 0, 1, 2, ... through all processes.
    """

    def __init__(self, number: int, recorder: Recorder, control: _Control, *, gated: bool) -> None:
        self.number = number
        self._recorder = recorder
        self._control = control
        self._gated = gated

    @property
    def running(self) -> bool:
        """False as soon as the run is to end."""
        return not self._control.stopping.is_set()

    def meet(self) -> None:
        """Wait until all clients of all processes have come here."""
        self._control.send("ready", self.number)
        self._control.begun.wait()

    def rest(self, seconds: float) -> None:
        """Do nothing for a while, or until the run is to end."""
        self._control.stopping.wait(seconds)

    def record(self, event: str, start_ns: int, end_ns: int, value: float = 0.0) -> None:
        """Record that something happened to this client, see `Recorder.record`."""
        self._recorder.record(event, self.number, start_ns, end_ns, value)

    def note(self, event: str, value: float = 0.0) -> None:
        """Record something that takes no time, now."""
        now = time.monotonic_ns()
        self._recorder.record(event, self.number, now, now, value)

    @contextlib.contextmanager
    def timed(self, event: str) -> Iterator[None]:
        """Record how long a `with` block takes."""
        start = time.monotonic_ns()
        try:
            yield
        finally:
            self._recorder.record(event, self.number, start, time.monotonic_ns())

    def _pass(self, name: str) -> None:
        self.note(name)
        if self._gated:
            self._control.send("at", self.number, name)
            self._control.goes.acquire()


def restore_code(make: Callable[..., CodeType], args: tuple[Any, ...], filename: str) -> CodeType:
    """A code object as it was made where it comes from, with the name of its file."""
    return make(*args).replace(co_filename=filename)


def serve(connection: Connection, job: Job) -> None:
    """Be a worker process: run the job's function for each client, then wait to be ended."""
    # the kernel's Interrupt goes to its whole process group, and the lab ends its workers itself
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = _Control(connection)
    try:
        keep_in(job.prints)
        recorder = Recorder(job.ring, capacity=job.capacity)
        function, args = cloudpickle.loads(job.blob)
    except BaseException as error:
        control.send("failed", job.clients[0], _pickled(error))
    else:
        control.send("up", job.process)
        for number in job.clients:
            client = Client(number, recorder, control, gated=job.gated)
            target = _run, (client, control, function, args)
            threading.Thread(target=target[0], args=target[1], daemon=True).start()
    control.listen()
    os._exit(0)  # whatever the threads do, which may be anything


def _run(
    client: Client, control: _Control, function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    _CURRENT.set(client)
    try:
        answer = cloudpickle.dumps(function(client, *args))
    except BaseException as error:  # SystemExit too: in a thread nobody would hear of it
        control.send("failed", client.number, _pickled(error))
    else:
        control.send("done", client.number, answer)


def _pickled(error: BaseException) -> bytes:
    frames = tuple(
        Frame(frame.filename, frame.lineno or 1, frame.name)
        for frame in traceback.extract_tb(error.__traceback__)
    )
    try:
        blob: bytes = cloudpickle.dumps(Failure(error, frames))
        cloudpickle.loads(blob)  # some exceptions can be pickled and not be made again
        return blob
    except Exception:
        if isinstance(error, LabError):
            raise
        told = type(type(error).__name__, (Exception,), {})(str(error))
        return bytes(cloudpickle.dumps(Failure(told, frames)))
