"""One set of axes in an experiment's chart."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from labsupport.charts.style import INK, Size
from labsupport.history import History, Rows

__all__ = ["Panel"]


class Panel(ABC):
    """What one set of axes shows of a history; a panel belongs to one run and is drawn once.

    Subclasses draw on `prepare`, count in `add`, and set the new data of what they drew in `show`.

    Args:
        label: what the y axis shows, with its unit.

    Attributes:
        growth: by how much a limit that has become too low is raised beyond what is needed; more
            than 1 while the chart is live, since each new limit costs a new background.
    """

    growth: float = 1.0

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

    def finish(self) -> None:  # noqa: B027 (a panel may have nothing to add)
        """Write the direct labels of the finished run."""
