"""Noticing what the explorer cannot control: threads, processes, drivers and sockets of a client's own."""

import functools
import selectors
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

from labsupport.errors import NotSteppableError
from labsupport.explorer.clients.actor import actor_here
from labsupport.explorer.clients.namespaces import UNSEEN, installed

__all__ = [
    "OF_DRIVERS",
    "debugged",
    "driver_imported",
    "foreign_use_noticed",
    "note_statement",
    "refusing",
]

# modules in which a thread stands at a breakpoint
_DEBUGGERS = frozenset({"IPython.core.debugger", "bdb", "ipdb.__main__", "pdb", "pydevd"})
_INSTEAD = "Use redis-py's clients, the db of the function or an SQLAlchemy engine, in one thread."


@contextmanager
def foreign_use_noticed() -> Iterator[None]:
    """Refuse a client's use of connections and threads that are not the explorer's, at the first use.

    The methods through which every command of redis-py goes, and the start of a thread, are replaced
    for the length of the block; outside a client's function they do what they always do.
    """
    with ExitStack() as undo:
        guard = _Guard(undo)
        _looking.append(guard.look)
        undo.callback(_looking.remove, guard.look)
        guard.watch(threading.Thread, "start", "starts a thread of its own")
        for module, owner, name in _POOLS:
            if module in sys.modules:
                guard.watch(getattr(sys.modules[module], owner), name, _HANDS_OVER)
        guard.watch(threading.Condition, "notify", _HANDS_OVER, _wakes_nobody)
        guard.replace(threading.Condition, "wait", _waiting)
        for kind in _SELECTORS:
            guard.replace(kind, "select", _idling)
        for driver in _DRIVERS:
            guard.look(driver)
        _audit()
        yield


class _Guard:
    """Puts others in the place of functions, until `undo` ends."""

    def __init__(self, undo: ExitStack) -> None:
        self._undo = undo
        self._seen: set[str] = set()  # drivers that are watched

    def replace(self, owner: Any, name: str, other: Callable[[Any], Any]) -> None:
        """Put what `other` makes of a function in its place."""
        usual = getattr(owner, name)
        self._undo.callback(setattr, owner, name, usual)
        setattr(owner, name, other(usual))

    def watch(
        self, owner: Any, name: str, what: str, unless: Callable[..., bool] = lambda *_: False
    ) -> None:
        """Refuse clients a function."""
        self.replace(owner, name, lambda usual: refusing(usual, what, unless))

    def look(self, driver: str) -> None:
        """Watch a driver as soon as it is there; a function may import it first."""
        module = sys.modules.get(driver)
        begun = getattr(getattr(module, "__spec__", None), "_initializing", False)
        if module is None or begun or driver in self._seen:
            return
        self._seen.add(driver)
        for path, name in _DRIVERS[driver] or _functions_of(module):
            owner = functools.reduce(_part, filter(None, path.split(".")), module)
            # the explorer has SQLAlchemy open psycopg's, and refuses its engines of the others
            by_itself = driver == "psycopg" and name == "connect"
            unless = _nobody if by_itself else _is_by_sqlalchemy
            if not hasattr(owner, name):
                continue
            usual, what = getattr(owner, name), f"uses {driver} by itself"
            self.watch(owner, name, what, unless)
            if not path and not isinstance(usual, type):  # it may be known by name elsewhere
                OF_DRIVERS.setdefault(id(usual), refusing(usual, what, unless))


def _part(owner: Any, name: str) -> Any:
    return getattr(owner, name, None)  # a stub has it not


def _functions_of(module: Any) -> list[tuple[str, str]]:
    """A driver's functions, any of which may open a connection, or use one that all share."""
    names = [
        name
        for name, one in vars(module).items()
        if name[:1].islower() and callable(one) and not isinstance(one, type)
    ]
    opens = "connect" if hasattr(module, "connect") else "Connection"
    return [("", name) for name in {opens: None, **dict.fromkeys(names)}]


def _nobody(*_: Any) -> bool:
    return False


def driver_imported(name: str) -> None:
    """To be called when a client's function has imported a module."""
    if (root := name.partition(".")[0]) in _DRIVERS:
        for look in _looking:
            look(root)


def refusing(
    usual: Callable[..., Any],
    what: str,
    unless: Callable[..., bool] = lambda *_: False,
    remedy: str = _INSTEAD,
) -> Callable[..., Any]:
    """What a client is refused, and everybody else may call.

    Args:
        usual: a function, or a method.
        what: what a client that calls it does.
        unless: called with the arguments; True where it does not.
        remedy: what to do instead.
    """

    @functools.wraps(usual)
    def checked(*args: Any, **options: Any) -> Any:
        actor = actor_here()
        mine = actor is not None and actor.fault is None and not actor.trusted
        if actor is not None and mine and not unless(*args) and not debugged(sys._getframe()):
            actor.fault = NotSteppableError(
                f"The client {actor.name!r} {what}; the explorer cannot order its steps.",
                remedy,
            )
            raise actor.fault  # before the call is made
        return usual(*args, **options)

    return checked


def debugged(frame: FrameType | None) -> bool:
    """Whether it is a debugger's doing: somebody looks, and that takes as long as it takes."""
    while frame is not None:
        if frame.f_globals.get("__name__") in _DEBUGGERS:
            return True
        frame = frame.f_back
    return False


_HANDS_OVER = "starts a thread, or hands work to one"
_POOLS = (
    ("concurrent.futures.thread", "ThreadPoolExecutor", "submit"),
    ("concurrent.futures.process", "ProcessPoolExecutor", "submit"),
    ("multiprocessing.pool", "Pool", "_check_running"),
)
_SELECTORS = [
    kind
    for kind in vars(selectors).values()
    if isinstance(kind, type) and "select" in vars(kind) and kind is not selectors.BaseSelector
]
_SYNCHRONIZING = frozenset({"labsupport", "queue", "threading"})


def _wakes_nobody(condition: Any, *_: Any) -> bool:
    """Whether no thread waits for a condition (a queue, an event), or it is a library's own thread."""
    return not condition._waiters or installed(_caller(_SYNCHRONIZING))


def _waiting(usual: Callable[..., Any]) -> Callable[..., Any]:
    """A client that waits for a while sleeps; nobody but another thread could end it."""
    endless = refusing(usual, "waits for another thread")

    def wait(condition: Any, timeout: float | None = None) -> Any:
        actor = actor_here()
        if actor is None or actor.trusted or timeout is None:
            return endless(condition, timeout)
        held = condition._release_save()
        try:
            actor.sleep(max(timeout, 0.0))
        finally:
            condition._acquire_restore(held)
        return False

    return wait


def _idling(usual: Callable[..., Any]) -> Callable[..., Any]:
    """A client that waits for a while in an event loop of its own sleeps, unless something is there."""

    def select(selector: Any, timeout: float | None = None) -> Any:
        actor = actor_here()
        if actor is None or actor.trusted or timeout is None or timeout <= 0:
            return usual(selector, timeout)
        ready = usual(selector, 0)
        if not ready:
            actor.sleep(timeout)
        return ready

    return select


def _caller(between: frozenset[str]) -> str:
    """The module of the code that called, past those of some packages."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name.partition(".")[0] not in between:
            return name
        frame = frame.f_back
    return ""


_RUN = ("execute", "executemany", "stream", "copy")
_looking: list[Callable[[str], None]] = []  # what watches a driver, while clients are explored
# Drivers of which no audit event tells, and where each begins in Python.
_DRIVERS: dict[str, tuple[tuple[str, str], ...]] = {
    "psycopg": (
        ("generators", "connect"),
        *((f"{way}Cursor", name) for way in ("", "Async") for name in _RUN),
        *((f"{way}ServerCursor", "execute") for way in ("", "Async")),
        *((f"{way}Connection", "commit") for way in ("", "Async")),
    ),
    **dict.fromkeys(UNSEEN, ()),  # all of its functions
    "psycopg2": (("", "_connect"),),
    "MySQLdb": (("connections.Connection", "__init__"),),
}
OF_DRIVERS: dict[int, Any] = {}
"""What stands for drivers' functions where code has imported them, by their identity."""

_BETWEEN = frozenset({"contextlib", "labsupport", *_DRIVERS})


def _is_by_sqlalchemy(*_: Any) -> bool:
    """Whether it is SQLAlchemy that uses the driver: its events tell of what is a step."""
    return _caller(_BETWEEN).partition(".")[0] == "sqlalchemy"


def note_statement(sql: str) -> None:
    """What an SQLite connection calls before each statement: it may go past the explorer's steps."""
    actor = actor_here()
    if actor is None or actor.fault is not None or actor.trusted or actor.crashed:
        return
    if sql.strip() != "BEGIN" and not _is_by_sqlalchemy():  # that is sqlite3's, and another comes
        actor.fault = NotSteppableError(
            f"The client {actor.name!r} uses the driver by itself ({' '.join(sql.split())[:60]}); the "
            "explorer cannot order its steps.",
            "Use the db of the function, or SQLAlchemy's connection.execute(…) or .exec_driver_sql(…).",
        )


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
        if getattr(quiet, "on", False) or debugged(sys._getframe()):
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
