"""Workers are real processes: they get functions from cells, and can be held, stopped and killed."""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from labsupport.errors import ImplementationError, InvalidSettingError, StatementError, WorkerError
from labsupport.processes import process_status
from labsupport.workers import Client, WorkerPool, point, warm_up

LOCK = threading.Lock()


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    with WorkerPool() as pool:
        yield pool


def until_done(pool: WorkerPool) -> None:
    assert pool.wait(lambda: all(worker.done for worker in pool.workers), seconds=60)


def test_a_function_from_a_cell_runs_in_another_process(pool: WorkerPool) -> None:
    """It comes by value, with what it uses, as from a module that no file stands for."""
    cell = ModuleType("__main__")
    source = "import os\nfactor = 3\ndef helper(x): return x * factor\n"
    source += "def work(client, x): return os.getpid(), helper(x)"
    exec(source, cell.__dict__)
    worker = pool.start(cell.work, 14)
    until_done(pool)
    pid, answer = worker.result
    assert pid == worker.pid != os.getpid()
    assert answer == 42


def test_clients_are_threads_in_processes(pool: WorkerPool) -> None:
    """Clients are numbered through all processes; each has its own call."""

    def work(client: Client) -> tuple[int, int]:
        thread = threading.get_ident()  # while all are alive, each has another
        client.meet()
        return os.getpid(), thread

    workers = [pool.start(work, clients=3) for _ in range(2)]
    pool.begin()
    until_done(pool)
    assert [worker.clients for worker in workers] == [(0, 1, 2), (3, 4, 5)]
    calls = {answer for worker in workers for answer in worker.results.values()}
    assert len(calls) == 6
    assert {pid for pid, _ in calls} == {worker.pid for worker in workers}


def test_all_meet_before_any_begins(pool: WorkerPool) -> None:
    """No client passes `meet` before the last one has come."""

    def work(client: Client) -> None:
        time.sleep(0.002 * client.number)
        client.note("came")
        client.meet()
        client.note("went")

    for _ in range(2):
        pool.start(work, clients=10)
    pool.begin()
    until_done(pool)
    pool.history.read()
    came, went = (pool.history.select(name)["start_ns"] for name in ("came", "went"))
    assert len(came) == len(went) == 20
    assert came.max() <= pool.history.origin_ns <= went.min()


def test_clients_stop_when_told(pool: WorkerPool) -> None:
    """`running` turns False and `rest` ends at once."""

    def work(client: Client) -> int:
        client.meet()
        turns = 0
        while client.running:
            turns += 1
            client.rest(3600)
        return turns

    pool.start(work, clients=4)
    pool.begin()
    pool.stop()
    until_done(pool)
    assert set(pool.workers[0].results.values()) <= {0, 1}


def test_all_are_killed_before_one_is_waited_for(
    pool: WorkerPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine each takes its time to go."""
    first, *others = [pool.start(lambda client: threading.Event().wait()) for _ in range(3)]
    close, gone = first.close, []

    def look() -> None:
        until = time.monotonic() + 20
        while any(other.alive for other in others) and time.monotonic() < until:
            time.sleep(0.01)
        gone.extend(not other.alive for other in others)
        close()

    monkeypatch.setattr(first, "close", look)
    pool.close()
    assert gone[:2] == [True, True]


def stepped(client: Client) -> str:
    for name in ("read", "think", "write"):
        point(name)
    return "written"


def test_a_gated_worker_is_held_at_each_point(pool: WorkerPool) -> None:
    """`until` passes other points, holds at its own, and `finish` runs to the end."""
    worker = pool.start(stepped, gated=True)
    worker.until("think")
    pool.history.read()
    assert len(pool.history.select("think")) == 1
    assert not pool.wait(lambda: worker.done, seconds=0.05)
    assert worker.finish() == worker.result == "written"


def test_a_point_that_was_reached_before_it_was_asked_for(pool: WorkerPool) -> None:
    """A worker that came to its point while the lab was busy with another one is held there."""
    asked, left = pool.start(stepped, gated=True), pool.start(stepped, gated=True)
    for worker in (asked, left):
        assert pool.wait(lambda worker=worker: worker._arrivals, seconds=60)
    asked.until("read")
    assert not pool.wait(lambda: asked._arrivals, seconds=0.1)
    asked.until("think")
    left.go()
    left.until("think")
    assert asked.finish() == left.finish() == "written"


def test_an_order_to_a_paused_worker_waits(pool: WorkerPool) -> None:
    """A stopped worker does nothing, and obeys when it is resumed, as a real pause has it."""
    worker = pool.start(stepped, gated=True)
    worker.until("read")
    worker.pause()
    assert worker.status() == "stopped"
    worker.go()
    with pytest.raises(WorkerError, match="did not reach the point 'think' in time; it is stopped"):
        worker.until("think", seconds=0.05)
    worker.resume()
    worker.until("think")
    assert worker.finish() == "written"


def test_a_point_that_is_never_reached_is_an_error(pool: WorkerPool) -> None:
    """The message says which points there were."""
    worker = pool.start(stepped, gated=True)
    with pytest.raises(WorkerError, match=r"ended without reaching the point 'raed'; .*'write'"):
        worker.until("raed")


def test_a_point_outside_a_worker_does_nothing() -> None:
    """The same function can be called in the notebook."""
    point("read")
    assert stepped(Any) == "written"


def test_points_do_not_hold_a_free_worker(pool: WorkerPool) -> None:
    """Under load, a point only records that it was passed."""
    worker = pool.start(stepped)
    until_done(pool)
    assert worker.result == "written"
    pool.history.read()
    assert len(pool.history) == 3


@pytest.mark.parametrize("paused", [False, True])
def test_kill_is_kill_9(pool: WorkerPool, paused: bool) -> None:
    """A killed worker is gone at once, paused or not; what it recorded stays, and it is no error."""

    def work(client: Client) -> None:
        client.note("alive")
        point("here")
        time.sleep(3600)

    worker = pool.start(work, gated=True)
    worker.until("here")
    if paused:
        worker.pause()
    worker.kill()
    assert worker.status() == process_status(worker.pid) == "dead"
    assert not pool.wait(lambda: worker.done, seconds=0.05)
    pool.history.read()
    assert len(pool.history.select("alive")) == 1
    for act in (worker.pause, worker.resume):
        with pytest.raises(WorkerError, match="<work, dead>"):
            act()
    with pytest.raises(WorkerError, match="it was killed"):
        worker.finish()
    worker.kill()


def test_an_exception_names_the_learners_line(pool: WorkerPool) -> None:
    """Two lines: what was raised, at which line; the original is the cause, with its traceback."""

    def helper(values: list[int]) -> int:
        return values[3]  # the culprit

    def get_user(client: Client) -> int:
        return helper([])

    pool.start(get_user)
    with pytest.raises(ImplementationError) as caught:
        until_done(pool)
    assert caught.value.problem.startswith("get_user raised IndexError: list index out of range")
    assert caught.value.problem.endswith(": return values[3]  # the culprit")
    cause = caught.value.__cause__
    assert isinstance(cause, IndexError)
    names = [frame.name for frame in traceback.extract_tb(cause.__traceback__)]
    assert names == ["get_user", "helper"]


def test_an_exception_in_a_library_names_the_learners_line(pool: WorkerPool) -> None:
    """json's own lines say nothing to a learner."""

    def get_user(client: Client) -> Any:
        import json

        return json.loads("{")

    pool.start(get_user)
    with pytest.raises(ImplementationError, match=r'line \d+: return json.loads\("\{"\)'):
        until_done(pool)


class StrangeError(Exception):
    """It can be pickled, and not be made again."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__("strange")


def test_an_exception_that_cannot_be_sent_is_told_all_the_same(pool: WorkerPool) -> None:
    """Its name and text come across."""

    def get_user(client: Client) -> None:
        raise StrangeError(1, 2)

    pool.start(get_user)
    with pytest.raises(ImplementationError, match="get_user raised StrangeError: strange"):
        until_done(pool)


def test_a_lab_error_stays_what_it_is(pool: WorkerPool) -> None:
    """Its own remedy is the better one."""

    def get_user(client: Client) -> None:
        raise StatementError("The statement is wrong.", "Mend it.")

    pool.start(get_user)
    with pytest.raises(StatementError, match="Mend it"):
        until_done(pool)


def test_sys_exit_is_an_error_not_a_silence(pool: WorkerPool) -> None:
    """In a thread Python ignores it."""

    def get_user(client: Client) -> None:
        raise SystemExit(3)

    pool.start(get_user)
    with pytest.raises(ImplementationError, match="SystemExit: 3"):
        until_done(pool)


def test_a_process_that_dies_is_noticed(pool: WorkerPool) -> None:
    """A crash of the interpreter is an error that names the exit code."""

    def get_user(client: Client) -> None:
        ctypes.string_at(0)

    pool.start(get_user)
    with pytest.raises(WorkerError, match=r"ended by itself \(exit code -11\)"):
        until_done(pool)


def test_what_cannot_be_sent_is_named(pool: WorkerPool) -> None:
    """A function that uses the notebook's own client, or a lock, is refused before it starts."""

    def get_user(client: Client) -> None:
        with LOCK:
            pass

    with pytest.raises(InvalidSettingError, match="get_user uses `LOCK`, which cannot be sent"):
        pool.start(get_user)
    assert pool.workers == []


def test_an_answer_that_cannot_be_sent_is_told(pool: WorkerPool) -> None:
    """It is the function's fault, not a hang."""

    def get_user(client: Client) -> Any:
        return threading.Lock()

    pool.start(get_user)
    with pytest.raises(ImplementationError, match="TypeError: cannot pickle"):
        until_done(pool)


@pytest.mark.parametrize(("clients", "gated"), [(0, False), (-1, False), (2, True)])
def test_absurd_numbers_of_clients_are_refused(pool: WorkerPool, clients: int, gated: bool) -> None:
    """Nothing is started."""
    with pytest.raises(InvalidSettingError, match=f"cannot have {clients} clients"):
        pool.start(stepped, clients=clients, gated=gated)
    assert pool.workers == []


def test_interrupt_does_not_reach_workers(pool: WorkerPool) -> None:
    """JupyterLab sends SIGINT to the whole process group; the lab decides what ends."""
    worker = pool.start(stepped, gated=True)
    worker.until("read")
    os.kill(worker.pid, signal.SIGINT)
    assert worker.finish() == "written"


def test_interrupt_is_kept_off_from_the_first_moment(pool: WorkerPool) -> None:
    """It is blocked before the worker's own code runs, and ignored after."""

    def work(client: Client) -> tuple[bool, bool]:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return signal.SIGINT in blocked, signal.getsignal(signal.SIGINT) == signal.SIG_IGN

    worker = pool.start(work)
    assert worker.finish() == (True, True)


SCRIPT = """
from labsupport.workers import WorkerPool

print("begun", flush=True)
with WorkerPool() as pool:
    print(pool.start(lambda client: client.number).finish())
"""


def test_a_script_without_a_guard(tmp_path: Path) -> None:
    """It runs once: a worker gets its function by value, and runs none of the script's lines."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("begun\n0\n", "")


def test_closing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Busy, stopped or waiting: all processes and files are gone, the history stays."""
    warm_up()  # the fork server has a directory of its own, as long as this process lives
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def work(client: Client) -> None:
        client.note("began")
        point("here")
        while True:
            pass

    with WorkerPool() as pool:
        busy, stopped = (pool.start(work, gated=True) for _ in range(2))
        waiting = pool.start(lambda client: client.meet())
        for worker in (busy, stopped):
            worker.until("here")
            worker.go()
        stopped.pause()
        pool.wait(lambda: bool(waiting.ready), seconds=60)
    assert [process_status(worker.pid) for worker in pool.workers] == ["dead"] * 3
    assert list(tmp_path.iterdir()) == []
    pool.history.read()
    assert len(pool.history.select("began")) == 2
    pool.close()


def test_the_idle_function_runs_while_the_pool_waits() -> None:
    """This is where a chart is drawn."""
    calls = []
    with WorkerPool(idle=lambda: calls.append(1)) as pool:
        pool.start(stepped)
        pool.wait(lambda: len(calls) > 5, seconds=60)
    assert len(calls) > 5


def test_the_lab_notes_what_it_did(pool: WorkerPool) -> None:
    """What a killed worker cannot record is in the history all the same."""

    def work(client: Client) -> None:
        client.note("began")
        time.sleep(60)

    worker = pool.start(work)
    assert pool.wait(lambda: bool(len(pool.history.read())), seconds=60)
    worker.kill()
    pool.note("killed", worker.clients[0], 9.0)
    pool.history.read()
    (began,), (killed,) = (pool.history.select(name) for name in ("began", "killed"))
    assert killed["client"] == began["client"]
    assert killed["start_ns"] > began["start_ns"]
    assert (killed["process"], killed["value"]) == (-1, 9.0)


def test_a_labs_function_brings_no_figures(pool: WorkerPool) -> None:
    """A worker that runs a lab's function does not import the lab, nor what draws its chart."""
    from labsupport.labs.queues import clients

    def loaded(client: Client, lab: Callable[..., object]) -> set[str]:
        return {"matplotlib", "pandas", "labsupport.labs.queues"} & set(sys.modules)

    worker = pool.start(loaded, clients.work, gated=True)
    assert worker.finish() == set()
