"""A timeline: a row for each process, node or subscriber, and bars for what it was doing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D
from matplotlib.path import Path
from numpy.typing import NDArray

from labsupport.charts.key import Entry, area
from labsupport.charts.plot import Plot, name_inches, wrapped
from labsupport.charts.style import MUTED, ROLES, Size, legible
from labsupport.history import History, Rows

Spans = NDArray[np.int64]
Points = NDArray[np.int64]

_ROW_INCHES = 0.36
_LINE_INCHES = 0.26  # of a name
_TEXT_INCHES = 0.2  # of its letters alone
_KEY_INCHES = 0.28  # of a line of the key; in a comparison the axes are lower
_LEAST_INCHES = 0.9
_MOST_INCHES = 3.2
_EMPTY = "#d6d6d6"
_THICK = 0.64  # of a bar, as a part of its row


@dataclass(frozen=True, slots=True)
class Bar:
    """One kind of stretch of time in a timeline.

    Args:
        name: what it is called in the key, e.g. "holds the lock".
        role: one of `ROLES`.
        spans: from a history to an array (n, 3): row, start and end in ns since the start of the
            run. What has not ended ends now: `history.elapsed_ns`.
    """

    name: str
    role: str
    spans: Callable[[History], Spans]


@dataclass(frozen=True, slots=True)
class Mark:
    """One kind of moment in a timeline.

    Args:
        name: what it is called in the key, e.g. "killed".
        role: one of `ROLES`.
        points: from a history to an array (n, 2): row, and ns since the start of the run.
    """

    name: str
    role: str
    points: Callable[[History], Points]


class Lanes(Plot):
    """A row for each actor, the first one at the top.

    Args:
        label: what the bars say, e.g. "who believes that it holds the lock".
        rows: the names of the rows.
        bars: kinds of stretches; later ones are drawn over earlier ones.
        marks: kinds of moments, drawn over all bars.
        gap: what it means that a row has no bar, for the key.
    """

    def __init__(
        self,
        label: str,
        rows: Sequence[str],
        *,
        bars: Sequence[Bar],
        marks: Sequence[Mark] = (),
        gap: str = "",
    ) -> None:
        super().__init__(label)
        self._rows = list(map(wrapped, rows))
        self._bars = bars
        self._marks = marks
        self._gap = wrapped(gap)
        self._spans: list[Spans] = [np.empty((0, 3), "i8") for _ in bars]
        self._points: list[Points] = [np.empty((0, 2), "i8") for _ in marks]
        self.left_inches = max(0.75, name_inches(rows) - 0.1)
        self._now = 0
        kinds = [*(bar.name for bar in bars), *(mark.name for mark in marks)]
        names = [wrapped(name) for name in (*kinds, gap) if name]
        self.key_inches = 0.5 + name_inches(names)
        lines = max((name.count("\n") + 1 for name in self._rows), default=1)
        key = _KEY_INCHES * sum(name.count("\n") + 1 for name in names)
        inches = max(max(_ROW_INCHES, _LINE_INCHES * lines) * len(rows), key)
        self.inches = float(np.clip(inches, _LEAST_INCHES, _MOST_INCHES))
        self.least_inches = min(self.inches, _TEXT_INCHES * lines * len(rows))

    def prepare(self, axes: Axes) -> Sequence[Artist]:
        self._axes = axes
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(self._rows) - 0.45, -0.55)
        axes.set_yticks(range(len(self._rows)), self._rows, fontsize=Size.NOTE)
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        # as long as the run is: what comes after it is no row without a bar
        rows = range(len(self._rows))
        self._rules = [axes.plot([], [], color=_EMPTY, linewidth=1, zorder=0)[0] for _ in rows]
        self._boxes = [self._box(axes, bar, place) for place, bar in enumerate(self._bars)]
        self._dots = [self._dot(axes, mark) for mark in self._marks]
        return [*self._rules, *self._boxes, *self._dots]

    def _box(self, axes: Axes, bar: Bar, place: int) -> PathCollection:
        role = ROLES[bar.role]
        # The hatch is white on the colour: it must not look like a lighter colour. Where there is
        # none, an edge of the same colour lets the shortest span be seen.
        edge = "white" if role.hatch else role.colour
        box = PathCollection([], facecolors=role.colour, edgecolors=edge, hatch=role.hatch)
        box.set(linewidth=0.0 if role.hatch else 0.8, zorder=2 + 0.1 * place)
        axes.add_collection(box, autolim=False)
        return box

    def _dot(self, axes: Axes, mark: Mark) -> Line2D:
        role = ROLES[mark.role]
        (dot,) = axes.plot([], [], linestyle="", marker=role.marker, color=role.colour)
        dot.set(markersize=11, markeredgecolor="white", zorder=4, clip_on=False)
        return dot

    def add(self, rows: Rows, history: History) -> None:
        self._spans = [np.asarray(bar.spans(history)).reshape(-1, 3) for bar in self._bars]
        self._points = [np.asarray(mark.points(history)).reshape(-1, 2) for mark in self._marks]
        self._now = history.elapsed_ns

    def show(self) -> bool:
        end = self._axes.get_xlim()[1]
        for row, rule in enumerate(self._rules):
            rule.set_data([0, min(self._now / 1e9, end)], [row, row])
        for box, spans in zip(self._boxes, self._spans, strict=True):
            box.set_paths([_outline(spans)])
        for dot, points in zip(self._dots, self._points, strict=True):
            seen = points[points[:, 1] <= 1e9 * end]  # a mark at the edge is whole, none is beyond
            dot.set_data(seen[:, 1] / 1e9, seen[:, 0])
        return False

    def key_ahead(self) -> Sequence[Entry]:
        return self._entries([True] * len(self._bars), [True] * len(self._marks))

    def key(self) -> Sequence[Entry]:
        """The kinds that there are."""
        return self._entries(
            [len(spans) > 0 for spans in self._spans], [len(one) > 0 for one in self._points]
        )

    def _entries(self, bars: Sequence[bool], marks: Sequence[bool]) -> Sequence[Entry]:
        found = [
            area(wrapped(bar.name), bar.role)
            for bar, there in zip(self._bars, bars, strict=True)
            if there
        ]
        for mark, dot, there in zip(self._marks, self._dots, marks, strict=True):
            if there:
                colour = legible(ROLES[mark.role].colour)
                found.append(Entry(wrapped(mark.name), colour, dot))
        if self._gap and found:  # it looks like what is seen there: the row's own line
            line = Line2D([], [], color=_EMPTY, linewidth=2)
            found.append(Entry(self._gap, MUTED, line))
        return found


def overlaps(spans: Spans) -> Spans:
    """The parts of spans during which a span of another row is open as well.

    Args:
        spans: an array (n, 3): row, start and end.

    Returns:
        an array of the same form, each row's parts in the order of time.
    """
    spans = np.asarray(spans).reshape(-1, 3)
    if len(spans) == 0:
        return spans
    rows, edges = np.unique(spans[:, 0]), np.unique(spans[:, 1:])
    begins = edges[:-1]
    open_at = np.array([_open_at(begins, spans[spans[:, 0] == row]) for row in rows])
    shared = np.pad(open_at & (open_at.sum(axis=0) > 1), ((0, 0), (1, 1)))
    found = []
    for row, line in zip(rows, shared, strict=True):
        places = np.flatnonzero(np.diff(line.astype(int))).reshape(-1, 2)
        found += [(row, edges[first], edges[last]) for first, last in places]
    return np.array(found, "i8").reshape(-1, 3)


def _open_at(moments: NDArray[np.int64], spans: Spans) -> NDArray[np.bool_]:
    """Whether one of the spans has begun and not ended, at each moment."""
    begun = np.searchsorted(np.sort(spans[:, 1]), moments, side="right")
    return np.asarray(begun > np.searchsorted(np.sort(spans[:, 2]), moments, side="right"))


def _outline(spans: Spans) -> Path:
    """All bars as one path: as a path each, thousands of them take a second to be hatched."""
    rows, starts, ends = spans[:, 0].astype(float), spans[:, 1] / 1e9, spans[:, 2] / 1e9
    up, down = rows - _THICK / 2, rows + _THICK / 2
    corners = [(starts, up), (ends, up), (ends, down), (starts, down), (starts, up)]
    vertices = np.stack([np.stack(corner, 1) for corner in corners], 1).reshape(-1, 2)
    codes = np.tile([Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY], len(spans))
    return Path(vertices, codes.astype(Path.code_type))
