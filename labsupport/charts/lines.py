"""How a few numbers went up and down through the run, and the gap between two of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from labsupport.charts.plot import Plot, name_at_right, name_inches
from labsupport.charts.style import ROLES, number
from labsupport.history import History, Rows

_MOST_POINTS = 400
_ROOM = 1.06

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
        gap: two names and a role: what is between the two lines is filled, e.g.
            ("acknowledged", "persisted", "alarm").
    """

    def __init__(
        self,
        label: str,
        lines: Sequence[Line],
        *,
        top: float = 1.0,
        gap: tuple[str, str, str] | None = None,
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
            (artist,) = axes.plot([], [], color=role.colour, linestyle=role.dashes, linewidth=3)
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
            (f"{line.name} {number(values[-1])}", values[-1] / high, ROLES[line.role])
            for line, (_, values) in zip(self._lines, self._points, strict=True)
            if len(values)
        ]
        name_at_right(self._axes, names)

    def _drawn(self, times: Times, values: Values) -> tuple[NDArray[np.float64], Values]:
        """Some hundred points at most, in seconds, and the last value until now."""
        if len(times) == 0:
            return np.empty(0), np.empty(0)
        at = np.unique(np.linspace(0, len(times) - 1, _MOST_POINTS).astype(int))
        end = max(self._now, int(times[-1]))
        return np.append(times[at], end) / 1e9, np.append(values[at], values[-1])

    def _outline(self) -> NDArray[np.float64]:
        """The outline of what is between the two lines as they are drawn."""
        assert self._gap is not None
        names = [line.name for line in self._lines]
        upper, lower = (self._drawn(*self._points[names.index(name)]) for name in self._gap[:2])
        seconds = np.union1d(upper[0], lower[0])
        if len(upper[0]) == 0 or len(seconds) < 2:
            return np.zeros((1, 2))
        # two corners at each step
        corners = np.repeat(seconds, 2)[1:]
        high, low = (np.repeat(_at(seconds, *line), 2)[:-1] for line in (upper, lower))
        there, back = np.column_stack([corners, high]), np.column_stack([corners, low])[::-1]
        return np.concatenate([there, back])

    def _highest(self) -> float:
        return max((float(np.nanmax(values, initial=0.0)) for _, values in self._points), default=0)


def _at(moments: NDArray[np.float64], seconds: NDArray[np.float64], values: Values) -> Values:
    """A stepped line's value at each moment; 0 before its first."""
    place = np.searchsorted(seconds, moments, side="right")
    return np.concatenate([[0.0], np.nan_to_num(values)])[place]
