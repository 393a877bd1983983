"""The experiment of lab 07: customers who are stopped, slow and killed while they hold a lock."""

import os
import secrets
import threading
import time
from contextlib import contextmanager

import matplotlib.figure
import pytest
from redis.exceptions import LockNotOwnedError

from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.history import History, Recorder
from labsupport.labs.distributed_lock import LockRace
from labsupport.labs.distributed_lock.holds import stopped_holders
from labsupport.processes import process_status

MINE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
FENCED = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('SET', KEYS[1], redis.call('INCR', KEYS[2]), 'PX', ARGV[1])
return tonumber(redis.call('GET', KEYS[1]))
"""
SLOW, STOPPED, KEPT, FREE, TURN, LEDGER = range(6)


@contextmanager
def setnx_lock(redis, name, ttl):
    while not redis.setnx(name, "taken"):
        time.sleep(0.01)
    redis.pexpire(name, int(ttl * 1000))
    try:
        yield
    finally:
        redis.delete(name)


@contextmanager
def plain_lock(redis, name, ttl):
    while not redis.set(name, "taken", nx=True, px=int(ttl * 1000)):
        time.sleep(0.01)
    try:
        yield
    finally:
        redis.delete(name)


@contextmanager
def renewed_lock(redis, name, ttl):
    token, over = secrets.token_urlsafe(), threading.Event()

    def renew():
        while not over.wait(ttl / 3):
            script = MINE + "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
            redis.eval(script, 1, name, token, int(ttl * 1000))

    while not redis.set(name, token, nx=True, px=int(ttl * 1000)):
        time.sleep(0.01)
    watchdog = threading.Thread(target=renew)
    watchdog.start()
    try:
        yield
    finally:
        over.set()
        watchdog.join()
        redis.eval(MINE + "return redis.call('DEL', KEYS[1])", 1, name, token)


@contextmanager
def fenced_lock(redis, name, ttl):
    while not (fence := redis.eval(FENCED, 2, name, f"{name}:fence", int(ttl * 1000))):
        time.sleep(0.01)
    try:
        yield fence
    finally:
        if not redis.eval(MINE + "return redis.call('DEL', KEYS[1])", 1, name, fence):
            raise LockNotOwnedError(name)


@contextmanager
def endless_lock(redis, name, ttl):
    while not redis.set(name, "taken", nx=True):
        time.sleep(0.01)
    yield
    redis.delete(name)


def sell(db, fence):
    left = db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"] - 1
    return db.execute("UPDATE products SET stock = :left WHERE id = 1", left=left) == 1


def sell_claimed(db, fence):
    claim = "UPDATE products SET fence = :fence WHERE id = 1 AND fence < :fence"
    if db.execute(claim, fence=fence) == 0:
        return False
    left = db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"] - 1
    sql = "UPDATE products SET stock = :left WHERE id = 1 AND fence = :fence"
    return db.execute(sql, left=left, fence=fence) == 1


@pytest.fixture(scope="module")
def race():
    return LockRace(sell=sell)


@pytest.fixture(scope="module")
def plain(race):
    return race.run(plain_lock, live=False)


@pytest.fixture(scope="module")
def claimed():
    return LockRace(sell=sell_claimed).run(fenced_lock, live=False)


def statuses(result):
    return [claim.status for claim in result.verdict.claims]


class TestVerdicts:
    def test_plain_lock(self, plain):
        """It becomes free after a crash, and breaks in every other way."""
        assert statuses(plain) == ["broken", "broken", "broken", "holds", "holds", "broken"]
        assert plain.numbers["sold_twice"] > 0

    def test_lock_and_ttl_in_two_steps(self, race):
        """A crash between the two leaves a lock for ever, and somebody waiting."""
        found = race.run(setnx_lock, live=False)
        assert [statuses(found)[one] for one in (FREE, TURN)] == ["broken", "broken"]
        assert found.numbers["waiting_for_ever"] == 1

    def test_renewal(self, race):
        """A holder who renews is alone when it is slow, and not when it is stopped."""
        found = statuses(race.run(renewed_lock, live=False))
        assert found == ["holds", "broken", "holds", "holds", "holds", "broken"]

    def test_fence(self, claimed):
        """Two believe that they hold the lock, and the ledger is right all the same."""
        assert statuses(claimed) == ["broken", "broken", "holds", "holds", "holds", "holds"]
        assert claimed.numbers["sold"] == claimed.numbers["left_the_stock"] == 4
        assert claimed.numbers["told_that_it_was_lost"] == 2

    def test_no_ttl_at_all(self, race):
        """Without a TTL all holders are alone, no lock is freed late, and a crash locks all out."""
        found = statuses(race.run(endless_lock, live=False))
        assert found == ["holds", "holds", "not exercised", "broken", "broken", "holds"]

    def test_never_put_to_the_test(self, race, claimed):
        """A fault that was not met is neither held nor broken."""
        met = {f"{one}_met": 0 for one in ("slow", "stopped", "kept", "killed")}
        shared = {f"{one}_shared": 0 for one in ("slow", "stopped", "kept")}
        numbers = claimed.numbers | met | shared | {"hit_a_holder": 0, "free_again": 1}
        assert {claim.status for claim in race.judge(numbers)} == {"not exercised"}

    def test_comparison(self, race, plain, claimed):
        """The comparison holds one way round only."""
        assert statuses(race.compare(plain, claimed, live=False)) == ["holds"]
        assert statuses(race.compare(claimed, plain, live=False)) == ["broken"]

    def test_the_same_text_every_time(self, race, plain):
        """A verdict holds no number, so that it reads the same after each run."""
        assert str(race.run(plain_lock, live=False)) == str(plain)
        assert not any(sign.isdigit() for sign in str(plain))


class TestChaos:
    def test_nobody_waits_for_ever(self):
        """Stopped at random, everybody still gets a turn, and the fence keeps the ledger."""
        chaos = LockRace(sell=sell_claimed, chaos=True, seconds=0.4, ttl_seconds=0.05)
        found = chaos.run(fenced_lock, live=False)
        assert len(found.verdict.claims) == 2
        # chance may have spared every holder; then nothing was put to the test
        due = "holds" if found.numbers["hit_a_holder"] else "not exercised"
        assert statuses(found)[1] == due
        assert found.numbers["sold_twice"] == 0
        assert statuses(chaos.compare(found, found, live=False)) == ["not exercised"]
        assert found.numbers["stops"] > 0

    def test_without_a_lock(self):
        """Without a lock the customers meet without any help."""

        @contextmanager
        def none(redis, name, ttl):
            yield

        chaos = LockRace(sell=sell, chaos=True, clients=8, seconds=1.0, ttl_seconds=0.05)
        assert statuses(chaos.run(none, live=False))[0] == "broken"


class TestStops:
    @pytest.mark.parametrize(
        ("stop", "hit"),
        [
            ((0, 20, 190), 1),
            ((0, 20, 160), 0),  # hardly longer than the TTL: nobody need have come in
            ((0, 5, 190), 0),  # before it had the lock
            ((0, 20, 280), 0),  # until after it had freed it: it cannot have been stopped
            ((1, 20, 190), 0),  # somebody who only waited
        ],
    )
    def test_only_a_stop_that_outlasts_the_ttl_of_a_holder_counts(self, tmp_path, stop, hit):
        """Client 0 has the lock from 10 to 250 ms, with a TTL of 100 ms."""
        recorder, history = Recorder(tmp_path / "ring", capacity=256), History()
        history.add(tmp_path / "ring", process=0, capacity=256)
        history.origin_ns = 1
        who, begin, end = stop
        for event, client, at in [
            ("in", 0, 10),
            ("out", 0, 250),
            ("stopped", who, begin),
            ("resumed", who, end),
        ]:
            recorder.record(event, client, 1 + at * 1_000_000, 1 + at * 1_000_000)
        history.end()
        assert stopped_holders(history, ttl_seconds=0.1) == hit


class TestResult:
    def test_history_tells_the_faults(self, plain):
        """The lab's own part is in the history: who was stopped, and who was killed."""
        frame = plain.history
        by_event = frame.groupby("event", observed=True)["client"].unique()
        assert list(by_event["stopped"]) == list(by_event["resumed"]) == [0]
        assert list(by_event["killed"]) == [3]

    def test_figure(self, plain, claimed):
        """The title states the finding."""
        assert isinstance(plain.figure, matplotlib.figure.Figure)
        words = [text.get_text() for text in plain.figure.texts]
        assert any("Cleo" in word for word in words)
        words = [text.get_text() for text in claimed.figure.texts]
        assert any("no kettle is sold twice" in word for word in words)

    def test_what_is_worst_comes_first(self, race, claimed):
        """The finding names the worst."""
        shut = claimed.numbers | {"free_again": 0}
        assert "nobody gets the lock" in race.find(shut)
        waiting = claimed.numbers | {"waiting_for_ever": 2}
        assert "2 of 5 wait for ever" in race.find(waiting)


class TestBadInput:
    @pytest.mark.parametrize(
        "knobs",
        [{"clients": 1}, {"seconds": 0}, {"ttl_seconds": 0}, {"ttl_seconds": 90}, {"sell": 3}],
        ids=str,
    )
    def test_absurd_knobs(self, knobs):
        """A knob out of its range is refused before anything starts."""
        with pytest.raises(InvalidSettingError, match=next(iter(knobs))):
            LockRace(**{"sell": sell} | knobs)

    def test_raises_before_the_sale(self, race):
        """A lock that raises when it is taken is the learner's error, with its own line."""

        @contextmanager
        def lock(redis, name, ttl):
            raise ZeroDivisionError("no such lock")
            yield

        with pytest.raises(ImplementationError, match="no such lock"):
            race.run(lock, live=False)

    def test_sale_that_reads_nothing(self):
        """A sale in one statement has no moment between read and write."""

        def at_once(db, fence):
            return db.execute("UPDATE products SET stock = stock - 1 WHERE id = 1") == 1

        with pytest.raises(InvalidSettingError, match="reads nothing"):
            LockRace(sell=at_once).run(plain_lock, live=False)


def test_stopped_processes_do_not_stay(race, monkeypatch):
    """An interrupt while Ada is stopped leaves no process behind."""
    pids = []

    def interrupt(self, ttl):
        workers = self._stage.pool.workers
        workers[0].pause()
        pids.extend(worker.pid for worker in workers)
        raise KeyboardInterrupt

    monkeypatch.setattr("labsupport.labs.distributed_lock.faults.Faults.stop", interrupt)
    with pytest.raises(KeyboardInterrupt):
        race.run(plain_lock, live=False)
    assert len(pids) == 5
    assert os.getpid() not in pids
    assert {process_status(pid) for pid in pids} == {"dead"}
