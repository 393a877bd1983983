"""Clocks and calendars that ask the explorer's clock inside an explored function.

Everywhere else each is what it stands for: other threads notice nothing. `datetime` stays itself.
"""

import ctypes
import datetime
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import BuiltinFunctionType
from typing import Any

from labsupport.errors import NotSteppableError
from labsupport.explorer.guards.foreign import refusing
from labsupport.explorer.stand_ins.timekeeper import timekeeper_here

__all__ = ["CLOCKS", "ZONE", "dates_held", "in_zone", "refuse_other_clocks"]


# they write down when a connection was made, or a line of a log, and how long a command took, or measure
# their patience: no answer depends on it
_BOOKKEEPERS = frozenset(
    {"backoff._async", "backoff._sync", "http.cookiejar", "logging", "loguru._datetime"}
    | {"opentelemetry.sdk.trace", "sqlalchemy.pool.base", "structlog.processors"}
    | {
        f"redis.{way}{part}"
        for way in ("", "asyncio.")
        for part in ("client", "cluster", "connection")
    }
)


def _kept_only() -> bool:
    return sys._getframe(2).f_globals.get("__name__") in _BOOKKEEPERS


def _sleeping(usual: Callable[[float], None]) -> Callable[[float], None]:
    def sleep(seconds: float) -> None:
        keeper = timekeeper_here()
        if keeper is None or not seconds >= 0:  # Python says what is wrong with it
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


def _now(usual: Any) -> Any:
    def now(cls: Any, tz: Any = None) -> Any:
        keeper = timekeeper_here()
        if keeper is None:
            return usual.__get__(None, cls)(tz)
        return cls.fromtimestamp(keeper.time(asked=not _kept_only()), tz)

    return classmethod(now)


def _utcnow(usual: Any) -> Any:
    def utcnow(cls: Any) -> Any:
        keeper = timekeeper_here()
        if keeper is None:
            return usual.__get__(None, cls)()
        now = keeper.time(asked=not _kept_only())
        return cls.fromtimestamp(now, datetime.UTC).replace(tzinfo=None)

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
def dates_held() -> Iterator[None]:
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


ZONE = "UTC"
"""Of all explored code, as on a server."""
CLOCKS: dict[str, Any] = {
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
        # as strptime does, which sets it to what it is
        unless=lambda: os.environ.get("TZ") == ZONE,
        remedy='Name the zone where it matters: datetime.now(ZoneInfo("Europe/Paris")).',
    ),
}


def refuse_other_clocks() -> None:
    """Some clocks of a test's own (freezegun's, a mock's) beside the explorer's would not agree."""
    clocks = {f"time.{name}": getattr(time, name) for name in CLOCKS if name != "sleep"}
    clocks |= {"datetime.date": datetime.date, "datetime.datetime": datetime.datetime}
    for name, clock in clocks.items():
        module = name.partition(".")[0]
        if type(clock) not in (BuiltinFunctionType, type) or clock.__module__ != module:
            raise NotSteppableError(
                f"{name} is not Python's own: it has been frozen or patched.",
                "Leave that out: in an exploration all clocks stand still, and `passes` and `clocks` "
                "move them.",
            )
