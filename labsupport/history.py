"""What happened: timestamped events of all workers, as a DataFrame.

Each worker process writes into a ring file that is mapped into its memory, so that an event costs
a fraction of a microsecond and is there to be read even after the writer was killed with -9.
"""

import itertools
import mmap
import os
import struct
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from labsupport.errors import InvalidSettingError, WorkerError

if TYPE_CHECKING:
    import pandas as pd

# The file: the names, then the slots. A slot: start, end, value, client, name, and last, since it is
# what makes the slot valid, its sequence number + 1. A name is there before the first slot that has it;
# a count of them would be 0 for a moment whenever it changes, as struct clears what it writes to.
_NAME_BYTES = 32
_MOST_NAMES = 127
_HEADER_BYTES = _NAME_BYTES * _MOST_NAMES
_PACKING = struct.Struct("=qqdiiq")  # it writes one field after the other
_SLOT_BYTES = _PACKING.size
_SLOT = np.dtype(
    [
        ("start_ns", "i8"),
        ("end_ns", "i8"),
        ("value", "f8"),
        ("client", "i4"),
        ("event", "i4"),
        ("sequence", "i8"),
    ]
)
_ROW = np.dtype([*_SLOT.descr[:-1], ("process", "i4")])
_COMMON = list(_SLOT.names or ())[:-1]
_READ_AHEAD = 128  # slots; more at once when there is more
_MOST_AHEAD = 8192
_pack = _PACKING.pack_into

Rows: TypeAlias = NDArray[np.void]
"""Events as a structured array: start_ns, end_ns, value, client, event (a number), process."""


class Recorder:
    """Writes the events of one process; safe to use from all its threads.

    Args:
        path: the ring file; it is made if it is not there.
        capacity: how many events it holds before the oldest is overwritten; a power of two.
    """

    def __init__(self, path: Path, *, capacity: int = 1 << 17) -> None:
        self._map = _open(path, capacity, mmap.ACCESS_WRITE)
        self._mask = capacity - 1
        self._next = itertools.count()  # its next() is atomic: each thread gets slots of its own
        self._names: dict[str, int] = {}
        self._lock = threading.Lock()

    def record(
        self, event: str, client: int, start_ns: int, end_ns: int, value: float = 0.0
    ) -> None:
        """Record that something happened.

        Args:
            event: its name, e.g. "request".
            client: the number of the client that it happened to.
            start_ns: when it began, by `time.monotonic_ns`.
            end_ns: when it ended.
            value: what belongs to it, e.g. 1.0 for a right answer.
        """
        try:
            name = self._names[event]
        except KeyError:
            name = self._register(event)
        sequence = next(self._next)
        at = _HEADER_BYTES + (sequence & self._mask) * _SLOT_BYTES
        _pack(self._map, at, start_ns, end_ns, value, client, name, sequence + 1)

    def _register(self, event: str) -> int:
        text = event.encode()
        with self._lock:
            if event in self._names:
                return self._names[event]
            number = len(self._names)
            if number == _MOST_NAMES or len(text) > _NAME_BYTES:
                raise InvalidSettingError(
                    f"The event {event!r} has too long a name, or is one too many.",
                    f"Use at most {_MOST_NAMES} names of at most {_NAME_BYTES} bytes.",
                )
            at = _NAME_BYTES * number
            self._map[at : at + len(text)] = text
            self._names[event] = number
            return number


class History:
    """Reads the events of all workers, also while they write.

    Attributes:
        origin_ns: the start of the run, by `time.monotonic_ns`; seconds count from here.
    """

    def __init__(self) -> None:
        self.origin_ns = 0
        self._over_ns = 0
        self._rings: list[_Ring] = []
        self._numbers: dict[str, int] = {}
        self._chunks: list[Rows] = []

    def add(self, path: Path, *, process: int, capacity: int = 1 << 17) -> None:
        """Read one more ring file, which is made if it is not there.

        Args:
            path: the file that a `Recorder` writes; it may be unlinked when both have opened it.
            process: the number of the process.
            capacity: the same as the recorder's.
        """
        self._rings.append(_Ring(path, process, capacity))

    def read(self) -> Rows:
        """Take in what was recorded since the last call, and return it.

        Raises:
            WorkerError: a ring was overwritten before it was read, so that events are missing.
        """
        new = [rows for ring in self._rings if len(rows := ring.read(self._numbers))]
        if not new:
            return np.empty(0, _ROW)
        rows = np.concatenate(new)
        self._chunks.append(rows)
        return rows

    def rows(self) -> Rows:
        """All that was read so far, as a structured array in no particular order."""
        if len(self._chunks) != 1:
            self._chunks = [np.concatenate([np.empty(0, _ROW), *self._chunks])]
        return self._chunks[0]

    def __len__(self) -> int:
        return sum(map(len, self._chunks))

    @property
    def elapsed_ns(self) -> int:
        """How long the run has gone on, or went on; 0 before it."""
        if not self.origin_ns:
            return 0
        return (self._over_ns or time.monotonic_ns()) - self.origin_ns

    def end(self) -> None:
        """The run is over: what comes now is no longer part of it."""
        self.read()
        self._over_ns = time.monotonic_ns()

    def until(self, seconds: float) -> "History":
        """What was known of the run so long after its start, in the order in which it became known."""
        found = History()
        found.origin_ns = self.origin_ns
        found._over_ns = min(self.origin_ns + int(seconds * 1e9), self._over_ns or 1 << 62)
        found._numbers = self._numbers
        rows = self.rows()
        rows = rows[rows["end_ns"] <= found._over_ns]
        found._chunks = [rows[np.argsort(rows["end_ns"], kind="stable")]]
        return found

    def number(self, event: str) -> int:
        """The number that stands for an event's name in `Rows`."""
        return self._numbers.setdefault(event, len(self._numbers))

    def select(self, event: str) -> Rows:
        """The rows of one kind of event, in the order in which they began."""
        rows = self.rows()
        chosen = rows[rows["event"] == self.number(event)]
        ordered: Rows = chosen[np.argsort(chosen["start_ns"], kind="stable")]
        return ordered

    def seconds(self, times_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Times in seconds since the start of the run."""
        return np.asarray((times_ns - self.origin_ns) / 1e9)

    def frame(self) -> "pd.DataFrame":
        """All events in the order in which they ended.

        Returns:
            columns client, process, event, start_seconds, end_seconds, value.
        """
        import pandas as pd  # not above: the workers import this module, and never need it

        rows = self.rows()
        rows = rows[np.argsort(rows["end_ns"], kind="stable")]
        return pd.DataFrame(
            {
                "client": rows["client"],
                "process": rows["process"],
                "event": pd.Categorical.from_codes(rows["event"], list(self._numbers)),
                "start_seconds": self.seconds(rows["start_ns"]),
                "end_seconds": self.seconds(rows["end_ns"]),
                "value": rows["value"],
            }
        )


class _Ring:
    """The reader of one process's ring file."""

    def __init__(self, path: Path, process: int, capacity: int) -> None:
        self._map = _open(path, capacity, mmap.ACCESS_READ)
        self._slots: Rows = np.frombuffer(self._map, _SLOT, offset=_HEADER_BYTES)
        self._sequences: NDArray[np.int64] = self._slots["sequence"]
        self._process = process
        self._next = 0
        self._holes: list[int] = []  # slots that a thread has taken and not yet finished
        self._codes: list[int] = []

    def read(self, numbers: dict[str, int]) -> Rows:
        """What was written since the last call."""
        found = [self._take(np.array(self._holes, "i8"))] if self._holes else []
        ahead = _READ_AHEAD
        while True:
            rows = self._take(np.arange(self._next, self._next + ahead))
            found.append(rows)
            if len(rows) < ahead // 2:
                break
            ahead = min(2 * ahead, _MOST_AHEAD)
        rows = np.empty(sum(map(len, found)), _ROW)
        if len(rows):
            body = np.concatenate(found)
            for name in _COMMON:
                rows[name] = body[name]
            rows["process"] = self._process
            names = self._translation(numbers, int(body["event"].max()) + 1)
            rows["event"] = np.array(names)[body["event"]]
        return rows

    def _take(self, wanted: NDArray[np.int64]) -> Rows:
        """The valid slots among the wanted ones; holes before the last of them are kept for later."""
        places = wanted % len(self._slots)
        valid = self._sequences[places] == wanted + 1
        taken: Rows = self._slots[places[valid]]
        # a slot that was overwritten, even while it was copied, has another number now
        now = self._sequences[places]
        if (now > wanted + 1).any() or (now[valid] != wanted[valid] + 1).any():
            raise WorkerError(
                "The workers recorded more than the lab could read; events are missing.",
                "Run it again with fewer clients.",
            )
        done = np.flatnonzero(valid)
        if len(done):
            self._next = max(self._next, int(wanted[done[-1]]) + 1)
        self._holes = [hole for hole in self._holes if hole not in wanted]
        self._holes += [int(hole) for hole in wanted[~valid] if hole < self._next]
        return taken

    def _translation(self, numbers: dict[str, int], count: int) -> list[int]:
        """For each of that many names in the file, the number that it has for all processes."""
        for place in range(len(self._codes), count):
            at = _NAME_BYTES * place
            name = self._map[at : at + _NAME_BYTES].rstrip(b"\0").decode()
            self._codes.append(numbers.setdefault(name, len(numbers)))
        return self._codes


def _open(path: Path, capacity: int, access: int) -> mmap.mmap:
    if capacity < 1 or capacity & (capacity - 1):
        raise InvalidSettingError(
            f"A recorder cannot hold {capacity} events.", "Give a power of two, e.g. 131072."
        )
    size = _HEADER_BYTES + capacity * _SLOT_BYTES
    with path.open("a+b") as file:
        # sparse: it takes no more room than what is written
        os.truncate(file.fileno(), size)
        return mmap.mmap(file.fileno(), size, access=access)
