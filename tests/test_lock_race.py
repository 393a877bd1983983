"""The experiment of lab 07: each fault is met, each claim holds, breaks, or was not exercised."""

import secrets
import threading
import time
from contextlib import contextmanager

import matplotlib.figure
import pytest
from redis.exceptions import LockNotOwnedError

from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.experiments import LockRace

SLOW, STOPPED, KEPT, FREE, TURN, LEDGER = range(6)
MINE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
NUMBERED = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('SET', KEYS[1], redis.call('INCR', KEYS[2]), 'PX', ARGV[1])
return tonumber(redis.call('GET', KEYS[2]))
"""


def sell(db, fence=None):
    stock = db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"]
    return db.execute("UPDATE products SET stock = :left WHERE id = 1", left=stock - 1) == 1


def sell_claimed(db, fence):
    claim = "UPDATE products SET fence = :fence WHERE id = 1 AND fence < :fence"
    if db.execute(claim, fence=fence) == 0:
        return False
    stock = db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"]
    sql = "UPDATE products SET stock = :left WHERE id = 1 AND fence = :fence"
    return db.execute(sql, left=stock - 1, fence=fence) == 1


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
def token_lock(redis, name, ttl):
    token = secrets.token_urlsafe()
    while not redis.set(name, token, nx=True, px=int(ttl * 1000)):
        time.sleep(0.01)
    try:
        yield token
    finally:
        if not redis.eval(MINE + "return redis.call('DEL', KEYS[1])", 1, name, token):
            raise LockNotOwnedError(name)


@contextmanager
def renewed_lock(redis, name, ttl):
    def renew():
        while not over.wait(ttl / 3):
            script = MINE + "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
            redis.eval(script, 1, name, token, int(ttl * 1000))

    over, watchdog = threading.Event(), threading.Thread(target=renew, daemon=True)
    with token_lock(redis, name, ttl) as token:
        watchdog.start()
        try:
            yield token
        finally:
            over.set()
            watchdog.join()


@contextmanager
def fenced_lock(redis, name, ttl):
    while not (fence := redis.eval(NUMBERED, 2, name, f"{name}:fence", int(ttl * 1000))):
        time.sleep(0.01)
    try:
        yield fence
    finally:
        redis.eval(MINE + "return redis.call('DEL', KEYS[1])", 1, name, fence)


@contextmanager
def no_lock(redis, name, ttl):
    yield redis.incr(f"{name}:fence")


def run(lock, resource=sell, **knobs):
    return LockRace(sell=resource, **knobs).run(lock, live=False)


def statuses(result):
    return [claim.status for claim in result.verdict.claims]


@pytest.fixture(scope="module")
def plain():
    return run(plain_lock)


class TestForced:
    def test_expire_after_setnx(self):
        """Killed between the two commands: nobody gets the lock any more."""
        found = run(setnx_lock)
        assert statuses(found) == ["broken"] * 6
        assert found.figure.texts[0].get_text() == "Dan was killed: nobody gets the lock any more"

    def test_plain_delete(self, plain):
        """The crash is survived; a late holder frees the lock of another."""
        wanted = ["broken", "broken", "broken", "holds", "holds", "broken"]
        assert statuses(plain) == wanted
        assert plain.numbers["sold_twice"] > 0
        assert plain.numbers["killed_met"] == plain.numbers["free_again"] == 1

    def test_token(self):
        """Nobody frees another's lock; two holders remain, and the lock tells the late one."""
        found = run(token_lock)
        assert statuses(found) == ["broken", "broken", "holds", "holds", "holds", "broken"]
        assert found.numbers["told_that_it_was_lost"] > 0

    def test_renewal(self):
        """A holder who is awake keeps the lock; one who is stopped does not."""
        found = run(renewed_lock)
        assert statuses(found) == ["holds", "broken", "holds", "holds", "holds", "broken"]

    def test_fence_claimed_before_the_read(self, plain):
        """Two holders, and the ledger balances: the resource refuses the late one."""
        found = run(fenced_lock, sell_claimed)
        assert statuses(found) == ["broken", "broken", "holds", "holds", "holds", "holds"]
        race = LockRace(sell=sell_claimed)
        assert statuses(race.compare(plain, found, live=False)) == ["holds"]
        assert statuses(race.compare(found, plain, live=False)) == ["broken"]

    def test_no_lock_at_all(self):
        """Where nobody is kept out, all are inside together."""
        found = run(no_lock)
        assert statuses(found)[SLOW] == statuses(found)[STOPPED] == "broken"

    @pytest.mark.parametrize("fault", ["slow", "stopped", "kept", "killed"])
    def test_a_fault_that_was_not_met(self, plain, fault):
        """What the run did not meet is neither held nor broken."""
        shared = {f"{fault}_met": 0, f"{fault}_shared": 0, "free_again": 1}
        claims = LockRace(sell=sell).judge({**plain.numbers, **shared})
        place = {"slow": SLOW, "stopped": STOPPED, "kept": KEPT, "killed": FREE}[fault]
        assert claims[place].status == "not exercised"

    def test_the_same_text_every_time(self, plain):
        """A verdict holds no number, so that it reads the same after each run."""
        assert str(run(plain_lock)) == str(plain)
        assert not any(sign.isdigit() for sign in str(plain))

    def test_figure(self, plain):
        """The title states the finding, and the holders have a row each."""
        assert isinstance(plain.figure, matplotlib.figure.Figure)
        names = [label.get_text() for label in plain.figure.axes[0].get_yticklabels()]
        assert names == ["Ada", "Bob", "Cleo", "Dan", "Eve"]


class TestChaos:
    def test_stops_at_random(self):
        """Chance stops the holders; what it finds is counted, and a fence keeps the ledger."""
        chaos = LockRace(sell=sell_claimed, chaos=True, seconds=0.6, ttl_seconds=0.05, clients=3)
        found = chaos.run(fenced_lock, live=False)
        assert found.numbers["stops"] > 0
        assert found.numbers["sold"] > 0
        assert statuses(found)[1:] == ["holds", "holds"]


class TestBadInput:
    @pytest.mark.parametrize(
        "knobs", [{"ttl_seconds": 0}, {"clients": 1}, {"seconds": "long"}], ids=str
    )
    def test_absurd_knobs(self, knobs):
        """A knob out of its range is refused before anything starts."""
        with pytest.raises(InvalidSettingError, match=next(iter(knobs))):
            LockRace(sell=sell, **knobs)

    def test_no_resource(self):
        """`sell` must be a function."""
        with pytest.raises(InvalidSettingError, match="not a function"):
            LockRace(sell=1)

    def test_a_resource_that_reads_nothing(self):
        """A sale in one statement has no moment to be stopped in, and needs no lock."""

        def at_once(db, fence=None):
            return db.execute("UPDATE products SET stock = stock - 1 WHERE id = 1") == 1

        with pytest.raises((InvalidSettingError, ImplementationError), match="reads nothing"):
            run(plain_lock, at_once)

    def test_a_lock_that_raises(self):
        """The learner's own line is named."""

        @contextmanager
        def broken_lock(redis, name, ttl):
            redis.nosuch()
            yield

        with pytest.raises(ImplementationError, match="nosuch"):
            run(broken_lock)
