"""Many clients share a window: the claims of `Limit`, and the fullest window that is drawn live."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from labsupport.charts import Line, Lines, Plot
from labsupport.experiments import knob
from labsupport.history import History
from labsupport.labs.limiters.limit import OWN, Counts, Limit, Times, in_order


@dataclass(frozen=True, kw_only=True)
class RateLimit(Limit):
    """All clients call one function, which may admit `limit` of them in any window.

    The function under study is `allow(redis, key, limit, window, clock)`; it returns (allowed,
    remaining, retry_after). `clock()` is the time of the caller's machine in seconds since 1970. One
    more client has a key and a limit of its own; it calls until it is refused, waits as told, and
    calls again.

    Args:
        clients: how many share the key, each with a connection of its own.
        seconds: how long they call; they go on until they have asked for twice the limit.
        limit: how many calls are allowed in a window.
        window_seconds: how long a window is.
        skew_seconds: by how much the clock of one machine, with one client, is ahead.
        processes: how many machines there are, i.e. processes.
    """

    parameters: ClassVar[tuple[str, ...]] = ("redis", "key", "limit", "window", "clock")
    promise: ClassVar[str] = "No window holds more admitted calls than the limit"
    plan: ClassVar[tuple[tuple[float, float], ...]] = (
        *((0.7, 0.5), (0.8, 8.0), (0.7, 0.5), (0.8, 8.0)),  # bursts half a window apart
        (3.0, 2.0),
    )

    limit: int = knob(20, low=1, high=1000)
    window_seconds: float = knob(0.2, low=0.05, high=10.0, step=0.05)

    @property
    def _most(self) -> int:
        return self.limit

    @property
    def _given(self) -> tuple[int, float]:
        return self.limit, float(self.window_seconds)

    @property
    def _own(self) -> tuple[int, float]:
        return OWN, self._window

    @property
    def _window(self) -> float:
        return float(self.window_seconds)

    def _used(self, history: History, *events: str) -> tuple[Times, Counts]:
        starts, ends = in_order(history, *events)
        before = np.searchsorted(starts, ends - int(self._window * 1e9), side="right")
        return ends - history.origin_ns, np.arange(1.0, len(ends) + 1) - before

    def _fair(self, calls_ns: Times) -> int:
        due, recent, window = 0, deque[int](), int(self._window * 1e9)
        for now in calls_ns.tolist():
            while recent and recent[0] <= now - window:
                recent.popleft()
            if len(recent) < self.limit:
                recent.append(now)
                due += 1
        return due

    def plots(self) -> Sequence[Plot]:
        def worst(history: History) -> tuple[Times, Counts]:
            times, used = self._used(history, "admitted")
            return times, np.maximum.accumulate(used) if len(used) else used

        return (
            self._bars(),
            Lines(
                "admitted calls in the window that ends here",
                (
                    Line("now", "work", lambda history: self._used(history, "admitted")),
                    Line("worst", "tail", worst),
                    Line("limit", "limit", lambda _: (np.zeros(1, "i8"), np.full(1, self.limit))),
                ),
                top=1.5 * self.limit,
            ),
        )
