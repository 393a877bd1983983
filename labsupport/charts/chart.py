"""A run as a figure, and several runs on the same axes."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

from labsupport.charts.key import draw_above, draw_key, in_lines, union
from labsupport.charts.picture import LabFigure
from labsupport.charts.plot import Plot
from labsupport.charts.sheet import WIDTH, Sheet
from labsupport.charts.style import Size, number, style
from labsupport.history import History, Rows

_RIGHT, _TOP, _BOTTOM = 1.35, 1.25, 0.62
_WIDE = 11.0  # a comparison of two columns: at 1,008 pixels its smallest letters have 14
_NARROWEST = 2.6  # the axes of such a column
_LOWER = 0.85  # its axes, as a part of those of a run alone
_NAME = 0.34  # of a run, above its axes
_BAND = 0.85  # more room for the time below one band and the label of the next
_APART = 0.06  # what a column shows, from what stands below it
_GUTTER = 0.2  # between the keys of two columns
_TIME = "seconds since the start"


class Chart:
    """A figure with its plots one above the other over the same time.

    Args:
        plots: from the top.
        seconds: how long the time axis is.
        title: what the figure is about; after the run, the finding.
        subtitle: under which conditions.
    """

    def __init__(self, plots: Sequence[Plot], *, seconds: float, title: str, subtitle: str) -> None:
        self.plots = plots
        self.seconds = seconds
        left = max(plot.left_inches for plot in plots)
        right = max(_RIGHT, *(max(plot.right_inches, plot.key_inches) for plot in plots))
        with style():
            self.sheet = Sheet(
                [plot.inches for plot in plots],
                [(left, right)],
                title=title,
                subtitle=subtitle,
                top=_TOP,
                bottom=_BOTTOM,
            )
            self.figure = self.sheet.figure
            self._axes = [axes for (axes,) in self.sheet.grid]
            self.artists: list[Artist] = []
            for plot, axes in zip(plots, self._axes, strict=True):
                _set_time(axes, seconds, named=axes is self._axes[-1])
                plot.dress(axes)
                self.artists += plot.prepare(axes)

    def add(self, rows: Rows, history: History) -> None:
        """Take in new events."""
        for plot in self.plots:
            plot.add(rows, history)

    def show(self) -> bool:
        """Let all plots show what was added; True when the background has to be drawn again."""
        return any([plot.show() for plot in self.plots])  # noqa: C419 (each one has to)

    def extend(self, seconds: float) -> None:
        """Make the time axis longer."""
        self.seconds = seconds
        for axes in self._axes:
            axes.set_xlim(0, seconds)

    def finish(self, title: str, alt: str) -> LabFigure:
        """Write the finding, the direct labels and the keys; `alt` is the figure in a sentence."""
        with style():
            self.sheet.entitle(title)
            self.show()
            for plot, axes in zip(self.plots, self._axes, strict=True):
                plot.finish()
                draw_key(axes, plot.key(), beside=plot.key_inches > 0)
            self.figure.alt = alt
            return self.sheet.fit()


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run, as a row of a comparison.

    Args:
        name: of the implementation.
        history: what happened.
        plots: fresh ones, of the same kinds for all runs.
    """

    name: str
    history: History
    plots: Sequence[Plot]


def draw_comparison(
    runs: Sequence[Run], *, seconds: float, title: str, subtitle: str, alt: str
) -> LabFigure:
    """Draw several runs below one another on the same axes, two kinds of plots side by side at most.

    Args:
        runs: the rows.
        seconds: how long the time axis is.
        title: the finding.
        subtitle: under which conditions.
        alt: what the figure shows, in a full sentence.
    """
    plots = runs[0].plots
    bands = _bands(plots)
    margins = _margins([[plots[place] for place in band] for band in bands])
    rows = [_LOWER * max(plots[place].inches for place in band) for band in bands]
    with style():
        sheet = Sheet(
            [row for row in rows for _ in runs],
            margins,
            title=title,
            subtitle=subtitle,
            width=WIDTH if len(margins) == 1 else _WIDE,
            top=_TOP + _NAME,
            bottom=_BOTTOM,
            between=0.42,
            alike=len(runs),
            across=sum(len(band) < len(margins) for band in bands) * len(runs),
        )
        for place, band in enumerate(bands):
            lines = sheet.grid[place * len(runs) :][: len(runs)]
            for run, line in zip(runs, lines, strict=True):
                _draw_row([run.plots[one] for one in band], line, run, seconds, runs)
        sheet.figure.alt = alt
        _draw_keys(sheet, runs, bands)
        return sheet.fit()


def _bands(plots: Sequence[Plot]) -> list[list[int]]:
    """The plots by their places, in pairs; one that is left over is the first, on its own.

    All are on their own where two beside each other would have no room.
    """
    alone = len(plots) % 2
    pairs = [[place, place + 1] for place in range(alone, len(plots), 2)]
    bands = [[0]] * alone + pairs
    margins = _margins([[plots[place] for place in band] for band in bands])
    if sum(map(sum, margins)) + _NARROWEST * len(margins) > _WIDE:
        return [[place] for place in range(len(plots))]
    return bands


def _margins(bands: Sequence[Sequence[Plot]]) -> list[tuple[float, float]]:
    """Left and right of each column; what is on its own reaches across all of them."""
    columns = max(map(len, bands))
    lefts, rights = [0.0] * columns, [0.0] * columns
    for band in bands:
        for place, plot in enumerate(band):
            last = place if len(band) > 1 else columns - 1
            lefts[place] = max(lefts[place], plot.left_inches)
            rights[last] = max(rights[last], plot.right_inches)
    return list(zip(lefts, rights, strict=True))


def _draw_row(
    plots: Sequence[Plot], line: Sequence[Axes], run: Run, seconds: float, runs: Sequence[Run]
) -> None:
    """A run in a band of a comparison; the name of the run stands above it."""
    for plot, axes in zip(plots, line, strict=True):
        _set_time(axes, seconds, named=run is runs[-1])
        if run is runs[0]:
            plot.dress(axes)
        axes.tick_params(length=0, axis="y")
        plot.prepare(axes)
    line[0].set_title(run.name, loc="left", fontsize=Size.LABEL, fontweight="bold")
    for plot in plots:
        plot.add(run.history.rows(), run.history)
        plot.show()


def _draw_keys(sheet: Sheet, runs: Sequence[Run], bands: Sequence[Sequence[int]]) -> None:
    """Write the labels; above each band what it shows and, once for all runs, what its colours are."""
    for run in runs:
        for plot in run.plots:
            plot.finish()
    renderer: Any = FigureCanvasAgg(sheet.figure).get_renderer()  # type: ignore[no-untyped-call]
    sheet.widen(renderer)
    wide, dpi = sheet.figure.get_size_inches()[0], sheet.figure.dpi
    for place, band in enumerate(bands):
        row = place * len(runs)
        line = sheet.grid[row]
        boxes = [axes.get_window_extent(renderer) for axes in line]
        ends = [box.x0 / dpi for box in boxes[1:]] + [wide]
        rooms = [end - box.x0 / dpi - _GUTTER for box, end in zip(boxes, ends, strict=True)]
        keys = [
            in_lines(
                axes, union(run.plots[one].key() for run in runs), room=room, renderer=renderer
            )
            for one, axes, room in zip(band, line, rooms, strict=True)
        ]
        high = max(inches for _, inches in keys)  # the labels of a band stand beside each other
        more = [0.0]
        for axes, box, room, (lines, inches) in zip(line, boxes, rooms, keys, strict=True):
            draw_above(axes, lines, rise=_NAME + high - inches, renderer=renderer)
            axes.yaxis.set_label_coords(0.0, 1 + (_NAME + high + _APART) * dpi / box.height)
            more.append(_fold(axes.yaxis.label, room * dpi, renderer) / dpi)
        sheet.lift(row, high + max(more) + (_BAND if row else 0.0))


def _fold(text: Text, room: float, renderer: Any) -> float:
    """Put a text into lines of that many pixels; how many pixels higher it becomes."""
    before, words = text.get_window_extent(renderer).height, text.get_text()
    for letters in range(len(words), 0, -1):
        text.set_text(textwrap.fill(words, letters))
        if text.get_window_extent(renderer).width <= room:
            break
    return text.get_window_extent(renderer).height - before


def _set_time(axes: Axes, seconds: float, *, named: bool) -> None:
    axes.set_xlim(0, seconds)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.tick_params(axis="x", labelbottom=named)
    if named:
        axes.set_xlabel(_TIME, fontsize=Size.LABEL)
