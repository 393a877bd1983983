"""One look per concept: colours, shapes and sizes."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib

_SETTINGS = threading.RLock()

# Okabe and Ito, "Color Universal Design" (2008): told apart with any kind of colour vision.
_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"

ALARM = "#D55E00"
"""Where the pattern broke; never used for anything else."""
INK = "#1a1a1a"
"""Text, and what has no role of its own."""
MUTED = "#6b6b6b"
"""Axes, notes; 5.3 : 1 on white."""

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
