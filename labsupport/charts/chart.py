"""A run as a figure, and several runs on the same axes."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from labsupport.charts.picture import LabFigure
from labsupport.charts.plot import Plot
from labsupport.charts.sheet import Sheet
from labsupport.charts.style import Size, number, style
from labsupport.history import History, Rows

_RIGHT, _TOP, _BOTTOM = 1.35, 1.25, 0.62
_NARROWEST = 3.8  # a column of a comparison
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
        right = max(_RIGHT, *(plot.right_inches for plot in plots))
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
        """Write the finding and the direct labels; `alt` is the figure in a sentence."""
        with style():
            self.sheet.entitle(title)
            self.show()
            for plot in self.plots:
                plot.finish()
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
    """Draw several runs below one another, a column for each plot, all on the same axes.

    Args:
        runs: the rows.
        seconds: how long the time axis is.
        title: the finding.
        subtitle: under which conditions.
        alt: what the figure shows, in a full sentence.
    """
    columns = runs[0].plots
    row = 0.85 * max(plot.inches for plot in columns)
    margins = [(plot.left_inches, plot.right_inches) for plot in columns]
    with style():
        sheet = Sheet(
            [row] * len(runs),
            margins,
            title=title,
            subtitle=subtitle,
            width=max(11.0, sum(map(sum, margins)) + _NARROWEST * len(columns)),
            top=_TOP + 0.3,
            bottom=_BOTTOM,
            between=0.42,
            shared=True,
        )
        for run, line in zip(runs, sheet.grid, strict=True):
            for plot, axes in zip(run.plots, line, strict=True):
                _set_time(axes, seconds, named=run is runs[-1])
                if run is runs[0]:
                    plot.dress(axes)
                    axes.yaxis.set_label_coords(0.0, 1 + 0.38 / row)
                plot.prepare(axes)
            line[0].set_title(run.name, loc="left", fontsize=Size.LABEL, fontweight="bold")
        plots = [(run.history, plot) for run in runs for plot in run.plots]
        for history, plot in plots:
            plot.add(history.rows(), history)
            plot.show()
        for _, plot in plots:
            plot.finish()
        sheet.figure.alt = alt
        return sheet.fit()


def _set_time(axes: Axes, seconds: float, *, named: bool) -> None:
    axes.set_xlim(0, seconds)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.tick_params(axis="x", labelbottom=named)
    if named:
        axes.set_xlabel(_TIME, fontsize=Size.LABEL)
