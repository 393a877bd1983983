"""Whatever code may do to escape the explorer is stepped or refused; nothing of a run outlives it."""

import asyncio
import builtins
import contextlib
import cProfile
import fcntl
import functools
import gc
import hashlib
import inspect
import io
import multiprocessing
import os
import pdb
import queue
import sched
import select
import selectors
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import types
import weakref
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from pathlib import Path
from signal import alarm as early_alarm

import psycopg
import pytest
import redis as redis_py
import redis.asyncio as aredis
import sqlalchemy as sa
from greenlet import greenlet
from redis.cluster import ClusterNode
from redis.sentinel import Sentinel
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    scoped_session,
    sessionmaker,
)

from labsupport import explore
from labsupport.database import open_shop
from labsupport.errors import LabError, NotSteppableError
from labsupport.explorer.clock import START
from labsupport.explorer.guards import patience


def always(redis, db):
    return True


def count(redis, db):
    redis.incr("n")


def thread(redis, db):
    redis.ping()
    threading.Thread(target=lambda: None).start()


def pool_of_threads(redis, db):
    redis.ping()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: None)


def timer(redis, db):
    redis.ping()
    threading.Timer(10, lambda: None).start()


def process(redis, db):
    redis.ping()
    subprocess.run([sys.executable, "-c", ""])


def fork(redis, db):
    redis.ping()
    os.fork()


def connection(redis, db):
    redis.ping()
    with socket.socket() as wire:
        wire.connect(("127.0.0.1", 9))


def sqlite(redis, db):
    redis.ping()
    sqlite3.connect(":memory:")


def leaves(redis, db):
    redis.ping()
    sys.exit()


def leaves_at_once(redis, db):
    redis.ping()
    os._exit(3)


def kills(redis, db):
    redis.ping()
    os.kill(os.getpid(), signal.SIGTERM)


def polls(redis, db):
    redis.ping()
    select.poll().poll(1000)


def moves_to_another_zone(redis, db):
    redis.ping()
    os.environ["TZ"] = "Asia/Kolkata"
    time.tzset()


def subscribes(redis, db):
    redis.ping()
    redis.pubsub()


def monitors(redis, db):
    redis.ping()
    redis.monitor()


def runs_a_loop(redis, db):
    redis.ping()
    asyncio.run(aredis.Redis(host="cache.example").ping())


def joins_a_cluster(redis, db):
    redis.ping()
    redis_py.RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", 9)])


def subscribes_by_itself(redis, db):
    redis.ping()
    redis_py.Redis("cache.example").pubsub().subscribe("c")


def other_greenlet(redis, db):
    redis.ping()
    greenlet(lambda: redis_py.Redis("cache.example").incr("n")).switch()


def psycopg_by_itself(redis, db):
    redis.ping()
    psycopg.connect("postgresql://127.0.0.1:9/none", connect_timeout=1).execute("SELECT 1")


async def thread_of_a_loop(redis, db):
    await redis.ping()
    await asyncio.to_thread(len, "")


async def asynchronous_engine(redis, db):
    await redis.ping()
    engine = create_async_engine("postgresql+psycopg://127.0.0.1:9/none")
    engine.dialect.driver = "asyncpg"  # which is not installed
    async with engine.connect() as connection:
        await connection.execute(sa.text("SELECT 1"))


def reads_from_a_replica(redis, db):
    redis.ping()
    Sentinel([("localhost", 26379)]).slave_for("main").get("n")


ESCAPES = {
    thread: "starts a thread",
    pool_of_threads: "starts a thread",
    timer: "starts a thread",
    process: "starts a process",
    fork: "starts a process",
    connection: "opens a connection",
    sqlite: "opens an SQLite connection",
    leaves: "ended the process",
    leaves_at_once: "ended the process",
    kills: "sends a signal",
    polls: "waits for files",
    moves_to_another_zone: "sets the time zone of its process",
    subscribes: "Pub/Sub",
    monitors: "MONITOR",
    runs_a_loop: "event loop of its own",
    joins_a_cluster: "CLUSTER reaches beyond|COMMAND|opens a connection",
    subscribes_by_itself: "SUBSCRIBE waits for messages",
    other_greenlet: "used outside its function",
    psycopg_by_itself: "psycopg by itself",
    thread_of_a_loop: "starts a thread",
    reads_from_a_replica: "reads from a replica",
    asynchronous_engine: r"uses an engine of postgresql\+asyncpg",
}

BEYOND = [
    ("SELECT", 5),
    ("FLUSHALL",),
    ("SWAPDB", 0, 1),
    ("MOVE", "n", 1),
    ("CONFIG", "SET", "maxmemory", "1mb"),
    ("CONFIG SET", "maxmemory", "1mb"),
    ("config set", "maxmemory", "1mb"),
    ("CONFIG", "RESETSTAT"),
    ("CLIENT", "SETNAME", "x"),
    ("CLIENT", "PAUSE", 1),
    ("CLIENT", "KILL", "ID", 1),
    ("CLIENT", "TRACKING", "ON"),
    ("CLIENT", "NO-EVICT", "ON"),
    ("CLIENT", "REPLY", "OFF"),
    ("SCRIPT", "FLUSH"),
    ("SCRIPT", "KILL"),
    ("ACL", "SETUSER", "x"),
    ("AUTH", "x"),
    ("HELLO", 3),
    ("RESET",),
    ("QUIT",),
    ("SHUTDOWN", "NOSAVE"),
    ("DEBUG", "SLEEP", 0),
    ("SAVE",),
    ("BGSAVE",),
    ("BGREWRITEAOF",),
    ("REPLICAOF", "NO", "ONE"),
    ("FAILOVER",),
    ("CLUSTER", "INFO"),
    ("MODULE", "LIST"),
    ("SUBSCRIBE", "c"),
    ("PSUBSCRIBE", "c*"),
    ("SSUBSCRIBE", "c"),
    ("MONITOR",),
    ("MIGRATE", "127.0.0.1", 9, "n", 0, 1),
    ("OBJECT", "IDLETIME", "n"),
    ("OBJECT", "FREQ", "n"),
    ("LASTSAVE",),
    ("XINFO", "CONSUMERS", "s", "g"),
    ("XINFO", "STREAM", "s", "FULL"),
    ("XINFO STREAM", "s", "full", "COUNT", 1),
    ("COPY", "n", "m", "DB", 3),
    ("XREADGROUP", "GROUP", "g", "me", "CLAIM", 60_000, "STREAMS", "s", ">"),
    ("FUNCTION", "FLUSH"),
    ("SLOWLOG", "RESET"),
    ("LATENCY", "RESET"),
    ("MEMORY", "PURGE"),
]
IN_A_SCRIPT = [
    "return redis.call('FLUSHALL')",
    "return redis.pcall('flush' .. 'all')",
    "redis.call('SELECT', 5) return redis.call('SET', 'n', 1)",
    "return redis.call('SWAPDB', 0, 1)",
    "return redis.call('MOVE', 'n', 1)",
    "return redis.call('COPY', 'n', 'm', 'DB', 3)",
    "return redis.call('MIGRATE', '127.0.0.1', 9, 'n', 0, 1)",
    "return redis.call('OBJECT', 'idletime', 'n')",
    "return redis.call('XINFO', 'STREAM', 's', 'FULL')",
    "return redis.call('LASTSAVE')",
    "return redis.call('INFO', 'server')",
    "return redis.call('SLOWLOG', 'GET')",
    "return redis.pcall('MEMORY', 'STATS')",
]


class TestRefused:
    @pytest.mark.parametrize("escape", ESCAPES, ids=lambda escape: escape.__name__)
    def test_by_name_at_the_first_use(self, escape):
        """The error names the client and what it did; the next exploration is not disturbed."""
        with pytest.raises(LabError, match=ESCAPES[escape]) as found:
            explore({"a": escape, "b": count}, invariant=always)
        # an exercise shows it, too, to readers who have never seen this argument
        assert "crashes=" not in found.value.remedy
        assert explore({"a": count, "b": count}, invariant=always).interleavings == 2

    @pytest.mark.parametrize("escape", ESCAPES, ids=lambda escape: escape.__name__)
    def test_who_swallows_it_hides_nothing(self, escape):
        """Code that goes on another way when it is refused has not run as it would."""

        def client(redis, db):
            with contextlib.suppress(Exception):
                escape(redis, db)
            redis.set("went", "on")

        async def awaited(redis, db):
            with contextlib.suppress(Exception):
                await escape(redis, db)
            await redis.set("went", "on")

        one = awaited if inspect.iscoroutinefunction(escape) else client
        with pytest.raises(LabError, match=ESCAPES[escape]):
            explore({"a": one}, invariant=always)

    @pytest.mark.parametrize("command", BEYOND, ids=lambda command: " ".join(map(str, command)))
    def test_commands_that_reach_too_far(self, command):
        """What reaches beyond the explorer's database is refused before it is sent."""

        def client(redis, db):
            redis.incr("n")
            redis.execute_command(*command)

        with pytest.raises(LabError, match=r"reaches beyond the (lab.s )?database"):
            explore({"a": client}, invariant=always)
        report = explore({"a": count, "b": count}, invariant=lambda r, d: r.get("n") == "2")
        assert (report.interleavings, report.violations) == (2, 0)

    @pytest.mark.parametrize("text", IN_A_SCRIPT)
    @pytest.mark.parametrize("way", ["eval", "pipeline", "function"])
    def test_in_a_script_too(self, text, way):
        """Nor is a script, in whatever way it comes."""
        library = f"#!lua name=x\nredis.register_function('f', function() {text} end)"

        def client(redis, db):
            redis.incr("n")
            if way == "function":
                redis.function_load(library, replace=True)
                redis.fcall("f", 0)
            elif way == "pipeline":
                redis.pipeline(transaction=True).eval(text, 0).execute()
            else:
                redis.eval(text, 0)

        with pytest.raises(LabError, match=r"reaches beyond the (lab.s )?database"):
            explore({"a": client}, invariant=always)
        report = explore({"a": count, "b": count}, invariant=lambda r, d: r.get("n") == "2")
        assert (report.interleavings, report.violations) == (2, 0)

    def test_keys_that_are_named_like_an_option(self):
        def client(redis, db):
            redis.set("n", 1)
            redis.copy("n", "DB")
            redis.eval("return redis.call('COPY', 'n', 'db', 'REPLACE')", 0)
            redis.xgroup_create("claim", "claim", id="0", mkstream=True)
            redis.xreadgroup("claim", "claim", {"claim": ">"})

        explore({"a": client}, invariant=lambda r, d: r.mget("DB", "db") == ["1", "1"]).check()

    @pytest.mark.parametrize(
        "command", [("FLUSHALL",), ("SELECT", 3), ("CONFIG", "SET", "maxmemory", "1")]
    )
    def test_in_a_pipeline_too(self, command):
        """A pipeline is no way around it."""

        def client(redis, db):
            pipe = redis.pipeline()
            pipe.incr("n")
            pipe.execute_command(*command)
            pipe.execute()

        with pytest.raises(LabError, match=r"reaches beyond the (lab.s )?database"):
            explore({"a": client}, invariant=always)

    def test_in_given_and_the_invariant_too(self):
        """They are no way around it either."""
        with pytest.raises(LabError, match="FLUSHALL reaches beyond"):
            explore({"a": count}, given=lambda r, d: r.flushall(), invariant=always)
        with pytest.raises(LabError, match="CONFIG SET reaches beyond"):
            explore({"a": count}, invariant=lambda r, d: r.config_set("maxmemory", 1))

    @pytest.mark.parametrize("way", ["executor", "loop", "pool", "queue", "event"])
    def test_a_thread_that_was_there_before(self, way):
        """Work that is handed to it would go where nobody sees it; who swallows the refusal hides nothing."""
        work, woken, over = queue.Queue(), threading.Event(), threading.Event()
        threads = [threading.Thread(target=work.get), threading.Thread(target=woken.wait)]
        for one in threads:
            one.start()
        while not (work.not_empty._waiters and woken._cond._waiters):
            time.sleep(0.001)
        with ThreadPoolExecutor(1) as executor, ThreadPool(1) as pool:
            executor.submit(len, "").result()
            ways = {
                "executor": lambda: executor.submit(over.set),
                "pool": lambda: pool.apply_async(over.set),
                "queue": lambda: work.put(over.set),
                "event": woken.set,
            }

            def client(redis, db):
                redis.ping()
                with contextlib.suppress(BaseException):
                    ways[way]()

            async def looping(redis, db):
                await redis.ping()
                with contextlib.suppress(BaseException):
                    await asyncio.get_running_loop().run_in_executor(executor, over.set)

            with pytest.raises(NotSteppableError, match="hands work to one"):
                explore({"a": looping if way == "loop" else client}, invariant=always)
            assert not over.is_set()
            work.put(None)
            woken.set()
        for one in threads:
            one.join()

    def test_a_queue_within_one_client(self):
        """Nobody else waits for it: it is a list."""

        def client(redis, db):
            jobs = queue.Queue()
            jobs.put(redis.incr("n"))
            redis.incrby("n", jobs.get(timeout=1))

        report = explore({"a": client}, invariant=lambda redis, db: redis.get("n") == "2")
        report.check()

    @pytest.mark.parametrize(
        "escape",
        [
            lambda: signal.alarm(1),
            lambda: signal.setitimer(signal.ITIMER_REAL, 0.001),
            lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN),
            lambda: early_alarm(1),
        ],
    )
    def test_a_signal_to_come(self, escape):
        """An alarm would go off by the machine's clock, and it is the explorer's own watch."""
        handler = signal.getsignal(signal.SIGALRM)

        def client(redis, db):
            redis.ping()
            with contextlib.suppress(BaseException):
                escape()

        with pytest.raises(NotSteppableError, match="has a signal interrupt it"):
            explore({"a": client}, invariant=always)
        assert signal.getsignal(signal.SIGALRM) is handler
        assert signal.alarm(0) == 0

    def test_a_question_at_the_keyboard(self, monkeypatch):
        """It is never put: in a notebook its box would outlive the exploration, and bar all cells."""
        put = []
        monkeypatch.setattr(builtins, "input", put.append)

        def client(redis, db):
            redis.ping()
            input("which? ")

        with pytest.raises(NotSteppableError, match=r"'a' waits for the keyboard.*\n.*an argument"):
            explore({"a": client}, invariant=always)
        assert put == []
        input("and now")
        assert put == ["and now"]

    def test_a_wait_for_another_thread(self, monkeypatch):
        """It is refused at once, and not when the explorer's patience is over."""

        def client(redis, db):
            redis.ping()
            threading.Event().wait()

        monkeypatch.setattr(patience, "PATIENCE_SECONDS", 3600.0)
        with pytest.raises(NotSteppableError, match="waits for another thread"):
            explore({"a": client}, invariant=always)

    @pytest.mark.parametrize(
        "way",
        ["event", "queue", "semaphore", "select", "selector", "loop", "scheduler", "condition"],
    )
    def test_a_wait_that_ends_by_itself(self, way):
        """A wait with a timeout is a sleep of the client's: it takes no time of the machine's."""

        def waits():
            if way == "event":
                return threading.Event().wait(60)
            if way == "semaphore":
                return threading.Semaphore(0).acquire(timeout=60)
            if way == "select":
                return bool(select.select([], [], [], 60)[0])
            if way == "selector":
                return bool(selectors.DefaultSelector().select(60))
            if way == "loop":
                return asyncio.run(asyncio.sleep(60))
            if way == "scheduler":
                later = sched.scheduler()
                later.enter(60, 1, lambda: None)
                return later.run()
            if way == "condition":
                condition = threading.Condition()
                with condition:
                    return condition.wait_for(lambda: False, timeout=60)
            with contextlib.suppress(queue.Empty):
                return queue.Queue().get(timeout=60)
            return False

        def client(redis, db):
            before = time.time()
            redis.ping()
            assert not waits()
            redis.set("slept", round(time.time() - before))

        begin = time.monotonic()
        slept = lambda redis, db: redis.get("slept") == "60"  # noqa: E731
        report = explore({"a": client}, invariant=slept, passes=False)
        report.check()
        assert time.monotonic() - begin < 30

    @pytest.mark.parametrize("way", ["raw", "driver", "cursor", "opened before", "the lab's"])
    def test_statements_past_sqlalchemy(self, way, tmp_path):
        """A driver's connection, from a pool or not, runs no statement that is no step."""
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
        before = sqlite3.connect(tmp_path / "a.db")
        before.execute("CREATE TABLE products (id, stock)")
        shop = open_shop()

        def client(redis, db):
            redis.ping()
            with engine.connect() as connection, contextlib.suppress(BaseException):
                connection.exec_driver_sql("SELECT 1")
                run = {
                    "raw": lambda sql: engine.raw_connection().cursor().execute(sql),
                    "driver": lambda sql: connection.connection.driver_connection.execute(sql),
                    "cursor": lambda sql: connection.connection.cursor().execute(sql),
                    "opened before": lambda sql: before.execute(sql),
                    "the lab's": lambda sql: shop.execute(sql),
                }[way]
                run("UPDATE products SET stock = 1 WHERE id = 1")

        with contextlib.closing(shop), contextlib.closing(before):
            with pytest.raises(NotSteppableError, match="driver by itself"):
                explore({"a": client, "b": count}, invariant=always)
            before.execute("SELECT 1")  # nothing is left of the watch
        engine.dispose()

    def test_what_sqlalchemy_itself_asks_the_driver(self, tmp_path):
        """Its pings, its resets and its pragmas are no steps, and no reason to refuse."""
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}", pool_pre_ping=True)

        def client(redis, db):
            with engine.connect() as connection:
                level = connection.execution_options(isolation_level="READ UNCOMMITTED")
                redis.set("one", level.exec_driver_sql("SELECT 1").scalar())

        report = explore({"a": client, "b": client}, invariant=lambda r, d: r.get("one") == "1")
        report.check()
        assert report.interleavings == 6
        engine.dispose()

    def test_a_lock_of_the_process(self, monkeypatch):
        """A function that waits for a lock of the process is ended, and told, in the time it has."""
        monkeypatch.setattr(patience, "PATIENCE_SECONDS", 2.0)
        lock = threading.Lock()
        lock.acquire()

        def client(redis, db):
            redis.ping()
            lock.acquire()

        with pytest.raises(
            NotSteppableError, match=r"without a command.* of client: lock.acquire\(\)"
        ):
            explore({"a": client}, invariant=always)

    @pytest.mark.long
    def test_a_debugger_may_stop_in_a_client(self, monkeypatch):
        """Who looks has all the time there is; pdb may have its signals, and leaves none behind."""
        monkeypatch.setattr(patience, "PATIENCE_SECONDS", 1.0)
        monkeypatch.setattr(pdb.Pdb, "_previous_sigint_handler", None)
        looks, debugged = [], patience.debugged
        monkeypatch.setattr(patience, "debugged", lambda frame: looks.append(1) or debugged(frame))

        class Keyboard(io.StringIO):
            def readline(self, *size):
                while len(looks) < 2 * patience._LOOKS:
                    pass
                return super().readline(*size)

        debugger = pdb.Pdb(stdin=Keyboard("next\ncontinue\n" * 9), stdout=io.StringIO())

        def client(redis, db):
            debugger.set_trace()
            redis.incr("n")

        explore({"a": client}, invariant=lambda redis, db: redis.get("n") == "1").check()
        assert 'redis.incr("n")' in debugger.stdout.getvalue()
        with pytest.raises(KeyboardInterrupt):
            pdb.Pdb._previous_sigint_handler(signal.SIGINT, None)

    def test_the_watch_works_in_a_thread(self, monkeypatch):
        """An exploration in another thread (a panel's) ends a loop, too."""
        monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.3)
        found = []

        def loop(redis, db):
            redis.ping()
            while True:
                pass

        def run():
            try:
                explore({"a": loop}, invariant=always)
            except LabError as error:
                found.append(str(error))

        runner = threading.Thread(target=run)
        runner.start()
        runner.join()
        assert "without a command" in found[0]


class TestStepped:
    def test_an_object_that_two_functions_share(self):
        """A lock that was made with the first client's redis has a connection for each that uses it."""
        kept = {}

        def use(redis, db):
            lock = kept.setdefault("lock", redis.lock("l", timeout=10))
            if lock.acquire(blocking=False):
                redis.incr("held")
                lock.release()

        report = explore(
            {"ada": use, "bob": use},
            given=lambda r, d: kept.clear(),
            invariant=lambda r, d: not r.exists("l"),
        )
        assert report.exhausted
        assert report.interleavings > 2

    def test_a_cached_client(self):
        """functools.cache around a maker of pipelines or scripts is no trap."""

        @functools.cache
        def script(redis):
            return redis.register_script("return redis.call('INCR', KEYS[1])")

        made = []

        def client(redis, db):
            made.append(redis)
            script(made[0])(keys=["n"])

        report = explore(
            {"a": client, "b": client}, invariant=lambda r, d: r.get("n") == "2", max_runs=50
        )
        assert (report.interleavings, report.violations) == (2, 0)

    def test_the_invariant_may_use_a_clients_redis(self):
        """Outside the clients it is the explorer's own connection, and no step."""
        kept = {}

        def one(redis, db):
            kept["redis"] = redis
            redis.set("a", 1)

        report = explore({"a": one}, invariant=lambda r, d: kept["redis"].get("a") == "1")
        assert (report.interleavings, report.violations) == (1, 0)

    def test_an_orm_session_of_ones_own(self, tmp_path):
        """Each statement and each commit of an SQLAlchemy engine is a step: the lost update is found."""
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'stock.db'}")

        class Base(DeclarativeBase):
            pass

        class Stock(Base):
            __tablename__ = "stock"
            id: Mapped[int] = mapped_column(primary_key=True)
            pieces: Mapped[int]

        Base.metadata.create_all(engine)

        def given(redis, db):
            with Session(engine) as session:
                session.query(Stock).delete()
                session.add(Stock(id=1, pieces=10))
                session.commit()

        def sell(redis, db):
            with Session(engine) as session:
                stock = session.get(Stock, 1)
                stock.pieces -= 1
                session.commit()
            redis.delete("stock:1")

        def sell_in_one(redis, db):
            with Session(engine) as session:
                session.execute(sa.update(Stock).values(pieces=Stock.pieces - 1))
                session.commit()
            redis.delete("stock:1")

        def sold(redis, db):
            with Session(engine) as session:
                return session.get(Stock, 1).pieces == 8

        broken = explore({"a": sell, "b": sell}, given=given, invariant=sold)
        whole = explore({"a": sell_in_one, "b": sell_in_one}, given=given, invariant=sold)
        crashed = explore(
            {"a": sell_in_one}, given=given, invariant=lambda r, d: True, crashes=True
        )
        assert broken.violations > 0
        assert "UPDATE stock SET pieces=9" in broken.schedule
        assert (whole.violations, whole.exhausted) == (0, True)
        assert crashed.interleavings == 4
        engine.dispose()

    def test_under_a_profiler(self):
        """A profiler, a tracer or a measure of coverage goes on, and the answer is the same."""
        profile = cProfile.Profile()
        profile.enable()
        try:
            report = explore({"a": count, "b": count}, invariant=always)
        finally:
            profile.disable()
        assert report.interleavings == 2

    def test_an_empty_database(self):
        """FLUSHDB empties the explorer's database, and is a step like any other."""

        def client(redis, db):
            redis.set("a", 1)
            redis.flushdb()

        report = explore({"a": client, "b": count}, invariant=lambda r, d: not r.exists("a"))
        assert (report.interleavings, report.violations) == (3, 0)

    @pytest.mark.parametrize("transaction", [True, False])
    def test_what_an_emptied_database_replies(self, transaction):
        """To the client that is handed out as to one of the code's own, bytes and all."""

        def client(redis, db):
            for one in (redis, redis_py.Redis("cache.example")):
                pipe = one.pipeline(transaction=transaction)
                assert pipe.set("a", 1).flushdb().set("b", 1).execute() == [True] * 3

        explore({"a": client}, invariant=lambda r, d: r.keys() == ["b"]).check()


class Begun(threading.local):
    def __init__(self):
        self.calls = 0


BEGUN = Begun()
LOCAL = threading.local()
LOCK = redis_py.Redis().lock("l", timeout=10)


class TestEachClientIsAThread:
    def test_what_a_thread_keeps_is_its_own(self):
        """`threading.local` and the number of the thread are each client's; a run begins with nothing."""
        LOCAL.mine = "the test's"

        def client(redis, db):
            assert not hasattr(LOCAL, "mine")
            LOCAL.mine = redis.incr("id")
            redis.ping()
            return LOCAL.mine, threading.get_ident()

        def apart(redis, db, told):
            return all(len(set(values)) == 2 for values in zip(*told.values(), strict=True))

        explore({"a": client, "b": client}, invariant=apart).check()
        assert LOCAL.mine == "the test's"

    def test_a_class_of_the_codes_own_begins_anew_in_each_thread(self):
        """What its __init__ puts there is there for each client, in each run."""
        BEGUN.calls = 7

        def client(redis, db):
            BEGUN.calls += 1
            redis.incr("n")
            BEGUN.calls += 1
            return BEGUN.calls

        def two_each(redis, db, told):
            return told == {"a": 2, "b": 2}

        explore({"a": client, "b": client}, invariant=two_each).check()
        assert BEGUN.calls == 7

    def test_a_lock_that_keeps_its_token_so(self):
        """redis-py's, made once for all threads."""

        def client(redis, db):
            if LOCK.acquire(blocking=False):
                redis.incr("inside")
                LOCK.release()

        report = explore({"a": client, "b": client}, invariant=lambda r, d: not r.exists("l"))
        report.check()

    def test_a_scoped_session(self, tmp_path):
        """One client's ROLLBACK undoes nothing of another's."""
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)")
        scoped = scoped_session(sessionmaker(engine))

        def given(redis, db):
            with engine.begin() as connection:
                connection.exec_driver_sql("DELETE FROM t")
                connection.exec_driver_sql("INSERT INTO t VALUES (1, 0)")

        def adds(pieces, end):
            def client(redis, db):
                scoped().execute(sa.text(f"UPDATE t SET n = n + {pieces}"))
                redis.ping()
                getattr(scoped(), end)()
                scoped.remove()

            return client

        def ten(redis, db):
            with engine.connect() as connection:
                return connection.exec_driver_sql("SELECT n FROM t").scalar() == 10

        report = explore(
            {"a": adds(1, "rollback"), "b": adds(10, "commit")}, given=given, invariant=ten
        )
        report.check()
        gc.collect()  # sessions of runs that were broken off go back to the pool
        engine.dispose()


class TestScripts:
    TEXT = "return redis.call('INCR', KEYS[1])"

    def test_a_script_that_nobody_has_loaded_yet(self):
        """What an earlier order has loaded is not known in a later one."""
        digest = hashlib.sha1(self.TEXT.encode(), usedforsecurity=False).hexdigest()

        def loads(redis, db):
            redis.ping()
            assert redis.script_load(self.TEXT) == digest

        report = explore(
            {"a": loads, "b": lambda redis, db: redis.evalsha(digest, 1, "n")}, invariant=always
        )
        assert report.violations == 1
        assert "NoScriptError" in report.findings[0].reason

    def test_a_script_that_loads_itself(self):
        """redis-py's `register_script` loads it when it is not there, and EVAL leaves it there."""
        digest = hashlib.sha1(self.TEXT.encode(), usedforsecurity=False).hexdigest()

        def client(redis, db):
            redis.register_script(self.TEXT)(["n"])
            redis.eval(self.TEXT, 1, "n")
            redis.evalsha(digest.encode(), 1, "n")

        report = explore({"a": client, "b": client}, invariant=lambda r, d: r.get("n") == "6")
        report.check()
        assert report.interleavings == 20


class TestNothingOutlivesARun:
    def test_the_explorers_classes_are_put_back(self):
        """What is watched during an exploration is redis-py's own again, also after an error."""
        before = redis_py.Redis.execute_command, threading.Thread.start, time.sleep
        with pytest.raises(LabError):
            explore({"a": thread}, invariant=always)
        assert (redis_py.Redis.execute_command, threading.Thread.start, time.sleep) == before

    def test_functions_end_with_the_run(self):
        """A library belongs to the whole server; each run loads its own, and none is left."""
        body = "function() return redis.call('TIME')[1] end"
        library = f"#!lua name=once\nredis.register_function('once', {body})"

        def load(redis, db):
            redis.execute_command("FUNCTION", "LOAD", library)  # without REPLACE
            return redis.fcall("once", 0)

        def other(redis, db):
            redis.incr("n")

        for _ in "12":
            report = explore(
                {"a": load, "b": other}, invariant=lambda r, d, told: told["a"] == str(START)
            )
            assert (report.interleavings, report.violations) == (3, 0)
        report = explore({"a": count}, invariant=lambda r, d: r.function_list() == [])
        assert report.violations == 0

    def test_signals_are_put_back(self):
        """The alarm that watches for endless loops is the program's own again."""
        before = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
        explore({"a": count}, invariant=always)
        assert (signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)) == before

    def test_an_interrupt_ends_it(self):
        """A KeyboardInterrupt reaches the caller, and nothing is left of it."""

        def client(redis, db):
            redis.ping()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            explore({"a": client}, invariant=always)
        assert explore({"a": count, "b": count}, invariant=always).interleavings == 2

    def test_an_interrupt_waits_for_the_end_of_a_step(self, monkeypatch):
        """Ctrl-C ends the exploration where no code of a library can take it for its own error."""
        monkeypatch.setattr(patience, "_GRACE_SECONDS", 3600.0)
        seen = []
        before = signal.getsignal(signal.SIGINT)

        def given(redis, db):
            if len(seen) == 3:
                signal.raise_signal(signal.SIGINT)
            seen.append(redis.ping())

        with pytest.raises(KeyboardInterrupt):
            explore({"a": count, "b": count}, given=given, invariant=always, crashes=True)
        assert len(seen) == 4  # it was not cut off, and no other run began
        assert signal.getsignal(signal.SIGINT) is before

    def test_an_interrupt_does_not_wait_for_a_loop(self):
        """A function that never comes to a step is interrupted all the same."""

        def client(redis, db):
            redis.ping()
            signal.raise_signal(signal.SIGINT)
            while True:
                pass

        with pytest.raises(KeyboardInterrupt):
            explore({"a": client}, invariant=always)

    def test_connections_of_an_engine_wait_as_before(self, tmp_path):
        """An engine's connections keep the patience that they had."""
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}", poolclass=sa.StaticPool)
        with engine.connect() as connection:
            connection.execute(sa.text("CREATE TABLE t(x)"))
            patience = connection.execute(sa.text("PRAGMA busy_timeout")).scalar()

        def client(redis, db):
            with engine.begin() as connection:
                connection.execute(sa.text("INSERT INTO t VALUES (1)"))

        explore({"a": client}, invariant=always)
        with engine.connect() as connection:
            assert connection.execute(sa.text("PRAGMA busy_timeout")).scalar() == patience
        engine.dispose()

    def test_the_first_exploration_of_an_engine_is_like_the_next(self, tmp_path):
        """A pool that writes down when it connects does not ask what time it is."""
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}")

        def client(redis, db):
            with engine.connect() as connection:
                connection.execute(sa.text("SELECT 1")).all()
            time.time()

        first, second = (explore({"a": client, "b": client}, invariant=always) for _ in "12")
        engine.dispose()
        assert first.interleavings == second.interleavings == 2
        assert first.notes == second.notes
        assert "twice" not in str(first.notes)


def test_a_connection_that_could_not_be_made_ready(tmp_path):
    """What a client does afterwards, on a connection that it has, is stepped as before."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}", poolclass=sa.NullPool)
    broken = sa.create_engine(f"sqlite:///{tmp_path / 'b.db'}", poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t(n)"))

    @sa.event.listens_for(broken, "connect")
    def refuse(connection, record):
        raise OSError("No, not today.")

    def client(redis, db):
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT n FROM t")).all()
            with contextlib.suppress(OSError):
                broken.connect()
            connection.execute(sa.text("SELECT n FROM t")).all()

    report = explore({"a": client, "b": client}, invariant=always)
    assert report.interleavings == 6  # two statements each


class Unbound:
    """What stands for something that is not there, as a request does outside of one."""

    def __getattr__(self, name):
        raise RuntimeError("Working outside of request context.")


UNBOUND = Unbound()


def test_what_stands_for_nothing_is_left_alone():
    """The explorer looks at what the learner's names hold, and breaks on none of it."""

    def client(redis, db):
        redis.set("n", int(UNBOUND is None))

    explore({"a": client}, invariant=lambda redis, db: redis.get("n") == "0").check()


def test_a_library_that_is_imported_by_a_client(monkeypatch):
    """It derives classes from date and datetime as ever; what the client itself imports is a stand-in."""
    for name in [name for name in sys.modules if name.startswith("pydantic.v1")]:
        monkeypatch.delitem(sys.modules, name)

    def client(redis, db):
        import datetime

        import pydantic.v1.types  # class ConstrainedDate(date, metaclass=…)

        assert issubclass(pydantic.v1.types.ConstrainedDate, datetime.date.__mro__[1])
        redis.set("year", datetime.date.today().year)

    explore({"a": client}, invariant=lambda redis, db: redis.get("year") == "2100").check()


@pytest.mark.parametrize(
    "lock",
    [threading.RLock(), threading.Condition(), multiprocessing.RLock()],
    ids=["RLock", "Condition", "multiprocessing"],
)
def test_a_lock_of_the_process_that_all_clients_would_own(lock):
    """In a step it is refused; what it guards in memory, between two steps, it may guard."""

    def counts(redis, db):
        with lock:
            redis.set("n", int(redis.get("n") or 0) + 1)

    def guards(redis, db):
        redis.get("n")
        with lock:
            pass

    with pytest.raises(NotSteppableError, match="while it has lock, a lock of the process"):
        explore({"ada": counts, "bob": counts}, invariant=lambda redis, db: redis.get("n") == "2")
    explore({"ada": guards, "bob": guards}, invariant=lambda redis, db: True).check()


THREADS, PROCESSES = threading.Lock(), multiprocessing.Lock()


@contextlib.contextmanager
def locked_file():
    with Path(__file__).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def patiently():
    if not THREADS.acquire(timeout=5):
        raise TimeoutError
    try:
        yield
    finally:
        THREADS.release()


LOCKS = {}


def made_in_the_run():
    return LOCKS.setdefault("jobs", threading.Lock())


class Kept:
    def __init__(self):
        self.lock = threading.Lock()


@functools.cache
def cached_lock(name=""):
    return threading.Lock()


cached_lock("of somebody else")


def made_for_an_object():
    return LOCKS.setdefault("object", Kept()).lock


def test_a_look_at_a_client_keeps_nothing_alive():
    """What its functions held is gone when they have returned: a cursor would keep its lock."""

    def looked_at():
        held = threading.Event()
        signal.raise_signal(signal.SIGALRM)
        return weakref.ref(held)

    gc.disable()
    try:
        with patience.watched(lambda: 0, lambda: True, lambda frame: False):
            assert looked_at()() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("taken", "told"),
    [
        (lambda: THREADS, "waits for THREADS, a lock of the process that 'ada' has"),
        (lambda: PROCESSES, "waits for PROCESSES, a lock of the process that 'ada' has"),
        (patiently, "waits for THREADS, a lock of the process that 'ada' has"),
        (locked_file, "waits for the lock of a file, which another client has"),
        (made_in_the_run, "waits for LOCKS, a lock of the process that another client has"),
        (cached_lock, "waits for taken, a lock of the process that another client has"),
        (made_for_an_object, "waits for lock, a lock of the process that another client has"),
    ],
    ids=[
        "thread",
        "process",
        "patient",
        "file",
        "made in the run",
        "cached",
        "of an object made in the run",
    ],
)
def test_a_wait_for_a_lock_that_another_client_has(taken, told, monkeypatch):
    """It is told as soon as it is seen, long before a function that takes no step is given up."""
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 3600.0)
    monkeypatch.setattr(patience, "_LOOKS", 36_000)

    def counts(redis, db):
        with taken():
            redis.incr("n")
            redis.incr("n")

    with pytest.raises(NotSteppableError, match=told):
        explore(
            {"ada": counts, "bob": counts}, given=lambda redis, db: LOCKS.clear(), invariant=always
        )


def test_a_lock_that_is_tried_is_no_wait():
    def counts(redis, db):
        if THREADS.acquire(blocking=False):
            try:
                redis.incr("n")
            finally:
                THREADS.release()

    explore({"ada": counts, "bob": counts}, invariant=lambda r, d: r.get("n") in "12").check()


def test_what_is_set_on_the_client_ends_with_the_run():
    """An attribute, and what it makes of replies: the next run, and the next exploration, know neither."""

    def sets(redis, db):
        before = getattr(redis, "seen", 0), redis.get("n")
        redis.seen = 1
        redis.set_response_callback("GET", lambda reply, **options: 7)
        assert redis.get("n") == 7
        return before

    for client in (sets, lambda redis, db: (getattr(redis, "seen", 0), redis.get("n"))):
        explore(
            {"ada": client, "bob": client},
            given=lambda redis, db: redis.set("n", "x"),
            invariant=lambda redis, db, told: set(told.values()) == {(0, "x")},
        ).check()


@pytest.mark.parametrize(
    ("draws", "told"),
    [
        (lambda redis, db: redis.hrandfield("h", 2, withvalues=True), "HRANDFIELD WITHVALUES"),
        (lambda redis, db: redis.zrandmember("z", 2, withscores=True), "ZRANDMEMBER WITHSCORES"),
    ],
)
def test_a_draw_that_is_not_held_is_named(draws, told):
    with pytest.raises(NotSteppableError, match=f"{told} draws by the server's chance"):
        explore({"ada": draws}, invariant=lambda redis, db: True)


def test_a_lock_that_only_given_leads_to():
    """It is known once a client has taken a step with it."""
    callbacks = {}

    class Counter:
        lock = threading.RLock()

        def add(self, redis):
            with self.lock:
                redis.incr("n")

    def given(redis, db):
        callbacks["add"] = Counter().add

    def calls(redis, db):
        callbacks["add"](redis)

    with pytest.raises(NotSteppableError, match="while it has lock"):
        explore({"ada": calls, "bob": calls}, given=given, invariant=always, delays=False)


def test_a_lock_that_another_has_is_no_fault_of_who_moves():
    lock = threading.RLock()

    def naps(redis, db):
        redis.get("x")
        with lock:
            time.sleep(1)

    with pytest.raises(NotSteppableError, match="'ada' lets others move while it has lock"):
        explore(
            {"ada": naps, "bob": lambda redis, db: (redis.set("y", 1), lock)},
            invariant=lambda redis, db: True,
            passes=True,
        )


def test_locks_of_the_same_name():
    class Repo:
        def __init__(self):
            self.lock = threading.RLock()

        def add(self, redis):
            with self.lock:
                redis.incr("n")

    carts, stock = Repo(), Repo()
    for one, other in ((carts, stock), (stock, carts)):
        with pytest.raises(NotSteppableError, match="while it has lock"):
            explore(
                {
                    "ada": lambda redis, db, one=one, other=other: (other.lock, one.add(redis)),
                    "bob": lambda redis, db, one=one, other=other: (other.lock, one.add(redis)),
                },
                invariant=lambda redis, db: True,
            )


LAZY = """
from labsupport import explore
from labsupport.errors import NotSteppableError

def lazy(redis, db):
    import psycopg

    psycopg.connect("host=/nowhere")

try:
    explore({"ada": lazy}, invariant=lambda redis, db: True)
except NotSteppableError as error:
    print(error)
"""


def test_a_driver_that_a_client_imports_first():
    """Its connections are libpq's, of which nothing tells: it is refused, as if it had been there before."""
    told = subprocess.run(
        [sys.executable, "-c", LAZY], capture_output=True, text=True, check=True, timeout=60
    )
    assert "'ada' uses psycopg by itself" in told.stdout


def test_a_driver_in_c(monkeypatch):
    """Nothing in Python sees its statements: its `connect` is refused, and a connection that is kept."""

    class Connection:
        def cursor(self):
            return self

    Connection.__module__ = "duckdb"
    driver = types.ModuleType("duckdb")
    driver.connect = Connection
    monkeypatch.setitem(sys.modules, "duckdb", driver)
    kept = driver.connect()
    with pytest.raises(NotSteppableError, match="'ada' uses duckdb by itself"):
        explore({"ada": lambda redis, db: driver.connect()}, invariant=lambda redis, db: True)
    with pytest.raises(NotSteppableError, match="keeps a Connection of duckdb"):
        explore({"ada": lambda redis, db: kept.cursor()}, invariant=lambda redis, db: True)
    assert driver.connect is Connection
    explore(  # the invariant may use it
        {"ada": lambda redis, db: redis.ping()},
        invariant=lambda redis, db: kept.cursor() is not driver.connect(),
    ).check()


@pytest.mark.parametrize("name", ["connect", "sql"])
def test_a_function_of_a_driver_in_c_that_was_imported_by_name(name, monkeypatch):
    """`from duckdb import sql` works on a connection that all share."""
    driver = types.ModuleType("duckdb")
    kept = types.FunctionType((lambda: 1).__code__, {}, name)
    setattr(driver, name, kept)
    monkeypatch.setitem(sys.modules, "duckdb", driver)
    for client in (lambda redis, db: kept(), lambda redis, db: getattr(driver, name)()):
        with pytest.raises(NotSteppableError, match="'ada' uses duckdb by itself"):
            explore({"ada": client}, invariant=always)
    explore({"ada": count}, invariant=lambda redis, db: kept() == 1).check()
    assert getattr(driver, name) is kept


def test_what_cython_has_compiled():
    """Its classes say with a descriptor, not with a text, which module they are of."""

    class Compiled:
        __module__ = property(lambda self: "compiled")

    one = Compiled()
    explore({"ada": lambda redis, db: (count(redis, db), one)}, invariant=always).check()


def test_a_refusal_that_is_kept_keeps_nothing_replaced(monkeypatch):
    """What was put in place before something was refused is put back, though the error lives on."""
    kept = types.ModuleType("duckdb")  # a stub, as tests make it
    monkeypatch.setitem(sys.modules, "duckdb", kept)
    start, cores, zone = threading.Thread.start, os.sched_getaffinity(0), os.environ.get("TZ")

    class Cursor:
        cursor = None

    Cursor.__module__ = "duckdb"
    one = Cursor()
    with pytest.raises(NotSteppableError) as refused:
        explore({"ada": lambda redis, db: one}, invariant=lambda redis, db: True)
    assert refused.value.problem
    assert threading.Thread.start is start
    assert (os.sched_getaffinity(0), os.environ.get("TZ")) == (cores, zone)
