"""A run as a figure, and several runs on the same axes."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

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
_LETTER_INCHES = 0.108  # of the name of a run
_LOWER = 0.85  # its axes, as a part of those of a run alone
_MOST_INCHES = 4.08  # of all axes below one another: a slide is not as high as a page
_NAME = 0.34  # of a run, above its axes
_BAND = 0.3  # more room for the label of the next band
_APART = 0.06  # what a column shows, from what stands below it
_GUTTER = 0.2  # between the keys of two columns
_TIME = "seconds since the start"

_Band: TypeAlias = list[list[tuple[int, int]]]  # lines of axes, each of a run and one of its plots


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
                _heights([[plot] for plot in plots], share=1.0),
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
    bands = _bands(runs[0].plots, [run.name for run in runs])
    margins = _margins(runs[0].plots, bands)
    lines = [line for band in bands for line in band]
    plots = [[runs[run].plots[place] for run, place in line] for line in lines]
    with style():
        sheet = Sheet(
            _heights(plots, share=_LOWER),
            margins,
            title=title,
            subtitle=subtitle,
            width=WIDTH if len(margins) == 1 else _WIDE,
            top=_TOP + _NAME,
            bottom=_BOTTOM,
            between=0.42,
        )
        for line, row in zip(lines, sheet.grid, strict=True):
            while len(row) > len(line):
                row.pop().remove()
        for column in range(len(margins)):
            below = [row[column] for row in sheet.grid if column < len(row)]
            for axes in below:
                _set_time(axes, seconds, named=axes is below[-1])
        rows = iter(sheet.grid)
        for band in bands:
            _draw_band(runs, band, [next(rows) for _ in band])
        sheet.figure.alt = alt
        _draw_keys(sheet, runs, bands)
        return sheet.fit()


def _heights(rows: Sequence[Sequence[Plot]], *, share: float) -> list[float]:
    """How high the axes of each row are: such a share of what they would like, or less where many are."""
    inches = [max(plot.inches for plot in row) for row in rows]
    share = min(share, _MOST_INCHES / sum(inches))
    least = [max(plot.least_inches for plot in row) for row in rows]
    return [max(share * one, other) for one, other in zip(inches, least, strict=True)]


def _bands(plots: Sequence[Plot], names: Sequence[str]) -> list[_Band]:
    """The plots in pairs, a line for each run; one that is left over is the first, two runs in a line.

    All is below one another where two beside each other would have no room, or little is gained.
    """
    alone = len(plots) % 2
    kinds = [[0]] * alone + [[place, place + 1] for place in range(alone, len(plots), 2)]
    bands = [_folded(kind, len(names), 2) for kind in kinds]
    room = _WIDE - sum(map(sum, _margins(plots, bands)))
    wide = max(_NARROWEST, alone * _LETTER_INCHES * max(map(len, names)))
    if len(plots) * len(names) > 2 and room >= 2 * wide:
        return bands
    return [_folded([place], len(names), 1) for place in range(len(plots))]


def _folded(kind: Sequence[int], runs: int, columns: int) -> _Band:
    cells = [(run, place) for run in range(runs) for place in kind]
    return [cells[at : at + columns] for at in range(0, len(cells), columns)]


def _margins(plots: Sequence[Plot], bands: Sequence[_Band]) -> list[tuple[float, float]]:
    """Left and right of each column."""
    lines = [[plots[place] for _, place in line] for band in bands for line in band]
    columns = [[line[at] for line in lines if at < len(line)] for at in range(max(map(len, lines)))]
    return [
        (max(plot.left_inches for plot in one), max(plot.right_inches for plot in one))
        for one in columns
    ]


def _draw_band(runs: Sequence[Run], band: _Band, grid: Sequence[list[Axes]]) -> None:
    """The lines of a band on the same axes for each kind; the name of a run stands above its first."""
    first: dict[int, Axes] = {}
    for line, row in zip(band, grid, strict=True):
        for (run, place), axes in zip(line, row, strict=True):
            plot = runs[run].plots[place]
            if place in first:
                axes.sharex(first[place])
                axes.sharey(first[place])
            if first.setdefault(place, axes) is axes:
                plot.dress(axes)
            axes.tick_params(length=0, axis="y")
            plot.prepare(axes)
            if place == band[0][0][1]:
                axes.set_title(runs[run].name, loc="left", fontsize=Size.LABEL, fontweight="bold")
            plot.add(runs[run].history.rows(), runs[run].history)
            plot.show()


def _draw_keys(sheet: Sheet, runs: Sequence[Run], bands: Sequence[_Band]) -> None:
    """Write the labels; above each band what it shows and, once for all runs, what its colours are."""
    for run in runs:
        for plot in run.plots:
            plot.finish()
    renderer: Any = FigureCanvasAgg(sheet.figure).get_renderer()  # type: ignore[no-untyped-call]
    sheet.widen(renderer)
    wide, dpi = sheet.figure.get_size_inches()[0], sheet.figure.dpi
    row = 0
    for band in bands:
        kinds = list(dict.fromkeys(place for _, place in band[0]))
        line = sheet.grid[row][: len(kinds)]
        boxes = [axes.get_window_extent(renderer) for axes in line]
        ends = [box.x0 / dpi for box in boxes[1:]] + [wide]
        rooms = [end - box.x0 / dpi - _GUTTER for box, end in zip(boxes, ends, strict=True)]
        keys = [
            in_lines(
                axes, union(run.plots[one].key() for run in runs), room=room, renderer=renderer
            )
            for one, axes, room in zip(kinds, line, rooms, strict=True)
        ]
        high = max(inches for _, inches in keys)  # the labels of a band stand beside each other
        more = [0.0]
        for axes, box, room, (lines, inches) in zip(line, boxes, rooms, keys, strict=True):
            draw_above(axes, lines, rise=_NAME + high - inches, renderer=renderer)
            axes.yaxis.set_label_coords(0.0, 1 + (_NAME + high + _APART) * dpi / box.height)
            more.append(_fold(axes.yaxis.label, room * dpi, renderer) / dpi)
        sheet.lift(row, high + max(more) + (_BAND if row else 0.0))
        row += len(band)


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
