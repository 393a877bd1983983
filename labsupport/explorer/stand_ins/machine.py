"""What a client finds of its machine: the number of its process and thread, and what it may not wait for.

Everywhere else each function is what it stands for.
"""

import fcntl
import os
import select
import signal
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from labsupport.explorer.clients.actor import refusal
from labsupport.explorer.guards.foreign import refusing
from labsupport.explorer.stand_ins.timekeeper import timekeeper_here

__all__ = ["CLASSES", "FUNCTIONS", "asking", "has_one_process", "one_process"]


def _leaving(usual: Callable[[int], Any]) -> Callable[[int], Any]:
    def leave(status: int) -> Any:
        if timekeeper_here() is None:
            usual(status)
        raise refusal(
            "A client ended the process (os._exit).",
            "Return or raise an error instead: the caller decides what happens then.",
        )

    return leave


def _locking(usual: Callable[..., Any]) -> Callable[..., Any]:
    def lock(file: Any, operation: int, *args: Any) -> Any:
        if timekeeper_here() is None or operation & (fcntl.LOCK_UN | fcntl.LOCK_NB):
            return usual(file, operation, *args)
        try:
            return usual(file, operation | fcntl.LOCK_NB, *args)
        except BlockingIOError:
            raise refusal(
                "A client waits for the lock of a file, which another client has while it stands still.",
                "Keep the lock in Redis or in the database, or try it with fcntl.LOCK_NB.",
            ) from None

    return lock


def _selecting(usual: Callable[..., Any]) -> Callable[..., Any]:
    def select(*args: Any) -> Any:
        keeper = timekeeper_here()
        if keeper is None or any(args[:3]) or args[3:] in ((), (None,)):
            return usual(*args)
        keeper.sleep(args[3])
        return [], [], []

    return select


class _Poller:
    """Made by who may never wait for a file, as kombu does to send: only the wait is refused."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._made, name)
        return refusing(found, "waits for files") if name in {"control", "poll"} else found


def _polling(usual: Callable[..., Any]) -> Callable[..., Any]:
    def make(*args: Any, **options: Any) -> Any:
        made = usual(*args, **options)
        return made if timekeeper_here() is None else _Poller(made)

    return make


def asking(usual: Callable[..., str]) -> Callable[..., str]:
    """Python's `input`, which a client may not call."""
    return refusing(usual, "waits for the keyboard", remedy="Hand its answer over as an argument.")


def _refused(module: ModuleType, names: Iterable[str], what: str) -> dict[str, Any]:
    """Those of the names that the system has, which a client may not call."""
    return {name: refusing(getattr(module, name), what) for name in names if hasattr(module, name)}


_POLLS = ("devpoll", "epoll", "kqueue", "poll")  # on some systems
_SIGNALS = ("alarm", "pause", "setitimer", "signal", "sigtimedwait", "sigwait")  # on some systems


def _number(usual: Callable[[], int]) -> Callable[[], int]:
    """Each client is a thread of its own, with the same number in each run."""

    def number() -> int:
        name = getattr(timekeeper_here(), "name", None)
        return usual() if name is None else zlib.crc32(name.encode())

    return number


_NO_PROCESS = 2**22  # the highest number that Linux gives


class _Process(int):
    """The number of a client's process; who keeps the machine's own finds it the same, as after no fork."""

    def __hash__(self) -> int:  # what is kept by the process's number is found
        return hash(_GETPID())

    def __reduce__(self) -> Any:
        return int, (int(self),)

    def __eq__(self, other: object) -> bool:
        return int(self) == other or (type(other) is int and other == _GETPID())

    def __ne__(self, other: object) -> bool:
        return not self == other


_one = {"process": False}


def has_one_process() -> bool:
    """Whether all clients are threads of one process."""
    return _one["process"]


@contextmanager
def one_process() -> Iterator[None]:
    """Within this block all clients are threads of one process: `os.getpid()` is the same for them.

    And explorations follow one another there: none draws from a generator what the one before has drawn.
    """
    before, _one["process"] = _one["process"], True
    try:
        yield
    finally:
        _one["process"] = before


def _process() -> int:
    """Each client is a process of its own, with the same number in each run."""
    keeper: Any = timekeeper_here()
    name = getattr(keeper, "name", None)
    if name is None or _one["process"]:
        return _GETPID()
    keeper.asked_process = True
    return _Process(_NO_PROCESS + 1 + zlib.crc32(name.encode()) % 2**30)


def _current_thread() -> threading.Thread:
    keeper = timekeeper_here()
    name = getattr(keeper, "name", None)
    if keeper is None or name is None or _one["process"]:
        return _CURRENT_THREAD()
    holder: Any = keeper
    if holder.thread is None:  # its name is no token: it is the same in every process
        holder.thread = threading.Thread(name=_CURRENT_THREAD().name)
        vars(holder.thread)["_ident"] = vars(holder.thread)["_native_id"] = _NUMBERS["get_ident"]()
    found: threading.Thread = holder.thread
    return found


_GETPID, _CURRENT_THREAD = os.getpid, threading.current_thread
_NUMBERS = {name: _number(getattr(threading, name)) for name in ("get_ident", "get_native_id")}

FUNCTIONS: list[tuple[ModuleType, dict[str, Any]]] = [
    (os, {"_exit": _leaving(os._exit)}),
    (fcntl, {name: _locking(getattr(fcntl, name)) for name in ("flock", "lockf")}),
    (
        select,
        {"select": _selecting(select.select)}
        | {name: _polling(getattr(select, name)) for name in _POLLS if hasattr(select, name)},
    ),
    (signal, _refused(signal, _SIGNALS, "has a signal interrupt it")),
]
CLASSES: list[tuple[ModuleType, dict[str, Any]]] = [
    (threading, _NUMBERS | {"current_thread": _current_thread}),
    (os, {"getpid": _process}),
]
