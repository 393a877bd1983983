"""Many clients take tokens from one bucket: the claims of `Limit`, and a level that is drawn live."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from labsupport.charts import Line, Lines, Plot
from labsupport.experiments import knob
from labsupport.history import History
from labsupport.labs.limiters.limit import OWN, Counts, Limit, Times, in_order


@dataclass(frozen=True, kw_only=True)
class BucketLimit(Limit):
    """All clients take tokens from one bucket of `capacity`, which gains `rate` a second.

    The function under study is `take(redis, key, capacity, rate, clock)`; it returns (allowed,
    remaining, retry_after). All else is as in `RateLimit`: in any span of t seconds, at most
    capacity + rate * t calls are allowed.

    Args:
        clients: how many share the bucket, each with a connection of its own.
        seconds: how long they call; they go on until they have asked for twice the capacity.
        capacity: how many tokens the bucket holds; it is full at the start.
        rate: how many tokens it gains in a second.
        skew_seconds: by how much the clock of one machine, with one client, is ahead.
        processes: how many machines there are, i.e. processes.
    """

    parameters: ClassVar[tuple[str, ...]] = ("redis", "key", "capacity", "rate", "clock")
    promise: ClassVar[str] = "No more calls are admitted than the bucket held and gained"
    plan: ClassVar[tuple[tuple[float, float], ...]] = (
        *((0.5, 0.3), (0.4, 8.0), (1.1, 0.3), (0.4, 8.0), (1.1, 0.3), (0.4, 8.0)),
        (2.1, 2.0),
    )
    _breach: ClassVar[str] = "{worst:call|calls} beyond the rate, from a bucket of {most_allowed}"
    _worst: ClassVar[str] = "Beyond the rate, of {most_allowed}"

    capacity: int = knob(20, low=1, high=1000)
    rate: float = knob(100.0, low=1.0, high=10_000.0)

    @property
    def _most(self) -> int:
        return self.capacity

    @property
    def _given(self) -> tuple[int, float]:
        return self.capacity, float(self.rate)

    @property
    def _own(self) -> tuple[int, float]:
        return OWN, OWN / self._window

    @property
    def _window(self) -> float:
        return self.capacity / self.rate

    def _used(self, history: History, *events: str) -> tuple[Times, Counts]:
        starts, ends = in_order(history, *events)
        if len(ends) == 0:
            return ends, ends.astype(float)
        begun, over = (times - history.origin_ns for times in (starts, ends))
        gained = begun * (self.rate / 1e9)
        # a span may begin with any call: keep the one that makes the most of it
        best = np.maximum.accumulate(gained - np.arange(len(begun)))
        first = np.searchsorted(begun, over, side="right") - 1
        return over, np.arange(1.0, len(over) + 1) - over * (self.rate / 1e9) + best[first]

    def _fair(self, calls_ns: Times) -> int:
        due, tokens, last = 0, float(self.capacity), 0
        for now in calls_ns.tolist():
            tokens = min(self.capacity, tokens + (now - last) * self.rate / 1e9)
            last = now
            if tokens >= 1:
                tokens -= 1
                due += 1
        return due

    def plots(self) -> Sequence[Plot]:
        def level(history: History) -> tuple[Times, Counts]:
            calls = np.concatenate([history.select("admitted"), history.select("refused")])
            calls = calls[np.argsort(calls["end_ns"], kind="stable")]
            left = np.where(calls["event"] == history.number("admitted"), calls["value"], 0.0)
            return calls["end_ns"] - history.origin_ns, left

        def full(_: History) -> tuple[Times, Counts]:
            return np.zeros(1, "i8"), np.full(1, float(self.capacity))

        return (
            self._bars(),
            Lines(
                "tokens left in the bucket, as the replies say",
                (Line("left", "work", level), Line("full", "limit", full)),
                top=1.1 * self.capacity,
            ),
        )
