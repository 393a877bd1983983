"""A reply may come later than another's step: what is done with it in shared memory is overtaken then."""

import asyncio
import functools
import json
import operator
import os
import threading
import time
import types
from collections import Counter
from typing import Any, ClassVar

import pytest
import redis as redis_py
import sqlalchemy as sa
from redis import Redis
from sqlalchemy.ext.asyncio import create_async_engine

from labsupport import explore
from labsupport.explorer.memory.sharing import shared_names

LOCAL: dict[str, object] = {}


def old_price(redis, db):
    LOCAL.clear()
    redis.set("price", "old")


def fill(redis, db):
    LOCAL["price"] = redis.get("price")


def change(redis, db):
    redis.set("price", "new")
    LOCAL.pop("price", None)


def no_old_price(redis, db):
    return LOCAL.get("price") in (None, redis.get("price"))


def test_an_old_reply_is_kept_after_the_change():
    report = explore({"ada": fill, "bob": change}, given=old_price, invariant=no_old_price)
    assert report.counterexample is not None
    assert [str(step) for step in report.counterexample] == [
        "GET price → old, still on its way",
        "SET price new → OK",
        "the reply of GET price arrives",
    ]
    assert "clients share LOCAL" in report.notes[0]
    assert report.rerun().finding is not None
    assert [moment.step.move for moment in report.replay()] == ["step", "step", "arrive"]


def test_unless_it_may_not():
    report = explore(
        {"ada": fill, "bob": change}, given=old_price, invariant=no_old_price, delays=False
    )
    report.check()


LIBRARY = """
def remember(kept, ask):
    def asked(redis):
        if "price" not in kept:
            kept["price"] = ask(redis)
        return kept["price"]
    return asked

class Remember:
    def __init__(self, kept, ask):
        self.asked = remember(kept, ask)

    def __call__(self, redis):
        return self.asked(redis)
"""

FORGET = """
def forget(kept, change):
    def changed(redis):
        done = change(redis)
        kept.clear()
        return done
    return changed

def remember_until(kept, ask):
    asked = remember(kept, ask)
    asked.forget = kept.clear
    return asked
"""


@pytest.mark.parametrize("way", ["remember", "Remember"])
def test_a_cache_that_a_library_s_decorator_keeps(way):
    """One client fills it through the decorator, and the other empties it by itself."""
    library: dict[str, Any] = {"__name__": "functools"}
    exec(compile(LIBRARY, functools.__file__, "exec"), library)
    kept: dict[str, object] = {}
    price = library[way](kept, lambda redis: redis.get("price"))

    def given(redis, db):
        kept.clear()
        redis.set("price", "old")

    def change(redis, db):
        redis.set("price", "new")
        kept.clear()

    report = explore(
        {"ada": lambda redis, db: price(redis), "bob": change},
        given=given,
        invariant=lambda redis, db: price(redis) == "new",
    )
    assert report.violations
    assert "clients share kept" in report.notes[0]


def test_a_cache_that_two_decorators_of_a_library_keep():
    """One client fills it through the one decorator, and the other empties it through the other."""
    library: dict[str, Any] = {"__name__": "functools"}
    exec(compile(LIBRARY + FORGET, functools.__file__, "exec"), library)
    kept: dict[str, object] = {}
    price = library["remember"](kept, lambda redis: redis.get("price"))
    change = library["forget"](kept, lambda redis: redis.set("price", "new"))

    def given(redis, db):
        kept.clear()
        redis.set("price", "old")

    report = explore(
        {"ada": lambda redis, db: price(redis), "bob": lambda redis, db: change(redis)},
        given=given,
        invariant=lambda redis, db: price(redis) == "new",
    )
    assert report.violations
    assert "clients share change, price" in report.notes[0]
    clients = {"ada": lambda redis, db: price(redis), "bob": lambda redis, db: price(redis)}
    assert shared_names(clients) == []  # of one function nobody else empties it
    once = library["remember_until"]({}, lambda redis: redis.get("price"))
    clients["bob"] = lambda redis, db: once.forget()
    assert shared_names(clients | {"ada": lambda redis, db: once(redis)}) == ["once"]


def test_who_looks_once_more_is_not_overtaken():
    def fill_and_look(redis, db):
        fill(redis, db)
        if redis.get("price") != LOCAL.get("price"):
            LOCAL.pop("price", None)

    report = explore({"ada": fill_and_look, "bob": change}, given=old_price, invariant=no_old_price)
    report.check()
    assert not report.notes


def test_among_many_steps_it_is_found_with_few_switches():
    def busy(redis, db):
        for number in range(4):
            redis.incr(f"n:{number}")
        fill(redis, db)
        for number in range(4):
            redis.incr(f"m:{number}")

    clients = {"ada": busy, "bob": lambda redis, db: (change(redis, db), redis.incr("changes"))}
    report = explore(clients, given=old_price, invariant=no_old_price)
    assert report.violations
    assert "the reply of GET price arrives" in str(report)


def test_tasks_of_one_client():
    async def app(redis, db):
        local = {}

        async def read():
            local["price"] = await redis.get("price")

        async def write():
            async with redis.pipeline() as pipe:
                pipe.set("price", "new").incr("changes")
                await pipe.execute()
            local.pop("price", None)

        await asyncio.gather(read(), write())
        return local.get("price")

    report = explore(
        {"app": app},
        given=lambda redis, db: redis.set("price", "old"),
        invariant=lambda redis, db, told: told["app"] in (None, redis.get("price")),
    )
    assert "GET price → old, still on its way" in report.schedule
    assert "tasks of app share its memory" in report.notes[0]


def test_a_client_of_the_code_s_own():
    own = Redis(decode_responses=True)

    def fill_own(redis, db):
        LOCAL["price"] = own.get("price")

    report = explore({"ada": fill_own, "bob": change}, given=old_price, invariant=no_old_price)
    assert "still on its way" in report.schedule


@pytest.mark.parametrize("returning", [False, True])
def test_rows_that_were_read(tmp_path, returning):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (price TEXT)"))

    def given(redis, db):
        LOCAL.clear()
        with engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM t"))
            connection.execute(sa.text("INSERT INTO t VALUES ('old'), ('older')"))

    def read(redis, db):
        with engine.connect() as connection:
            LOCAL["price"] = connection.execute(sa.text("SELECT price FROM t")).scalars().first()

    def write(redis, db):
        more = " RETURNING price" if returning else ""
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE t SET price = 'new'" + more))
        LOCAL.pop("price", None)

    def invariant(redis, db):
        with engine.connect() as connection:
            now = connection.execute(sa.text("SELECT price FROM t")).scalars().first()
        return LOCAL.get("price") in (None, now)

    report = explore({"ada": read, "bob": write}, given=given, invariant=invariant)
    assert "the reply of SELECT price FROM t arrives" in report.schedule
    engine.dispose()


def test_rows_of_an_asynchronous_engine(tmp_path):
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")

    async def given(redis, db):
        async with engine.begin() as connection:
            await connection.execute(sa.text("DROP TABLE IF EXISTS t"))
            await connection.execute(sa.text("CREATE TABLE t AS SELECT 'old' AS price"))

    async def app(redis, db):
        local = {}

        async def read():
            async with engine.connect() as connection:
                local["price"] = (await connection.execute(sa.text("SELECT price FROM t"))).scalar()

        async def write():
            async with engine.begin() as connection:
                await connection.execute(sa.text("UPDATE t SET price = 'new'"))
            local.pop("price", None)

        await asyncio.gather(read(), write())
        return local.get("price")

    report = explore(
        {"app": app}, given=given, invariant=lambda redis, db, told: told["app"] != "old"
    )
    assert "still on its way" in report.schedule
    asyncio.run(engine.dispose())


def test_a_lock_that_is_held_meanwhile_is_no_deadlock(tmp_path):
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t AS SELECT 1 AS n"))
    seen = {}

    def add(name):
        def client(redis, db):
            with engine.begin() as connection:
                connection.execute(sa.text("UPDATE t SET n = n + 1"))
                seen[name] = 1

        return client

    explore({"ada": add("ada"), "bob": add("bob")}, invariant=lambda redis, db: True).check()
    engine.dispose()


def test_asked_for_it_comes_with_other_moves():
    def count(redis, db):
        if redis.set("once", "x", nx=True, ex=10):
            redis.incr("n")

    report = explore(
        {"ada": count, "bob": count},
        invariant=lambda redis, db: redis.get("n") in (None, "1"),
        crashes=True,
        delays=True,
    )
    report.check()
    assert (
        report.interleavings
        > explore(
            {"ada": count, "bob": count}, invariant=lambda redis, db: True, crashes=True
        ).interleavings
    )


def test_a_list_that_nobody_looks_at_is_a_log():
    log: list[object] = []
    queue: list[object] = []

    def notes(redis, db):
        log.append(redis.get("x"))

    def takes(redis, db):
        queue.append(redis.get("x"))
        return queue.pop()

    assert shared_names({"ada": notes, "bob": notes}) == ["log"]
    assert shared_names({"ada": notes, "bob": notes}, logs=False) == []
    assert shared_names({"ada": takes, "bob": takes}, logs=False) == ["queue"]
    assert shared_names({"ada": notes, "bob": lambda redis, db: len(log)}, logs=False) == ["log"]


def test_what_has_many_names_has_one_in_each_process():
    """Whatever PYTHONHASHSEED makes of the order of a set."""
    names, held = [f"name_{n}" for n in range(10)], [1]
    module = dict.fromkeys(names, held) | {"__name__": __name__}
    exec(f"def uses(redis, db):\n    return {names}".replace("'", ""), module)
    assert shared_names({"ada": module["uses"], "bob": module["uses"]}) == ["name_9"]


def test_a_counter_that_nobody_looks_at_is_a_metric():
    """It comes to the same in any order; whoever reads it, a `+=` too, shares it."""
    metrics: Counter[str] = Counter()

    def counts(redis, db):
        metrics.update(missed=redis.get("x") is None)

    async def awaits(redis, db):
        metrics.update(missed=await redis.get("x") is None)

    def adds(redis, db):
        metrics["missed"] += redis.get("x") is None

    def asks(redis, db):
        return metrics["missed"]

    def passes_on(redis, db, kept={"it": metrics}):  # noqa: B006
        kept["it"].update(missed=1)

    for logs in (True, False):
        assert shared_names({"ada": counts, "bob": awaits}, logs=logs) == []
        assert shared_names({"ada": counts, "bob": counts}, logs=logs, reader=asks) == ["metrics"]
        for other in (adds, asks, passes_on):
            assert shared_names({"ada": counts, "bob": other}, logs=logs)

    pair = {"ada": counts, "bob": counts}
    assert explore(pair, invariant=lambda redis, db: True, prune=True).pruned
    read = explore(pair, invariant=lambda redis, db: metrics["missed"] < 3, prune=True)
    assert "Not pruned: the clients share metrics" in str(read)


class TestMemoryBeforeTheFirstStep:
    """A client may begin after others' steps: what they have left in memory is there."""

    STATE: ClassVar[dict[str, bool]] = {}

    def reset(self, redis, db):
        self.STATE.clear()

    def test_a_switch_that_another_has_thrown(self):
        def opens(redis, db):
            redis.get("feature")
            self.STATE["off"] = True

        def asks(redis, db):
            redis.incr("skipped" if self.STATE.get("off") else "done")

        report = explore(
            {"ada": opens, "bob": asks},
            given=self.reset,
            invariant=lambda redis, db: not redis.exists("skipped"),
        )
        assert report.violations == 1
        assert "A client may begin later than another's step, as the clients share" in str(report)
        assert [str(step) for step in report.counterexample][-2:] == [
            "bob begins",
            "INCRBY skipped 1 → 1",
        ]
        assert not list(report.replay())[-1].redis.get("done")

    @pytest.mark.parametrize("awaits", [False, True])
    def test_a_guard_that_two_pass_is_a_race(self, awaits):
        """In sequence it holds: what one client has noted, the next one sees."""

        def once(redis, db):
            if not self.STATE.get("sent"):
                redis.incr("n")
                self.STATE["sent"] = True

        async def once_awaited(redis, db):
            if not self.STATE.get("sent"):
                await redis.incr("n")
                self.STATE["sent"] = True

        client = once_awaited if awaits else once
        report = explore(
            {"ada": client, "bob": client},
            given=self.reset,
            invariant=lambda redis, db: redis.get("n") == "1",
        )
        assert report.violations
        assert not report.serial

    def test_a_crash_before_it_begins(self):
        def works(redis, db):
            self.STATE["on"] = True
            redis.incr("n")

        report = explore(
            {"ada": works, "bob": works},
            given=self.reset,
            invariant=lambda redis, db: bool(self.STATE),
            crashes=True,
            delays=True,
        )
        assert "crashes before its first line" in str(report)


def test_a_request_that_is_cancelled_was_made():
    """Two tasks race; the reply that is first has the other one cancelled, perhaps too late."""

    async def hedges(redis, db):
        tasks = [asyncio.create_task(redis.incr(name)) for name in ("a", "b")]
        _, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()

    report = explore(
        {"ada": hedges}, invariant=lambda redis, db: len(redis.keys()) == 1, delays=True
    )
    assert report.violations


def test_a_log_that_the_invariant_looks_at():
    """In which order replies are noted is another one than in which they were made."""
    log: list[int] = []

    def notes(redis, db):
        log.append(redis.incr("n"))

    report = explore(
        {"ada": notes, "bob": notes},
        given=lambda redis, db: log.clear(),
        invariant=lambda redis, db: log == sorted(log),
    )
    assert "A reply may come later than another's step, as the clients share log" in str(report)
    clients = {"ada": notes, "bob": notes}
    looks = [lambda redis, db: log[0] == 1, lambda redis, db: sum(log) == len(log)]
    assert all(shared_names(clients, logs=False, reader=look) == ["log"] for look in looks)
    assert not shared_names(clients, logs=False, reader=lambda redis, db: len(log) == 2)


def test_what_another_has_in_hand_when_all_begin():
    """Before their first step two find a lock of the process taken: one that begins later finds it free."""
    lock = threading.Lock()

    def adds(redis, db):
        if not lock.acquire(blocking=False):
            return "busy"
        try:
            redis.incr("n")
        finally:
            lock.release()
        return "added"

    def as_told(redis, db, told):
        return int(redis.get("n") or 0) == list(told.values()).count("added")

    report = explore({"ada": adds, "bob": adds}, invariant=as_told)
    assert (report.verdict.status, report.interleavings) == ("holds", 4)


def test_who_keeps_its_variables_keeps_them():
    """What `locals()` has given is the code's own, and not emptied when a step is taken."""
    outer = "n"

    def counts(redis, db):
        asked = {"name": outer}
        kept = locals()
        redis.incr(outer)
        return kept["asked"]["name"]

    explore(
        {"ada": counts, "bob": counts},
        invariant=lambda redis, db, told: set(told.values()) == {"n"},
    ).check()


class Latest:
    number = 0


def test_what_is_set_by_text():
    """On a class, by the method of its type; on a module, in its dict; on what attrgetter finds."""
    module = types.ModuleType("latest_of_all")
    module.__file__, module.Latest = __file__, Latest
    find = operator.attrgetter("Latest")

    def by_type(number):
        type.__setattr__(Latest, "number", number)

    def by_attrgetter(number):
        operator.attrgetter("Latest")(module).number = number

    def by_dict(number):
        module.__dict__["number"] = number

    assert find(module) is Latest
    for sets, where in ((by_type, Latest), (by_attrgetter, Latest), (by_dict, module)):

        def client(redis, db, sets=sets):
            number = redis.incr("n")
            sets(number)

        report = explore(
            {"ada": client, "bob": client}, invariant=lambda r, d, where=where: where.number == 2
        )
        assert report.verdict.status == "broken", sets


class Kept(redis_py.Redis):
    encoder = json.JSONEncoder()


def set_on(kind, number):
    kind.latest = number


LATEST = {
    "a class in a module": lambda number: setattr(redis_py.client.Redis, "latest", number),
    "what a function was handed": lambda number: set_on(redis_py.Redis, number),
    "a base": lambda number: set_on(Kept.__bases__[0], number),
    "the class of an object": lambda number: set_on(type(Kept.encoder), number),
    "a function, by another name": lambda number: set_on_a_function(number),
    "a module in a module": lambda number: set_on_a_module(number),
}


def set_on_a_function(number):
    from json import dumps as function

    function.latest = number


def set_on_a_module(number):
    json.decoder.scanner.latest = number


@pytest.mark.parametrize("name", LATEST)
def test_what_is_set_in_a_library(name):
    """An attribute of its class, function or module."""
    where = (
        redis_py.Redis,
        redis_py.Redis,
        redis_py.Redis,
        json.JSONEncoder,
        json.dumps,
        json.decoder.scanner,
    )
    place, sets = dict(zip(LATEST, where, strict=True))[name], LATEST[name]

    def client(redis, db):
        number = redis.incr("n")
        sets(number)

    try:
        report = explore(
            {"ada": client, "bob": client}, invariant=lambda redis, db: place.latest == 2
        )
        assert report.verdict.status == "broken"
        pruned = explore({"ada": client, "bob": client}, invariant=lambda *_: True, prune=True)
        assert "Not pruned" in pruned.notes[0]
        assert shared_names({"ada": client, "bob": lambda redis, db: redis.latest})
    finally:
        del place.latest


def set_in_dict(module, number):
    module.__dict__["latest"] = number


def set_in_turn(number):
    for module in (redis_py,):
        module.latest = number


def set_on_its_class(redis, number):
    kind = type(redis)
    kind.latest = number


@pytest.mark.parametrize(
    "sets",
    [
        lambda redis, number: set_on(redis_py, number),
        lambda redis, number: set_in_dict(redis_py, number),
        lambda redis, number: set_in_turn(number),
        lambda redis, number: set_on(type(redis), number),
        lambda redis, number: setattr(redis.__class__, "latest", number),
        set_on_its_class,
    ],
)
def test_what_is_set_on_a_library_that_was_handed_over(sets):
    """A module, or the class of the client that a function gets; `given` and the invariant find it, too."""

    def latest(redis):
        return getattr(redis_py, "latest", None) or type(redis).latest

    def client(redis, db):
        sets(redis, redis.incr("n"))
        return latest(redis)

    clients = {"ada": client, "bob": client}
    try:
        report = explore(clients, invariant=lambda redis, db: latest(redis) == 2)
        assert report.verdict.status == "broken"
        assert not report.serial
        report = explore(clients, invariant=lambda *_: True, prune=True)
        assert "Not pruned" in report.notes[0]
    finally:
        for owner in (redis_py, Redis):
            if "latest" in vars(owner):
                del owner.latest


def test_an_objects_own_attribute_is_no_librarys():
    """Of the same name as what a module of a library's has."""

    class Job:
        def __init__(self):
            self.time = time.time()

    def client(redis, db):
        job = Job()
        job.time, job.name = time.time(), os.name
        redis.set("job", json.dumps([job.time, job.name]))

    assert shared_names({"ada": client, "bob": client}) == []


@pytest.mark.parametrize("others", [{}, {"bob": lambda redis, db: redis.ping()}], ids=["alone", ""])
@pytest.mark.parametrize("blocks", [False, True])
def test_a_timeout_ends_before_the_reply_comes(blocks, others):
    """What was popped for it is gone; what was moved to a list of its own is there."""

    def takes(how):
        async def client(redis, db):
            try:
                async with asyncio.timeout(1):
                    return await how(redis)
            except TimeoutError:
                return None

        return client

    def pops(redis):
        return redis.blpop("jobs", 5) if blocks else redis.lpop("jobs")

    def moves(redis):
        command = redis.blmove if blocks else redis.lmove
        return command("jobs", "mine", *[5] * blocks, "LEFT", "RIGHT")

    def reports(how):
        return explore(
            {"ada": takes(how), **others},
            given=lambda redis, db: redis.rpush("jobs", "one"),
            invariant=lambda r, db, told: bool(told["ada"]) or bool(r.exists("jobs", "mine")),
            passes=True,
            delays=True,
        )

    assert reports(pops).violations
    reports(moves).check()
