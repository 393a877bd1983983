"""A chart that draws itself while the run goes on, and costs it as little as can be."""

import os
import time
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D

from labsupport.charts.chart import Chart
from labsupport.charts.key import draw_beside
from labsupport.charts.picture import DPI, FrameEncoder, LabFigure, Picture, Place
from labsupport.charts.plot import Plot
from labsupport.charts.style import INK, style
from labsupport.history import History
from labsupport.processes import undisturbed

_FRAMES_PER_SECOND = float(os.environ.get("LAB_FRAMES_PER_SECOND", "14"))  # fewer in CI
_SHARE = 0.1  # of one core, at most, unless that would be less than
_LONGEST_SECONDS = 0.08  # ten frames a second arrive, also where one has to draw the background
_LONGER = 1.6
_GROWTH = 2.0


class LiveChart:
    """Draws frames of a chart: what does not change is drawn once and kept as a background.

    Args:
        plots: from the top.
        seconds: how long the time axis is at first.
        title: what the figure is about.
        subtitle: under which conditions.
        place: where it is shown.

    Attributes:
        frames: how many frames were drawn.
    """

    def __init__(
        self, plots: Sequence[Plot], *, seconds: float, title: str, subtitle: str, place: Place
    ) -> None:
        self.frames = 0
        for plot in plots:
            plot.growth = _GROWTH
        self._chart = Chart(plots, seconds=seconds, title=title, subtitle=subtitle)
        self._alt = f"{title}."
        self._place = place
        self._encoder = FrameEncoder()
        self._seen = 0
        self._held = False
        self._background: Any
        with style():
            self._chart.figure.set_dpi(DPI)
            self._canvas: Any = FigureCanvasAgg(self._chart.figure)
            for plot, axes in zip(plots, self._chart.figure.axes, strict=True):
                draw_beside(axes, plot.key_ahead())  # a part of the background
            self._now = [_hand(axes) for axes in self._chart.figure.axes]
            self._moving = [*self._now, *self._chart.artists]
            for artist in self._moving:
                artist.set_animated(True)
        self._draw_background()
        self._put()
        self._due = time.monotonic() + 0.5 / _FRAMES_PER_SECOND  # at once there is nothing new

    def tick(self, history: History) -> None:
        """Draw a frame if one is due; call it often, with a history that was `read`."""
        if time.monotonic() < self._due:
            return
        begin, used = time.monotonic(), time.thread_time()
        with undisturbed():  # in a callback of the garbage collector an interrupt would be lost
            self.draw(history)
        used = time.thread_time() - used
        self._due = begin + max(1 / _FRAMES_PER_SECOND, min(used / _SHARE, _LONGEST_SECONDS))

    def draw(self, history: History) -> None:
        """Draw a frame."""
        rows = history.rows()[self._seen :]
        self._seen += len(rows)
        seconds = history.elapsed_ns / 1e9
        self._chart.add(rows, history)
        stale = self._chart.show()
        if seconds > self._chart.seconds and not self._held:
            self._chart.extend(max(seconds, self._chart.seconds * _LONGER))
            stale = True
        if stale:
            self._draw_background()
        for line in self._now:
            line.set_xdata([min(seconds, self._chart.seconds)])
        self._draw_frame()

    def hold(self) -> None:
        """The run is being ended: the time axis is long enough."""
        self._held = True

    def stop(self, title: str) -> None:
        """The run has ended before its time: the last frame says so."""
        self._alt = f"{title}."
        self._canvas.restore_region(self._background)
        with style():
            self._chart.sheet.entitle_on(self._canvas, title)
        self._background = self._canvas.copy_from_bbox(self._chart.figure.bbox)
        self._draw_frame()

    def finish(self, figure: LabFigure) -> None:
        """Replace the last frame by the finished figure."""
        with undisturbed():
            self._place.put(Picture.of(figure, figure.alt))

    def _draw_frame(self) -> None:
        self._canvas.restore_region(self._background)
        for artist in self._moving:
            if artist.axes is not None:
                artist.axes.draw_artist(artist)
        self._put()

    def _draw_background(self) -> None:
        with style():
            self._chart.sheet.widen(self._canvas.get_renderer())
            self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(self._chart.figure.bbox)

    def _put(self) -> None:
        self.frames += 1
        width, height = self._canvas.get_width_height()
        self._place.put(Picture(self._encoder.encode(self._canvas), self._alt, width, height))


def _hand(axes: Axes) -> Line2D:
    """Where the run is, on the time axis; a line across would change every line of the picture."""
    (hand,) = axes.plot([0], [0], marker="^", markersize=10, color=INK, clip_on=False)
    hand.set_transform(axes.get_xaxis_transform())
    hand.set_zorder(5)
    return hand
