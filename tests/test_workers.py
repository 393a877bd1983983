"""Workers are real processes: they get functions from cells, and can be held, stopped and killed."""

import ctypes
import os
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from labsupport.errors import ImplementationError, InvalidSettingError, StatementError, WorkerError
from labsupport.servers.processes import process_status
from labsupport.workers import Client, Crew, point
from labsupport.workers.launch import warm_up

LOCK = threading.Lock()


@pytest.fixture
def crew() -> Iterator[Crew]:
    with Crew() as crew:
        yield crew


def until_done(crew: Crew) -> None:
    assert crew.wait(lambda: all(worker.done for worker in crew.workers), seconds=60)


def test_a_function_from_a_cell_runs_in_another_process(crew: Crew) -> None:
    """It comes by value, with what it uses, as from a module that no file stands for."""
    cell = ModuleType("__main__")
    source = "import os\nfactor = 3\ndef helper(x): return x * factor\n"
    source += "def work(client, x): return os.getpid(), helper(x)"
    exec(source, cell.__dict__)
    worker = crew.start(cell.work, 14)
    until_done(crew)
    pid, answer = worker.result
    assert pid == worker.pid != os.getpid()
    assert answer == 42


def test_clients_are_threads_in_processes(crew: Crew) -> None:
    """Clients are numbered through all processes; each has its own call."""

    def work(client: Client) -> tuple[int, int]:
        thread = threading.get_ident()  # while all are alive, each has another
        client.meet()
        return os.getpid(), thread

    workers = [crew.start(work, clients=3) for _ in range(2)]
    crew.begin()
    until_done(crew)
    assert [worker.clients for worker in workers] == [(0, 1, 2), (3, 4, 5)]
    calls = {answer for worker in workers for answer in worker.results.values()}
    assert len(calls) == 6
    assert {pid for pid, _ in calls} == {worker.pid for worker in workers}


def test_all_meet_before_any_begins(crew: Crew) -> None:
    """No client passes `meet` before the last one has come."""

    def work(client: Client) -> None:
        time.sleep(0.002 * client.number)
        client.note("came")
        client.meet()
        client.note("went")

    for _ in range(2):
        crew.start(work, clients=10)
    crew.begin()
    until_done(crew)
    crew.history.read()
    came, went = (crew.history.select(name)["start_ns"] for name in ("came", "went"))
    assert len(came) == len(went) == 20
    assert came.max() <= crew.history.origin_ns <= went.min()


def test_clients_stop_when_told(crew: Crew) -> None:
    """`running` turns False and `rest` ends at once."""

    def work(client: Client) -> int:
        client.meet()
        turns = 0
        while client.running:
            turns += 1
            client.rest(3600)
        return turns

    crew.start(work, clients=4)
    crew.begin()
    crew.stop()
    until_done(crew)
    assert set(crew.workers[0].results.values()) <= {0, 1}


def stepped(client: Client) -> str:
    for name in ("read", "think", "write"):
        point(name)
    return "written"


def test_a_gated_worker_is_held_at_each_point(crew: Crew) -> None:
    """`until` passes other points, holds at its own, and `finish` runs to the end."""
    worker = crew.start(stepped, gated=True)
    worker.until("think")
    crew.history.read()
    assert len(crew.history.select("think")) == 1
    assert not crew.wait(lambda: worker.done, seconds=0.05)
    assert worker.finish() == worker.result == "written"


def test_a_point_that_was_reached_before_it_was_asked_for(crew: Crew) -> None:
    """A worker that came to its point while the lab was busy with another one is held there."""
    asked, left = crew.start(stepped, gated=True), crew.start(stepped, gated=True)
    for worker in (asked, left):
        assert crew.wait(lambda worker=worker: worker._arrivals, seconds=60)
    asked.until("read")
    assert not crew.wait(lambda: asked._arrivals, seconds=0.1)
    asked.until("think")
    left.go()
    left.until("think")
    assert asked.finish() == left.finish() == "written"


def test_an_order_to_a_paused_worker_waits(crew: Crew) -> None:
    """A stopped worker does nothing, and obeys when it is resumed, as a real pause has it."""
    worker = crew.start(stepped, gated=True)
    worker.until("read")
    worker.pause()
    assert worker.status() == "stopped"
    worker.go()
    with pytest.raises(WorkerError, match="did not reach the point 'think' in time; it is stopped"):
        worker.until("think", seconds=0.05)
    worker.resume()
    worker.until("think")
    assert worker.finish() == "written"


def test_a_point_that_is_never_reached_is_an_error(crew: Crew) -> None:
    """The message says which points there were."""
    worker = crew.start(stepped, gated=True)
    with pytest.raises(WorkerError, match=r"ended without reaching the point 'raed'; .*'write'"):
        worker.until("raed")


def test_a_point_outside_a_worker_does_nothing() -> None:
    """The same function can be called in the notebook."""
    point("read")
    assert stepped(Any) == "written"


def test_points_do_not_hold_a_free_worker(crew: Crew) -> None:
    """Under load, a point only records that it was passed."""
    worker = crew.start(stepped)
    until_done(crew)
    assert worker.result == "written"
    crew.history.read()
    assert len(crew.history) == 3


@pytest.mark.parametrize("paused", [False, True])
def test_kill_is_kill_9(crew: Crew, paused: bool) -> None:
    """A killed worker is gone at once, paused or not; what it recorded stays, and it is no error."""

    def work(client: Client) -> None:
        client.note("alive")
        point("here")
        time.sleep(3600)

    worker = crew.start(work, gated=True)
    worker.until("here")
    if paused:
        worker.pause()
    worker.kill()
    assert worker.status() == process_status(worker.pid) == "dead"
    assert not crew.wait(lambda: worker.done, seconds=0.05)
    crew.history.read()
    assert len(crew.history.select("alive")) == 1
    for act in (worker.pause, worker.resume):
        with pytest.raises(WorkerError, match="is dead"):
            act()
    with pytest.raises(WorkerError, match="it was killed"):
        worker.finish()
    worker.kill()


def test_an_exception_names_the_learners_line(crew: Crew) -> None:
    """Two lines: what was raised, at which line; the original is the cause, with its traceback."""

    def helper(values: list[int]) -> int:
        return values[3]  # the culprit

    def get_user(client: Client) -> int:
        return helper([])

    crew.start(get_user)
    with pytest.raises(ImplementationError) as caught:
        until_done(crew)
    assert caught.value.problem.startswith("get_user raised IndexError: list index out of range")
    assert caught.value.problem.endswith(": return values[3]  # the culprit")
    cause = caught.value.__cause__
    assert isinstance(cause, IndexError)
    names = [frame.name for frame in traceback.extract_tb(cause.__traceback__)]
    assert names == ["get_user", "helper"]


def test_an_exception_in_a_library_names_the_learners_line(crew: Crew) -> None:
    """json's own lines say nothing to a learner."""

    def get_user(client: Client) -> Any:
        import json

        return json.loads("{")

    crew.start(get_user)
    with pytest.raises(ImplementationError, match=r'line \d+: return json.loads\("\{"\)'):
        until_done(crew)


class StrangeError(Exception):
    """It can be pickled, and not be made again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("strange")


def test_an_exception_that_cannot_be_sent_is_told_all_the_same(crew: Crew) -> None:
    """Its name and text come across."""

    def get_user(client: Client) -> None:
        raise StrangeError(1, 2)

    crew.start(get_user)
    with pytest.raises(ImplementationError, match="get_user raised StrangeError: strange"):
        until_done(crew)


def test_a_lab_error_stays_what_it_is(crew: Crew) -> None:
    """Its own remedy is the better one."""

    def get_user(client: Client) -> None:
        raise StatementError("The statement is wrong.", "Mend it.")

    crew.start(get_user)
    with pytest.raises(StatementError, match="Mend it"):
        until_done(crew)


def test_sys_exit_is_an_error_not_a_silence(crew: Crew) -> None:
    """In a thread Python ignores it."""

    def get_user(client: Client) -> None:
        raise SystemExit(3)

    crew.start(get_user)
    with pytest.raises(ImplementationError, match="SystemExit: 3"):
        until_done(crew)


def test_a_process_that_dies_is_noticed(crew: Crew) -> None:
    """A crash of the interpreter is an error that names the exit code."""

    def get_user(client: Client) -> None:
        ctypes.string_at(0)

    crew.start(get_user)
    with pytest.raises(WorkerError, match=r"ended by itself \(exit code -11\)"):
        until_done(crew)


def test_what_cannot_be_sent_is_named(crew: Crew) -> None:
    """A function that uses the notebook's own client, or a lock, is refused before it starts."""

    def get_user(client: Client) -> None:
        with LOCK:
            pass

    with pytest.raises(InvalidSettingError, match="get_user uses `LOCK`, which cannot be sent"):
        crew.start(get_user)
    assert crew.workers == []


def test_an_answer_that_cannot_be_sent_is_told(crew: Crew) -> None:
    """It is the function's fault, not a hang."""

    def get_user(client: Client) -> Any:
        return threading.Lock()

    crew.start(get_user)
    with pytest.raises(ImplementationError, match="TypeError: cannot pickle"):
        until_done(crew)


@pytest.mark.parametrize(("clients", "gated"), [(0, False), (-1, False), (2, True)])
def test_absurd_numbers_of_clients_are_refused(crew: Crew, clients: int, gated: bool) -> None:
    """Nothing is started."""
    with pytest.raises(InvalidSettingError, match=f"cannot have {clients} clients"):
        crew.start(stepped, clients=clients, gated=gated)
    assert crew.workers == []


def test_interrupt_does_not_reach_workers(crew: Crew) -> None:
    """JupyterLab sends SIGINT to the whole process group; the lab decides what ends."""
    worker = crew.start(stepped, gated=True)
    worker.until("read")
    os.kill(worker.pid, signal.SIGINT)
    assert worker.finish() == "written"


def test_interrupt_is_kept_off_from_the_first_moment(crew: Crew) -> None:
    """It is blocked before the worker's own code runs, and ignored after."""

    def work(client: Client) -> tuple[bool, bool]:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return signal.SIGINT in blocked, signal.getsignal(signal.SIGINT) == signal.SIG_IGN

    worker = crew.start(work)
    assert worker.finish() == (True, True)


def test_closing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Busy, stopped or waiting: all processes and files are gone, the history stays."""
    warm_up()  # the fork server has a directory of its own, as long as this process lives
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def work(client: Client) -> None:
        client.note("began")
        point("here")
        while True:
            pass

    with Crew() as crew:
        busy, stopped = (crew.start(work, gated=True) for _ in range(2))
        waiting = crew.start(lambda client: client.meet())
        for worker in (busy, stopped):
            worker.until("here")
            worker.go()
        stopped.pause()
        crew.wait(lambda: bool(waiting.ready), seconds=60)
    assert [process_status(worker.pid) for worker in crew.workers] == ["dead"] * 3
    assert list(tmp_path.iterdir()) == []
    crew.history.read()
    assert len(crew.history.select("began")) == 2
    crew.close()


def test_the_idle_function_runs_while_the_crew_waits() -> None:
    """This is where a chart is drawn."""
    calls = []
    with Crew(idle=lambda: calls.append(1)) as crew:
        crew.start(stepped)
        crew.wait(lambda: len(calls) > 5, seconds=60)
    assert len(calls) > 5


def test_the_lab_notes_what_it_did(crew: Crew) -> None:
    """What a killed worker cannot record is in the history all the same."""

    def work(client: Client) -> None:
        client.note("began")
        time.sleep(60)

    worker = crew.start(work)
    assert crew.wait(lambda: bool(len(crew.history.read())), seconds=60)
    worker.kill()
    crew.note("killed", worker.clients[0], 9.0)
    crew.history.read()
    (began,), (killed,) = (crew.history.select(name) for name in ("began", "killed"))
    assert killed["client"] == began["client"]
    assert killed["start_ns"] > began["start_ns"]
    assert (killed["process"], killed["value"]) == (-1, 9.0)
