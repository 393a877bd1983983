"""One set of axes in an experiment's chart."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from labsupport.charts.style import INK, Size
from labsupport.history import History, Rows

__all__ = ["Plot", "name_at_right", "name_inches", "spread"]

_LABEL_INCHES = 0.23
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
        left_inches: the room for what stands at their left.
        right_inches: the room for the names at their right.
    """

    growth: float = 1.0
    inches: float = 1.6
    left_inches: float = 0.75
    right_inches: float = 0.35

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

    def finish(self) -> None:  # noqa: B027 (a plot may have nothing to add)
        """Write the direct labels of the finished run."""


def name_inches(names: Sequence[str], *, values: bool = False) -> float:
    """The room that direct labels need.

    Args:
        names: their texts.
        values: whether a number of up to six digits follows each.
    """
    return 0.2 + _LETTER_INCHES * (max(map(len, names), default=0) + (8 if values else 0))


def name_at_right(axes: Axes, names: Sequence[tuple[str, float, str]], *, inches: float) -> None:
    """Write direct labels beside the right end of the axes, far enough apart to be read.

    Args:
        axes: where.
        names: text, height as a share of the axes, and colour of each.
        inches: how high the axes are.
    """
    heights = spread([height for _, height, _ in names], least=_LABEL_INCHES / inches)
    for (text, _, colour), height in zip(names, heights, strict=True):
        axes.annotate(
            text,
            (1.0, height),
            xycoords="axes fraction",
            xytext=(8, 0),
            textcoords="offset points",
            fontsize=Size.LABEL,
            fontweight="bold",
            color=colour,
            va="center",
            annotation_clip=False,
        )


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
