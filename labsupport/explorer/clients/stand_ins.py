"""What stands for time and chance while clients are explored.

The interpreter's own modules stay as they are. In the namespaces of the explored code, the names that lead
to a clock or to chance lead to a stand-in for the length of an exploration; it asks the explorer's clock
inside an explored function, and the module itself everywhere else.
"""

import datetime
import os
import random
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Protocol

from greenlet import getcurrent

from labsupport.errors import NotSteppableError
from labsupport.explorer.clients.namespaces import Namespaces

__all__ = ["Timekeeper", "standing_in", "timekeeper_here"]


class Timekeeper(Protocol):
    """Whose time and chance it is."""

    @property
    def chance(self) -> random.Random:
        """What is drawn from."""

    def time(self) -> float:
        """Seconds since 1970."""

    def monotonic(self) -> float:
        """Seconds since some moment."""

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


def _sleep(seconds: float) -> None:
    keeper = timekeeper_here()
    if keeper is None:
        time.sleep(seconds)
    else:
        keeper.sleep(seconds)


def _clock(usual: Callable[[], Any], of: Callable[[float], Any]) -> Callable[[], Any]:
    def read() -> Any:
        keeper = timekeeper_here()
        return usual() if keeper is None else of(keeper.time())

    read.__name__ = usual.__name__
    return read


def _counter(usual: Callable[[], Any], of: Callable[[float], Any]) -> Callable[[], Any]:
    def read() -> Any:
        keeper = timekeeper_here()
        return usual() if keeper is None else of(keeper.monotonic())

    read.__name__ = usual.__name__
    return read


def _calendar(usual: Callable[..., Any], at: int) -> Callable[..., Any]:
    """A function whose argument in place `at` is the present when it is left out."""

    def read(*args: Any) -> Any:
        keeper = timekeeper_here()
        if keeper is None or len(args) > at:
            return usual(*args)
        now = keeper.time()
        return usual(*args, time.localtime(now) if at else now)

    return read


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e6) * 1000


def _same(seconds: float) -> float:
    return seconds


class _Kind(type):
    def __instancecheck__(cls, thing: object) -> bool:
        return isinstance(thing, cls.__mro__[1])


class _Datetime(datetime.datetime, metaclass=_Kind):
    def __new__(cls, *args: Any, **options: Any) -> Any:
        return datetime.datetime(*args, **options)

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        keeper = timekeeper_here()
        if keeper is None:
            return datetime.datetime.now(tz)
        return datetime.datetime.fromtimestamp(keeper.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(datetime.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        return cls.now()


class _Date(datetime.date, metaclass=_Kind):
    def __new__(cls, *args: Any, **options: Any) -> Any:
        return datetime.date(*args, **options)

    @classmethod
    def today(cls) -> Any:
        return _Datetime.now().date()


def _urandom(size: int) -> bytes:
    keeper = timekeeper_here()
    return os.urandom(size) if keeper is None else keeper.chance.randbytes(size)


def _uuid4() -> uuid.UUID:
    return uuid.UUID(bytes=_urandom(16), version=4)


def _uuid1(node: int | None = None, clock_seq: int | None = None) -> uuid.UUID:
    if timekeeper_here() is None:
        return uuid.uuid1(node, clock_seq)
    return uuid.UUID(bytes=_urandom(16), version=1)


class _SystemRandom(random.SystemRandom):
    def random(self) -> float:
        keeper = timekeeper_here()
        return super().random() if keeper is None else keeper.chance.random()

    def getrandbits(self, k: int) -> int:
        keeper = timekeeper_here()
        return super().getrandbits(k) if keeper is None else keeper.chance.getrandbits(k)


def _random(seed: Any = None) -> random.Random:
    keeper = timekeeper_here()
    return random.Random(keeper.chance.random() if seed is None and keeper else seed)


def _token_bytes(nbytes: int | None = None) -> bytes:
    return _urandom(secrets.DEFAULT_ENTROPY if nbytes is None else nbytes)


def _token_hex(nbytes: int | None = None) -> str:
    return _token_bytes(nbytes).hex()


def _token_urlsafe(nbytes: int | None = None) -> str:
    keeper = timekeeper_here()
    if keeper is None:
        return secrets.token_urlsafe(nbytes)
    import base64

    return base64.urlsafe_b64encode(_token_bytes(nbytes)).rstrip(b"=").decode("ascii")


_SYSTEM_RANDOM = _SystemRandom()


def _leave(status: int) -> None:
    if timekeeper_here() is None:
        os._exit(status)
    raise NotSteppableError(
        "A client ended the process (os._exit).",
        "Raise an error of its own, or return; `crashes=` lets a client crash.",
    )


_CLOCKS: dict[str, Any] = {
    "sleep": _sleep,
    "time": _clock(time.time, _same),
    "time_ns": _clock(time.time_ns, _nanoseconds),
    "monotonic": _counter(time.monotonic, _same),
    "monotonic_ns": _counter(time.monotonic_ns, _nanoseconds),
    "perf_counter": _counter(time.perf_counter, _same),
    "perf_counter_ns": _counter(time.perf_counter_ns, _nanoseconds),
    "process_time": _clock(time.process_time, lambda seconds: 0.0),
    "thread_time": _clock(time.thread_time, lambda seconds: 0.0),
    "localtime": _calendar(time.localtime, 0),
    "gmtime": _calendar(time.gmtime, 0),
    "ctime": _calendar(time.ctime, 0),
    "strftime": _calendar(time.strftime, 1),
}
_DATES: dict[str, Any] = {"datetime": _Datetime, "date": _Date}
_UUIDS: dict[str, Any] = {"uuid1": _uuid1, "uuid4": _uuid4}
_SECRETS: dict[str, Any] = {
    "token_bytes": _token_bytes,
    "token_hex": _token_hex,
    "token_urlsafe": _token_urlsafe,
    "choice": _SYSTEM_RANDOM.choice,
    "randbelow": lambda below: _SYSTEM_RANDOM.randrange(below),
    "randbits": _SYSTEM_RANDOM.getrandbits,
    "SystemRandom": _SystemRandom,
}
_CHANCE: dict[str, Any] = {"Random": _random, "SystemRandom": _SystemRandom}
_SYSTEM: dict[str, Any] = {"urandom": _urandom, "_exit": _leave}


class _Module(ModuleType):
    """A module, some of whose names lead elsewhere."""

    def __init__(self, module: ModuleType, names: dict[str, Any]) -> None:
        super().__init__(module.__name__, module.__doc__)
        self.__dict__["_module"] = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_module"], name)


def _stand_ins(*replaced: tuple[ModuleType, dict[str, Any]]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for module, names in replaced:
        found[id(module)] = _Module(module, names)
        found |= {id(getattr(module, name)): value for name, value in names.items()}
    return found


_TIME = _stand_ins((time, _CLOCKS))
_IDS = _stand_ins((uuid, _UUIDS), (secrets, _SECRETS))
_ALL = _TIME | _IDS | _stand_ins((datetime, _DATES), (random, _CHANCE), (os, _SYSTEM))
_LIBRARIES = _TIME | _IDS


@contextmanager
def standing_in(functions: Iterable[Callable[..., Any]]) -> Iterator[None]:
    """Put the stand-ins in place: for the learner's code all of them, for libraries clocks and ids.

    Args:
        functions: the clients, `given` and the invariant.
    """
    replaced: list[_Site] = []
    try:
        for namespace in Namespaces(functions).own:
            replaced += _sites(namespace, _ALL)
        replaced += _library_sites()
        for namespace, name, value, stand_in in replaced:
            if namespace.get(name) is value:
                namespace[name] = stand_in
        yield
    finally:
        for namespace, name, value, stand_in in replaced:
            if namespace.get(name) is stand_in:
                namespace[name] = value


_Site = tuple[dict[str, Any], str, Any, Any]


def _sites(namespace: dict[str, Any], stand_ins: dict[int, Any]) -> list[_Site]:
    return [
        (namespace, name, value, stand_ins[id(value)])
        for name, value in list(namespace.items())
        if id(value) in stand_ins
    ]


_known: dict[str, Any] = {"namespaces": None, "sites": []}


def _library_sites() -> list[_Site]:
    """Where libraries lead to a clock; looked for again only when there are more of them."""
    namespaces = Namespaces.libraries()
    if _known["namespaces"] != list(map(id, namespaces)):
        _known["namespaces"] = list(map(id, namespaces))
        _known["sites"] = [one for each in namespaces for one in _sites(each, _LIBRARIES)]
    found: list[_Site] = _known["sites"]
    return found
