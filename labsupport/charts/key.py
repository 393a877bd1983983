"""What colours, hatches and markers stand for: a list beside some axes, or lines above them."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.legend import Legend
from matplotlib.patches import Patch

from labsupport.charts.style import INK, ROLES, Size, legible

_RISE = 0.06  # inches above the axes
_LEADING = 0.06  # between two lines
_Corner: TypeAlias = Literal["lower left", "lower right"]
_LOOK: dict[str, Any] = {
    "frameon": False,
    "fontsize": Size.LABEL,
    "handlelength": 1.2,
    "handletextpad": 0.6,
}


class Entry(NamedTuple):
    """A sign, its name, and the colour in which the name is written."""

    name: str
    colour: str
    sign: Artist


def area(name: str, role: str) -> Entry:
    """The entry of an area in a role's colour and hatch."""
    look = ROLES[role]
    patch = Patch(facecolor=look.colour, edgecolor="white", hatch=look.hatch, linewidth=0.0)
    return Entry(name, legible(look.colour), patch)


def draw_key(axes: Axes, entries: Sequence[Entry], *, beside: bool) -> None:
    """Write the key of axes that stand alone: beside them, or at the right of their label."""
    if beside:
        draw_beside(axes, entries)
    elif entries:
        inches = axes.get_window_extent().height / axes.figure.dpi
        axes.add_artist(_line(axes, entries, "lower right", (1.0, 1 + _RISE / inches)))


def draw_beside(axes: Axes, entries: Sequence[Entry], *, title: str = "") -> None:
    """List the entries at the right of the axes.

    Args:
        axes: where.
        entries: from the top.
        title: what all of them are about.
    """
    if not entries:
        return
    key = axes.legend(
        handles=[entry.sign for entry in entries],
        labels=[entry.name for entry in entries],
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        borderaxespad=0.4,
        title=title or None,
        title_fontsize=Size.LABEL,
        alignment="left",
        **_LOOK,
    )
    key.get_title().set(color=INK)
    _colour(key, entries)


def in_lines(
    axes: Axes, entries: Sequence[Entry], *, room: float, renderer: Any
) -> tuple[list[list[Entry]], float]:
    """The entries in as few lines as there is room for, and how high these are, in inches.

    Args:
        axes: where.
        entries: from the left.
        room: how long a line may be, in inches.
        renderer: measures them.
    """
    dpi = axes.figure.dpi

    def box_of(some: Sequence[Entry]) -> Any:
        return _line(axes, some, "lower left", (0.0, 1.0)).get_window_extent(renderer)

    lines: list[list[Entry]] = []
    for entry in entries:
        if not lines or box_of([*lines[-1], entry]).width > room * dpi:
            lines.append([])
        lines[-1].append(entry)
    return lines, sum(box_of(line).height / dpi + _LEADING for line in lines)


def draw_above(axes: Axes, lines: Sequence[Sequence[Entry]], *, rise: float, renderer: Any) -> None:
    """Write lines of entries above the axes, the lowest so many inches above them."""
    dpi = axes.figure.dpi
    inches = axes.get_window_extent(renderer).height / dpi
    for line in reversed(lines):
        key = _line(axes, line, "lower left", (0.0, 1 + rise / inches))
        rise += key.get_window_extent(renderer).height / dpi + _LEADING
        axes.add_artist(key)


def union(lists: Iterable[Sequence[Entry]]) -> list[Entry]:
    """The entries of several runs, each name once, in the order of the lists."""
    found: list[Entry] = []
    for entries in lists:
        at = 0
        for entry in entries:
            names = [one.name for one in found]
            if entry.name in names:
                at = names.index(entry.name) + 1
            else:
                found.insert(at, entry)
                at += 1
    return found


def _line(axes: Axes, entries: Sequence[Entry], corner: _Corner, at: tuple[float, float]) -> Legend:
    """Entries beside each other, with a corner at a point, in parts of the axes; not yet in the axes."""
    key = Legend(
        axes,
        [entry.sign for entry in entries],
        [entry.name.replace("\n", " ") for entry in entries],
        loc=corner,
        bbox_to_anchor=at,
        bbox_transform=axes.transAxes,
        ncols=len(entries),
        borderpad=0.0,
        borderaxespad=0.0,
        columnspacing=1.2,
        **_LOOK,
    )
    _colour(key, entries)
    return key


def _colour(key: Legend, entries: Sequence[Entry]) -> None:
    for text, entry in zip(key.get_texts(), entries, strict=True):
        text.set(color=entry.colour, fontweight="bold")
