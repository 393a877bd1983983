"""Redis clients that the explored code makes itself are stepped, on the explorer's server."""

import pytest
import redis as redis_py
from redis.backoff import NoBackoff
from redis.retry import Retry

from labsupport import explore
from labsupport.errors import LabError, NotSteppableError
from labsupport.servers import start_server

URL = "redis://cache.example:6379/0"  # no such host: whoever connects to it fails
POOL = redis_py.ConnectionPool.from_url(URL, decode_responses=True)
MODULE = redis_py.Redis.from_url(URL, decode_responses=True)
POOLED = redis_py.Redis(connection_pool=POOL)
LINE = redis_py.Redis(host="cache.example", single_connection_client=False)
SCRIPT = "return redis.call('INCRBY', KEYS[1], ARGV[1])"


def always(redis, db):
    return True


def count(client):
    client.set("n", int(client.get("n") or 0) + 1)


def handed_out(redis, db):
    count(redis)


def two(redis, db):
    return redis.get("n") == "2"


MAKERS = {
    "Redis": lambda: redis_py.Redis("cache.example", decode_responses=True),
    "bytes": lambda: redis_py.Redis("cache.example"),
    "StrictRedis": lambda: redis_py.StrictRedis("cache.example", encoding="latin-1"),
    "from_url": lambda: redis_py.Redis.from_url(URL),
    "redis.from_url": lambda: redis_py.from_url(URL),
    "unix socket": lambda: redis_py.Redis(unix_socket_path="/nowhere/redis.sock"),
    "TLS": lambda: redis_py.Redis.from_url("rediss://user:secret@cache.example:6380/0"),
    "pool": lambda: redis_py.Redis(connection_pool=redis_py.ConnectionPool(host="cache.example")),
    "blocking pool": lambda: redis_py.Redis(
        connection_pool=redis_py.BlockingConnectionPool(host="cache.example")
    ),
    "one connection": lambda: redis_py.Redis("cache.example", single_connection_client=True),
    "client()": lambda: redis_py.Redis("cache.example").client(),
    "RESP2": lambda: redis_py.Redis("cache.example", protocol=2),
    "RESP3": lambda: redis_py.Redis("cache.example", protocol=3),
    "at module level": lambda: MODULE,
    "a pool at module level": lambda: POOLED,
}


class TestStepped:
    @pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
    def test_in_the_same_orders_as_the_one_handed_out(self, make):
        """Each of its commands is a step: the lost update is found in as many orders."""

        def own(redis, db):
            count(make())

        usual = explore({"ada": handed_out, "bob": handed_out}, invariant=two)
        found = explore({"ada": own, "bob": own}, invariant=two)
        mixed = explore({"ada": own, "bob": handed_out}, invariant=two)
        assert (usual.interleavings, usual.violations) == (6, 4)
        assert (found.interleavings, found.violations) == (6, 4)
        assert (mixed.interleavings, mixed.violations) == (6, 4)
        assert found.schedule == usual.schedule

    def test_it_gets_text_or_bytes_as_it_is_made(self):
        """The two clients of one function see the same value, each in its way."""

        def own(redis, db):
            text = redis_py.Redis("cache.example", decode_responses=True)
            redis.hset("h", mapping={"é": 1})
            raw = redis_py.Redis("cache.example")
            return text.hgetall("h"), raw.hgetall("h"), raw.ttl("h"), raw.dump("h")[:1]

        report = explore(
            {"a": own},
            invariant=lambda r, d, told: (
                told["a"] == ({"é": "1"}, {"é".encode(): b"1"}, -1, b"\x04") or bool(told["a"][3])
            ),
        )
        assert report.violations == 0
        assert report.interleavings == 1

    def test_given_and_the_invariant_use_them_too(self):
        """What they do goes to the explorer's server, and is no step."""
        report = explore(
            {"a": lambda r, d: MODULE.incr("n")},
            given=lambda r, d: MODULE.pipeline().set("n", 41).execute(),
            invariant=lambda r, d: MODULE.get("n") == r.get("n") == "42",
        )
        assert (report.interleavings, report.violations) == (1, 0)

    def test_given_waits_for_nobody(self):
        """A blocking command in it has its own timeout: nobody else is there."""
        report = explore(
            {"a": handed_out}, given=lambda r, d: MODULE.blpop("q", timeout=0.01), invariant=always
        )
        assert report.interleavings == 1

    def test_the_server_that_the_url_names_sees_nothing(self):
        """A connection that was open in the pool is not used, and is there again afterwards."""
        with start_server() as server:
            mine = redis_py.Redis.from_url(server.url, decode_responses=True)
            mine.set("n", 7)
            report = explore({"a": lambda r, d: mine.set("n", 1)}, invariant=always)
            assert mine.get("n") == "7"
            assert report.interleavings == 1
            mine.close()

    def test_nothing_outlives_an_exploration(self):
        """redis-py's own methods are back, also after an error."""
        pool = redis_py.ConnectionPool
        before = (
            pool.get_connection,
            pool.release,
            redis_py.connection.AbstractConnection.send_command,
        )

        def fails(redis, db):
            MODULE.ping()
            MODULE.flushall()

        with pytest.raises(LabError, match="FLUSHALL reaches beyond"):
            explore({"a": fails}, invariant=always)
        after = (
            pool.get_connection,
            pool.release,
            redis_py.connection.AbstractConnection.send_command,
        )
        assert before == after


class TestCommands:
    def test_a_pipeline_a_script_and_a_block(self):
        """MULTI/EXEC and a script are one step each, a pipeline as many as it has commands."""

        def program(client):
            with client.pipeline() as pipe:
                pipe.incr("n").expire("n", 60).ttl("n")
                assert pipe.execute()[1:] == [True, 60]
            with client.pipeline(transaction=False) as pipe:
                pipe.incr("n").get("n")
                pipe.execute()
            client.register_script(SCRIPT)(keys=["n"], args=[5])

        usual = explore({"a": lambda r, d: program(r), "b": handed_out}, invariant=always)
        found = explore({"a": lambda r, d: program(LINE), "b": handed_out}, invariant=always)
        assert found.interleavings == usual.interleavings > 10

    def test_watch(self):
        """An EXEC fails when the key has changed; the retries are stepped, and none is lost."""

        def add(client):
            def raise_it(pipe):
                value = int(pipe.get("n") or 0)
                pipe.multi()
                pipe.set("n", value + 1)

            client.transaction(raise_it, "n")

        usual = explore({"a": lambda r, d: add(r), "b": lambda r, d: add(r)}, invariant=two)
        found = explore({"a": lambda r, d: add(LINE), "b": lambda r, d: add(LINE)}, invariant=two)
        assert (found.violations, found.exhausted) == (0, True)
        assert found.interleavings == usual.interleavings

    def test_a_block_that_is_watched_and_left(self):
        """A pipeline that is given up in the middle leaves no watch behind for the next run."""

        def leaves(redis, db):
            pipe = LINE.pipeline()
            pipe.watch("n")
            LINE.incr("n")

        def block(redis, db):
            LINE.pipeline().incr("n").execute()

        report = explore({"a": leaves, "b": block}, invariant=two, crashes="a")
        assert report.findings[0].kind == "broken"  # where `a` crashed before it counted
        assert all(finding.kind == "broken" for finding in report.findings)

    def test_a_blocking_command(self):
        """It waits for the push; if nobody pushes, its timeout ends, or it waits for ever."""

        def takes(redis, db):
            return redis_py.Redis("cache.example").blpop("q", timeout=5)

        def waits(redis, db):
            return redis_py.Redis("cache.example").blpop("q")

        def pushes(redis, db):
            MODULE.rpush("q", "x")

        served = explore(
            {"a": takes, "b": pushes},
            invariant=lambda r, d, told: told["a"] == (b"q", b"x"),
        )
        assert served.violations == 0
        alone = explore({"a": takes}, invariant=lambda r, d, told: told["a"] is None)
        assert alone.violations == 0
        assert explore({"a": waits}, invariant=always).findings[0].kind == "stuck"

    def test_a_wait_for_ever_under_a_watch(self):
        """The connection that waits is not asked to forget its watch as the client ends: that took 10 s."""

        def waits(redis, db):
            with MODULE.pipeline() as pipe:
                pipe.watch("seen")
                return pipe.blpop("q")

        report = explore({"a": waits}, invariant=always)
        assert (report.interleavings, report.findings[0].kind) == (1, "stuck")

    def test_its_time_is_the_explorers(self):
        """TTLs, TIME and the ids of streams follow the explorer's clock."""

        def client(redis, db):
            MODULE.set("k", 1, ex=60)
            first = MODULE.xadd("s", {"a": 1})
            second = MODULE.xadd("s", {"a": 1})
            return MODULE.ttl("k"), MODULE.time(), first < second, first == second

        report = explore(
            {"a": client},
            invariant=lambda r, d, told: told["a"] == (60, (4133980798, 0), True, False),
        )
        assert report.violations == 0

    def test_crashes(self):
        """A client may end at each of its steps; what it had begun is dropped."""

        def own(redis, db):
            MODULE.set("a", 1)
            MODULE.set("b", 1)

        report = explore({"a": own}, invariant=lambda r, d: r.exists("a", "b") != 1, crashes=True)
        assert (report.interleavings, report.violations) == (3, 1)


class TestLostReplies:
    def test_the_clients_own_retry_settings_decide(self):
        """Without a retry it gets a TimeoutError; with one it counts twice."""

        def again(redis, db):
            redis_py.Redis("cache.example", retry=Retry(NoBackoff(), 1)).incr("n")

        lost = explore({"a": again}, invariant=lambda r, d: r.get("n") == "1", loses=True)
        assert (lost.interleavings, lost.violations) == (2, 1)
        assert lost.schedule.count("INCRBY n") == 2

        def once_only(redis, db):
            redis_py.Redis("cache.example", retry=Retry(NoBackoff(), 0)).incr("n")

        kept = explore({"a": once_only}, invariant=lambda r, d: r.get("n") == "1", loses=True)
        assert kept.findings[0].kind == "raised"
        assert "TimeoutError" in kept.findings[0].reason

    def test_one_server_by_several_spellings(self):
        """What a URL leaves out is redis-py's default: these are one database, and no two."""

        def own(redis, db):
            redis_py.Redis().incr("n")
            redis_py.from_url("redis://localhost").incr("n")
            redis_py.from_url("redis://127.0.0.1:6379/0").incr("n")

        explore({"a": own}, invariant=lambda redis, db: redis.get("n") == "3").check()

    def test_by_default_as_the_one_handed_out(self):
        """redis.Redis() tries again, and so does the client that is handed out."""

        def own(redis, db):
            count(redis_py.Redis("cache.example", decode_responses=True))

        usual = explore({"a": handed_out, "b": handed_out}, invariant=two, loses=True)
        found = explore({"a": own, "b": own}, invariant=two, loses=True)
        assert (found.interleavings, found.violations) == (usual.interleavings, usual.violations)


class TestRefused:
    def test_two_servers(self):
        """The explorer has one: what is for two would meet there, and never does in production."""

        def client(redis, db):
            redis_py.Redis("cache.example").ping()
            redis_py.Redis("cache.example", db=1).ping()

        with pytest.raises(
            NotSteppableError, match=r"two databases, cache\.example:6379, database 0"
        ):
            explore({"a": client}, invariant=always)

    def test_a_connection_that_was_opened_before(self):
        """A client with one connection of its own has it from before the exploration."""
        with start_server() as server:
            line = redis_py.Redis.from_url(server.url, single_connection_client=True)
            line.ping()
            for client in (lambda r, d: line.ping(), lambda r, d: line.pipeline()):
                if client(None, None) is not True:
                    continue
                with pytest.raises(NotSteppableError, match="opened before the exploration"):
                    explore({"a": client}, invariant=always)
            with pytest.raises(LabError, match="opened before the exploration"):
                explore({"a": handed_out}, invariant=lambda r, d: line.ping())
            line.close()

    def test_the_pool_of_the_client_that_is_handed_out(self):
        """A library that is given it would send what is no step; the remedy is in the text."""

        def client(redis, db):
            redis_py.Redis(connection_pool=redis.connection_pool).incr("n")

        with pytest.raises(NotSteppableError, match="the pool of the redis that it is given"):
            explore({"a": client}, invariant=always)

    @pytest.mark.parametrize(
        ("use", "told"),
        [
            (lambda: MODULE.flushall(), "FLUSHALL reaches beyond"),
            (lambda: MODULE.pipeline().config_set("a", "b").execute(), "CONFIG SET reaches"),
            (lambda: MODULE.pubsub().subscribe("c"), "SUBSCRIBE waits for messages"),
            (lambda: next(MODULE.monitor().__enter__().listen()), "MONITOR waits for messages"),
            (lambda: MODULE.client().execute_command("MULTI"), "MULTI was sent by itself"),
            (
                lambda: redis_py.RedisCluster("cache.example"),
                "opens a connection|in place of a RedisCluster",
            ),
            (
                lambda: redis_py.Redis("c", protocol=3, cache_config=_cache_config()).get("k"),
                "client-side cache",
            ),
        ],
        ids=["FLUSHALL", "pipeline", "Pub/Sub", "MONITOR", "MULTI", "cluster", "client-side cache"],
    )
    def test_what_reaches_too_far(self, use, told):
        """By name, also when the code swallows the error."""

        def client(redis, db):
            redis.ping()
            try:
                use()
            except Exception:
                redis.ping()

        with pytest.raises(NotSteppableError, match=told):
            explore({"a": client}, invariant=always)


def _cache_config():
    from redis.cache import CacheConfig

    return CacheConfig()


@pytest.mark.parametrize("watches", [False, True])
def test_a_pipeline_that_blocks_is_served(watches):
    """Also of the client that is handed out; a second is no real one."""

    def takes(redis, db):
        with redis.pipeline(transaction=False) as pipe:
            if watches:
                pipe.watch("x")
                return pipe.blpop("jobs", timeout=1)
            return pipe.blpop("jobs", timeout=1).get("x").execute()[0]

    explore(
        {"ada": takes, "bob": lambda redis, db: redis.rpush("jobs", "one")},
        invariant=lambda redis, db, told: told["ada"] == ("jobs", "one"),
    ).check()
