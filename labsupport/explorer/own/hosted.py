"""`given` and the invariant, which may be coroutine functions, too."""

import asyncio
import functools
from asyncio import events
from collections.abc import Callable
from typing import Any

from labsupport.errors import InvalidSettingError
from labsupport.explorer.own.event_loop import ClientLoop
from labsupport.explorer.stand_ins.timekeeper import timekeeper_here

__all__ = ["hosted"]


def hosted(function: Callable[..., Any], client: Callable[[], Any]) -> Callable[..., Any]:
    """A function that awaits what `function` returns, if that can be awaited.

    Args:
        function: `given` or the invariant.
        client: makes the redis.asyncio client that it is called with then.
    """
    kept: list[Any] = []

    @functools.wraps(function)
    def run(redis: Any, db: Any, *told: Any) -> Any:
        if not kept:
            result = function(redis, db, *told)
            if not hasattr(type(result), "__await__"):
                return result
            getattr(result, "close", lambda: None)()  # it has not begun
            kept.append(client())
        return _finish(function(kept[0], db, *told))

    return run


def _finish(awaitable: Any) -> Any:
    """Run a coroutine to its end; nobody else is there who could move while it sleeps."""
    passed = [0.0]

    def idle() -> None:
        timer = loop.next_timer()
        if timer is None:
            raise InvalidSettingError(
                "`given` or the invariant waits for something that never comes.",
                "Await there only what Redis answers at once.",
            )
        if (sleeps := timer[0] - passed[0]) > 0:
            passed[0] = timer[0]
            keeper = timekeeper_here()
            assert keeper is not None
            keeper.sleep(sleeps)

    def refuse(what: str) -> None:
        raise InvalidSettingError(
            f"`given` or the invariant {what}.", "Use redis.asyncio, and no other connection."
        )

    outer = events._get_running_loop()
    events._set_running_loop(None)
    loop = ClientLoop(lambda: passed[0], idle, lambda: None, refuse, lambda: None)
    try:
        result = loop.run_until_complete(_awaited(awaitable))
        rest = [task for task in loop.tasks if not task.done() and task.cancel()]
        if rest:
            loop.run_until_complete(asyncio.wait(rest))
        return result
    finally:
        loop.abandon()
        loop.close()
        events._set_running_loop(outer)


async def _awaited(awaitable: Any) -> Any:
    return await awaitable
