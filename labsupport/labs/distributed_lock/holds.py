"""Who had a lock when, and who had it together with somebody else: from a history.

Its events are `asks`, `in`, `out` and `killed`; the value of `in` and `out` is a turn. Turns are
counted by Redis, after the lock was had and before it was given back, so that holds whose turns
overlap did overlap, whatever the clocks say.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labsupport.history import History


class Hold(NamedTuple):
    """A client had the lock from one turn to another; its holds are numbered from 0."""

    client: int
    number: int
    first: float
    last: float


def holds_of(history: History) -> list[Hold]:
    """All holds, in the order of their first turns."""
    entered, left = history.select("in"), history.select("out")
    found = []
    for who in np.unique(entered["client"]):
        begins = entered["value"][entered["client"] == who]
        ends = left["value"][left["client"] == who]
        # who was killed inside has no last turn, and shares it with nobody
        pairs = enumerate(zip(begins, ends, strict=False))
        found += [Hold(int(who), number, *turns) for number, turns in pairs]
    return sorted(found, key=lambda hold: hold.first)


def shared(holds: Sequence[Hold]) -> set[tuple[int, int]]:
    """The holds during which somebody else had one, too: client, and its number."""
    found: set[tuple[int, int]] = set()
    still: list[Hold] = []
    for hold in holds:
        still = [one for one in still if one.last > hold.first]
        if still:
            found |= {(one.client, one.number) for one in (*still, hold)}
        still.append(hold)
    return found


def stopped_holders(history: History, ttl_seconds: float) -> int:
    """How many stops hit a client that had the lock, and left others half its TTL to come in."""
    entered, left = history.select("in"), history.select("out")
    stops, resumes = history.select("stopped"), history.select("resumed")
    found = 0
    for stop, resume in zip(stops, resumes, strict=False):
        who, begin, end = stop["client"], stop["start_ns"], resume["start_ns"]
        # from the end of the first turn: before, others who come in are only before them
        starts = entered["end_ns"][entered["client"] == who]
        ends = left["start_ns"][left["client"] == who][: len(starts)]
        inside = ((starts[: len(ends)] < begin) & (end < ends)).any()
        found += bool(inside) and end - begin > 1.5e9 * ttl_seconds
    return found


def held_spans(history: History) -> NDArray[np.int64]:
    """When each client believed that the lock was theirs: client, start, end."""
    return _spans(history, "in", ["out", "killed"])


def wait_spans(history: History) -> NDArray[np.int64]:
    """When each client waited for the lock: client, start, end."""
    return _spans(history, "asks", ["in", "killed"])


def _spans(history: History, begin: str, ends: Sequence[str]) -> NDArray[np.int64]:
    """For each client, from each event `begin` to the next one of `ends`, or to now."""
    begins = history.select(begin)
    over = np.sort(np.concatenate([history.select(end) for end in ends]), order="start_ns")
    found = []
    for who in np.unique(begins["client"]):
        starts = begins["start_ns"][begins["client"] == who]
        theirs = np.append(
            over["start_ns"][over["client"] == who], history.origin_ns + history.elapsed_ns
        )
        stops = theirs[np.minimum(np.searchsorted(theirs, starts), len(theirs) - 1)]
        found.append(np.column_stack([np.full(len(starts), who), starts, stops]))
    spans: NDArray[np.int64] = np.concatenate([np.empty((0, 3), "i8"), *found])
    spans[:, 1:] -= history.origin_ns
    return spans
