"""What a report says, and how it is asked: checks, kinds of findings, schedules, replays."""

import asyncio
import enum
import json
import os
import time
import uuid

import pytest

from labsupport import explore
from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.exploration import close_testbed
from labsupport.explorer import Step
from labsupport.explorer.clock import START


def lost_update(redis, db):
    redis.set("n", int(redis.get("n") or 0) + 1)


def two(redis, db):
    """Both are counted."""
    return redis.get("n") == "2"


def always(redis, db):
    return True


RACE = {"a": lost_update, "b": lost_update}


class TestCheck:
    def test_it_raises_with_the_whole_schedule(self):
        """A test that checks a broken claim fails with everything that the report says."""
        with pytest.raises(AssertionError) as caught:
            explore(RACE, invariant=two).check()
        assert "6 interleavings, 4 break the invariant" in str(caught.value)
        assert "SET n 1 → OK" in str(caught.value)

    def test_it_returns_the_report(self):
        """A claim that holds goes on."""
        report = explore({"a": lost_update}, invariant=always).check()
        assert report.interleavings == 1

    def test_a_search_that_was_given_up_fails(self):
        """What was not run in full is no proof."""
        with pytest.raises(AssertionError, match="Not exhausted: more than 2 orders"):
            explore(RACE, invariant=always, max_runs=2).check()
        assert "more than 1 order;" in str(explore(RACE, invariant=always, max_runs=1))

    def test_a_report_is_neither_true_nor_false(self):
        """`assert explore(…)` cannot pass by accident."""
        with pytest.raises(InvalidSettingError, match=r"check\(\)"):
            assert explore({"a": lost_update}, invariant=always)

    def test_the_first_violation_may_end_it(self):
        """`stop="first"` runs no more than it needs."""
        report = explore(RACE, invariant=two, stop="first")
        assert (report.violations, report.exhausted) == (1, False)
        assert report.verdict.status == "broken"
        assert report.interleavings < 6
        with pytest.raises(InvalidSettingError, match="stop is 'last'"):
            explore(RACE, invariant=two, stop="last")


class TestKinds:
    def test_it_is_said_when_it_is_no_race(self):
        """An invariant that fails even in sequence is told as such; a race is not."""
        wrong = explore(RACE, invariant=lambda r, d: r.get("n") == 2)  # replies are text
        race = explore(RACE, invariant=two)
        assert wrong.serial
        assert "one client after the other: that is no race" in str(wrong)
        assert not race.serial
        assert "no race" not in str(race)

    def test_violations_by_kind(self):
        """What the invariant refuses, what raises, and what is stuck are counted apart."""

        def client(redis, db):
            before = int(redis.get("n") or 0)
            if redis.incr("n") != before + 1:
                raise LookupError("overtaken")

        def wait(redis, db):
            redis.blpop("never", 0)

        found = explore({"a": client, "b": client}, invariant=lambda r, d: r.get("n") != "2")
        assert {finding.kind: finding.count for finding in found.findings} == {
            "raised": 4,
            "broken": 2,
        }
        stuck = explore({"a": wait}, invariant=always)
        assert [finding.kind for finding in stuck.findings] == ["stuck"]
        assert stuck.violations == 1

    def test_an_invariant_that_stumbles_over_what_is_left(self):
        """In the first order it is the invariant's own error; in a later one it is a finding."""

        def ends_well(redis, db):
            return json.loads(redis.get("n")) > 0

        with pytest.raises(ImplementationError, match="The invariant raised TypeError"):
            explore({"a": lambda redis, db: redis.ping()}, invariant=ends_well)

        def write(redis, db):
            redis.set("n", 1)

        def remove(redis, db):
            redis.get("x")
            redis.delete("n")

        report = explore({"remove": remove, "write": write}, invariant=ends_well)
        assert report.violations == 2
        assert "What is left cannot be judged: TypeError" in report.reason

    def test_bytes_that_are_no_text(self):
        """A reply that cannot be read as text is told as such."""

        def client(redis, db):
            if redis.incr("n") == 2:
                redis.get("blob")

        report = explore(
            {"a": client, "b": lambda redis, db: redis.incr("n")},
            given=lambda r, d: r.set("blob", b"\xff\xfe"),
            invariant=always,
        )
        assert report.violations == 1
        assert "a raised UnicodeDecodeError" in report.reason
        assert "decode_responses=False" in report.reason

    def test_only_crashes_that_matter_are_shown(self):
        """The shortest schedule has no crash that it does not need."""
        report = explore(
            {**RACE, "c": lambda redis, db: redis.get("x")}, invariant=two, crashes=True
        )
        assert report.counterexample is not None
        assert len([step for step in report.counterexample if step.move == "crash"]) <= 3

    def test_errors_that_are_promised(self):
        """`raises` takes a class or several; another error is still a finding."""

        def refuse(redis, db):
            if redis.incr("n") == 2:
                raise LookupError("the second is refused")

        clients = {"a": refuse, "b": refuse}
        assert explore(clients, invariant=always, raises=LookupError).violations == 0
        assert explore(clients, invariant=always, raises=(KeyError, LookupError)).violations == 0
        with pytest.raises(ImplementationError, match="LookupError"):
            explore(clients, invariant=always, raises=ValueError)


def test_a_replay_that_nobody_ends_holds_up_none():
    """A failed test's traceback keeps one for long: the next exploration ends it, and it says so."""
    report = explore(RACE, invariant=two)
    held = report.replay()
    next(held)
    assert explore(RACE, invariant=two).violations == report.violations
    with pytest.raises(InvalidSettingError, match="has ended this replay"):
        next(held)
    assert len([*report.replay()]) == 4


def test_a_client_ends_no_replay_of_its_own():
    """From within one, another exploration is refused as ever."""
    again: list[str] = []

    def client(redis, db):
        lost_update(redis, db)
        if again:
            with pytest.raises(InvalidSettingError, match="Another exploration is running"):
                explore(RACE, invariant=two)
            again.append("refused")

    report = explore({"ada": client, "bob": client}, invariant=two)
    again.append("replayed")
    assert len([*report.replay()]) == 4
    assert "refused" in again


class TestWhatIsShown:
    def labels(self, client):
        report = explore({"a": client}, invariant=lambda r, d: False)
        return [step.label for step in report.counterexample]

    def test_values_are_shown_as_they_are(self):
        """A fraction is no token, a line end does not break the table, a token has a name."""

        def client(redis, db):
            redis.set("rate", 1 / 60)
            redis.set("text", "one\ntwo")
            redis.set("token", uuid.uuid4().hex)

        assert self.labels(client) == [
            "SET rate 0.0166666666666…",
            "SET text one\\ntwo",
            "SET token ‹token 1›",
        ]

    def test_values_are_shown_as_they_are_sent(self):
        """An Enum's text is the text, and a value that is empty is seen to be there."""
        status = enum.Enum("Status", {"QUEUED": "queued"}, type=str)

        def client(redis, db):
            redis.hset("job", mapping={"error": "", "status": status.QUEUED})
            redis.hget("job", "error")

        report = explore({"a": client}, invariant=lambda r, d: False)
        assert [str(step) for step in report.counterexample] == [
            'HSET job error "" status queued → 2',
            'HGET job error → ""',
        ]

    def test_an_id_is_no_time(self):
        def client(redis, db):
            redis.set("user:1234567890", "9876543210")
            redis.set("at", time.time())

        assert self.labels(client) == ["SET user:1234567890 9876543210", "SET at ‹time›"]

    def test_the_errors_of_a_group(self):
        """An ExceptionGroup names them, and the line of the first."""

        async def client(redis, db):
            async def fails():
                await redis.ping()
                raise LookupError("none left")

            async with asyncio.TaskGroup() as group:
                group.create_task(fails())

        with pytest.raises(ImplementationError) as found:
            explore({"a": client}, invariant=always)
        assert "LookupError: none left at line" in found.value.problem
        assert 'raise LookupError("none left")' in found.value.problem

    def test_an_error_that_names_an_object(self):
        """Two calls tell the same of it: where the object lies in memory is left out."""

        def fails(redis, db):
            if redis.get("n"):
                raise LookupError(object(), "at 0x10")

        report = explore({"a": fails, "b": lambda r, d: r.set("n", 1)}, invariant=lambda r, d: True)
        assert report.findings[0].reason == "a raised LookupError: (<object object>, 'at 0x10')"

    def test_the_deciding_clause_is_whole(self):
        """However long a statement is, the step that decides is shown to its end."""
        sql = "UPDATE products SET stock = stock - 1, price_cents = price_cents WHERE id = 1 AND fence <= 7"

        def client(redis, db):
            redis.get("x")
            db.execute(sql)

        report = explore({"a": client}, invariant=lambda r, d: False)
        assert sql in report.schedule

    def test_a_condition_is_whole_in_every_step(self):
        """A long statement that does not decide gives up what it lists."""
        columns = ", ".join(["stock AS the_pieces_on_the_shelf"] * 3)
        query = f"SELECT {columns} FROM products WHERE id = 1 AND stock > 0"

        def client(redis, db):
            db.fetch_one(query)
            db.execute(f"UPDATE products SET {', '.join(['stock = stock'] * 4)} WHERE id = 1")
            redis.get("x")

        schedule = explore({"a": client}, invariant=lambda r, d: False).schedule
        assert "… FROM products WHERE id = 1 AND stock > 0" in schedule
        assert "… WHERE id = 1" in schedule
        assert query not in schedule

    def test_a_reply_is_never_cut_off(self):
        """A long command gives up its own end; what came back decides what the client does next."""

        def client(redis, db):
            redis.hset("cart:of:a:customer:with:a:long:name", "quantity-of-brass-kettles", 10_000)
            redis.get("n")

        report = explore({"a": client}, invariant=lambda redis, db: False)
        row = report.schedule.splitlines()[1]
        assert row.startswith(" 1  HSET cart:of:a:customer")
        assert row.endswith("… → 1")
        assert len(row) == 4 + 56

    def test_a_script_has_the_name_of_its_variable(self):
        """The learner's own name for a script stands in the label."""

        def client(redis, db):
            redis.eval(TAKE_ONE, 1, "stock", 2)
            redis.register_script(TAKE_ONE)(keys=["stock"], args=[3])

        assert self.labels(client) == ["EVAL take_one stock 2", "EVALSHA take_one stock 3"]

    def test_pruning_that_would_be_wrong_is_told(self):
        """Clients that share memory are explored in full, and the report says why."""
        local = {}
        seen = {}

        def given(redis, db):
            local["price"] = 1

        def reader(redis, db):
            redis.get("page")
            seen["price"] = local["price"]
            redis.set("page", 1)

        def writer(redis, db):
            redis.set("price", 2)
            local["price"] = 2
            redis.set("at", 1)

        reports = [
            explore(
                {"writer": writer, "reader": reader},
                given=given,
                invariant=lambda r, d: seen["price"] == 2,
                prune=prune,
            )
            for prune in (False, True)
        ]
        assert reports[0].violations == reports[1].violations > 0
        assert "Not pruned: the clients share local" in str(reports[1])
        assert not reports[1].pruned


TAKE_ONE = "return redis.call('DECRBY', KEYS[1], ARGV[1])"


class TestReplay:
    def test_step_by_step(self):
        """The shortest schedule runs again, a step each time that the next value is asked for."""
        report = explore(RACE, invariant=two)
        replay = report.replay()
        first = next(replay)
        assert (first.step.label, first.redis) == ("GET n", {})
        rest = list(replay)
        assert [moment.step.label.split()[0] for moment in rest] == ["GET", "SET", "SET"]
        assert rest[-1].redis == {"n": "1"}
        assert explore(RACE, invariant=two).violations == 4

    def test_what_the_caller_does_meanwhile(self, monkeypatch):
        """Its local time is its own, and UTC is the clients'."""
        told = set()

        def tells(redis, db):
            redis.set("zone", time.tzname[0])

        try:
            monkeypatch.setenv("TZ", "Asia/Kolkata")
            time.tzset()
            for moment in explore({"a": tells}, invariant=lambda r, d: False).replay():
                told.add((moment.redis["zone"], time.tzname[0], os.environ["TZ"]))
        finally:
            monkeypatch.undo()
            time.tzset()
        assert told == {("UTC", "IST", "Asia/Kolkata")}

    def test_the_adversarys_moves_too(self):
        """A crash and an expiry are replayed as they were found."""

        def hold(redis, db):
            if redis.set("lock", 1, nx=True, ex=10):
                redis.incr("holders")

        report = explore(
            {"a": hold, "b": hold}, invariant=lambda r, d: r.get("holders") == "1", expires="lock"
        )
        steps = [moment.step for moment in report.replay()]
        assert Step("redis", "expire", "lock") in steps
        assert [step.label for step in steps] == [step.label for step in report.counterexample]

    def test_there_is_none(self):
        """Without a counterexample there is nothing to replay."""
        with pytest.raises(InvalidSettingError, match="no counterexample"):
            explore({"a": lost_update}, invariant=always).replay()

    def test_others_were_explored_meanwhile(self):
        """A report replays its own functions on its own clock, whatever was explored after it."""

        def late(redis, db):
            redis.set("at", int(time.time()))

        report = explore(
            {"a": late}, invariant=lambda r, d: int(r.get("at")) < START + 60, clocks={"a": 60}
        )
        explore(RACE, invariant=two)
        assert [moment.step.label for moment in report.replay()] == ["SET at ‹time›"]
        assert report.rerun().finding.kind == "broken"

    def test_the_server_is_gone(self):
        """When the lab was closed, the error says what to do."""
        report = explore(RACE, invariant=two)
        close_testbed()
        with pytest.raises(InvalidSettingError, match="Run the exploration again"):
            report.rerun()
        assert explore(RACE, invariant=two).violations == 4


class TestRerun:
    def test_state_after_each_step(self):
        """The state before the first step, and what is in Redis and in the tables after each."""

        def buy(redis, db):
            stock = db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"]
            db.execute("UPDATE products SET stock = :stock WHERE id = 1", stock=stock - 1)
            redis.set("by", uuid.uuid4().hex)

        report = explore({"a": buy, "b": buy}, invariant=lambda r, d: d.fetch_one(STOCK)["s"] == 87)
        run = report.rerun()
        first, *after = run.moments
        assert (first.step.move, first.redis) == ("start", {})
        assert [moment.step for moment in after] == report.counterexample
        assert len(run.moves) == len(after)
        stocks = [
            next(row["stock"] for row in moment.tables["products"] if row["id"] == 1)
            for moment in run.moments
        ]
        assert (stocks[0], stocks[-1]) == (89, 88)
        assert after[-1].redis["by"].startswith("‹token ")
        assert run.finding.reason == report.reason

    def test_another_order_may_hold(self):
        """With its steps moved together each client is alone, and nothing is lost."""
        report = explore(RACE, invariant=two)
        run = report.rerun(tuple(sorted(report.findings[0].moves)))
        assert run.finding is None
        assert [str(moment.step) for moment in run.moments[1:]] == [
            "GET n → nil",
            "SET n 1 → OK",
            "GET n → 1",
            "SET n 2 → OK",
        ]

    def test_what_cannot_be_made_is_left_out(self):
        """A key that is not there does not expire; who is left runs to the end."""

        def hold(redis, db):
            if redis.set("lock", 1, nx=True, ex=10):
                redis.incr("holders")

        report = explore(
            {"a": hold, "b": hold}, invariant=lambda r, d: r.get("holders") == "1", expires="lock"
        )
        moves = report.findings[0].moves
        (expiry,) = (move for move in moves if move.kind == "expire")
        first = (expiry, *(move for move in moves if move != expiry))
        run = report.rerun(first)
        assert expiry not in run.moves
        assert run.finding is None
        assert report.rerun(()).finding is None

    def test_nobody_can_move_on(self):
        """A deadlock is found again, and another order is none."""

        def both(first, second):
            def take(redis, db):
                for name in (first, second):
                    while not redis.set(name, 1, nx=True):
                        pass
                redis.delete(first, second)

            return take

        report = explore({"a": both("x", "y"), "b": both("y", "x")}, invariant=always)
        assert report.rerun().finding.kind == "stuck"
        assert report.rerun(()).finding is None


STOCK = "SELECT stock AS s FROM products WHERE id = 1"


def test_what_is_no_text_is_shown_and_expires():
    """Keys, fields and values may hold any bytes: what is no UTF-8 stands as an escape."""

    def client(redis, db):
        redis.set(b"k\xff", b"\x92", ex=5)
        redis.hset("h", "f", b"\xfe")
        redis.zadd("z", {b"\xfd": 1.5})
        redis.xadd("s", {b"\xfc": 1})
        redis.sadd("m", b"\xfb")
        redis.rpush("l", "é")

    def nothing(redis, db):
        return not redis.exists("l")

    report = explore({"a": client}, invariant=nothing, expires="k*")
    assert report.interleavings == 6
    assert r"SET k\xff \x92 EX 5" in report.schedule
    *_, last = report.replay()
    assert last.redis[r"k\xff"] == r"\x92"
    assert (last.redis["h"], last.redis["m"]) == ({"f": r"\xfe"}, [r"\xfb"])
    assert (last.redis["z"], last.redis["l"]) == ([(r"\xfd", 1.5)], ["é"])
    assert [fields for _, fields in last.redis["s"]] == [{r"\xfc": "1"}]
    gone = explore({"a": client}, invariant=lambda redis, db: redis.exists(b"k\xff"), expires="k*")
    assert r"k\xff expires" in gone.schedule
