"""How many there were in each short span of time: counting them, and drawing them."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import StepPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from labsupport.charts.key import Entry, area
from labsupport.charts.plot import Plot, name_at_right, name_inches, wrapped
from labsupport.charts.style import GROUND, MUTED, ROLES, Role, Size, number
from labsupport.history import History, Rows

Times = NDArray[np.int64]
Counts = NDArray[np.int64]

_ROOM = 1.32  # with what is above the highest bar, for its label
_LONGEST_LINE = 50


@dataclass(frozen=True, slots=True)
class Part:
    """A layer of each bar.

    Args:
        name: what it is called in the direct label and in the key, e.g. "needless".
        role: one of `ROLES`.
        heights: from a history and the length of a span in nanoseconds to the number in each span.
    """

    name: str
    role: str
    heights: Callable[[History, int], NDArray[np.int64]]


class Bars(Plot):
    """Numbers per span of time, as stacked bars.

    Args:
        label: what is counted, with the span, e.g. "messages sent per 50 ms".
        parts: the layers, from the bottom.
        noun: what one is called, and several, for the label of the highest bar; None names each
            part at its right end instead, e.g. for what is in each of several states.
        per_seconds: the span.
        top: how high the axis is at the least.
    """

    def __init__(
        self,
        label: str,
        parts: Sequence[Part],
        *,
        noun: tuple[str, str] | None,
        per_seconds: float = 0.05,
        top: float = 1.0,
    ) -> None:
        super().__init__(label)
        self._parts = parts
        self._noun = noun
        self._per = per_seconds
        self._top = top
        self._counts = np.zeros((len(parts), 1))
        names = [part.name for part in parts]
        if noun is None:
            self.right_inches = name_inches(names, values=True, swatches=True)
        elif len(parts) > 1:
            self.key_inches = 0.2 + name_inches(names, swatches=True)

    def prepare(self, axes: Axes) -> Sequence[Artist]:
        self._axes = axes
        axes.set_ylim(bottom=0)
        self.raise_limit(axes, self._top * _ROOM)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        self._layers = [self._layer(axes, ROLES[part.role]) for part in self._parts]
        return self._layers

    def _layer(self, axes: Axes, role: Role) -> StepPatch:
        # the hatch is white on the colour: it must not look like a lighter colour
        layer = axes.stairs([0.0], [0.0, self._per], baseline=0.0, fill=True)
        layer.set(facecolor=role.colour, edgecolor="white", hatch=role.hatch, linewidth=0.0)
        layer.set_hatch_linewidth(1.2)
        return layer

    def add(self, rows: Rows, history: History) -> None:
        heights = [part.heights(history, int(self._per * 1e9)) for part in self._parts]
        spans = max(map(len, heights))
        self._counts = np.stack([np.pad(one, (0, spans - len(one))) for one in heights])

    def show(self) -> bool:
        edges = np.arange(self._counts.shape[1] + 1) * self._per
        below = np.zeros(self._counts.shape[1])
        for layer, counts in zip(self._layers, self._counts, strict=True):
            layer.set_data(below + counts, edges, below)  # type: ignore[arg-type]
            below = below + counts
        if below.max(initial=0) <= self._top:
            return False
        self._top = float(below.max()) * self.growth
        self.raise_limit(self._axes, self._top * _ROOM)
        return True

    def finish(self) -> None:
        """Say at the first of the highest bars how high it is, or name the parts.

        Only at the end: to draw a text takes as long as all the rest of a frame.
        """
        self._axes.axhline(0, color=MUTED, linewidth=1.0)
        if self._noun is None:
            self._name_parts()
            return
        totals = self._counts.sum(axis=0)
        highest = int(totals.max(initial=0))
        if not highest:
            return
        peaks = np.flatnonzero(totals == highest)
        text = f"{highest:,} {self._noun[highest != 1]}"
        extra = [
            f"{int(count):,} {part.name}"
            for part, count in zip(self._parts[1:], self._counts[1:, peaks[0]], strict=True)
            if count
        ]
        text = textwrap.fill(", ".join([text, *extra]), _LONGEST_LINE)
        self.raise_limit(self._axes, self._top * (1 + (_ROOM - 1) * (text.count("\n") + 1)))
        self._axes.text(
            (float(peaks[0]) + 0.3) * self._per,
            highest + self._top * 0.04,
            text,
            fontsize=Size.LABEL,
            fontweight="bold",
            va="bottom",
            bbox=GROUND,
        )

    def key_ahead(self) -> Sequence[Entry]:
        parts = self._parts[::-1] if self._noun is None or len(self._parts) > 1 else ()
        return [area(wrapped(part.name), part.role) for part in parts]

    def key(self) -> Sequence[Entry]:
        """The parts that there are, as they lie on each other."""
        if self._noun is None or len(self._parts) == 1:
            return ()
        found = [
            area(wrapped(part.name), part.role)
            for part, counts in zip(self._parts, self._counts, strict=True)
            if counts.any()
        ]
        return found[::-1]

    def _name_parts(self) -> None:
        high = self._axes.get_ylim()[1]
        last = self._counts[:, -1]
        middles = (np.cumsum(last) - last / 2) / high
        names = [
            (f"{part.name} {int(count):,}", float(middle), ROLES[part.role])
            for part, count, middle in zip(self._parts, last, middles, strict=True)
        ]
        name_at_right(self._axes, names, swatches=True)


def count_per_span(times_ns: Times, *, span_ns: int, until_ns: int) -> Counts:
    """How many of the times fall into each span.

    Args:
        times_ns: since the start of the run.
        span_ns: the length of a span.
        until_ns: the end of the last one, at the least.
    """
    return np.bincount(np.maximum(times_ns // span_ns, 0), minlength=until_ns // span_ns + 1)


def most_at_once(starts_ns: Times, ends_ns: Times, *, span_ns: int, until_ns: int) -> Counts:
    """How many intervals were open together in each span, at its highest moment.

    Args:
        starts_ns: when each interval began, since the start of the run; in any order.
        ends_ns: when those that have ended did; in any order.
        span_ns: the length of a span.
        until_ns: where the intervals that have not ended are drawn to.
    """
    times = np.concatenate([ends_ns, starts_ns])
    steps = np.repeat([-1, 1], [len(ends_ns), len(starts_ns)])
    order = np.argsort(times, kind="stable")
    times, levels = times[order], np.cumsum(steps[order])
    last = np.append(times[1:] != times[:-1], True)[
        : len(times)
    ]  # what comes at once counts at once
    times, levels = times[last], levels[last]
    spans = max(until_ns, int(times.max(initial=0))) // span_ns + 1
    before = np.searchsorted(times, np.arange(spans) * span_ns, side="right")
    most: Counts = np.concatenate([[0], levels])[before]  # what each span begins with
    np.maximum.at(most, np.maximum(times // span_ns, 0), levels)
    return most
