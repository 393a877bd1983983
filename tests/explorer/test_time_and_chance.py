"""Time and chance in an exploration are the explorer's, however the code came by them."""

import asyncio
import collections
import contextvars
import dataclasses
import datetime
import functools
import gc
import importlib
import json
import multiprocessing
import os
import pickle
import random
import secrets
import sys
import sysconfig
import threading
import time
import types
import uuid
import weakref
from random import uniform
from zlib import crc32

import numpy
import pydantic
import pytest
import redis as redis_py
import sqlalchemy
from redis.exceptions import ResponseError
from sqlalchemy import orm

from labsupport import explore
from labsupport.errors import NotSteppableError
from labsupport.exploration.testbed import close_testbed
from labsupport.explorer import one_process
from labsupport.explorer.clock import START, Clock
from labsupport.servers import start_server


def large():
    return random.getrandbits(40)


MODULE = """
import datetime
import os
import random
import secrets
import time
import timeit
import uuid
from datetime import datetime as moment
from time import sleep, time as now

def nap(redis, seconds):
    redis.incr("n")
    begin, count = time.time(), timeit.default_timer()
    time.sleep(seconds)
    redis.set("slept", round(time.time() - begin))
    assert round(timeit.default_timer() - count) == seconds

class Service:
    def nap(self, redis, seconds):
        return nap(redis, seconds)

def clocks():
    return [
        time.time(), now(), time.time_ns() / 1e9, moment.now().timestamp(), moment.today().timestamp(),
        moment.now().timestamp(), datetime.datetime.now(datetime.UTC).timestamp(),
        time.mktime(time.localtime()),
    ]

def draws():
    return [
        os.urandom(4).hex(), random.random(), random.SystemRandom().random(), random.Random().random(),
        secrets.token_hex(4), secrets.token_urlsafe(6), secrets.randbelow(1 << 30),
        uuid.uuid4().hex[:8], uuid.uuid1().hex[:8],
    ]
"""

LIBRARY = """
import time

class Entry:
    def __init__(self, ttl, clock=time.monotonic):
        self.clock, self.ends = clock, clock() + ttl

    @classmethod
    def of(cls, ttl, clock=time.perf_counter):
        return cls(ttl, clock)

    def is_fresh(self):
        return self.clock() < self.ends

class Cache:
    def __init__(self, ttl):
        self.entry = Entry(ttl)

def entry(ttl, *, clock=time.time):
    return Entry(ttl, clock)
"""


@pytest.fixture
def shop(monkeypatch):
    """A module that is not installed, as a learner has beside the notebook."""
    module = types.ModuleType("shop_of_a_learner")
    exec(MODULE, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def always(redis, db):
    return True


class TestTime:
    def test_a_sleep_takes_no_time_however_it_is_reached(self, shop):
        """By its own name, as an attribute of its module, through an object made elsewhere."""
        nap, service = shop.nap, shop.Service()
        begin = time.monotonic()
        for function in (
            lambda redis, db: nap(redis, 3600),
            lambda redis, db: shop.nap(redis, 3600),
            lambda redis, db: service.nap(redis, 3600),
        ):
            report = explore({"a": function}, invariant=lambda r, d: r.get("slept") == "3600")
            assert report.violations == 0
        assert time.monotonic() - begin < 3600

    def test_every_clock_stands_still(self, shop):
        """All of them show the first moment of the run, also in `given` and the invariant."""

        def read(redis, db):
            redis.ping()
            return shop.clocks()

        def given(redis, db):
            assert shop.clocks() == [START] * 8

        def the_same(redis, db, told):
            return told["a"] == told["b"] == shop.clocks() == [START] * 8

        report = explore({"a": read, "b": read}, given=given, invariant=the_same)
        assert report.violations == 0

    def test_outside_it_is_the_machines(self, shop):
        """Before and after an exploration every name leads to the interpreter's own."""
        explore({"a": lambda redis, db: redis.ping()}, invariant=always)
        assert shop.time is time
        assert shop.datetime is datetime
        assert shop.random is random
        assert shop.now is time.time
        assert abs(shop.clocks()[0] - time.time()) < 3600

    def test_dates_are_dates(self, shop):
        """A date made in a client is an instance of the class that its name leads to, and outside, too."""
        made = []

        def client(redis, db):
            redis.ping()
            made.append(shop.moment(2026, 11, 26))
            assert isinstance(made[-1], shop.moment)
            assert isinstance(shop.datetime.date.today(), shop.datetime.date)

        assert explore({"a": client}, invariant=always).violations == 0
        assert type(made[0]) is datetime.datetime

    def test_a_clock_that_a_library_keeps_as_a_default(self, monkeypatch):
        """cachetools' TTLCache has it in __init__, and an older one in a part; time may have passed."""
        library = types.ModuleType("library_with_a_clock")
        library.__file__ = f"{sysconfig.get_path('purelib')}/library_with_a_clock.py"
        exec(LIBRARY, library.__dict__)
        monkeypatch.setitem(sys.modules, library.__name__, library)

        kept = library.Cache(30)

        def fresh(redis, db):
            kept.entry.__init__(30, kept.entry.clock)
            found = [kept.entry, library.Entry(30), library.Entry.of(30), library.entry(30)]
            redis.get("k")
            return [one.is_fresh() for one in found]

        seen = set()
        explore(
            {"a": fresh},
            invariant=lambda r, d, told: seen.add(tuple(told["a"])) or True,
            passes=True,
        ).check()
        assert seen == {(True,) * 4, (False,) * 4}
        assert kept.entry.clock is time.monotonic
        assert library.Entry.__init__.__defaults__ == (time.monotonic,)
        assert library.entry.__kwdefaults__ == {"clock": time.time}

    def test_a_log_whose_members_are_milliseconds(self):
        """Whether two calls fall into one millisecond is not chance: the answer is always the same."""

        def hit(redis, db):
            now = int(time.time() * 1000)
            if redis.zcard("log") < 10:
                redis.zadd("log", {str(now): now})

        def both(redis, db):
            return redis.zcard("log") == 2

        texts = {str(explore({"a": hit, "b": hit}, invariant=both)) for _ in range(5)}
        assert len(texts) == 1

    def test_nothing_says_how_old_the_machine_is(self):
        """How long a connection is open and a script runs is nobody's business, and a wait by it ends."""
        wait = "local begin = os.clock() while os.clock() - begin < 0.001 do end return 'done'"
        library = f"#!lua name=l\nredis.register_function('wait', function() {wait} end)"

        def asks(redis, db):
            ages = {one["age"] + one["idle"] for one in [*redis.client_list(), redis.client_info()]}
            redis.function_load(library, replace=True)
            done = redis.eval(wait, 0), redis.fcall("wait", 0)
            clock = redis.eval("return tostring(os.clock())", 0)
            redis.rpush("told", *sorted(ages), *done, clock)

        def asked(redis, db):
            return redis.lrange("told", 0, -1) == ["00", "done", "done", "1e-06"]

        assert explore({"a": asks}, invariant=asked).violations == 0

    def test_consumers_are_idle_for_no_time_while_time_stands_still(self):
        """A script may ask for them; when time has passed, how long they are idle cannot be told."""
        look = "return redis.call('XINFO', 'CONSUMERS', KEYS[1], 'g')[1][6]"

        def given(redis, db):
            redis.xgroup_create("s", "g", id="0", mkstream=True)
            redis.xadd("s", {"n": 1})
            redis.xreadgroup("g", "one", {"s": ">"})

        def looks(redis, db):
            redis.rpush("told", redis.eval(look, 1, "s"))

        def waits(redis, db):
            time.sleep(10)
            redis.eval(look, 1, "s")

        seen = {"given": given, "invariant": lambda r, d: r.lrange("told", 0, -1) == ["0"]}
        assert explore({"a": looks}, **seen).violations == 0
        with pytest.raises(NotSteppableError, match="XINFO CONSUMERS reaches beyond"):
            explore({"a": waits}, **seen, passes=True)

    def test_what_is_asked_under_a_watch_is_shown_as_it_is_told(self):
        """No report says what time it is on the machine, or when a key of the explorer's clock ends."""

        def asks(redis, db):
            redis.set("key", "", px=5_000)
            with redis.pipeline() as pipe:
                pipe.watch("key")
                redis.rpush("told", pipe.time()[1], pipe.pttl("key"), pipe.ttl("key"))

        report = explore(
            {"a": asks}, invariant=lambda r, d: r.lrange("told", 0, -1) != ["0", "5000", "5"]
        )
        replies = [step.reply for step in report.counterexample]
        assert replies[2:5] == ["(‹time›, 0)", "5000", "5"]

    def test_the_servers_clock_is_held_in_scripts_and_functions(self):
        """TIME, TTL and the ids of streams follow the explorer's clock, in Lua as on the wire."""
        script = """
        redis.call('SET', KEYS[1], 'v', 'EX', 10)
        redis.call('EXPIRE', KEYS[1], 20)
        local id = redis.call('XADD', KEYS[2], '*', 'f', 'v')
        return {redis.call('TTL', KEYS[1]), redis.call('PTTL', KEYS[1]), id, redis.call('TIME')[1], #ARGV}
        """
        wanted = [20, 20_000, f"{START}000-0", str(START), 1]
        library = (
            f"#!lua name=timed\nredis.register_function('timed', function(KEYS, ARGV) {script} end)"
        )

        def by_script(redis, db):
            return redis.eval(script, 2, "k", "s", "one")

        def by_function(redis, db):
            return redis.fcall("timed", 2, "k", "s", "one")

        def by_wire(redis, db):
            redis.set("k", "v", ex=10)
            redis.expire("k", 20)
            entry = redis.xadd("s", {"f": "v"})
            return [redis.ttl("k"), redis.pttl("k"), entry, str(redis.time()[0]), 1]

        def by_pipeline(redis, db):
            pipe = redis.pipeline()
            pipe.set("k", "v", ex=10)
            pipe.expire("k", 20)
            pipe.ttl("k")
            pipe.pttl("k")
            pipe.xadd("s", {"f": "v"})
            pipe.time()
            *_, ttl, pttl, entry, now = pipe.execute()
            return [ttl, pttl, entry, str(now[0]), 1]

        for client in (by_script, by_function, by_wire, by_pipeline):
            report = explore(
                {"a": client},
                given=lambda r, d: r.function_load(library, replace=True),
                invariant=lambda r, d, told: told["a"] == wanted,
            )
            assert report.violations == 0, report

    @pytest.mark.long
    @pytest.mark.parametrize(
        ("draw", "due"),
        [
            (lambda r: r.spop("s"), str),
            (lambda r: r.spop("s", 3), list),
            (lambda r: r.srandmember("s"), str),
            (lambda r: r.srandmember("s", -30), list),
            (lambda r: r.hrandfield("h"), str),
            (lambda r: r.zrandmember("z", 2), list),
            (lambda r: r.randomkey(), str),
            (lambda r: r.pipeline(transaction=True).spop("s").execute()[0], str),
            (lambda r: r.eval("return redis.call('SPOP', KEYS[1])", 1, "s"), str),
            (lambda r: r.eval("return math.random(1000000000)", 0), int),
            (lambda r: r.fcall("draw", 0), int),
        ],
    )
    def test_the_servers_chance_is_held(self, draw, due):
        """The same in each run, on any server, and another one for each call and client."""
        library = (
            "#!lua name=d\nredis.register_function('draw', function() return math.random(1e9) end)"
        )
        drawn = []

        def given(redis, db):
            redis.function_load(library, replace=True)
            redis.sadd("s", *range(1_000))
            redis.hset("h", mapping={str(n): n for n in range(1_000)})
            redis.zadd("z", {str(n): n for n in range(1_000)})
            redis.mset({f"key:{n}": n for n in range(100)})

        def seen(redis, db, told):
            drawn.append(told)
            return True

        clients = {who: lambda redis, db: [draw(redis), draw(redis)] for who in "ab"}
        close_testbed()
        explore(clients, given=given, invariant=seen)
        close_testbed()  # and another server
        explore(clients, given=given, invariant=seen)
        assert len(drawn) == 24  # twice, as the server may also draw the same for all
        assert drawn[:12] == drawn[12:]
        first = drawn[0]
        assert all(type(one) is due for told in first.values() for one in told)
        assert len({str(one) for told in first.values() for one in told}) == 4

    def test_two_may_draw_the_same(self):
        """A member that is looked up and then removed may have been drawn by another, too."""

        def takes(sure):
            def take(redis, db):
                member = redis.srandmember("free")
                removed = redis.srem("free", member)
                return member if removed or not sure else None

            return take

        def another(redis, db, told):
            taken = [one for one in told.values() if one is not None]
            return len(taken) == len(set(taken))

        for sure in (False, True):
            report = explore(
                {"a": takes(sure), "b": takes(sure)},
                given=lambda redis, db: redis.sadd("free", "x", "y"),
                invariant=another,
            )
            assert bool(report.violations) is not sure
            assert "draws" in report.notes[0]
            assert sure or len([*report.replay()][-1].redis["free"]) == 1

    @pytest.mark.parametrize(
        "draw",
        [
            lambda redis: redis.srandmember("free"),
            lambda redis: redis.eval("return math.random(2)", 1, "free"),
            lambda redis: redis.exists("free") and random.choice("xy"),
            lambda redis: redis.exists("free") and random.choices("xy")[0],
            lambda redis: redis.exists("free") and random.sample("xy", 2)[0],
        ],
        ids=["server", "script", "choice", "choices", "sample"],
    )
    @pytest.mark.parametrize("names", ["ab", "xy", "pq"])
    def test_two_draw_the_same_and_another(self, draw, names):
        """Both are tried even of two values, whatever the clients are called."""
        seen = set()

        def note(redis, db, told):
            seen.add(len(set(told.values())))
            return True

        explore(
            {name: lambda redis, db: draw(redis) for name in names},
            given=lambda redis, db: redis.sadd("free", "x", "y"),
            invariant=note,
        )
        assert seen == {1, 2}
        alone = {"alone": lambda redis, db: draw(redis)}
        report = explore(alone, given=lambda redis, db: redis.sadd("free", "x"), invariant=note)
        assert report.notes[0].endswith("one was tried.")

    @pytest.mark.parametrize(
        "seldom",
        [
            lambda: random.random() < 0.01,
            lambda: random.random() > 0.99,
            lambda: RANDOM.random() < 0.01,
            lambda: SYSTEM.random() < 0.01,
            lambda: random.Random().random() < 0.01,
            lambda: random.uniform(0, 100) < 1,
            lambda: uniform(0, 100) > 99,
            lambda: SYSTEM.uniform(0, 100) < 1,
            lambda: percent() > 99,
            lambda: one_of_many() < 1,
            lambda: Roll().seldom(),
            lambda: random.expovariate(1) > 6,
            lambda: random.choices([True, False], [1, 200])[0],
            lambda: RANDOM.choices([False, True], cum_weights=[200, 201])[0],
        ],
    )
    def test_what_one_in_a_hundred_does(self, seldom):
        """A branch that few draws take is taken; a token that is a fraction is still nobody else's."""

        def cleans(redis, db):
            redis.set(f"live:{random.random()}", 1)
            if seldom():
                redis.delete(*redis.keys("live:*"))

        clients = {"a": cleans, "b": cleans}
        report = explore(clients, invariant=lambda redis, db: redis.dbsize() == 2)
        assert report.violations == report.interleavings
        assert "fractions" in report.notes[-1]
        assert [*report.replay()][-1].redis == {}

        def only_names(redis, db):
            redis.set(f"live:{random.random()}", 1)

        report = explore(
            {"a": only_names, "b": only_names}, invariant=lambda redis, db: redis.dbsize() == 2
        )
        assert (report.violations, report.exhausted) == (0, True)
        assert "very small and very large" in report.notes[0]

    def test_a_method_imported_by_name_draws_the_same_each_time(self):
        """What the process drew before is nobody's; and its own draws go on afterwards."""

        def drawn(seed):
            found = []
            random.seed(seed)
            before = random.getstate()
            explore(
                {"a": lambda redis, db: redis.incr("n") and found.append(uniform(0, 1))},
                invariant=lambda redis, db: True,
            )
            assert random.getstate() == before
            return found

        assert drawn(1) == drawn(2)

    def test_what_only_waits_is_no_decision(self):
        """A pause of any length is drawn once; of a normal deviate one is tried, as the report says."""

        def pauses(redis, db):
            redis.incr("n")
            deadline = time.monotonic() + random.uniform(1, 2)
            pause = random.uniform(0.01, 0.02)
            if time.monotonic() + pause < deadline:
                time.sleep(pause)

        def naps(redis, db):
            redis.incr("n")
            time.sleep(min(0.01, random.random() / 100 * 2))

        def seldom_naps(redis, db):
            redis.incr("n")
            time.sleep(0.01 * (random.random() < 0.01))

        def is_late(redis, db):
            redis.incr("n")
            delay = random.gauss(0, 1)
            return delay > 3

        clients = (pauses, []), (naps, []), (seldom_naps, ["fractions"]), (is_late, ["gauss()"])
        for client, told in clients:
            report = explore({"ada": client}, invariant=lambda redis, db: True)
            assert report.verdict.status == "holds"
            assert [told[0] in note for note in report.notes] == [True] * len(told)

    @pytest.mark.parametrize(
        "draw",
        [
            lambda: random.randint(0, 10**9) < 10**6,
            lambda: (drawn := secrets.randbelow(10**9)) > 10 and drawn >= 10**9 - 10**6,
            lambda: large() < 2**20,
        ],
    )
    def test_one_of_very_many_that_decides_is_drawn_at_both_ends(self, draw):
        def cleans(redis, db):
            if redis.set("live", 1) and draw():
                redis.delete("live")

        report = explore({"a": cleans}, invariant=lambda redis, db: redis.exists("live"))
        assert report.violations == 1
        assert "out of very many" in report.notes[-1]

    @pytest.mark.parametrize(
        ("draw", "decides"),
        [
            (lambda: secrets.randbelow(10**9) == 0, True),
            (lambda: int.from_bytes(os.urandom(8), "big") % 1000 == 0, True),
            (lambda: uuid.uuid4().int % 100 == 0, True),
            (lambda: uuid.uuid4().hex.startswith("00"), True),
            (lambda: crc32(secrets.token_hex().encode()) % 16, True),
            (lambda: "%s" % uuid.uuid4(), False),  # noqa: UP031
            (lambda: "".join([str(uuid.uuid4()) + secrets.token_hex()]), False),
            (lambda: time.sleep(random.getrandbits(32) % 100), False),
            (lambda: (token := secrets.token_hex()) != "" and token is not None and token, False),
            (lambda: "".join(random.choices("ab", k=40)) and secrets.token_hex(1) == "00", False),
        ],
    )
    def test_a_token_by_which_code_decides(self, draw, decides):
        """It is drawn once, as the report says; one that is sent and compared with its like is any."""

        def holds(redis, db):
            token = draw()
            redis.set("lock", str(token), nx=True, px=9)
            return redis.get("lock") == token

        report = explore({"a": holds}, invariant=lambda redis, db: True)
        assert any("as a token" in note for note in report.notes) == decides

    def test_tasks_and_later_draws_are_alike_too(self):
        """Each may draw what another task does, whatever it has drawn from elsewhere before."""

        async def take(redis):
            member = await redis.srandmember("free")
            return await redis.srem("free", member)

        async def two(redis, db):
            return sum(await asyncio.gather(take(redis), take(redis)))

        def second(redis, db):
            redis.srandmember("others")
            return redis.srem("free", redis.srandmember("free"))

        def first(redis, db):
            return redis.srem("free", redis.srandmember("free"))

        def given(redis, db):
            redis.sadd("free", *"uvwxyz")
            redis.sadd("others", *"abc")

        for clients in ({"a": two}, {"a": second, "b": first}):
            report = explore(
                clients, given=given, invariant=lambda redis, db, told: sum(told.values()) == 2
            )
            assert report.violations, str(report)

    def test_an_answer_is_only_as_sure_as_both_searches(self):
        """Where the same draws lead to endless orders, or to an error, no answer says that all is well."""

        def goes_on(me, other):
            def client(redis, db):
                mine = redis.srandmember("free")
                redis.set(me, mine)
                while redis.get(other) == mine:
                    redis.rpush("log", "x")

            return client

        def insists(redis, db):
            if not redis.hsetnx("taken", redis.srandmember("free"), 1):
                raise ValueError("taken")

        def given(redis, db):
            redis.sadd("free", *"uvwxyz")

        clients = {"a": goes_on("a", "b"), "b": goes_on("b", "a")}
        report = explore(clients, given=given, invariant=lambda redis, db: True)
        assert (report.given_up != "", report.exhausted) == (True, False)
        clients = {"a": insists, "b": insists}
        report = explore(clients, given=given, invariant=lambda redis, db: True)
        assert "raised ValueError: taken" in report.reason
        report = explore({"a": insists}, given=given, invariant=lambda redis, db: True)
        assert "one was tried" in report.notes[0]

    @pytest.mark.parametrize(
        "draw",
        [
            lambda r: r.spop("none"),
            lambda r: r.srandmember("none"),
            lambda r: r.hrandfield("none"),
            lambda r: r.randomkey() if not r.dbsize() else None,
        ],
    )
    def test_nothing_to_draw_from(self, draw):
        report = explore(
            {
                "a": lambda redis, db: [
                    redis.spop("none", 2),
                    redis.zrandmember("none", 2),
                    draw(redis),
                ]
            },
            invariant=lambda r, d, told: told["a"] == [[], [], None],
        )
        assert report.violations == 0, report

    @pytest.mark.parametrize(
        "command", [("SPOP", "s", -1), ("SRANDMEMBER", "s", "x"), ("SPOP", "t")]
    )
    def test_a_draw_that_the_server_refuses(self, command):
        """What is wrong with it is said in the server's words."""

        def told(redis, db):
            redis.sadd("s", 1)
            redis.set("t", 1)
            try:
                return redis.execute_command(*command)
            except ResponseError as error:
                return str(error).partition(" script:")[0]

        with start_server() as server, server.client() as client:
            due = told(client, None)
        report = explore({"a": told}, invariant=lambda r, d, told: told["a"] == due)
        assert report.violations == 0, report

    def test_a_set_has_one_order(self):
        """Python's own is another one in each process, and with it the step that comes next."""
        names = [f"member {n}" for n in range(40)]

        def walk(redis, db):
            found = redis.smembers("s")
            piped = redis.pipeline(transaction=True).smembers("s").execute()[0]
            assert isinstance(found, set)
            assert found == set(names)
            assert found.pop() == names[0]
            return [*found], [*(piped - {names[1]})], [*redis.sunion("s", "none")], str(piped)

        names.sort()
        due = names[1:], [names[0], *names[2:]], names, f"{{{str(names)[1:-1]}}}"
        report = explore(
            {"a": walk},
            given=lambda r, d: r.sadd("s", *names),
            invariant=lambda r, d, told: told["a"] == due,
        )
        assert report.violations == 0, report

    def test_keys_come_in_one_order(self):
        """KEYS and SCAN, on the wire and in Lua, whatever order the server has."""
        names = [f"key:{n}" for n in range(40)]

        def look(redis, db):
            script = "return {redis.call('KEYS', '*'), redis.call('SCAN', 0, 'COUNT', 1000)[2]}"
            return [redis.keys("*"), redis.scan(count=1_000)[1], *redis.eval(script, 0)]

        report = explore(
            {"a": look},
            given=lambda r, d: r.mset(dict.fromkeys(names, 1)),
            invariant=lambda r, d, told: told["a"] == [sorted(names)] * 4,
        )
        assert report.violations == 0, report

    def test_what_the_server_tells_of_itself(self):
        """INFO says what stays; what changes by itself is refused by name."""

        def version(redis, db):
            redis.ping()
            found = redis.info("server")
            return found["redis_version"], "redis_version" in redis.info(), found.get("none", 7)

        def memory(redis, db):
            redis.ping()
            redis.info("memory")["used_memory"]

        report = explore({"a": version}, invariant=lambda r, d, told: told["a"][1:] == (True, 7))
        assert report.violations == 0
        with pytest.raises(NotSteppableError, match="INFO's used_memory"):
            explore({"a": memory}, invariant=always)

    @pytest.mark.parametrize("transaction", [False, True, None])
    def test_what_the_server_tells_a_client_of_ones_own(self, transaction):
        """Nothing that another machine would tell otherwise; no number, which code would go by."""

        def asks(redis, db):
            with redis_py.Redis() as own:
                if transaction is None:
                    return own.info()
                with own.pipeline(transaction=transaction) as pipe:
                    return pipe.info().execute()[0]

        def holds(redis, db, told):
            unknown = {told["a"][name] for name in ("used_memory", "uptime_in_seconds")}
            return (
                unknown == {"unknown in an exploration"} and told["a"]["redis_version"][0].isdigit()
            )

        explore({"a": asks}, invariant=holds).check()

    @pytest.mark.parametrize("absolute", [False, True])
    def test_a_key_that_is_restored_ends_on_the_explorers_clock(self, absolute):
        """RESTORE with a TTL, or with a moment, on the wire and in Lua."""
        script = "return redis.call('RESTORE', KEYS[1], ARGV[1], ARGV[2], unpack(ARGV, 3))"

        def client(redis, db):
            redis.set("k", "v")
            saved = redis.execute_command("DUMP", "k", NEVER_DECODE=True)
            ms = redis.time()[0] * 1000 + 7_000 if absolute else 7_000
            options = ["ABSTTL"] if absolute else []
            redis.restore("copy", ms, saved, absttl=absolute)
            redis.eval(script, 1, "copy in Lua", ms, saved, *options)
            redis.restore("for ever", 0, saved)
            return redis.pttl("copy"), redis.pttl("copy in Lua"), redis.pttl("for ever")

        report = explore(
            {"a": client}, invariant=lambda r, d, told: told["a"] == (7_000, 7_000, -1)
        )
        assert report.violations == 0, report

    def test_moments_in_the_past_are_past(self):
        """EXPIREAT of a moment that is over on the explorer's clock removes the key at once."""

        def client(redis, db):
            for name, at in (
                ("past", time.time() - 1),
                ("present", time.time()),
                ("future", time.time() + 9),
            ):
                redis.set(name, 1)
                redis.expireat(name, int(at))
            redis.set("gone", 1, exat=int(time.time()) - 1)

        report = explore(
            {"a": client},
            invariant=lambda r, d: (
                r.keys("*[a-z]")
                and not r.exists("past", "present", "gone")
                and r.ttl("future") == 9
            ),
            passes=False,
        )
        assert report.violations == 0

    @pytest.mark.parametrize(
        "command",
        [
            lambda r: r.execute_command("EXPIRE", "k", "0.5"),
            lambda r: r.execute_command("EXPIRE", "k", 60.0),
            lambda r: r.execute_command("SET", "k", 1, "PX", "1e3"),
            lambda r: r.execute_command("SETEX", "k", 1.5, 1),
            lambda r: r.eval("return redis.call('EXPIRE', KEYS[1], 1.5)", 1, "k"),
            lambda r: r.eval("return redis.call('SET', KEYS[1], 1, 'EX', ARGV[1])", 1, "k", "0.5"),
            lambda r: r.eval("return redis.call('SETEX', KEYS[1], 0.5, 1)", 1, "k"),
        ],
    )
    def test_what_the_server_refuses_is_refused(self, command):
        """No fraction of a second becomes valid because time is the explorer's."""

        def client(redis, db):
            redis.set("k", 1)
            with pytest.raises(ResponseError, match=r"not an integer|invalid expire"):
                command(redis)

        report = explore({"a": client}, invariant=lambda r, d: r.ttl("k") == -1)
        assert report.violations == 0, report

    @pytest.mark.parametrize("now", [lambda r: time.time(), lambda r: r.time()[0]])
    def test_who_asks_the_time_twice_sees_it_pass(self, now):
        """A deadline between two looks at the clock is found without being asked for; False is obeyed."""

        def settle(redis, db):
            for job in redis.zrangebyscore("due", 0, now(redis)):
                redis.rpush("failed", job)
            redis.zremrangebyscore("due", 0, now(redis))

        def given(redis, db):
            redis.zadd("due", {"a": time.time() - 5, "b": time.time() + 2})

        def kept(redis, db):
            return redis.zcard("due") + redis.llen("failed") == 2

        report = explore({"a": settle}, given=given, invariant=kept)
        assert report.violations > 0
        assert "asks twice what time it is" in str(report)
        still = explore({"a": settle}, given=given, invariant=kept, passes=False)
        assert still.violations == 0

        def once(redis, db):
            at = now(redis)
            for job in redis.zrangebyscore("due", 0, at):
                redis.rpush("failed", job)
            redis.zremrangebyscore("due", 0, at)

        assert explore({"a": once}, given=given, invariant=kept).notes == ()

    def test_a_streams_ids_go_on(self):
        """An entry with an id of its own, ahead of the clock, is followed by the next of that moment."""

        def client(redis, db):
            redis.xadd("s", {"a": 1}, id=f"{START + 60}000-5")
            return redis.xadd("s", {"a": 2})

        report = explore(
            {"a": client}, invariant=lambda r, d, told: told["a"] == f"{START + 60}000-6"
        )
        assert report.violations == 0


class TestChance:
    def test_every_draw_is_the_same_in_each_run(self, shop):
        """Keys with a random part, however short, have one name; two clients draw differently."""
        seen = set()

        def draw(redis, db):
            redis.ping()
            return tuple(shop.draws())

        def note(redis, db, told):
            seen.add((told["a"], told["b"]))
            return told["a"] != told["b"]

        report = explore({"a": draw, "b": draw}, invariant=note)
        assert report.violations == 0
        drawn = {pair[0][4:] for pair in seen}  # `random.random` is one sequence for all clients
        assert len(drawn) == 1

    def test_a_short_random_key_may_expire(self):
        """A key whose name is drawn anew is the same key in the next run."""

        def short(redis, db):
            key = f"session:{uuid.uuid4().hex[:8]}"
            redis.set(key, 1, ex=60)
            return redis.get(key)

        report = explore({"a": short}, invariant=always, expires="session:*")
        assert (report.interleavings, report.exhausted) == (2, True)

    def test_random_keys_of_several_clients_may_expire(self):
        """Whichever of them is asked for first, a key has the same name in each run."""

        def client(redis, db):
            key = f"pending:{uuid.uuid4().hex}"
            redis.set(key, 1, ex=60)
            redis.rename(key, f"ready:{uuid.uuid4().hex}")
            redis.ping()

        clients = dict.fromkeys(("a", "b"), client)
        report = explore(clients, invariant=always, expires="*", raises=ResponseError, max_runs=500)
        assert report.violations == 0

    def test_outside_it_is_chance(self, shop):
        """After an exploration two draws differ."""
        explore({"a": lambda redis, db: redis.ping()}, invariant=always)
        assert secrets.token_hex(8) != secrets.token_hex(8)
        assert shop.draws() != shop.draws()


class TestClock:
    def test_the_next_moment(self):
        """The nearest of what commands named, of spans since, and of what others know."""
        clock = Clock()
        assert clock.next_moment() is None
        clock.note(f"{START + 50}", b"no moment: 12345", 17)
        clock.note(START - 60)  # a window of a minute that ends now
        clock.span(30)
        assert clock.next_moment() == (START + 30) * 1_000_000
        assert clock.next_moment([(START + 2) * 1_000_000]) == (START + 2) * 1_000_000

    @pytest.mark.parametrize("factor", [1, 1000, 1_000_000])
    def test_seconds_milliseconds_microseconds(self, factor):
        """A moment is known in any of the units that people use."""
        clock = Clock()
        clock.note(str((START + 5) * factor))
        assert clock.next_moment() == (START + 5) * 1_000_000


class Keeps:
    """Code that keeps a clock in each of the places where code keeps things."""

    of_class = staticmethod(time.time)
    __slots__ = ("own", "slot")

    def __init__(self):
        self.slot = time.time
        self.own = {"clock": [time.time]}


KEEPS, PARTIAL, GENERATOR = Keeps(), functools.partial(time.time), random.Random(1)


def by_default(now=time.time, *, also=time.time):
    return min(now(), also())


def enclosing():
    now = time.time
    return lambda: now()


def import_inside():
    from datetime import datetime
    from time import time

    return min(time(), datetime.now().timestamp())


LONG = [None] * 5_000 + [time.time]

CLOCKS = {
    "long list": lambda: LONG[-1](),
    "default": by_default,
    "closure": enclosing(),
    "class": lambda: KEEPS.of_class(),
    "slot": lambda: KEEPS.slot(),
    "containers": lambda: KEEPS.own["clock"][0](),
    "partial": lambda: PARTIAL(),
    "import": import_inside,
    "importlib": lambda: importlib.import_module("time").time(),
    "sys.modules": lambda: sys.modules["time"].time(),
    "clock_gettime": lambda: time.clock_gettime(time.CLOCK_REALTIME),
}


class TestKept:
    @pytest.mark.parametrize("clock", CLOCKS)
    def test_a_clock_that_the_code_keeps(self, clock):
        """It is the explorer's during an exploration, and the machine's before and after."""
        read, seen = CLOCKS[clock], []

        def client(redis, db):
            seen.append(read())
            redis.ping()

        before = read()
        explore({"a": client, "b": lambda r, d: r.ping()}, invariant=lambda r, d: True)
        assert set(seen) == {START}
        assert before <= read() < START
        assert KEEPS.slot is time.time

    def test_a_clock_in_a_tuple_is_refused(self):
        """A tuple cannot be changed, so nothing is explored by the machine's clock."""
        kept = (time.time, "clock")
        with pytest.raises(NotSteppableError, match="'time' in a tuple"):
            explore({"a": lambda r, d: r.set("now", kept[0]())}, invariant=lambda r, d: True)
        kinds = (datetime.datetime, datetime.date)
        assert explore(
            {"a": lambda r, d: r.set("is", int(isinstance(datetime.date.today(), kinds)))},
            invariant=lambda r, d: r.get("is") == "1",
        ).exhausted

    @pytest.mark.parametrize(
        ("kept", "read"),
        [
            (collections.deque([time.time]), lambda kept: kept[0]()),
            (collections.UserDict(now=time.time), lambda kept: kept["now"]()),
            (collections.ChainMap({"now": time.time}), lambda kept: kept["now"]()),
            (types.MappingProxyType({"now": time.time}), lambda kept: kept["now"]()),
        ],
        ids=["deque", "UserDict", "ChainMap", "mappingproxy"],
    )
    def test_a_clock_in_a_container(self, kept, read):
        def client(redis, db):
            redis.set("now", read(kept))

        report = explore({"a": client}, invariant=lambda r, d: float(r.get("now")) == START)
        assert report.violations == 0
        assert read(kept) < START

    def test_a_clock_that_cannot_be_replaced_is_refused(self):
        @functools.cache
        def clock():
            return time.time

        variable = contextvars.ContextVar("variable", default=time.time)
        ticks = iter(time.time, None)
        clock()
        ways = {
            "lru_cache": lambda: clock()(),
            "ContextVar": lambda: variable.get()(),
            "callable_iterator": lambda: next(ticks),
        }
        for kind, read in ways.items():
            with pytest.raises(NotSteppableError, match=f"'time' in a {kind}"):
                explore(
                    {"a": lambda r, d, read=read: r.set("now", read())}, invariant=lambda r, d: True
                )

    def test_a_generator_that_the_code_keeps(self):
        """It draws the same in each run, and a date can be pickled."""
        drawn = []

        def client(redis, db):
            drawn.append((GENERATOR.uniform(0, 1), os.getrandom(4)))
            redis.set("at", pickle.dumps(datetime.datetime.now()).hex())

        explore({"a": client, "b": lambda r, d: r.ping()}, invariant=lambda r, d: True)
        assert len(drawn) > 1
        assert len(set(drawn)) == 1

    def test_a_rerun_draws_what_the_runs_drew(self):
        """The order that is stepped through is the one that was found."""
        drawn = []

        def client(redis, db):
            drawn.append(GENERATOR.random())
            redis.set("lot", int(drawn[-1] < 2))

        report = explore({"a": client, "b": lambda r, d: r.ping()}, invariant=lambda r, d: False)
        report.rerun(report.findings[0].moves)
        report.rerun(report.findings[0].moves)
        assert len(set(drawn)) == 1


bound_at_import = datetime.datetime.now
MADE = collections.defaultdict(datetime.datetime.now)
Base = orm.declarative_base()


class Note(Base):
    __tablename__ = "notes"
    id = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True)
    written = sqlalchemy.Column(sqlalchemy.DateTime, default=datetime.datetime.utcnow)


@dataclasses.dataclass
class Event:
    at: datetime.datetime = dataclasses.field(default_factory=datetime.datetime.now)


class Model(pydantic.BaseModel):
    """Its fields are compiled, with what was given for their defaults."""

    at: datetime.datetime = pydantic.Field(default_factory=datetime.datetime.now)


class TestBoundOnce:
    """`datetime.now` without its brackets asks no name again, and is held all the same."""

    @staticmethod
    def years(function):
        seen = set()

        def client(redis, db):
            year = function()
            redis.set("year", year)
            seen.add(year)

        explore({"a": client}, invariant=lambda redis, db: True)
        return seen

    def test_as_the_default_of_a_dataclass(self):
        assert self.years(lambda: Event().at.year) == {2100}
        assert Event().at.year < 2100

    def test_under_a_name_of_the_module(self):
        assert self.years(lambda: bound_at_import().year) == {2100}
        assert bound_at_import().year < 2100

    def test_as_the_default_of_a_column(self):
        def written():
            engine = sqlalchemy.create_engine("sqlite://")
            Base.metadata.create_all(engine)
            with orm.Session(engine) as session:
                session.add(Note())
                session.flush()
                year = session.scalars(sqlalchemy.select(Note)).one().written.year
            engine.dispose()
            return year

        assert self.years(written) == {2100}

    def test_as_what_a_defaultdict_makes(self):
        assert self.years(lambda: MADE.pop("now", MADE["now"]).year) == {2100}
        assert MADE["now"].year < 2100

    def test_asctime_too(self):
        assert self.years(lambda: time.asctime()[-4:]) == {"2100"}


class TestTheMachinesClock:
    """What nobody can hold is refused as soon as it is sent, and a constant is not."""

    @pytest.mark.parametrize(
        "written",
        [
            lambda moment: moment.isoformat(),
            lambda moment: json.dumps({"at": str(moment)}),
            lambda moment: moment.timestamp(),
            lambda moment: int(moment.timestamp() * 1000),
            lambda moment: f"t{int(moment.timestamp() * 1e6)}",
            lambda moment: str(moment.astimezone(datetime.timezone(datetime.timedelta(hours=9)))),
        ],
        ids=["iso", "json", "seconds", "milliseconds", "microseconds", "another zone"],
    )
    def test_what_it_shows_is_refused(self, written):
        def client(redis, db):
            redis.set("at", written(Model().at))

        with pytest.raises(NotSteppableError, match="the machine's clock"):
            explore({"a": client}, invariant=lambda redis, db: True)

    def test_in_a_coroutine_and_in_a_statement(self):
        async def client(redis, db):
            await redis.set("at", Model().at.isoformat())

        def saves(redis, db):
            db.execute(f"UPDATE users SET username = '{Model().at}' WHERE id = 1")

        for one in (client, saves):
            with pytest.raises(NotSteppableError, match="the machine's clock"):
                explore({"a": one}, invariant=lambda redis, db: True)

    def test_a_constant_is_none(self):
        before, later = time.time(), time.time() + 3600

        def client(redis, db):
            redis.set("at", before)
            redis.set("until", later)
            redis.set("day", str(datetime.datetime.fromtimestamp(before).date()))

        assert explore({"a": client}, invariant=lambda redis, db: True).exhausted

    @pytest.mark.parametrize(
        "asked", ["CURRENT_TIMESTAMP", "datetime('now', '-1 minute')", "unixepoch()", "'a'"]
    )
    def test_the_databases_clock_is_named_where_time_passes(self, asked):
        """What the database says of the time is the machine's, and does not pass."""

        def client(redis, db):
            return len(db.fetch_all(f"SELECT 1 FROM users WHERE username < {asked}"))

        def notes(passes):
            return str(
                explore({"a": client}, invariant=lambda redis, db: True, passes=passes).notes
            )

        assert ("now(), CURRENT_TIMESTAMP" in notes(1)) == (asked != "'a'")
        assert "now(), CURRENT_TIMESTAMP" not in notes(False)


class TestOrder:
    """What a server orders by a seed of its own comes in the same order from each."""

    PAGES = """
    local cursor, pages, found = '0', 0, {}
    repeat
      local page = redis.call('SCAN', cursor, 'MATCH', 's:*', 'COUNT', 5)
      cursor, pages = page[1], pages + 1
      for _, key in ipairs(page[2]) do found[#found + 1] = key end
    until cursor == '0'
    return {pages, found}
    """

    def test_pages_of_scan(self):
        """Each key once, page by page, in scripts too; an error is the server's."""

        def scans(redis, db):
            cursor, pages, found = 0, 0, []
            while pages == 0 or cursor:
                cursor, page = redis.scan(cursor, match="s:*", count=5)
                pages, found = pages + 1, found + page
            with pytest.raises(ResponseError, match="syntax error"):
                redis.execute_command("SCAN", 0, "COUNT", 0)
            assert len(list(redis.scan_iter())) == 23
            assert redis.scan(0, match="count", count=5) == (0, [])  # a pattern is no option
            return [pages, found], redis.eval(self.PAGES, 0)

        def both(redis, db, told):
            one, other = told["ada"]
            return one == other and one[0] == 5 and sorted(one[1]) == sorted(redis.keys())

        explore(
            {"ada": scans},
            given=lambda redis, db: redis.mset({f"s:{n}": n for n in range(23)}),
            invariant=both,
        ).check()

    @pytest.mark.skipif("REDIS_URL" in os.environ, reason="its settings are not the explorer's")
    def test_large_hashes_and_sets(self):
        """They are in the order in which they were filled."""
        names = [f"{letter}{'-' * 99}" for letter in "qwertzuiop"]

        def given(redis, db):
            redis.hset("accounts", mapping=dict.fromkeys(names, "x" * 99))
            redis.sadd("online", *names)

        def reads(redis, db):
            members = redis.eval("return redis.call('SMEMBERS', KEYS[1])", 1, "online")
            return list(redis.hgetall("accounts")), redis.hkeys("accounts"), members

        explore(
            {"ada": reads},
            given=given,
            invariant=lambda redis, db, told: told["ada"] == (names, names, names),
        ).check()


PROCESS = os.getpid()
THREAD = threading.current_thread().name


@pytest.mark.long
def test_a_day_ends_at_the_same_moment_on_every_machine(monkeypatch):
    """Local time is UTC in an exploration, and what it was after it."""

    def visits(redis, db):
        redis.incr(f"visits:{datetime.datetime.now():%d.%m.}")
        redis.expire("visits", 3600)
        redis.incr(f"visits:{datetime.datetime.now():%d.%m.}")

    def one_day(redis, db):
        return len(redis.keys("visits:*")) == 1

    found = set()
    try:
        for zone in ("UTC", "Europe/Berlin", "Asia/Kolkata"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            zones = time.tzname
            report = explore({"ada": visits, "bob": visits}, invariant=one_day, passes=True)
            found.add((report.interleavings, report.violations))
            assert (os.environ["TZ"], time.tzname) == (zone, zones)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert len(found) == 1
    assert min(found)[1] > 0


def test_a_date_is_read_on_a_machine_in_another_zone(monkeypatch):
    """`strptime` sets the zone of the process to what it is, when it is not as it was the last time."""

    def reads(redis, db):
        redis.set("day", str(datetime.datetime.strptime("24.12.2026", "%d.%m.%Y").date()))

    try:
        monkeypatch.setenv("TZ", "Asia/Kolkata")
        time.tzset()
        time.strptime("2026", "%Y")
        explore({"ada": reads}, invariant=lambda r, d: r.get("day") == "2026-12-24").check()
    finally:
        monkeypatch.undo()
        time.tzset()


def test_who_one_is():
    """Each client is a process and a thread; a UUID by the time is by its clock, and no two are alike."""

    def tells(redis, db):
        redis.ping()
        ids = [uuid.uuid1() for _ in range(99)]
        assert len(set(ids)) == 99
        assert (ids[0].time - 0x01B21DD213814000) / 1e7 == time.time()
        assert os.getpid() == PROCESS, "a guard against a fork finds none"
        assert threading.current_thread() is threading.current_thread()
        thread = threading.current_thread()
        assert thread.name == THREAD
        process = multiprocessing.current_process()
        return thread.ident, threading.get_native_id(), f"{os.getpid()}", f"{process.pid}", ids[0]

    def all_differ(redis, db, told):
        assert told == first.setdefault("told", told)  # the same in each run
        return all(one != other for one, other in zip(told["ada"], told["bob"], strict=True))

    first: dict[str, object] = {}
    report = explore({"ada": tells, "bob": tells}, invariant=all_differ)
    report.check()
    assert "ada asks os.getpid(): each client is a process of its own" in str(report)


@pytest.mark.parametrize("own", [False, True], ids=["handed out", "of its own"])
def test_the_number_of_a_process_is_sent_as_a_number(own):
    """And what is kept by the process's own number is found by it."""
    pools = {os.getpid(): "a pool"}

    def signs(redis, db):
        assert pools[os.getpid()]
        assert pickle.loads(pickle.dumps(os.getpid())) == os.getpid()
        if own:
            redis = redis_py.Redis(decode_responses=True)
        redis.hset("owner", mapping={"pid": os.getpid()})
        return int(redis.hget("owner", "pid")) == os.getpid()

    explore({"ada": signs}, invariant=lambda redis, db, told: told["ada"]).check()


def test_clients_that_are_threads_of_one_process():
    """So it is in the check of an exercise: a token that is made of the process's number is no token."""

    def tells(redis, db):
        redis.ping()
        return f"{os.getpid()}", threading.current_thread().name

    with one_process():
        explore(
            {"ada": tells, "bob": tells},
            invariant=lambda redis, db, told: told["ada"] == told["bob"] == (str(PROCESS), THREAD),
        ).check()


@pytest.mark.parametrize("clock", [time.gmtime, time.localtime, time.ctime], ids=str)
def test_now_is_also_what_is_asked_for_by_none(clock):
    def tells(redis, db):
        redis.ping()
        return clock(None) == clock()

    explore({"ada": tells}, invariant=lambda redis, db, told: told["ada"]).check()


RANDOM, SYSTEM = random.Random(1), random.SystemRandom()


def percent():
    return uniform(0, 100)


def one_of_many():
    rolls = {"first": uniform(0, 1000)}
    return rolls["first"] / 10


class Roll:
    def __init__(self):
        self.rolled = uniform(0, 1000)

    def seldom(self):
        return self.rolled < 1


NUMPYS, OLDER = numpy.random.default_rng(1), numpy.random.RandomState(1)
DRAWS = {
    "randint": lambda: random.randint(0, 99),
    "randbelow": lambda: secrets.randbelow(1000),
    "choice": lambda: secrets.choice("abcdef"),
    "choices": lambda: "".join(random.choices("0123456789", k=4)),
    "sample": lambda: "".join(random.sample("abcdef", 2)),
    "getrandbits": lambda: random.getrandbits(16),
    "token_hex": lambda: secrets.token_hex(2),
    "urandom": lambda: os.urandom(1).hex(),
    "six digits": lambda: random.randint(100_000, 999_999),
    "a generator": lambda: RANDOM.randint(0, 99),
    "choices of a generator": lambda: "".join(RANDOM.choices("0123456789", k=4)),
    "the system's generator": lambda: SYSTEM.randint(0, 99),
    "choices of the system's": lambda: "".join(SYSTEM.choices("0123456789", k=4)),
    "a generator of its own": lambda: random.Random().randint(0, 99),
}
TOKENS = {
    "uuid4": uuid.uuid4,
    "uuid1": uuid.uuid1,
    "token_hex": lambda: secrets.token_hex(8),
    "getrandbits": lambda: random.getrandbits(64),
    "choices": lambda: "".join(random.choices("0123456789", k=16)),
    "one by one": lambda: "".join(secrets.choice("0123456789abcdef") for _ in range(16)),
    "random": random.random,
    "a generator": lambda: RANDOM.getrandbits(64),
    "the system's generator": lambda: SYSTEM.randbytes(8).hex(),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_two_clients_draw_the_same_code(draw):
    """Of few values each is drawn by both some time; who looks whether it is taken draws another."""

    def takes(redis, db):
        redis.set(f"code:{draw()}", 1)

    def takes_what_is_free(redis, db):
        while not redis.set(f"code:{draw()}", 1, nx=True):
            pass

    def both_have_one(redis, db):
        return len(redis.keys("code:*")) == 2

    report = explore({"ada": takes, "bob": takes}, invariant=both_have_one)
    assert report.verdict.status == "broken"
    report = explore(
        {"ada": takes_what_is_free, "bob": takes_what_is_free}, invariant=both_have_one
    )
    report.check()
    assert "Clients draw one of a few" in str(report)


def test_tasks_draw_the_same_code():
    """Also those that draw before their first step."""

    async def takes(redis):
        return await redis.set(f"code:{random.randint(0, 99)}", 1, nx=True)

    async def both_take(redis, db):
        return await asyncio.gather(takes(redis), takes(redis))

    report = explore({"ada": both_take}, invariant=lambda r, d, told: all(told["ada"]))
    assert report.verdict.status == "broken"


def test_a_seed_of_the_module_s_generator():
    """Then each client draws what Python gives a process that does so, and two of them the same."""

    def drawn(random):
        numbers = list(range(9))
        random.shuffle(numbers)
        some = random.random(), random.randint(0, 9), random.choices("abc", k=3), random.gauss(0, 1)
        return numbers, some, random.getrandbits(64), random.gauss(0, 1)

    def draws(redis, db):
        random.seed("ada")
        redis.incr("n")
        return drawn(random)

    def by_chance(redis, db):
        random.seed(1)
        random.seed()
        return redis.echo(random.getrandbits(64))

    same = drawn(random.Random("ada"))
    clients = {"ada": draws, "bob": draws}
    report = explore(
        clients, invariant=lambda r, d, told: set(map(str, told.values())) == {str(same)}
    )
    report.check()
    assert "ada calls random.seed()" in report.notes[0]
    clients = {"ada": by_chance, "bob": by_chance}
    explore(clients, invariant=lambda r, d, told: len(set(told.values())) == 2).check()


def test_a_state_says_what_is_drawn():
    state = random.Random("ada").getstate()

    def draws(redis, db):
        random.setstate(state)
        redis.incr("n")
        return random.randint(0, 99), random.getrandbits(64)

    def same(redis, db, told):
        drawn = random.Random("ada")
        return {*told.values()} == {(drawn.randint(0, 99), drawn.getrandbits(64))}

    explore({"ada": draws, "bob": draws}, invariant=same).check()


def test_a_seed_says_what_is_drawn():
    def shard(redis, db):
        RANDOM.seed("ada")
        mine = RANDOM.randint(0, 99), random.Random("ada").randint(0, 99)
        return redis.echo(mine[0]), mine

    def same(redis, db, told):
        drawn = random.Random("ada").randint(0, 99)
        return all(one == (str(drawn), (drawn, drawn)) for one in told.values())

    explore({"ada": shard, "bob": shard}, invariant=same).check()


@pytest.mark.parametrize(
    "draw",
    [
        lambda: numpy.random.default_rng().integers(10**6),
        lambda: NUMPYS.integers(10**6),
        lambda: OLDER.randint(10**6),
        lambda: numpy.random.randint(10**6),
    ],
)
def test_one_draw_of_numpys_is_tried(draw):
    """It is the same in each run, and the report says so."""
    drawn = []

    def takes(redis, db):
        drawn.append(draw())
        redis.incr(f"code:{drawn[-1]}")

    for _ in range(2):
        report = explore({"ada": takes, "bob": takes}, invariant=lambda redis, db: True)
        assert report.notes == (
            "Of very many values that are drawn (by numpy, by gauss() and its like, or as a token that "
            "code goes by) one was tried.",
        )
    assert len(drawn) > 8
    assert len(set(drawn)) == 2


@pytest.mark.parametrize("draw", TOKENS.values(), ids=TOKENS)
def test_no_two_clients_draw_the_same_token(draw):
    clients = dict.fromkeys(["ada", "bob"], lambda redis, db: redis.set(f"token:{draw()}", 1))
    explore(clients, invariant=lambda redis, db: len(redis.keys("token:*")) == 2).check()


class Job:
    def __init__(self, name):
        self.name = name


class Jobs:
    """Their order is that of their addresses."""

    def __init__(self):
        self.todo = {Job(name) for name in "abc"}


@pytest.fixture(params=["as usual", "in haste"])
def collector(request):
    """Python's collector, which takes an object for old after many others were made, or soon."""
    usual = gc.get_threshold()
    gc.set_threshold(*((1, 1, 1) if request.param == "in haste" else usual))
    yield
    gc.set_threshold(*usual)


@pytest.mark.usefixtures("collector")
def test_no_order_of_addresses():
    """A set of plain objects has another order in each process; what is sorted, or counted, has none."""

    def in_turn(redis, db):
        todo = {Job(name) for name in "abc"}
        for one in todo:
            redis.rpush("log", one.name)

    def as_a_list(redis, db):
        jobs = Jobs()
        for at, one in enumerate(list(jobs.todo)):
            redis.rpush("log", f"{at} {one.name}")

    def until_there_are_none(redis, db):
        jobs = Jobs()
        while jobs.todo:
            redis.rpush("log", jobs.todo.pop().name)

    def by_name(redis, db):
        jobs = Jobs()
        for one in sorted(jobs.todo, key=lambda one: one.name):
            redis.rpush("log", one.name)
        for one in jobs.todo:
            one.done = True
        redis.set("done", sum(one.done for one in jobs.todo))

    def without_a_name(redis, db):
        for at, one in enumerate({Job(name) for name in "abc"}):
            redis.rpush("log", f"{at} {one.name}")

    def from_a_generator(redis, db):
        for name in (one.name for one in Jobs().todo):
            redis.rpush("log", name)

    waiting = [Job(name) for name in "abc"]
    weak = weakref.WeakSet(waiting)

    def of_weak_ones(redis, db):
        for one in weak:
            redis.rpush("log", one.name)

    named = (in_turn, as_a_list, until_there_are_none, of_weak_ones)
    for client in (*named, without_a_name, from_a_generator):
        with pytest.raises(NotSteppableError, match="a set of objects in the order of"):
            explore({"ada": client}, invariant=lambda redis, db: True)
    for _ in {Job("a"), Job("b")}:  # of somebody who explores
        explore({"ada": by_name}, invariant=lambda redis, db: redis.get("done") == "3").check()
