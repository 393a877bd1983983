"""Figures of a few measured values, or distributions, below each other on one axis."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from labsupport.charts.key import area, draw_key
from labsupport.charts.picture import LabFigure
from labsupport.charts.plot import wrapped
from labsupport.charts.sheet import Sheet
from labsupport.charts.style import FIXED, GROUND, INK, MUTED, ROLES, Size, number, style

_BINS = 70  # of values that are not whole numbers, or too many
_MOST_WHOLE = 200
_STUB = 0.006  # of the longest bar: what is more than nothing is seen
_MOST_INCHES = 6.4  # of all rows: a slide is not as high as a page
_HIGHEST = 0.84  # of a bar, as a part of its row
_EDGE: dict[str, Any] = {"edgecolor": "white", "linewidth": 0}
_BESIDE: dict[str, Any] = {
    "textcoords": "offset points",
    "fontsize": Size.LABEL,
    "color": INK,
    "va": "center_baseline",  # as the names at the left
}


def bar_chart(
    bars: Sequence[tuple[str, float, str]],
    *,
    title: str,
    label: str,
    alt: str,
    unit: str = "",
    key: Mapping[str, str] | None = None,
) -> LabFigure:
    """Draw values that belong together, from the top.

    Args:
        bars: name, value and role (see `ROLES`) of each; where all names are like "policy: key",
            those of one policy stand together under its name.
        title: the finding.
        label: what is measured, with the unit.
        alt: what the figure shows, in a full sentence.
        unit: what stands behind each number.
        key: what the roles stand for, by role; none where the names of the bars say it.
    """
    names = _in_groups([name for name, _, _ in bars])
    lines = max((wrapped(name).count("\n") + 1 for name, _ in names), default=1)
    row = max(min(0.5, _MOST_INCHES / len(names)), 0.27 * lines)
    places = [place for place, (_, heading) in enumerate(names) if not heading]
    least = _STUB * max((value for _, value, _ in bars), default=0.0)
    with style():
        sheet = Sheet([row * len(names)], [(3.3, 0.9)], title=title, top=0.8)
        ((axes,),) = sheet.grid
        for place, (_, value, role) in zip(places, bars, strict=True):
            look, long = ROLES[role], max(value, least) if value else 0.0
            axes.barh(place, long, height=0.7, color=look.colour, hatch=look.hatch, **_EDGE)
            text = f"{number(value, digits=2)}{unit and FIXED + unit}"
            axes.annotate(text, (long, place), (6, 0), **_BESIDE, fontweight="bold", bbox=GROUND)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.axvline(0, color=MUTED, linewidth=1)
        _dress(axes, range(len(names)), [name for name, _ in names], label)
        for tick, (_, heading) in zip(axes.get_yticklabels(), names, strict=True):
            tick.set_fontweight("bold" if heading else "normal")
        draw_key(axes, [area(name, role) for role, name in (key or {}).items()], beside=False)
        sheet.figure.alt = alt
        return sheet.fit()


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
    everything = np.concatenate([np.asarray(values, dtype=float) for _, values, _, _ in rows])
    most = float(np.max(everything, initial=0.0))
    whole = most <= _MOST_WHOLE and bool(np.all(everything == np.round(everything)))
    edges = np.arange(-0.5, most + 1) if whole else np.linspace(0, most, _BINS + 1)
    counts = [np.histogram(values, edges)[0] for _, values, _, _ in rows]
    scale = _HIGHEST / max(1, *(int(found.max()) for found in counts))
    middles, widths = (edges[:-1] + edges[1:]) / 2, np.diff(edges) * (0.5 if whole else 0.85)
    with style():
        sheet = Sheet([0.95 * len(rows)], [(1.3, 2.3)], title=title)
        ((axes,),) = sheet.grid
        for place, ((_, _, role, remark), found) in enumerate(zip(rows, counts, strict=True)):
            look = ROLES[role]
            up = -found * scale  # the axis points down
            axes.bar(
                middles, up, widths, bottom=place, color=look.colour, hatch=look.hatch, **_EDGE
            )
            axes.axhline(place, color=MUTED, linewidth=1)
            at = {**_BESIDE, "xycoords": ("axes fraction", "data")}
            axes.annotate(wrapped(remark), (1, place - 0.2), (12, 0), **at)
        axes.set_ylim(len(rows) - 1, -1)
        axes.set_xlim(left=0)
        places = [place - 0.2 for place in range(len(rows))]
        _dress(axes, places, [name for name, _, _, _ in rows], label)
        sheet.figure.alt = alt
        return sheet.fit()


def _in_groups(names: Sequence[str]) -> list[tuple[str, bool]]:
    """The names, each with whether it is a heading: a group's, above what stands together in it."""
    parts = [name.partition(": ") for name in names]
    groups = [group for group, _, _ in parts]
    together = [group for group, _ in itertools.groupby(groups)]
    grouped = all(member for _, _, member in parts) and 1 < len(together) < len(names)
    if not grouped or len(together) > len(set(groups)):
        return [(name, False) for name in names]
    found: list[tuple[str, bool]] = []
    for group, members in itertools.groupby(parts, lambda part: part[0]):
        found += [(group, True), *((member, False) for _, _, member in members)]
    return found


def _dress(axes: Axes, places: Sequence[float], names: Sequence[str], label: str) -> None:
    """Names at the left, the measure below; the grid goes with the measure."""
    axes.set_yticks(places, [wrapped(name) for name in names], fontsize=Size.LABEL)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.set_xlabel(label, fontsize=Size.LABEL)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
