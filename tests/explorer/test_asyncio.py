"""Coroutine functions are clients like others: each command is a step, and no time is the machine's."""

import asyncio
import contextlib
import gc
import os
import time
import types

import pytest
import redis as redis_py
import redis.asyncio as aredis
import sqlalchemy as sa
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as LostReply

from labsupport import explore
from labsupport.errors import (
    ImplementationError,
    InvalidSettingError,
    NotDeterministicError,
    NotSteppableError,
)
from labsupport.explorer.own import event_loop

MODULE = aredis.Redis.from_url("redis://cache.example:6379/0", decode_responses=True)
SYNC = redis_py.Redis("cache.example", decode_responses=True)
SCRIPT = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


def always(redis, db):
    return True


def two(redis, db):
    return redis.get("n") == "2"


def count(redis, db):
    redis.set("n", int(redis.get("n") or 0) + 1)


async def acount(redis, db):
    await redis.set("n", int(await redis.get("n") or 0) + 1)


def program(redis, db):
    with redis.pipeline() as pipe:
        pipe.incr("n").expire("n", 60)
        pipe.execute()
    with redis.pipeline(transaction=False) as pipe:
        pipe.get("n").ttl("n")
        pipe.execute()
    redis.register_script(SCRIPT)(keys=["n"], args=[5])


async def aprogram(redis, db):
    async with redis.pipeline() as pipe:
        pipe.incr("n").expire("n", 60)
        await pipe.execute()
    async with redis.pipeline(transaction=False) as pipe:
        pipe.get("n").ttl("n")
        await pipe.execute()
    await redis.register_script(SCRIPT)(keys=["n"], args=[5])


def watches(redis, db):
    def add(pipe):
        value = int(pipe.get("n") or 0)
        pipe.multi()
        pipe.set("n", value + 1)

    redis.transaction(add, "n")


async def awatches(redis, db):
    async def add(pipe):
        value = int(await pipe.get("n") or 0)
        pipe.multi()
        pipe.set("n", value + 1)

    await redis.transaction(add, "n")


def locks(redis, db):
    with redis.lock("l", timeout=10, blocking_timeout=5):
        count(redis, db)


async def alocks(redis, db):
    async with redis.lock("l", timeout=10, blocking_timeout=5):
        await acount(redis, db)


def waits_long(redis, db):
    redis.set("l", "somebody's")
    return redis.lock("l", blocking_timeout=7200, sleep=0.5).acquire()


async def awaits_long(redis, db):
    await redis.set("l", "somebody's")
    return await redis.lock("l", blocking_timeout=7200, sleep=0.5).acquire()


def passes_on(redis, db):
    redis.rpush("q", 1)
    return redis.blpop("p", timeout=5)


async def apasses_on(redis, db):
    await redis.rpush("q", 1)
    return await redis.blpop("p", timeout=5)


PAIRS = {
    "race": (count, acount, {}),
    "crashes": (count, acount, {"crashes": True}),
    "lost replies": (count, acount, {"loses": True}),
    "all moves": (count, acount, {"loses": True, "crashes": True, "passes": True}),
    "pipelines and scripts": (program, aprogram, {"max_runs": 300}),
    "WATCH": (watches, awatches, {}),
    "WATCH, crashes": (watches, awatches, {"crashes": "a"}),
    "redis-py's lock": (locks, alocks, {"stop": "first", "max_runs": 200}),
    "a lock that is never free": (waits_long, awaits_long, {}),
    "blocking": (passes_on, apasses_on, {}),
    "blocking, lost": (passes_on, apasses_on, {"loses": "a", "crashes": "b"}),
}


class TestAsItsSynchronousForm:
    @pytest.mark.long
    @pytest.mark.parametrize(("plain", "awaited", "options"), PAIRS.values(), ids=PAIRS)
    def test_the_same_orders_and_the_same_counts(self, plain, awaited, options):
        """Written with async and await, a race has as many orders, and the same shortest schedule."""
        usual = explore({"a": plain, "b": plain}, invariant=two, **options)
        found = explore({"a": awaited, "b": awaited}, invariant=two, **options)
        mixed = explore({"a": awaited, "b": plain}, invariant=two, **options)
        assert found.interleavings == usual.interleavings == mixed.interleavings
        assert found.violations == usual.violations == mixed.violations
        assert found.schedule == usual.schedule

    def test_a_client_of_its_own(self):
        """redis.asyncio.Redis(…), from a URL, from a pool: each of its commands is a step."""
        pool = aredis.ConnectionPool(host="cache.example")
        makers = [
            lambda: MODULE,
            lambda: aredis.Redis(host="cache.example"),
            lambda: aredis.Redis(connection_pool=pool),
            lambda: aredis.Redis.from_pool(aredis.BlockingConnectionPool(host="cache.example")),
            lambda: aredis.Redis(host="cache.example", single_connection_client=True),
            lambda: aredis.Redis(host="cache.example", protocol=3),
        ]
        for make in makers:

            async def own(redis, db, make=make):
                client = make()
                await acount(client, db)
                if client is not MODULE:
                    await client.aclose()

            report = explore({"a": own, "b": own}, invariant=two)
            assert (report.interleavings, report.violations) == (6, 4)

    def test_its_own_retry_settings(self):
        """What it does about a lost reply is what the client's own settings say."""

        async def client(redis, db):
            own = aredis.Redis(host="cache.example", retry=Retry(NoBackoff(), 1))
            await own.incr("n")
            own.set_retry(Retry(NoBackoff(), 0))
            with contextlib.suppress(LostReply):
                await own.incr("n")

        report = explore({"a": client}, invariant=two, loses=True)
        assert (report.interleavings, report.violations) == (3, 1)

    def test_functions_that_return_a_coroutine(self):
        """A lambda around one, and given and the invariant as coroutine functions."""

        async def given(redis, db):
            await redis.set("n", 1)
            await MODULE.incrby("n", -1)
            await asyncio.sleep(3)

        async def kept(redis, db, told):
            return told == {"a": 1, "b": 2} and await redis.get("n") == "2"

        report = explore(
            {"a": lambda r, d: adder(r), "b": lambda r, d: adder(r)}, given=given, invariant=kept
        )
        assert (report.interleavings, report.violations) == (2, 1)

    def test_inside_a_running_loop(self):
        """A notebook's kernel and an asynchronous test have a loop that runs; it is left alone."""

        async def test():
            report = explore({"a": acount, "b": acount}, invariant=two)
            await asyncio.sleep(0)
            return report, asyncio.get_running_loop()

        report, _ = asyncio.run(test())
        assert (report.interleavings, report.violations) == (6, 4)


async def adder(redis):
    return await redis.incr("n")


class TestTasks:
    def test_tasks_of_one_client_interleave(self):
        """gather and TaskGroup: the lost update is found between two tasks of one client."""

        async def gathers(redis, db):
            await asyncio.gather(acount(redis, db), acount(MODULE, db))

        async def groups(redis, db):
            async with asyncio.TaskGroup() as group:
                group.create_task(acount(redis, db))
                group.create_task(acount(redis, db))

        for client in (gathers, groups):
            report = explore({"a": client}, invariant=two)
            assert (report.interleavings, report.violations) == (6, 4)
            assert "GET n (task 2)" in report.schedule

    def test_tasks_that_only_some_runs_begin(self):
        """What a module remembers decides it: told as what it is, whatever task is missing."""
        begun = []

        async def ada(redis, db):
            await redis.incr("n")
            if len(begun) < 3:
                begun.append(1)
                await asyncio.gather(adder(redis), adder(redis))

        async def bob(redis, db):
            await redis.incr("n")
            await redis.incr("n")

        with pytest.raises(NotDeterministicError, match="Reset in `given`"):
            explore({"ada": ada, "bob": bob}, invariant=two, delays=False)

    def test_locks_of_asyncio(self):
        """asyncio.Lock and Event order the tasks of one client."""

        async def locked(redis, db):
            lock = asyncio.Lock()

            async def one():
                async with lock:
                    await acount(redis, db)

            await asyncio.gather(one(), one())

        async def told(redis, db):
            event = asyncio.Event()

            async def first():
                await acount(redis, db)
                event.set()

            async def second():
                await event.wait()
                await acount(redis, db)

            await asyncio.gather(second(), first())

        for client in (locked, told):
            report = explore({"a": client}, invariant=two)
            assert (report.interleavings, report.violations) == (1, 0)

    def test_with_another_client(self):
        """Two tasks and a client give as many orders as three clients."""

        async def both(redis, db):
            await asyncio.gather(acount(redis, db), acount(redis, db))

        report = explore({"a": both, "b": count}, invariant=lambda r, d: r.get("n") == "3")
        three = explore(
            {"a": count, "b": count, "c": count}, invariant=lambda r, d: r.get("n") == "3"
        )
        assert (report.interleavings, report.violations) == (
            three.interleavings,
            three.violations,
        )

    @pytest.mark.parametrize("moves", [{"crashes": True}, {"prune": True}])
    def test_a_crash_before_a_step_that_nobody_awaits(self, moves):
        """A statement in `try` crashes, and what `finally` awaits is not reached, in no client."""

        async def client(redis, db):
            try:
                db.fetch_one("SELECT 1 AS one")
            finally:
                await redis.set("cleaned", 1)

        two = {"a": client, "b": client}
        report = explore(two, invariant=lambda redis, db: True, **moves)
        assert report.exhausted
        alone = explore({"a": client}, invariant=lambda r, d: r.exists("cleaned"), crashes=True)
        assert (alone.interleavings, alone.violations) == (3, 2)

    def test_a_crash_ends_all_of_them(self):
        """No task of a client that crashed takes another step, and no `finally` reaches the server."""

        async def one(redis, key):
            try:
                await redis.set(key, 1)
            finally:
                await redis.set("cleaned", 1)

        async def client(redis, db):
            await asyncio.gather(one(redis, "x"), one(redis, "y"))
            await redis.delete("cleaned")

        report = explore(
            {"a": client}, invariant=lambda r, d: not r.exists("cleaned"), crashes=True
        )
        kinds = [step.move for step in report.counterexample]
        assert kinds[-1] == "crash"
        assert report.exhausted

    def test_tasks_that_are_left(self):
        """What still runs when the function returns is cancelled; its `finally` is stepped."""

        async def renews(redis):
            try:
                await asyncio.Event().wait()
            finally:
                await redis.incr("cancelled")

        async def client(redis, db):
            kept.append(asyncio.create_task(renews(redis)))
            await redis.set("a", 1)

        kept = []
        report = explore({"a": client}, invariant=lambda r, d: r.get("cancelled") == "1")
        assert (report.violations, report.exhausted) == (0, True)

    def test_an_error_that_nobody_asks_for(self):
        """It is the client's: asyncio would only write a line into the log."""

        async def fails(redis):
            if await redis.get("n") == "1":
                raise ValueError("lost")

        async def client(redis, db):
            task = asyncio.create_task(fails(redis))
            await asyncio.wait([task])

        report = explore({"a": client, "b": lambda r, d: r.set("n", 1)}, invariant=always)
        assert report.findings[0].kind == "raised"
        assert "ValueError: lost" in report.findings[0].reason

    def test_a_deadlock_among_tasks(self):
        """Two tasks that wait for each other are found, and so is an event that never comes."""

        async def client(redis, db):
            await redis.ping()
            await asyncio.Event().wait()

        report = explore({"a": client}, invariant=always)
        assert report.findings[0].kind == "stuck"
        assert "a waits for what none of its tasks does" in report.findings[0].reason

    def test_pruning_keeps_the_orders_of_tasks(self):
        """Tasks share the memory of their client: none of their orders is left out."""

        async def client(redis, db):
            seen = []

            async def one(key):
                await redis.get(key)
                seen.append(key)

            await asyncio.gather(one("x"), one("y"))
            await redis.set("first", seen[0])

        invariant = lambda r, d: r.get("first") == "x"  # noqa: E731
        assert explore({"a": client}, invariant=invariant, prune=True).violations == 1


class TestTime:
    def test_sleeps_take_no_time(self):
        """An hour's sleep, wait_for, timeout and a backoff end at once, on the client's own clock."""

        async def client(redis, db):
            loop = asyncio.get_running_loop()
            begin, began = loop.time(), time.time()
            await asyncio.sleep(3600)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(60):
                    await asyncio.sleep(3600)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 60)
            await redis.ping()
            return round(loop.time() - begin, 3), round(time.time() - began, 3)

        begin = time.monotonic()
        report = explore(
            {"a": client},
            invariant=lambda r, d, told: told["a"] == (3720.0, 3720.0),
            passes=False,
        )
        assert report.violations == 0
        assert time.monotonic() - begin < 60

    def test_a_timeout_does_not_end_what_answers_at_once(self):
        """Commands take no time: a timeout around them ends nothing, whatever another task sleeps."""

        async def client(redis, db):
            async def limited():
                async with asyncio.timeout(1):
                    for _ in range(3):
                        await redis.incr("n")

            await asyncio.gather(limited(), asyncio.sleep(10))

        report = explore({"a": client}, invariant=lambda r, d: r.get("n") == "3")
        assert (report.interleavings, report.violations) == (1, 0)

    def test_a_timeout_ends_a_blocking_command(self):
        """When nobody pushes, and only then."""

        async def takes(redis, db):
            try:
                return await asyncio.wait_for(redis.blpop("q"), 5)
            except TimeoutError:
                await redis.set("late", 1)

        alone = explore({"a": takes}, invariant=lambda r, d: r.get("late") == "1")
        served = explore(
            {"a": takes, "b": lambda r, d: r.rpush("q", "x")},
            invariant=lambda r, d: not r.exists("late"),
        )
        assert (alone.violations, served.violations) == (0, 0)
        assert (alone.exhausted, served.exhausted) == (True, True)

    def test_time_passes(self):
        """With `passes` a sleep lasts until time has passed, and a lock may end meanwhile."""

        async def holds(redis, db):
            await redis.set("l", 1, ex=10, nx=True)
            await asyncio.sleep(20)
            return await redis.get("l")

        report = explore({"a": holds}, invariant=lambda r, d, told: told["a"] is None, passes=True)
        assert report.violations == 0
        assert report.exhausted


class TestRefused:
    @pytest.mark.parametrize(
        ("use", "told"),
        [
            (lambda: asyncio.to_thread(print), "starts a thread"),
            (lambda: asyncio.open_connection("127.0.0.1", 9), "opens a connection"),
            (lambda: asyncio.open_unix_connection("/nowhere"), "opens a connection"),
            (lambda: asyncio.create_subprocess_exec("true"), "starts a process"),
            (lambda: asyncio.start_server(None, "127.0.0.1", 0), "opens a server"),
            (lambda: MODULE.pubsub().subscribe("c"), "SUBSCRIBE waits for messages"),
            (lambda: MODULE.flushall(), "FLUSHALL reaches beyond"),
        ],
        ids=["thread", "connection", "unix", "process", "server", "Pub/Sub", "FLUSHALL"],
    )
    def test_by_name(self, use, told):
        """What leaves the loop is refused at its first use, also when the code swallows the error."""

        async def client(redis, db):
            await redis.ping()
            with contextlib.suppress(Exception):
                await use()
            await redis.ping()

        with pytest.raises(NotSteppableError, match=told):
            explore({"a": client}, invariant=always)

    def test_a_loop_in_a_plain_function(self):
        """asyncio.run in a synchronous client has the machine's clock: the coroutine is the client."""

        def client(redis, db):
            redis.ping()
            asyncio.run(acount(MODULE, db))

        with pytest.raises(NotSteppableError, match=r"asyncio\.run"):
            explore({"a": client}, invariant=always)

    def test_loops_of_plain_functions(self):
        """One runs while others stand still in theirs: each client has a thread of its own."""

        def client(redis, db):
            async def adds():
                n = int(redis.get("n") or 0)
                await asyncio.sleep(1)
                redis.set("n", n + 1)

            asyncio.run(adds())

        report = explore({"a": client, "b": client}, invariant=lambda r, d: r.get("n") == "2")
        assert (report.interleavings, report.violations) == (6, 4)

    def test_an_object_that_two_clients_share(self):
        """Each client has a loop of its own: an event of one cannot wake a task of another."""
        event = asyncio.Event()

        async def waits(redis, db):
            await redis.ping()
            await event.wait()

        async def wakes(redis, db):
            await redis.ping()
            await redis.ping()
            event.set()

        with pytest.raises(NotSteppableError, match="share an asyncio object"):
            explore({"a": waits, "b": wakes}, given=lambda r, d: event.clear(), invariant=always)

    @pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_a_command_that_nobody_awaits(self):
        """It never reaches the server, and the client took no step."""

        async def client(redis, db):
            redis.incr("n")

        with pytest.raises(NotSteppableError, match="await each command"):
            explore({"a": client}, invariant=always)

    def test_a_task_that_nobody_awaits(self):
        """It is cancelled when its client ends; what it would have done is no part of a proof."""
        running = set()

        async def forgets(redis, db):
            task = asyncio.create_task(redis.incr("n"))
            running.add(task)
            task.add_done_callback(running.discard)

        async def forgets_later(redis, db):
            await redis.incr("n")
            await forgets(redis, db)

        for clients in ({"a": forgets}, {"a": forgets, "b": forgets}):
            with pytest.raises(NotSteppableError, match="its tasks were cancelled"):
                explore(clients, invariant=always)
        report = explore({"a": forgets_later, "b": acount}, invariant=always)
        assert "When a ended, a task of its own" in report.notes[0]

        async def renews(redis, db):
            task = asyncio.create_task(asyncio.sleep(60))
            await redis.incr("n")
            task.cancel()

        assert explore({"a": renews}, invariant=always).notes == ()

    def test_given_that_never_ends(self):
        """Nobody else is there who could wake it."""

        async def given(redis, db):
            await asyncio.Event().wait()

        with pytest.raises(Exception, match="waits for something that never comes") as caught:
            explore({"a": acount}, given=given, invariant=always)
        assert isinstance(caught.value.__cause__, InvalidSettingError)


def test_an_error_in_the_first_order():
    """It is a mistake in the function, and no finding, as it is in a plain one."""

    async def client(redis, db):
        await redis.ping()
        raise KeyError("here")

    with pytest.raises(ImplementationError, match="The client 'a' raised KeyError"):
        explore({"a": client}, invariant=always)


def test_statements_inside(tmp_path):
    """The db that is handed out, and an engine of one's own, are stepped in a coroutine, too."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t(n)"))

    async def client(redis, db):
        name = db.fetch_one("SELECT username FROM users WHERE id = 1")["username"]
        await redis.ping()
        db.execute("UPDATE users SET username = :name WHERE id = 1", name=f"{name}+")
        with engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO t VALUES (1)"))

    def given(redis, db):
        with engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM t"))

    def both(redis, db):
        with engine.connect() as connection:
            rows = connection.execute(sa.text("SELECT count(*) FROM t")).scalar()
        return rows == 2 and db.fetch_one("SELECT username FROM users WHERE id = 1")[
            "username"
        ].endswith("++")

    report = explore({"a": client, "b": client}, given=given, invariant=both, stop="first")
    assert report.findings[0].kind == "broken"
    assert "UPDATE users" in report.schedule
    engine.dispose()


def test_a_synchronous_client_inside():
    """It stops the loop, as it does in production, and each of its commands is a step."""

    async def mixed(redis, db):
        SYNC.set("n", int(await redis.get("n") or 0) + 1)

    report = explore({"a": mixed, "b": mixed}, invariant=two)
    assert (report.interleavings, report.violations) == (6, 4)


@pytest.mark.long
def test_a_crash_in_a_context_manager_leaves_nothing_to_the_collector(monkeypatch):
    """Its `finally` awaits a reply that never comes: that would end, and fail, when it is collected."""

    @contextlib.asynccontextmanager
    async def lock(redis):
        take = redis.register_script("return redis.call('SET', KEYS[1], 'mine', 'NX', 'EX', 10)")
        free = redis.register_script("return redis.call('DEL', KEYS[1])")
        try:
            while not await take(["lock"]):
                await asyncio.sleep(0.01)
            yield
        finally:
            await free(["lock"])

    async def worker(redis, db):
        async with lock(redis):
            await redis.incr("worked")

    left, abandon = [], event_loop.ClientLoop.abandon

    def look(loop):
        abandon(loop)
        there = [one for one in gc.get_objects() if isinstance(one, types.CoroutineType)]
        left.extend(one.__qualname__ for one in there if one.cr_frame is not None)

    monkeypatch.setattr(event_loop.ClientLoop, "abandon", look)
    clients = {"ada": worker, "bob": acount}
    assert explore(clients, invariant=always, crashes=["ada"], expires="lock", prune=True).exhausted
    assert "AsyncScript.__call__" not in left


@pytest.mark.parametrize("nap", [0, pytest.param(0.1, marks=pytest.mark.long)])
def test_a_task_that_polls_for_what_another_leaves_in_memory(nap):
    """The other takes its step; only where nobody ever will, that is a wait without end."""

    async def polls(redis, db):
        found = []

        async def reads():
            found.append(await redis.get("x"))

        async def waits():
            while not found:
                await asyncio.sleep(nap)
            await redis.set("y", 1)

        await asyncio.gather(waits(), reads())

    report = explore(
        {"ada": polls, "bob": polls}, invariant=lambda redis, db: redis.get("y") == "1"
    )
    report.check()
    assert report.interleavings == 6


@pytest.mark.parametrize("nap", [0, 0.01])
def test_a_task_that_waits_for_redis_lets_a_long_loop_beside_it_end(nap):
    """It cannot move, so that nobody is stuck, and nothing times out."""

    async def hands_over(redis, db):
        async def sends():
            for _ in range(350):
                await asyncio.sleep(nap)
            await redis.rpush("q", 1)

        await asyncio.gather(redis.blpop("q", 30), sends())

    report = explore({"ada": hands_over}, invariant=lambda redis, db: redis.llen("q") == 0)
    report.check()
    assert report.interleavings == 2  # the job may be there before it is waited for


@pytest.mark.skipif("REDIS_URL" in os.environ, reason="others' changes are counted there, too")
def test_a_task_that_renews_a_lock_has_too_many_orders():
    """The report says what to do about it; not where a client only waits for a lock."""

    def explored(renews):
        async def works(redis, db):
            lock = redis.lock("lock", timeout=30)

            async def renew():
                while True:
                    await asyncio.sleep(10)
                    await lock.reacquire()

            async with lock:
                task = asyncio.create_task(renew() if renews else asyncio.sleep(0))
                await acount(redis, db)
                task.cancel()

        return explore({"a": works, "b": works}, invariant=always, max_runs=12)

    assert "may go round its loop" in explored(True).given_up
    assert "explore fewer clients" in explored(False).given_up


def test_a_set_of_tasks_has_the_same_order_in_each_run():
    """`asyncio.wait` gives sets: Python orders them by where the tasks are in memory."""

    async def asks(redis, db):
        tasks = [asyncio.create_task(redis.get(name)) for name in ("east", "west", "north")]
        done, _ = await asyncio.wait(tasks)
        for task in done:
            await redis.rpush("told", str(task.result()))

    def in_order(redis, db):
        return redis.lrange("told", 0, -1) == ["1", "2", "3"]

    explore(
        {"ada": asks, "bob": lambda redis, db: redis.get("x")},
        given=lambda redis, db: redis.mset({"east": 1, "west": 2, "north": 3}),
        invariant=in_order,
    ).check()


def test_tasks_end_with_a_client_that_fails(capfd):
    """As `asyncio.run` ends them, when the client has failed; and nobody hears of them later."""
    ended = []

    async def bad():
        await MODULE.get("n")
        raise ValueError

    async def good():
        try:
            await MODULE.incr("n")
            await MODULE.incr("n")
        finally:
            ended.append("good")

    async def both(redis, db):
        await asyncio.gather(good(), bad())

    explore(
        {"ada": both},
        given=lambda redis, db: ended.clear(),
        invariant=lambda redis, db: ended == ["good"],
        raises=ValueError,
    ).check()
    gc.collect()
    assert capfd.readouterr().err == ""


def test_generators_end_with_a_client_that_crashes(capfd):
    """One that nobody holds any longer is closed in a task: that ends with the client, and tells nobody."""

    async def pages(redis):
        try:
            yield
        finally:
            await redis.delete("page")

    async def reads(redis, db):
        one = pages(redis)
        await anext(one)
        del one
        await redis.get("one")
        await redis.get("two")

    clients = {"ada": reads, "bob": reads}
    explore(clients, invariant=lambda redis, db: True, crashes=["ada"]).check()
    gc.collect()
    assert capfd.readouterr().err == ""
