"""Which pauses and which attempts the adversary runs: any attempt may be the last in vain, any look at a
clock may come late, and a pause lasts to any moment at which something may change."""

import asyncio
import itertools
import json
import logging
import operator
import pickle
import random
import re
import secrets
import struct
import time
import urllib.request
import uuid
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from http.cookiejar import CookieJar

import pytest
import redis as redis_py
from redis.exceptions import LockError

from labsupport import explore
from labsupport.errors import InvalidSettingError

START = datetime(2100, 12, 31, 23, 59, 58, tzinfo=UTC).timestamp()
TIMES = (False, True, 3)


def always(redis, db):
    return True


def outcomes(clients, **options):
    """What the clients returned, over all orders."""
    seen = set()

    def note(redis, db, told):
        seen.add(tuple(told[name] for name in clients))
        return True

    report = explore(clients, invariant=note, **options)
    assert report.exhausted
    return seen


def patient(redis, db):
    for _ in range(5):
        if redis.set("lock", "me", nx=True):
            return "got it"
        time.sleep(1)
    return "gave up"


class TestAttempts:
    """A client that tries several times may get what it waits for in each of them."""

    @pytest.mark.parametrize("tries", [3, 4, 6, 12])
    @pytest.mark.parametrize("passes", TIMES)
    def test_each_may_be_the_one_that_succeeds(self, tries, passes):
        def taker(redis, db):
            for attempt in range(1, tries + 1):
                if redis.set("lock", "me", nx=True):
                    return attempt
                time.sleep(0.1)
            return None

        def holder(redis, db):
            redis.delete("lock")

        found = outcomes(
            {"taker": taker, "holder": holder},
            given=lambda redis, db: redis.set("lock", "other"),
            passes=passes,
        )
        got = {attempt for attempt, _ in found}
        assert got >= {1, 2, tries, None}
        assert tries > 6 or got == {*range(1, tries + 1), None}

    def test_without_a_sleep_too(self):
        def reader(redis, db):
            return [redis.get("x") for _ in range(4)]

        seen = set()

        def note(redis, db, told):
            seen.add(tuple(told["r"]))
            return True

        explore({"r": reader, "w": lambda redis, db: redis.set("x", 1)}, invariant=note)
        assert seen == {(None,) * n + ("1",) * (4 - n) for n in range(5)}

    def test_in_a_coroutine(self):
        async def taker(redis, db):
            for attempt in range(1, 5):
                if await redis.set("lock", "me", nx=True):
                    return attempt
                await asyncio.sleep(0.1)
            return None

        async def holder(redis, db):
            await redis.delete("lock")

        for passes in TIMES:
            found = outcomes(
                {"taker": taker, "holder": holder},
                given=lambda redis, db: redis.set("lock", "other"),
                passes=passes,
            )
            assert {attempt for attempt, _ in found} == {1, 2, 3, 4, None}, passes

    @pytest.mark.parametrize("passes", TIMES)
    def test_a_key_of_somebody_else_takes_no_order_away(self, passes):
        def given(redis, db):
            redis.set("lock", "other")
            redis.set("page", "cached", ex=2)

        def holder(redis, db):
            redis.delete("lock")

        found = outcomes({"p": patient, "h": holder}, given=given, passes=passes)
        assert {told for told, _ in found} == {"got it", "gave up"}

    def test_none_is_in_vain_beyond_a_time_to_live(self):
        def given(redis, db):
            redis.set("lock", "other", ex=2)

        clients = {"p": patient, "o": lambda redis, db: redis.get("x")}
        for passes in TIMES:
            assert {told for told, _ in outcomes(clients, given=given, passes=passes)} == {"got it"}

    def test_one_that_sleeps_for_ever_ends_the_exploration(self):
        def patient(redis, db):
            while not redis.set("lock", "me", nx=True):
                time.sleep(1)

        def holder(redis, db):
            redis.set("x", 1)
            redis.delete("lock")

        report = explore(
            {"p": patient, "h": holder},
            given=lambda redis, db: redis.set("lock", "other"),
            invariant=always,
            passes=True,
        )
        assert report.exhausted
        assert not report.violations


class TestLateLooks:
    """Between a reply and a look at the clock, and before the first step, a client may stand still."""

    def test_it_may_begin_when_time_has_passed(self):
        def writes(redis, db):
            redis.set("k", 1, ex=60)

        def dated(redis, db):
            now = time.time()
            redis.set("at", now)
            return round(now - START, 3)

        found = outcomes({"a": writes, "b": dated}, passes=True)
        assert {0.0, 60.0} <= {seconds for _, seconds in found}

    def test_a_deadline_counted_from_the_reply_is_too_late(self):
        def holds(after):
            def client(redis, db):
                before = time.monotonic()
                if not redis.set("lock", "me", nx=True, ex=10):
                    return
                begun = time.monotonic() if after else before
                redis.get("page")
                if time.monotonic() - begun < 10:
                    assert redis.get("lock") == "me", "it has no lock, and believes it has"

            return client

        late = explore({"a": holds(True)}, invariant=always, passes=True)
        assert "believes" in late.schedule
        assert "pass" in [step.move for step in late.counterexample]
        early = explore({"a": holds(False)}, invariant=always, raises=AssertionError, passes=True)
        assert early.exhausted

    def test_in_a_coroutine_too(self):
        async def holds(redis, db):
            if await redis.set("lock", "me", nx=True, ex=10):
                return round(time.time() - START, 3)
            return None

        assert {(0.0,), (10.0,)} <= outcomes({"a": holds}, passes=True)

    def test_the_schedule_says_so_and_can_be_run_again(self):
        def dated(redis, db):
            redis.set("at", int(time.time()))

        def sweeps(redis, db):
            redis.set("k", 1, ex=60)

        report = explore(
            {"a": dated, "b": sweeps},
            invariant=lambda redis, db: int(redis.get("at")) == START,
            passes=True,
        )
        assert "a begins later" in report.schedule
        assert [str(moment.step) for moment in report.replay()] == list(
            map(str, report.counterexample)
        )


class TestMoments:
    """A pause lasts to a moment at which something may change, and one is always known."""

    @pytest.mark.parametrize(
        "written",
        [
            lambda: time.time() + 60,
            lambda: int((time.time() + 60) * 1000),
            lambda: f"t{int(time.time() + 60)}",
            lambda: json.dumps({"until": (datetime.now(UTC) + timedelta(minutes=1)).isoformat()}),
            lambda: (datetime.now() + timedelta(seconds=62)).strftime("%Y-%m-%d %H:%M"),
        ],
        ids=["seconds", "milliseconds", "after a letter", "iso in json", "a date"],
    )
    def test_what_a_value_says_is_one(self, written):
        def writes(redis, db):
            redis.set("until", written())

        def looks(redis, db):
            redis.ping()
            return round(time.time() - START)

        told = {told for _, told in outcomes({"w": writes, "l": looks}, passes=True)}
        assert 0 in told
        assert told & {60, 62}  # a date without seconds is a full minute

    def test_in_a_statement_too(self):
        def writes(redis, db):
            db.execute(f"UPDATE users SET username = '{time.time() + 60}' WHERE id = 1")

        def looks(redis, db):
            redis.ping()
            return round(time.time() - START, 3)

        assert 60.0 in {told for _, told in outcomes({"w": writes, "l": looks}, passes=True)}

    def test_where_nothing_names_one_it_is_another_day(self):
        def writes(redis, db):
            redis.incr(f"count:{date.today()}")
            return time.strftime("%H:%M")

        found = {day for (day,) in outcomes({"a": writes}, passes=True)}
        # at midnight, or a day, an hour and a minute later
        assert found == {"23:59", "00:00", "01:00"}

    def test_not_where_nobody_asked_for_time_to_pass(self):
        """Who asks twice is not told of another day by default, but of what may change meanwhile."""

        def measures(redis, db, ttl=None):
            began = time.time()
            redis.set("k", 1, ex=ttl)
            redis.ping()
            return round(time.time() - began)

        assert outcomes({"a": measures}) == {(0,)}
        assert outcomes({"a": lambda redis, db: measures(redis, db, 60)}) == {(0,), (60,)}

    def test_a_pause_may_last_beyond_the_next_moment(self):
        def looks(redis, db):
            redis.set("soon", 1, ex=5)
            redis.set("later", 1, ex=60)
            return redis.exists("soon"), redis.exists("later")

        seen = {told for (told,) in outcomes({"a": looks}, passes=True)}
        assert seen == {(1, 1), (0, 1), (0, 0), (1, 0)}

    def test_the_timeout_of_a_blocking_command_is_one(self):
        def worker(redis, db):
            if redis.blpop("q", 1) is None:
                redis.set("closed", 1)

        def producer(redis, db):
            if not redis.exists("closed"):
                redis.rpush("q", "job")

        def no_job_is_left(redis, db):
            return not (redis.exists("closed") and redis.llen("q"))

        clients = {"w": worker, "p": producer}
        report = explore(clients, invariant=no_job_is_left, passes=True)
        assert report.violations

    def test_how_long_what_lasts_is_known_before_it_is_asked(self):
        """A reaper that begins when a beat is a minute old has named no moment until then."""

        def beats(redis, db):
            redis.zadd("alive", {"a": time.time()})
            redis.get("work")
            return redis.zscore("alive", "a") is not None

        def reaps(redis, db):
            now = time.time()
            redis.zremrangebyscore("alive", 0, now - 60)
            return round(now - START)

        found = outcomes({"a": beats, "r": reaps}, passes=True)
        assert {(True, 0), (True, 60), (False, 60)} <= found

    def test_a_blocking_command_lasts_no_longer_than_a_lease(self):
        def waits(redis, db):
            redis.set("lease", 1, ex=60)
            redis.blpop("q", 5)
            return redis.exists("lease")

        assert (1,) in outcomes({"a": waits}, passes=True)

    def test_a_task_of_its_own_keeps_a_lease_alive(self):
        async def beats(redis, db):
            async def beat():
                while True:
                    await redis.expire("lease", 10)
                    await asyncio.sleep(3)

            task = asyncio.create_task(beat())
            await redis.set("work", 1)
            await asyncio.sleep(20)
            task.cancel()

        report = explore(
            {"a": beats},
            given=lambda redis, db: redis.set("lease", 1, ex=10),
            invariant=lambda redis, db: redis.exists("lease"),
            passes=False,
        )
        assert not report.violations

    @pytest.mark.long
    def test_it_is_the_same_each_time(self):
        def hit(redis, db):
            now = int(time.time())
            if now < int(redis.get("until") or 0):
                return
            redis.set("until", now + 60)

        runs = [explore({"a": hit, "b": hit}, invariant=always, passes=2) for _ in range(2)]
        assert 100 < runs[0].interleavings == runs[1].interleavings < 900

    def test_that_time_stood_still_is_told(self):
        """Where two clients ask what time it is, and nothing was broken."""

        def asks(redis, db):
            redis.zadd("seen", {"me": time.time()})

        told = "Time stood still, though a and b ask what time it is"
        assert told in str(explore({"a": asks, "b": asks}, invariant=always))
        assert "stood still" not in str(explore({"a": asks, "b": asks}, invariant=always, passes=1))
        assert "stood still" not in str(explore({"a": asks}, invariant=always))


class TestStrictly:
    """A deadline is over for code that asks with < and for code that asks with <=."""

    @pytest.mark.parametrize(
        "unit",
        [
            lambda seconds: seconds,
            lambda seconds: int(seconds),
            lambda seconds: int(seconds * 1000),
            lambda seconds: datetime.fromtimestamp(seconds, UTC).isoformat(),
            lambda seconds: datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        ],
        ids=["float", "seconds", "milliseconds", "date", "whole seconds of a date"],
    )
    @pytest.mark.parametrize("over", [operator.gt, operator.ge])
    def test_what_is_read_before_and_after_the_clock(self, unit, over):
        def given(redis, db):
            redis.set("until", unit(time.time() + 10))

        def told(redis):
            found = redis.get("until")
            return found if isinstance(unit(1), str) else type(unit(1.5))(found)

        def before(redis, db):
            return over(unit(time.time()), told(redis))

        def after(redis, db):
            until = told(redis)
            return over(unit(time.time()), until)

        for client in (before, after):
            assert outcomes({"a": client}, given=given, passes=True) == {(False,), (True,)}

    def test_a_time_to_live_that_the_code_counts_itself(self):
        def fills(redis, db):
            begun = time.monotonic()
            redis.set("k", 1, ex=10)
            return time.monotonic() - begun > 10

        assert (True,) in outcomes({"a": fills}, passes=True)


class TestWhatIsTold:
    """The schedule names what was done: no attempt that nobody made, no reply that nobody got."""

    def schedule(self, waits):
        def holder(redis, db):
            if redis.set("lock", "h", nx=True, px=5000):
                redis.set("held", 1)

        def kept(redis, db):
            """The holder keeps the lock"""
            return redis.get("lock") == "h" or not redis.exists("held")

        return explore({"b": waits, "h": holder}, invariant=kept, passes=True).schedule

    def test_a_sleep_after_a_refusal_is_no_attempt(self):
        def once(redis, db):
            redis.set("lock", "b", nx=True, px=5000)
            time.sleep(6)

        told = self.schedule(once)
        assert told.count("SET lock b NX") == 1
        assert "6 s pass" in told
        assert "gives up" not in told

    def test_the_attempt_that_succeeds(self):
        def loop(redis, db):
            while not redis.set("lock", "b", nx=True, px=5000):
                time.sleep(0.5)

        told = self.schedule(loop)
        assert "SET lock b NX PX 5000 → OK, after 5 s" in told
        assert "gives up" not in told


class TestOversleeping:
    """A sleep that outlasts what the client has in Redis needs no `passes` to be found."""

    def holder(self, ttl, seconds):
        def holds(redis, db):
            if redis.set("lock", 1, nx=True, px=int(ttl * 1000)):
                redis.incr("inside")
                time.sleep(seconds)
                if redis.decr("inside"):
                    return "not alone"
                redis.delete("lock")
            return None

        return holds

    def explored(self, ttl, seconds, **options):
        def alone(redis, db, told):
            """Nobody else is inside"""
            return "not alone" not in told.values()

        two = dict.fromkeys(("a", "b"), self.holder(ttl, seconds))
        return explore(two, invariant=alone, **options)

    def test_it_is_found(self):
        report = self.explored(5, 6)
        assert report.violations > 0
        assert "a sleeps for longer than something in Redis lives" in str(report.notes)

    def test_a_shorter_one_is_nothing(self):
        report = self.explored(5, 4)
        assert (report.violations, report.notes) == (0, ())
        assert self.explored(5, 6, passes=False).violations == 0

    @pytest.mark.parametrize("seconds", [4, 6])
    def test_who_comes_later(self, seconds):
        """It sleeps first; meanwhile the other, which is slow, may have lost what it holds."""

        def later(redis, db):
            time.sleep(seconds)
            return self.holder(5, 0)(redis, db)

        report = explore(
            {"a": self.holder(5, 0), "b": later},
            invariant=lambda redis, db, told: "not alone" not in told.values(),
        )
        assert bool(report.violations) == (seconds > 5)

    def test_who_waits_for_another_does_not_let_it_oversleep(self):
        def waits(redis, db):
            while not redis.set("lock", 1, nx=True, px=5000):
                time.sleep(30)
            redis.delete("lock")

        report = explore({"a": waits, "b": waits}, invariant=always)
        assert (report.violations, report.notes) == (0, ())

    @pytest.mark.long
    def test_who_found_nothing_before_does_not_wait(self):
        """What ends is its own; and the attempts of the other, all in vain, are shown as one."""

        def counts(redis, db):
            with redis.lock("lock", timeout=5, blocking_timeout=20):
                found = int(redis.get("n") or 0)
                time.sleep(6)
                redis.set("n", found + 1)

        two = {"a": counts, "b": counts}
        report = explore(two, invariant=lambda r, d: r.get("n") == "2", raises=LockError)
        assert report.violations > 0
        assert "times more, in 4." in report.schedule
        assert len(report.schedule.splitlines()) < 25

    @pytest.mark.long
    @pytest.mark.parametrize(
        ("between", "found"),
        [
            (lambda redis, lock: None, True),
            (lambda redis, lock: redis.get("x"), True),
            (lambda redis, lock: redis.set("done", 1), True),
            (lambda redis, lock: lock.reacquire(), False),
        ],
    )
    def test_two_that_are_too_long_together(self, between, found):
        """Unless the lock is renewed between them."""

        def counts(redis, db):
            lock = redis.lock("lock", timeout=5)
            lock.acquire()
            n = int(redis.get("n") or 0)
            time.sleep(3)
            between(redis, lock)
            time.sleep(3)
            redis.set("n", n + 1)
            with suppress(LockError):
                lock.release()

        report = explore({"a": counts, "b": counts}, invariant=lambda r, d: r.get("n") == "2")
        assert bool(report.violations) == bool(report.notes) == found

    def test_who_asks_again_and_again_may_be_answered_soon(self):
        def asks(redis, db):
            redis.set("wanted", 1, ex=5)
            for _ in range(8):
                if redis.get("answer"):
                    return
                time.sleep(1)

        def answers(redis, db):
            redis.set("answer", redis.exists("wanted"))

        report = explore({"a": asks, "b": answers}, invariant=always)
        assert (report.violations, report.notes) == (0, ())

    def test_who_works_for_longer_than_its_entry_is_left_alone(self):
        """A sleep that outlasts the idle time after which another claims the entry is found, too."""

        def worker(name, idle_ms):
            def works(redis, db):
                for _, entries in redis.xreadgroup("g", name, {"s": ">"}, count=1):
                    time.sleep(30)
                    redis.incrby("done", len(entries))
                    redis.xack("s", "g", entries[0][0])
                _, claimed, *_ = redis.xautoclaim("s", "g", name, idle_ms, "0", count=1)
                redis.incrby("done", len(claimed))

            return works

        def given(redis, db):
            redis.xadd("s", {"a": 1})
            redis.xgroup_create("s", "g", "0")

        def found(idle_ms):
            two = {name: worker(name, idle_ms) for name in ("a", "b")}
            return explore(two, given=given, invariant=lambda r, d: r.get("done") == "1")

        assert found(10_000).violations > 0
        assert found(60_000).violations == 0


class TestWhatIsNoRetry:
    """A loop over members is no retry of the same, though each reply is 0 or nothing."""

    def count(self, read):
        return lambda redis, db: sum(int(read(redis, n) or 0) for n in range(34))

    def moves(self, put, take):
        def given(redis, db):
            put(redis, 30)

        def mover(redis, db):
            with redis.pipeline() as pipe:
                take(pipe, 30)
                put(pipe, 3)
                pipe.execute()

        return given, mover

    @pytest.mark.parametrize(
        ("read", "put", "take"),
        [
            (
                lambda r, n: r.getbit("k", n),
                lambda r, n: r.setbit("k", n, 1),
                lambda r, n: r.setbit("k", n, 0),
            ),
            (
                lambda r, n: r.hget("k", n),
                lambda r, n: r.hset("k", str(n), 1),
                lambda r, n: r.hdel("k", n),
            ),
            (
                lambda r, n: r.sismember("k", n),
                lambda r, n: r.sadd("k", n),
                lambda r, n: r.srem("k", n),
            ),
        ],
        ids=["bits", "fields", "members"],
    )
    def test_who_moves_meanwhile_is_missed(self, read, put, take):
        given, mover = self.moves(put, take)
        report = explore(
            {"a": self.count(read), "b": mover},
            given=given,
            invariant=lambda redis, db, told: told["a"] == 1,
        )
        assert (report.interleavings, report.violations, report.exhausted) == (35, 27, True)

    def test_any_of_ten_attempts_may_be_the_one(self):
        def polls(redis, db):
            return next((n for n in range(10) if redis.get("ready")), None)

        report = explore(
            {"a": polls, "b": lambda redis, db: redis.set("ready", 1)},
            invariant=lambda redis, db, told: told["a"] != 5,
        )
        assert (report.interleavings, report.violations) == (11, 1)

    @pytest.mark.long
    @pytest.mark.parametrize("count", [30, 60])
    @pytest.mark.parametrize(
        "removes",
        [
            lambda redis, name: redis.srem("active", name),
            lambda redis, name: uuid.uuid4() and redis.srem("active", name),
            lambda redis, name: redis.eval(
                "return redis.call('SREM', KEYS[1], ARGV[1])", 1, "active", name
            ),
        ],
        ids=["a command", "a command, and a trace", "a script"],
    )
    def test_names_that_look_like_tokens_are_no_attempts(self, removes, count):
        """Each is another member, whatever else was drawn; the other comes in between any two."""
        names = [str(uuid.uuid5(uuid.NAMESPACE_DNS, str(n))) for n in range(count)]
        early, late = names[count // 2], names[count // 2 + 4]

        def revokes(redis, db):
            return [name for name in names if removes(redis, name)]

        report = explore(
            {"ada": revokes, "bob": lambda redis, db: redis.sadd("active", early, late)},
            invariant=lambda redis, db, told: told["ada"] != [late],
        )
        assert (report.interleavings, report.violations) == (count + 1, 4)

    def test_a_transaction_of_nothing_may_come_twice(self):
        def looks(redis, db):
            for _ in range(2):
                redis.transaction(lambda pipe: pipe.multi(), "k")

        explore({"a": looks, "b": looks}, invariant=always).check()

    def test_who_counts_its_attempts_ends_the_search(self):
        """After many in vain, another argument is another attempt."""
        ready = "return redis.call('GET', KEYS[1])"

        def polls(redis, db):
            count = 0
            while not redis.eval(ready, 1, "ready", count):
                count += 1
                time.sleep(0.5)

        report = explore(
            {"a": polls, "b": lambda redis, db: redis.set("ready", 1)}, invariant=always
        )
        assert (report.violations, report.exhausted) == (0, True)

    @pytest.mark.long
    def test_who_polls_under_a_lock_is_no_deadlock(self):
        """It stands with the lock in hand; a step farther, another gets it."""

        def takes(redis):
            while not redis.set("lock", 1, nx=True):
                time.sleep(0.1)

        def works(redis, db):
            found = None
            while not found:
                takes(redis)
                found = redis.lpop("jobs")
                redis.delete("lock")
            redis.set("did", found)

        def puts(redis, db):
            takes(redis)
            redis.rpush("jobs", 1)
            redis.delete("lock")

        report = explore(
            {"w": works, "p": puts}, invariant=lambda redis, db: redis.get("did") == "1"
        )
        assert (report.violations, report.exhausted) == (0, True)

    @pytest.mark.parametrize(
        "token",
        [
            secrets.token_hex,
            lambda: time.time(),
            uuid.uuid4,
            lambda: f"{random.getrandbits(64):016x}",
        ],
    )
    def test_another_token_is_another_attempt(self, token):
        """One that is drawn anew for each attempt of a script ends the search as the same does."""
        take = "return redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', 30)"

        def works(redis, db):
            while not redis.eval(take, 1, "lock", str(token())):
                time.sleep(0.01)
            redis.delete("lock")

        report = explore({"a": works, "b": works}, invariant=always)
        assert (report.violations, report.exhausted) == (0, True)


class TestWhatIsNotSaid:
    """A fault that could hit nobody is named; an answer that the database would not give is none."""

    def test_a_pattern_that_matches_nothing(self):
        def client(redis, db):
            redis.set("lock:a", 1, ex=5)
            redis.get("lock:a")

        wrong = explore({"a": client}, invariant=always, expires="locks:*")
        right = explore({"a": client}, invariant=always, expires="lock:*")
        assert "'locks:*'" in str(wrong.notes)
        assert right.notes == ()

    def test_a_race_is_not_called_none(self):
        """The first order, in which the first client waits for the second, is no sequence."""

        def takes(redis, db):
            redis.set("told", redis.blpop("jobs", 0)[1])

        def gives(redis, db):
            redis.rpush("jobs", 1)

        never = {"invariant": lambda r, d: not r.exists("told"), "stop": "first"}
        report = explore({"t": takes, "g": gives}, **never)
        assert "BLPOP jobs 0 → waits, then" in report.schedule
        assert "no race" not in str(report)
        alone = explore({"g": gives, "h": gives}, invariant=lambda r, d: not r.exists("jobs"))
        assert "no race" in str(alone)

    def test_time_that_cannot_pass_is_told_so(self):
        def twice(redis, db):
            first = time.time()
            redis.ping()
            return time.time() == first

        assert "Time stood still, though a asks twice" in str(
            explore({"a": twice}, invariant=always).notes
        )


def test_a_time_to_live_that_every_attempt_prolongs_ends_no_wait():
    """A crashed holder's lock, which who waits for it keeps alive: nobody ever gets it."""

    def attempts(prolongs):
        def client(redis, db):
            while True:
                block = redis.pipeline().setnx("lock", 1)
                if (prolongs or not redis.exists("lock")) and block.pexpire("lock", 5000).execute()[
                    0
                ]:
                    break
                time.sleep(0.02)
            redis.delete("lock")

        return client

    stuck = {True: explore(dict.fromkeys("ab", attempts(True)), invariant=always, crashes="a")}
    stuck[False] = explore(dict.fromkeys("ab", attempts(False)), invariant=always, crashes="a")
    assert "for ever" in stuck[True].counterexample[-1].__str__()
    assert stuck[False].violations == 0


class TestWhatAFreshReaderBroke:
    @pytest.mark.long
    def test_a_pause_that_jumps_over_a_moment_is_no_deadlock(self):
        def lease(redis, db):
            now = int(time.time() * 1000)
            redis.zadd("leases", {"x": now + 5000})
            time.sleep(1)
            return redis.zrangebyscore("leases", 0, int(time.time() * 1000))

        for options in ({}, {"passes": True}):
            report = explore({"a": lease, "b": lease}, invariant=always, **options)
            assert (report.violations, report.exhausted) == (0, True)

    @pytest.mark.long
    def test_pruning_loses_no_late_look(self):
        def dates(redis, db):
            redis.set("d", time.time() + 1)
            seen, begun = time.time(), time.monotonic()
            redis.get("q")
            return round(seen - START), round(time.monotonic() - begun)

        def pushes(redis, db):
            redis.rpush("l", 1)
            redis.incr("k")
            begun = time.monotonic()
            redis.get("q")
            return round(time.monotonic() - begun)

        both = {"a": dates, "b": pushes}
        assert outcomes(both, passes=True) == outcomes(both, passes=True, prune=True)

    def test_an_error_of_an_order_in_which_time_passes_is_a_finding(self):
        def works(redis, db):
            while not redis.set("lock", "x", nx=True, ex=5):
                time.sleep(1)
            assert redis.incr("inside") == 1
            time.sleep(10)
            redis.decr("inside")
            redis.delete("lock")

        report = explore({"a": works, "b": works}, invariant=always, max_runs=300)
        assert "AssertionError" in report.findings[0].reason

    def test_keys_that_are_shown_alike_expire_each_for_itself(self):
        def given(redis, db):
            for minute in (0, 60):
                redis.set(f"w:{int(START) - minute}", 1, ex=120)

        def reads(redis, db):
            return tuple(redis.mget(f"w:{int(START)}", f"w:{int(START) - 60}"))

        found = outcomes({"a": reads}, given=given, expires="w:*")
        assert found == {((one, other),) for one in ("1", None) for other in ("1", None)}

    @pytest.mark.long
    @pytest.mark.parametrize(
        ("attempt", "ends"),
        [
            (lambda redis: redis.expire("lock", 5), False),
            (lambda redis: redis.getex("lock", ex=5), False),
            (lambda redis: redis.getex("lock"), True),
            (lambda redis: redis.expire("lock", 5, lt=True), True),
            (lambda redis: redis.expire("lock", 5, nx=True), True),
        ],
    )
    @pytest.mark.parametrize("seconds", [0, 1])
    def test_which_attempts_prolong_what_they_wait_for(self, attempt, ends, seconds):
        def given(redis, db):
            redis.set("lock", 1, ex=5)
            redis.set("session", 1, ex=60)

        def waits(redis, db):
            while redis.exists("lock"):
                attempt(redis)
                time.sleep(seconds)

        report = explore({"a": waits}, given=given, invariant=always)
        assert (report.violations == 0) == ends


COUNTS_BY_TIME = """
local second = redis.call('TIME')[1]
local count = redis.call('INCR', KEYS[1] .. ':' .. math.floor(second / ARGV[1]))
if count == 1 then redis.call('EXPIRE', KEYS[1] .. ':' .. math.floor(second / ARGV[1]), ARGV[2]) end
return {count, redis.call('TIME')[1]}
"""


def once_in_any(seconds):
    """The claim of a limiter: nobody is let in twice within so many seconds."""

    def claim(redis, db, told):
        moments = sorted(moment for count, moment in told.values() if count == 1)
        return all(b - a >= seconds for a, b in itertools.pairwise(moments))

    return claim


class TestWindowsByTheClock:
    """A window that a key is named after may end at any time, also just after somebody was counted."""

    @pytest.mark.long
    @pytest.mark.parametrize(
        "window",
        [
            lambda: int(time.time()) // 60,
            lambda: time.time() // 60,
            lambda: int(time.time() / 30),
            lambda: int(time.time() // 60) * 60,
            lambda: time.time_ns() // 1_000_000 // 60_000,
            lambda: int(time.time()) // 3600,
            lambda: int(time.time()) // 86_400,
            lambda: f"{datetime.now(UTC):%Y%m%d%H%M}",
            lambda: datetime.now(UTC).isoformat(timespec="minutes"),
            lambda: time.strftime("%Y-%m-%d-%H", time.gmtime()),
            lambda: time.strftime("%H:%M", time.gmtime()),
            lambda: f"{date.today():%Y-%m}",
        ],
    )
    def test_two_are_let_in_two_seconds_apart(self, window):
        def comes(redis, db):
            with redis.pipeline() as pipe:
                pipe.incr(f"limit:ada:{window()}").time()
                count, (second, _) = pipe.execute()
            return count, second

        found = outcomes({"a": comes, "b": comes}, passes=True)
        let_in = {b[1] - a[1] for a, b in found if a[0] == b[0] == 1}
        assert 2 in let_in

    @pytest.mark.parametrize(
        "week",
        [
            lambda: f"{datetime.now(UTC):%G-W%V}",
            lambda: "W{1}".format(*datetime.now(UTC).isocalendar()),
            lambda: int(time.time()) // (7 * 86_400),
            lambda: int(time.time()) // (30 * 86_400),
            lambda: int(time.time()) // (2 * 86_400),
            lambda: int(time.time()) // (5 * 86_400),
            lambda: int(time.time()) // (36 * 3600),
            lambda: int(time.time()) // (5 * 3600),
            lambda: int(time.time()) // 5400,
        ],
    )
    def test_a_window_of_any_length_ends_too(self, week):
        def comes(redis, db):
            return redis.incr(f"quota:ada:{week()}")

        assert (1, 1) in outcomes({"a": comes, "b": comes}, passes=True)

    @pytest.mark.parametrize("ttl", [60, 120])
    def test_a_script_that_asks_the_server(self, ttl):
        def comes(redis, db):
            return [int(one) for one in redis.eval(COUNTS_BY_TIME, 1, "limit:ada", 60, ttl)]

        report = explore({"a": comes, "b": comes}, invariant=once_in_any(10), passes=True)
        assert report.verdict.status == "broken", report

    def test_a_window_that_begins_with_who_comes_first_does_not_end_before(self):
        def comes(redis, db):
            with redis.pipeline() as pipe:
                pipe.incr("limit:ada").expire("limit:ada", 60, nx=True).time()
                count, _, (second, _) = pipe.execute()
            return count, second

        explore({"a": comes, "b": comes}, invariant=once_in_any(60), passes=True).check()


@pytest.mark.parametrize(
    ("dump", "load"),
    [
        (lambda until: pickle.dumps((until, "page")), lambda raw: pickle.loads(raw)[0]),
        (lambda until: pickle.dumps((int(until), "page")), lambda raw: pickle.loads(raw)[0]),
        (
            lambda until: pickle.dumps(datetime.fromtimestamp(until, UTC)),
            lambda raw: pickle.loads(raw).timestamp(),
        ),
        (lambda until: struct.pack("!d", until), lambda raw: struct.unpack("!d", raw)[0]),
        (
            lambda until: datetime.fromtimestamp(until, UTC).strftime("%Y%m%d%H%M%S"),
            lambda raw: (
                datetime.strptime(raw.decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
            ),
        ),
        (
            lambda until: time.ctime(until),
            lambda raw: time.mktime(time.strptime(raw.decode())),
        ),
        (
            lambda until: json.dumps({"at": until - 30, "ttl": 30}),
            lambda raw: json.loads(raw)["at"] + json.loads(raw)["ttl"],
        ),
    ],
    ids=["pickle", "an int", "a date", "struct", "digits", "ctime", "a lifetime"],
)
def test_a_deadline_in_whatever_form_it_is_kept(dump, load):
    """It comes long before the key ends: who has asked for the time first finds the page stale."""
    with redis_py.Redis() as kept:

        def given(redis, db):
            kept.set("page", dump(time.time() + 30), ex=3600)

        def reads(redis, db):
            now, raw = time.time(), kept.get("page")
            return raw is None or load(raw) >= now

        def fresh(redis, db, told):
            return told["ada"]

        clients = {"ada": reads, "bob": lambda redis, db: redis.ping()}
        report = explore(clients, given=given, invariant=fresh, passes=True)
        assert report.verdict.status == "broken", report


def polls(ttl, patience, step):
    """A client that asks for a lock until its own deadline is over."""

    def waits(redis, db):
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if redis.set("lock", "me", nx=True, ex=ttl):
                return True
            time.sleep(step)
        return False

    return waits


def polls_in_a_loop(ttl, patience, step):
    """The same, as a coroutine."""

    async def waits(redis, db):
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if await redis.set("lock", "me", nx=True, ex=ttl):
                return True
            await asyncio.sleep(step)
        return False

    return waits


class TestPatienceThatOutlastsALock:
    """Who polls until a deadline of its own gets a dead client's lock, if that ends before."""

    @pytest.mark.parametrize(
        ("ttl", "patience", "step"),
        [(3, 5, 0.1), (3, 30, 0.1), (3, 6, 0.5), (1, 5, 0.01), (10, 12, 0.1), (10, 30, 0.25)],
    )
    @pytest.mark.parametrize("client", [polls, polls_in_a_loop])
    def test_it_is_had_in_time(self, client, ttl, patience, step):
        waits = client(ttl, patience, step)
        assert outcomes({"a": waits, "b": waits}) == {(True, True)}

    @pytest.mark.parametrize(
        ("ttl", "patience", "step"), [(5, 3, 0.1), (30, 10, 0.1), (2, 1, 0.01)]
    )
    def test_and_not_one_that_lives_longer(self, ttl, patience, step):
        waits = polls(ttl, patience, step)
        assert outcomes({"a": waits, "b": waits}) == {(True, False), (False, True)}


class TestAClockIsAskedTwice:
    """Then time may pass in between; by a clock that counts from some moment, patience is measured."""

    @pytest.mark.parametrize("clock", [time.time, time.time_ns], ids=str)
    def test_a_lease_is_over_before_it_is_used(self, clock):
        second = 10**9 if clock is time.time_ns else 1

        def works(redis, db):
            begin = clock()
            redis.set("lease", "a", ex=10)
            redis.get("lease")
            return clock() - begin < 5 * second

        report = explore({"a": works}, invariant=lambda redis, db, told: told["a"])
        assert report.violations
        assert "as a asks twice what time it is" in str(report)

    @pytest.mark.parametrize(
        ("clock", "seconds", "found"),
        [(time.monotonic, 6, True), (time.time, 6, True), (time.monotonic, 2, False)],
    )
    def test_who_looks_between_two_sleeps_may_begin_when_the_other_has_slept(
        self, clock, seconds, found
    ):
        def counts(redis, db):
            begin = clock()
            if not redis.set("lease", "x", nx=True, ex=10):
                return 0
            n = int(redis.get("n") or 0)
            time.sleep(seconds)
            if clock() - begin > 9:
                return 0
            time.sleep(seconds)
            redis.set("n", n + 1)
            return 1

        report = explore(
            {"a": counts, "b": counts},
            invariant=lambda redis, db, told: int(redis.get("n") or 0) == sum(told.values()),
        )
        assert bool(report.violations) == found

    @pytest.mark.parametrize("clock", [time.monotonic, time.perf_counter], ids=str)
    def test_how_long_something_took(self, clock):
        def works(redis, db):
            begin = clock()
            redis.set("lease", "a", ex=10)
            redis.get("lease")
            return clock() - begin

        clients = {"a": works}
        explore(clients, invariant=lambda redis, db, told: told["a"] < 5).check()
        assert explore(
            clients, invariant=lambda redis, db, told: told["a"] < 5, passes=True
        ).violations

    @pytest.mark.parametrize("name", ["logging", "backoff._sync", "http.cookiejar"])
    def test_to_write_down_when_a_line_was_logged(self, name):
        """A lock says no more of its time to live, and no less, because it tells what it does."""
        theirs = {"__name__": name, "datetime": datetime}
        exec("def now():\n    return datetime.now()", theirs)
        request = urllib.request.Request("http://shop.example")  # as a test client makes it
        says = {
            "logging": logging.getLogger("shop").warning,
            "http.cookiejar": lambda _: CookieJar().add_cookie_header(request),
        }.get(name, lambda _: theirs["now"]())

        def works(redis, db):
            says("begins")
            if redis.set("lock", "mine", nx=True, ex=30):
                redis.set("n", int(redis.get("n") or 0) + 1)
                redis.delete("lock")
                says("has counted")
                return True
            return False

        explore(
            {"a": works, "b": works},
            invariant=lambda redis, db, told: int(redis.get("n")) == sum(told.values()),
        ).check()


class TestMomentsThatOnlyTheCodeKnows:
    def test_a_lease_that_is_renewed_when_little_is_left(self):
        def renews(redis, db):
            if 0 <= redis.ttl("lease") < 10:
                redis.set("lease", "a", ex=30)

        def takes(redis, db):
            return redis.set("lease", "b", nx=True, ex=30)

        report = explore(
            {"a": renews, "b": takes},
            given=lambda redis, db: redis.set("lease", "a", ex=30),
            invariant=lambda redis, db, told: not (told["b"] and redis.get("lease") == "a"),
            passes=2,
        )
        assert report.verdict.status == "broken", report

    @pytest.mark.long
    @pytest.mark.parametrize("other", [10, 3600])
    @pytest.mark.parametrize("asked", ["redis.call('TIME')[1]", "ARGV[2]"])
    def test_a_deadline_that_a_script_reckons(self, asked, other):
        """Whatever else in Redis ends, before it or after it."""
        lease = f"""
        local now = tonumber({asked})
        if tonumber(redis.call('HGET', KEYS[1], 'until') or 0) > now then return 0 end
        return redis.call('HSET', KEYS[1], 'until', now + ARGV[1], ARGV[3], 1)
        """

        def works(redis, db, who):
            if redis.eval(lease, 1, "lease", 30, int(time.time()), who):
                redis.get("stock")
                return redis.hget("lease", "b") if who == "a" else None
            return None

        clients = {who: lambda redis, db, who=who: works(redis, db, who) for who in ("a", "b")}
        found = outcomes(
            clients, given=lambda redis, db: redis.set("session", 1, ex=other), passes=True
        )
        assert ("1", None) in found

    @pytest.mark.parametrize("keys", [3, 6, 11])
    def test_one_key_ends_after_the_other(self, keys):
        def comes_late(redis, db):
            return redis.exists("k:1") or redis.exists(f"k:{keys}")

        def given(redis, db):
            for number in range(1, keys + 1):
                redis.set(f"k:{number}", 1, ex=10 * number)

        assert outcomes({"a": comes_late}, given=given, passes=True) == {(0,), (1,)}

    def test_scripts_of_another_exploration_change_nothing(self):
        """Who asked the server for its time, or for a TTL, before, is not asked again."""

        def counts(redis, db):
            return redis.incr("limit:ada:68899679"), redis.incr("k")

        def explored():
            return explore({"a": counts}, given=given, invariant=always, passes=True)

        def given(redis, db):
            redis.set("t", 1, ex=60)
            redis.set("window:68899679", 1)

        before = explored()
        script = "redis.call('TTL', KEYS[1]) redis.call('PTTL', KEYS[1]) return redis.call('TIME')"
        explore({"a": lambda redis, db: redis.eval(script, 1, "t")}, invariant=always)
        assert explored().interleavings == before.interleavings

    def test_more_moments_than_a_pause_passes_are_told(self):
        def given(redis, db):
            for number in range(1, 20):
                redis.set(f"k:{number}", 1, ex=10 * number)

        report = explore(
            {"a": lambda redis, db: redis.exists("k:19")},
            given=given,
            invariant=always,
            passes=True,
        )
        assert "passed 12 moments" in str(report)


class TestAnAttemptIsAnsweredAsBefore:
    """What a poll asks again is not asked of the server while nothing has changed, and is once it has."""

    @pytest.mark.long
    @pytest.mark.parametrize("change", ["SET", "MULTI", "script", "GETSET", "expiry"])
    def test_until_something_changes(self, change):
        def waits(redis, db):
            seen = []
            for _ in range(6):
                seen.append((redis.get("k"), redis.exists("k"), redis.set("k", "w", nx=True)))
                time.sleep(1)
            return tuple(seen)

        def changes(redis, db):
            if change == "SET":
                redis.set("k", "new")
            elif change == "MULTI":
                with redis.pipeline() as pipe:
                    pipe.delete("k").set("k", "new").execute()
            elif change == "script":
                redis.eval("redis.call('SET', KEYS[1], 'new')", 1, "k")
            elif change == "GETSET":
                redis.getset("k", "new")
            else:
                redis.get("k")

        found = outcomes(
            {"w": waits, "c": changes},
            given=lambda redis, db: redis.set("k", "old", ex=3),
            passes=True,
        )
        seen = {one for told, _ in found for one in told}
        due = {("old", 1, None), (None, 0, True), ("w", 1, None)}
        assert due <= seen
        assert (("new", 1, None) in seen) == (change != "expiry")


class TestTheLastOneSleeps:
    """What the last client has slept has passed for all: a time to live that it gives begins then."""

    def test_a_lock_that_is_extended_in_time_is_held(self):
        def works(redis, db):
            lock = redis.lock("lock", timeout=10)
            lock.acquire()
            time.sleep(8)
            lock.extend(10, replace_ttl=True)
            time.sleep(8)
            lock.release()

        explore({"a": works, "b": lambda redis, db: redis.get("x")}, invariant=always).check()

    @pytest.mark.parametrize("awaits", [False, True])
    def test_a_key_lives_from_when_it_was_set(self, awaits):
        def sleeps(redis, db):
            time.sleep(8)
            redis.set("k", 1, ex=10)
            redis.incr("n")
            time.sleep(5)
            early = redis.exists("k")
            time.sleep(4.9)
            late = redis.exists("k")
            time.sleep(0.2)
            return early, late, redis.exists("k")

        async def sleeps_in_a_loop(redis, db):
            await asyncio.sleep(8)
            await redis.set("k", 1, ex=10)
            await redis.incr("n")
            await asyncio.sleep(5)
            early = await redis.exists("k")
            await asyncio.sleep(4.9)
            late = await redis.exists("k")
            await asyncio.sleep(0.2)
            return early, late, await redis.exists("k")

        client = sleeps_in_a_loop if awaits else sleeps
        assert outcomes({"a": client}) == {((1, 1, 0),)}

    def test_what_is_pending_is_idle_for_as_long(self):
        def given(redis, db):
            redis.xgroup_create("jobs", "g", mkstream=True)
            redis.xadd("jobs", {"n": 1})
            redis.xreadgroup("g", "dead", {"jobs": ">"})

        def claims(redis, db):
            for attempt in range(1, 6):
                time.sleep(2)
                if redis.xautoclaim("jobs", "g", "me", 6000)[1]:
                    return attempt
            return None

        ((found,),) = outcomes({"a": claims}, given=given)
        assert found in {3, 4}  # idle for 6 s, or for more


def yields(redis, db):
    yield redis.incr("n")


async def yields_later(redis, db):
    yield await redis.incr("n")


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"raises": "ValueError"}, "which is no class of errors"),
            ({"raises": ValueError("x")}, "which is no class of errors"),
            ({"raises": (ValueError, 5)}, "raises names 5"),
            ({"clocks": 5}, "clocks is 5"),
            ({"clocks": {"a": "5"}}, "clocks says '5' of 'a'"),
            ({"clocks": {"a": timedelta(seconds=5)}}, "of 'a'"),
            ({"clocks": {"a": float("nan")}}, "clocks says nan"),
        ],
    )
    def test_what_makes_no_sense_is_told(self, options, told):
        with pytest.raises(InvalidSettingError, match=re.escape(told)):
            explore({"a": patient}, invariant=always, **options)

    @pytest.mark.parametrize("client", [yields, yields_later])
    def test_a_generator_function_is_no_client(self, client):
        with pytest.raises(InvalidSettingError, match="generator function"):
            explore({"a": client}, invariant=always)

    @pytest.mark.parametrize("errors", [[ValueError], {ValueError}, ((ValueError,), KeyError)])
    def test_errors_may_be_grouped(self, errors):
        def fails(redis, db):
            redis.ping()
            if redis.incr("n") == 2:
                raise ValueError

        clients = {"a": fails, "b": fails}
        explore(clients, invariant=always, raises=errors).check()

    @pytest.mark.parametrize("keys", [b"lock", [b"lock"]])
    def test_keys_may_be_bytes(self, keys):
        def takes(redis, db):
            redis.set("lock", 1, nx=True, ex=5)
            return redis.get("lock")

        report = explore(
            {"a": takes},
            invariant=lambda redis, db, told: told["a"] == "1",
            expires=keys,
        )
        assert report.verdict.status == "broken", report


@pytest.mark.parametrize("form", ["%d%m%Y", "%y%m%d", "%Y-%j", "%H", "%A", "%b%d", "%Y"])
def test_windows_by_the_calendar_however_they_are_named(form):
    """They end with the year, also where other moments are known."""

    def counts(redis, db):
        redis.set("session", 1, ex=3600)
        key = time.strftime(form, time.gmtime())
        redis.incr(key)
        return redis.exists("session") == 0 or time.strftime(form, time.gmtime()) == key

    report = explore({"a": counts}, invariant=lambda redis, db, told: told["a"], passes=True)
    assert report.violations


def test_a_fault_after_many_attempts_in_vain():
    """All have repeated the same for long; who comes to the end of its loop may meet a fault there."""

    def is_patient(redis, db):
        for _ in range(14):
            if redis.get("lock") is None:
                return "early"
            redis.blpop("jobs", timeout=1)
        return redis.get("lock") or "late"

    report = explore(
        {"ada": is_patient},
        given=lambda redis, db: redis.set("lock", "held", ex=10**6),
        invariant=lambda redis, db, told: told["ada"] != "late",
        expires="lock",
        passes=True,
    )
    assert report.verdict.status == "broken"


class TestAnInvariantThatSleeps:
    """When all clients have ended, a sleep lets time pass as it does anywhere."""

    def test_a_time_to_live_ends(self):
        def put(redis, db):
            redis.set("pass", 1, ex=60)

        def over(redis, db):
            before = time.time(), time.monotonic()
            assert redis.exists("pass")
            time.sleep(61)
            after = time.time(), time.monotonic()
            return not redis.exists("pass") and [
                b - a for a, b in zip(before, after, strict=True)
            ] == [61, 61]

        async def over_async(redis, db):
            assert await redis.exists("pass")
            await asyncio.gather(asyncio.sleep(30), asyncio.sleep(61))
            return not await redis.exists("pass")

        def still(redis, db):
            time.sleep(59)
            return redis.exists("pass")

        for invariant in (over, over_async, still):
            report = explore({"ada": put, "bob": put}, invariant=invariant)
            assert (report.exhausted, report.violations) == (True, 0), str(report)

    def test_a_key_that_stays_is_found(self):
        def put(redis, db):
            redis.set("pass", 1)

        def over(redis, db):
            time.sleep(10**7)
            return not redis.exists("pass")

        assert explore({"ada": put}, invariant=over).violations == 1


def test_time_that_stands_still_while_somebody_waits_for_idle_entries_is_told_of():
    """What has just been read is idle for no time at all: the claim finds nothing, whatever it does."""

    def given(redis, db):
        redis.xgroup_create("jobs", "workers", id="0", mkstream=True)
        redis.xadd("jobs", {"n": 1})

    def ada(redis, db):
        redis.xreadgroup("workers", "ada", {"jobs": ">"})

    def bob(idle_ms):
        return lambda redis, db: redis.xautoclaim("jobs", "workers", "bob", min_idle_time=idle_ms)

    def notes(idle_ms, **moves):
        clients = {"ada": ada, "bob": bob(idle_ms)}
        return " ".join(explore(clients, given=given, invariant=always, **moves).notes)

    assert "idle for a while" in notes(5000)
    assert "Time stood still" not in notes(5000, passes=True) + notes(0)
