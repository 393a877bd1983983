"""One look per concept: colours, shapes and sizes."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib
from matplotlib.colors import to_hex, to_rgb

_SETTINGS = threading.RLock()
_DIGITS = 4
FIXED = "\N{NO-BREAK SPACE}"
"""A number and its unit stay in one line."""
_CONTRAST = 4.5
_SHARES = (0.2126, 0.7152, 0.0722)

# Okabe and Ito, "Color Universal Design" (2008): told apart with any kind of colour vision.
_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"

ALARM = "#D55E00"
"""Where the pattern broke; never used for anything else."""
INK = "#1a1a1a"
"""Text, and what has no role of its own."""
MUTED = "#6b6b6b"
"""Axes, notes; 5.3 : 1 on white."""

GROUND = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
"""Of a label among the lines of a grid: none runs through its letters."""

CLIENTS = (
    (_BLUE, "o"),
    (_ORANGE, "s"),
    (_GREEN, "^"),
    (_PURPLE, "D"),
    (_SKY, "v"),
    (INK, "P"),
)
"""Colour and marker of the first, second, ... client."""


class Size:
    """The three sizes of text, in points."""

    TITLE = 18
    LABEL = 13
    NOTE = 11.5


@dataclass(frozen=True, slots=True)
class Role:
    """How a concept looks: always in this colour, and always with a second cue."""

    colour: str
    marker: str = "o"
    dashes: str = "-"
    hatch: str = ""


ROLES = {
    "alarm": Role(ALARM, "X", "-", "//"),
    "work": Role(_BLUE, "o"),
    "good": Role(_GREEN, "^"),
    "done": Role(_GREEN, "^", "-", "|"),  # beside "work" in greys, too
    "waiting": Role(_ORANGE, "s", ":", "...."),
    "median": Role(_BLUE, "o", "-"),
    "tail": Role(INK, "D", "--"),
    "limit": Role(INK, "", ":"),
    "second": Role(_PURPLE, "D", "-.", "\\\\"),
    "gone": Role(MUTED, "v", ":", "xx"),
}
"""What charts of all experiments share: a role, and its look."""


@contextmanager
def style() -> Iterator[None]:
    """The settings of matplotlib for all figures of the lab; what was set before comes back."""
    # one thread at a time: otherwise the later one would take the lab's settings for the reader's
    with (
        _SETTINGS,
        matplotlib.rc_context(
            {
                "axes.axisbelow": True,
                "axes.edgecolor": MUTED,
                "axes.facecolor": "white",
                "axes.grid": True,
                "axes.grid.axis": "y",
                "axes.labelcolor": INK,
                "axes.linewidth": 1.0,
                "axes.spines.right": False,
                "axes.spines.top": False,
                "figure.facecolor": "white",
                "font.family": "DejaVu Sans",
                "font.size": Size.NOTE,
                "grid.color": "#e3e3e3",
                "grid.linewidth": 0.8,
                "lines.solid_capstyle": "round",
                "savefig.facecolor": "white",
                "svg.hashsalt": "labsupport",
                "text.color": INK,
                "text.parse_math": False,
                "xtick.color": MUTED,
                "xtick.labelcolor": INK,
                "xtick.labelsize": Size.NOTE,
                "ytick.color": MUTED,
                "ytick.labelcolor": INK,
                "ytick.labelsize": Size.NOTE,
            }
        ),
    ):
        yield


def luminance(colour: str) -> float:
    """How light a colour is, from 0 to 1 (WCAG 2.1, "relative luminance")."""
    parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return sum(share * part for share, part in zip(_SHARES, parts, strict=True))


def legible(colour: str) -> str:
    """A colour as small text on white: as dark as it takes for 4.5 : 1 (WCAG 2.1, 1.4.3)."""
    parts = to_rgb(colour)
    while 1.05 / (luminance(to_hex(parts)) + 0.05) < _CONTRAST:
        red, green, blue = (0.97 * part for part in parts)
        parts = red, green, blue
    return to_hex(parts)


def legible_on(colour: str) -> str:
    """White as text on a colour, or ink where white would be too faint."""
    return "white" if 1.05 / (luminance(colour) + 0.05) >= _CONTRAST else INK


def number(value: float, *, digits: int = _DIGITS) -> str:
    """A number as people read it: thousands apart, and never a power of ten.

    Args:
        value: the number.
        digits: how many count; a whole part is written out all the same.
    """
    if not math.isfinite(value):
        return "–"
    places = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
    text = f"{value:,.{max(places, 0)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", "−")


def duration(milliseconds: float) -> str:
    """A time as people say it: in seconds, or in milliseconds if it is shorter than one."""
    if milliseconds >= 1000:
        return f"{number(milliseconds / 1000, digits=2)}{FIXED}s"
    return f"{number(milliseconds, digits=2 if milliseconds >= 10 else 1)}{FIXED}ms"
