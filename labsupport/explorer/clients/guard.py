"""Watching for what the explorer cannot control, and for a step that never ends."""

import ctypes
import dis
import functools
import gc
import inspect
import selectors
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from labsupport.errors import NotSteppableError
from labsupport.explorer.clients.actor import StepTimeout, actor_here
from labsupport.explorer.clients.loops import forget_shown
from labsupport.explorer.clients.namespaces import UNSEEN, installed

__all__ = [
    "OF_DRIVERS",
    "PATIENCE_SECONDS",
    "StepTimeout",
    "acquiring",
    "driver_imported",
    "foreign_use_noticed",
    "note_statement",
    "refusing",
    "sets_gone_through",
    "watched",
]

PATIENCE_SECONDS = 10.0
"""A step that takes longer has no command in it: it loops, or waits for something outside."""

_OUTSIDE = 6  # times as long for `given` and the invariant, which may have much to work out
_LOOKS = 50  # in that time
_WORKS = 0.1  # of the time between two looks, or more, has a thread that waits for no lock
# modules in which a thread stands at a breakpoint
_DEBUGGERS = frozenset({"IPython.core.debugger", "bdb", "ipdb.__main__", "pdb", "pydevd"})

_GRACE_SECONDS = 0.5  # so long an interrupt waits for the end of a step


_INSTEAD = "Use redis-py's clients, the db of the function or an SQLAlchemy engine, in one thread."
_BY_ADDRESS: Any = object.__hash__
_SET_ITERATOR: type = type(iter(set()))
_TO_ITS_END = sys.maxsize
_OURS = 3  # references to one of the old iterators: the list's, the loop's and the call's
_KEEPING = frozenset((name,) for name in ("enumerate", "iter", "list", "tuple"))  # … an order
_setitimer = signal.setitimer  # its own, whatever a client is refused


@contextmanager
def foreign_use_noticed() -> Iterator[None]:
    """Refuse a client's use of connections and threads that are not the explorer's, at the first use.

    The methods through which every command of redis-py goes, and the start of a thread, are replaced
    for the length of the block; outside a client's function they do what they always do.
    """
    replaced: list[tuple[Any, str, Any]] = []

    def replace(owner: Any, name: str, other: Callable[[Any], Any]) -> None:
        replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, other(getattr(owner, name)))

    def watch(
        owner: Any, name: str, what: str, unless: Callable[..., bool] = lambda *_: False
    ) -> None:
        replace(owner, name, lambda usual: refusing(usual, what, unless))

    def look(driver: str) -> None:
        """Watch a driver as soon as it is there; a function may import it first."""
        module = sys.modules.get(driver)
        begun = getattr(getattr(module, "__spec__", None), "_initializing", False)
        if module is not None and not begun and driver not in seen:
            seen.add(driver)
            for path, name in _DRIVERS[driver] or _functions_of(module):
                owner = functools.reduce(_part, filter(None, path.split(".")), module)
                # the explorer has SQLAlchemy open psycopg's, and refuses its engines of the others
                by_itself = driver == "psycopg" and name == "connect"
                unless = _nobody if by_itself else _is_by_sqlalchemy
                if not hasattr(owner, name):
                    continue
                usual, what = getattr(owner, name), f"uses {driver} by itself"
                watch(owner, name, what, unless)
                if not path and not isinstance(usual, type):  # it may be known by name elsewhere
                    OF_DRIVERS.setdefault(id(usual), refusing(usual, what, unless))

    seen: set[str] = set()
    _looking.append(look)
    try:
        watch(threading.Thread, "start", "starts a thread of its own")
        for module, owner, name in _POOLS:
            if module in sys.modules:
                watch(getattr(sys.modules[module], owner), name, _HANDS_OVER)
        watch(threading.Condition, "notify", _HANDS_OVER, _wakes_nobody)
        replace(threading.Condition, "wait", _waiting)
        for kind in _SELECTORS:
            replace(kind, "select", _idling)
        for driver in _DRIVERS:
            look(driver)
        _audit()
        yield
    finally:
        _looking.remove(look)
        for owner, name, usual in reversed(replaced):
            setattr(owner, name, usual)


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
        if actor is not None and mine and not unless(*args) and not _debugged(sys._getframe()):
            actor.fault = NotSteppableError(
                f"The client {actor.name!r} {what}; the explorer cannot order its steps.",
                remedy,
            )
            raise actor.fault  # before the call is made
        return usual(*args, **options)

    return checked


def _debugged(frame: FrameType | None) -> bool:
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
        if getattr(quiet, "on", False) or _debugged(sys._getframe()):
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
def sets_gone_through() -> Iterator[Callable[[FrameType], str]]:
    """Watch who goes through sets of plain objects; to be entered before the clients begin.

    These are in the order of their addresses, which is another in each process, and in each run.

    Returns:
        What tells the name of such a set that a frame of one's own code goes through; "" if there is none.
    """
    old: list[Any] = []

    def now() -> list[Any]:
        """Those that are gone through: a frame does not tell of a set without a name."""
        return _young_iterators() + [one for one in old if sys.getrefcount(one) > _OURS]

    def keep(phase: str, told: Mapping[str, int]) -> None:
        """Note the iterators that the collector will no longer count among the young ones."""
        nonlocal old
        if phase == "start" and told["generation"] > 0:
            old = now()

    gc.callbacks.append(keep)
    try:
        before = now()
        yield lambda frame: _unordered(frame, now, before)
    finally:
        gc.callbacks.remove(keep)
        old = before = []  # what they go through is nobody's any more


def _unordered(frame: FrameType, now: Callable[[], list[Any]], before: Collection[Any]) -> str:
    """See `sets_gone_through`."""
    at = frame.f_lasti
    known = [one for one in _goes_through(frame.f_code) if one[1] < at < one[2]]
    for path, _, end in known:
        if not path:
            continue
        shown = frame.f_locals
        value: Any = shown.get(path[0], frame.f_globals.get(path[0]))
        forget_shown(frame, shown)
        for name in path[1:]:
            value = inspect.getattr_static(value, name, None)
        most = 1 if end == _TO_ITS_END else 2  # what is taken out of it is no longer there
        value = vars(value)["data"] if type(value) is weakref.WeakSet else value
        a_set = type(value) in (set, frozenset) and len(value) >= most
        if a_set and any(map(_by_address, value)):
            return ".".join(path)
    for one in now() if any(end != _TO_ITS_END for _, _, end in known) else ():
        for some in () if any(one is other for other in before) else gc.get_referents(one):
            mine = [each for each in some if not installed(type(each).__module__)]
            if len(some) > 1 and any(map(_by_address, mine)):
                return "{…}"
    return ""


def _young_iterators() -> list[Any]:
    """The iterators of sets that were made not long ago."""
    found = []
    for age in (0, 1) if gc.isenabled() else ():
        for one in gc.get_objects(age):  # a list of all of them would hold itself, and so all
            if type(one) is _SET_ITERATOR:
                found.append(one)
    return found


def _by_address(thing: Any) -> bool:
    one = thing() if issubclass(type(thing), weakref.ref) else thing
    return type(one).__hash__ is _BY_ADDRESS


@functools.lru_cache(maxsize=4096)
def _goes_through(code: CodeType) -> tuple[tuple[tuple[str, ...], int, int], ...]:
    """What a `for` goes through, or pop() takes from, by its name; and between which instructions."""
    found: list[tuple[tuple[str, ...], int, int]] = []
    path, source, ordered = tuple[str, ...](), tuple[str, ...](), ""
    for one in dis.get_instructions(code):
        if one.opname == "FOR_ITER":
            found.append((source, one.offset, one.argval))
        source = path if one.opname == "GET_ITER" else ()
        if one.opname in {"LOAD_ATTR", "LOAD_METHOD"} and path:
            if one.argval == "pop":
                found.append((path, one.offset, _TO_ITS_END))
            path = (*path, one.argval)
        elif one.opname.startswith("LOAD_"):
            ordered = path[0] if path in _KEEPING else ""
            path = (one.argval,) if isinstance(one.argval, str) else ()
        elif one.opname not in {"PRECALL", "CALL", "PUSH_NULL"} or not ordered:
            path = ()
    return tuple(found)


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
        if (seen := self.progress()) != self._seen or _debugged(here) or self._starved():
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
        if over or _debugged(frame):  # pdb keeps the handler that it finds
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
