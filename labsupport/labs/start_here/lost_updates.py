"""Clients in processes of their own count in one key: does the counter end where it should?"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labsupport.charts import Line, Lines, Plot
from labsupport.experiments import Contrast, Experiment, Finding, Implementation, Rule, Stage, knob
from labsupport.history import History
from labsupport.servers import connect_client
from labsupport.workers import Client

_KEY = "visits"
_PATIENCE_SECONDS = 5.0
_MOST_VISITS = 60_000  # of a client: no machine is so quick that it needs more


@dataclass(frozen=True, kw_only=True)
class LostUpdates(Experiment):
    """All clients count visits in one key, as fast as they can.

    The function under study is `count(redis, key)`: it adds one to the number in `key` and returns
    the new number.

    Args:
        clients: how many there are, each in a process of its own.
        seconds: how long they count; they go on until two have counted at the same time.
    """

    parameters: ClassVar[tuple[str, ...]] = ("redis", "key")

    clients: int = knob(2, low=2, high=16)
    seconds: float = knob(1.0, low=0.1, high=5.0, step=0.1)

    claims = (
        Rule(
            text="Processes count at the same time",
            met="at_the_same_time",
            detail="{at_the_same_time} of {visits} visits",
        ),
        Rule(
            text="Every visit is counted",
            met="at_the_same_time",
            broken=("lost", "stuck"),
            detail="{visits:visit|visits}, the counter says {counted}",
            final=True,
        ),
        Rule(
            text="Every visit has its own number",
            met="at_the_same_time",
            broken="without_own_number",
            detail="{without_own_number} do not",
        ),
    )
    findings = (
        Finding("{stuck} of {clients} processes never came back", when="stuck"),
        Finding("{lost} of {visits} visits {lost:~is|are} lost", when="lost"),
        Finding(
            "{without_own_number:visit shares its|visits share their} number with another",
            when="without_own_number",
        ),
        Finding("All {visits} visits are counted"),
    )
    contrast = Contrast(
        text="{first} loses visits, {other} loses none",
        number=lambda n: abs(n["lost"]),
        met="at_the_same_time",
        title="Visits lost: {each}",
        each="{name} {lost}",
    )

    @property
    def conditions(self) -> str:
        return f"{self.clients} processes count in one key, as fast as they can"

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        server = stage.server()
        stage.start(
            _visit,
            implementation,
            server.url,
            clients=self.clients,
            processes=self.clients,
            name=name,
        )
        stage.pool.begin()
        enough = time.monotonic() + self.seconds

        def over() -> bool:
            stage.history.read()
            return time.monotonic() > enough and _overlapping(stage.history) > 0

        stage.wait(over, seconds=self.seconds + _PATIENCE_SECONDS)
        stage.facts["stuck"] = len(stage.finish(patience_seconds=_PATIENCE_SECONDS))
        with server.client() as redis:
            stage.facts["counter"] = redis.get(_KEY)
        stage.pool.note("counter", 0, _whole(stage.facts["counter"]))
        stage.history.end()

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        numbers = history.select("visit")["value"]
        known = numbers[np.isfinite(numbers)]
        counted = _whole(facts["counter"])
        return {
            "visits": len(numbers),
            "counted": counted,
            "lost": len(numbers) - counted,
            "without_own_number": len(numbers) - len(np.unique(known)),
            "at_the_same_time": _overlapping(history),
            "stuck": facts["stuck"],
        }

    def plots(self) -> tuple[Plot, ...]:
        lines = (Line("made", "limit", _made), Line("counted", "work", _counted))
        return (Lines("visits", lines, gap=("made", "counted", "alarm", "not counted")),)


def _visit(client: Client, count: Implementation, url: str) -> None:
    """Be a client: count one visit after the other."""
    redis = connect_client(url)
    redis.ping()
    client.meet()
    made = 0
    while client.running and made < _MOST_VISITS:
        made += 1
        start = time.monotonic_ns()
        number = count(redis, _KEY)
        whole = isinstance(number, int) and not isinstance(number, bool)
        client.record("visit", start, time.monotonic_ns(), float(number) if whole else np.nan)


def _made(history: History) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many visits were made, whenever one was."""
    ends = np.sort(history.select("visit")["end_ns"])
    return ends - history.origin_ns, np.arange(1.0, len(ends) + 1)


def _counted(history: History) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What the counter said, whenever a visit was made, and what it says in the end."""
    visits = history.select("visit")
    visits = visits[np.argsort(visits["end_ns"], kind="stable")]
    # the visit that ended last need not hold what Redis does: another may have written after it
    said = np.concatenate([visits, history.select("counter")])
    return said["end_ns"] - history.origin_ns, np.nan_to_num(said["value"])


def _whole(counter: object) -> int:
    """The number that a key holds; 0 if it holds none."""
    text = str(counter or 0)
    return int(text) if text.isdecimal() else 0


def _overlapping(history: History) -> int:
    """How many visits began while another was under way."""
    visits = history.select("visit")
    latest = np.maximum.accumulate(visits["end_ns"])
    return int((visits["start_ns"][1:] < latest[:-1]).sum())
