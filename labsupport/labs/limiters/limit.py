"""Many clients share one limit: is it kept, is it granted, and is what the refused are told true?"""

import math
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labsupport.charts import Bars, Part, count_per_span
from labsupport.experiments import (
    Contrast,
    Experiment,
    Finding,
    Implementation,
    Numbers,
    Rule,
    Stage,
    knob,
)
from labsupport.history import History
from labsupport.labs.limiters.callers import GRACE_SECONDS, call, wait_as_told

OWN = 2
"""The limit of the one who has a key of its own."""

_FAIR_SHARE = 0.8
_SPAN_SECONDS = 0.05
_MORE_SECONDS = 8.0
_PATIENCE_SECONDS = 5.0

Times = NDArray[np.int64]
Counts = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Limit(Experiment):
    """What `RateLimit` and `BucketLimit` share: the clients, their calls, the claims, the chart."""

    clients: int = knob(8, low=2, high=64)
    seconds: float = knob(1.2, low=0.2, high=60.0, step=0.1)
    skew_seconds: float = knob(0.0, low=-3600.0, high=3600.0, step=1.0)
    processes: int = knob(4, low=2, high=16)

    promise: ClassVar[str]
    """What the limit says, as a claim."""
    plan: ClassVar[tuple[tuple[float, float], ...]]
    """How many windows, and how many times what the limit allows is asked for in them."""
    _breach: ClassVar[str] = "{worst:call gets|calls get} in where {most_allowed} are allowed"
    _worst: ClassVar[str] = "Admitted where {most_allowed} are allowed"

    @property
    @abstractmethod
    def _most(self) -> int:
        """How many calls are allowed at once."""

    @property
    @abstractmethod
    def _given(self) -> tuple[int, float]:
        """The function's third and fourth arguments."""

    @property
    @abstractmethod
    def _own(self) -> tuple[int, float]:
        """The same for the one who has a limit of its own: so few that any machine goes beyond."""

    @property
    @abstractmethod
    def _window(self) -> float:
        """The seconds in which so many are allowed again."""

    @abstractmethod
    def _used(self, history: History, *events: str) -> tuple[Times, Counts]:
        """When each call ended, and how much of the limit was used up then, at the least.

        Only calls that lie wholly inside a span of time are counted as made in it, from the start of
        the first to the end of the last: whenever in between the server decided, it was inside.
        """

    @abstractmethod
    def _fair(self, calls_ns: Times) -> int:
        """How many calls that began then are due, by the definition of the limit."""

    @property
    def claims(self) -> Sequence[Rule]:
        return (
            Rule(
                text="Twice as much is asked for as the limit allows",
                met=_asked_enough,
                detail="{calls:call|calls}, up to {most_asked} at once",
            ),
            Rule(
                text=self.promise,
                met=_asked_enough,
                broken=_exceeded,
                detail="{worst:,.4g}, where {most_allowed} are allowed",
            ),
            Rule(
                text="At least four fifths of the calls that are due are admitted",
                met=_asked_enough,
                broken=_starved,
                detail="{admitted} of {due}",
                final=True,
            ),
            Rule(
                text="Clients that wait as told are admitted",
                met="came_back",
                broken=self._misled,
                detail="{sent_away_again} of {came_back} were refused again;"
                " told to wait up to {longest_wait_told_s:.3g} s",
            ),
        )

    @property
    def findings(self) -> Sequence[Finding]:
        return (
            Finding("{stuck:client|clients} never got an answer", "stuck"),
            Finding(self._breach, _exceeded),
            Finding("{admitted:call gets|calls get} in where {due} {due:~is|are} due", _starved),
            Finding(
                "Clients that wait as told are sent away again, or wait too long", self._misled
            ),
            Finding("The limit of {most_allowed} is kept, and granted"),
        )

    @property
    def contrast(self) -> Contrast:
        return Contrast(
            text="{other} keeps what {first} breaks",
            number=self._broken,
            met=_asked_enough,
            title=lambda first: (
                "Admitted, of what is due: {each}"
                if first["share_of_due"] < _FAIR_SHARE
                else f"{self._worst.format(most_allowed=self._most)}: {{each}}"
            ),
            each=lambda first: (
                "{name} {share_of_due:.0%}"
                if first["share_of_due"] < _FAIR_SHARE
                else "{name} {worst}"
            ),
        )

    def _broken(self, numbers: Numbers) -> float:
        """How many claims a run breaks; NaN where it breaks none and did not meet them all."""
        found = [claim.status for claim in self.judge(dict(numbers))]
        broken = found.count("broken")
        return math.nan if not broken and "not exercised" in found else broken

    def _misled(self, numbers: Numbers) -> bool:
        too_long = self._too_long(numbers["longest_wait_told_s"])
        return numbers["sent_away_again"] > 0 or too_long

    @property
    def conditions(self) -> str:
        skew = f", one clock {self.skew_seconds:+g} s" if self.skew_seconds else ""
        return f"{self.clients} clients, light load and bursts, then twice the limit{skew}"

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        server = stage.server()
        calls = (implementation, server.url, *self._given, self._calls(), self.clients)
        # a clock belongs to a machine: the one that is wrong has a process of its own
        stage.start(call, *calls, self.skew_seconds, clients=1, processes=1, name=name)
        others = {"clients": self.clients - 1, "processes": self.processes - 1}
        stage.start(call, *calls, 0.0, **others, name=name)
        own = (implementation, server.url, *self._own, self._window)
        stage.start(wait_as_told, *own, clients=1, processes=1, name=name)
        stage.pool.begin()
        stage.wait(seconds=self.seconds)

        give_up = time.monotonic() + _MORE_SECONDS

        def met() -> bool:
            _, asked = self._used(stage.history, "admitted", "refused")
            enough = bool(asked.max(initial=0) >= 2 * self._most) and self._waited(stage.history)
            return enough or time.monotonic() > give_up

        stage.wait_while_alive(met, patience_seconds=_PATIENCE_SECONDS)
        stage.facts["stuck"] = len(stage.finish(patience_seconds=_PATIENCE_SECONDS))

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        admitted, refused = history.select("admitted"), history.select("refused")
        came_back, told = history.select("came back"), history.select("told to wait")
        _, asked = self._used(history, "admitted", "refused")
        _, used = self._used(history, "admitted")
        due = self._fair(np.sort(np.concatenate([admitted["start_ns"], refused["start_ns"]])))
        return {
            "calls": len(admitted) + len(refused),
            "admitted": len(admitted),
            "due": due,
            "share_of_due": len(admitted) / due if due else np.nan,
            "most_allowed": self._most,
            "most_asked": float(asked.max(initial=0)),
            "worst": float(used.max(initial=0)),
            "came_back": len(came_back),
            "sent_away_again": int((came_back["value"] == 0).sum()),
            "longest_wait_told_s": float(told["value"].max(initial=0)),
            "stuck": facts["stuck"],
        }

    def _bars(self) -> Bars:
        return Bars(
            "calls per 50 ms",
            (
                Part("admitted", "good", _count("admitted")),
                Part("refused", "waiting", _count("refused")),
            ),
            noun=("call", "calls"),
            per_seconds=_SPAN_SECONDS,
            top=max(load for _, load in self.plan) * self._most * _SPAN_SECONDS / self._window,
        )

    def _calls(self) -> tuple[Counts, Counts]:
        """A cycle of the plan: its moments, and how many calls are due by then; in between, evenly."""
        windows, loads = np.array(self.plan).T
        moments = np.concatenate([[0.0], np.cumsum(windows)]) * self._window
        return moments, np.concatenate([[0.0], np.cumsum(windows * loads)]) * self._most

    def _too_long(self, seconds: float) -> bool:
        """Whether nobody who is alone with the limit needs to wait so long."""
        return not seconds <= self._window + GRACE_SECONDS

    def _waited(self, history: History) -> bool:
        """Whether the patient one has come back, or has no reason to."""
        told = history.select("told to wait")["value"]
        back = len(history.select("came back")) > 0 or self._too_long(told.max(initial=0))
        return back or self._used(history, "admitted")[1].max(initial=0) > self._most


def _asked_enough(numbers: Numbers) -> bool:
    return numbers["most_asked"] >= 2 * numbers["most_allowed"]


def _exceeded(numbers: Numbers) -> bool:
    return numbers["worst"] > numbers["most_allowed"] + 1e-6


def _starved(numbers: Numbers) -> bool:
    return numbers["share_of_due"] < _FAIR_SHARE or numbers["stuck"] > 0


def in_order(history: History, *events: str) -> tuple[Times, Times]:
    """The starts and the ends of all calls of these kinds, each in the order of time."""
    calls = np.concatenate([history.select(event) for event in events])
    return np.sort(calls["start_ns"]), np.sort(calls["end_ns"])


def _count(event: str) -> Any:
    def heights(history: History, span_ns: int) -> Times:
        times = history.select(event)["end_ns"] - history.origin_ns
        return count_per_span(times, span_ns=span_ns, until_ns=history.elapsed_ns)

    return heights
