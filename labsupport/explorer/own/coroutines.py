"""A client whose function is a coroutine: an event loop of its own, whose tasks step one by one.

The loop runs inside the client's greenlet. A task that comes to a command of redis.asyncio waits for the
explorer; when nothing else in the loop is ready, the explorer chooses whose step is next, among the tasks
of one client as among the clients.
"""

import asyncio
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from greenlet import GreenletExit

from labsupport.errors import LabError, NotSteppableError
from labsupport.explorer.clients.actor import Actor, actor_here
from labsupport.explorer.operations import Move, Operation
from labsupport.explorer.own.event_loop import ClientLoop

__all__ = ["CoroutineActor", "Strand"]

# sleeps in a row, before tasks that stand at a step go on: somebody may wait for them
_MOST_FIRED = 1000
_ANY = (None, 0, 1)  # a timer of the loop, as a wait that a timeout ends


class CoroutineActor(Actor):
    """A client that awaits. Its own steps are those of synchronous code, which stops its whole loop.

    Attributes:
        join: makes a strand known to the adversary.
        handed: makes the client that the function is called with, or gives back an earlier run's.
    """

    join: Callable[["Strand"], None]
    handed: Callable[[Any], Any]

    def __init__(self, name: str, function: Callable[..., Any], *args: Any) -> None:
        super().__init__(name, self._run, *args)
        self._coroutine = function
        self._redis: Any = None

    def reset(self) -> None:
        super().reset()
        self.loop: ClientLoop | None = None
        self._strands: dict[Any, Strand] = {}
        self._numbers = weakref.WeakKeyDictionary[Any, int]()  # of tasks that have drawn
        self._next: Strand | None = None
        self._stops = False  # a synchronous step is pending
        self._fired = 0  # sleeps that ended since a task took a step
        self._outer = sys.get_asyncgen_hooks()

    @property
    def ready(self) -> bool:
        return self._stops and super().ready

    @property
    def stands_back(self) -> bool:
        return any(strand.live for strand in self._strands.values())

    @property
    def timed(self) -> bool:
        return self.loop is not None and self.loop.next_timer() is not None

    @property
    def stalled(self) -> bool:
        return not self._stops and not self.stands_back

    @property
    def at(self) -> Operation | None:
        pending = [one.pending for one in self._strands.values() if one.live]
        return self.pending if self._stops else (pending[0] if pending else self.last)

    @property
    def stops(self) -> bool:
        """True while synchronous code keeps the loop from going on."""
        return self._stops

    @property
    def running_as(self) -> str:
        found = None if self._stops else self._strands.get(_task())
        return found.name if found is not None else self.name

    @property
    def draws_as(self) -> str:
        if (task := _task()) is None:
            return self.name
        return f"{self.name} {self._numbers.setdefault(task, len(self._numbers))}"

    @property
    def divided(self) -> bool:
        return self.loop is not None and sum(not task.done() for task in self.loop.tasks) > 1

    def strand(self) -> "Strand":
        """The strand of the task that is running."""
        task = asyncio.current_task()
        found = self._strands.get(task)
        if found is None:
            found = self._strands[task] = Strand(self, len(self._strands) + 1)
            self.join(found)
        return found

    def resume(self, strand: "Strand") -> None:
        """Let a task go on, and with it the loop until nothing more is ready."""
        self._next, self._fired = strand, 0
        self.proceed()

    def served(self) -> bool:
        return False

    def time_out(self) -> None:
        """The loop's next timer is due, as nobody else can move."""
        self.waiting = None
        self._fire()

    # synchronous code inside

    def gate(self, operation: Operation) -> None:
        with self._stopped():
            super().gate(operation)

    def arrival(self) -> None:
        if self.delayed:
            with self._stopped():
                super().arrival()

    def block(self, operation: Operation, connection: Any, number: int, timeout: float) -> None:
        raise self._refuse(
            "waits in a blocking command of a synchronous client, and stops its loop"
        )

    def sleep(self, seconds: float) -> None:
        with self._stopped():
            super().sleep(seconds)

    def stand(self) -> None:
        with self._stopped():
            super().stand()

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        self._stops = True
        try:
            with self._away():
                yield
        finally:
            self._stops = False

    # the loop

    def _run(self, redis: Any, db: Any) -> Any:
        self._redis = self.handed(self._redis)
        coroutine = self._coroutine(self._redis, db)
        if not hasattr(type(coroutine), "__await__"):
            return coroutine
        self._outer = sys.get_asyncgen_hooks()
        loop = self.loop = ClientLoop(
            self.monotonic, self._idle, self._turn, self._refuse, self._check
        )
        try:
            main = loop.create_task(_awaited(coroutine))
            try:
                loop.run_until_complete(main)
            except (Exception, asyncio.CancelledError):
                if self.fault is not None or not main.done():
                    raise
            self._cancel_the_rest(loop)  # also of one that has failed
            self._look_at_lost_errors(loop, main)
            return main.result()
        finally:
            if self.crashed or not all(task.done() for task in loop.tasks):
                loop.abandon()
            loop.close()

    def _cancel_the_rest(self, loop: ClientLoop) -> None:
        rest = [task for task in loop.tasks if not task.done()]
        if rest:
            self.left_tasks = self.left_tasks or not all(task.cancelling() for task in rest)
            for task in rest:
                task.cancel()
            loop.run_until_complete(asyncio.wait(rest))
        loop.run_until_complete(loop.shutdown_asyncgens())

    def _look_at_lost_errors(self, loop: ClientLoop, main: Any) -> None:
        """An error that a task raised, and that nobody asked it for, is the client's."""
        for task in loop.tasks:
            lost = getattr(task, "_log_traceback", False)
            if task is not main and lost and not task.cancelled():
                error = task.exception()
                if isinstance(error, Exception) and main.exception() is None:
                    raise error

    def _idle(self) -> None:
        """Nothing is ready: sleeps are over, or the explorer says who goes on."""
        if self.crashed:
            raise GreenletExit
        assert self.loop is not None
        timer = self.loop.next_timer()
        busy = self.stands_back
        left = timer[0] - self.monotonic() if timer is not None else 0.0
        passing = self.clock.passing or (
            timer is not None and not timer[1] and not busy and self.passes_in(left)
        )
        fires = timer is not None and not passing and not (timer[1] and busy)
        if fires and not (self._fired >= _MOST_FIRED and self._others_may):
            self._fired += 1
            self._fire()
            return
        self.waiting = self.wake_us = None
        if timer is not None and passing:
            self.wakes_in(left)
            if left <= 0:
                return
        elif timer is not None:
            self.waiting = _ANY
        self._let_go_on()

    def _turn(self) -> None:
        """A task waits for another with sleep(0): the other takes its step, if it has come to one."""
        if self._others_may and not self.crashed:
            self._let_go_on()

    @property
    def _others_may(self) -> bool:
        """Whether a task stands at a step, or its reply is on its way."""
        return any(one.live and one.waiting is None for one in self._strands.values())

    def _let_go_on(self) -> None:
        """Wait until the explorer has chosen which task goes on."""
        self._next = None
        with self._away():
            assert self._hub is not None
            self._hub.switch()
        if self.crashed:
            raise GreenletExit
        self.waiting = None
        if self._next is not None:
            self._next.released()

    def _fire(self) -> None:
        """Move the client's own clock on to the next timer."""
        assert self.loop is not None
        timer = self.loop.next_timer()
        if timer is not None:
            self.looks = *self.looks[:2], self.looks[2] + (not timer[1])
            self._slept += self.lasts(max(timer[0] - self.monotonic(), 0.0))

    @contextmanager
    def _away(self) -> Iterator[None]:
        """Leave the loop, as nobody else may take its generators for theirs."""
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(*self._outer)
        try:
            yield
        finally:
            sys.set_asyncgen_hooks(*hooks)

    def _check(self) -> None:
        if self.crashed or actor_here() is self:
            return
        other = actor_here()
        self._refuse(
            f"is woken by {other.name if other else 'code outside'!r}: they share an asyncio object"
        )

    def _refuse(self, what: str) -> LabError:
        self.fault = self.fault or NotSteppableError(
            f"The client {self.name!r} {what}; the explorer cannot order its steps.",
            "Each client has an event loop of its own, and only redis.asyncio and timers in it; tasks that "
            "share an object are one client, which gathers them.",
        )
        raise self.fault


class Strand(Actor):
    """One task of a client, as the adversary sees it: it has a step of its own to take.

    Args:
        client: whose task it is.
        number: in order of their first steps.
    """

    def __init__(self, client: CoroutineActor, number: int) -> None:
        self.client = client
        super().__init__(
            client.name,
            client.function,
            client.redis,
            client.db,
            client.clock,
            client._no_op,
            client,
        )
        self.name = f"{client.name}\0{number}"
        self.move = Move("step", self.name)
        self.may_lose = client.may_lose
        self._future: asyncio.Future[None] | None = None

    @property
    def haste(self) -> int:
        return self.client.haste

    @haste.setter
    def haste(self, value: int) -> None:
        self.client.haste = value

    @property
    def live(self) -> bool:
        return self._future is not None and self.client.live

    @property
    def ready(self) -> bool:
        waits = self.waiting is not None or self.on_its_way
        return self.live and not (waits or self.client.stops)

    def proceed(self) -> None:
        self.client.resume(self)

    def released(self) -> None:
        """Go on: the explorer has chosen this step."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def pause(self, operation: Operation) -> None:
        """Return when the explorer lets the step be taken."""
        if self.client.crashed:
            raise GeneratorExit
        self.no_machine_time(operation)
        self.no_shared_lock()
        self.note_code()
        self.parked = self._loops.spins(operation, self.last, self.alone)
        if self.parked and self.client.divided and self.last and not self.last.refused:
            self.client.beats = True
        self.pending = operation
        await self._wait()

    async def wait_for_reply(
        self, operation: Operation, connection: Any, number: int, timeout: float
    ) -> None:
        """Return when a blocking command has been served."""
        self.last = operation
        self._wait_for(connection, number, timeout)
        await self._wait()

    async def later(self) -> None:
        """Return when the reply of the step that was taken is there, if it is to come later."""
        if self.delayed:
            self.delayed, self.on_its_way = False, True
            try:
                await self._wait()
            finally:
                self.on_its_way = False

    async def _wait(self) -> None:
        assert self.client.loop is not None
        self._future = self.client.loop.create_future()
        try:
            await self._future
        finally:
            self._future = self.waiting = self.until_us = None
        if self.client.crashed:
            raise GeneratorExit

    def took(self, operation: Operation, reply: Any) -> None:
        super().took(operation, reply)
        self.client.last = operation


def _task() -> Any:
    """The task that is at work; None where no loop runs."""
    with suppress(RuntimeError):
        return asyncio.current_task()
    return None


async def _awaited(thing: Any) -> Any:
    return await thing
