"""A run as a figure, and several runs on the same axes."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, MaxNLocator

from labsupport.charts.panels import Panel
from labsupport.charts.picture import LabFigure
from labsupport.charts.style import INK, MUTED, Size, style
from labsupport.history import History, Rows

__all__ = ["Chart", "Run", "draw_comparison"]

_WIDTH = 9.6
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.75, 1.35, 1.25, 0.62
_NARROWEST = 3.8  # a column of a comparison
_BETWEEN = 0.5
_TIME = "seconds since the start"


class Chart:
    """A figure with its panels one above the other over the same time.

    Args:
        panels: from the top.
        seconds: how long the time axis is.
        title: what the figure is about; after the run, the finding.
        subtitle: under which conditions.
    """

    def __init__(
        self, panels: Sequence[Panel], *, seconds: float, title: str, subtitle: str
    ) -> None:
        self.panels = panels
        self.seconds = seconds
        inches = [panel.inches for panel in panels]
        height = _TOP + _BOTTOM + sum(inches) + _BETWEEN * (len(panels) - 1)
        left = max(panel.left_inches for panel in panels)
        right = max(_RIGHT, *(panel.right_inches for panel in panels))
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
                for place in range(len(panels))
            ]
            self._title = _write(self.figure, title, 0.18, Size.TITLE, INK, "bold")
            _write(self.figure, subtitle, 0.56, Size.LABEL, MUTED, "normal")
            self.artists: list[Artist] = []
            for panel, axes in zip(panels, self._axes, strict=True):
                axes.set_xlim(0, seconds)
                axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axes.tick_params(axis="x", labelbottom=axes is self._axes[-1])
                panel.dress(axes)
                self.artists += panel.prepare(axes)
            self._axes[-1].set_xlabel(_TIME, fontsize=Size.LABEL)

    def add(self, rows: Rows, history: History) -> None:
        """Take in new events."""
        for panel in self.panels:
            panel.add(rows, history)

    def show(self) -> bool:
        """Let all panels show what was added; True when the background has to be drawn again."""
        return any([panel.show() for panel in self.panels])  # noqa: C419 (each one has to)

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
            for panel in self.panels:
                panel.finish()
        self.figure.alt = alt
        return self.figure


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """One run, as a row of a comparison.

    Args:
        name: of the implementation.
        history: what happened.
        panels: fresh ones, of the same kinds for all runs.
    """

    name: str
    history: History
    panels: Sequence[Panel]


def draw_comparison(
    runs: Sequence[Run], *, seconds: float, title: str, subtitle: str, alt: str
) -> LabFigure:
    """Draw several runs below one another, a column for each panel, all on the same axes.

    Args:
        runs: the rows.
        seconds: how long the time axis is.
        title: the finding.
        subtitle: under which conditions.
        alt: what the figure shows, in a full sentence.
    """
    columns = runs[0].panels
    row, gap = 0.85 * max(panel.inches for panel in columns), 0.42
    margins = sum(panel.left_inches + panel.right_inches for panel in columns)
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
            for panel, axes in zip(columns, line, strict=True):
                left += panel.left_inches
                axes.set_position((left / width, bottom / height, across / width, row / height))
                left += across + panel.right_inches
        for run, line in zip(runs, grid, strict=True):
            for panel, axes in zip(run.panels, line, strict=True):
                axes.set_xlim(0, seconds)
                axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
                axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                if run is runs[0]:
                    panel.dress(axes)
                    axes.yaxis.set_label_coords(0.0, 1 + 0.38 / row)
                panel.prepare(axes)
            line[0].set_title(run.name, loc="left", fontsize=Size.LABEL, fontweight="bold")
        for run in runs:
            for panel in run.panels:
                panel.add(run.history.rows(), run.history)
                panel.show()
        for run in runs:
            for panel in run.panels:
                panel.finish()
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
