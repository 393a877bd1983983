"""How many events there were in each short span of time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import StepPatch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from labsupport.charts.panels import Panel
from labsupport.charts.style import INK, MUTED, ROLES, Role, Size
from labsupport.history import History, Rows

__all__ = ["Bars", "Part"]

_ROOM = 1.22  # above the highest bar, for its label


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of event, a layer of each bar.

    Args:
        name: what it is called in the direct label, e.g. "needless".
        role: one of `ROLES`.
        times: from a history to the times of the events, in nanoseconds.
    """

    name: str
    role: str
    times: Callable[[History], NDArray[np.int64]]


class Bars(Panel):
    """Events per span of time, as stacked bars.

    Args:
        label: what is counted, with the span, e.g. "database loads per 50 ms".
        parts: the layers, from the bottom.
        noun: what one event is called, and several, e.g. ("load", "loads").
        per_seconds: the span.
        top: how high the axis is at the least.
    """

    def __init__(
        self,
        label: str,
        parts: Sequence[Part],
        *,
        noun: tuple[str, str],
        per_seconds: float = 0.05,
        top: float = 1.0,
    ) -> None:
        super().__init__(label)
        self._parts = parts
        self._noun = noun
        self._per = per_seconds
        self._top = top
        self._counts = np.zeros((len(parts), 1))

    def prepare(self, axes: Axes) -> Sequence[Artist]:
        self._axes = axes
        axes.set_ylim(0, self._top * _ROOM)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        self._layers = [self._layer(axes, ROLES[part.role]) for part in self._parts]
        self._note = axes.text(
            0, 0, "", fontsize=Size.LABEL, fontweight="bold", color=INK, va="bottom"
        )
        return [*self._layers, self._note]

    def _layer(self, axes: Axes, role: Role) -> StepPatch:
        # the hatch is white on the colour: it must not look like a lighter colour
        layer = axes.stairs([0.0], [0.0, self._per], baseline=0.0, fill=True)
        layer.set(facecolor=role.colour, edgecolor="white", hatch=role.hatch, linewidth=0.0)
        return layer

    def add(self, rows: Rows, history: History) -> None:
        spans = [
            np.floor_divide(part.times(history) - history.origin_ns, int(self._per * 1e9))
            for part in self._parts
        ]
        last = max((int(span.max(initial=0)) for span in spans), default=0)
        self._counts = np.stack(
            [np.bincount(np.maximum(span, 0), minlength=last + 1) for span in spans]
        )

    def show(self) -> bool:
        edges = np.arange(self._counts.shape[1] + 1) * self._per
        below = np.zeros(self._counts.shape[1])
        for layer, counts in zip(self._layers, self._counts, strict=True):
            layer.set_data(below + counts, edges, below)
            below = below + counts
        self._name_peak(below)
        if below.max(initial=0) <= self._top:
            return False
        self._top = float(below.max())
        self._axes.set_ylim(0, self._top * _ROOM)
        return True

    def _name_peak(self, totals: NDArray[np.float64]) -> None:
        """Say at the highest bar how high it is; of several, the last one has room to its right."""
        highest = int(totals.max(initial=0))
        if not highest:
            return
        at = int(np.flatnonzero(totals == highest)[0])
        text = f"{highest} {self._noun[highest != 1]}"
        extra = [
            f"{int(count)} {part.name}"
            for part, count in zip(self._parts[1:], self._counts[1:, at], strict=True)
            if count
        ]
        self._note.set_text(", ".join([text, *extra]))
        self._note.set_position(((at + 1.3) * self._per, highest * 0.97))
        self._note.set_va("top" if highest > self._top / 3 else "bottom")

    def finish(self) -> None:
        self._axes.axhline(0, color=MUTED, linewidth=1.0)
