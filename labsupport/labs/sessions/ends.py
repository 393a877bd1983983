"""When each session began, ended and ought to have ended: from the history of `SessionLifetimes`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labsupport.history import History
from labsupport.labs.sessions.clients import HELD_BEFORE, LOGINS_EACH

_SLACK_NS = 5e6  # in the chart only
_USERS = ("comes back", "stays away", "logs out")
ROWS = (*_USERS, *(f"late request {place}" for place in range(1, len(HELD_BEFORE) + 1)))
"""Whose sessions are drawn."""

Spans = NDArray[np.int64]


@dataclass(frozen=True)
class Ends:
    """When sessions ought to end.

    Args:
        idle_seconds: how long one may be idle.
        absolute_seconds: how long it may last.
    """

    idle_seconds: float
    absolute_seconds: float

    def valid(self, history: History) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """How many of the sessions that are there are still good, whenever Redis was asked."""
        samples = history.select("there")
        _, begun, end, _ = self._sessions(history).T[:, :, None]
        good = (begun < samples["end_ns"]) & (samples["start_ns"] < end + _SLACK_NS)
        return samples["start_ns"] - history.origin_ns, np.minimum(good.sum(0), samples["value"])

    def valid_spans(self, history: History) -> Spans:
        """When the sessions were good: row, start, end."""
        now = history.origin_ns + history.elapsed_ns
        found = [
            (number, begun, min(end, now)) for number, begun, end, _ in self._sessions(history)
        ]
        return _in_rows(history, found)

    def late_spans(self, history: History) -> Spans:
        """When somebody was let in after the end: row, start, end."""
        now = history.origin_ns + history.elapsed_ns
        back = {one["value"]: one["end_ns"] for one in history.select("back")}
        found = []
        for number, _, end, used in self._sessions(history):
            if number in back:
                found.append((number, back[number], now))
            elif used > end + _SLACK_NS:
                found.append((number, end, used))
        return _in_rows(history, found)

    def _sessions(self, history: History) -> NDArray[np.float64]:
        """A row for each login: its number, when it began, should have ended, was last used."""
        over, seen = history.select("logout"), history.select("seen")
        idle, absolute = self.idle_seconds * 1e9, self.absolute_seconds * 1e9
        found = []
        for login in history.select("login"):
            number = float(login["value"])
            used = np.append(login["end_ns"], seen[seen["value"] == number]["end_ns"])
            pauses = np.flatnonzero(np.diff(used) > idle + _SLACK_NS)
            end = min(
                used[pauses[0] if len(pauses) else -1] + idle,
                login["end_ns"] + absolute,
                *over[over["value"] == number]["end_ns"],
            )
            found.append((number, login["start_ns"], end, used[-1]))
        return np.array(found, float).reshape(-1, 4)


def sessions_there(history: History) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many sessions were in Redis, whenever it was asked."""
    samples = history.select("there")
    return samples["start_ns"] - history.origin_ns, samples["value"]


def late_requests(history: History) -> Spans:
    """When a held request went on: row, moment."""
    requests = history.select("late")
    rows = np.arange(len(requests)) + len(_USERS)
    held = (requests["value"] == 1) & (rows < len(ROWS))
    return np.column_stack([rows[held], requests["end_ns"][held] - history.origin_ns])


def logouts(history: History) -> Spans:
    """When somebody logged out: row, moment."""
    over = history.select("logout")
    rows = np.array([_row(number) for number in over["value"]], "i8")
    found = np.column_stack([rows, over["end_ns"] - history.origin_ns])
    return found[found[:, 0] < len(ROWS)]


def _in_rows(history: History, spans: Sequence[tuple[float, float, float]]) -> Spans:
    """Spans with the number of a login, as the chart wants them."""
    rows = [(_row(number), start, end) for number, start, end in spans]
    found = np.array(rows).reshape(-1, 3).astype("i8")
    return found[found[:, 0] < len(ROWS)] - [0, history.origin_ns, history.origin_ns]


def _row(number: float) -> int:
    """The row of a login in the chart, or one that is not there."""
    if number < 0:
        return len(_USERS) - 1 - int(number)
    user = int(number) // LOGINS_EACH
    return user if user < len(_USERS) else len(ROWS)
