"""The experiment of labs 10 and 11: queues whose workers are killed."""

import hashlib
import time

import numpy as np
import psutil
import pytest

from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.history import History, Recorder
from labsupport.labs.queues.job_queue import JobQueue
from labsupport.labs.queues.states import States, lanes_busy, lanes_dead, lanes_killed

LOST, LYING, FAILS, POISON, TWICE = (
    "No job is lost",
    "No job is left lying",
    "A job that fails does not end its worker",
    "A job that kills each worker is given up within its attempts",
    "No job counts twice",
)
FEW = {"workers": 2, "jobs": 40, "kills": 2, "failing": 1, "wild": 1, "seconds": 0.2}
GIVE_BACK = """
for _, name in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local gone = redis.call('EXISTS', 'lease:' .. name) == 0
  local job = gone and redis.call('LPOP', 'jobs:' .. name)
  while job do
    local again = redis.call('HINCRBY', KEYS[3], job, 1) < tonumber(ARGV[1])
    redis.call('RPUSH', again and KEYS[1] or KEYS[4], job)
    job = redis.call('LPOP', 'jobs:' .. name)
  end
end
"""


def put(redis, job):
    redis.lpush("jobs", job)


def add(redis, job):
    redis.hincrby("vouchers", job, 1)


def add_once(redis, job):
    redis.hsetnx("vouchers", job, 1)


def pop(redis, me, handle, running):
    while running():
        popped = redis.brpop("jobs", timeout=0.02)
        if popped is not None:
            handle(popped[1])


def move(redis, me, handle, running):
    while running():
        job = redis.blmove("jobs", f"jobs:{me}", 0.02, "RIGHT", "LEFT")
        if job is not None:
            handle(job)
            redis.lrem(f"jobs:{me}", 1, job)


def leased(most):
    def work(redis, me, handle, running):
        redis.sadd("workers", me)
        while running():
            redis.eval(GIVE_BACK, 4, "jobs", "workers", "attempts", "dead", most)
            redis.set(f"lease:{me}", 1, px=150)
            job = redis.blmove("jobs", f"jobs:{me}", 0.02, "RIGHT", "LEFT")
            if job is None:
                continue
            try:
                handle(job)
            except Exception:
                redis.delete(f"lease:{me}")
            else:
                redis.lrem(f"jobs:{me}", 1, job)

    return work


def statuses(result):
    return {claim.text: claim.status for claim in result.verdict.claims}


def title(result):
    return result.figure.texts[0].get_text()


@pytest.fixture(scope="module")
def popped():
    return JobQueue(put=put, effect=add, **FEW).run(pop, live=False)


@pytest.fixture(scope="module")
def kept():
    return JobQueue(put=put, effect=add_once, **FEW).run(leased(3), live=False, name="kept")


class TestVerdicts:
    def test_pop_loses(self, popped):
        """What was popped dies with its worker, an error ends the loop, and nothing is done twice."""
        found = statuses(popped)
        assert found == {
            LOST: "broken",
            LYING: "holds",
            FAILS: "broken",
            POISON: "broken",
            TWICE: "holds",
        }
        # the job killed before its effect, the poison and the failing one, and perhaps a wild one's
        assert 3 <= popped.numbers["lost"] <= 4
        assert popped.numbers["killed_before"] == popped.numbers["killed_after"] == 1
        assert popped.numbers["poison_attempts"] == 1
        assert title(popped).endswith("jobs are lost with their workers")

    def test_a_list_that_nobody_reads(self):
        """Jobs that are somewhere in Redis are not lost, but left lying."""
        result = JobQueue(put=put, effect=add, **FEW).run(move, live=False)
        assert statuses(result)[LOST] == "holds"
        assert statuses(result)[LYING] == "broken"
        assert title(result).endswith("jobs are left lying")

    def test_everything_holds(self, kept):
        """With a lease, attempts and an effect that names its job, all claims hold."""
        assert set(statuses(kept).values()) == {"holds"}
        assert kept.numbers["done"] + kept.numbers["dead_letters"] == kept.numbers["jobs"] == 40
        assert kept.numbers["poison_attempts"] == 3
        assert kept.numbers["handled_again"] >= 1
        assert "no job lost" in title(kept)

    def test_an_effect_that_adds(self):
        """The same queue with an effect that adds counts a job twice."""
        result = JobQueue(put=put, effect=add, **FEW).run(leased(3), live=False)
        assert [text for text, status in statuses(result).items() if status != "holds"] == [TWICE]
        assert title(result).endswith(("count twice", "1 counts twice"))

    def test_poison_without_a_limit(self):
        """A job that is given back for ever is stopped, and named in the title."""
        result = JobQueue(put=put, effect=add_once, **FEW).run(leased(1000), live=False)
        assert statuses(result)[POISON] == "broken"
        assert result.numbers["poison_attempts"] > 3
        assert title(result).startswith("A job has killed")

    def test_one_attempt_more_than_allowed(self):
        """A job that is given up an attempt too late breaks the claim, too."""
        result = JobQueue(put=put, effect=add_once, **FEW).run(leased(4), live=False)
        assert statuses(result)[POISON] == "broken"
        assert result.numbers["poison_given_up"] == 1

    @pytest.mark.long
    def test_a_machine_that_is_busy(self):
        """A worker to which the machine does not come for seconds is no proof that jobs are left lying."""

        def late(redis, me, handle, running):
            until = time.monotonic() + 6
            while time.monotonic() < until:
                hashlib.pbkdf2_hmac("sha256", b"busy", b"shop", 10_000)
            pop(redis, me, handle, running)

        queue = JobQueue(put=put, effect=add, **(FEW | {"jobs": 20, "kills": 1, "failing": 0}))
        claims = {one.text: one.status for one in queue.run(late, live=False).verdict.claims}
        assert claims[LYING] != "broken"

    def test_nobody_works(self):
        """Workers that return at once are replaced a few times; the jobs are left lying."""
        result = JobQueue(put=put, effect=add, **FEW).run(lambda *life: None, live=False)
        assert result.numbers["stuck"] == 40
        assert statuses(result)[FAILS] == "not exercised"

    def test_nobody_killed(self):
        """A run in which nobody was killed says nothing, and asks nothing of what is not there."""
        peace = FEW | {"kills": 0, "poison": 0, "failing": 0, "wild": 0}
        result = JobQueue(put=put, effect=add, **peace).run(pop, live=False)
        assert statuses(result) == dict.fromkeys((LOST, LYING, TWICE), "not exercised")
        assert result.numbers["done"] == 40

    def test_comparison(self, popped, kept):
        """The comparison holds one way round only."""
        queue = JobQueue(put=put, effect=add, **FEW)
        (good,) = queue.compare(popped, kept, live=False).verdict.claims
        (bad,) = queue.compare(kept, popped, live=False).verdict.claims
        assert (good.status, bad.status) == ("holds", "broken")

    def test_the_same_text_every_time(self, popped):
        """A verdict holds no number, so that it reads the same after each run."""
        again = JobQueue(put=put, effect=add, **FEW).run(pop, live=False)
        assert str(again) == str(popped)
        assert not any(sign.isdigit() for sign in str(popped))


class TestRuns:
    def test_dead_letters_of_any_kind(self):
        """Where a queue keeps what it has given up is its own affair."""

        def work(redis, me, handle, running):
            while running():
                popped = redis.brpop("jobs", timeout=0.02)
                if popped is not None:
                    redis.zadd("over there", {popped[1]: 1})

        queue = JobQueue(put=put, effect=add, dead=lambda r: r.zrange("over there", 0, -1), **FEW)
        result = queue.run(work, live=False)
        assert result.numbers["dead_letters"] == 40
        assert result.numbers["lost"] == result.numbers["stuck"] == 0

    def test_a_mistake_is_not_a_failed_job(self):
        """An error of the function itself is told with its line."""

        def work(redis, me, handle, running):
            redis.brpop("jobs", timeout=0.02).upper()

        with pytest.raises(ImplementationError, match="AttributeError"):
            JobQueue(put=put, effect=add, **FEW).run(work, live=False)

    def test_nothing_is_left(self):
        """All workers are gone in the end, also when the run is broken off after some were hired."""

        def work(redis, me, handle, running):
            while running():
                popped = redis.brpop("jobs", timeout=0.02)
                if popped is not None and redis.incr("popped") > 30:
                    raise ValueError("enough")
                if popped is not None:
                    handle(popped[1])

        before = _descendants()
        with pytest.raises(ImplementationError, match="enough"):
            JobQueue(put=put, effect=add, **FEW).run(work, live=False)
        assert _descendants() == before

    def test_history(self, kept):
        """A killed worker does nothing after its end, and its successor says when that was."""
        events = kept.history
        for _, kill in events[events.event == "killed"].iterrows():
            mine = events[(events.client == int(kill.value)) & (events.event == "begun")]
            assert (mine.start_seconds <= kill.start_seconds).all()


def _descendants():
    return {
        process.pid
        for process in psutil.Process().children(recursive=True)
        if process.status() != psutil.STATUS_ZOMBIE
    }


class TestBadInput:
    @pytest.mark.parametrize(
        "knobs",
        [{"workers": 1}, {"jobs": 5}, {"kills": -1}, {"poison": 9}, {"seconds": 0}],
        ids=str,
    )
    def test_absurd_knobs(self, knobs):
        """A knob out of its range is refused before anything starts."""
        with pytest.raises(InvalidSettingError, match=next(iter(knobs))):
            JobQueue(put=put, effect=add, **knobs)

    def test_too_many_fates(self):
        """There must be jobs to which nothing happens."""
        with pytest.raises(InvalidSettingError, match="fate of their own"):
            JobQueue(put=put, effect=add, jobs=20, kills=20)


@pytest.fixture
def story(tmp_path):
    """Two workers: one does job 1, the other is killed at job 2, which the first then does."""
    history = History()
    history.origin_ns = time.monotonic_ns() - 1_000_000_000
    history.add(tmp_path / "ring", process=0, capacity=256)
    recorder = Recorder(tmp_path / "ring", capacity=256)

    def tell(event, client, start, value, end=None):
        at = history.origin_ns + start * 1_000_000
        recorder.record(event, client, at, history.origin_ns + (end or start) * 1_000_000, value)

    tell("hired", 0, 0, 0)
    tell("hired", 1, 0, 1)
    for job, at in [(1, 10), (2, 20)]:
        tell("put", 9, at, job)
    tell("begun", 0, 110, 1)
    tell("handled", 0, 110, 1, end=150)
    tell("begun", 1, 210, 2)
    tell("doomed", 1, 210, 2)
    tell("killed", 2, 310, 1)
    tell("hired", 2, 330, 1)
    tell("begun", 0, 410, 2)
    tell("handled", 0, 410, 2, end=450)
    history.read()
    return history


class TestStates:
    def test_each_job_is_in_one_state(self, story):
        """Put, begun, done; orphaned from the kill to the next beginning."""
        states = States()
        found = {
            name: states.of(name)(story, 100_000_000)[:6].tolist()
            for name in ("waiting", "in progress", "done", "dead", "orphaned")
        }
        assert found == {
            "waiting": [2, 1, 0, 0, 0, 0],
            "in progress": [0, 0, 1, 0, 0, 0],
            "done": [0, 1, 1, 1, 2, 2],
            "dead": [0, 0, 0, 0, 0, 0],
            "orphaned": [0, 0, 0, 1, 0, 0],
        }

    def test_lanes(self, story):
        """A place is busy from the beginning of a job to its end or the kill, then empty."""
        ms = np.array([1, 1_000_000, 1_000_000])
        assert (lanes_busy(story) // ms).tolist() == [[0, 110, 150], [1, 210, 310], [0, 410, 450]]
        assert (lanes_dead(story) // ms).tolist() == [[1, 310, 330]]
        assert (lanes_killed(story) // ms[:2]).tolist() == [[1, 310]]


def test_each_try_of_a_job_is_a_bar_of_its_own(tmp_path):
    """A worker that fails at a job, and has it again, is busy twice; no bar runs backwards."""
    history, ring = History(), tmp_path / "ring"
    history.add(ring, process=0)
    recorder = Recorder(ring)
    for event, start, end, value in [
        ("hired", 0, 0, 0),
        ("begun", 10, 10, 7),
        ("failed", 10, 20, 7),
        ("begun", 30, 30, 7),
        ("failed", 30, 40, 7),
        ("begun", 50, 50, 7),
        ("handled", 50, 60, 7),
    ]:
        recorder.record(event, 3, start, end, value)
    history.read()
    assert lanes_busy(history).tolist() == [[0, 10, 20], [0, 30, 40], [0, 50, 60]]
