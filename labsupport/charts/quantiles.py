"""How long requests took: the median and the slowest hundredth, through the run."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from labsupport.charts.plot import Plot, name_at_right
from labsupport.charts.style import ROLES, number
from labsupport.history import History, Rows

_LINES = (("p99", 99, "tail"), ("p50", 50, "median"))
_LEAST_MS = 0.001


class Quantiles(Plot):
    """p50 and p99 of the durations of the requests that were under way in each span of time.

    A request counts in each span that it touches: while all wait for a slow answer, none begins or
    ends, and yet this is what the users see.

    Args:
        label: what is measured, with the unit ms.
        event: the name of the event whose duration is drawn.
        per_seconds: the span.
        bottom_ms: where the logarithmic axis begins.
        top_ms: where it ends at the least.
    """

    right_inches = 1.35

    def __init__(
        self,
        label: str,
        event: str,
        *,
        per_seconds: float = 0.05,
        bottom_ms: float = 0.1,
        top_ms: float = 1000.0,
    ) -> None:
        super().__init__(label)
        self._event = event
        self._per_ns = int(per_seconds * 1e9)
        self._limits = (bottom_ms, top_ms)
        self._spans: defaultdict[int, list[NDArray[np.float64]]] = defaultdict(list)
        self._quantiles: dict[int, NDArray[np.float64]] = {}
        self._all: list[NDArray[np.float64]] = []

    def prepare(self, axes: Axes) -> Sequence[Artist]:
        self._axes = axes
        axes.set_yscale("log")
        axes.set_ylim(*self._limits)
        axes.yaxis.set_major_locator(LogLocator(10, numticks=12))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(which="minor", length=0)
        self._lines = []
        for width, (_, _, name) in zip((2, 4.5), _LINES, strict=True):  # both are seen if equal
            role = ROLES[name]
            (line,) = axes.plot(
                [],
                [],
                color=role.colour,
                linestyle=role.dashes,
                linewidth=width,
                zorder=3 - width / 9,
            )
            self._lines.append(line)
        return self._lines[::-1]

    def add(self, rows: Rows, history: History) -> None:
        rows = rows[rows["event"] == history.number(self._event)]
        if len(rows) == 0:
            return
        took = (rows["end_ns"] - rows["start_ns"]) / 1e6
        self._all.append(took)
        first = (rows["start_ns"] - history.origin_ns) // self._per_ns
        last = (rows["end_ns"] - history.origin_ns) // self._per_ns
        changed: set[int] = set()
        step = 0
        while len(took):
            order = np.argsort(first, kind="stable")
            spans, begins = np.unique(first[order] + step, return_index=True)
            for span, part in zip(spans, np.split(took[order], begins[1:]), strict=True):
                self._spans[int(span)].append(part)
                changed.add(int(span))
            step += 1
            longer = first + step <= last
            first, last, took = first[longer], last[longer], took[longer]
        for span in changed:
            durations = np.concatenate(self._spans[span])
            self._spans[span] = [durations]
            self._quantiles[span] = np.percentile(durations, [q for _, q, _ in _LINES])

    def show(self) -> bool:
        if not self._quantiles:
            return False
        spans = np.arange(min(self._quantiles), max(self._quantiles) + 1)
        nothing = np.full(len(_LINES), np.nan)
        values = np.stack([self._quantiles.get(int(span), nothing) for span in spans])
        for line, column in zip(self._lines, values.T, strict=True):
            line.set_data((spans + 0.5) * self._per_ns / 1e9, column)
        low, high = self._limits
        lowest, highest = max(float(np.nanmin(values)), _LEAST_MS), float(np.nanmax(values))
        if low <= lowest and highest <= high:
            return False
        if lowest < low:
            low = 10 ** np.floor(np.log10(lowest))
            self._axes.set_ylim(bottom=min(low, self._axes.get_ylim()[0]))
        if highest > high:
            high = 10 ** np.ceil(np.log10(highest))
            self.raise_limit(self._axes, high)
        self._limits = (low, high)
        return True

    def finish(self) -> None:
        """Name each line at its right end, with the value over all requests."""
        if not self._all:
            return
        values = np.percentile(np.concatenate(self._all), [q for _, q, _ in _LINES])
        low, high = np.log10(self._axes.get_ylim())
        names = [
            (
                f"{name} {_short(value)}",
                float((np.log10(max(value, 1e-9)) - low) / (high - low)),
                ROLES[role],
            )
            for (name, _, role), value in zip(_LINES, values, strict=True)
        ]
        name_at_right(self._axes, names)


def _short(milliseconds: float) -> str:
    if milliseconds >= 1000:
        return f"{number(milliseconds / 1000, digits=2)} s"
    return f"{number(milliseconds, digits=2 if milliseconds >= 10 else 1)} ms"
