"""One set of axes in an experiment's chart."""

import textwrap
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.transforms import ScaledTranslation

from labsupport.charts.key import Entry
from labsupport.charts.style import INK, Role, Size, legible
from labsupport.history import History, Rows

_LABEL_INCHES = 0.23
_LONGEST_NAME = 26  # characters in a line
_SWATCH_INCHES = 0.3  # with the room beside it
_LETTER_INCHES = 0.108  # of a bold one at the size of a label


class Plot(ABC):
    """What one set of axes shows of a history; a plot belongs to one run and is drawn once.

    Subclasses draw on `prepare`, count in `add`, and set the new data of what they drew in `show`.

    Args:
        label: what the y axis shows, with its unit.

    Attributes:
        growth: by how much a limit that has become too low is raised beyond what is needed; more
            than 1 while the chart is live, since each new limit costs a new background.
        inches: how high the axes are.
        least_inches: how high at the least, below or beside many others.
        left_inches: the room for what stands at their left.
        right_inches: the room for the names at their right.
        key_inches: the room for the key at their right; 0 if it is above them.
    """

    growth: float = 1.0
    inches: float = 1.6
    least_inches: float = 0.8
    left_inches: float = 0.75
    right_inches: float = 0.35
    key_inches: float = 0.0

    def __init__(self, label: str) -> None:
        self.label = label

    def dress(self, axes: Axes) -> None:
        """Give the axes their label: across the top, since that can be read without a bent neck."""
        axes.set_ylabel(
            self.label, rotation=0, ha="left", va="bottom", fontsize=Size.LABEL, color=INK
        )
        axes.yaxis.set_label_coords(0.0, 1.03)
        axes.tick_params(length=0, axis="y")

    @abstractmethod
    def prepare(self, axes: Axes) -> Sequence[Artist]:
        """Set limits and ticks, and make the artists that change while the run goes on."""

    @abstractmethod
    def add(self, rows: Rows, history: History) -> None:
        """Take in new events; `history` holds them, too."""

    @abstractmethod
    def show(self) -> bool:
        """Let the artists show what was added; True when the axes' limits had to change."""

    @staticmethod
    def raise_limit(axes: Axes, top: float) -> None:
        """Let the y axis reach so far, or as far as another run's plot on the same axes needs."""
        low, high = axes.get_ylim()
        axes.set_ylim(low, max(top, high))

    def finish(self) -> None:  # noqa: B027 (a plot may have nothing to add)
        """Write the direct labels of the finished run."""

    def key_ahead(self) -> Sequence[Entry]:
        """What all colours stand for, also those that nothing may have in the end: while it is live."""
        return ()

    def key(self) -> Sequence[Entry]:
        """What the colours stand for, of all that there is; nothing where direct labels say it."""
        return ()


def name_inches(names: Sequence[str], *, values: bool = False, swatches: bool = False) -> float:
    """The room that direct labels need.

    Args:
        names: their texts.
        values: whether a number of up to six digits follows each.
        swatches: whether a patch of its colour and hatch stands before each.
    """
    longest = min(max(map(len, names), default=0) + (8 if values else 0), _LONGEST_NAME)
    return 0.2 + _LETTER_INCHES * longest + (_SWATCH_INCHES if swatches else 0.0)


def wrapped(name: str) -> str:
    """A name in lines that leave room for the axes."""
    return "\n".join(textwrap.fill(line, _LONGEST_NAME) for line in name.splitlines())


def name_at_right(
    axes: Axes, names: Sequence[tuple[str, float, Role]], *, swatches: bool = False
) -> None:
    """Write direct labels beside the right end of the axes, far enough apart to be read.

    Args:
        axes: where.
        names: text, height as a share of the axes, and role of each.
        swatches: put a patch of its colour and hatch before each.
    """
    before = _SWATCH_INCHES if swatches else 0.0
    inches = axes.get_window_extent().height / axes.figure.dpi
    texts = [wrapped(text) for text, _, _ in names]
    lines = max((text.count("\n") + 1 for text in texts), default=1)
    heights = spread([height for _, height, _ in names], least=lines * _LABEL_INCHES / inches)
    for text, (_, _, role), height in zip(texts, names, heights, strict=True):
        if swatches:
            _draw_swatch(axes, role, height)
        axes.annotate(
            text,
            (1.0, height),
            xycoords="axes fraction",
            xytext=(8 + 72 * before, 0),
            textcoords="offset points",
            fontsize=Size.LABEL,
            fontweight="bold",
            color=legible(role.colour),
            va="center",
            annotation_clip=False,
        )


def _draw_swatch(axes: Axes, role: Role, height: float) -> None:
    """A patch that stays where the label is, however wide the axes become."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    beside: Any = axes.transAxes
    at = figure.dpi_scale_trans + ScaledTranslation(1.0, height, beside)
    patch = Rectangle((0.11, -0.07), 0.22, 0.14, transform=at, clip_on=False)
    patch.set(facecolor=role.colour, edgecolor="white", hatch=role.hatch, linewidth=0.0)
    axes.add_artist(patch)


def spread(heights: Sequence[float], *, least: float) -> list[float]:
    """Move labels apart so that each can be read, and none leaves the axes.

    Args:
        heights: where each belongs, as a share of the axes' height.
        least: how far apart two must be.

    Returns:
        where each goes, in the same order.
    """
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = [0.0] * len(heights)
    floor = 0.0
    for place in order:
        floor = placed[place] = max(heights[place], floor)
        floor += least
    ceiling = 1.0
    for place in reversed(order):
        ceiling = placed[place] = min(placed[place], ceiling)
        ceiling -= least
    return placed
