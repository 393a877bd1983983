"""What an experiment's run has at its disposal, all of it gone when the run is over."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeVar

from labsupport.charts import LiveChart
from labsupport.database import Database, open_shop
from labsupport.history import History
from labsupport.processes import Closing, undisturbed, wants_a_core
from labsupport.servers import Server, start_server
from labsupport.workers import WorkerPool

_MORE_PATIENCE = 3  # times, for who would go on if the machine let it
_FINISH_SECONDS = 5.0  # what is granted to the clients when the budget is spent


class RunStopped(Exception):  # noqa: N818 (no error: it was asked for)
    """The panel's Stop was pressed while the run went on."""


_Owned = TypeVar("_Owned", bound=AbstractContextManager[Any])


class Stage(Closing):
    """The servers, the database and the workers of one run.

    Args:
        chart: draws while the stage waits; None draws nothing.
        budget_seconds: how long the clients may take in all; from then on it waits for nothing.
        stopped: asked all the time; once it says True the run ends with `RunStopped`.

    Attributes:
        pool: the workers.
        history: what they have recorded.
        facts: what `conduct` wants to tell `measure`.
        seconds: how long the run was, until the clients were told to end.
        cut_short: whether the budget was spent before the run came to its own end.
    """

    def __init__(
        self,
        chart: LiveChart | None,
        *,
        budget_seconds: float = math.inf,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.facts: dict[str, Any] = {}
        self.seconds = 0.0
        self.cut_short = False
        self._budget_seconds = budget_seconds
        self._deadline = math.inf  # once the clients have begun: a start takes its time
        self._chart = chart
        self._stopped = stopped
        self._closing = ExitStack()
        self.pool = self._closing.enter_context(
            WorkerPool(idle=self._idle, check=self._end_if_asked)
        )
        self.history: History = self.pool.history

    def server(self, **options: Any) -> Server:
        """A server of the run's own, see `start_server`; it may be hurt."""
        self._end_if_asked()
        return self._closing.enter_context(start_server(**options))

    def own(self, thing: _Owned) -> _Owned:
        """Have something with an end of its own (a replica, a proxy) end with the run; returns it."""
        self._closing.enter_context(thing)
        self._end_if_asked()
        return thing

    def shop(self) -> Database:
        """A session on a copy of the shop of the run's own."""
        return self._closing.enter_context(open_shop())

    def start(
        self,
        function: Callable[..., Any],
        *args: Any,
        clients: int,
        processes: int,
        name: str | None = None,
    ) -> None:
        """Start clients in several processes; each calls `function(client, *args)` in a thread.

        Args:
            function: what each does; it calls `client.meet()` when it is ready to begin.
            args: what else it is given, sent by value.
            clients: how many in all.
            processes: how many processes share them.
            name: what they are called in messages, i.e. the implementation's name.
        """
        processes = min(processes, clients)
        for place in range(processes):
            share = clients // processes + (place < clients % processes)
            self.pool.start(function, *args, clients=share, name=name)

    def wait(self, condition: Callable[[], bool] | None = None, *, seconds: float) -> bool:
        """Wait for a condition, or for a while, and draw meanwhile.

        Returns:
            True as soon as the condition holds, False when the time is over.
        """
        if self._deadline == math.inf and self.history.origin_ns:
            self._deadline = self.history.origin_ns / 1e9 + self._budget_seconds
        left = max(0.0, self._deadline - time.monotonic())
        came = self.pool.wait(condition, seconds=min(seconds, left))
        if not came and left < seconds:
            self.cut_short = True
        return came

    def finish(self, *, patience_seconds: float) -> list[int]:
        """Tell all clients to end and wait until they have, as long as anything still happens.

        Args:
            patience_seconds: how long nothing may happen before the rest is killed.

        Returns:
            the clients that had to be killed since nothing happened; in a run that was cut short,
            nobody can tell.
        """
        self.pool.stop()
        self._deadline = max(self._deadline, time.monotonic() + _FINISH_SECONDS)
        self.seconds = self.history.elapsed_ns / 1e9
        if self._chart is not None:
            self._chart.hold()
        workers = [worker for worker in self.pool.workers if not worker.killed]
        self.wait_while_alive(
            lambda: all(worker.done for worker in workers), patience_seconds=patience_seconds
        )
        left = [
            client
            for worker in workers
            for client in worker.clients
            if client not in worker.results
        ]
        for worker in workers:
            worker.kill()
        self.history.end()
        return [] if self.cut_short else left

    def wait_while_alive(self, condition: Callable[[], bool], *, patience_seconds: float) -> bool:
        """Wait for a condition as long as the workers still record events or return.

        Who computes, or waits for a core, has a few times that patience: the machine may be busy.

        Returns:
            True as soon as the condition holds; False when nothing has happened for the patience.
        """
        seen, since, more = -1, time.monotonic(), _MORE_PATIENCE

        def over() -> bool:
            nonlocal seen, since, more
            signs = len(self.history) + sum(len(w.results) for w in self.pool.workers)
            if signs != seen:
                seen, since, more = signs, time.monotonic(), _MORE_PATIENCE
            if condition() or time.monotonic() - since <= patience_seconds:
                return condition()
            busy = more > 0 and any(
                wants_a_core(worker.pid)
                for worker in self.pool.workers
                if not (worker.done or worker.killed)
            )
            since, more = (time.monotonic(), more - 1) if busy else (since, more)
            return not busy

        while not self.wait(over, seconds=60.0) and not self.cut_short:
            pass
        return condition()

    def close(self) -> None:
        """Kill what is left and remove it, also if Interrupt is pressed again meanwhile."""
        with undisturbed():
            self._closing.close()

    def _end_if_asked(self) -> None:
        """Also while it starts: on a busy machine that takes seconds."""
        if self._stopped():
            raise RunStopped

    def _idle(self) -> None:
        self._end_if_asked()
        self.history.read()
        if self._chart is not None:
            self._chart.tick(self.history)
