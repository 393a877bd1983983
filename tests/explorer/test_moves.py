"""The adversary's moves, on every kind of step: lost replies, passing time, expiry, crashes, deadlocks."""

import asyncio
import json
import sys
import time
from datetime import datetime

import pytest
import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from labsupport import explore
from labsupport.errors import InvalidSettingError, LabError
from labsupport.explorer.clock import START

USER = "SELECT username FROM users WHERE id = 1"
RENAME = "UPDATE users SET username = 'grace' WHERE id = 1"
SCRIPT = "return redis.call('INCR', KEYS[1])"
LIBRARY = """#!lua name=counting
redis.register_function('count', function(keys, args) return redis.call('INCR', keys[1]) end)
"""


def always(redis, db):
    return True


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("MULTI",), "MULTI was sent by itself"),
        (("EXEC",), "EXEC was sent by itself"),
        (("WAIT", 1, 0), "WAIT without a timeout"),
        (("",), "An empty command"),
    ],
)
def test_what_would_stay_or_never_end_is_refused(command, told):
    with pytest.raises(LabError, match=told):
        explore({"a": lambda redis, db: redis.execute_command(*command)}, invariant=always)


def test_a_wait_takes_no_time():
    """There are no replicas, and there will be none: who waited would meet redis-py's own timeout."""
    report = explore(
        {"a": lambda redis, db: redis.wait(1, 3_600_000)},
        invariant=lambda redis, db, told: told["a"] == 0,
    )
    assert report.violations == 0


def moves_of(report):
    return [step.move for step in report.counterexample]


# What a move does to each kind of step: the number of orders of one client that takes it once, with the
# move allowed and nothing else. 2: it was taken, or the move came in its place. For a lost reply the
# client tries again, so that the second attempt counts as well.


def plain(redis, db):
    redis.incr("n")


def multi(redis, db):
    with redis.pipeline() as pipe:
        pipe.incr("n")
        pipe.execute()


def pipelined(redis, db):
    with redis.pipeline(transaction=False) as pipe:
        pipe.incr("n")
        pipe.execute()


def watched(redis, db):
    redis.transaction(lambda pipe: (pipe.multi(), pipe.incr("n")), "w")


def script(redis, db):
    redis.eval(SCRIPT, 1, "n")


def registered(redis, db):
    redis.register_script(SCRIPT)(keys=["n"])


def function(redis, db):
    redis.fcall("count", 1, "n")


def blocking(redis, db):
    redis.blpop("jobs", timeout=1)
    redis.incr("n")


def stream(redis, db):
    redis.xadd("s", {"a": 1})
    redis.set("n", redis.xlen("s"))


def statement(redis, db):
    db.execute(RENAME)
    redis.set("n", 1)


def transaction(redis, db):
    with db.transaction():
        db.execute(RENAME)
    redis.set("n", 1)


KINDS = {
    # kind: orders with crashes, orders with one lost reply, the highest n with a lost reply
    plain: (2, 2, 2),
    multi: (2, 2, 2),
    pipelined: (2, 2, 2),
    watched: (3, 3, 2),
    script: (2, 2, 2),
    registered: (2, 2, 2),
    function: (2, 2, 2),
    blocking: (3, 3, 2),
    stream: (4, 4, 2),
    statement: (3, 2, 1),
    transaction: (4, 2, 1),
}


def given(redis, db):
    redis.function_load(LIBRARY, replace=True)
    redis.rpush("jobs", "a", "b")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
class TestEveryKindOfStep:
    def test_a_crash_comes_in_place_of_any_step(self, kind):
        """A client of n steps has n + 1 ends when it may crash."""
        report = explore({"a": kind}, given=given, invariant=always, crashes=True)
        assert (report.interleavings, report.exhausted) == (KINDS[kind][0], True)

    def test_a_lost_reply_is_tried_again(self, kind):
        """Each reply may be lost; the command is done, and redis-py's own retry does it again."""
        seen = set()

        def note(redis, db):
            seen.add(int(redis.get("n") or 0))
            return True

        report = explore({"a": kind}, given=given, invariant=note, loses=True)
        assert (report.interleavings, max(seen)) == KINDS[kind][1:]

    def test_without_moves_there_is_one_order(self, kind):
        """A move that is off costs no order."""
        assert explore({"a": kind}, given=given, invariant=always).interleavings == 1

    def test_pruning_and_moves_agree(self, kind):
        """Pruned or not, the same violations are found."""

        def once(redis, db):
            return int(redis.get("n") or 0) < 2

        found = [
            bool(
                explore(
                    {"a": kind, "b": lambda r, d: r.get("other")},
                    given=given,
                    invariant=once,
                    loses="a",
                    prune=prune,
                ).violations
            )
            for prune in (False, True)
        ]
        assert found == [KINDS[kind][2] == 2] * 2


class TestLostReplies:
    def test_a_lock_that_says_no_and_is_held(self):
        """SET NX is tried again, and finds the lock taken: by the client itself."""

        def acquire(redis, db):
            return bool(redis.set("lock", "ada", nx=True, ex=30))

        def held_means_told(redis, db, told):
            return told["ada"] == (redis.get("lock") == "ada")

        report = explore({"ada": acquire}, invariant=held_means_told, loses=True)
        assert (report.interleavings, report.violations) == (2, 1)
        assert moves_of(report) == ["lose", "step"]
        assert "SET lock ada NX EX 30 → OK, and the reply is lost" in report.schedule

    def test_a_watched_transaction_starts_again(self):
        """redis-py does not repeat EXEC once a key is watched: a WatchError starts all of it again."""

        def count_once(redis, db):
            def count(pipe):
                known = pipe.exists("note")
                pipe.multi()
                if not known:
                    pipe.incr("n").set("note", 1)

            redis.transaction(count, "note")

        report = explore({"a": count_once}, invariant=lambda r, d: r.get("n") == "1", loses=True)
        assert (report.interleavings, report.violations) == (4, 0)

    def test_without_retries_the_client_is_told(self):
        """Its own settings decide: with no retry it gets the error, and the command was done once."""

        def count(redis, db):
            redis.set_retry(Retry(NoBackoff(), 0))
            redis.incr("n")

        report = explore(
            {"a": count},
            invariant=lambda r, d, told: (
                r.get("n") == "1"
                and (told["a"] is None or isinstance(told["a"], redis_py.TimeoutError))
            ),
            loses=True,
            raises=redis_py.TimeoutError,
        )
        assert (report.interleavings, report.violations) == (2, 0)

    def test_what_a_run_sets_is_gone_in_the_next(self):
        """A client's retries are the defaults again when the next run begins."""

        def once(redis, db):
            if redis.incr("n") == 1:
                redis.set_retry(Retry(NoBackoff(), 0))

        report = explore({"a": once}, invariant=lambda r, d: r.get("n") in "12", loses=True)
        assert (report.interleavings, report.violations) == (2, 0)

    def test_at_most_as_many_as_asked_for(self):
        """One reply is lost in a run, or as many as `losses` says."""
        for losses, most in ((1, 2), (2, 3)):
            seen = set()

            def note(redis, db, seen=seen):
                seen.add(redis.get("n"))
                return True

            explore({"a": plain}, invariant=note, loses="a", losses=losses)
            assert max(seen) == str(most)

    @pytest.mark.parametrize("sleep", [0, 1])
    @pytest.mark.parametrize("passes", [False, True])
    def test_at_the_last_attempt_before_one_gives_up(self, sleep, passes):
        """Code that counts its attempts may go by an error at the last one, while another has the lock."""

        def acquire(redis, db, last):
            redis.set_retry(Retry(NoBackoff(), 0))
            for attempt in range(5):
                try:
                    if redis.set("lock", "ada", nx=True):
                        return True
                except redis_py.TimeoutError:
                    if attempt == 4:
                        return last
                time.sleep(sleep)
            return False

        def told_the_truth(redis, db, told):
            return told["ada"] == (redis.get("lock") == "ada")

        for last in (True, False):
            report = explore(
                {"ada": lambda redis, db, last=last: acquire(redis, db, last)},
                given=lambda redis, db: redis.set("lock", "bob"),
                invariant=told_the_truth,
                loses=True,
                passes=passes,
            )
            assert bool(report.violations) == last
            assert report.exhausted
            assert not report.notes
            if last:
                assert moves_of(report)[-1] == "lose"
                assert [*report.replay()][-1].step == report.counterexample[-1]

    @pytest.mark.parametrize(
        "steps", [("incr", "decr"), ("incr", "get", "strlen", "exists", "decr")]
    )
    def test_at_any_step_of_the_last_attempt(self, steps):
        """One takes a place too many and gives it back; what it is told at the last attempt, it believes."""
        assert all(self.believes_at_last(steps, which).violations for which in range(len(steps)))

    def believes_at_last(self, steps, which):

        def enters(redis, db):
            redis.set_retry(Retry(NoBackoff(), 0))
            for attempt in range(6):
                for at, ask in enumerate(steps):
                    try:
                        getattr(redis, ask)("places")
                    except redis_py.TimeoutError:
                        if (attempt, at) == (5, which):
                            return True
            return False

        return explore(
            {"ada": enters},
            given=lambda redis, db: redis.set("places", 7),
            invariant=lambda redis, db, told: not told["ada"],
            loses=True,
        )

    @pytest.mark.parametrize("own", [False, True])
    def test_what_one_is_served_with_that_has_blocked(self, own):
        """The job is gone, and nobody has it; whether it was there before, or comes only then."""

        def takes(redis, db):
            mine = redis_py.from_url("redis://localhost") if own else redis
            mine.set_retry(Retry(NoBackoff(), 0))
            return mine.blpop("jobs", timeout=0)

        def had(redis, db, told):
            return not isinstance(told["a"], redis_py.TimeoutError)

        report = explore(
            {"a": takes, "b": lambda redis, db: redis.rpush("jobs", "job")},
            invariant=had,
            loses="a",
            raises=redis_py.TimeoutError,
        )
        assert (report.interleavings, report.violations) == (4, 2)

    @pytest.mark.parametrize("own", [False, True])
    def test_that_nothing_came_while_one_waited(self, own):
        """Who waits for as long as its socket does is told of no empty queue, but of a timeout."""

        def waits(redis, db):
            mine = redis_py.from_url("redis://localhost") if own else redis
            mine.set_retry(Retry(NoBackoff(), 0))
            try:
                return mine.blpop("jobs", timeout=1)
            except redis_py.TimeoutError:
                return "is it empty?"

        report = explore({"a": waits}, invariant=lambda r, d, told: not told["a"], loses=True)
        assert (report.interleavings, report.violations) == (2, 1)
        assert moves_of(report) == ["step", "lose"]
        assert [*report.replay()][-1].step == report.counterexample[-1]

    def test_only_the_named(self):
        """A client that is not named keeps its replies."""
        report = explore({"a": plain, "b": plain}, invariant=always, loses=["b"])
        assert report.interleavings == 5  # b once: 2 orders; b twice: 3
        with pytest.raises(InvalidSettingError, match="loses names zelda"):
            explore({"a": plain}, invariant=always, loses="zelda")

    def test_a_watch_is_gone_with_its_connection(self):
        """After a lost reply to WATCH, redis-py says that the watch is over."""

        def change(redis, db):
            with redis.pipeline() as pipe:
                pipe.watch("n")
                n = int(pipe.get("n") or 0)
                pipe.multi()
                pipe.set("n", n + 1)
                pipe.execute()

        report = explore({"a": change}, invariant=always, loses=True)
        assert {finding.kind for finding in report.findings} <= {"raised"}
        assert report.exhausted


class TestPassingTime:
    def test_two_readings_of_one_clock(self):
        """What falls due between two readings of the clock is lost; the clock may be any."""

        def given(redis, db):
            redis.zadd("due", {"a": time.time() - 5, "b": time.time() + 2})

        def sweep(now):
            def run(redis, db):
                for job in redis.zrangebyscore("due", 0, now(redis)):
                    redis.rpush("failed", job)
                redis.zremrangebyscore("due", 0, now(redis))

            return run

        def nothing_lost(redis, db):
            return redis.zcard("due") + redis.llen("failed") == 2

        for now in (
            lambda redis: time.time(),
            lambda redis: redis.time()[0],
            lambda redis: datetime.now().timestamp(),
            lambda redis: float(redis.eval("return redis.call('TIME')[1]", 0)),
        ):
            still = explore({"a": sweep(now)}, given=given, invariant=nothing_lost, passes=False)
            moving = explore({"a": sweep(now)}, given=given, invariant=nothing_lost, passes=True)
            assert (still.interleavings, still.violations) == (1, 0)
            assert moving.violations > 0
            assert "2 s pass" in moving.schedule

    def test_a_time_to_live_ends(self):
        """Time passes to the moment at which a key ends, and what is left of it is read so before."""

        def hold(redis, db):
            redis.set("lock", "a", nx=True, ex=30)
            left = redis.pttl("lock")
            redis.set("left", left)

        def says_what_is_so(redis, db):
            left = redis.get("left")
            if redis.exists("lock"):
                return (left, redis.pttl("lock")) in {("30000", 30_000), ("30000", 1), ("1", 1)}
            return left in {"30000", "1", "-2"}

        report = explore({"a": hold}, invariant=says_what_is_so, passes=True)
        # it stands still, or passes before one of the three steps, to the end or shortly before
        assert (report.interleavings, report.violations) == (6, 0)

    def test_an_entry_is_idle_for_long_enough(self):
        """A claim finds a pending entry exactly when its idle time has passed, in a script too."""
        by_script = """
        return #redis.call('XAUTOCLAIM', KEYS[1], 'g', 'ada', ARGV[1], '0')[2]
        """

        def given(redis, db):
            redis.xgroup_create("s", "g", id="0", mkstream=True)
            redis.xadd("s", {"job": "a"})
            redis.xreadgroup("g", "bob", {"s": ">"})

        def claim(redis, db):
            return len(redis.xautoclaim("s", "g", "ada", 60_000)[1])

        def claim_by_script(redis, db):
            return redis.eval(by_script, 1, "s", 60_000)

        for client in (claim, claim_by_script):
            seen = set()

            def note(redis, db, told, seen=seen):
                seen.add(told["a"])
                return True

            explore({"a": client}, given=given, invariant=note)
            assert seen == {0}
            report = explore({"a": client}, given=given, invariant=note, passes=True)
            assert seen == {0, 1}
            assert report.exhausted

    @pytest.mark.long
    def test_attempts_with_sleeps_until_an_entry_is_idle(self):
        """What moments a run has seen in passing, its replay sees, too: the orders are the same."""

        def given(redis, db):
            redis.xgroup_create("jobs", "g", id="0", mkstream=True)
            redis.xadd("jobs", {"n": 1})
            redis.xreadgroup("g", "dead", {"jobs": ">"})

        def rescue(me):
            def client(redis, db):
                for _ in range(3):
                    claimed = redis.xautoclaim("jobs", "g", me, 2000)[1]
                    if claimed:
                        return redis.xack("jobs", "g", claimed[0][0])
                    time.sleep(1)
                return 0

            return client

        report = explore(
            {"a": rescue("a"), "b": rescue("b")},
            given=given,
            invariant=lambda redis, db, told: sum(told.values()) <= 1,
            passes=True,
        )
        assert (report.interleavings, report.violations) == (258, 0)

    def test_an_idle_time_that_is_set(self):
        """XCLAIM … IDLE and … TIME say how long an entry is to be idle, in `given`, client and script."""
        by_script = "return redis.call('XCLAIM', KEYS[1], 'g', 'eve', 0, ARGV[1], 'IDLE', ARGV[2])"

        def given(redis, db):
            redis.xgroup_create("s", "g", id="0", mkstream=True)
            for number in range(1, 5):
                redis.xadd("s", {"job": "a"}, id=f"{number}-0")
            redis.xreadgroup("g", "bob", {"s": ">"})
            redis.xclaim("s", "g", "bob", 0, ["1-0"], idle=90_000)

        def claim(redis, db):
            now = int(time.time() * 1000)
            redis.xclaim("s", "g", "bob", 0, ["2-0"], time=now - 80_000)
            redis.eval(by_script, 1, "s", "3-0", 70_000)
            rows = redis.xpending_range("s", "g", "-", "+", 10)
            found = [entry for entry, _ in redis.xautoclaim("s", "g", "ada", 60_000)[1]]
            return [row["time_since_delivered"] for row in rows], found

        seen = []
        explore(
            {"a": claim}, given=given, invariant=lambda _, db, told: seen.append(told["a"]) or True
        )
        assert seen[0] == ([90_000, 80_000, 70_000, 0], ["1-0", "2-0", "3-0"])

    def test_idle_times_are_the_clocks(self):
        """XPENDING tells how long an entry is pending on the explorer's clock, to the millisecond."""

        def given(redis, db):
            redis.xgroup_create("s", "g", id="0", mkstream=True)
            redis.xadd("s", {"job": "a"})
            redis.set("end", 1, px=1500)
            redis.xreadgroup("g", "bob", {"s": ">"})

        def look(redis, db):
            return redis.xpending_range("s", "g", "-", "+", 10)[0]["time_since_delivered"]

        seen = set()

        def note(redis, db, told):
            seen.add(told["a"])
            return True

        explore({"a": look}, given=given, invariant=note, passes=True)
        assert seen == {0, 1500}

    def test_a_sleep_lasts_until_time_has_passed(self):
        """With passing time a sleeper waits, and others move meanwhile."""

        def sleeper(redis, db):
            redis.rpush("log", "falls asleep")
            time.sleep(10)
            redis.rpush("log", "wakes")

        def other(redis, db):
            redis.rpush("log", "works")

        seen = set()

        def note(redis, db):
            seen.add(tuple(redis.lrange("log", 0, -1)))
            return True

        report = explore({"s": sleeper, "o": other}, invariant=note, passes=True)
        assert ("falls asleep", "works", "wakes") in seen
        assert report.exhausted

    @pytest.mark.parametrize("seconds", [59, 60])
    def test_the_last_one_s_sleep_outlasts_a_ttl(self, seconds):
        """Nobody else is there whose work could take that long: what has lived for as long is gone."""

        def pause(redis, db):
            redis.set("mark", "mine", ex=60)
            time.sleep(seconds)
            return redis.get("mark")

        async def wait(redis, db):
            await redis.set("mark", "mine", ex=60)
            await asyncio.sleep(seconds)
            return await redis.get("mark")

        def lasts(redis, db, told):
            return told["sleeper"] == ("mine" if seconds < 60 else None)

        for sleeper in (pause, wait):
            report = explore({"sleeper": sleeper}, invariant=lasts, passes=False)
            assert report.exhausted
            assert report.verdict.status == "holds", str(report)

    def test_a_sleep_beside_others_takes_no_ttl_from_them(self):
        """While another one works, a sleep is its client's own, or a slow machine would be a finding."""

        def worker(redis, db):
            redis.set("mark", "mine", ex=60)
            return redis.get("mark")

        def sleeper(redis, db):
            redis.incr("n")
            time.sleep(90)

        report = explore(
            {"sleeper": sleeper, "worker": worker},
            invariant=lambda redis, db, told: told["worker"] == "mine",
            passes=False,
        )
        assert report.verdict.status == "holds"

    @pytest.mark.usefixtures("expiring_fields")
    def test_hash_fields_end_too(self):
        """The time to live of a hash's field ends as a key's does."""

        def client(redis, db):
            redis.hset("h", mapping={"a": 1, "b": 2})
            redis.hexpire("h", 5, "a")
            return redis.httl("h", "a")[0], redis.hlen("h")

        seen = set()

        def note(redis, db, told):
            seen.add((*told["c"], redis.hlen("h")))
            return True

        explore({"c": client}, invariant=note, passes=True)
        assert (5, 2, 2) in seen
        assert any(left == 1 for *_, left in seen) or (-2, 1, 1) in seen

    def test_it_costs_nothing_where_it_is_off(self):
        """Without the move no clock runs, however long the machine takes."""

        def client(redis, db):
            redis.set("k", 1, px=1)
            for _ in range(200_000):
                pass
            return redis.get("k"), redis.pttl("k")

        report = explore({"a": client}, invariant=lambda r, d, told: told["a"] == ("1", 1))
        assert report.violations == 0


class TestClocks:
    def test_a_clients_own_clock(self):
        """A client's clock is ahead or behind by what is said; the server's is not."""

        def stamp(redis, db):
            return time.time() - redis.time()[0]

        report = explore(
            {"ada": stamp, "bob": stamp, "eve": stamp},
            invariant=lambda r, d, told: told == {"ada": 0, "bob": 60, "eve": -7.5},
            clocks={"bob": 60, "eve": -7.5},
        )
        assert report.violations == 0
        with pytest.raises(InvalidSettingError, match="clocks names zelda"):
            explore({"a": plain}, invariant=always, clocks={"zelda": 1})


class TestNobodyCanMoveOn:
    def test_a_circle_that_leaves_redis_as_it_was(self):
        """INCR, too many, DECR: the client waits for the other, and is not tried without end."""

        def enter(redis, db):
            while redis.incr("inside") > 1:
                redis.decr("inside")
            redis.decr("inside")

        report = explore({"a": enter, "b": enter}, invariant=lambda r, d: r.get("inside") == "0")
        assert (report.violations, report.exhausted) == (0, True)
        assert report.interleavings < 100

    def test_steps_that_look_alike_and_count(self):
        """A script that says the same each time and counts is no circle: every order is run."""
        script = "redis.call('INCR', KEYS[1]) return 1"

        def count(redis, db):
            for _ in range(6):
                redis.eval(script, 1, "n")

        seen = set()
        explore({"a": count, "b": lambda r, d: seen.add(r.get("n"))}, invariant=lambda r, d: True)
        assert seen == {None, "1", "2", "3", "4", "5", "6"}

    @pytest.mark.long
    @pytest.mark.parametrize("crashes", [False, True])
    def test_a_deadlock_where_somebody_may_crash(self, crashes):
        """A crash would end it, and need not come: nobody can move on."""

        def spin(mine, other):
            def run(redis, db):
                while not redis.set(mine, 1, nx=True):
                    pass
                while not redis.set(other, 1, nx=True):
                    pass
                redis.delete(mine, other)

            return run

        clients = {"a": spin("x", "y"), "b": spin("y", "x")}
        report = explore(clients, invariant=lambda r, d: True, crashes=crashes)
        assert [finding.kind for finding in report.findings] == ["stuck"]

        def wait(redis, db):
            redis.blpop("q", 0)

        report = explore({"a": wait}, invariant=lambda r, d: True, crashes=crashes)
        assert [finding.kind for finding in report.findings] == ["stuck"]

    @pytest.mark.long
    @pytest.mark.parametrize("crashes", [False, True])
    def test_a_search_among_endless_orders_ends(self, crashes):
        """A client that never ends and never repeats itself: the search is given up soon."""

        def grow(redis, db):
            while redis.rpush("l", "x"):
                pass

        clients = {"a": grow, "b": lambda r, d: r.ping()}
        report = explore(clients, invariant=lambda r, d: True, crashes=crashes)
        assert "more than 1,000 steps: a goes on without end" in report.given_up
        assert report.verdict.claims[0].status == "not exercised"

    @pytest.mark.long
    def test_a_poll_that_counts_is_given_up_soon(self):
        """Each attempt changes the counter: none is a repetition, and any number of them is an order."""

        def limited(redis, db):
            while redis.incr("window") > 1:
                time.sleep(1)
            redis.expire("window", 2)
            redis.rpush("in", "x")

        clients = {"a": limited, "b": limited}
        report = explore(clients, invariant=lambda redis, db: redis.llen("in") == 2)
        assert "goes on without end while others stand still" in report.given_up
        assert report.interleavings < 1_000
        explore(clients, invariant=lambda redis, db: redis.llen("in") == 2, passes=True).check()

    @pytest.mark.long
    def test_many_steps_are_no_endless_ones(self):
        """Who takes a hundred steps in the first order may take as many in another."""

        def many(redis, db):
            for number in range(100):
                redis.incr(f"n:{number}")

        report = explore(
            {"a": many, "b": lambda redis, db: redis.ping()}, invariant=lambda redis, db: True
        )
        assert report.exhausted
        assert report.interleavings == 101

    def test_two_locks_in_two_orders(self):
        """A deadlock is broken, with the shortest schedule and what each waits for."""

        def both(first, second):
            def run(redis, db):
                with redis.lock(first), redis.lock(second):
                    redis.incr("n")

            return run

        report = explore({"ada": both("x", "y"), "bob": both("y", "x")}, invariant=always)
        assert report.verdict.status == "broken"
        assert report.exhausted
        assert moves_of(report) == ["step", "step", "stuck", "stuck"]
        assert "ada repeats SET y" in report.reason
        assert "bob repeats SET x" in report.reason
        assert "nobody can move on" in report.headline

    def test_a_lost_wake_up(self):
        """Who looks, and waits after the signal has passed, waits for ever."""

        def waiter(redis, db):
            if not redis.exists("ready"):
                redis.set("waiting", 1)
                redis.blpop("signal", 0)

        def notifier(redis, db):
            if redis.exists("waiting"):
                redis.rpush("signal", 1)
            redis.set("ready", 1)

        report = explore({"waiter": waiter, "notifier": notifier}, invariant=always)
        assert report.findings[0].kind == "stuck"
        assert "waiter waits for BLPOP signal" in report.reason

    def test_a_time_to_live_ends_the_wait(self):
        """Nobody named the lock in `expires`; its end is the environment's, and no deadlock."""

        def critical(redis, db):
            while not redis.set("lock", "x", nx=True, ex=5):
                time.sleep(0.1)
            redis.incr("n")

        report = explore({"a": critical, "b": critical}, invariant=lambda r, d: r.get("n") == "2")
        assert (report.violations, report.exhausted) == (0, True)

    @pytest.mark.parametrize("told", ["'BUSY'", "redis.call('GET', KEYS[1])", "5000"])
    def test_a_refusal_may_say_anything(self, told):
        """A script that changes nothing has refused, whatever it replies."""
        acquire = f"""
        if redis.call('SET', KEYS[1], ARGV[1], 'NX') then return 'OK' end
        return {told}
        """

        def critical(name):
            def run(redis, db):
                while redis.eval(acquire, 1, "lock", name) != "OK":
                    time.sleep(0.1)
                redis.incr("n")
                redis.delete("lock")

            return run

        report = explore(
            {"a": critical("a"), "b": critical("b")}, invariant=lambda r, d: r.get("n") == "2"
        )
        assert (report.violations, report.exhausted) == (0, True)
        assert report.interleavings < 100

    def test_long_deadlines_end(self):
        """A wait with a deadline ends, however many attempts fit into it."""

        def patient(redis, db):
            end = time.monotonic() + 3600
            while time.monotonic() < end:
                if redis.get("never"):
                    return
                time.sleep(0.01)
            redis.set("gave_up", 1)

        report = explore({"a": patient}, invariant=lambda r, d: r.exists("gave_up"))
        assert (report.interleavings, report.violations) == (1, 0)

    def test_a_reply_of_zero_that_changed_something(self):
        """DECR to 0 is no refusal: who waits for it sees it."""

        def down(redis, db):
            redis.decr("n")

        def wait(redis, db):
            while redis.get("n") != "0":
                time.sleep(1)
            redis.set("seen", 1)

        report = explore(
            {"wait": wait, "a": down, "b": down},
            given=lambda r, d: r.set("n", 2),
            invariant=lambda r, d: r.exists("seen"),
        )
        assert (report.violations, report.exhausted) == (0, True)


def test_the_outcomes_reach_the_invariant():
    """A third argument holds what each returned, or raised where that is allowed; no crashed client."""

    class OutOfStockError(Exception):
        pass

    def buy(redis, db):
        if redis.decr("stock") < 0:
            redis.incr("stock")
            raise OutOfStockError
        return "sold"

    seen = []

    def one_is_sold(redis, db, told):
        seen.append(sorted(json.dumps(value, default=repr) for value in told.values()))
        return [*told.values()].count("sold") <= 1

    report = explore(
        {"a": buy, "b": buy},
        given=lambda r, d: r.set("stock", 1),
        invariant=one_is_sold,
        raises=OutOfStockError,
        crashes=True,
    )
    assert report.violations == 0
    assert ['"OutOfStockError()"', '"sold"'] in seen
    assert [] in seen


@pytest.mark.parametrize("lease_seconds", [5, 3000])
def test_time_passes_while_all_wait_for_a_reply(lease_seconds):
    """A wait of the server's with a timeout takes that long: what a crashed client holds ends meanwhile."""

    def works(redis, db):
        while not redis.set("lease", "ada", nx=True, ex=lease_seconds):
            redis.blpop("free", timeout=1)
        return time.time() - START

    def crashed(redis, db):
        redis.set("lease", "bob", nx=True, ex=lease_seconds)

    waited = set()
    explore(
        {"ada": works, "bob": crashed},
        invariant=lambda redis, db, told: waited.add(told["ada"]) or True,
        passes=False,
    ).check()
    assert min(waited) == 0
    assert lease_seconds <= max(waited) < 2 * lease_seconds + 20


def test_a_generator_that_a_crash_leaves_says_nothing():
    """Its `finally` reaches no server; nor does Python tell that it could not."""

    def counts(redis, db):
        def numbers():
            try:
                yield redis.incr("n")
            finally:
                redis.incr("ended")

        opened = numbers()
        next(opened)
        redis.get("n")

    before = sys.unraisablehook
    told: list[object] = []
    sys.unraisablehook = told.append
    try:
        explore({"ada": counts, "bob": counts}, invariant=lambda r, d: True, crashes=True).check()
        assert sys.unraisablehook == told.append
    finally:
        sys.unraisablehook = before
    assert told == []
