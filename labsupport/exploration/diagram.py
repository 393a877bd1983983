"""The sequence diagram of a counterexample: a lane for each client, Redis and the database."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch

from labsupport.charts import ALARM, CLIENTS, INK, MUTED, LabFigure, Size, style
from labsupport.charts.sheet import WIDTH, Sheet
from labsupport.charts.style import legible, legible_on
from labsupport.explorer import Step
from labsupport.explorer.names import shorten

__all__ = ["Diagram", "draw"]

_STORES = {"redis": "Redis", "database": "Database"}
_BANDS = {"pass", "enter", "begin"}  # moves that are drawn across all lanes
_MARGIN = 0.3
_FIRST_LANE = 0.75  # room for the numbers of the steps
_LINE = 0.2  # of a label
_ROW, _CLOSE_ROW = 0.26, 0.17  # of a step, without its label; of many, for a slide's sake
_MOST_INCHES = 7.4
_PAD = 0.14  # between a lifeline and a label
_HEAD_PAD = 0.12
_LEAST = 1.5  # of a label's width, however near the next lane is
_LONGEST = 240  # characters of a step that does not decide
_BROKEN = "When all have finished, this does not hold: "
_UNNAMED = "the invariant holds"
_ARROWS = frozenset({"step", "arrive", "lose", "timeout"})
_TOGETHER = {
    "→ ": "→\N{NO-BREAK SPACE}",
    " …": "\N{NO-BREAK SPACE}…",
}  # no line ends, or begins, so
_PASSING = "#fbe9de"  # the alarm's colour at 12 % on white: an opaque ground for text


@dataclass(slots=True)
class Diagram:
    """A drawn schedule.

    Args:
        figure: the picture.
        bands: where each step is, from its top to its bottom, as shares of the picture's height.
    """

    figure: LabFigure
    bands: list[tuple[float, float]]


@dataclass(slots=True)
class _Row:
    """A step with its place: inches below the top of the axes."""

    step: Step
    alarm: bool
    text: str
    at: float
    to: float
    colour: str
    marker: str
    top: float = 0.0
    room: float = _ROW
    label: dict[str, Any] = field(default_factory=dict)

    @property
    def lines(self) -> int:
        return self.text.count("\n") + 1

    @property
    def line(self) -> float:
        """Where the arrow is: below the label of a step, in the middle of any other."""
        if self.step.move in _ARROWS:
            return self.top + _LINE * self.lines + 0.08
        return self.top + self.height / 2

    @property
    def height(self) -> float:
        return _LINE * self.lines + self.room + (0.12 if self.step.move == "lose" else 0.0)


def draw(
    steps: Sequence[Step],
    clients: Sequence[str],
    reason: str,
    headline: str,
    *,
    held: bool = False,
    width: float = WIDTH,
) -> Diagram:
    """Draw a schedule from top to bottom.

    Args:
        steps: the schedule; the adversary's moves, or else the last step, are in the alarm colour.
        clients: the clients' names; each has a lane, a colour and a marker.
        reason: what is wrong at the end: the title.
        headline: how many orders there are, and how many are broken.
        held: nothing was wrong in this one, so its last step is no alarm.
        width: of the picture in inches; the narrower, the larger its letters on a page.
    """
    stores = [name for name in _STORES if any(step.store == name for step in steps)]
    heads = [*clients, *(_STORES[store] for store in stores)]
    across = width - 2 * _MARGIN
    lanes, names = _lanes(heads, len(clients), across)
    head = _LINE * max(name.count("\n") + 1 for name in names) + 2 * _HEAD_PAD
    rows = _rows(steps, list(clients), [*clients, *stores], lanes, across, held=held)
    height = _stack(rows, head + 0.14) + 0.1
    sides, title = [(_MARGIN, _MARGIN)], _title(reason)
    with style():
        sheet = Sheet(
            [height], sides, title=title, subtitle=headline, top=0.95, bottom=0.2, width=width
        )
        ((axes,),) = sheet.grid
        axes.set_xlim(0, across)
        axes.set_ylim(height, 0)
        axes.set_yticks([])
        axes.axis("off")
        _draw_heads(axes, lanes, names, len(clients), rows, head)
        for number, row in enumerate(rows, 1):
            look = {"fontsize": Size.NOTE, "color": MUTED, "va": "center"}
            axes.text(0, row.line, f"{number}", **look)  # type: ignore[arg-type]
            _draw_step(axes, row)
        figure = sheet.fit()
    figure.alt = _alt(steps, reason, headline)
    box = axes.get_position()
    ends = [
        (1 - box.y1 + box.height * row.top / height, box.height * row.height / height)
        for row in rows
    ]
    return Diagram(figure, [(top, top + high) for top, high in ends])


def _title(reason: str) -> str:
    claim = reason.removeprefix(_BROKEN)
    if claim == reason:
        return reason
    return "The invariant does not hold" if claim == _UNNAMED else f"Broken: {claim}"


def _alt(steps: Sequence[Step], reason: str, headline: str) -> str:
    told = " ".join(f"{n}. {step.client}: {step}." for n, step in enumerate(steps, 1))
    return f"Sequence diagram. {headline}. {reason.rstrip('.')}. {told}"


# where everything stands


@functools.cache
def _pen() -> Any:
    return FigureCanvasAgg(Figure(dpi=100)).get_renderer()  # type: ignore[no-untyped-call]


def _inches(text: str, size: float, *, bold: bool) -> float:
    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    return float(_pen().get_text_width_height_descent(text, font, False)[0]) / 100


def _fit(text: str, inches: float, size: float, *, bold: bool) -> str:
    """The text in lines of so many inches; a longer word stays whole."""
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _inches(longer, size, bold=bold) <= inches:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def _lanes(heads: Sequence[str], clients: int, across: float) -> tuple[list[float], list[str]]:
    """How far from the left each lifeline is, and its name in lines that leave its neighbours room.

    The labels of the last client begin beside the first store, so that there is more room between.
    """
    gaps = [1.5 if at == clients else 1.0 for at in range(1, len(heads))]
    room = (across - _FIRST_LANE) / (sum(gaps) + 0.5)
    names = [_fit(name, room - 0.35, Size.LABEL, bold=True) for name in heads]
    half = [
        max(_inches(line, Size.LABEL, bold=True) for line in name.split("\n")) / 2 + _HEAD_PAD
        for name in names
    ]
    first = max(_FIRST_LANE, 0.35 + half[0])
    room = (across - half[-1] - first) / max(sum(gaps), 1.0)
    return [first + room * past for past in itertools.accumulate(gaps, initial=0.0)], names


def _rows(
    steps: Sequence[Step],
    clients: list[str],
    owners: list[str],
    lanes: Sequence[float],
    across: float,
    *,
    held: bool,
) -> list[_Row]:
    fatal = {row for row, step in enumerate(steps) if step.move not in {"step", "timeout"}}
    if not held:
        fatal = fatal or {len(steps) - 1}
    rows = []
    for number, step in enumerate(steps):
        to = owners.index(step.store) if step.store in owners else len(clients) - 1
        at = clients.index(step.client) if step.client in clients else to
        colour, marker = CLIENTS[at % len(CLIENTS)] if step.client in clients else (INK, "D")
        alarm = number in fatal
        row = _Row(step, alarm, "", lanes[at], lanes[to], ALARM if alarm else colour, marker)
        _place_label(row, lanes, across)
        rows.append(row)
    return rows


def _stack(rows: Sequence[_Row], top: float) -> float:
    """Put the steps below one another, closer where they are many; returns where the last one ends."""
    close = top + sum(row.height for row in rows) > _MOST_INCHES
    for row in rows:
        row.top, row.room = top, _CLOSE_ROW if close else _ROW
        top += row.height
    return top


def _place_label(row: _Row, lanes: Sequence[float], across: float) -> None:
    """Beside the lifeline where it begins, in as many lines as end before the one where it goes."""
    step = row.step
    text = f"time passes: {step.label}" if step.move == "pass" else str(step)
    text = text if row.alarm else shorten(text, _LONGEST)
    start, room, side = row.at + _PAD, row.to - row.at - 2 * _PAD, "left"
    if step.move == "expire":
        start, room, side = row.to - 0.18, row.to - lanes[0] - 0.4, "right"
    elif step.move in {"crash", "stuck", *_BANDS}:
        start = (lanes[0] if step.move in _BANDS else row.at) + 0.2
        room = across - start
    for loose, bound in _TOGETHER.items():
        text = text.replace(loose, bound)
    row.text = _fit(text, max(room, _LEAST), Size.NOTE, bold=row.alarm)
    row.label = {"x": start, "ha": side}


# drawing it


def _draw_heads(
    axes: Axes,
    lanes: Sequence[float],
    names: Sequence[str],
    clients: int,
    rows: Sequence[_Row],
    head: float,
) -> None:
    last = rows[-1].top + rows[-1].height
    for number, (lane, name) in enumerate(zip(lanes, names, strict=True)):
        client = number < clients
        colour = CLIENTS[number % len(CLIENTS)][0] if client else MUTED
        crashes = [row.line for row in rows if row.step.move == "crash" and row.at == lane]
        end = crashes[0] if client and crashes else last
        axes.plot([lane, lane], [head, end], color=colour, lw=2 if client else 1.2, zorder=1)
        axes.text(
            lane,
            head / 2,
            name,
            ha="center",
            va="center",
            fontsize=Size.LABEL,
            fontweight="bold",
            color=legible_on(colour),
            bbox={"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": "none"},
        )


def _draw_step(axes: Axes, row: _Row) -> None:
    step = row.step
    ring: dict[str, Any] = {"mfc": "white", "mec": ALARM, "mew": 2.5, "zorder": 4}
    if step.move == "crash":
        axes.plot(row.at, row.line, marker="X", ms=15, color=ALARM, mec="white", zorder=4)
    elif step.move == "stuck":
        axes.plot(row.at, row.line, marker="s", ms=13, **ring)
    elif step.move == "expire":
        axes.plot(row.to, row.line, marker="o", ms=13, **ring)
    elif step.move in _BANDS:
        high = _LINE * row.lines / 2 + 0.07
        axes.fill_between(
            [0.35, axes.get_xlim()[1]],
            row.line - high,
            row.line + high,
            color=_PASSING,
            lw=0,
            zorder=1.2,
        )
    else:
        _draw_arrow(axes, row)
    arrow = step.move in _ARROWS
    axes.text(
        y=row.line - 0.06 if arrow else row.line,
        s=row.text,
        va="bottom" if arrow else "center",
        fontsize=Size.NOTE,
        color=legible(ALARM)
        if row.alarm
        else INK,  # the clients' colours are too light for small text
        fontweight="bold" if row.alarm else "normal",
        linespacing=1.15,
        # a ground, so that no lifeline runs through the letters
        bbox={
            "facecolor": _PASSING if step.move in _BANDS else "white",
            "edgecolor": "none",
            "pad": 1.5,
        },
        zorder=1.5,
        **row.label,
    )


def _draw_arrow(axes: Axes, row: _Row) -> None:
    ends = (row.at, row.line), (row.to, row.line)
    if row.step.move == "arrive":
        ends = ends[::-1]
    axes.add_patch(
        FancyArrowPatch(
            *ends,
            arrowstyle="-|>",
            color=row.colour,
            linewidth=3 if row.alarm else 1.8,
            shrinkA=0,
            shrinkB=0,
            mutation_scale=16,
            zorder=2,
        )
    )
    axes.plot(*ends[0], marker=row.marker, ms=10, color=row.colour, mec="white", zorder=4)
    if row.step.move == "lose":  # the command arrives, what comes back does not
        middle, back = (row.at + row.to) / 2, row.line + 0.14
        axes.plot([middle, row.to], [back, back], color=ALARM, lw=1.8, ls="--", zorder=2)
        axes.plot(middle, back, marker="x", ms=11, color=ALARM, mew=3, zorder=4)
