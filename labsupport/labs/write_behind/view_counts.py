"""How many page views were acknowledged, shown and persisted, and when; and the charts of it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labsupport.charts import INK, Bars, Line, Lines, Part, Size
from labsupport.history import History
from labsupport.labs.write_behind.page_viewers import POLL_SECONDS

Polls = NDArray[np.float64]


class Counts(Lines):
    """What was acknowledged, is shown and is persisted, and when the server was killed."""

    inches = 2.4

    def __init__(self) -> None:
        lines = (
            _line("acknowledged", "limit", 1),
            _line("shown", "work", 2),
            _line("persisted", "good", 3),
        )
        gap = "acknowledged", "shown", "alarm", "not shown"
        super().__init__("page views", lines, top=100.0, gap=gap)

    def add(self, rows: Any, history: History) -> None:
        super().add(rows, history)
        self._killed = history.seconds(history.select("outage")["start_ns"][:1])

    def finish(self) -> None:
        super().finish()
        for moment in self._killed:
            self._axes.axvline(moment, color=INK, linewidth=1.5, linestyle=":")
            self._axes.text(
                moment - 0.01 * self._axes.get_xlim()[1],
                0.97 * self._axes.get_ylim()[1],
                "kill -9",
                fontsize=Size.LABEL,
                fontweight="bold",
                ha="right",
                va="top",
            )


class Backlog(Bars):
    """How many views were shown and not persisted."""

    inches = 1.0

    def __init__(self) -> None:
        super().__init__(
            "backlog: views shown, and not persisted",
            (Part("waiting", "waiting", _backlog_per_span),),
            noun=("view", "views"),
            per_seconds=POLL_SECONDS,
            top=100.0,
        )


def largest_backlog(history: History) -> float:
    """How many views were shown and not persisted at most."""
    return float(np.max(_backlog(_polls(history)), initial=0.0))


def latest(history: History, event: str) -> float:
    """The value of the latest event of a kind; 0 if there was none."""
    values = history.select(event)["value"]
    return float(values[-1]) if len(values) else 0.0


def _polls(history: History) -> Polls:
    """A row for each look of the watcher: ns since the start, views acknowledged, shown, persisted."""
    persisted, shown = history.select("persisted"), history.select("shown")
    at = persisted["start_ns"]
    views = np.searchsorted(np.sort(history.select("view")["end_ns"]), at, side="right")
    place = np.searchsorted(shown["start_ns"], at, side="right")
    told = np.concatenate([[0.0], shown["value"]])[place]
    moments = np.maximum(at - history.origin_ns, 0)
    return np.column_stack([moments, views, told, persisted["value"]])


def _line(name: str, role: str, column: int) -> Line:
    def points(history: History) -> tuple[NDArray[np.int64], Polls]:
        polls = _polls(history)
        return polls[:, 0].astype("i8"), polls[:, column]

    return Line(name, role, points)


def _backlog(polls: Polls) -> Polls:
    return np.maximum(polls[:, 2] - polls[:, 3], 0)


def _backlog_per_span(history: History, span_ns: int) -> NDArray[np.int64]:
    polls = _polls(history)
    heights = np.zeros(history.elapsed_ns // span_ns + 1, "i8")
    np.maximum.at(heights, polls[:, 0].astype("i8") // span_ns, _backlog(polls).astype("i8"))
    return heights
