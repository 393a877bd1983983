"""How many there were in each short span of time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import StepPatch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from labsupport.charts.plot import Plot, name_at_right, name_inches
from labsupport.charts.style import MUTED, ROLES, Role, Size
from labsupport.history import History, Rows

__all__ = ["Bars", "Part"]

_ROOM = 1.32  # above the highest bar, for its label


@dataclass(frozen=True, slots=True)
class Part:
    """A layer of each bar.

    Args:
        name: what it is called in the direct label, e.g. "needless".
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
        if noun is None:
            self.right_inches = name_inches([part.name for part in parts], values=True)

    def prepare(self, axes: Axes) -> Sequence[Artist]:
        self._axes = axes
        axes.set_ylim(0, self._top * _ROOM)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
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
        self._axes.set_ylim(0, self._top * _ROOM)
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
        # as far to the left as it goes, so that it does not run out of the axes
        at = float(peaks[0]) * self._per
        late = at > 0.6 * self._axes.get_xlim()[1]
        self._axes.text(
            at + self._per * (1 if late else 0.3),
            highest + self._top * 0.04,
            ", ".join([text, *extra]),
            fontsize=Size.LABEL,
            fontweight="bold",
            ha="right" if late else "left",
            va="bottom",
        )

    def _name_parts(self) -> None:
        high = self._axes.get_ylim()[1]
        last = self._counts[:, -1]
        middles = (np.cumsum(last) - last / 2) / high
        names = [
            (f"{part.name} {int(count):,}", float(middle), ROLES[part.role].colour)
            for part, count, middle in zip(self._parts, last, middles, strict=True)
        ]
        name_at_right(self._axes, names, inches=self.inches)
