"""In which state each job of a queue was when, as the workers' events tell it."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from labsupport.history import History

_STATES = ("waiting", "in progress", "done", "dead", "orphaned")
_NEXT = {
    "put": "waiting",
    "begun": "in progress",
    "handled": "done",
    "dead": "dead",
    "failed": "orphaned",
    "killed": "orphaned",
}

Heights = Callable[[History, int], NDArray[np.int64]]


def jobs_of(history: History, event: str) -> list[int]:
    """The numbers of the jobs that an event happened to, in the order of time."""
    return [int(number) for number in history.select(event)["value"]]


class States:
    """How many jobs were in each state at the end of each span of a run.

    A job whose worker is killed, or that fails, is "orphaned" until somebody begins it again.
    """

    def __init__(self) -> None:
        self._key: tuple[int, int, int] | None = None
        self._levels: dict[str, NDArray[np.int64]] = {}

    def of(self, state: str) -> Heights:
        """The heights of one state, as a `Part` wants them."""

        def heights(history: History, span_ns: int) -> NDArray[np.int64]:
            key = (len(history), span_ns, history.elapsed_ns // span_ns)
            if key != self._key:
                self._key, self._levels = key, _levels(history, span_ns)
            return self._levels[state]

        return heights


def _levels(history: History, span_ns: int) -> dict[str, NDArray[np.int64]]:
    events = [
        (int(row["end_ns"]), name, int(row["value"]), int(row["client"]))
        for name in _NEXT
        for row in history.select(name)
    ]
    spans = max(history.elapsed_ns, 0) // span_ns + 1
    levels = {state: np.zeros(spans, "i8") for state in _STATES}
    now: dict[int, str] = {}
    held: dict[int, int] = {}  # by client: the job that it has begun and not handled
    for at, name, value, client in sorted(events):
        job = held.pop(value, -1) if name == "killed" else value
        if name == "begun":
            held[client] = job
        elif name in {"handled", "failed"}:
            held.pop(client, None)
        if job < 0 or now.get(job) in {"done", "dead"}:
            continue  # done is done, also when it is done again
        span = min(max(at - history.origin_ns, 0) // span_ns, spans - 1)
        if job in now:
            levels[now[job]][span] -= 1
        now[job] = _NEXT[name]
        levels[now[job]][span] += 1
    return {state: np.cumsum(steps) for state, steps in levels.items()}


def _slots(history: History) -> dict[int, int]:
    hired = history.select("hired")
    return {int(row["client"]): int(row["value"]) for row in hired}


def _array(rows: Sequence[tuple[int, ...]], width: int) -> NDArray[np.int64]:
    return np.array(rows, "i8").reshape(-1, width)


def lanes_busy(history: History) -> NDArray[np.int64]:
    """When each worker's place was busy with a job: place, start, end."""
    slots, origin = _slots(history), history.origin_ns
    killed = {int(row["value"]): int(row["start_ns"]) for row in history.select("killed")}
    ended: defaultdict[tuple[int, int], list[int]] = defaultdict(list)  # a try each
    for event in ("handled", "failed"):
        for row in history.select(event):
            ended[int(row["client"]), int(row["value"])].append(int(row["end_ns"]))
    doomed = {(int(r["client"]), int(r["value"])) for r in history.select("doomed")}
    rows = []
    for row in history.select("begun"):
        client, job, start = int(row["client"]), int(row["value"]), int(row["start_ns"])
        last = killed.get(client, origin + history.elapsed_ns)
        tries = () if (client, job) in doomed else ended[client, job]
        end = min((one for one in tries if one >= start), default=last)
        if client in slots:
            rows.append((slots[client], start - origin, end - origin))
    return _array(rows, 3)


def lanes_dead(history: History) -> NDArray[np.int64]:
    """When each worker's place was empty, from a kill to the next worker: place, start, end."""
    slots = _slots(history)
    hired = {int(row["client"]): int(row["start_ns"]) for row in history.select("hired")}
    rows = [
        (
            slots[int(row["client"])],
            int(row["start_ns"]) - history.origin_ns,
            hired[int(row["client"])] - history.origin_ns,
        )
        for row in history.select("killed")
        if int(row["client"]) in slots
    ]
    return _array(rows, 3)


def lanes_killed(history: History) -> NDArray[np.int64]:
    """When a worker was killed: place and moment."""
    return lanes_dead(history)[:, :2]
