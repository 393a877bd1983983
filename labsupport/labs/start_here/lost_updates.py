"""Clients in processes of their own count in one key: does the counter end where it should?"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labsupport.charts import Line, Lines, Plot
from labsupport.experiments.experiment import Experiment, Implementation, Numbers
from labsupport.experiments.knobs import knob
from labsupport.experiments.result import Result
from labsupport.experiments.stage import Stage
from labsupport.history import History
from labsupport.servers import connect_client
from labsupport.verdict import Claim, status_of
from labsupport.workers import Client

__all__ = ["LostUpdates"]

_KEY = "visits"
_PATIENCE_SECONDS = 5.0


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

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        numbers = history.select("visit")["value"]
        known = numbers[np.isfinite(numbers)]
        counter = str(facts["counter"] or 0)
        counted = int(counter) if counter.isdecimal() else 0
        return {
            "visits": len(numbers),
            "counted": counted,
            "lost": len(numbers) - counted,
            "without_own_number": len(numbers) - len(np.unique(known)),
            "at_the_same_time": _overlapping(history),
            "stuck": facts["stuck"],
        }

    def judge(self, numbers: Numbers) -> Sequence[Claim]:
        met = numbers["at_the_same_time"] > 0
        wrong = numbers["lost"] != 0 or numbers["stuck"] > 0
        return (
            Claim(
                "Two processes count at the same time",
                status_of(met),
                f"{numbers['at_the_same_time']:,.0f} of {numbers['visits']:,.0f} visits",
            ),
            Claim(
                "Every visit is counted",
                status_of(met, broken=wrong),
                f"{numbers['visits']:,.0f} visits, the counter says {numbers['counted']:,.0f}",
            ),
            Claim(
                "Every visit has a number of its own",
                status_of(met, broken=numbers["without_own_number"] > 0),
                f"{numbers['without_own_number']:,.0f} do not",
            ),
        )

    def find(self, name: str, numbers: Numbers) -> str:
        if numbers["stuck"]:
            return f"{numbers['stuck']:.0f} of {self.clients} processes never came back"
        if numbers["lost"]:
            return f"{numbers['lost']:,.0f} of {numbers['visits']:,.0f} visits are lost"
        if numbers["without_own_number"]:
            return f"{numbers['without_own_number']:,.0f} visits share their number with another"
        return f"All {numbers['visits']:,.0f} visits are counted"

    def plots(self) -> Sequence[Plot]:
        lines = (Line("made", "limit", _made), Line("counted", "work", _counted))
        return (Lines("visits", lines, gap=("made", "counted", "alarm")),)

    def contrast(self, results: Sequence[Result]) -> tuple[str, Sequence[Claim]]:
        first, *others = results
        claims = []
        for other in others:
            met = all(result.numbers["at_the_same_time"] > 0 for result in (first, other))
            better = first.numbers["lost"] > 0 and other.numbers["lost"] == 0
            text = f"{first.name} loses visits, {other.name} loses none"
            claims.append(Claim(text, status_of(met, broken=not better)))
        lost = ", ".join(f"{result.name} {result.numbers['lost']:,.0f}" for result in results)
        return f"Visits lost: {lost}", claims


def _visit(client: Client, count: Implementation, url: str) -> None:
    """Be a client: count one visit after the other."""
    redis = connect_client(url)
    redis.ping()
    client.meet()
    while client.running:
        start = time.monotonic_ns()
        number = count(redis, _KEY)
        whole = isinstance(number, int) and not isinstance(number, bool)
        client.record("visit", start, time.monotonic_ns(), float(number) if whole else np.nan)


def _made(history: History) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many visits were made, whenever one was."""
    ends = np.sort(history.select("visit")["end_ns"])
    return ends - history.origin_ns, np.arange(1.0, len(ends) + 1)


def _counted(history: History) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What the counter said, whenever a visit was made."""
    visits = history.select("visit")
    visits = visits[np.argsort(visits["end_ns"], kind="stable")]
    return visits["end_ns"] - history.origin_ns, np.nan_to_num(visits["value"])


def _overlapping(history: History) -> int:
    """How many visits began while another was under way."""
    visits = history.select("visit")
    latest = np.maximum.accumulate(visits["end_ns"])
    return int((visits["start_ns"][1:] < latest[:-1]).sum())
