"""From a figure to a picture in the notebook: PNG bytes, alt text, a place that can be updated."""

import base64
import io
from dataclasses import dataclass
from typing import Any

from IPython import get_ipython
from IPython.display import DisplayHandle
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from labsupport.charts.style import style

DPI = 100
"""Dots per inch as shown on the page; final pictures hold twice as many, for projectors."""
_SHARPER = 2
_COLOURS = 64


def png(figure: Figure, *, dpi: int = DPI * _SHARPER) -> bytes:
    """A figure as PNG bytes, white and opaque, so that it can be read in a dark theme."""
    buffer = io.BytesIO()
    with style():
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", transparent=False)
    # a chart has few colours: with a palette of them it takes a third of the room in the notebook
    small = io.BytesIO()
    with Image.open(buffer) as picture:
        few = picture.convert("RGB").quantize(_COLOURS, dither=Image.Dither.NONE)
        few.save(small, "png", optimize=True)
    return small.getvalue()


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A finished figure that shows itself, with a sentence for those who do not see it.

    Args:
        data: PNG bytes.
        alt: what the figure shows, in a full sentence.
        width: of the picture on the page, in pixels.
        height: likewise.
    """

    data: bytes
    alt: str
    width: int
    height: int

    @classmethod
    def of(cls, figure: Figure, alt: str) -> "Picture":
        """Draw a figure at its best quality."""
        width, height = (round(inches * DPI) for inches in figure.get_size_inches())
        return cls(png(figure), alt, width, height)

    def bundle(self, text: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a display takes: data and metadata.

        Args:
            text: what stands for the picture where there are none; CI compares it, so it holds
                nothing that varies.
        """
        look = {"alt": self.alt, "width": self.width, "height": self.height}
        encoded = base64.b64encode(self.data).decode()
        return {"image/png": encoded, "text/plain": text}, {"image/png": look}


class LabFigure(Figure):
    """A figure that shows itself as a cell's last value, also without pyplot.

    Attributes:
        alt: what it shows, in a full sentence.
    """

    alt: str = ""

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return Picture.of(self, self.alt).bundle(repr(self))


class Place:
    """A place in the output of the cell, whose picture can be replaced; nothing outside a notebook.

    Args:
        text: the text that stands for it.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._handle: DisplayHandle | None = None
        shell = get_ipython()
        self._visible = getattr(shell, "kernel", None) is not None

    def reserve(self) -> None:
        """Take the place now, in the cell that runs, for pictures that a thread will put there."""
        if self._visible and self._handle is None:
            self._handle = DisplayHandle()
            self._handle.display({}, raw=True)

    def put(self, picture: Picture) -> None:
        """Show a picture, in place of the one before."""
        if not self._visible:
            return
        data, metadata = picture.bundle(self._text)
        if self._handle is None:
            self._handle = DisplayHandle()
            self._handle.display(data, raw=True, metadata=metadata)
        else:
            self._handle.update(data, raw=True, metadata=metadata)


def show(figure: LabFigure, *, text: str) -> None:
    """Show a figure below the cell.

    Args:
        figure: what to show, with its alt text.
        text: what stands for it in text; nothing that varies.
    """
    Place(text).put(Picture.of(figure, figure.alt))
