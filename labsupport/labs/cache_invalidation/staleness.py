"""Which reads gave an old row: from a history with the events `read` and `update`.

The value of both is the number of the row's version; a service's reads are those of one client.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labsupport.history import History, Rows

ENOUGH_READS = 30
"""A service that has not learned of an update after so many reads was not told of it."""

Spans = NDArray[np.int64]


def version_of(row: Any) -> float:
    """Which update a row is of: 1 as it was at first, 0 when it is not this user's at all."""
    name = str(row.get("username")) if isinstance(row, dict) else ""
    number = name.removeprefix("ada ")
    return float(number) if number.isdecimal() else float(name == "ada")


def reads_of(history: History, row: int, since_ns: int = 0) -> Rows:
    """The reads of a service that began since then; its row in the chart is its client's + 1."""
    reads = history.select("read")
    chosen: Rows = reads[(reads["client"] == row - 1) & (reads["start_ns"] >= since_ns)]
    return chosen


def is_late(history: History, row: int, since_ns: int, update: Any) -> bool:
    """Whether a service had an older row than an update's in each of its first `ENOUGH_READS`."""
    reads = reads_of(history, row, since_ns)[:ENOUGH_READS]
    return not bool((reads["value"] >= update["value"]).any())


def stale_reads(history: History, reads: Rows, *, after: float = 0.0) -> NDArray[np.bool_]:
    """Which reads gave a row that an update had replaced, so many seconds before they began."""
    updates = history.select("update")
    done = np.searchsorted(updates["end_ns"], reads["start_ns"] - int(after * 1e9), side="right")
    return np.asarray(reads["value"] < np.concatenate([[1.0], updates["value"]])[done])


def stale_spans(history: History, *, stale: bool = True) -> Spans:
    """Stretches of each service's reads that were all stale, or all fresh: row, start, end."""
    found = []
    for client in np.unique(history.select("read")["client"]):
        reads = reads_of(history, client + 1)
        kinds = stale_reads(history, reads)
        begins = np.append(0, np.flatnonzero(np.diff(kinds)) + 1)
        edges = np.append(reads["start_ns"][begins], reads["end_ns"].max()) - history.origin_ns
        for place, first in enumerate(begins):
            if kinds[first] == stale:
                found.append((client + 1, edges[place], edges[place + 1]))
    return np.array(found, "i8").reshape(-1, 3)


def cut_spans(history: History, row: int) -> Spans:
    """When the last service was cut off: it did not read while every second update was made."""
    ends = reads_of(history, row)["end_ns"]
    found = []
    for update in history.select("update")[1::2]:
        before, after = ends[ends <= update["start_ns"]], ends[ends > update["end_ns"]]
        if len(before):
            last = after.min() if len(after) else history.origin_ns + history.elapsed_ns
            found.append((row, before.max() - history.origin_ns, last - history.origin_ns))
    return np.array(found, "i8").reshape(-1, 3)


def update_points(history: History) -> Spans:
    """When the updates were done, in the writer's row 0."""
    ends = history.select("update")["end_ns"] - history.origin_ns
    return np.column_stack([np.zeros_like(ends), ends])
