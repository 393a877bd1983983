"""Loops of attempts in vain: which end, which do not, and of which the explorer can't tell."""

import asyncio
import itertools
import time
import weakref

import pytest
import sqlalchemy as sa

from labsupport.exploration import explore, open_system
from labsupport.explorer.operations import Operation


def always(redis, db):
    return True


def sets(redis, db):
    redis.set("other", 1)


def polls(redis, db):
    while not redis.get("go"):
        time.sleep(1)


def polls_two(redis, db):
    while not (redis.get("go") or redis.get("stop")):
        time.sleep(1)


def waits(redis, db):
    while not redis.blpop("jobs", timeout=1):
        pass


def takes_turns(redis, db):
    """It counts, and comes round: no loop ends by that."""
    turns = itertools.cycle([1, 2, 3])
    turn = 0
    while not redis.blpop("jobs", timeout=1):
        turn = next(turns)
    return turn


@pytest.mark.long
@pytest.mark.parametrize("passes", [None, True])
@pytest.mark.parametrize("loop", [polls, polls_two, waits, takes_turns])
def test_a_wait_for_what_nobody_does(loop, passes):
    """It is a finding, also where each sleep takes time; its schedule is short, and can be run again."""
    report = explore(
        {"ada": loop, "bob": sets}, invariant=always, passes=passes, stop="first", delays=False
    )
    assert [finding.kind for finding in report.findings] == ["stuck"]
    assert "ada" in report.findings[0].reason
    assert "for ever" in report.findings[0].reason
    assert len(report.findings[0].schedule) < 12
    assert list(report.replay())[-1].redis == {"other": "1"}


class Counter:
    tries = 0


def counts_in_range(redis, db):
    for _ in range(1500):
        if redis.blpop("jobs", timeout=1):
            break


def counts_in_an_object(redis, db):
    counter = Counter()
    while counter.tries < 1500 and not redis.get("go"):
        counter.tries += 1
        time.sleep(0.01)


def counts_seconds(redis, db):
    waited = 0.0
    while waited < 150 and not redis.get("go"):
        waited += 0.1
        time.sleep(0.1)


def keeps_errors(redis, db):
    errors = []
    while len(errors) < 1500 and not redis.get("go"):
        errors.append("not yet")


def is_counted_for(redis, db):
    for _ in (number for number in range(1500)):
        if redis.get("go"):
            break


def repeats(redis, db):
    for _ in itertools.repeat(None, 1500):
        if redis.get("go"):
            break


def takes_a_slice(redis, db):
    for _ in zip(itertools.islice(itertools.count(), 1500), itertools.cycle("ab"), strict=False):
        if redis.get("go"):
            break


@pytest.mark.long
@pytest.mark.parametrize(
    "loop",
    [
        counts_in_range,
        counts_in_an_object,
        counts_seconds,
        keeps_errors,
        is_counted_for,
        repeats,
        takes_a_slice,
    ],
)
def test_a_loop_that_ends_after_very_many_attempts(loop):
    """That it goes on for ever would be false, and so would be that all orders were run."""
    report = explore({"ada": loop, "bob": sets}, invariant=always, delays=False)
    assert report.verdict.status == "not exercised"
    assert "ada makes more than 1,000 attempts in vain, and counts" in report.given_up


def hour(redis, db):
    end = time.monotonic() + 3600
    while time.monotonic() < end and not redis.blpop("jobs", timeout=1):
        pass


def year(redis, db):
    end = time.time() + 365 * 86_400
    while time.time() < end and not redis.get("go"):
        time.sleep(1)


@pytest.mark.parametrize(("loop", "passes"), [(hour, None), (hour, True), (year, None)])
def test_a_loop_that_ends_by_the_clock(loop, passes):
    """An hour, a year: while nothing comes of anything, time passes faster and faster."""
    clients = {"ada": loop, "bob": sets}
    explore(clients, invariant=always, passes=passes, delays=False).check()


def half_a_day(redis, db):
    end = time.time() + 43_200
    while time.time() < end and not redis.get("go"):
        time.sleep(1)


@pytest.mark.parametrize("loop", [half_a_day, pytest.param(year, marks=pytest.mark.long)])
def test_years_pass_where_a_loop_ends_by_the_clock(loop):
    """In pauses, too: when nobody else can move, each lasts longer than the one before."""
    explore({"ada": loop}, invariant=always, passes=True).check()


def test_what_ends_during_a_long_wait_is_met():
    """However fast time passes, it stops where a time to live ends."""

    def holds_on(redis, db):
        while redis.exists("lease"):
            time.sleep(1)
        redis.set("took", 1)

    report = explore(
        {"ada": holds_on, "bob": polls},
        given=lambda redis, db: redis.set("lease", 1, ex=5000),
        invariant=always,
        passes=True,
        stop="first",
    )
    assert [finding.kind for finding in report.findings] == ["stuck"]
    assert "took" in list(report.replay())[-1].redis


class Lazy:
    @property
    def __dict__(self):
        raise RuntimeError("there is nothing yet")


LAZY = Lazy()


@pytest.mark.parametrize("passes", [None, True])
def test_a_loop_beside_what_is_made_when_it_is_needed(passes):
    """Whoever looks whether it counts does not make it, nor raise what it raises."""

    def loop(redis, db):
        while not redis.get("go"):
            assert LAZY is not None
            time.sleep(1)

    report = explore({"ada": loop, "bob": sets}, invariant=always, passes=passes, stop="first")
    assert [finding.kind for finding in report.findings] == ["stuck"]


def test_what_a_loop_holds_is_gone_when_it_holds_another():
    """A cursor, say, and its lock: who looks at a loop's variables keeps none of them."""
    held = []

    def loop(redis, db):
        for _ in range(1000):
            thing = Lazy()
            held.append(weakref.ref(thing))
            if redis.get("go"):
                break
            del thing
            assert held[-1]() is None

    explore({"ada": loop, "bob": sets}, invariant=always, delays=False, stop="first").check()


class TestHowOftenItTries:
    """What a client was told decides: for ever in the first order, five times in another."""

    @staticmethod
    def explored(ask, tell, given=None):
        def tries(redis, db):
            for _ in range(int(ask(redis) or 1_000_000)):
                if redis.get("go"):
                    return True
                time.sleep(0.1)
            return False

        def goes(redis, db):
            tell(redis)
            redis.set("go", 1)

        clients = {"ada": tries, "bob": goes}
        return explore(clients, given=given, invariant=lambda redis, db, told: told["ada"])

    def test_redis_says_so(self):
        report = self.explored(
            lambda redis: redis.get("tries"), lambda redis: redis.set("tries", 5)
        )
        assert (report.interleavings, report.violations) == (14, 1)
        assert "until it gives up" in report.schedule

    def test_the_database_says_so(self, tmp_path):
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}", isolation_level="AUTOCOMMIT")

        def run(sql):
            with engine.connect() as connection:
                result = connection.exec_driver_sql(sql)
                return result.scalar() if result.returns_rows else None

        run("CREATE TABLE t(tries INTEGER)")
        report = self.explored(
            lambda redis: run("SELECT tries FROM t"),
            lambda redis: run("INSERT INTO t VALUES (5)"),
            given=lambda redis, db: run("DELETE FROM t"),
        )
        engine.dispose()
        assert (report.interleavings, report.violations) == (14, 1)


def test_what_a_step_asks_for_is_reckoned_once():
    """Each attempt is compared with many before it."""
    step = Operation("redis", [("GET", "go"), ("EVALSHA", "f0", 1, b"key", "more")])
    assert step.target == (("GET", "go"), ("EVALSHA", "f0", "1", "key"))
    assert step.target is step.target


ALWAYS = [
    ("SET", "k", "1"), ("SET", "k", "1", "EX", "9"), ("SET", "k", "1", "KEEPTTL", "GET"),
    ("SETEX", "k", "9", "1"), ("PSETEX", "k", "9", "1"), ("MSET", "k", "1"),
    ("INCR", "k"), ("INCRBY", "k", "0"), ("INCRBYFLOAT", "k", "0"), ("DECR", "k"),
    ("DECRBY", "k", "0"), ("HINCRBY", "h", "f", "0"), ("HINCRBYFLOAT", "h", "f", "0"),
    ("LPUSH", "l", "1"), ("RPUSH", "l", "1"),
]  # fmt: skip
NOT_ALWAYS = [
    ("SET", "k", "1", "NX"), ("SET", "k", "1", "XX"), ("SET", "k", "1", "EX", "9", "NX"),
    ("SADD", "s", "1"), ("DEL", "k"), ("EXPIRE", "k", "9"), ("LPUSHX", "l", "1"), ("EVAL", "return 1", "0"),
]  # fmt: skip


class TestWhatAlwaysChangesSomething:
    """Of such a step nobody asks the server whether it has changed anything."""

    @pytest.mark.parametrize("args", ALWAYS, ids=" ".join)
    def test_the_server_says_so_too(self, args):
        system = open_system()
        system.reset()
        assert Operation("redis", [args]).always_changes
        for _ in range(2):  # what is there already is set once more
            before = system.changes()
            system.redis.raw(*args)
            assert system.changes()[0] > before[0]

    @pytest.mark.parametrize("args", NOT_ALWAYS, ids=" ".join)
    def test_of_others_it_is_asked(self, args):
        assert not Operation("redis", [args]).always_changes

    def test_in_a_block_only_what_cannot_be_refused(self):
        block = [("INCR", "k"), ("LPUSH", "l", "1")]  # of the wrong type they change nothing
        assert not Operation("redis", block, transaction="multi").always_changes
        assert Operation("redis", [*block, ("SET", "k", "1")], transaction="multi").always_changes


class TestHowLongItIsFollowed:
    """While others stand still, who gives up by a clock is followed for long once; who counts, each time."""

    @staticmethod
    def polls_of(ends):
        """How often bob asks in each order, while ada has a lock."""
        polls = []

        def bob(redis, db):
            began = time.monotonic()
            polls.append(0)
            while not redis.set("lock", "bob", nx=True):
                polls[-1] += 1
                time.sleep(0.01)
                if ends(polls[-1], time.monotonic() - began):
                    raise TimeoutError

        def ada(redis, db):
            redis.set("lock", "ada", nx=True)
            redis.get("other")
            redis.get("another")
            redis.get("a third")

        report = explore({"ada": ada, "bob": bob}, invariant=always, raises=TimeoutError)
        assert report.verdict.status == "holds"
        return polls

    def test_by_a_clock(self):
        polls = self.polls_of(lambda polls, seconds: seconds > 60)
        assert sum(polled > 80 for polled in polls) == 1

    def test_by_a_count(self):
        """A count that nothing in its variables shows is one, too."""
        polls = self.polls_of(lambda polls, seconds: polls == 140)
        assert polls.count(140) > 1


class TestADeadlineAndATimeToLive:
    """Whichever comes first decides, to the sleep: a lock that ends before its waiter gives up is had."""

    @staticmethod
    def explored(seconds, ttl_s, moves):
        ttl = round(ttl_s * 1000)

        def holder(redis, db):
            redis.set("lock", "holder", nx=True, px=ttl)
            redis.get("work")
            redis.delete("lock")

        def waiter(redis, db):
            end = time.monotonic() + seconds
            while not redis.set("lock", "waiter", nx=True, px=ttl):
                if time.monotonic() > end:
                    raise TimeoutError
                time.sleep(0.01)
            redis.delete("lock")

        return explore({"holder": holder, "waiter": waiter}, invariant=always, **moves)

    @staticmethod
    def explored_async(seconds, ttl_s, moves):
        ttl = round(ttl_s * 1000)

        async def holder(redis, db):
            await redis.set("lock", "holder", nx=True, px=ttl)
            await redis.get("work")
            await redis.delete("lock")

        async def waiter(redis, db):
            async with asyncio.timeout(seconds):
                while not await redis.set("lock", "waiter", nx=True, px=ttl):
                    await asyncio.sleep(0.01)
            await redis.delete("lock")

        return explore({"holder": holder, "waiter": waiter}, invariant=always, **moves)

    @pytest.mark.long
    @pytest.mark.parametrize("moves", [{}, {"crashes": ["holder"]}])
    @pytest.mark.parametrize("ttl_s", [0.8, 0.96, 1.04])
    @pytest.mark.parametrize("scale", [1, 60])
    def test_is_had_or_not(self, scale, ttl_s, moves):
        due = "holds" if ttl_s < 1 else "broken"
        for one in (self.explored, self.explored_async):
            assert one(scale, scale * ttl_s, moves).verdict.status == due, one


def test_a_sleep_of_less_than_nothing_is_an_error():
    """As in Python: a key's TTL of -2 is no time to sleep."""

    def sleeps(redis, db):
        if not redis.set("lock", "1", nx=True, px=10_000):
            time.sleep(redis.pttl("lock") / 1000)
        redis.delete("lock")

    report = explore({"ada": sleeps, "bob": sleeps}, invariant=always)
    assert "raised ValueError" in str(report)


def test_what_was_set_once_is_not_prolonged():
    """Two sleeps of the last client outlast what it has set before the first."""

    def sleeps(redis, db):
        redis.set("lease", "x", ex=10)
        time.sleep(6)
        time.sleep(6)

    report = explore({"ada": sleeps}, invariant=lambda redis, db: redis.exists("lease") == 1)
    assert report.verdict.status == "broken"
