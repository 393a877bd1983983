"""Clients in processes of their own count in one key: does the counter end where it should?"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from labsupport.charts import ROLES, Panel, Size
from labsupport.experiments.experiment import Experiment, Implementation, Numbers
from labsupport.experiments.knobs import knob
from labsupport.experiments.result import Result
from labsupport.experiments.stage import Stage
from labsupport.history import History, Rows
from labsupport.servers import connect_client
from labsupport.verdict import Claim, Status
from labsupport.workers import Client

__all__ = ["LostUpdates"]

_KEY = "visits"
_PATIENCE_SECONDS = 5.0
_MOST_POINTS = 400


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
        stage.crew.begin()
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
                _status(met, broken=False),
                f"{numbers['at_the_same_time']:,.0f} of {numbers['visits']:,.0f} visits",
            ),
            Claim(
                "Every visit is counted",
                _status(met, broken=wrong),
                f"{numbers['visits']:,.0f} visits, the counter says {numbers['counted']:,.0f}",
            ),
            Claim(
                "Every visit has a number of its own",
                _status(met, broken=numbers["without_own_number"] > 0),
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

    def panels(self) -> Sequence[Panel]:
        return (_Tally("visits"),)

    def contrast(self, results: Sequence[Result]) -> tuple[str, Sequence[Claim]]:
        first, *others = results
        claims = []
        for other in others:
            met = all(result.numbers["at_the_same_time"] > 0 for result in (first, other))
            better = first.numbers["lost"] > 0 and other.numbers["lost"] == 0
            text = f"{first.name} loses visits, {other.name} loses none"
            claims.append(Claim(text, _status(met, broken=not better)))
        lost = ", ".join(f"{result.name} {result.numbers['lost']:,.0f}" for result in results)
        return f"Visits lost: {lost}", claims


class _Tally(Panel):
    """Visits that were made, and what the counter said at each; between them, what is lost."""

    def __init__(self, label: str, *, top: float = 1000.0) -> None:
        super().__init__(label)
        self._top = top
        self._ends = np.empty(0, "i8")
        self._numbers = np.empty(0)
        self._seconds = np.empty(0)

    def prepare(self, axes: Axes) -> Sequence[Artist]:
        self._axes = axes
        self._raise_limit()
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        alarm = ROLES["alarm"]
        # the hatch is white on the colour: it must not look like a lighter colour
        self._gap = Polygon(np.zeros((1, 2)), closed=True, linewidth=0.0)
        axes.add_patch(self._gap).set(facecolor=alarm.colour, edgecolor="white", hatch=alarm.hatch)
        self._lines = []
        for name, above in (("limit", 4), ("work", 3)):
            role = ROLES[name]
            (line,) = axes.plot([], [], color=role.colour, linestyle=role.dashes, linewidth=3)
            line.set_zorder(above)
            self._lines.append(line)
        return [self._gap, *self._lines]

    def add(self, rows: Rows, history: History) -> None:
        rows = rows[rows["event"] == history.number("visit")]
        ends = np.concatenate([self._ends, rows["end_ns"]])
        order = np.argsort(ends, kind="stable")
        self._ends = ends[order]
        self._numbers = np.concatenate([self._numbers, np.nan_to_num(rows["value"])])[order]
        self._seconds = history.seconds(self._ends)

    def show(self) -> bool:
        total = len(self._ends)
        if total == 0:
            return False
        at = np.unique(np.linspace(0, total - 1, _MOST_POINTS).astype(int))
        seconds, made, numbers = self._seconds[at], at + 1, self._numbers[at]
        self._lines[0].set_data(seconds, made)
        self._lines[1].set_data(seconds, numbers)
        below = np.column_stack([seconds[::-1], np.minimum(numbers, made)[::-1]])
        self._gap.set_xy(np.concatenate([np.column_stack([seconds, made]), below]))
        if total <= self._top:
            return False
        self._top = total * self.growth
        self._raise_limit()
        return True

    def finish(self) -> None:
        """Name each line at its right end."""
        if len(self._ends) == 0:
            return
        self._top = max(len(self._ends), 1.0)
        self._raise_limit()
        height = self._axes.get_ylim()[1]
        counter = max(float(self._numbers[-1]), 0.1 * height)
        made = max(float(len(self._ends)), counter + 0.16 * height)
        for name, role, place in (("made", "limit", made), ("counted", "work", counter)):
            self._axes.annotate(
                name,
                (self._seconds[-1], place),
                xytext=(8, 0),
                textcoords="offset points",
                fontsize=Size.LABEL,
                fontweight="bold",
                color=ROLES[role].colour,
                va="center",
                annotation_clip=False,
            )

    def _raise_limit(self) -> None:
        # other runs may share the axes
        self._axes.set_ylim(0, max(self._top * 1.05, self._axes.get_ylim()[1]))


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


def _overlapping(history: History) -> int:
    """How many visits began while another was under way."""
    visits = history.select("visit")
    latest = np.maximum.accumulate(visits["end_ns"])
    return int((visits["start_ns"][1:] < latest[:-1]).sum())


def _status(met: bool, *, broken: bool) -> Status:
    if broken:
        return "broken"
    return "holds" if met else "not exercised"
