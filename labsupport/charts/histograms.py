"""A few distributions below each other, on the same axis and to the same scale."""

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from labsupport.charts.picture import LabFigure
from labsupport.charts.style import INK, MUTED, ROLES, Size, style

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM, _ROW = 9.6, 1.3, 2.3, 0.7, 0.75, 0.95
_BINS = 70  # of values that are not whole numbers
_HIGHEST = 0.84  # of a bar, as a part of its row


def histograms(
    rows: Sequence[tuple[str, Sequence[float], str, str]], *, title: str, label: str, alt: str
) -> LabFigure:
    """Draw distributions that belong together, from the top; whole numbers have a bar each.

    Args:
        rows: name, values, role (see `ROLES`) and a remark for the right-hand side of each.
        title: the finding.
        label: what is measured, with the unit.
        alt: what the figure shows, in a full sentence.
    """
    height = _TOP + _BOTTOM + _ROW * len(rows)
    everything = np.concatenate([np.asarray(values, dtype=float) for _, values, _, _ in rows])
    most = float(np.max(everything, initial=0.0))
    whole = bool(np.all(everything == np.round(everything)))
    edges = np.arange(-0.5, most + 1) if whole else np.linspace(0, most, _BINS + 1)
    counts = [np.histogram(values, edges)[0] for _, values, _, _ in rows]
    scale = _HIGHEST / max(1, *(int(found.max()) for found in counts))
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
        for place, ((_, _, role, remark), found) in enumerate(zip(rows, counts, strict=True)):
            look = ROLES[role]
            axes.bar(
                (edges[:-1] + edges[1:]) / 2,
                -found * scale,  # the axis points down
                np.diff(edges) * (0.5 if whole else 0.85),
                bottom=place,
                facecolor=look.colour,
                edgecolor="white",
                hatch=look.hatch,
                linewidth=0,
            )
            axes.axhline(place, color=MUTED, linewidth=1)
            axes.annotate(
                remark,
                (1, place - 0.2),
                xycoords=("axes fraction", "data"),
                xytext=(12, 0),
                textcoords="offset points",
                fontsize=Size.LABEL,
                color=INK,
                va="center",
            )
        axes.set_yticks(
            [place - 0.2 for place in range(len(rows))],
            [name for name, _, _, _ in rows],
            fontsize=Size.LABEL,
        )
        axes.set_ylim(len(rows) - 1, -1)
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
