"""An event loop whose time is the explorer's, and which asks it what to do when nothing is ready."""

import asyncio
import itertools
from asyncio import events
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["ClientLoop"]

_TIMEOUTS = frozenset({"_on_timeout", "_release_waiter"})  # of asyncio.timeout, wait_for and wait
_FOREIGN = {
    "create_connection": "opens a connection of its own",
    "create_unix_connection": "opens a connection of its own",
    "create_datagram_endpoint": "opens a connection of its own",
    "create_server": "opens a server of its own",
    "create_unix_server": "opens a server of its own",
    "sock_connect": "opens a connection of its own",
    "add_reader": "opens a connection of its own",
    "add_writer": "opens a connection of its own",
    "subprocess_exec": "starts a process of its own",
    "subprocess_shell": "starts a process of its own",
    "connect_read_pipe": "opens a pipe of its own",
    "connect_write_pipe": "opens a pipe of its own",
    "add_signal_handler": "listens to signals",
}

_MANY_TURNS = 1000
_MOST_LAYERS = 200  # of one that swallows what ends it


class _Selector:
    """Where the loop would wait for its sockets: it has none."""

    def __init__(self, idle: Callable[[], None], turn: Callable[[], None]) -> None:
        self._idle, self._turn = idle, turn
        self._turns = 0  # since the loop was idle

    def select(self, timeout: float | None) -> list[Any]:
        """Return at once when something is ready, or when the explorer has made it so."""
        self._turns += 1
        if timeout != 0:
            self._turns = 0
            self._idle()
        elif self._turns % _MANY_TURNS == 0:
            self._turn()
        return []


class _Task(asyncio.Task[Any]):
    """A task that is told from others by its number: a set of tasks has the same order in each run."""

    _number: int

    def __new__(cls, coro: Any, *, loop: "ClientLoop", **options: Any) -> "_Task":
        task = super().__new__(cls)
        task._number = next(loop.numbers)
        return task

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[Any]):
    """A future, told from others in the same way."""

    _number: int

    def __new__(cls, *, loop: "ClientLoop") -> "_Future":
        future = super().__new__(cls)
        future._number = next(loop.numbers)
        return future

    def __hash__(self) -> int:
        return self._number


class ClientLoop(asyncio.BaseEventLoop):
    """The loop of one client in one run.

    Args:
        now: the client's clock, in seconds.
        idle: called when no callback is ready; it moves the clock on, or lets a task go on.
        turn: called when callbacks have been ready very often: somebody may wait with sleep(0).
        refuse: called with what the client does, in words, that cannot be stepped; it raises.
        check: called before each callback is scheduled.

    Attributes:
        tasks: all that were made.
        numbers: of tasks and futures.
    """

    def __init__(
        self,
        now: Callable[[], float],
        idle: Callable[[], None],
        turn: Callable[[], None],
        refuse: Callable[[str], Any],
        check: Callable[[], None],
    ) -> None:
        super().__init__()
        self.time = now  # type: ignore[method-assign]
        self.tasks: list[Any] = []
        self.numbers = itertools.count()
        self._dropped: list[Any] = []  # generators that nobody holds any longer
        self.set_task_factory(lambda loop, coro, **options: _Task(coro, loop=loop, **options))
        self._selector = _Selector(idle, turn)
        self._clock_resolution = 1e-6
        self._check = check
        self.set_exception_handler(
            lambda loop, context: None
        )  # what went wrong is asked of the tasks
        self.refuse = refuse

    def create_task(self, coro: Any, **options: Any) -> Any:
        task = super().create_task(coro, **options)
        self.tasks.append(task)
        return task

    def create_future(self) -> Any:
        return _Future(loop=self)

    def call_soon(self, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        self._check()
        return super().call_soon(*args, **options)

    def next_timer(self) -> tuple[float, bool] | None:
        """When the next timer is due, and whether it is a timeout and no sleep; None without one."""
        scheduled: list[Any] = self._scheduled  # type: ignore[attr-defined]
        left = [handle for handle in scheduled if not handle.cancelled()]
        if not left:
            return None
        first = min(left, key=lambda handle: handle.when())
        name = getattr(first._callback, "__name__", "")
        return first.when(), name in _TIMEOUTS

    def abandon(self) -> None:
        """Drop all tasks as they are; their `finally` blocks reach no server."""
        generators = [*self._asyncgens, *self._dropped]  # type: ignore[attr-defined]
        events._set_running_loop(self)  # a `finally` may make a task, which ends here, too
        try:
            for task in self.tasks:
                if not task.done():
                    task._log_destroy_pending = False
                    _close(task.get_coro())
            for generator in generators:
                _close_generator(generator)
        finally:
            events._set_running_loop(None)

    def close(self) -> None:
        for generator in self._dropped:
            _close_generator(generator)
        super().close()

    def _asyncgen_finalizer_hook(self, generator: Any) -> None:
        """Close a generator that nobody holds any longer, in a task of its own, as asyncio does.

        What would close it is made only then: if the run has ended before, nobody would await it.
        """
        self._asyncgens.discard(generator)  # type: ignore[attr-defined]
        if not self.is_closed():
            self._dropped.append(generator)
            self.call_soon_threadsafe(lambda: self.create_task(generator.aclose()))

    def _process_events(self, events: Any) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


def _close(coroutine: Any) -> None:
    """Close a coroutine from the inside out: one that awaits in its `finally` outlives its caller's end."""
    for _ in range(_MOST_LAYERS):
        innermost, one = None, coroutine
        while getattr(one, "cr_frame", None) is not None:
            innermost, one = one, one.cr_await
        if innermost is None:
            return
        with suppress(BaseException):
            innermost.close()


def _close_generator(generator: Any) -> None:
    """Close an asynchronous generator and what it awaits, in its `finally`, too.

    What was closed only when it is collected would tell of its errors on stderr, whoever runs then.
    """
    for _ in range(_MOST_LAYERS):
        _close(generator.ag_await)
        if generator.ag_frame is None or generator.ag_running:
            return
        with suppress(BaseException):
            generator.aclose().send(None)


def _refusing(what: str) -> Callable[..., None]:
    def method(self: ClientLoop, *args: Any, **options: Any) -> None:
        self.refuse(what)

    return method


for _name, _what in _FOREIGN.items():
    setattr(ClientLoop, _name, _refusing(_what))
