"""A few distributions below each other, every value a dot."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from labsupport.charts.picture import LabFigure
from labsupport.charts.style import INK, MUTED, ROLES, Size, style

__all__ = ["dot_chart"]

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM, _ROW = 9.6, 1.9, 2.2, 0.85, 0.75, 1.05
_COLUMNS = 70  # of dots side by side
_HIGHEST = 0.84  # of a stack, as a part of its row
_APART = 0.085  # the most that dots of a stack are apart


def dot_chart(
    rows: Sequence[tuple[str, Sequence[float], str, str]], *, title: str, label: str, alt: str
) -> LabFigure:
    """Draw distributions that belong together, from the top; (nearly) equal values are stacked.

    Args:
        rows: name, values, role (see `ROLES`) and a remark for the right-hand side of each.
        title: the finding.
        label: what is measured, with the unit.
        alt: what the figure shows, in a full sentence.
    """
    height = _TOP + _BOTTOM + _ROW * len(rows)
    everything = np.concatenate([np.asarray(values, dtype=float) for _, values, _, _ in rows])
    whole = bool(np.all(everything == np.round(everything)))
    width = 1.0 if whole else float(np.max(everything)) / _COLUMNS
    stacks = [Counter(round(value / width) for value in values) for _, values, _, _ in rows]
    apart = min(_APART, _HIGHEST / max(1, *(max(stack.values(), default=1) for stack in stacks)))
    with style():
        figure = LabFigure(figsize=(_WIDTH, height), facecolor="white")
        axes = figure.add_axes(
            (
                _LEFT / _WIDTH,
                _BOTTOM / height,
                1 - (_LEFT + _RIGHT) / _WIDTH,
                _ROW * len(rows) / height,
            )
        )
        for place, ((_, _, role, remark), stack) in enumerate(zip(rows, stacks, strict=True)):
            look = ROLES[role]
            dots = [
                (column * width, place + 0.45 - apart * (level + 0.5))
                for column, count in stack.items()
                for level in range(count)
            ]
            if dots:
                axes.plot(*zip(*dots, strict=True), look.marker, color=look.colour, markersize=4.5)
            axes.axhline(place + 0.45, color=MUTED, linewidth=0.8)
            axes.annotate(
                remark,
                (1, place + 0.2),
                xycoords=("axes fraction", "data"),
                xytext=(10, 0),
                textcoords="offset points",
                fontsize=Size.LABEL,
                color=INK,
                va="center",
            )
        axes.set_yticks(
            [place + 0.2 for place in range(len(rows))],
            [name for name, _, _, _ in rows],
            fontsize=Size.LABEL,
        )
        axes.set_ylim(len(rows) - 0.54, -0.5)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        axes.set_xlabel(label, fontsize=Size.LABEL)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        figure.text(
            0.3 / _WIDTH,
            1 - 0.22 / height,
            title,
            fontsize=Size.TITLE,
            fontweight="bold",
            color=INK,
            va="top",
        )
    figure.alt = alt
    return figure
