"""Watching for what the explorer cannot control, and for a step that never ends."""

import ctypes
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
from greenlet import getcurrent
from redis.asyncio.client import Pipeline as AsyncPipeline
from redis.client import Pipeline

from labsupport.errors import NotSteppableError
from labsupport.explorer.clients.direct_redis import DirectRedis
from labsupport.explorer.clients.stepped_redis import SteppedPipeline

__all__ = ["StepTimeout", "foreign_use_noticed", "watched"]

PATIENCE_SECONDS = 10.0
"""A step that takes longer has no command in it: it loops, or waits for something outside."""


class StepTimeout(BaseException):
    """Raised inside a client that takes no step for too long."""


@contextmanager
def foreign_use_noticed() -> Iterator[None]:
    """Refuse a client's use of connections and threads that are not the explorer's, at the first use.

    The methods through which every command of redis-py goes, and the start of a thread, are replaced
    for the length of the block; outside a client's function they do what they always do.
    """
    replaced: list[tuple[type, str, Any]] = []

    def watch(owner: type, name: str, what: str, ours: tuple[type, ...] = ()) -> None:
        usual = getattr(owner, name)

        @functools.wraps(usual)
        def checked(self: Any, *args: Any, **options: Any) -> Any:
            actor = getattr(getcurrent(), "actor", None)
            if actor is not None and actor.fault is None and not isinstance(self, ours):
                actor.fault = NotSteppableError(
                    f"The client {actor.name!r} {what}; the explorer cannot order its steps.",
                    "Use only the redis and db that the function is called with, in plain functions.",
                )
                raise actor.fault  # before the call is made
            return usual(self, *args, **options)

        replaced.append((owner, name, usual))
        setattr(owner, name, checked)

    foreign = "uses a Redis client that the explorer did not hand out"
    try:
        watch(redis.Redis, "execute_command", foreign, (DirectRedis,))
        watch(Pipeline, "execute", foreign, (SteppedPipeline,))
        watch(redis.asyncio.Redis, "execute_command", "uses redis.asyncio")
        watch(AsyncPipeline, "execute", "uses redis.asyncio")
        watch(threading.Thread, "start", "starts a thread of its own")
        yield
    finally:
        for owner, name, usual in reversed(replaced):
            setattr(owner, name, usual)


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
