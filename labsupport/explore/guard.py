"""Watching for what the explorer cannot control, and for a step that never ends."""

import ctypes
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import redis
import redis.asyncio
from greenlet import getcurrent
from redis.asyncio.client import Pipeline as AsyncPipeline
from redis.client import Pipeline

from labsupport.database import Database
from labsupport.errors import NotSteppableError
from labsupport.explore.direct_redis import DirectRedis
from labsupport.explore.stepped_database import SteppedDatabase
from labsupport.explore.stepped_redis import SteppedPipeline, SteppedRedis

__all__ = ["StepTimeout", "foreign_use_noticed", "watched"]

PATIENCE_SECONDS = 10.0
"""A step that takes longer has no command in it: it loops, or waits for something outside."""

_ASYNC = (redis.asyncio.Redis.execute_command.__code__, AsyncPipeline.execute.__code__)
_CLIENT = (
    redis.Redis._execute_command.__code__,
    DirectRedis.execute_command.__code__,
    Pipeline.execute.__code__,
)
_DATABASE = Database._statement.__code__
_THREAD = threading.Thread.start.__code__
_NOTICED = frozenset(map(id, (*_ASYNC, *_CLIENT, _DATABASE, _THREAD)))  # to hash code is slow


class StepTimeout(BaseException):
    """Raised inside a client that takes no step for too long."""


@contextmanager
def foreign_use_noticed() -> Iterator[None]:
    """For one run, notice a client's use of connections and threads that are not the explorer's.

    It watches calls through `sys.setprofile`, which costs too much to be left on: the first run
    stands for all.
    """
    before = sys.getprofile()

    def notice(frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or id(frame.f_code) not in _NOTICED:
            return
        code = frame.f_code
        actor = getattr(getcurrent(), "actor", None)
        if actor is None or actor.fault is not None:
            return
        if code in _ASYNC:
            what = "uses redis.asyncio"
        elif code in _CLIENT and not isinstance(_self(frame), SteppedRedis | SteppedPipeline):
            what = "uses a Redis client that the explorer did not hand out"
        elif code is _DATABASE and not isinstance(_self(frame), SteppedDatabase):
            what = "uses a database that the explorer did not hand out"
        elif code is _THREAD:
            what = "starts a thread of its own"
        else:
            return
        actor.fault = NotSteppableError(
            f"The client {actor.name!r} {what}; the explorer cannot order its steps.",
            "Use only the redis and db that the function is called with, in plain functions.",
        )
        raise actor.fault  # before the call is made

    sys.setprofile(notice)
    try:
        yield
    finally:
        sys.setprofile(before)


@contextmanager
def watched(progress: Callable[[], int]) -> Iterator[None]:
    """Raise `StepTimeout` in this thread when `progress` stands still for too long.

    Args:
        progress: a number that changes with each step.
    """
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
        yield
    finally:
        over.set()
        watcher.join()


def _self(frame: FrameType) -> Any:
    return frame.f_locals[frame.f_code.co_varnames[0]]
