"""A run as a figure, and several runs on the same axes."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

from labsupport.charts.picture import LabFigure
from labsupport.charts.plot import Plot
from labsupport.charts.style import INK, MUTED, Size, style
from labsupport.history import History, Rows

__all__ = ["Chart", "Run", "draw_comparison"]

_WIDTH = 9.6
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.75, 1.35, 1.25, 0.62
_NARROWEST = 3.8  # a column of a comparison
_BETWEEN = 0.5
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
        inches = [plot.inches for plot in plots]
        height = _TOP + _BOTTOM + sum(inches) + _BETWEEN * (len(plots) - 1)
        left = max(plot.left_inches for plot in plots)
        right = max(_RIGHT, *(plot.right_inches for plot in plots))
        with style():
            self.figure = LabFigure(figsize=(_WIDTH, height), facecolor="white")
            self._axes = [
                self.figure.add_axes(
                    (
                        left / _WIDTH,
                        (_BOTTOM + sum(one + _BETWEEN for one in inches[place + 1 :])) / height,
                        1 - (left + right) / _WIDTH,
                        inches[place] / height,
                    )
                )
                for place in range(len(plots))
            ]
            self._title = _write(self.figure, title, 0.18, Size.TITLE, INK, "bold")
            _write(self.figure, subtitle, 0.56, Size.LABEL, MUTED, "normal")
            self.artists: list[Artist] = []
            for plot, axes in zip(plots, self._axes, strict=True):
                axes.set_xlim(0, seconds)
                axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.tick_params(axis="x", labelbottom=axes is self._axes[-1])
                plot.dress(axes)
                self.artists += plot.prepare(axes)
            self._axes[-1].set_xlabel(_TIME, fontsize=Size.LABEL)

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
        """Write the finding and the direct labels; `alt` is the figure in a sentence."""
        with style():
            self._title.set_text(title)
            self.show()
            for plot in self.plots:
                plot.finish()
        self.figure.alt = alt
        return self.figure


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
    """Draw several runs below one another, a column for each plot, all on the same axes.

    Args:
        runs: the rows.
        seconds: how long the time axis is.
        title: the finding.
        subtitle: under which conditions.
        alt: what the figure shows, in a full sentence.
    """
    columns = runs[0].plots
    row, gap = 0.85 * max(plot.inches for plot in columns), 0.42
    margins = sum(plot.left_inches + plot.right_inches for plot in columns)
    width = max(11.0, margins + _NARROWEST * len(columns))
    across = (width - margins) / len(columns)
    height = _TOP + 0.3 + _BOTTOM + row * len(runs) + gap * (len(runs) - 1)
    with style():
        figure = LabFigure(figsize=(width, height), facecolor="white")
        _write(figure, title, 0.18, Size.TITLE, INK, "bold")
        _write(figure, subtitle, 0.56, Size.LABEL, MUTED, "normal")
        grid = figure.subplots(len(runs), len(columns), sharex=True, sharey="col", squeeze=False)
        for place, line in enumerate(grid):
            bottom = _BOTTOM + (row + gap) * (len(runs) - 1 - place)
            left = 0.0
            for plot, axes in zip(columns, line, strict=True):
                left += plot.left_inches
                axes.set_position((left / width, bottom / height, across / width, row / height))
                left += across + plot.right_inches
        for run, line in zip(runs, grid, strict=True):
            for plot, axes in zip(run.plots, line, strict=True):
                axes.set_xlim(0, seconds)
                axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                if run is runs[0]:
                    plot.dress(axes)
                    axes.yaxis.set_label_coords(0.0, 1 + 0.38 / row)
                plot.prepare(axes)
            line[0].set_title(run.name, loc="left", fontsize=Size.LABEL, fontweight="bold")
        for run in runs:
            for plot in run.plots:
                plot.add(run.history.rows(), run.history)
                plot.show()
        for run in runs:
            for plot in run.plots:
                plot.finish()
        for axes in grid[-1]:
            axes.set_xlabel(_TIME, fontsize=Size.LABEL)
    figure.alt = alt
    return figure


def _write(figure: Figure, text: str, inches: float, size: float, colour: str, weight: str) -> Text:
    height = figure.get_size_inches()[1]
    width = figure.get_size_inches()[0]
    return figure.text(
        (_LEFT - 0.45) / width,
        1 - inches / height,
        text,
        fontsize=size,
        color=colour,
        fontweight=weight,
        va="top",
        ha="left",
    )
