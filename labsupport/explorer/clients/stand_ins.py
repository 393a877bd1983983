"""What stands for time and chance while clients are explored.

A stand-in asks the explorer's clock inside an explored function, and what it stands for everywhere else:
other threads notice nothing. For the length of an exploration, functions are replaced in the interpreter's
modules, and where libraries or the explored code keep one of their own. Classes that are written in Python
are replaced for the explored code alone; `datetime` stays itself, and asks the explorer's clock.
"""

import base64
import builtins
import ctypes
import datetime
import fcntl
import functools
import gc
import importlib
import operator
import os
import queue
import random
import sched
import secrets
import select
import signal
import sys
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import BuiltinFunctionType, ModuleType, SimpleNamespace
from typing import Any, Protocol

from greenlet import getcurrent

from labsupport.errors import NotSteppableError
from labsupport.explorer.clients.actor import refusal
from labsupport.explorer.clients.captured import Captured, stand_in_for
from labsupport.explorer.clients.guard import OF_DRIVERS, driver_imported, refusing
from labsupport.explorer.clients.namespaces import Namespaces, installed
from labsupport.explorer.clients.uses import only_slept, use_of

__all__ = ["Timekeeper", "in_zone", "one_process", "standing_in", "timekeeper_here"]

# they write down when a connection was made, and how long a command took: no answer depends on it
_BOOKKEEPERS = frozenset(
    {"sqlalchemy.pool.base"}
    | {
        f"redis.{way}{part}"
        for way in ("", "asyncio.")
        for part in ("client", "cluster", "connection")
    }
)


class Timekeeper(Protocol):
    """Whose time and chance it is."""

    @property
    def chance(self) -> random.Random:
        """What is drawn from."""

    def time(self, *, asked: bool = True) -> float:
        """Seconds since 1970; not `asked`: no answer depends on it."""

    def monotonic(self, *, asked: bool = False) -> float:
        """Seconds since some moment; `asked` for by code that may decide by it."""

    def sleep(self, seconds: float) -> None:
        """Sleep without taking time."""


def timekeeper_here() -> Timekeeper | None:
    """Whose clock counts here; None outside of all explored functions."""
    here: Any = getcurrent()
    while here is not None:
        keeper: Timekeeper | None = getattr(here, "timekeeper", None)
        if keeper is not None:
            return keeper
        here = here.parent
    return None


def _kept_only() -> bool:
    return sys._getframe(2).f_globals.get("__name__") in _BOOKKEEPERS


def _sleeping(usual: Callable[[float], None]) -> Callable[[float], None]:
    def sleep(seconds: float) -> None:
        keeper = timekeeper_here()
        if keeper is None:
            usual(seconds)
        else:
            keeper.sleep(seconds)

    return sleep


def _clock(usual: Callable[[], Any], of: Callable[[float], Any]) -> Callable[[], Any]:
    def read() -> Any:
        keeper = timekeeper_here()
        if keeper is None:
            return usual()
        return of(keeper.time(asked=not _kept_only()))

    read.__name__ = usual.__name__
    return read


def _counter(usual: Callable[[], Any], of: Callable[[float], Any]) -> Callable[[], Any]:
    def read() -> Any:
        keeper = timekeeper_here()
        return usual() if keeper is None else of(keeper.monotonic(asked=not _kept_only()))

    read.__name__ = usual.__name__
    return read


def _calendar(usual: Callable[..., Any], at: int, *, parts: bool = False) -> Callable[..., Any]:
    """A function whose argument in place `at` is the present when it is left out, perhaps in parts."""
    localtime = time.localtime

    def read(*args: Any) -> Any:
        keeper = timekeeper_here()
        if keeper is None or (len(args) > at and args[at] is not None):
            return usual(*args)
        now = keeper.time()
        return usual(*args[:at], localtime(now) if parts else now)

    return read


def _any_clock(usual: Callable[[int], Any], of: Callable[[float], Any]) -> Callable[[int], Any]:
    def read(clock: int) -> Any:
        keeper = timekeeper_here()
        if keeper is None:
            return usual(clock)
        return of((keeper.time if clock == time.CLOCK_REALTIME else keeper.monotonic)(asked=True))

    return read


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e6) * 1000


def _same(seconds: float) -> float:
    return seconds


class _Kind(type):
    def __instancecheck__(cls, thing: object) -> bool:
        return isinstance(thing, cls.__mro__[1])


def _now(usual: Any) -> Any:
    def now(cls: Any, tz: Any = None) -> Any:
        keeper = timekeeper_here()
        if keeper is None:
            return usual.__get__(None, cls)(tz)
        return cls.fromtimestamp(keeper.time(), tz)

    return classmethod(now)


def _utcnow(usual: Any) -> Any:
    def utcnow(cls: Any) -> Any:
        keeper = timekeeper_here()
        if keeper is None:
            return usual.__get__(None, cls)()
        return cls.fromtimestamp(keeper.time(), datetime.UTC).replace(tzinfo=None)

    return classmethod(utcnow)


def _today(usual: Any) -> Any:
    def today(cls: Any) -> Any:
        keeper = timekeeper_here()
        if keeper is None:
            return usual.__get__(None, cls)()
        return cls.fromtimestamp(keeper.time())

    return classmethod(today)


_OF_DATES = (
    (datetime.datetime, {"now": _now, "utcnow": _utcnow}),
    (datetime.date, {"today": _today}),
)


@contextmanager
def _datetime_held() -> Iterator[None]:
    """Let the classes themselves ask the explorer's clock, as libraries and exact comparisons know no other.

    Python lets nobody set an attribute of a class of C; what its dict holds is found all the same.
    """

    def put(owner: type, methods: dict[str, Any]) -> None:
        (kept,) = gc.get_referents(vars(owner))
        kept.update(methods)
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(owner))

    with ExitStack() as undo:
        for owner, methods in _OF_DATES:
            usual = {name: vars(owner)[name] for name in methods}
            undo.callback(put, owner, usual)
            put(owner, {name: of(usual[name]) for name, of in methods.items()})
        yield


@contextmanager
def in_zone(zone: str | None) -> Iterator[None]:
    """Let local time be that of a zone; None is the machine's.

    Explored code has UTC, as on a server: a day ends at the same moment on every machine.
    """
    usual = os.environ.get("TZ")
    _set_zone(zone)
    try:
        yield
    finally:
        _set_zone(usual)


def _set_zone(zone: str | None) -> None:
    if zone is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = zone
    time.tzset()


def _drawn(usual: Callable[..., Any], of: Callable[..., Any]) -> Callable[..., Any]:
    """A function that draws; `of` is called with what to draw from, and with its arguments."""

    def draw(*args: Any, **options: Any) -> Any:
        keeper = timekeeper_here()
        if keeper is None:
            return usual(*args, **options)
        drawn = of(keeper.chance, *args, **options)
        _used(0, 0)
        return drawn

    return draw


def _urandom(chance: random.Random, size: int, flags: int = 0) -> bytes:
    return chance.randbytes(size)


_TICKS_TO_1970 = 0x01B21DD213814000  # of 100 ns, since 1582
_MACHINE = 0x0300_0000_0001  # no network card's address: it is one of a group


def _uuid4(chance: random.Random) -> uuid.UUID:
    return uuid.UUID(bytes=chance.randbytes(16), version=4)


def _uuid1(
    chance: random.Random, node: int | None = None, clock_seq: int | None = None
) -> uuid.UUID:
    """By the client's clock, on one machine for all, as RFC 9562 has it."""
    keeper = timekeeper_here()
    assert keeper is not None
    now = round(keeper.time(asked=False) * 10**6) * 10 + _TICKS_TO_1970
    ticks = max(now, vars(chance).get("ticks", 0) + 1)  # no two are alike
    vars(chance)["ticks"] = ticks
    node = _MACHINE if node is None else node
    sequence = (
        random.Random.getrandbits(chance, 14) if clock_seq is None else clock_seq
    ) & 0x3FFF | 0x8000
    low, middle, high = ticks & 0xFFFFFFFF, ticks >> 32 & 0xFFFF, ticks >> 48 & 0x0FFF
    return uuid.UUID(fields=(low, middle, high, sequence >> 8, sequence & 0xFF, node), version=1)


_DRAWER: Any = random.randint.__self__  # type: ignore[attr-defined]
_GENERATOR, _USUAL_SEED = random.Random, random.seed
_USUAL_STATE = random.setstate
# what they draw goes back and forth: of very small fractions they would ask for ever more
_TRIED_ONCE = frozenset({"betavariate", "binomialvariate", "gammavariate", "gauss"})
_TRIED_ONCE |= {"lognormvariate", "normalvariate", "vonmisesvariate"}
_DRAW = frozenset({"random", "secrets", "uuid", __name__})


def _few(bits: int) -> random.Random | None:
    """What all clients draw alike from, if they do, and a draw is of so few values that they may."""
    few: Callable[[int], random.Random | None] | None = getattr(timekeeper_here(), "few", None)
    return few(bits) if few is not None else None


def _unless_seeded(name: str, usual: Callable[..., Any]) -> Callable[..., Any]:
    """A method of the module's generator; of the client's own, once it has given that a seed."""

    def draw(*args: Any, **options: Any) -> Any:
        own = getattr(getattr(timekeeper_here(), "whole", None), "seeded", None)
        return (usual if own is None else getattr(own, name))(*args, **options)

    return draw


def _seed(*args: Any, **options: Any) -> None:
    keeper = timekeeper_here()
    client: Any = getattr(keeper, "whole", None)
    by_chance = args[:1] in ((), (None,)) and options.get("a") is None
    if client is not None:
        client.seeded = None if by_chance else _GENERATOR(0)
        client.gave_seed = client.gave_seed or not by_chance
        _DRAWER.gauss_next = None
    if keeper is None or not by_chance:
        (_USUAL_SEED if client is None else client.seeded.seed)(*args, **options)


def _setstate(state: Any) -> None:
    if getattr(timekeeper_here(), "whole", None) is None:
        _USUAL_STATE(state)
    else:
        _seed(0)
        timekeeper_here().whole.seeded.setstate(state)  # type: ignore[union-attr]


def _bits(usual: Callable[[int], int]) -> Callable[[int], int]:
    def getrandbits(k: int, /) -> int:
        common = _few(k)
        return _used(k, usual(k)) if common is None else common.getrandbits(max(k - 1, 0))

    return getrandbits


def _choosing(usual: Callable[..., Any]) -> Callable[..., Any]:
    def choices(
        population: Any, weights: Any = None, *, cum_weights: Any = None, k: int = 1
    ) -> Any:
        common = _few(k * max(len(population) - 1, 1).bit_length())
        held = None if weights is cum_weights else _held()
        draw = usual if common is None else common.choices
        if held is not None:  # what has little weight is drawn, too, if it is the first or the last
            drawn = (common or timekeeper_here().chance).random  # type: ignore[union-attr]
            source: Any = SimpleNamespace(random=lambda: held(drawn()))
            draw = functools.partial(_GENERATOR.choices, source)
        return draw(population, weights, cum_weights=cum_weights, k=k)

    return choices


def _fraction(usual: Callable[[], float]) -> Callable[[], float]:
    """`random.random()` and what is made of it, where code of one's own may decide by that."""

    def fraction() -> float:
        drawn, held = usual(), _held()
        return drawn if held is None else held(drawn)

    return fraction


def _held() -> Callable[[float], float] | None:
    """What makes a fraction very small, or very large; None where nothing does."""
    keeper: Any = timekeeper_here()
    held: Callable[[float], float] | None = getattr(keeper, "fraction", None)
    frame: Any = sys._getframe(1)
    made = ""  # by which function of `random`
    while held is not None and (name := frame.f_globals.get("__name__", "")) in {
        "random",
        __name__,
    }:
        made = frame.f_code.co_name if name == "random" else made
        frame = frame.f_back
    if held is None or made == "choices" or installed(frame.f_globals.get("__name__", "")):
        return None
    code, at = frame.f_code, frame.f_lasti
    if not use_of(code, at, among_few=True) if made else only_slept(code, at):
        return None
    keeper.clock.drew_once |= made in _TRIED_ONCE
    return None if made in _TRIED_ONCE else held


def _used(bits: int, drawn: int) -> int:
    """A draw of very many, where code of one's own may go by it: at both ends, or noted as drawn once."""
    keeper: Any = timekeeper_here()
    whole = getattr(keeper, "whole", None)
    if whole is None or not whole.drew_many:
        return drawn
    whole.drew_many = False
    frame: Any = sys._getframe(1)
    below = 1 << bits
    while frame is not None and frame.f_globals.get("__name__") in _DRAW:
        if frame.f_code.co_name.startswith("_randbelow"):
            below = frame.f_locals["n"]
        frame = frame.f_back
    use = ""
    while frame is not None and not installed(frame.f_globals.get("__name__", "")):
        use = use_of(frame.f_code, frame.f_lasti)
        if use != "returned":
            break
        frame = frame.f_back
    if use == "compared":
        held = keeper.fraction(drawn / (1 << bits))
        return min(int(held * below), below - 1) if keeper.clock.fractions else drawn
    keeper.clock.drew_once |= use == "decides"
    return drawn


class _SystemRandom(random.SystemRandom):
    def random(self) -> float:
        keeper = timekeeper_here()
        return super().random() if keeper is None else _fraction(keeper.chance.random)()

    def getrandbits(self, k: int) -> int:
        keeper = timekeeper_here()
        return super().getrandbits(k) if keeper is None else _used(k, keeper.chance.getrandbits(k))

    def randbytes(self, n: int) -> bytes:
        keeper = timekeeper_here()
        return super().randbytes(n) if keeper is None else keeper.chance.randbytes(n)

    def choices(
        self, population: Any, weights: Any = None, *, cum_weights: Any = None, k: int = 1
    ) -> Any:
        draw = _choosing(super().choices)
        return draw(population, weights, cum_weights=cum_weights, k=k)


class _Random(random.Random, metaclass=_Kind):
    def __init__(self, seed: Any = None) -> None:
        keeper = timekeeper_here()
        super().__init__(keeper.chance.random() if seed is None and keeper else seed)
        if seed is None and keeper:
            vars(self).update(_drawing(self))


def _drawing(generator: random.Random) -> dict[str, Any]:
    """The methods of a generator, which may draw alike until it is given a seed: that says what it draws."""
    if isinstance(generator, random.SystemRandom):
        names = ("choices", "getrandbits", "randbytes", "random")
        return {name: getattr(_SYSTEM_RANDOM, name) for name in names}
    kind = type(generator)

    def seed(*args: Any, **options: Any) -> None:
        for name in methods:
            vars(generator).pop(name, None)
        kind.seed(generator, *args, **options)

    methods = {
        "choices": _choosing(generator.choices),
        "getrandbits": _bits(generator.getrandbits),
        "random": _fraction(generator.random),
        "seed": seed,
    }
    return methods


def _seeding(chance: random.Random, bits: int) -> int:
    clock = getattr(timekeeper_here(), "clock", None)
    if clock is not None:
        clock.drew_once = True
    return chance.getrandbits(bits)


def _token_bytes(chance: random.Random, nbytes: int | None = None) -> bytes:
    return chance.randbytes(secrets.DEFAULT_ENTROPY if nbytes is None else nbytes)


def _token_hex(chance: random.Random, nbytes: int | None = None) -> str:
    return _token_bytes(chance, nbytes).hex()


def _token_urlsafe(chance: random.Random, nbytes: int | None = None) -> str:
    text = base64.urlsafe_b64encode(_token_bytes(chance, nbytes))
    return text.rstrip(b"=").decode("ascii")


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


def _importing_by_name(usual: Callable[..., Any]) -> Callable[..., Any]:
    def import_module(name: str, package: str | None = None) -> Any:
        found = usual(name, package)
        driver_imported(found.__name__)
        return found

    return import_module


def _asking(usual: Callable[..., str]) -> Callable[..., str]:
    return refusing(usual, "waits for the keyboard", remedy="Hand its answer over as an argument.")


def _refused(module: ModuleType, names: Iterable[str], what: str) -> dict[str, Any]:
    """Those of the names that the system has, which a client may not call."""
    return {name: refusing(getattr(module, name), what) for name in names if hasattr(module, name)}


_POLLS = ("devpoll", "epoll", "kqueue", "poll")  # on some systems
_SIGNALS = ("alarm", "pause", "setitimer", "signal", "sigtimedwait", "sigwait")  # on some systems
_CLOCKS: dict[str, Any] = {
    "sleep": _sleeping(time.sleep),
    "time": _clock(time.time, _same),
    "time_ns": _clock(time.time_ns, _nanoseconds),
    "monotonic": _counter(time.monotonic, _same),
    "monotonic_ns": _counter(time.monotonic_ns, _nanoseconds),
    "perf_counter": _counter(time.perf_counter, _same),
    "perf_counter_ns": _counter(time.perf_counter_ns, _nanoseconds),
    "process_time": _clock(time.process_time, lambda seconds: 0.0),
    "thread_time": _clock(time.thread_time, lambda seconds: 0.0),
    "clock_gettime": _any_clock(time.clock_gettime, _same),
    "clock_gettime_ns": _any_clock(time.clock_gettime_ns, _nanoseconds),
    "localtime": _calendar(time.localtime, 0),
    "gmtime": _calendar(time.gmtime, 0),
    "ctime": _calendar(time.ctime, 0),
    "asctime": _calendar(time.asctime, 0, parts=True),
    "strftime": _calendar(time.strftime, 1, parts=True),
    "tzset": refusing(
        time.tzset,
        "sets the time zone of its process, which all clients share here",
        remedy='Name the zone where it matters: datetime.now(ZoneInfo("Europe/Paris")).',
    ),
}


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


_SYSTEM_RANDOM = _SystemRandom()
_OF_RANDOM: dict[str, Any] = {
    "choices": _unless_seeded("choices", _choosing(random.choices)),
    "getrandbits": _unless_seeded("getrandbits", _bits(random.getrandbits)),
    "random": _unless_seeded("random", _fraction(random.random)),
    "seed": _seed,
    "setstate": _setstate,
}
_FUNCTIONS: list[tuple[ModuleType, dict[str, Any]]] = [
    (time, _CLOCKS),
    (uuid, {"uuid1": _drawn(uuid.uuid1, _uuid1), "uuid4": _drawn(uuid.uuid4, _uuid4)}),
    (
        secrets,
        {
            "token_bytes": _drawn(secrets.token_bytes, _token_bytes),
            "token_hex": _drawn(secrets.token_hex, _token_hex),
            "token_urlsafe": _drawn(secrets.token_urlsafe, _token_urlsafe),
            "choice": _SYSTEM_RANDOM.choice,
            "randbelow": lambda below: _SYSTEM_RANDOM.randrange(below),
            "randbits": _SYSTEM_RANDOM.getrandbits,
        },
    ),
    (random, _OF_RANDOM),
    (os, {"urandom": _drawn(os.urandom, _urandom), "_exit": _leaving(os._exit)}),
    (fcntl, {name: _locking(getattr(fcntl, name)) for name in ("flock", "lockf")}),
    (importlib, {"import_module": _importing_by_name(importlib.import_module)}),
    (queue, {"time": _CLOCKS["monotonic"]}),
    (threading, {"_time": _CLOCKS["monotonic"]}),
    (
        select,
        {"select": _selecting(select.select)}
        | {name: _polling(getattr(select, name)) for name in _POLLS if hasattr(select, name)},
    ),
    (signal, _refused(signal, _SIGNALS, "has a signal interrupt it")),
]
if hasattr(os, "getrandom"):  # Linux
    _FUNCTIONS.append((os, {"getrandom": _drawn(os.getrandom, _urandom)}))
_CLASSES: list[tuple[ModuleType, dict[str, Any]]] = [
    (random, {"Random": _Random, "SystemRandom": _SystemRandom}),
    (secrets, {"SystemRandom": _SystemRandom}),
    (threading, _NUMBERS | {"current_thread": _current_thread}),
    (os, {"getpid": _process}),
]


class _Module(ModuleType):
    """A module, some of whose names lead elsewhere."""

    def __init__(self, module: ModuleType, names: dict[str, Any]) -> None:
        super().__init__(module.__name__, module.__doc__)
        self.__dict__["_module"] = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_module"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            super().__setattr__(name, value)
        else:
            setattr(self.__dict__["_module"], name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__dict__["_module"], name)


def _by_identity(replaced: Iterable[tuple[ModuleType, dict[str, Any]]]) -> dict[int, Any]:
    return {
        id(getattr(module, name)): value
        for module, names in replaced
        for name, value in names.items()
    }


_MODULES = {module.__name__: _Module(module, names) for module, names in _CLASSES}
_OF_LIBRARIES = _by_identity(_FUNCTIONS)
_OF_ITS_OWN = (
    _OF_LIBRARIES
    | _by_identity(_CLASSES)
    | {id(module): _MODULES[module.__name__] for module, _ in _CLASSES}
)


def _refuse_other_clocks() -> None:
    """Some clocks of a test's own (freezegun's, a mock's) beside the explorer's would not agree."""
    clocks = {f"time.{name}": getattr(time, name) for name in _CLOCKS if name != "sleep"}
    clocks |= {"datetime.date": datetime.date, "datetime.datetime": datetime.datetime}
    for name, clock in clocks.items():
        module = name.partition(".")[0]
        if type(clock) not in (BuiltinFunctionType, type) or clock.__module__ != module:
            raise NotSteppableError(
                f"{name} is not Python's own: it has been frozen or patched.",
                "Leave that out: in an exploration all clocks stand still, and `passes` and `clocks` "
                "move them.",
            )


_Site = tuple[dict[str, Any], str, Any, Any]


@contextmanager
def standing_in(functions: Iterable[Callable[..., Any]]) -> Iterator[Captured]:
    """Put the stand-ins in place; what the explored code keeps is looked for at the beginning.

    Args:
        functions: the clients, `given` and the invariant.

    Returns:
        What the functions have kept, with the generators of random numbers among it.

    Raises:
        NotSteppableError: a clock has been replaced by another.
    """
    functions = list(functions)
    _refuse_other_clocks()
    _OF_LIBRARIES.update(OF_DRIVERS)
    _OF_ITS_OWN.update(OF_DRIVERS)
    with ExitStack() as undo:
        undo.enter_context(_datetime_held())
        undo.enter_context(in_zone("UTC"))
        found = undo.enter_context(Captured(functions, _OF_ITS_OWN, goes_on=_one["process"]))
        asked = ("getrandbits", "random")  # by randint(), uniform() and their like
        vars(_DRAWER).update((name, _OF_RANDOM[name]) for name in asked)
        undo.callback(_forget, vars(_DRAWER), asked)
        for generator in found.generators:
            if generator is _DRAWER:  # code has imported one of its methods by name
                continue
            methods = _drawing(generator)
            found.each_run(vars(generator).update, methods)
            undo.callback(_forget, vars(generator), methods)
        init = sched.scheduler.__init__
        undo.callback(setattr, init, "__defaults__", init.__defaults__)
        init.__defaults__ = tuple(
            _OF_LIBRARIES.get(id(one), one) for one in init.__defaults__ or ()
        )
        sites = [site for space in Namespaces(functions).own for site in _own_sites(space)]
        sites += _library_sites()
        sites += [
            (vars(module), name, getattr(module, name), value)
            for module, names in _FUNCTIONS
            for name, value in names.items()
        ]
        sites.append((vars(builtins), "__import__", builtins.__import__, _importing()))
        # a notebook's box for the answer would stay when the exploration is over, and bar all cells
        sites.append((vars(builtins), "input", builtins.input, _asking(builtins.input)))
        if numpy := sys.modules.get("numpy.random.bit_generator"):  # where a seed comes from
            bits = vars(numpy)["randbits"]
            sites.append((vars(numpy), "randbits", bits, _drawn(bits, _seeding)))
        if process := sys.modules.get("multiprocessing.process"):  # where current_process() asks
            sites.append((vars(process), "os", os, _MODULES["os"]))
        placed: list[_Site] = []
        undo.callback(_put_back, placed)
        for namespace, name, value, stand_in in sites:
            if namespace.get(name) is value:
                namespace[name] = stand_in
                placed.append((namespace, name, value, stand_in))
        yield found


def _forget(space: dict[str, Any], names: Iterable[str]) -> None:
    for name in names:
        space.pop(name, None)


def _put_back(placed: Sequence[_Site]) -> None:
    for namespace, name, value, stand_in in reversed(placed):
        if namespace.get(name) is stand_in:
            namespace[name] = value


def _importing() -> Callable[..., Any]:
    """An import that an explored function makes finds the stand-ins of classes.

    A library that is imported only now finds the classes themselves, as it may derive others from them.
    """
    usual = builtins.__import__

    def look(name: str, space: Any = None, *args: Any, **options: Any) -> Any:
        found = usual(name, space, *args, **options)
        driver_imported(name)
        if name in _MODULES and timekeeper_here() is not None:
            by = str((space or {}).get("__name__", ""))
            return found if installed(by, sys.modules.get(by)) else _MODULES[name]
        return found

    return look


def _sites(namespace: dict[str, Any], stand_ins: dict[int, Any]) -> list[_Site]:
    return [
        (namespace, name, value, stand_in)
        for name, value in list(namespace.items())
        if (stand_in := stand_in_for(value, stand_ins)) is not value
    ]


def _own_sites(namespace: dict[str, Any]) -> list[_Site]:
    """The sites of the learner's; of an imported module looked for again only when it has changed.

    A test's process has hundreds of modules, which would be looked through for each exploration.
    """
    module = sys.modules.get(str(namespace.get("__name__")))
    if module is None or vars(module) is not namespace or module.__name__ == "__main__":
        return _sites(namespace, _OF_ITS_OWN)
    names, values = list(namespace), list(namespace.values())
    known = _looked_through.get(id(namespace))
    same = known is not None and known[0] == names and len(known[1]) == len(values)
    if known is not None and same and all(map(operator.is_, known[1], values)):
        return known[2]
    found = _sites(namespace, _OF_ITS_OWN)
    _looked_through[id(namespace)] = names, values, found
    return found


_looked_through: dict[int, tuple[list[str], list[Any], list[_Site]]] = {}  # by namespace, as it was
_known: dict[str, Any] = {"namespaces": None, "sites": []}


def _library_sites() -> list[_Site]:
    """Where libraries lead to a clock; looked for again only when there are more of them."""
    namespaces = Namespaces.libraries()
    if _known["namespaces"] is not namespaces:
        _known["namespaces"] = namespaces
        _known["sites"] = [one for each in namespaces for one in _sites(each, _OF_LIBRARIES)]
    found: list[_Site] = _known["sites"]
    return found
