"""A figure laid out in inches: a title, axes in rows and columns, and room for all that is written."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation, Text

from labsupport.charts.picture import LabFigure
from labsupport.charts.style import INK, MUTED, Size

WIDTH = 9.6
_MARGIN = 0.3  # at the left of the title; a little of it beside all that is written
_PAD = 0.1
_TITLE_AT, _SUBTITLE_AT = 0.18, 0.56
_LINE_HEIGHT = 1.2  # of the size of its letters
_LINE = 0.32  # of a title that needs one more
_BESIDE_AXIS = 0.05  # a label within the axes


class Sheet:
    """Axes in a grid, each column with its margins; `fit` widens them to what stands in them.

    Args:
        heights: of the rows, from the top.
        margins: left and right of each column.
        title: the finding.
        subtitle: under which conditions.
        width: of the figure.
        top: above the first row.
        bottom: below the last one.
        between: two rows.

    Attributes:
        figure: what is laid out.
        grid: its axes, row by row.
    """

    def __init__(
        self,
        heights: Sequence[float],
        margins: Sequence[tuple[float, float]],
        *,
        title: str,
        subtitle: str = "",
        width: float = WIDTH,
        top: float = 0.75,
        bottom: float = 0.75,
        between: float = 0.5,
    ) -> None:
        self.figure = LabFigure(figsize=(width, 1), facecolor="white")
        self._heights = heights
        self._margins = list(margins)
        self._width, self._bottom = width, bottom
        self._above = [top, *[between] * (len(heights) - 1)]
        self.grid = [
            [
                self.figure.add_axes((0, 0, 1, 1), label=f"{row}, {column}")
                for column in range(len(margins))
            ]
            for row in range(len(heights))
        ]
        self._title = self._write(title, Size.TITLE, INK, "bold")
        self._subtitle = self._write(subtitle, Size.LABEL, MUTED, "normal") if subtitle else None
        self._more = [0]  # lines of the title, and of the subtitle, beyond the first
        self._arrange()

    def entitle(self, title: str) -> None:
        """Write another title."""
        self._title.set_text(title)

    def entitle_on(self, canvas: Any, title: str) -> None:
        """Write another title where the first is drawn already; all else takes far longer to draw."""
        renderer = canvas.get_renderer()
        box = self._title.get_window_extent(renderer).padded(2)
        pixels = np.asarray(canvas.buffer_rgba())
        (left, low), (right, high) = np.rint(box.get_points()).astype(int)
        pixels[len(pixels) - high : len(pixels) - low, max(left, 0) : right] = 255
        self.entitle(title)
        self._title.draw(renderer)

    def lift(self, row: int, inches: float) -> None:
        """Give a row more room above it."""
        self._above[row] += inches
        self._arrange()

    def fit(self) -> LabFigure:
        """The finished figure: the title in as many lines as it needs, all labels inside."""
        renderer: Any = FigureCanvasAgg(self.figure).get_renderer()  # type: ignore[no-untyped-call]
        texts = [self._title, *([self._subtitle] if self._subtitle else [])]
        self._more = [_lines_more(text, renderer) for text in texts]
        for text in texts:
            _keep_lines(text)
        self.widen(renderer)
        for axes in self._all():
            _keep_inside(axes, renderer)
        return self.figure

    def widen(self, renderer: Any) -> None:
        """Give each column the margins that its labels need."""
        lefts, rights = (list(side) for side in zip(*self._margins, strict=True))
        for line in self.grid:
            for column, axes in enumerate(line):
                before, after = _needs(axes, renderer)
                lefts[column] = max(lefts[column], before / self.figure.dpi + _PAD)
                rights[column] = max(rights[column], after / self.figure.dpi + _PAD)
        self._margins = list(zip(lefts, rights, strict=True))
        self._arrange()

    def _arrange(self) -> None:
        subtitle, title_more = self._subtitle, _LINE * self._more[0]
        more = _LINE * sum(self._more)
        height = more + sum(self._above) + sum(self._heights) + self._bottom
        self.figure.set_size_inches(self._width, height)
        self._title.set_position((_MARGIN / self._width, 1 - _TITLE_AT / height))
        if subtitle:
            subtitle.set_position((_MARGIN / self._width, 1 - (_SUBTITLE_AT + title_more) / height))
        wide = (self._width - sum(map(sum, self._margins))) / len(self._margins)
        ends = np.cumsum([left + wide + right for left, right in self._margins])
        low = height - more
        for line, inches, above in zip(self.grid, self._heights, self._above, strict=True):
            low -= above + inches
            for end, (_, right), axes in zip(ends, self._margins, line, strict=False):
                start = end - right - wide
                box = start / self._width, low / height, wide / self._width, inches / height
                axes.set_position(box)

    def _all(self) -> Iterable[Axes]:
        return (axes for line in self.grid for axes in line)

    def _write(self, text: str, size: float, colour: str, weight: str) -> Text:
        look: dict[str, Any] = {"fontsize": size, "color": colour, "fontweight": weight}
        found: Any = self.figure.text(0, 1, text, va="top", ha="left", wrap=True, **look)
        # matplotlib itself would go on to the very edge of the figure
        found._get_wrap_line_width = lambda: (self._width - 2 * _MARGIN) * self.figure.dpi
        written: Text = found
        return written


def _lines_more(text: Text, renderer: Any) -> int:
    """How many lines beyond the first the text takes in the width of its figure."""
    high = text.get_window_extent(renderer).height / renderer.points_to_pixels(1)
    return round(high / (_LINE_HEIGHT * float(text.get_fontsize()))) - 1 if text.get_text() else 0


def _keep_lines(text: Any) -> None:
    """A text stays in the lines that were measured: with more dots in an inch it might take fewer."""
    text.set_text(text._get_wrapped_text())
    text.set_wrap(False)


def _needs(axes: Axes, renderer: Any) -> tuple[float, float]:
    """How many pixels what stands at the left and at the right of some axes takes."""
    box = axes.get_window_extent(renderer)
    key = axes.get_legend()
    beside: list[Any] = [text for text in axes.texts if isinstance(text, Annotation)]
    beside += [*axes.get_yticklabels(), *([key] if key else [])]
    found = [one.get_window_extent(renderer) for one in beside if one.get_visible()]
    left = max((box.x0 - one.x0 for one in found), default=0.0)
    return left, max((one.x1 - box.x1 for one in found), default=0.0)


def _keep_inside(axes: Axes, renderer: Any) -> None:
    """Move what is written within the axes so far that it does not leave them."""
    box = axes.get_window_extent(renderer)
    for text in axes.texts:
        if isinstance(text, Annotation):
            continue
        wide = text.get_window_extent(renderer)
        by = max(min(box.x1 - wide.x1, 0.0), box.x0 + _BESIDE_AXIS * axes.figure.dpi - wide.x0)
        if by:
            at = text.get_transform()
            x, y = at.transform(text.get_position())
            text.set_position(tuple(at.inverted().transform((x + by, y))))
