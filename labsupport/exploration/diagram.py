"""The sequence diagram of a counterexample: a lane for each client, Redis and the database."""

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from labsupport.charts import ALARM, CLIENTS, INK, MUTED, Size, style
from labsupport.explorer import Step
from labsupport.explorer.names import shorten

__all__ = ["draw"]

_STORES = {"redis": "Redis", "database": "Database"}
_ROW_INCHES = 0.46
_HEAD_INCHES = 1.35
_WIDEST_REASON = 88  # characters in a line
_WIDEST_LABEL = 64
_LINE = 0.42  # of a row, for each line more of a label


def draw(steps: Sequence[Step], clients: Sequence[str], title: str, reason: str) -> Figure:
    """Draw a schedule from top to bottom.

    Args:
        steps: the schedule; crashes and expiries, or else the last step, are in the alarm colour.
        clients: the clients' names; each has a lane, a colour and a marker.
        title: the finding.
        reason: what is wrong at the end.
    """
    stores = [name for name in _STORES if any(step.store == name for step in steps)]
    lanes = [*clients, *stores]
    told = textwrap.wrap(reason, _WIDEST_REASON, max_lines=3, placeholder=" …")
    fatal = _fatal(steps)
    texts = [_text(step, alarm=row in fatal) for row, step in enumerate(steps)]
    places = list(itertools.accumulate(1 + _LINE * text.count("\n") for text in texts))
    places = [place - 1 for place in places]
    bottom = places[-1] + 1
    rows = bottom + 0.6 * (max(len(told), 1) - 1)
    height = _HEAD_INCHES + _ROW_INCHES * (rows + 1)
    with style():
        figure = Figure(figsize=(10, height), facecolor="white", layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, loc="left", fontsize=Size.TITLE, fontweight="bold", color=INK)
        axes.set_xlim(-0.5, len(lanes) - 0.4)
        axes.set_ylim(rows + 0.5, -1.6)
        axes.axis("off")
        _heads(axes, clients, stores, places, steps)
        for row, step in enumerate(steps):
            axes.text(
                -0.45, places[row], f"{row + 1}", fontsize=Size.NOTE, color=MUTED, va="center"
            )
            _step(axes, places[row], step, texts[row], lanes, list(clients), alarm=row in fatal)
        axes.text(
            -0.45,
            bottom - 0.15,
            "\n".join(told),
            fontsize=Size.LABEL,
            color=ALARM,
            fontweight="bold",
            va="top",
            parse_math=False,
        ).set_in_layout(False)  # a long sentence must not squeeze the lanes
    return figure


def _fatal(steps: Sequence[Step]) -> set[int]:
    """The adversary's moves; where there is none, the last step."""
    moves = {row for row, step in enumerate(steps) if step.move not in {"step", "timeout"}}
    return moves or {len(steps) - 1}


def _heads(
    axes: Axes,
    clients: Sequence[str],
    stores: Sequence[str],
    places: Sequence[float],
    steps: Sequence[Step],
) -> None:
    for lane, name in enumerate([*clients, *(_STORES[store] for store in stores)]):
        client = lane < len(clients)
        colour = CLIENTS[lane % len(CLIENTS)][0] if client else MUTED
        end = next(
            (
                place
                for place, s in zip(places, steps, strict=True)
                if client and s.client == name and s.move == "crash"
            ),
            places[-1] + 0.6,
        )
        axes.plot([lane, lane], [-0.85, end], color=colour, lw=2 if client else 1.2, zorder=1)
        axes.text(
            lane,
            -1.1,
            name,
            ha="center",
            va="center",
            fontsize=Size.LABEL,
            fontweight="bold",
            color="white",
            parse_math=False,
            bbox={"boxstyle": "round,pad=0.45", "facecolor": colour, "edgecolor": "none"},
        )


def _text(step: Step, *, alarm: bool) -> str:
    """The label; a step that decides is shown whole, on as many lines as it takes."""
    if step.move in {"pass", "expire"}:
        return str(step)
    text = str(step) if alarm else shorten(str(step), _WIDEST_LABEL)
    return "\n".join(textwrap.wrap(text, _WIDEST_LABEL, break_long_words=False))


def _step(
    axes: Axes,
    row: float,
    step: Step,
    text: str,
    lanes: Sequence[str],
    clients: Sequence[str],
    *,
    alarm: bool,
) -> None:
    to = lanes.index(step.store) if step.store in lanes else len(clients)
    at = clients.index(step.client) if step.client in clients else to
    base, marker = CLIENTS[at % len(CLIENTS)] if step.client in clients else (INK, "D")
    colour = ALARM if alarm else base
    weight = "bold" if alarm else "normal"
    note: dict[str, Any] = {
        "fontsize": Size.NOTE,
        "color": ALARM if alarm else INK,  # the clients' colours are too light for small text
        "fontweight": weight,
        "parse_math": False,
        "path_effects": [withStroke(linewidth=4, foreground="white")],
    }
    if step.move == "crash":
        axes.plot(at, row, marker="X", ms=15, color=ALARM, mec="white", zorder=4)
        axes.text(at + 0.1, row - 0.02, text, va="center", **note)
        return
    if step.move == "pass":
        axes.axhspan(row - 0.28, row + 0.28, color=ALARM, alpha=0.12, lw=0, zorder=0)
        axes.text(-0.2, row, f"time passes: {step.label}", va="center", zorder=3, **note)
        return
    if step.move == "stuck":
        axes.plot(at, row, marker="s", ms=13, mfc="white", mec=ALARM, mew=2.5, zorder=4)
        axes.text(at + 0.1, row, text, va="center", **note)
        return
    if step.move == "expire":
        axes.plot(to, row, marker="o", ms=13, mfc="white", mec=ALARM, mew=2.5, zorder=4)
        axes.text(to - 0.1, row, str(step), va="center", ha="right", **note)
        return
    axes.annotate(
        "",
        xy=(to, row),
        xytext=(at, row),
        arrowprops={
            "arrowstyle": "-|>",
            "color": colour,
            "lw": 3 if alarm else 1.8,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 16,
        },
        zorder=2,
    )
    axes.plot(at, row, marker=marker, ms=10, color=colour, mec="white", zorder=4)
    if step.move == "lose":  # the command arrives, what comes back does not
        axes.plot((at + to) / 2, row + 0.24, marker="x", ms=11, color=ALARM, mew=3, zorder=4)
        axes.plot([(at + to) / 2, to], [row + 0.24] * 2, color=ALARM, lw=1.8, ls="--", zorder=2)
    axes.text(at + 0.08, row - 0.1, text, va="bottom", zorder=3, **note)
