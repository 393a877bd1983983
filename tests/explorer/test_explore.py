"""The interleaving explorer, on a real Redis and a real database."""

import asyncio
import contextvars
import functools
import hashlib
import itertools
import json
import math
import os
import random
import re
import resource
import secrets
import subprocess
import sys
import threading
import time
import uuid
from time import sleep

import pytest
import redis as redis_py
import redis.asyncio

from labsupport import explore
from labsupport.errors import (
    ImplementationError,
    InvalidSettingError,
    NotDeterministicError,
    NotSteppableError,
    plain_error,
)
from labsupport.explorer import rounds
from labsupport.explorer.guards import patience
from labsupport.explorer.names import Names
from labsupport.explorer.operations import Operation
from labsupport.servers import start_server

USER = "SELECT * FROM users WHERE id = :id"
RENAME = "UPDATE users SET username = :name WHERE id = :id"


def get_user(redis, db, user_id):
    cached = redis.get(f"user:{user_id}")
    if cached is not None:
        return json.loads(cached)
    row = db.fetch_one(USER, id=user_id)
    redis.set(f"user:{user_id}", json.dumps(row), ex=3600)
    return row


def update_user(redis, db, user_id, name):
    db.execute(RENAME, id=user_id, name=name)
    redis.delete(f"user:{user_id}")


def cache_is_fresh(redis, db):
    """The cache never holds an old row."""
    cached = redis.get("user:1")
    return cached is None or json.loads(cached) == db.fetch_one(USER, id=1)


def lost_update(redis, db):
    n = int(redis.get("n") or 0)
    redis.set("n", n + 1)


def always(redis, db):
    return True


def reader(redis, db):
    return get_user(redis, db, 1)


def writer(redis, db):
    return update_user(redis, db, 1, "grace")


def names(report):
    return [step.label.split()[0] for step in report.counterexample]


class TestOrders:
    def test_stale_fill_is_one_of_ten(self):
        """The stale fill of cache-aside is exactly one order of ten, and this one."""
        report = explore({"reader": reader, "writer": writer}, invariant=cache_is_fresh)
        assert (report.interleavings, report.violations, report.exhausted) == (10, 1, True)
        assert names(report) == ["GET", "SELECT", "UPDATE", "DEL", "SET"]
        assert [step.client for step in report.counterexample] == [
            "reader",
            "reader",
            "writer",
            "writer",
            "reader",
        ]
        assert report.verdict.status == "broken"
        assert {step.move for step in report.counterexample} == {"step"}

    @pytest.mark.parametrize(("first", "second"), [(1, 1), (2, 3), (3, 3), (1, 6)])
    def test_every_order_is_run_once(self, first, second):
        """n and m steps have (n + m)! / (n! m!) orders, and each is run once."""
        seen = []

        def client(name, steps):
            def run(redis, db):
                for i in range(steps):
                    redis.rpush("order", f"{name}{i}")

            return run

        def note(redis, db):
            seen.append(tuple(redis.lrange("order", 0, -1)))
            return True

        report = explore({"a": client("a", first), "b": client("b", second)}, invariant=note)
        assert report.interleavings == math.comb(first + second, first)
        assert len(set(seen)) == len(seen) == report.interleavings
        assert report.exhausted
        assert report.counterexample is None
        assert report.verdict.status == "holds"

    def test_three_clients(self):
        """Three clients of two steps each have 90 orders."""
        report = explore(
            dict.fromkeys("abc", lost_update), invariant=lambda r, d: r.get("n") == "3"
        )
        assert report.interleavings == 90
        assert report.violations == 84
        assert len(report.counterexample) == 6

    def test_the_same_answer_every_time(self):
        """Two explorations of one question give the same text."""
        clients = {"reader": reader, "writer": writer}
        texts = {str(explore(clients, invariant=cache_is_fresh)) for _ in range(3)}
        assert len(texts) == 1

    def test_each_run_starts_from_the_given_state(self):
        """Redis starts empty and the database untouched, whatever the runs before did."""

        def given(redis, db):
            assert redis.keys() == []
            assert db.fetch_one(USER, id=1)["username"] == "ada"
            redis.set("n", 5)

        def client(redis, db):
            redis.incr("n")
            db.execute(RENAME, id=1, name="x")

        report = explore(
            {"a": client, "b": client}, given=given, invariant=lambda r, d: r.get("n") == "7"
        )
        assert report.violations == 0

    def test_steps_of_the_counterexample_are_the_commands_sent(self):
        """A label is the command with its arguments, and text form shows who sent it."""
        report = explore(
            {"a": lost_update, "b": lost_update}, invariant=lambda r, d: r.get("n") == "2"
        )
        assert report.interleavings == 6
        assert report.violations == 4
        assert report.counterexample[0].label == "GET n"
        assert report.counterexample[0].reply == "nil"
        assert "SET n 1" in str(report)
        assert report.figure is not None

    def test_the_learners_own_chance_is_untouched(self):
        """The explorer draws its own numbers; the learner's sequence goes on as before."""
        random.seed(7)
        expected = [random.random() for _ in range(2)]
        random.seed(7)
        explore({"a": lost_update}, invariant=always)
        assert [random.random() for _ in range(2)] == expected


class TestSteps:
    def test_pipeline_without_multi_is_as_many_steps_as_commands(self):
        """Another client may come between two commands of a plain pipeline."""

        def two(transaction):
            def run(redis, db):
                pipe = redis.pipeline(transaction=transaction)
                pipe.incr("x")
                pipe.incr("y")
                assert pipe.execute() in ([1, 1], [2, 2], [1, 2], [2, 1])

            return run

        plain = explore({"a": two(False), "b": two(False)}, invariant=always)
        atomic = explore({"a": two(True), "b": two(True)}, invariant=always)
        assert plain.interleavings == 6
        assert atomic.interleavings == 2

    def test_watch_retry_ends_and_holds(self):
        """WATCH, MULTI, EXEC with a retry: no update is lost in any order."""

        def increment(redis, db):
            def change(pipe):
                n = int(pipe.get("n") or 0)
                pipe.multi()
                pipe.set("n", n + 1)

            redis.transaction(change, "n")

        report = explore({"a": increment, "b": increment}, invariant=lambda r, d: r.get("n") == "2")
        assert report.exhausted
        assert report.violations == 0
        assert report.interleavings == 20

    def test_watch_without_retry_is_refused_in_some_order(self):
        """A WatchError that nobody catches is a finding, with its schedule."""

        def increment(redis, db):
            with redis.pipeline() as pipe:
                pipe.watch("n")
                n = int(pipe.get("n") or 0)
                pipe.multi()
                pipe.set("n", n + 1)
                pipe.execute()

        report = explore({"a": increment, "b": increment}, invariant=always)
        assert report.interleavings == 20
        assert report.violations == 18
        assert "WatchError" in report.reason

    def test_scripts_are_one_step(self):
        """EVAL, EVALSHA and a registered script take one step, also when the server sees it first."""
        text = f"-- {uuid.uuid4()}\nreturn redis.call('INCR', KEYS[1])"
        report = explore(
            {
                "registered": lambda redis, db: redis.register_script(text)(keys=["n"]),
                "eval": lambda redis, db: redis.eval(text + " ", 1, "n"),
            },
            invariant=lambda r, d: r.get("n") == "2",
        )
        assert (report.interleavings, report.violations) == (2, 0)

    def test_script_in_a_pipeline(self):
        """A registered script that is queued in MULTI loads without a step."""
        text = f"-- {uuid.uuid4()}\nreturn redis.call('INCR', KEYS[1])"

        def run(redis, db):
            script = redis.register_script(text)
            pipe = redis.pipeline()
            script(keys=["n"], client=pipe)
            script(keys=["n"], client=pipe)
            pipe.execute()

        report = explore({"a": run, "b": run}, invariant=lambda r, d: r.get("n") == "4")
        assert (report.interleavings, report.violations) == (2, 0)

    @pytest.mark.parametrize("pipeline", [None, False, True])
    def test_an_error_in_a_script_reads_as_without_the_explorer(self, pipeline):
        """It names the script by the digest of its text, whatever the explorer has sent."""
        text = "-- fails\nreturn redis.call('INCR', KEYS[1]) .. {}"

        def fail(redis, db):
            client = redis if pipeline is None else redis.pipeline(transaction=pipeline)
            client.eval(text, 1, "n")
            if pipeline is not None:
                client.execute()

        with start_server() as server, pytest.raises(redis_py.ResponseError) as plain:
            fail(server.client(), None)
        if server.product.name == "Redis":  # Valkey names no digest
            assert hashlib.sha1(text.encode()).hexdigest() in str(plain.value)
        with pytest.raises(ImplementationError) as stepped:
            explore({"a": fail}, invariant=lambda r, d: True)
        assert plain_error(stepped.value.__cause__) == plain_error(plain.value)
        if "REDIS_URL" not in os.environ:  # another server has a text of its own
            assert str(stepped.value.__cause__) == str(plain.value)

    def test_blocking_pop_is_woken_by_a_push(self):
        """A blocked client goes on when it is served; its timeout ends when nobody else can move."""
        got = []

        def consume(redis, db):
            got.append(redis.blpop("jobs", timeout=0.01))

        def given(redis, db):
            got.clear()

        report = explore(
            {"consumer": consume, "producer": lambda redis, db: redis.rpush("jobs", "a")},
            given=given,
            invariant=lambda r, d: got == [("jobs", "a")] or got == [["jobs", "a"]],
        )
        assert (report.interleavings, report.violations, report.exhausted) == (2, 0, True)

    def test_blocking_pop_times_out_when_all_wait(self):
        """Without a push the timeout passes, without the wait."""
        report = explore(
            {"consumer": lambda redis, db: redis.blmove("a", "b", timeout=3600)}, invariant=always
        )
        assert (report.interleavings, report.exhausted) == (1, True)

    def test_blocking_read_of_a_stream(self):
        """XREADGROUP BLOCK is woken by XADD in every order."""

        def given(redis, db):
            redis.xgroup_create("jobs", "g", id="0", mkstream=True)

        def consume(redis, db):
            found = redis.xreadgroup("g", "c", {"jobs": ">"}, block=1000, count=1)
            redis.set("seen", json.dumps(bool(found)))

        report = explore(
            {"consumer": consume, "producer": lambda redis, db: redis.xadd("jobs", {"n": 1})},
            given=given,
            invariant=lambda r, d: r.get("seen") == "true",
        )
        assert (report.violations, report.exhausted) == (0, True)

    def test_blocked_for_ever_is_a_finding(self):
        """A wait without end breaks the claim: nobody can move on."""
        report = explore({"consumer": lambda redis, db: redis.blpop("jobs")}, invariant=always)
        assert (report.interleavings, report.violations, report.exhausted) == (1, 1, True)
        assert report.findings[0].kind == "stuck"
        assert report.verdict.status == "broken"
        assert "consumer waits for BLPOP jobs 0 for ever" in report.reason

    def test_each_statement_and_the_commit_are_steps(self):
        """A transaction of two statements is three steps; one that is not begun is none."""

        def transfer(redis, db):
            with db.transaction():
                db.fetch_one(USER, id=1)
                db.execute(RENAME, id=1, name="t")

        report = explore(
            {"t": transfer, "r": lambda redis, db: db.fetch_one(USER, id=1)}, invariant=always
        )
        assert report.interleavings == 4

    def test_a_reader_does_not_see_what_is_not_committed(self):
        """Transactions isolate, and a rollback leaves nothing."""
        seen = []

        def given(redis, db):
            seen.clear()

        def change(redis, db):
            try:
                with db.transaction():
                    db.execute(RENAME, id=1, name="dirty")
                    raise LookupError
            except LookupError:
                pass

        def look(redis, db):
            seen.append(db.fetch_one(USER, id=1)["username"])

        report = explore(
            {"change": change, "look": look}, given=given, invariant=lambda r, d: seen == ["ada"]
        )
        assert (report.interleavings, report.violations) == (3, 0)

    def test_two_transactions_wait_for_each_other(self):
        """A statement that must wait for a lock is not scheduled before the lock is free."""

        def add(redis, db):
            with db.transaction():
                version = db.fetch_one(USER, id=1)["version"]
                db.execute("UPDATE users SET version = :v WHERE id = 1", v=version + 1)

        report = explore(
            {"a": add, "b": add}, invariant=lambda r, d: d.fetch_one(USER, id=1)["version"] == 3
        )
        assert (report.exhausted, report.violations) == (True, 0)
        assert report.interleavings == 2


class TestMoves:
    def test_crash_in_place_of_any_step(self):
        """A client of four steps may crash before each: five ends; no `finally` reaches Redis."""

        def work(redis, db):
            try:
                redis.set("a", 1)
                redis.set("b", 1)
                redis.set("c", 1)
            finally:
                redis.set("cleaned", 1)

        def no_cleanup_after_crash(redis, db):
            return redis.exists("c") or not redis.exists("cleaned")

        report = explore({"a": work}, invariant=no_cleanup_after_crash, crashes=True)
        assert (report.interleavings, report.violations) == (5, 0)

    def test_crash_between_two_writes(self):
        """A crash between UPDATE and DEL leaves the old row in the cache."""

        def given(redis, db):
            redis.set("user:1", json.dumps(db.fetch_one(USER, id=1)))

        report = explore({"writer": writer}, given=given, invariant=cache_is_fresh, crashes=True)
        assert (report.interleavings, report.violations) == (3, 1)
        assert [(step.move, step.label.split()[0]) for step in report.counterexample] == [
            ("step", "UPDATE"),
            ("crash", "DEL"),
        ]

    def test_crash_rolls_back_and_frees_the_lock(self):
        """The database drops the transaction of a client that is gone, and others go on."""

        def change(redis, db):
            with db.transaction():
                db.execute(RENAME, id=1, name="half")

        def other(redis, db):
            db.execute(RENAME, id=2, name="whole")

        def whole(redis, db):
            return db.fetch_one(USER, id=2)["username"] == "whole"

        report = explore({"t": change, "o": other}, invariant=whole, crashes=["t"])
        assert report.exhausted
        assert report.violations == 0

    def test_crash_of_a_blocked_client_leaves_the_job(self):
        """A consumer that died while it waited takes no job."""

        def left_or_taken(redis, db):
            return redis.llen("jobs") + redis.exists("taken") == 1

        def consume(redis, db):
            job = redis.blpop("jobs", timeout=5)
            if job:
                redis.set("taken", job[1])

        clients = {"consumer": consume, "producer": lambda redis, db: redis.rpush("jobs", "a")}
        report = explore(clients, invariant=left_or_taken, crashes=["consumer"])
        assert report.exhausted
        # the one loss: popped, and then the crash
        assert [step.move for step in report.counterexample].count("crash") == 1
        assert "SET" in names(report)

    def test_expiry_is_a_move_only_while_there_is_a_ttl(self):
        """A lock without a TTL never expires; one with a TTL may, and then two hold it."""

        def critical(ttl):
            def run(redis, db):
                if redis.set("lock", "x", nx=True, ex=ttl):
                    n = int(redis.get("n") or 0)
                    redis.set("n", n + 1)
                    redis.incr("holders")

            return run

        def no_lost_update(redis, db):
            return redis.get("n") == redis.get("holders")

        safe = explore(
            {"a": critical(None), "b": critical(None)}, invariant=no_lost_update, expires="lock"
        )
        unsafe = explore(
            {"a": critical(10), "b": critical(10)}, invariant=no_lost_update, expires=["lo*"]
        )
        assert safe.violations == 0
        assert unsafe.violations > 0
        moves = [(step.move, step.client, step.label) for step in unsafe.counterexample]
        assert ("expire", "redis", "lock") in moves

    @pytest.mark.usefixtures("expiring_fields")
    def test_a_field_of_a_hash_expires_by_itself(self):
        """A session's field ends, and the hash stays; a key that may not expire keeps its fields."""
        seen = set()

        def session(redis, db):
            redis.hset("session", mapping={"user": "ada", "code": "1234"})
            redis.hexpire("session", 60, "code")
            return redis.hmget("session", "user", "code")

        def note(redis, db, told):
            seen.add(tuple(told["a"]))
            return True

        assert explore({"a": session}, invariant=note, expires="other:*").interleavings == 1
        assert seen == {("ada", "1234")}
        report = explore({"a": session}, invariant=note, expires="sess*")
        assert seen == {("ada", "1234"), ("ada", None)}
        assert report.exhausted
        gone = explore(
            {"a": session},
            invariant=lambda redis, db, told: told["a"][1] == "1234",
            expires="session",
        )
        assert "code of session expires" in gone.schedule

    def test_crashes_name_their_clients(self):
        """Only the named clients crash."""
        report = explore({"a": lost_update, "b": lost_update}, invariant=always, crashes={"a"})
        both = explore({"a": lost_update, "b": lost_update}, invariant=always, crashes=True)
        assert 6 < report.interleavings < both.interleavings


@pytest.mark.parametrize(
    "write",
    [
        lambda redis, i: redis.hset("n", "f", i),
        lambda redis, i: redis.zadd("n", {"m": i}),
        lambda redis, i: redis.setbit("n", i, 1),
        lambda redis, i: redis.eval("redis.call('SET', KEYS[1], ARGV[1]) return 0", 1, "n", i),
        lambda redis, i: redis.pipeline().hset("n", "f", i).hset("n", "g", i).execute(),
    ],
    ids=["HSET", "ZADD", "SETBIT", "a script", "MULTI"],
)
def test_what_writes_and_answers_0_is_no_wait(write):
    """A loop whose steps answer 0 and change something is seen by others at each turn."""
    seen = set()

    def given(redis, db):
        write(redis, 9)

    def writer(redis, db):
        for i in range(5):
            write(redis, i)

    def look(redis, db):
        seen.add(redis.dump("n"))

    explore({"writer": writer, "reader": look}, given=given, invariant=always)
    assert len(seen) == 6  # what was given, and after each of the five


class TestWaiting:
    def test_sleep_takes_no_time_and_a_retry_loop_ends(self):
        """Waiters that sleep and try again are explored in full, without the wait."""

        def critical(redis, db):
            while not redis.set("lock", "x", nx=True):
                time.sleep(60)
                sleep(60)
            lost_update(redis, db)
            redis.delete("lock")

        report = explore({"a": critical, "b": critical}, invariant=lambda r, d: r.get("n") == "2")
        assert (report.exhausted, report.violations) == (True, 0)
        assert report.seconds < 60

    def test_a_spin_without_sleep_ends_too(self):
        """A loop that only repeats its command waits until something else has moved."""

        def critical(redis, db):
            while not redis.set("lock", "x", nx=True):
                pass
            lost_update(redis, db)
            redis.delete("lock")

        report = explore({"a": critical, "b": critical}, invariant=lambda r, d: r.get("n") == "2")
        assert (report.exhausted, report.violations) == (True, 0)

    def test_a_loop_of_several_steps_ends_too(self):
        """A waiter that looks for the value and tries for the lock in turn is explored in full."""

        def once(redis, db):
            while redis.get("value") is None:
                if redis.set("lock", secrets.token_hex(), nx=True):
                    redis.set("value", redis.incr("loads"))
                time.sleep(1)

        report = explore({"a": once, "b": once}, invariant=lambda r, d: r.get("loads") == "1")
        assert (report.exhausted, report.violations) == (True, 0)

    def test_a_script_that_refuses_is_waited_for(self):
        """A script that replies with nothing but nil and 0 was in vain, whatever it may write."""
        script = """
        local value = redis.call('GET', KEYS[1])
        return {value, redis.call('SET', KEYS[2], ARGV[1], 'NX') and 1 or 0}
        """

        def once(redis, db):
            granted = 0
            while not granted:
                value, granted = redis.eval(script, 2, "value", "lock", secrets.token_hex())
                if value is not None:
                    return
            redis.set("value", redis.incr("loads"))

        report = explore({"a": once, "b": once}, invariant=lambda r, d: r.get("loads") == "1")
        assert (report.exhausted, report.violations) == (True, 0)

    def test_the_clock_of_code_without_a_file(self):
        """A cell's function belongs to the module that runs the cell, wherever that is installed."""
        names = {"__name__": "pytest", "seen": []}
        text = "import time\ndef nap(r, d):\n r.ping()\n time.sleep(60)\n seen.append(time.monotonic())"
        exec(text, names)
        text = text.replace("r.ping()", "r.ping(); seen.append(time.monotonic())")
        exec(text, names)
        explore({"a": names["nap"]}, invariant=lambda r, d: True)
        assert names["seen"][-1] == names["seen"][-2] + 60

    def test_a_loop_over_keys_is_no_wait(self):
        """Reads of one key after another, all missing, are steps like any other."""

        def read(redis, db):
            for number in range(3):
                redis.get(f"key:{number}")

        report = explore({"a": read, "b": read}, invariant=always)
        assert report.interleavings == math.comb(6, 3)

    def test_a_bounded_wait_gives_up(self):
        """A loop of ten attempts in vain goes on to what follows it."""

        def patient(redis, db):
            for _ in range(10):
                if redis.get("ready"):
                    return
                time.sleep(0.05)
            redis.set("gave_up", 1)

        report = explore({"a": patient}, invariant=lambda r, d: r.exists("gave_up") == 1)
        assert (report.interleavings, report.violations, report.exhausted) == (1, 0, True)

    def test_a_deadline_passes(self):
        """A wait until a deadline ends by the sleeps it makes."""

        def patient(redis, db):
            end = time.monotonic() + 1
            while time.monotonic() < end:
                if redis.get("ready"):
                    return
                time.sleep(0.1)
            redis.set("gave_up", 1)

        report = explore({"a": patient}, invariant=lambda r, d: r.exists("gave_up") == 1)
        assert (report.violations, report.exhausted) == (0, True)

    @pytest.mark.long
    @pytest.mark.parametrize("pause", [0, 0.05])
    @pytest.mark.parametrize("attempts", [2, 3, 20])
    def test_a_bounded_wait_gives_up_while_the_holder_stands_still(self, attempts, pause):
        """However many attempts it makes: others need not move meanwhile."""

        def impatient(redis, db):
            for _ in range(attempts):
                if redis.set("lock", "x", nx=True, px=10_000):
                    break
                time.sleep(pause)
            lost_update(redis, db)
            redis.delete("lock")

        clients = {"a": impatient, "b": impatient}
        report = explore(clients, invariant=lambda r, d: r.get("n") == "2", passes=False)
        assert report.exhausted
        assert report.violations > 0
        assert attempts == 2 or "SET lock x NX PX 10000 → nil, until it gives up" in str(report)

    def test_a_long_bounded_wait_is_not_stuck(self):
        """Five hundred attempts end when nobody else is there any more."""

        def patient(redis, db):
            for _ in range(500):
                if redis.get("ready"):
                    return
            redis.set("gave_up", 1)

        report = explore({"a": patient, "b": lost_update}, invariant=always)
        assert (report.exhausted, report.violations) == (True, 0)

    def test_two_give_up_and_one_of_them_twice(self):
        """Whoever waits in vain, at the same place, or once more."""

        def holds(redis, db):
            redis.set("lock", "x")
            redis.delete("lock")

        def waits(redis, db):
            for _ in range(2):
                for _ in range(20):
                    if not redis.exists("lock"):
                        break
                else:
                    redis.incr("gave_up")

        clients = {"holder": holds, "a": waits, "b": waits}
        both = {"invariant": lambda r, d: r.get("gave_up") != "4", "max_runs": 3_000}
        assert explore(clients, stop="first", **both).violations > 0

    def test_nobody_gives_up_after_what_would_have_ended_the_wait_in_a_coroutine(self):
        """The same where the event loop sleeps."""

        async def patient(redis, db):
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                if await redis.set("lock", "x", nx=True, px=10_000):
                    await redis.delete("lock")
                    return
                await asyncio.sleep(0.01)
            await redis.set("gave_up", 1)

        clients = {"a": patient, "b": patient}
        report = explore(clients, invariant=lambda r, d: not r.exists("gave_up"), passes=False)
        assert (report.exhausted, report.violations) == (True, 0)

    def test_nobody_gives_up_after_what_would_have_ended_the_wait(self):
        """A wait of a minute for a lock of ten seconds does not end in vain."""

        def patient(redis, db):
            for _ in range(20):
                if redis.set("lock", "x", nx=True, px=10_000):
                    redis.delete("lock")
                    return
                time.sleep(3)
            redis.set("gave_up", 1)

        clients = {"a": patient, "b": patient}
        report = explore(clients, invariant=lambda r, d: not r.exists("gave_up"), passes=False)
        assert (report.exhausted, report.violations) == (True, 0)

    def test_spinning_for_ever_is_a_finding(self):
        """A client that spins for ever is named, with what it repeats."""

        def wait(redis, db):
            while not redis.get("never"):
                time.sleep(1)

        report = explore({"a": wait, "b": lost_update}, invariant=always)
        assert report.exhausted
        assert {finding.kind for finding in report.findings} == {"stuck"}
        assert report.violations == report.interleavings
        assert "a repeats GET never for ever" in report.reason

    @pytest.mark.parametrize(
        "poll", [lambda redis: redis.bitcount("never"), lambda redis: redis.xread({"never": "0"})]
    )
    def test_who_asks_again_and_again_waits_for_no_reply(self, poll):
        """Only a command that blocks is waited for, whatever its name begins with."""

        def ask(redis, db):
            while not poll(redis):
                pass

        report = explore({"a": ask}, invariant=always)
        assert re.search(r"a repeats (BITCOUNT|XREAD STREAMS) never.* for ever", report.reason)

    @pytest.mark.parametrize("others", [1, 2])
    def test_a_wait_with_a_timeout_that_is_begun_anew_for_ever(self, others):
        """So is one that waits for a second, and for another second: no order of it is endless."""

        def wait(redis, db):
            while not (job := redis.blpop("jobs", timeout=1)):
                pass
            return job

        clients = {"a": wait, "b": wait if others == 2 else lost_update}
        report = explore(clients, invariant=always, crashes=["b"])
        assert report.exhausted
        assert {finding.kind for finding in report.findings} == {"stuck"}
        assert "a waits for BLPOP jobs 1 for ever" in report.reason

    @pytest.mark.long
    def test_a_wait_with_a_timeout_that_is_given_up_some_time(self):
        """Who counts its waits, or goes by a clock, comes to an end."""

        def counts(redis, db):
            for _ in range(120):
                redis.blpop("jobs", timeout=1)
            redis.incr("gave_up")

        def goes_by_the_clock(redis, db):
            end = time.monotonic() + 300
            while time.monotonic() < end:
                redis.blpop("jobs", timeout=1)
            redis.incr("gave_up")

        clients = {"a": counts, "b": goes_by_the_clock}
        report = explore(clients, invariant=lambda redis, db: redis.get("gave_up") == "2")
        assert (report.exhausted, report.violations) == (True, 0)

    # who asks for the time twice is explored while time passes, too: 1,300 orders of 90 steps
    @pytest.mark.parametrize("passes", [False, pytest.param(None, marks=pytest.mark.long)])
    @pytest.mark.parametrize("by", ["TIME", "a script", "an idle entry"])
    @pytest.mark.parametrize("waits", ["BLPOP", "sleep"])
    def test_a_wait_that_the_server_s_clock_ends(self, by, waits, passes):
        """Where nobody else can move, what one waits has passed for the server, too."""
        script = "return redis.call('TIME')[1] - redis.call('GET', KEYS[1]) > 3000"

        def given(redis, db):
            redis.set("begun", redis.time()[0])
            redis.xgroup_create("s", "g", mkstream=True)
            redis.xadd("s", {"job": 7})
            redis.xreadgroup("g", "dead", {"s": ">"})

        def is_over(redis):
            if by == "TIME":
                return redis.time()[0] > int(redis.get("begun")) + 3000
            if by == "a script":
                return redis.eval(script, 1, "begun")
            return redis.xautoclaim("s", "g", "me", min_idle_time=3_000_000)[1]

        def wait(redis, db):
            while not is_over(redis):
                redis.blpop("jobs", timeout=1) if waits == "BLPOP" else time.sleep(1)
            redis.set("over", 1)

        clients = {"a": wait, "b": lost_update}
        report = explore(
            clients,
            given=given,
            invariant=lambda redis, db: redis.get("over") == "1",
            passes=passes,
        )
        assert (report.exhausted, report.violations) == (True, 0), str(report)

    @pytest.mark.long
    def test_what_goes_on_for_ever_in_one_order_may_end_in_another(self):
        """A client that calls another with its fourth wait, and waits on, has not always called."""

        def calls(redis, db):
            waits = 0
            while not redis.blpop("answer", timeout=1):
                waits += 1
                if waits == 4:
                    redis.set("called", 1)

        def answers(redis, db):
            while not redis.get("called"):
                redis.blpop("nothing", timeout=1)
            redis.rpush("answer", "x")

        report = explore({"a": calls, "b": answers}, invariant=always)
        assert (report.exhausted, report.violations) == (True, 0), str(report)

    @pytest.mark.long
    def test_a_crashed_holder_leaves_the_waiter_only_when_the_lock_expires(self):
        """With a TTL the expiry ends the wait; without one the waiter waits for ever."""

        def critical(ttl):
            def run(redis, db):
                while not redis.set("lock", "x", nx=True, ex=ttl):
                    time.sleep(0.1)
                redis.incr("n")
                redis.delete("lock")

            return run

        clients = {"a": critical(5), "b": critical(5)}
        ends = explore(clients, invariant=always, crashes=["a"], expires=["lock"])
        stuck = explore({"a": critical(None), "b": critical(None)}, invariant=always, crashes=["a"])
        assert (ends.exhausted, ends.violations) == (True, 0)
        assert {finding.kind for finding in stuck.findings} == {"stuck"}
        assert "crash" in {step.move for step in stuck.counterexample}

    def test_redis_py_lock_waits_without_waiting(self):
        """redis-py's own lock is stepped, and its wait is a yield."""

        def critical(redis, db):
            with redis.lock("lock", timeout=10, sleep=30):
                lost_update(redis, db)

        report = explore({"a": critical, "b": critical}, invariant=lambda r, d: r.get("n") == "2")
        assert (report.exhausted, report.violations) == (True, 0)

    def test_too_many_steps_is_not_exhausted(self):
        """A run without an end is given up, and said so."""

        def run(redis, db):
            for i in itertools.count():
                redis.set("n", i)

        report = explore({"a": run}, invariant=always)
        assert not report.exhausted
        assert report.verdict.status == "not exercised"
        assert "more than" in report.given_up

    @pytest.mark.long
    def test_orders_that_get_longer_and_longer_are_given_up(self):
        """Two workers that take the job from each other for ever: 750 orders, up to 1,000 steps long."""

        def work(redis, db):
            while redis.lmove("taken", "jobs"):
                pass
            while job := redis.lmove("jobs", "taken"):
                redis.rpush("done", job)
                redis.lrem("taken", 1, job)

        def kept(redis, db):
            return any(map(redis.llen, ("done", "jobs", "taken")))

        report = explore(
            {"a": work, "b": work}, given=lambda r, d: r.rpush("jobs", 1), invariant=kept
        )
        assert not report.exhausted
        assert report.verdict.status == "not exercised"
        assert report.interleavings < 500

    def test_too_many_orders_is_not_exhausted(self):
        """The bound on runs is told, and what was seen still counts."""
        report = explore(
            {"a": lost_update, "b": lost_update},
            invariant=lambda r, d: r.get("n") == "2",
            max_runs=3,
        )
        assert not report.exhausted
        assert report.violations == 2
        assert report.verdict.status == "broken"

    def test_too_many_moves_is_not_exhausted(self, monkeypatch):
        """Where runs are long, the search is given up after as many moves as it otherwise would have."""
        monkeypatch.setattr(rounds, "_MOVES_A_RUN", 0.01)  # 200 in all, of some 800
        clients = {"a": lost_update, "b": lost_update, "c": lost_update}
        report = explore(clients, invariant=always)
        assert report.given_up.startswith("more than")
        assert report.interleavings < 90
        assert report.verdict.status == "not exercised"

    @pytest.mark.long
    def test_few_switches_are_run_where_there_are_too_many_orders(self):
        """A gap at the beginning of a long run is found, though all that is run depth first begins alike."""

        def early(redis, db):
            redis.set("door", "open")
            redis.delete("door")
            for _ in range(12):
                redis.incr("n")

        def looks(redis, db):
            if redis.get("door"):
                redis.set("seen", "open")
            for _ in range(12):
                redis.incr("n")

        clients = {"early": early, "looks": looks}
        report = explore(clients, invariant=lambda r, d: r.get("seen") is None, max_runs=400)
        assert not report.exhausted
        assert report.verdict.status == "broken"
        assert report.rerun().finding is not None  # its schedule is one that can be run again

    @pytest.mark.long
    @pytest.mark.parametrize(
        ("kind", "moves"),
        [
            ("expire", {"expires": "lock"}),
            ("crash", {"crashes": "a"}),
            ("lose", {"loses": "a"}),
            ("pass", {"passes": True}),
        ],
    )
    def test_with_few_switches_the_adversary_moves_as_well(self, kind, moves):
        """Early in a long run, where a search that is given up has not come."""

        def early(redis, db):
            redis.incr("tries")
            redis.set("lock", "taken", ex=60)
            if not redis.exists("lock"):
                redis.set("seen", "gone")
            redis.delete("lock")
            late(redis, db)

        def late(redis, db):
            for _ in range(8):
                redis.incr("n")

        report = explore(
            {"a": early, "b": late},
            invariant=lambda r, d: r.get("tries") == "1" and not r.exists("seen", "lock"),
            max_runs=60,
            **moves,
        )
        assert report.given_up.startswith("more than 60 orders")
        assert kind in {step.move for step in report.counterexample}

    @pytest.mark.long
    def test_a_wait_that_an_expiry_ends_is_none_for_ever(self):
        """With few switches, too: who waits for a lock that expires waits until it does."""

        def lock_once(redis, db):
            for _ in range(6):
                redis.incr("n")
            while not redis.set("lock", "taken", nx=True, ex=60):
                redis.get("lock")
            for _ in range(6):
                redis.incr("n")

        report = explore(
            {"a": lock_once, "b": lock_once}, invariant=always, expires="*", max_runs=150
        )
        assert report.interleavings > 150
        assert report.violations == 0


class Stop(BaseException):
    pass


class TestErrorsThatAreNoException:
    """A BaseException of the code's own is an error like any other, and a finding."""

    @pytest.mark.parametrize(
        "stop",
        [lambda: _raise(Stop("two")), lambda: pytest.fail("two")],
        ids=["its own", "pytest.fail"],
    )
    def test_in_a_client(self, stop):
        def client(redis, db):
            n = redis.incr("n")
            if redis.get("n") != str(n):
                stop()

        report = explore({"a": client, "b": lambda r, d: r.incr("n")}, invariant=always)
        assert report.violations == 1
        assert report.findings[0].kind == "raised"
        assert "two" in report.findings[0].reason

    def test_a_coroutine_that_is_cancelled(self):
        async def client(redis, db):
            n = await redis.incr("n")
            if await redis.get("n") != str(n):
                raise asyncio.CancelledError

        report = explore({"a": client, "b": lambda r, d: r.incr("n")}, invariant=always)
        assert report.violations == 1

    def test_in_the_invariant(self):
        def both(redis, db):
            if redis.get("n") != "2":
                pytest.fail("One visit is lost")
            return True

        report = explore({"a": lost_update, "b": lost_update}, invariant=both)
        assert report.findings[0].reason == "One visit is lost"


def _raise(error):
    raise error


class TestPruning:
    def test_commuting_steps_have_one_order(self):
        """Clients that touch different keys and tables have one class of orders."""

        def on(key):
            def run(redis, db):
                redis.incr(key)
                redis.incr(key)

            return run

        report = explore({"a": on("x"), "b": on("y")}, invariant=always, prune=True)
        assert (report.interleavings, report.exhausted) == (1, True)

    def test_reads_commute(self):
        """Two readers of one key have one class."""
        read = lambda redis, db: (redis.get("k"), db.fetch_one(USER, id=1))  # noqa: E731
        assert explore({"a": read, "b": read}, invariant=always, prune=True).interleavings == 1

    def test_conflicting_steps_do_not(self):
        """Two writers of one key keep every order that matters."""
        report = explore(
            {"a": lost_update, "b": lost_update},
            invariant=lambda r, d: r.get("n") == "2",
            prune=True,
        )
        # GET GET SET SET in four orders of the SETs and GETs, less the order of the two GETs
        assert report.interleavings == 4
        assert report.violations == 2

    @pytest.mark.long
    @pytest.mark.parametrize("crashes", [False, True])
    def test_pruning_loses_no_outcome(self, crashes):
        """Pruned and in full, the same final states are seen."""
        seen = set()

        def note(redis, db):
            seen.add((redis.get("user:1"), db.fetch_one(USER, id=1)["username"], redis.get("n")))
            return cache_is_fresh(redis, db)

        clients = {
            "reader": reader,
            "writer": writer,
            "other": lambda r, d: (r.incr("n"), r.get("m")),
        }
        full = explore(clients, invariant=note, crashes=crashes)
        every = set(seen)
        seen.clear()
        pruned = explore(clients, invariant=note, crashes=crashes, prune=True)
        assert seen == every
        assert pruned.interleavings < full.interleavings / 4
        assert (pruned.violations > 0) == (full.violations > 0)


def burn(seconds):
    """Be at work for so long, in time on a core."""

    def spent():
        usage = resource.getrusage(resource.RUSAGE_THREAD)
        return usage.ru_utime + usage.ru_stime  # how the kernel divides it is a guess

    end = spent() + seconds
    while spent() < end:
        pass
    return True


class TestBadInput:
    def test_a_function_that_raises_at_once(self):
        """A plain bug is an error that names the line, and not a finding."""

        def broken(redis, db):
            redis.get("n")
            raise KeyError("typo")

        with pytest.raises(
            ImplementationError, match="'a' raised KeyError: 'typo' at line"
        ) as told:
            explore({"a": broken}, invariant=always)
        assert "run it again;" in told.value.remedy  # a script has no cell

    def test_a_function_that_raises_in_some_order_is_a_finding(self):
        """A race that raises is shown with its schedule."""

        def consume(redis, db):
            if redis.llen("jobs"):
                job = redis.lpop("jobs")
                assert job is not None, "somebody else took it"

        report = explore(
            {"a": consume, "b": consume},
            given=lambda r, d: r.rpush("jobs", "one"),
            invariant=always,
        )
        assert report.violations == 4
        assert "raised AssertionError: somebody else took it" in report.reason

    @pytest.mark.parametrize("wrong", [None, "yes", 0.5, []])
    def test_an_invariant_that_says_neither_yes_nor_no(self, wrong):
        """An invariant that forgot its return is an error, not a pass."""
        with pytest.raises(InvalidSettingError, match="neither True nor False"):
            explore({"a": lost_update}, invariant=lambda r, d: wrong)

    def test_an_invariant_that_asserts(self):
        """A failed assertion breaks the invariant, with its message."""

        def positive(redis, db):
            assert redis.get("n") == "2", "an update was lost"
            return True

        report = explore({"a": lost_update, "b": lost_update}, invariant=positive)
        assert report.violations == 4
        assert report.reason == "an update was lost"

    @pytest.mark.parametrize("clients", [{}, None, {"a": 3}, [lost_update]])
    def test_clients_that_are_none(self, clients):
        """What is no dict of functions is refused with the form to write."""
        with pytest.raises(InvalidSettingError):
            explore(clients, invariant=always)

    def test_crashes_of_nobody(self):
        """A crash of an unknown client is refused."""
        with pytest.raises(InvalidSettingError, match="zelda"):
            explore({"a": lost_update}, invariant=always, crashes=["zelda"])

    def test_threads_of_its_own(self):
        """A client that starts a thread is refused, and nothing of the thread is printed."""

        def threaded(redis, db):
            thread = threading.Thread(target=redis.incr, args=("n",))
            thread.start()
            thread.join()
            redis.get("n")

        with pytest.raises(NotSteppableError, match="thread"):
            explore({"a": threaded}, invariant=always)

    def test_a_client_that_repeats_itself_is_no_stranger(self):
        """What the explorer asks the server about a repeated step is not the client's doing."""

        def client(redis, db):
            for _ in range(4):
                redis.get("repeated")  # a key that no other test has asked about

        report = explore({"a": client}, given=lambda r, d: r.set("repeated", "x"), invariant=always)
        assert report.interleavings == 1

    def test_a_function_that_ignores_what_it_was_handed(self):
        """A client without a single step is refused."""
        with pytest.raises(NotSteppableError, match="took no step"):
            explore({"a": lambda redis, db: None}, invariant=always)

    def test_pubsub_is_refused(self):
        """A subscription is not stepped, and the error says what to do."""
        with pytest.raises((NotSteppableError, ImplementationError), match="Pub/Sub"):
            explore({"a": lambda redis, db: redis.pubsub()}, invariant=always)

    def test_a_function_that_never_returns(self, monkeypatch):
        """A loop without a command is ended, and told."""

        def loop(redis, db):
            redis.get("n")
            while True:
                pass

        with monkeypatch.context() as patch:
            patch.setattr(patience, "PATIENCE_SECONDS", 0.2)
            with pytest.raises(NotSteppableError, match="without a command"):
                explore({"a": loop}, invariant=always)
        assert explore({"a": lost_update}, invariant=always).interleavings == 1

    def test_an_invariant_that_takes_long(self, monkeypatch):
        """What is worked out between the clients' steps is no loop of theirs."""
        monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.5)

        def slow(redis, db):
            return burn(0.6)

        assert explore({"a": lost_update}, invariant=slow).verdict.status == "holds"

    @pytest.mark.long
    @pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how long it waited for a core")
    def test_a_busy_machine_ends_nothing(self, monkeypatch):
        """Time in which the thread waits for a core is not the function's."""
        monkeypatch.setattr(patience, "PATIENCE_SECONDS", 1.0)
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
        try:
            report = explore(
                {"a": lambda redis, db: burn(0.4) and redis.incr("n")}, invariant=always
            )
        finally:
            for process in busy:
                process.kill()
                process.wait()
            os.sched_setaffinity(0, cores)
        assert report.verdict.status == "holds"

    def test_state_that_is_kept_between_runs(self):
        """A function that remembers gives different steps, and the error says so."""
        calls = []

        def client(redis, db):
            calls.append(1)
            if len(calls) % 3 == 0:
                redis.incr("n")
            redis.get("a")
            redis.get("b")

        with pytest.raises(NotDeterministicError):
            explore({"a": client, "b": client}, invariant=always)

    def test_a_key_that_is_gone_before_its_expiry_is_a_move(self):
        """A TTL so short that it is over by itself is an error that names the key."""
        calls = []

        def client(redis, db):
            calls.append(1)
            redis.set("lock", "x", ex=60 if len(calls) == 1 else None)
            redis.ping()

        with pytest.raises(NotDeterministicError, match="lock expired by itself"):
            explore({"a": client}, invariant=always, expires="lock")

    def test_tokens_and_times_read_the_same_each_time(self):
        """A random token or a time is named, so that the report's text does not change."""

        def client(redis, db):
            redis.set("t", secrets.token_urlsafe(32))
            redis.set("u", str(uuid.uuid4()))
            redis.set("at", time.time())

        def never(redis, db):
            return False

        texts = {str(explore({"a": client}, invariant=never)) for _ in range(3)}
        assert len(texts) == 1
        assert "‹token 1›" in texts.pop()

    def test_partials_and_methods_are_functions_too(self):
        """Whatever can be called with (redis, db) is a client."""

        class Client:
            def run(self, redis, db):
                redis.incr("n")

        part = functools.partial(lambda key, redis, db: redis.incr(key), "n")
        report = explore({"a": Client().run, "b": part}, invariant=lambda r, d: r.get("n") == "2")
        assert report.interleavings == 2

    def test_context_variables_begin_anew(self):
        """What a run sets in its context is unknown to the next one, and to other clients."""
        variable = contextvars.ContextVar("variable", default="new")

        def client(redis, db):
            redis.rpush("seen", variable.get())
            variable.set("used")

        def all_new(redis, db):
            return redis.lrange("seen", 0, -1) == ["new"] * 3

        report = explore(dict.fromkeys("abc", client), invariant=all_new)
        assert (report.interleavings, report.violations) == (6, 0)

    def test_a_client_that_survives_its_crash(self):
        """Code that swallows every error, and goes on, reaches no server, and no later run."""

        def stubborn(redis, db):
            redis.set("a", 1)
            while True:
                try:
                    redis.set("b", 1)
                    return
                except BaseException:
                    pass

        def work(redis, db):
            redis.get("a")

        report = explore({"s": stubborn, "w": work}, invariant=always, crashes=["s"])
        # it ends (3 orders), or crashes before its first step (2) or its second (3)
        assert (report.interleavings, report.exhausted) == (8, True)

    def test_an_interrupt_leaves_nothing_behind(self):
        """A KeyboardInterrupt ends the exploration at once; the next one is not disturbed."""

        def client(redis, db):
            redis.get("n")
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            explore({"a": client, "b": lost_update}, invariant=always)
        assert explore({"a": lost_update}, invariant=always).exhausted

    def test_an_exploration_inside_another(self):
        """A client cannot explore; the error says that one is running."""

        def client(redis, db):
            redis.get("n")
            explore({"b": lost_update}, invariant=always)

        with pytest.raises((ImplementationError, InvalidSettingError), match="is running"):
            explore({"a": client}, invariant=always)

    def test_time_is_put_back(self):
        """The learner's `time` is the interpreter's again, also after an error."""
        with pytest.raises(ImplementationError):
            explore({"a": lambda redis, db: redis.get()}, invariant=always)
        assert time.sleep is sleep
        assert type(time).__name__ == "module"


@pytest.fixture
def embedded():
    from labsupport.servers import start_server

    server = start_server()
    yield server
    server.close()


assert redis_py.asyncio is redis.asyncio


def test_a_set_reads_the_same_every_time():
    """The order of a set differs from process to process; a schedule's text must not."""
    taken = Operation("redis", (("SMEMBERS", "workers"),), replies=[{"bob", "ada", "carol"}])
    assert Names().reply(taken) == "{'ada', 'bob', 'carol'}"


def test_nothing_and_yes_are_said_alike_in_a_list():
    """`nil` is nil in an MGET, too, and what a MULTI set is OK."""
    taken = Operation("redis", [("MGET", "a", "b")], replies=[[None, "None", [True], []]])
    assert Names().reply(taken) == "[nil, 'None', [OK], []]"
