"""Numbers that went up and down through the run, the gap between two, and how long requests took."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from labsupport.charts.key import Entry, area, draw_beside
from labsupport.charts.plot import Plot, name_at_right, name_inches, wrapped
from labsupport.charts.style import ROLES, duration, legible, number
from labsupport.history import History, Rows

_MOST_POINTS = 400
_ROOM = 1.06
_AGAIN = (0, (5, 1))  # of a second line with the dashes of a first: apart in greys, too
_HAIR = 1e-6  # of the axes
_LEAST_GAP = 0.002  # of the axes, to be named
_QUANTILES = (("p99", 99, "tail"), ("p50", 50, "median"))
_LEAST_MS = 0.001
_OF_ALL = "all requests:"  # no value of a line's end

Times = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Line:
    """One number.

    Args:
        name: what it is called at the right end, e.g. "acknowledged".
        role: one of `ROLES`.
        points: from a history to its moments, in ns since the start of the run, and its values from
            then on; both in the order of time.
    """

    name: str
    role: str
    points: Callable[[History], tuple[Times, Values]]


class Lines(Plot):
    """Numbers that keep their value until the next one, as stepped lines with their names.

    Args:
        label: what is counted, with the unit.
        lines: the first is drawn above the others.
        top: how high the axis is at the least.
        gap: two names, a role, and a name: what the second line lacks of the first is filled, e.g.
            ("acknowledged", "persisted", "alarm", "not persisted").
    """

    def __init__(
        self,
        label: str,
        lines: Sequence[Line],
        *,
        top: float = 1.0,
        gap: tuple[str, str, str, str] | None = None,
    ) -> None:
        super().__init__(label)
        self._lines = lines
        self._top = top
        self._gap = gap
        nothing = np.empty(0, "i8"), np.empty(0)
        self._points: list[tuple[Times, Values]] = [nothing for _ in lines]
        self._now = 0
        self.right_inches = name_inches([line.name for line in lines], values=True)

    def prepare(self, axes: Axes) -> Sequence[Artist]:
        self._axes = axes
        axes.set_ylim(bottom=0)
        self.raise_limit(axes, self._top * _ROOM)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        self._artists = []
        for place, line in enumerate(self._lines):
            role = ROLES[line.role]
            known = [ROLES[other.role].dashes for other in self._lines[:place]]
            dashes: Any = _AGAIN if role.dashes in known else role.dashes
            (artist,) = axes.plot([], [], color=role.colour, linestyle=dashes, linewidth=3)
            artist.set(drawstyle="steps-post", zorder=4 - 0.1 * place)
            self._artists.append(artist)
        if self._gap is None:
            return self._artists
        role = ROLES[self._gap[2]]
        # the hatch is white on the colour: it must not look like a lighter colour
        self._between = Polygon(np.zeros((1, 2)), closed=True, linewidth=0.0)
        axes.add_patch(self._between).set(
            facecolor=role.colour, edgecolor="white", hatch=role.hatch
        )
        return [self._between, *self._artists]

    def add(self, rows: Rows, history: History) -> None:
        self._points = [line.points(history) for line in self._lines]
        self._now = history.elapsed_ns

    def show(self) -> bool:
        for artist, (times, values) in zip(self._artists, self._points, strict=True):
            artist.set_data(*self._drawn(times, values))
        if self._gap is not None:
            self._between.set_xy(self._outline())
        highest = self._highest()
        if highest <= self._top:
            return False
        self._top = highest * self.growth
        self.raise_limit(self._axes, self._top * _ROOM)
        return True

    def finish(self) -> None:
        """Name each line at its right end, with its last value."""
        high = self._axes.get_ylim()[1]
        names = [
            # of two that are equal, the first stands above
            (f"{line.name} {number(values[-1])}", values[-1] / high - _HAIR * at, ROLES[line.role])
            for at, (line, (_, values)) in enumerate(zip(self._lines, self._points, strict=True))
            if len(values)
        ]
        name_at_right(self._axes, names)

    def key_ahead(self) -> Sequence[Entry]:
        found = [
            Entry(wrapped(line.name), legible(ROLES[line.role].colour), artist)
            for line, artist in zip(self._lines, self._artists, strict=True)
        ]
        return [*found, area(wrapped(self._gap[3]), self._gap[2])] if self._gap else found

    def key(self) -> Sequence[Entry]:
        """What is between two of the lines, if more than a hair is."""
        if self._gap is None:
            return ()
        seconds, upper, lower = self._edges()
        between = float(((upper - lower)[:-1] * np.diff(seconds)).sum())
        if between <= _LEAST_GAP * self._axes.get_ylim()[1] * max(seconds, default=0.0):
            return ()
        return (area(self._gap[3], self._gap[2]),)

    def _drawn(self, times: Times, values: Values) -> tuple[NDArray[np.float64], Values]:
        """Some hundred points at most, in seconds, and the last value until now."""
        if len(times) == 0:
            return np.empty(0), np.empty(0)
        at = np.unique(np.linspace(0, len(times) - 1, _MOST_POINTS).astype(int))
        end = max(self._now, int(times[-1]))
        return np.append(times[at], end) / 1e9, np.append(values[at], values[-1])

    def _outline(self) -> NDArray[np.float64]:
        """The outline of what is between the two lines as they are drawn."""
        seconds, upper, lower = self._edges()
        if len(seconds) < 2:
            return np.zeros((1, 2))
        # two corners at each step
        corners = np.repeat(seconds, 2)[1:]
        high, low = (np.repeat(values, 2)[:-1] for values in (upper, lower))
        there, back = np.column_stack([corners, high]), np.column_stack([corners, low])[::-1]
        return np.concatenate([there, back])

    def _edges(self) -> tuple[Values, Values, Values]:
        """The moments of the two lines, and from then on the first, and what the second has of it."""
        assert self._gap is not None
        names = [line.name for line in self._lines]
        first, second = (self._drawn(*self._points[names.index(name)]) for name in self._gap[:2])
        seconds = np.union1d(first[0], second[0]) if len(first[0]) else np.empty(0)
        upper = _at(seconds, *first)
        return seconds, upper, np.minimum(upper, _at(seconds, *second))

    def _highest(self) -> float:
        return max((float(np.nanmax(values, initial=0.0)) for _, values in self._points), default=0)


def _at(moments: NDArray[np.float64], seconds: NDArray[np.float64], values: Values) -> Values:
    """A stepped line's value at each moment; 0 before its first."""
    place = np.searchsorted(seconds, moments, side="right")
    return np.concatenate([[0.0], np.nan_to_num(values)])[place]


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

    right_inches = 1.75

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
        beside = axes.get_yscale() == "log"  # on the axes of another run, which may reach further
        axes.set_yscale("log")
        if not beside:
            axes.set_ylim(*self._limits)
        axes.yaxis.set_major_locator(LogLocator(10, numticks=12))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.yaxis.set_minor_locator(NullLocator())  # unseen, it took a third of a first frame
        self._lines = []
        for width, (_, _, name) in zip((2, 4.5), _QUANTILES, strict=True):  # both are seen if equal
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
            self._quantiles[span] = np.percentile(durations, [q for _, q, _ in _QUANTILES])

    def show(self) -> bool:
        if not self._quantiles:
            return False
        spans = np.arange(min(self._quantiles), max(self._quantiles) + 1)
        nothing = np.full(len(_QUANTILES), np.nan)
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
        """Say beside the axes what the lines are, and the values of all requests together."""
        if not self._all:
            return
        values = np.percentile(np.concatenate(self._all), [q for _, q, _ in _QUANTILES])
        found = [
            Entry(f"{name} {duration(value)}", legible(ROLES[role].colour), line)
            for (name, _, role), value, line in zip(_QUANTILES, values, self._lines, strict=True)
        ]
        draw_beside(self._axes, found, title=_OF_ALL)

    def key_ahead(self) -> Sequence[Entry]:
        return [
            Entry(name, legible(ROLES[role].colour), line)
            for (name, _, role), line in zip(_QUANTILES, self._lines, strict=True)
        ]
