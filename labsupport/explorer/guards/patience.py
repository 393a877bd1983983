"""Noticing a step that never ends, in time of the thread's own."""

import ctypes
import dis
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from labsupport.explorer.clients.actor import StepTimeout
from labsupport.explorer.guards.foreign import debugged

__all__ = ["PATIENCE_SECONDS", "StepTimeout", "acquiring", "watched"]

PATIENCE_SECONDS = 10.0
"""A step that takes longer has no command in it: it loops, or waits for something outside."""

_OUTSIDE = 6  # times as long for `given` and the invariant, which may have much to work out
_LOOKS = 50  # in that time
_WORKS = 0.1  # of the time between two looks, or more, has a thread that waits for no lock
_GRACE_SECONDS = 0.5  # so long an interrupt waits for the end of a step
_setitimer = signal.setitimer  # its own, whatever a client is refused


def acquiring(frame: FrameType | None) -> bool:
    """Whether a frame stands where it takes a lock."""
    if frame is None:
        return False
    called = ""
    for one in dis.get_instructions(frame.f_code):
        if one.offset == frame.f_lasti:
            return one.opname == "BEFORE_WITH" or called in {"__enter__", "acquire"}
        called = one.argval if one.opname in {"LOAD_ATTR", "LOAD_METHOD"} else called
    return False


@contextmanager
def watched(
    progress: Callable[[], int],
    inside: Callable[[], bool],
    locked: Callable[[FrameType | None], bool],
    starved: Callable[[], bool] = lambda: False,
) -> Iterator[Callable[[], None]]:
    """Raise `StepTimeout` in this thread when `progress` stands still for too long.

    What counts is time in which the thread ran or slept, and not time in which it, or the server, waited
    for a core: a busy machine ends nothing.

    In the main thread a signal does it, which ends a wait for a lock, too; elsewhere another thread.
    There an interrupt waits for the end of a step, since in the midst of one it would meet code of
    libraries that takes it for an error of its own, or loses it.

    Args:
        progress: a number that changes with each step.
        inside: whether a client's function is running.
        locked: whether another client has a lock of the process; who stands still then waits for it,
            at the frame that it is called with.
        starved: whether the server has work, and could not do it since this was asked before.

    Returns:
        What to call between two steps: it raises KeyboardInterrupt if there was an interrupt.
    """
    in_main = threading.current_thread() is threading.main_thread()
    patience = _Patience(progress, inside, locked, starved)
    with _by_signal(patience) if in_main else _by_thread(patience) as heed:
        yield heed


class _Patience:
    """How long a thread has made no progress, in time of its own; made in that thread."""

    def __init__(
        self,
        progress: Callable[[], int],
        inside: Callable[[], bool],
        locked: Callable[[FrameType | None], bool],
        starved: Callable[[], bool],
    ) -> None:
        self.every = PATIENCE_SECONDS / _LOOKS
        self.progress, self._inside, self._locked, self._starved = progress, inside, locked, starved
        self._place: Any = None
        self._times = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._begin(progress())

    def _begin(self, seen: int) -> None:
        self._seen, self._looks, self._since = seen, 0, self._spent()

    def over(self, here: FrameType | None) -> bool:
        """To be asked `every` so many seconds; True when there was no progress for too long.

        The looks are the clock: that of `time` is not real here, and while the process is stopped
        nobody looks.

        Args:
            here: where the thread is. A frame that kept itself, in a variable of its own, would keep
                all that the frames below it hold, until the collector comes: a cursor, and its lock.
        """
        if (seen := self.progress()) != self._seen or debugged(here) or self._starved():
            self._begin(seen)
            return False
        self._looks += 1
        ran, waited = (now - then for now, then in zip(self._spent(), self._since, strict=True))
        if self._stands(here, ran) and self._inside() and self._locked(here):
            return True
        own = max(ran, self._looks * self.every - waited)
        return own >= PATIENCE_SECONDS * (1 if self._inside() else _OUTSIDE)

    def _stands(self, frame: FrameType | None, ran: float) -> bool:
        """Whether the thread has hardly run since the look before, and is at the same place."""
        before, self._place = self._place, (ran, id(frame), frame and frame.f_lasti)
        if before is None or before[1:] != self._place[1:]:
            return False
        return bool(ran - before[0] < self.every * _WORKS)

    def _spent(self) -> tuple[float, float]:
        """How long the thread has run, and how long it has waited for a core (Linux; else 0)."""
        try:
            ran, waited, _ = map(int, self._times.read_text().split())
        except (OSError, ValueError):
            return 0.0, 0.0
        return ran / 1e9, waited / 1e9


@contextmanager
def _by_signal(patience: _Patience) -> Iterator[Callable[[], None]]:
    seen, interrupted, over = patience.progress(), False, False

    def look(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        if interrupted and patience.progress() == seen:
            raise KeyboardInterrupt
        seen = patience.progress()
        if patience.over(frame):
            raise StepTimeout

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal seen, interrupted
        if over or debugged(frame):  # pdb keeps the handler that it finds
            handlers[signal.SIGINT](number, frame)
            return
        seen, interrupted = patience.progress(), True
        _setitimer(signal.ITIMER_REAL, _GRACE_SECONDS, _GRACE_SECONDS)

    def heed() -> None:
        if interrupted:
            raise KeyboardInterrupt

    handlers: dict[int, Any] = {signal.SIGALRM: signal.signal(signal.SIGALRM, look)}
    if callable(signal.getsignal(signal.SIGINT)):  # else it is ignored, and stays so
        handlers[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    before = signal.setitimer(signal.ITIMER_REAL, patience.every, patience.every)
    try:
        yield heed
        heed()
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, *before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _by_thread(patience: _Patience) -> Iterator[Callable[[], None]]:
    thread = threading.get_ident()
    over = threading.Event()

    def watch() -> None:
        while not over.wait(patience.every):
            if patience.over(sys._current_frames().get(thread)):
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(StepTimeout)
                )
                return

    watcher = threading.Thread(target=watch, name="explore-watch", daemon=True)
    watcher.start()
    try:
        yield lambda: None
    finally:
        over.set()
        watcher.join()
