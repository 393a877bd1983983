"""Events are recorded fast, read once each, and survive their writer."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from labsupport.errors import InvalidSettingError, WorkerError
from labsupport.history import History, Recorder


@pytest.fixture
def ring(tmp_path: Path) -> Path:
    return tmp_path / "0.ring"


def test_each_event_is_read_once_while_more_are_written(ring: Path) -> None:
    """What one read returns, the next does not; together they are all."""
    recorder, history = Recorder(ring), History()
    history.add(ring, process=3)
    for number in range(10):
        recorder.record("request", number, number, number + 1, number / 2)
    assert history.read()["client"].tolist() == list(range(10))
    assert len(history.read()) == 0
    recorder.record("load", 99, 5, 6)
    assert history.read()["client"].tolist() == [99]
    assert len(history) == 11
    assert set(history.rows()["process"]) == {3}


def test_threads_share_a_recorder(ring: Path) -> None:
    """No event of eight threads is lost or written over."""
    recorder, history = Recorder(ring), History()
    history.add(ring, process=0)

    def write(client: int) -> None:
        for number in range(2000):
            recorder.record(f"event {client % 3}", client, number, number, number)

    threads = [threading.Thread(target=write, args=(client,)) for client in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        history.read()
    history.read()
    frame = history.frame()
    assert len(frame) == 16_000
    for client, rows in frame.groupby("client"):
        assert sorted(rows["value"]) == list(range(2000))
        assert set(rows["event"]) == {f"event {client % 3}"}


def test_a_slot_that_is_finished_late_is_not_missed(ring: Path) -> None:
    """A thread that was interrupted between taking its slot and writing it loses nothing."""
    recorder, history = Recorder(ring, capacity=64), History()
    history.add(ring, process=0, capacity=64)
    recorder.record("a", 0, 0, 0)
    slow = next(recorder._next)  # taken, not yet written
    recorder.record("a", 2, 0, 0)
    assert history.read()["client"].tolist() == [0, 2]
    later = recorder._next
    recorder._next = iter([slow])  # type: ignore[assignment]
    recorder.record("a", 1, 0, 0)
    recorder._next = later
    recorder.record("a", 3, 0, 0)
    assert sorted(history.read()["client"]) == [1, 3]


def test_a_new_name_changes_nothing_that_readers_look_at(ring: Path) -> None:
    """No count of names: struct clears what it packs into, and one in 250 reads of a count was 0."""
    recorder, history = Recorder(ring, capacity=64), History()
    history.add(ring, process=0, capacity=64)
    recorder.record("first", 0, 0, 0)
    before = ring.read_bytes()
    recorder._register("second")
    changed = [place for place, one in enumerate(ring.read_bytes()) if one != before[place]]
    assert bytes(ring.read_bytes()[place] for place in changed) == b"second"
    assert history.read()["event"].tolist() == [history.number("first")]


def test_the_ring_goes_round(ring: Path) -> None:
    """More events than fit are all there when they are read in time."""
    recorder, history = Recorder(ring, capacity=64), History()
    history.add(ring, process=0, capacity=64)
    for number in range(1000):
        recorder.record("a", number, 0, 0)
        if number % 50 == 0:
            history.read()
    history.read()
    assert history.rows()["client"].tolist() == list(range(1000))


def test_missing_events_are_an_error(ring: Path) -> None:
    """A reader that was overtaken says so, instead of counting too few."""
    recorder, history = Recorder(ring, capacity=64), History()
    history.add(ring, process=0, capacity=64)
    for number in range(65):
        recorder.record("a", number, 0, 0)
    with pytest.raises(WorkerError, match="events are missing"):
        history.read()


def test_events_outlive_a_killed_writer(ring: Path) -> None:
    """What a process recorded before kill -9 can be read after it."""
    history = History()
    history.add(ring, process=0)
    child = os.fork()
    if child == 0:
        recorder = Recorder(ring)
        for number in range(1000):
            recorder.record("a", number, 0, 0)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    ring.unlink()
    assert len(history.read()) == 1000


def test_the_frame_is_ready_for_pandas(ring: Path) -> None:
    """Names are names, times are seconds since the start, and rows are in the order of their ends."""
    recorder, history = Recorder(ring), History()
    history.add(ring, process=1)
    history.origin_ns = 1_000_000_000
    recorder.record("request", 7, 1_500_000_000, 3_000_000_000, 1.0)
    recorder.record("load", 8, 1_750_000_000, 2_000_000_000)
    history.read()
    frame = history.frame()
    assert frame.columns.tolist() == [
        "client",
        "process",
        "event",
        "start_seconds",
        "end_seconds",
        "value",
    ]
    assert frame.iloc[0].tolist() == [8, 1, "load", 0.75, 1.0, 0.0]
    assert frame.iloc[1].tolist() == [7, 1, "request", 0.5, 2.0, 1.0]


def test_events_of_several_processes_have_one_name_each(tmp_path: Path) -> None:
    """Two processes that met the names in another order mean the same by them."""
    history = History()
    for process, names in enumerate(("ab", "ba")):
        path = tmp_path / str(process)
        recorder = Recorder(path)
        history.add(path, process=process)
        for name in names:
            recorder.record(name, ord(name), 0, 0)
        history.read()
    assert history.select("a")["client"].tolist() == [ord("a")] * 2
    assert history.select("b")["process"].tolist() == [0, 1]


def test_the_clock_stops_with_the_run(ring: Path) -> None:
    """After `end`, the elapsed time is that of the run."""
    history = History()
    assert history.elapsed_ns == 0
    history.origin_ns = time.monotonic_ns() - 5
    assert history.elapsed_ns > 0
    history.end()
    assert history.elapsed_ns == history.elapsed_ns


@pytest.mark.parametrize("capacity", [0, -4, 100])
def test_an_absurd_capacity_is_refused(ring: Path, capacity: int) -> None:
    """A ring holds a power of two."""
    with pytest.raises(InvalidSettingError, match=f"cannot hold {capacity} events"):
        Recorder(ring, capacity=capacity)


def test_names_are_bounded(ring: Path) -> None:
    """A name that does not fit the file is refused before anything is written."""
    recorder = Recorder(ring)
    with pytest.raises(InvalidSettingError, match="too long a name"):
        recorder.record("x" * 33, 0, 0, 0)
    for number in range(127):
        recorder.record(str(number), 0, 0, 0)
    with pytest.raises(InvalidSettingError, match="one too many"):
        recorder.record("128th", 0, 0, 0)


def test_seconds_are_relative_to_the_start() -> None:
    """`seconds` subtracts the origin."""
    history = History()
    history.origin_ns = 10
    assert history.seconds(np.array([1_000_000_010])).tolist() == [1.0]


def test_what_was_known_at_a_moment(ring: Path) -> None:
    """A run up to a moment holds what had ended by then; what is told later only comes behind it."""
    recorder, history = Recorder(ring), History()
    history.add(ring, process=0)
    history.origin_ns = 1_000
    second = 1_000_000_000
    for client, end in enumerate((3, 1, 2)):
        recorder.record("request", client, 1_000, 1_000 + end * second)
    history.read()
    history._over_ns = 1_000 + 3 * second
    assert [history.until(at).rows()["client"].tolist() for at in (0.5, 1, 2, 9)] == [
        [],
        [1],
        [1, 2],
        [1, 2, 0],
    ]
    assert [history.until(at).elapsed_ns / second for at in (0.5, 9)] == [0.5, 3]
    assert len(history.until(1).select("request")) == 1
