"""Watching for what the explorer cannot control, and for a step that never ends."""

import ctypes
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from labsupport.errors import NotSteppableError
from labsupport.explorer.clients.actor import actor_here

__all__ = ["PATIENCE_SECONDS", "StepTimeout", "foreign_use_noticed", "watched"]

PATIENCE_SECONDS = 10.0
"""A step that takes longer has no command in it: it loops, or waits for something outside."""

_GRACE_SECONDS = 0.5  # so long an interrupt waits for the end of a step


class StepTimeout(BaseException):
    """Raised inside a client that takes no step for too long."""


@contextmanager
def foreign_use_noticed() -> Iterator[None]:
    """Refuse a client's use of connections and threads that are not the explorer's, at the first use.

    The methods through which every command of redis-py goes, and the start of a thread, are replaced
    for the length of the block; outside a client's function they do what they always do.
    """
    replaced: list[tuple[Any, str, Any]] = []

    def watch(owner: Any, name: str, what: str) -> None:
        usual = getattr(owner, name)

        @functools.wraps(usual)
        def checked(self: Any, *args: Any, **options: Any) -> Any:
            actor = actor_here()
            if actor is not None and actor.fault is None and not actor.trusted:
                actor.fault = NotSteppableError(
                    f"The client {actor.name!r} {what}; the explorer cannot order its steps.",
                    "Use redis-py's clients, the db of the function or an SQLAlchemy engine, in one thread.",
                )
                raise actor.fault  # before the call is made
            return usual(self, *args, **options)

        replaced.append((owner, name, usual))
        setattr(owner, name, checked)

    try:
        watch(threading.Thread, "start", "starts a thread of its own")
        psycopg = sys.modules.get("psycopg")
        if psycopg is not None:  # its connections are libpq's: no audit event tells of them
            by_itself = "uses psycopg by itself"
            watch(psycopg.generators, "connect", by_itself)
            watch(psycopg.Cursor, "execute", by_itself)
        _audit()
        yield
    finally:
        for owner, name, usual in reversed(replaced):
            setattr(owner, name, usual)


_FOREIGN = {
    "socket.connect": "opens a connection of its own",
    "sqlite3.connect": "opens an SQLite connection of its own",
    "_thread.start_new_thread": "starts a thread of its own",
    "subprocess.Popen": "starts a process of its own",
    "os.system": "starts a process of its own",
    "os.fork": "starts a process of its own",
    "os.posix_spawn": "starts a process of its own",
    "signal.pthread_kill": "sends a signal",
    "os.kill": "sends a signal",
}


@functools.cache
def _audit() -> None:
    """Refuse what escapes the explorer and raises an audit event (PEP 578); once for the process."""
    quiet = threading.local()  # what the refusal itself does is not refused

    def hook(event: str, _: tuple[Any, ...]) -> None:
        if event not in _FOREIGN:
            return
        actor = actor_here()
        if actor is None or actor.fault is not None or actor.trusted or actor.crashed:
            return
        if getattr(quiet, "on", False):
            return
        quiet.on = True
        try:
            actor.fault = NotSteppableError(
                f"The client {actor.name!r} {_FOREIGN[event]}; the explorer cannot order its steps.",
                "Use only the redis and db that the function is called with, or an SQLAlchemy engine.",
            )
        finally:
            quiet.on = False
        raise actor.fault

    sys.addaudithook(hook)


@contextmanager
def watched(progress: Callable[[], int]) -> Iterator[Callable[[], None]]:
    """Raise `StepTimeout` in this thread when `progress` stands still for too long.

    In the main thread a signal does it, which ends a wait for a lock, too; elsewhere another thread.
    There an interrupt waits for the end of a step, since in the midst of one it would meet code of
    libraries that takes it for an error of its own, or loses it.

    Args:
        progress: a number that changes with each step.

    Returns:
        What to call between two steps: it raises KeyboardInterrupt if there was an interrupt.
    """
    in_main = threading.current_thread() is threading.main_thread()
    with _by_signal(progress) if in_main else _by_thread(progress) as heed:
        yield heed


@contextmanager
def _by_signal(progress: Callable[[], int]) -> Iterator[Callable[[], None]]:
    seen, interrupted = progress(), False

    def look(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        if progress() == seen:
            raise KeyboardInterrupt if interrupted else StepTimeout
        seen = progress()

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal seen, interrupted
        seen, interrupted = progress(), True
        signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS, _GRACE_SECONDS)

    def heed() -> None:
        if interrupted:
            raise KeyboardInterrupt

    handlers = {signal.SIGALRM: signal.signal(signal.SIGALRM, look)}
    if callable(signal.getsignal(signal.SIGINT)):  # else it is ignored, and stays so
        handlers[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    before = signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS, PATIENCE_SECONDS)
    try:
        yield heed
        heed()
    finally:
        signal.setitimer(signal.ITIMER_REAL, *before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def _by_thread(progress: Callable[[], int]) -> Iterator[Callable[[], None]]:
    thread = threading.get_ident()
    over = threading.Event()

    def watch() -> None:
        seen = progress()
        while not over.wait(PATIENCE_SECONDS):
            if progress() == seen:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(StepTimeout)
                )
                return
            seen = progress()

    watcher = threading.Thread(target=watch, name="explore-watch", daemon=True)
    watcher.start()
    try:
        yield lambda: None
    finally:
        over.set()
        watcher.join()
