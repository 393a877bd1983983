"""What must not be torn in two by the notebook's Interrupt."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put off a KeyboardInterrupt to the end of the block.

    Only the main thread is interrupted, and only where SIGINT has a handler: elsewhere it does nothing.
    """
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    late: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda number, frame: late.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if late:
            usual(signal.SIGINT, late[-1])


@contextmanager
def deaf() -> Iterator[None]:
    """Have what is started in the block not hear Interrupt, from its first moment on.

    JupyterLab's Interrupt goes to the kernel's whole process group, and a new process is in it until
    it has a session of its own. SIGINT is blocked in this thread meanwhile; a child inherits that.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
