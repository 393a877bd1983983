"""Schematics, drawn from words, not from a run: what happens when, and what goes where; in inches."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.textpath import TextPath

from labsupport.charts.picture import LabFigure
from labsupport.charts.sheet import WIDTH, Sheet
from labsupport.charts.style import INK, MUTED, ROLES, Role, Size, legible, style

_SIDE, _ACROSS = 0.3, WIDTH - 0.6
_LINE = 0.23  # of a text
_TAB = 0.13  # the strip with the role's full colour and hatch
_PAD = 0.09
_GAP = 0.2  # between two boxes without an arrow
_SHAFT = 0.45  # of an arrow beside its text
_LONGEST_NOTE, _LONGEST_NAME, _LONGEST_ARROW = 1.9, 1.6, 1.35
_TINT = 0.2


class _Note(NamedTuple):
    """A moment of a row, and its text: its left edge, and how far above the bar it stands."""

    at: float
    text: str
    role: str
    left: float
    low: float = 0.0


def timeline(
    rows: Sequence[str],
    spans: Sequence[tuple[int, float, float, str, str]],
    marks: Sequence[tuple[int, float, str, str]],
    *,
    title: str,
    alt: str,
) -> LabFigure:
    """Draw who is in which state, and the moments that change it; nothing is to scale.

    Args:
        rows: their names, from the top.
        spans: row, start, end, text and role (see `ROLES`) of each bar; time has any unit. A text
            that doesn't fit into its bar stands above it.
        marks: row, time, text and role of each moment; in row -1, of a line through all rows.
        title: the finding.
        alt: what the figure shows, in a full sentence.
    """
    names = [_folded(name, _LONGEST_NAME, bold=True) for name in rows]
    left = max(_wide(name, bold=True) for name in names) + 0.25
    bars, notes = _placed(len(rows), spans, marks, left)
    above = [_stacked(found) for found in notes]
    tops = [max((note.low + _high(note.text) for note in found), default=0.0) for found in above]
    thick = [max([_high(text) for *_, text, _ in found], default=0) + 2 * _PAD for found in bars]
    apart = [0.28 if above[-1] else 0.05, *[0.28] * (len(rows) - 1)]
    edges = tops[-1] + np.cumsum(np.add(tops[:-1], apart)) + np.cumsum([0.0, *thick[:-1]])
    bottom = float(edges[-1] + thick[-1] + 0.15)
    with style():
        sheet, axes = _sheet(bottom + 0.3, title, alt)
        for note in above[-1]:
            axes.plot([note.at] * 2, [tops[-1], bottom], color=INK, linestyle=":")
            _draw_note(axes, note, tops[-1])
        for row, (name, high, edge) in enumerate(zip(names, thick, edges, strict=True)):
            _write(axes, 0, edge + high / 2, name, weight="bold", va="center")
            for at, wide, text, role in bars[row]:
                _draw_box(axes, (at, edge, wide, high), text, role, centred=False)
            for note in above[row]:
                _draw_note(axes, note, edge)
        _draw_arrow(axes, (left, bottom), (_ACROSS, bottom), MUTED, "-")
        _write(axes, _ACROSS, bottom + 0.08, "time", ha="right", va="top")
        return sheet.fit()


_Bar = tuple[float, float, str, str]  # left edge, width, text and role


def _placed(
    rows: int,
    spans: Sequence[tuple[int, float, float, str, str]],
    marks: Sequence[tuple[int, float, str, str]],
    left: float,
) -> tuple[list[list[_Bar]], list[list[_Note]]]:
    """The bars of each row, right of `left`, and its notes; the last notes are those of row -1."""
    times = [time for _, *both, _, _ in spans for time in both] + [time for _, time, _, _ in marks]
    scale = (_ACROSS - left - _PAD) / (max(times) - min(times))
    bars: list[list[_Bar]] = [[] for _ in range(rows)]
    notes: list[list[_Note]] = [[] for _ in range(rows + 1)]
    for row, start, end, text, role in spans:
        at, wide = left + (start - min(times)) * scale, (end - start) * scale
        inside = _folded(text, wide - _TAB - 2 * _PAD)
        if _wide(inside) > wide - _TAB - 2 * _PAD:
            notes[row].append(_note(at, text, ""))
            inside = ""
        bars[row].append((at, wide, inside, role))
    for row, time, text, role in marks:
        notes[row].append(_note(left + (time - min(times)) * scale, text, role))
    return bars, notes


def flow(
    boxes: Mapping[str, tuple[tuple[int, int, int], str, str]],
    arrows: Sequence[tuple[str, str, str, str]],
    *,
    title: str,
    alt: str,
) -> LabFigure:
    """Draw boxes in a grid, and arrows between them.

    Args:
        boxes: place, text and role (see `ROLES`) of each, by name. A place is the row, and the first
            and last column, from the upper left.
        arrows: names of the two boxes, text and role of each. They are next to each other: in a row,
            in a column, or across a corner.
        title: the finding.
        alt: what the figure shows, in a full sentence.
    """
    places = {name: place for name, (place, _, _) in boxes.items()}
    rows, _, columns = (max(numbers) + 1 for numbers in zip(*places.values(), strict=True))
    gaps, heights, between = np.full(columns, _GAP), np.zeros(rows), np.full(rows, _GAP)
    labels = [_folded(text, _LONGEST_ARROW, bold=True) for _, _, text, _ in arrows]
    for (one, other, _, _), text in zip(arrows, labels, strict=True):
        row, first, last = np.max([places[one], places[other]], axis=0)
        before = min(places[one][2], places[other][2])
        if before < first:
            gaps[before] = max(gaps[before], _wide(text, bold=True) + _SHAFT)
            heights[row] = max(heights[row], 2 * _high(text) + 0.2)
        else:
            between[row - 1] = max(between[row - 1], _high(text) + 0.4)
    wide = (_ACROSS - gaps[:-1].sum()) / columns
    lefts = np.arange(columns) * wide + np.cumsum(gaps) - gaps
    texts, edges = {}, {}
    for name, ((row, first, last), text, _) in boxes.items():
        texts[name] = _folded(text, lefts[last] + wide - lefts[first] - _TAB - 2 * _PAD)
        heights[row] = max(heights[row], _high(texts[name]) + 3 * _PAD)
    tops = np.cumsum(heights + between) - heights - between
    with style():
        sheet, axes = _sheet(float(tops[-1] + heights[-1]) + 0.05, title, alt)
        for name, ((row, first, last), _, role) in boxes.items():
            left, right = lefts[first], lefts[last] + wide
            edges[name] = left, right, tops[row], tops[row] + heights[row]
            box = left, tops[row], right - left, heights[row]
            _draw_box(axes, box, texts[name], role, centred=True)
        for (one, other, _, role), text in zip(arrows, labels, strict=True):
            _connect(axes, edges[one], edges[other], text, role)
        return sheet.fit()


def _connect(axes: Axes, one: Any, other: Any, text: str, role: str) -> None:
    """Draw an arrow from one box to another; each is left, right, top and bottom."""
    (left, right, top, bottom), (left_2, right_2, top_2, bottom_2) = one, other
    if above := min(right, right_2) > max(left, left_2):
        x = sum(min(one, other, key=lambda box: box[1] - box[0])[:2]) / 2
        start, end = ((x, bottom), (x, top_2)) if top < top_2 else ((x, top), (x, bottom_2))
    else:
        middle, middle_2 = (top + bottom) / 2, (top_2 + bottom_2) / 2
        back = left > left_2
        start, end = (left if back else right, middle), (right_2 if back else left_2, middle_2)
    _draw_arrow(axes, start, end, ROLES[role].colour, ROLES[role].dashes)
    if text:
        level = start[1] == end[1]
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        look: dict[str, Any] = {"ha": "left" if above else "center", "weight": "bold"}
        look |= {"va": "bottom" if level else "center", "color": legible(ROLES[role].colour)}
        look["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        _write(axes, x + 0.1 * above, y - 0.06 * level, text, **look)


def _draw_box(
    axes: Axes, box: tuple[float, float, float, float], text: str, role: str, *, centred: bool
) -> None:
    """A box of left, top, width and height: tinted, with a strip of the role's colour and hatch."""
    (left, top, wide, high), look = box, ROLES[role]
    frame = Rectangle((left, top), wide, high, linewidth=2, zorder=2, clip_on=False)
    frame.set(facecolor=(*to_rgb(look.colour), _TINT), edgecolor=look.colour, linestyle=look.dashes)
    axes.add_patch(frame)
    strip = Rectangle((left, top), min(_TAB, wide), high, facecolor=look.colour, linewidth=0)
    strip.set(hatch=look.hatch, edgecolor="white", zorder=3)
    axes.add_patch(strip)
    start = left + _TAB + _PAD
    x = (start + left + wide - _PAD) / 2 if centred else start
    _write(axes, x, top + high / 2, text, va="center", ha="center" if centred else "left")


def _note(at: float, text: str, role: str) -> _Note:
    """A note that begins a little left of its moment, and ends before the sheet does."""
    folded = _folded(text, _LONGEST_NOTE, bold=True)
    return _Note(at, folded, role, min(at - _PAD, _ACROSS - _wide(folded, bold=True)))


def _stacked(notes: Iterable[_Note]) -> list[_Note]:
    """The notes, those at the left above those that they would run into."""
    placed: list[_Note] = []
    for note in sorted(notes, key=lambda note: -note.at):
        right = note.left + _wide(note.text, bold=True) + 0.15
        under = [one.low + _high(one.text) for one in placed if one.left < right]
        placed.append(note._replace(low=max(under, default=0.12) + 0.06))
    return placed


def _draw_note(axes: Axes, note: _Note, edge: float) -> None:
    """A marker at the upper edge of a bar, a thin line, and the text above them."""
    look = ROLES[note.role] if note.role else Role(MUTED, "")
    axes.plot([note.at] * 2, [edge, edge - note.low], color=MUTED, linewidth=1, zorder=1)
    marker: dict[str, Any] = {"color": look.colour, "markeredgecolor": "white", "markersize": 11}
    axes.plot(note.at, edge, marker=look.marker, zorder=5, clip_on=False, **marker)
    _write(axes, note.left, edge - note.low, note.text, weight="bold", va="bottom")


def _draw_arrow(axes: Axes, start: Any, end: Any, colour: str, dashes: str) -> None:
    arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=18, shrinkA=0, shrinkB=0)
    arrow.set(color=colour, linewidth=2, linestyle=dashes, zorder=1)
    axes.add_patch(arrow)


def _write(axes: Axes, x: float, y: float, text: str, **look: Any) -> None:
    axes.text(x, y, text, fontsize=Size.LABEL, linespacing=1.15, zorder=6, **{"color": INK} | look)


def _sheet(height: float, title: str, alt: str) -> tuple[Sheet, Axes]:
    """A sheet whose axes are measured in inches, from the upper left."""
    sheet = Sheet([height], [(_SIDE, _SIDE)], title=title, bottom=0.2)
    ((axes,),) = sheet.grid
    axes.set(xlim=(0, _ACROSS), ylim=(height, 0), xticks=[], yticks=[])
    axes.set_axis_off()
    sheet.figure.alt = alt
    return sheet, axes


def _high(text: str) -> float:
    """How high a text becomes."""
    return _LINE * (text.count("\n") + 1) if text else 0.0


def _wide(text: str, *, bold: bool = False) -> float:
    """How wide a text becomes, at the size of a label."""
    return max(_line_inches(line, bold) for line in text.split("\n"))


@functools.cache
def _line_inches(line: str, bold: bool) -> float:
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return float(TextPath((0, 0), line, size=Size.LABEL, prop=font).get_extents().width) / 72


def _folded(text: str, wide: float, *, bold: bool = False) -> str:
    """The text in lines of that width; a longer word has a line to itself."""
    lines: list[str] = []
    for part in text.split("\n"):
        lines.append("")
        for word in part.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and _line_inches(longer, bold) > wide:
                lines.append(word)
            else:
                lines[-1] = longer
    return "\n".join(lines)
