"""Experiments: the naive version breaks, the repaired one holds, and nothing is left behind."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from labsupport.charts import Bars, Part, Plot, count_per_span
from labsupport.errors import (
    CallError,
    ImplementationError,
    InvalidSettingError,
    NotOnThisServerError,
    StatementError,
)
from labsupport.experiments import Contrast, Experiment, Finding, Result, Rule, Stage, choice, knob
from labsupport.experiments.experiment import _told_apart
from labsupport.experiments.knobs import check_knobs
from labsupport.experiments.stage import RunStopped
from labsupport.history import History
from labsupport.labs.cache_aside import ThunderingHerd
from labsupport.labs.list_queue import JobQueue
from labsupport.workers import Client, warm_up

EXPIRES, ONE_LOAD, ANSWERED, FILLED = (
    "The key expires while the clients read it",
    "A missing key costs one database load at a time",
    "Every request gets the value",
    "A missing key gets filled, so that others are answered from the cache",
)
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


def naive(redis: Any, key: str, load: Callable[[], Any], ttl: float) -> Any:
    cached = redis.get(key)
    if cached is not None:
        return json.loads(cached)
    value = load()
    redis.set(key, json.dumps(value), px=int(ttl * 1000))
    return value


def single_flight(redis: Any, key: str, load: Callable[[], Any], ttl: float) -> Any:
    while (cached := redis.get(key)) is None:
        token = secrets.token_hex(16)
        if redis.set(f"{key}:lock", token, nx=True, px=30_000):
            try:
                cached = redis.get(key)  # somebody may have filled it since
                if cached is None:
                    cached = json.dumps(load())
                    redis.set(key, cached, px=int(ttl * 1000))
                break
            finally:
                redis.eval(RELEASE, 1, f"{key}:lock", token)
        time.sleep(0.01)
    return json.loads(cached)


def statuses(result: Result) -> dict[str, str]:
    return {claim.text: claim.status for claim in result.verdict.claims}


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every test leaves no file, and no process that knows of its directory."""
    warm_up()  # the fork server has a directory of its own, as long as this process lives
    place = tmp_path / "t"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setenv("LABSUPPORT_TEST", str(place))
    yield
    assert list(place.iterdir()) == []


@pytest.fixture(scope="module")
def herd() -> ThunderingHerd:
    return ThunderingHerd(clients=20, seconds=0.8, ttl_seconds=0.3, processes=2)


@pytest.fixture(scope="module")
def results(herd: ThunderingHerd) -> dict[str, Result]:
    return {get.__name__: herd.run(get, live=False) for get in (naive, single_flight)}


def test_the_naive_version_breaks(results: dict[str, Result]) -> None:
    """A missing key sends the herd to the database; nobody gets a wrong answer."""
    result = results["naive"]
    assert statuses(result) == {
        EXPIRES: "holds",
        ONE_LOAD: "broken",
        ANSWERED: "holds",
        FILLED: "holds",
    }
    assert result.numbers["most_loads_at_once"] >= 10
    assert result.verdict.status == "broken"


def test_single_flight_holds(results: dict[str, Result]) -> None:
    """One load at a time, and all are answered."""
    result = results["single_flight"]
    assert set(statuses(result).values()) == {"holds"}
    assert result.numbers["most_loads_at_once"] == 1
    assert result.numbers["needless_loads"] == 0


def test_the_comparison_has_a_ratio_with_room(
    herd: ThunderingHerd, results: dict[str, Result]
) -> None:
    """A fifth of the loads, claimed by name; the other way round it breaks."""
    naive, fixed = results.values()
    good, bad = herd.compare(naive, fixed), herd.compare(fixed, naive)
    assert [claim.status for claim in (*good.verdict.claims, *bad.verdict.claims)] == [
        "holds",
        "broken",
    ]
    assert good.verdict.claims[0].text.startswith("single_flight makes at most a fifth")
    assert good.numbers.columns.tolist() == ["naive", "single_flight"]
    assert repr(good).startswith("naive | single_flight\n✓ holds")


def test_the_history_agrees_with_the_numbers(results: dict[str, Result]) -> None:
    """The learner's own pandas finds what the verdict is made of."""
    for result in results.values():
        events = result.history
        assert (events.event == "load").sum() == result.numbers["loads"]
        requests = events[events.event == "request"]
        assert len(requests) == result.numbers["requests"]
        assert set(requests.client) == set(range(20))
        assert set(requests.process) == {0, 1}
        assert (events.start_seconds >= 0).all()
        took = (requests.end_seconds - requests.start_seconds) * 1000
        assert np.percentile(took, 99) == pytest.approx(result.numbers["p99_ms"])


def test_a_result_shows_its_verdict_and_no_number(results: dict[str, Result]) -> None:
    """What CI compares is the same after each run."""
    result = results["naive"]
    assert repr(result) == f"naive\n{result.verdict}"
    assert not any(character.isdigit() for character in repr(result) + str(result.verdict))


def test_the_figure_states_the_finding(results: dict[str, Result]) -> None:
    """The title is the finding, the second line says under which conditions."""
    titles = [result.figure.texts[0].get_text() for result in results.values()]
    assert titles[0].endswith("clients query the database at once")
    assert titles[1] == "One load at a time, though 20 clients want the value"
    subtitle = results["naive"].figure.texts[1].get_text()
    assert subtitle == "naive: 20 clients read one key, TTL 0.3 s"


def small(**knobs: Any) -> ThunderingHerd:
    return ThunderingHerd(**{"clients": 4, "seconds": 0.3, "ttl_seconds": 0.1, **knobs})


def test_a_run_can_be_shown_once_more(results: dict[str, Result]) -> None:
    """Its frames begin empty, grow, and end with the finished chart; each differs from the last."""
    naive = results["naive"]
    frames = list(naive.frames(per_second=4))
    assert len(frames) == int(naive.seconds * 4) + 2
    assert frames[0].alt == "naive, so far."
    assert frames[-1].alt == naive.figure.alt
    assert len({frame.data for frame in frames}) == len(frames)


@pytest.mark.long
def test_a_key_that_never_expires_is_not_exercised() -> None:
    """The run goes on until the expiry ought to have come; then it is called what it is."""

    def for_ever(redis: Any, key: str, load: Callable[[], Any], ttl: float) -> Any:
        return naive(redis, key, load, 3600)

    def one_for_ever(redis: Any, key: str, load: Callable[[], Any], ttl: float) -> Any:
        return single_flight(redis, key, load, 3600)

    assert statuses(small().run(for_ever))[EXPIRES] == "not exercised"
    result = small().run(one_for_ever)
    assert statuses(result) == {
        EXPIRES: "not exercised",
        ONE_LOAD: "not exercised",
        ANSWERED: "holds",
        FILLED: "not exercised",
    }
    assert result.figure.texts[0].get_text().startswith("The key never expired")


def test_a_run_goes_on_until_it_has_met_an_expiry() -> None:
    """More force before `not exercised`: here the first load alone takes longer than the run."""

    def slow(redis: Any, key: str, load: Callable[[], Any], ttl: float) -> Any:
        def slow_load() -> Any:
            time.sleep(0.4)
            return load()

        return single_flight(redis, key, slow_load, ttl)

    result = small(seconds=0.2).run(slow)
    assert set(statuses(result).values()) == {"holds"}
    assert result.seconds > 0.4


@pytest.mark.parametrize("wrong", [None, "[]", []])
def test_a_wrong_answer_breaks_the_claim(wrong: Any) -> None:
    """A function that returns another thing is not an error but a broken claim."""

    def get(redis: Any, key: str, load: Callable[[], Any], ttl: float) -> Any:
        naive(redis, key, load, ttl)
        return wrong

    result = small().run(get)
    assert statuses(result)[ANSWERED] == "broken"
    assert result.numbers["wrong_answers"] == result.numbers["requests"]
    assert "are not the value" in result.figure.texts[0].get_text()


@pytest.mark.long
def test_a_function_that_loads_each_time_is_broken() -> None:
    """Without a cache, clients load at once, and an expiry is no excuse."""

    def get(redis: Any, key: str, load: Callable[[], Any], ttl: float) -> Any:
        return load()

    for seconds in (
        1.2,
        6.0,
        30.0,
    ):  # on a busy machine it may take long until enough has been loaded
        result = small(seconds=seconds, ttl_seconds=0.5).run(get)
        found = statuses(result)
        assert found[ONE_LOAD] != "holds"
        assert found[FILLED] != "holds"
        if "not exercised" not in found.values():
            break
    assert found == {EXPIRES: "holds", ONE_LOAD: "broken", ANSWERED: "holds", FILLED: "broken"}
    assert result.figure.texts[0].get_text().startswith("The cache is not filled")


@pytest.mark.long
def test_a_lease_that_everybody_takes_away_is_never_filled() -> None:
    """Each miss takes the right to fill from the one before: safe, and of no use."""
    fill = """
    if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
    return redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    """

    def get(redis: Any, key: str, load: Callable[[], Any], ttl: float, nx: bool = False) -> Any:
        while (cached := redis.get(key)) is None:
            token, lease = secrets.token_hex(8), f"{key}:lease"
            if not redis.set(lease, token, nx=nx, px=30_000):
                time.sleep(0.01)
                continue
            value = load()
            redis.eval(fill, 2, key, lease, token, json.dumps(value), int(ttl * 1000))
            if nx:
                redis.eval(RELEASE, 1, lease, token)
            return value
        return json.loads(cached)

    def found(answer: Callable[..., Any], due: str) -> str:
        # on a busy machine a load may take longer than the TTL, or nobody come in between
        for times in (1, 1, 1, 4, 16):
            herd = small(clients=8, seconds=1.2 * times, ttl_seconds=0.5 * times)
            status = statuses(herd.run(answer))[FILLED]
            if status == due:
                break
        return status

    assert found(get, "broken") == "broken"
    assert found(functools.partial(get, nx=True), "holds") == "holds"


@pytest.mark.long
def test_a_function_that_never_returns_is_killed_and_reported() -> None:
    """Clients that wait for ever, or spin, are counted; the others' answers stay."""

    def get(redis: Any, key: str, load: Callable[[], Any], ttl: float) -> Any:
        if redis.incr("turn") > 20:
            while True:
                pass
        return naive(redis, key, load, ttl)

    result = small().run(get)
    assert statuses(result)[ANSWERED] == "broken"
    assert result.numbers["never_answered"] == 4
    assert result.numbers["requests"] == 20
    assert result.figure.texts[0].get_text() == "4 of 4 clients never get an answer"


def test_a_function_that_raises_names_its_line() -> None:
    """Two lines, and the learner's own among them."""

    def get(redis: Any, key: str, load: Callable[[], Any], ttl: float) -> Any:
        return json.loads(redis.get(key))  # None at first

    with pytest.raises(ImplementationError) as caught:
        small().run(get)
    assert caught.value.problem.startswith("get raised TypeError: the JSON object must be str")
    assert caught.value.problem.endswith(": return json.loads(redis.get(key))  # None at first")
    assert len(str(caught.value).splitlines()) == 2


def test_a_wrong_statement_is_told_as_such() -> None:
    """The lab's own errors come through with their remedy."""

    def get(redis: Any, key: str, load: Callable[[], Any], ttl: float) -> Any:
        raise StatementError("The statement is wrong.", "Mend it.")

    with pytest.raises(StatementError, match="Mend it"):
        small().run(get)


@pytest.mark.long
def test_a_load_in_a_thread_of_the_functions_own_works() -> None:
    """Stale-while-revalidate loads in the background; it gets a session for that thread."""

    def get(redis: Any, key: str, load: Callable[[], Any], ttl: float) -> Any:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(load()))
        thread.start()
        thread.join()
        return found[0]

    assert statuses(small().run(get))[ANSWERED] == "holds"


@pytest.mark.parametrize(
    "knobs",
    [
        {"clients": 0},
        {"clients": -3},
        {"clients": 1},
        {"clients": 10**6},
        {"clients": 2.5},
        {"clients": "40"},
        {"clients": True},
        {"clients": None},
        {"seconds": -1.0},
        {"seconds": float("nan")},
        {"seconds": float("inf")},
        {"ttl_seconds": 0},
        {"processes": 0},
        {"processes": 99},
    ],
    ids=str,
)
def test_absurd_knobs_are_refused(knobs: dict[str, Any]) -> None:
    """The message names the knob, its value and its range; nothing is started."""
    (name, value), *_ = knobs.items()
    with pytest.raises(InvalidSettingError, match=f"{name} is {value!r}; it must be a .*number"):
        ThunderingHerd(**knobs)


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ({}, "JobQueue() was not given put and effect."),
        ({"put": print}, "JobQueue() was not given effect."),
        ({"putt": print}, "JobQueue() has no knob 'putt'."),
    ],
)
def test_what_it_is_made_with_is_told(knobs: dict[str, Any], told: str) -> None:
    """Two lines, with what to write."""
    with pytest.raises(CallError) as caught:
        JobQueue(**knobs)
    assert str(caught.value).splitlines()[0] == told
    assert "JobQueue(put=put" in str(caught.value)


def test_a_ttl_longer_than_the_run_is_refused() -> None:
    """Such a run could not meet an expiry."""
    with pytest.raises(InvalidSettingError, match="would not expire during the run"):
        ThunderingHerd(seconds=1, ttl_seconds=2)


def test_knobs_know_their_range() -> None:
    """This is what a slider is made from."""
    clients = next(f for f in dataclasses.fields(ThunderingHerd) if f.name == "clients")
    assert {"low", "high", "step"} <= clients.metadata.keys()


class TestChoice:
    @dataclass(frozen=True)
    class Knobs:
        colour: str = choice("red", among=("red", "blue"))

    @pytest.mark.parametrize("colour", ["red", "blue"])
    def test_one_of_them(self, colour: str) -> None:
        """What is among the choices is taken."""
        check_knobs(self.Knobs(colour))

    @pytest.mark.parametrize("colour", ["Red", "", None, 1, ["red"]], ids=repr)
    def test_none_of_them(self, colour: Any) -> None:
        """The message lists them all."""
        with pytest.raises(InvalidSettingError, match="it must be one of 'red', 'blue'"):
            check_knobs(self.Knobs(colour))


@pytest.mark.parametrize("wrong", [None, 3, "naive", [naive]])
def test_what_is_not_a_function_is_refused(wrong: Any) -> None:
    """Often the function was called instead of passed."""
    with pytest.raises(InvalidSettingError, match="not a function"):
        small().run(wrong)


def test_other_parameters_are_refused() -> None:
    """The message says which there must be."""
    with pytest.raises(InvalidSettingError, match="get_user does not take redis, key, load, ttl"):
        small().run(lambda redis, key: None, name="get_user")


def test_compare_needs_results() -> None:
    """One result, or none, is nothing to compare."""
    with pytest.raises(InvalidSettingError, match="at least two results"):
        small().compare()


@pytest.mark.long
def test_what_the_server_does_not_allow_is_not_exercised(results: dict[str, Result]) -> None:
    """No claim is judged, and the others are compared; the reason is told, but not in the claims."""

    def caches(redis: Any, key: str, load: Callable[[], Any], ttl: float) -> Any:
        raise NotOnThisServerError("Nothing caches for Redis 0.9.", "Take another one.")

    herd = small()
    caught = herd.run(caches)
    assert set(statuses(caught).values()) == {"not exercised"}
    assert repr(caught).endswith(f"{FILLED}\nNot on this server: Nothing caches for Redis 0.9.")
    assert "Nothing caches for Redis 0.9." in caught._repr_html_()
    assert caught.figure.texts[0].get_text() == "Not on this server"
    naive, fixed = results.values()
    compared = herd.compare(naive, caught, fixed)
    assert [claim.status for claim in compared.verdict.claims] == ["not exercised", "holds"]
    assert "caches" not in compared.figure.texts[0].get_text()
    alone = herd.compare(caught, naive)
    assert alone.verdict.status == "not exercised"
    assert alone.figure.texts[0].get_text().startswith("Nothing to compare")


def test_a_comparison_tells_each_run_its_own_conditions() -> None:
    """Where runs differ in a knob, it stands beside the run's name, and what is common below the title."""
    coverage = "three primaries; one is killed; full coverage: {}"
    assert _told_apart([coverage.format("yes"), coverage.format("no")]) == (
        "three primaries, one is killed",
        ["full coverage: yes", "full coverage: no"],
    )
    assert _told_apart(["4 clients; TTL 1 s"] * 3) == ("4 clients; TTL 1 s", ["", "", ""])
    assert _told_apart(["stopped, AOF", "stopped"]) == ("stopped", ["AOF", ""])


def test_a_run_in_a_thread_works() -> None:
    """The panel's Run button does this."""
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(small().run(single_flight)))
    thread.start()
    thread.join()
    assert set(statuses(found[0]).values()) == {"holds"}


SCRIPT = """
import signal
from labsupport.labs.cache_aside import ThunderingHerd

def get(redis, key, load, ttl):
    open({flag!r}, "a").close()
    redis.set(key, str(load()))

if __name__ == "__main__":
    # a shell that runs the tests in the background has it ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("start", flush=True)
    try:
        ThunderingHerd(clients=8, seconds=60, processes=2).run(get, live={live})
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def marked(mark: str) -> list[int]:
    """The processes whose environment or command holds the mark."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            if mark.encode() in text and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(("number", "live"), [(signal.SIGINT, True), (signal.SIGKILL, False)])
def test_no_end_leaves_anything(tmp_path: Path, number: signal.Signals, live: bool) -> None:
    """Interrupted (the whole process group, as by JupyterLab, and twice) or killed: all is gone."""
    # short, because the path of a socket below it may have some 100 characters
    mark, flag = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp")), tmp_path / "flag"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(flag=str(flag), live=live))
    process = subprocess.Popen(
        [sys.executable, script],
        env={**os.environ, "TMPDIR": str(mark)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_for(flag.exists)
    assert len(marked(str(mark))) > 5
    os.killpg(process.pid, number) if number == signal.SIGINT else process.kill()
    if number == signal.SIGINT:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
    said, _ = process.communicate(timeout=60)
    assert said == ("start\ninterrupted\n" if number == signal.SIGINT else "start\n")
    wait_for(lambda: not marked(str(mark)))
    wait_for(lambda: list(mark.iterdir()) == [])
    mark.rmdir()


CELLS = [
    "import json\nfrom labsupport.labs.cache_aside import ThunderingHerd\n"
    "herd = ThunderingHerd(clients=8, seconds=0.8, ttl_seconds=0.2, processes=2)",
    "def decode(text):\n    return json.loads(text)\n\n"
    "def get(redis, key, load, ttl):\n"
    "    cached = redis.get(key)\n"
    "    if cached is not None:\n"
    "        return decode(cached)\n"
    "    value = load()\n"
    "    redis.set(key, json.dumps(value), px=int(ttl * 1000))\n"
    "    return value",
    "result = herd.run(get)\nresult",
    "def broken(redis, key, load, ttl):\n    return decode(key)\nherd.run(broken, live=False)",
    "herd.compare(result, result).verdict",
    "result.figure",
]


@pytest.fixture(scope="module")
def notebook() -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    book = nbformat.v4.new_notebook(cells=cells)
    with tempfile.TemporaryDirectory() as directory:
        client = NotebookClient(
            book, timeout=120, allow_errors=True, resources={"metadata": {"path": directory}}
        )
        client.execute()
    return book


@pytest.mark.long
def test_functions_from_cells_run_in_workers(notebook: nbformat.NotebookNode) -> None:
    """In a real kernel, with a helper from the same cell, the run ends in a verdict."""
    shown = notebook.cells[2].outputs
    assert [output.output_type for output in shown] == ["display_data", "execute_result"]
    assert "✗ broken         A missing key" in shown[1].data["text/plain"]


def test_the_last_frame_stays_in_the_notebook(notebook: nbformat.NotebookNode) -> None:
    """One picture in full quality, with a sentence for alt text, and text that does not vary."""
    chart = notebook.cells[2].outputs[0]
    assert chart.data["text/plain"] == "ThunderingHerd: get"
    assert set(chart.data) == {"image/png", "text/plain"}
    look = chart.metadata["image/png"]
    assert look["alt"].startswith(("All 8 clients", "7 of 8", "6 of 8", "5 of 8"))
    assert look["alt"].endswith("TTL 0.2 s.")
    assert look["width"] == 960


def test_an_error_in_a_cell_is_two_lines(notebook: nbformat.NotebookNode) -> None:
    """The worker's error names the line of the cell, without pages of traceback."""
    (error,) = notebook.cells[3].outputs
    assert error.ename == "ImplementationError"
    assert len(error.traceback) <= 2
    assert "return decode(key)" in error.traceback[0] or "return json.loads" in error.traceback[0]


def test_a_comparison_shows_itself(notebook: nbformat.NotebookNode) -> None:
    """A picture and a verdict; the figure of a result is a picture, too."""
    picture, verdict = notebook.cells[4].outputs
    assert picture.data["text/plain"] == "ThunderingHerd: get, get"
    assert verdict.output_type == "execute_result"
    assert "image/png" in notebook.cells[5].outputs[0].data


@dataclass(frozen=True, kw_only=True)
class Counting(Experiment):
    """The smallest experiment: clients count to a number, with or without losing updates."""

    parameters: ClassVar[tuple[str, ...]] = ("redis", "key")
    clients: int = knob(4, low=2, high=100)
    seconds: float = knob(0.2, low=0.1, high=10)

    claims = (
        Rule(text="No count is lost", met="counted", broken="lost", detail="{lost} of {counted}"),
    )
    findings = (Finding("{lost} counts are lost"),)
    contrast = Contrast(
        text="{first} loses counts, {other} none",
        number="lost",
        met="counted",
        title="Lost: {each}",
    )

    @property
    def conditions(self) -> str:
        return f"{self.clients} clients count"

    def conduct(self, stage: Stage, implementation: Callable[..., Any], name: str) -> None:
        server = stage.server()
        stage.start(_count, implementation, server.url, clients=self.clients, processes=2)
        stage.pool.begin()
        stage.wait(seconds=self.seconds)
        stage.finish(patience_seconds=5)
        stage.facts["found"] = int(server.client().get("n") or 0)

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        counted = len(history.select("count"))
        return {"counted": counted, "lost": counted - facts["found"]}

    def plots(self) -> Sequence[Plot]:
        def counts(history: History, span_ns: int) -> Any:
            times = history.select("count")["end_ns"] - history.origin_ns
            return count_per_span(times, span_ns=span_ns, until_ns=history.elapsed_ns)

        return [Bars("counts per 50 ms", [Part("", "work", counts)], noun=("count", "counts"))]


def _count(client: Client, count: Callable[..., Any], url: str) -> None:
    from labsupport.servers import connect_client

    redis = connect_client(url)
    client.meet()
    while client.running:
        with client.timed("count"):
            count(redis, "n")


def test_a_new_experiment_is_one_small_class() -> None:
    """What it says of itself is enough for the run, the chart and the verdict."""

    def increment(redis: Any, key: str) -> None:
        redis.incr(key)

    def get_and_set(redis: Any, key: str) -> None:
        redis.set(key, int(redis.get(key) or 0) + 1)

    experiment = Counting()
    good, bad = experiment.run(increment), experiment.run(get_and_set)
    assert (good.verdict.status, bad.verdict.status) == ("holds", "broken")
    assert good.figure.texts[0].get_text() == "0 counts are lost"
    assert experiment.compare(bad, good).verdict.status == "holds"


@dataclass(frozen=True, kw_only=True)
class Hasty(Counting):
    """An experiment whose budget is spent before it has begun to wait."""

    claims = (
        Rule(text="There are counts", met="counted"),
        Rule(text="No count is lost", met="counted", broken="lost", final=True),
    )

    @property
    def budget_seconds(self) -> float:
        return 0.05


def test_a_run_that_costs_too_much_is_cut_short_and_says_so() -> None:
    """It stops waiting, its title says so, and a claim about its end says nothing."""

    def get_and_set(redis: Any, key: str) -> None:
        redis.set(key, int(redis.get(key) or 0) + 1)

    result = Hasty(seconds=10).run(get_and_set)
    assert result.numbers["cut_short"] == 1
    assert statuses(result) == {"There are counts": "holds", "No count is lost": "not exercised"}
    assert result.figure.texts[0].get_text().startswith("Cut short: ")
    assert "cut_short" not in Counting().run(get_and_set).numbers


def _compute(client: Client, seconds: float) -> None:
    client.meet()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        hashlib.pbkdf2_hmac("sha256", b"long", b"shop", 10_000)


def _wait(client: Client) -> None:
    client.meet()
    threading.Event().wait()


def test_who_computes_has_more_patience_than_who_waits() -> None:
    """A client that gets no further as the machine is busy is not taken for one that hangs."""
    for function, args, left in ((_compute, (1.5,), []), (_wait, (), [0])):
        with closing(Stage(None)) as stage:
            stage.start(function, *args, clients=1, processes=1)
            stage.pool.begin()
            assert stage.finish(patience_seconds=0.6) == left


def test_stop_is_heard_while_a_run_starts() -> None:
    """On a busy machine servers and workers take seconds to come; what is there is ended."""
    with closing(Stage(None, stopped=lambda: True)) as stage:
        for begin in (
            stage.server,
            lambda: stage.own(nullcontext()),
            lambda: stage.pool.start(_wait),
            lambda: stage.start(_wait, clients=1, processes=1),
        ):
            with pytest.raises(RunStopped):
                begin()
        assert not stage.pool.workers
