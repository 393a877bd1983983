"""From a figure or a canvas to a picture in the notebook: PNG bytes, alt text, a place for it."""

import base64
import io
import os
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from IPython import get_ipython
from IPython.display import DisplayHandle
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from labsupport.charts.style import ALARM, CLIENTS, INK, MUTED, legible, style

DPI = 100
"""Dots per inch as shown on the page; final pictures hold twice as many, for projectors."""
_SHARPER = int(os.environ.get("LAB_SHARPER", "2"))  # 1 in CI
_COLOURS = 32
_PLAIN = (ALARM, INK, MUTED, *(colour for colour, _ in CLIENTS))
_WRITTEN = dict.fromkeys((INK, MUTED, *map(legible, _PLAIN)))
_OF_THE_STYLE = bytes(
    round(255 * (part + (1 - part) * white))
    for colours, whites in ((_PLAIN, (0.0,)), (_WRITTEN, (0.0, 1 / 3, 2 / 3)))
    for colour in colours
    for white in whites  # the edges of letters
    for part in to_rgb(colour)
)
_BAND_LINES = 16
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGBA = 6
_ZLIB_HEADER = b"\x78\x01"
_LAST_BLOCK = b"\x03\x00"


def png(figure: Figure, *, dpi: int = DPI * _SHARPER) -> bytes:
    """A figure as PNG bytes, white and opaque, so that it can be read in a dark theme."""
    pixels = io.BytesIO()
    with style():
        canvas = FigureCanvasAgg(figure)
        figure.savefig(pixels, format="rgba", dpi=dpi, facecolor="white", transparent=False)
    # the canvas's own size: 8.03 inches times the dots of an inch may be one dot less
    size = int(canvas.renderer.width), int(canvas.renderer.height)
    picture = Image.frombytes("RGBA", size, pixels.getvalue()).convert("RGB")
    # a chart has few colours: with a palette of them it takes a third of the room in the notebook
    small = io.BytesIO()
    few = picture.quantize(palette=_palette(picture), dither=Image.Dither.NONE)
    few.save(small, "png", compress_level=7)  # a fifth of the time of 9, an eighth more bytes
    return small.getvalue()


def _palette(picture: Image.Image) -> Image.Image:
    """White, the colours of the one style and its letters, and what most of a ninth of the pixels have."""
    width, height = picture.size
    ninth = picture.resize((width // 3, height // 3), Image.Resampling.NEAREST)
    palette = ninth.quantize(_COLOURS, dither=Image.Dither.NONE)
    found = np.array(palette.getpalette(), np.uint8).reshape(-1, 3)
    found[found.min(axis=1) > 244] = 255  # white is white: Pillow takes what is near
    palette.putpalette(_OF_THE_STYLE + found.tobytes())
    return palette


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


class Reel(Place):
    """A place that shows nothing and keeps the last picture."""

    def __init__(self) -> None:
        super().__init__("")
        self.picture: Picture | None = None

    def put(self, picture: Picture) -> None:
        self.picture = picture


def show(figure: LabFigure, *, text: str) -> None:
    """Show a figure below the cell.

    Args:
        figure: what to show, with its alt text.
        text: what stands for it in text; nothing that varies.
    """
    Place(text).put(Picture.of(figure, figure.alt))


class FrameEncoder:
    """Writes the frames of one canvas as PNG (ISO/IEC 15948), and compresses only what has changed.

    Pillow tries the five filters of PNG on each line, which takes three times as long on the flat
    areas of a chart. And most lines of a frame are those of the frame before: each band of lines
    is compressed by itself (a full flush ends it, RFC 1951) and kept.
    """

    def __init__(self) -> None:
        self._lines = np.empty((0, 0), np.uint8)
        self._bands: list[bytes] = []

    def encode(self, canvas: Any) -> bytes:
        """What is on a `FigureCanvasAgg` now."""
        pixels = np.asarray(canvas.buffer_rgba())
        height, width, _ = pixels.shape
        lines = np.zeros((height, 1 + width * 4), np.uint8)  # a line begins with its filter: none
        lines[:, 1:] = pixels.reshape(height, -1)
        starts = range(0, height, _BAND_LINES)
        if lines.shape != self._lines.shape:
            self._bands = [_compressed(lines[at : at + _BAND_LINES]) for at in starts]
        else:
            for number, at in enumerate(starts):
                band = slice(at, at + _BAND_LINES)
                if not np.array_equal(lines[band], self._lines[band]):
                    self._bands[number] = _compressed(lines[band])
        self._lines = lines
        end = _LAST_BLOCK + struct.pack(">I", zlib.adler32(lines.data))
        head = struct.pack(">IIBBBBB", width, height, 8, _RGBA, 0, 0, 0)
        return b"".join(
            (
                _SIGNATURE,
                _chunk(b"IHDR", head),
                _chunk(b"IDAT", _ZLIB_HEADER),
                *self._bands,
                _chunk(b"IDAT", end),
                _chunk(b"IEND", b""),
            )
        )


def _compressed(band: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """A chunk of its own for some lines, whatever comes before it."""
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15)
    return _chunk(b"IDAT", deflate.compress(band.data) + deflate.flush(zlib.Z_FULL_FLUSH))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
