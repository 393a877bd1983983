"""Libraries as they are, with the clients that they make themselves: no hook, no change, no mock."""

import importlib.metadata

import pytest
import redis as redis_py

from labsupport import explore
from labsupport.errors import NotSteppableError

pytestmark = pytest.mark.long

URL = "redis://cache.example:6379/0"


def needs(name, version=""):
    """Skip where the library, or that version of it, is not installed."""
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed")
    if not found.startswith(version):
        pytest.skip(f"the report is about {name} {version}, and here is {found}")


def one_was_let_in(redis, db, told):
    return sum(map(bool, told.values())) == 1


def loaded_once(redis, db):
    return redis.get("loads") == "1"


class TestWorkAsTheyAre:
    @pytest.mark.parametrize(
        "strategy",
        ["FixedWindowRateLimiter", "MovingWindowRateLimiter", "SlidingWindowCounterRateLimiter"],
    )
    def test_limits(self, strategy):
        """Its storage connects by URL; of two requests one is let in, in every order."""
        needs("limits")
        from limits import parse, storage, strategies

        store = storage.storage_from_string(URL)

        def hit(redis, db):
            return getattr(strategies, strategy)(store).hit(parse("1/minute"), "k")

        report = explore({"a": hit, "b": hit}, invariant=one_was_let_in)
        assert (report.violations, report.exhausted) == (0, True)

    @pytest.mark.parametrize("kind", ["fixed_window", "sliding_window", "token_bucket", "gcra"])
    def test_throttled(self, kind):
        """throttled-py, made once for the module."""
        needs("throttled-py")
        from throttled import Throttled, rate_limiter, store

        limit = Throttled(
            key="k", using=kind, quota=rate_limiter.per_min(1), store=store.RedisStore(server=URL)
        )
        hit = lambda redis, db: not limit.limit().limited  # noqa: E731
        report = explore({"a": hit, "b": hit}, invariant=one_was_let_in)
        assert (report.violations, report.exhausted) == (0, True)

    def test_pyrate_limiter(self):
        """Its bucket, without the limiter's thread."""
        needs("pyrate-limiter")
        from pyrate_limiter import Duration, Rate, RateItem, RedisBucket

        def hit(redis, db):
            client = redis_py.Redis.from_url(URL)
            bucket = RedisBucket.init([Rate(1, Duration.MINUTE)], client, "bucket")
            return bucket.put(RateItem("x", bucket.now()))

        report = explore({"a": hit, "b": hit}, invariant=one_was_let_in)
        assert (report.violations, report.exhausted) == (0, True)

    def test_dogpile(self):
        """With its distributed lock a value is loaded once."""
        needs("dogpile.cache")
        from dogpile.cache import make_region

        options = {"url": URL, "distributed_lock": True, "thread_local_lock": False}
        region = make_region().configure("dogpile.cache.redis", arguments=options)

        def load(redis, db):
            return region.get_or_create("k", lambda: redis.incr("loads"))

        report = explore({"a": load, "b": load}, invariant=loaded_once, max_runs=60)
        assert report.violations == 0

    def test_python_redis_lock(self):
        """Whoever has it counts alone."""
        needs("python-redis-lock")
        import redis_lock

        def use(redis, db):
            lock = redis_lock.Lock(redis_py.Redis.from_url(URL), "l", expire=10)
            if lock.acquire(blocking=False):
                redis.set("n", int(redis.get("n") or 0) + 1)
                lock.release()
                return True
            return False

        report = explore(
            {"a": use, "b": use},
            invariant=lambda r, d, told: int(r.get("n")) == sum(told.values()),
        )
        assert (report.violations, report.exhausted) == (0, True)

    def test_dramatiq(self):
        """A message is sent once the broker has asked the server how large a script's stack is."""
        needs("dramatiq")
        import dramatiq
        from dramatiq.brokers.redis import RedisBroker

        broker = RedisBroker(url=URL)
        broker.declare_queue("default")
        message = {"queue_name": "default", "actor_name": "x", "args": (), "kwargs": {}}

        def send(redis, db):
            broker.enqueue(dramatiq.Message(options={}, **message))

        def given(redis, db):
            send(redis, db)
            redis.delete("dramatiq:default", "dramatiq:default.msgs")

        report = explore(
            {"a": send, "b": send},
            given=given,
            invariant=lambda r, d: r.llen("dramatiq:default") == 2,
        )
        assert (report.violations, report.exhausted) == (0, True)

    def test_rq(self):
        """A job is in its queue, or it is not there at all, wherever the client crashes."""
        needs("rq")
        from rq import Queue

        def put(redis, db):
            Queue(connection=redis_py.Redis.from_url(URL)).enqueue("builtins.print")

        def whole(redis, db):
            return len(redis.keys("rq:job:*")) == redis.llen("rq:queue:default")

        report = explore({"a": put}, invariant=whole, crashes=True)
        assert (report.violations, report.exhausted) == (0, True)

    def test_cashews(self):
        """Asynchronous: with lock=True a value is loaded once."""
        needs("cashews")
        from cashews import Cache

        async def load(redis, db):
            cache = Cache()
            cache.setup(URL, client_side=False)

            @cache(ttl="1m", key="k", lock=True)
            async def get():
                return await redis.incr("loads")

            return await get()

        report = explore({"a": load, "b": load}, invariant=loaded_once, max_runs=60)
        assert report.violations == 0
        # in some runs a wait has turned out to be endless; half as many more have few switches
        assert 40 < report.interleavings <= 60 + 30

    def test_aiocache(self):
        """Asynchronous: of two writers that have read the same value, one is refused."""
        needs("aiocache")
        from aiocache import Cache
        from aiocache.lock import OptimisticLock, OptimisticLockError

        async def change(redis, db):
            cache = Cache.from_url(URL)
            try:
                async with OptimisticLock(cache, "k") as lock:
                    return await lock.cas("new")
            except OptimisticLockError:
                return False

        report = explore(
            {"a": change, "b": change},
            given=lambda redis, db: redis.set("k", "old"),
            invariant=lambda redis, db, told: any(told.values()) and "new" in redis.get("k"),
        )
        assert (report.violations, report.exhausted) == (0, True)
        assert report.interleavings > 1

    def test_django_redis(self, django):
        """Its add() lets one in, its lock, redis-py's, lets one count at a time."""
        needs("django-redis")
        from django.core.cache import caches

        cache = caches["django-redis"]
        enter = lambda redis, db: cache.add("k", 1, timeout=60)  # noqa: E731
        report = explore({"a": enter, "b": enter}, invariant=one_was_let_in)
        assert (report.violations, report.exhausted) == (0, True)

        def count(redis, db):
            with cache.lock("l", timeout=60):
                cache.set("n", cache.get("n", 0) + 1)

        report = explore({"a": count, "b": count}, invariant=lambda redis, db: cache.get("n") == 2)
        assert (report.violations, report.exhausted) == (0, True)

    def test_huey(self):
        """Each task is taken from its queue once."""
        needs("huey")
        from huey import RedisHuey

        huey = RedisHuey("shop", url=URL, blocking=False)
        job = huey.task(name="job")(lambda: None)
        take = lambda redis, db: huey.dequeue() is not None  # noqa: E731
        report = explore(
            {"a": take, "b": take},
            given=lambda redis, db: job(),
            invariant=one_was_let_in,
        )
        assert (report.violations, report.exhausted) == (0, True)

    def test_pottery_has_threads(self):
        """Its Redlock asks the masters in threads: refused, by name."""
        needs("pottery")
        from pottery import Redlock

        def use(redis, db):
            masters = {redis_py.Redis.from_url(URL)}
            return Redlock(key="l", masters=masters).acquire(blocking=False)

        with pytest.raises(NotSteppableError, match="starts a thread"):
            explore({"a": use, "b": use}, invariant=one_was_let_in)


@pytest.fixture
def django():
    """Its default cache is a Redis."""
    needs("Django", "5.2")
    from django.conf import settings

    if not settings.configured:
        backends = {
            "default": "django.core.cache.backends.redis.RedisCache",
            "django-redis": "django_redis.cache.RedisCache",
        }
        caches = {name: {"BACKEND": one, "LOCATION": URL} for name, one in backends.items()}
        settings.configure(CACHES=caches)


class TestReports:
    """What has been reported of libraries, or what a run shows; each in at most 25 lines."""

    def test_a_counter_without_a_ttl(self):
        """throttled-py 3.5, fixed window: a crash after INCRBY leaves a counter that never ends."""
        needs("throttled-py", "3.5")
        from throttled import Throttled, rate_limiter, store

        limit = Throttled(
            key="k",
            using="fixed_window",
            quota=rate_limiter.per_min(1),
            store=store.RedisStore(server=URL),
        )
        report = explore(
            {"a": lambda redis, db: limit.limit()},
            invariant=lambda redis, db: all(redis.ttl(key) != -1 for key in redis.keys("*")),
            crashes=True,
        )
        assert (report.interleavings, report.violations) == (3, 1)
        assert "crashes before EXPIRE" in report.schedule

    def test_two_loads_of_one_value(self, django):
        """Django 5.2: cache.get_or_set calls its default once for each client that misses."""
        from django.core.cache import cache

        def load(redis, db):
            return cache.get_or_set("k", lambda: redis.incr("loads"))

        report = explore({"a": load, "b": load}, invariant=loaded_once)
        assert report.violations > 0
        assert not report.serial

    def test_two_are_let_in(self):
        """walrus 0.9.8: RateLimit looks at the length of its list, and then adds to it."""
        needs("walrus", "0.9.8")
        from walrus import Database

        limit = Database(host="cache.example").rate_limit("door", limit=1, per=60)
        hit = lambda redis, db: not limit.limit("k")  # noqa: E731
        report = explore({"a": hit, "b": hit}, invariant=one_was_let_in)
        assert report.violations > 0
        assert not report.serial

    def test_a_task_that_its_worker_takes_along(self):
        """huey 3.5: BRPOP takes a task from its queue before it is done; a crash loses it."""
        needs("huey", "3.5")
        from huey import RedisHuey

        huey = RedisHuey("shop", url=URL)
        issue = huey.task(name="issue")(lambda: redis_py.Redis.from_url(URL).incr("issued"))
        report = explore(
            {"a": lambda redis, db: huey.execute(huey.dequeue())},
            given=lambda redis, db: issue(),
            invariant=lambda redis, db: redis.exists("issued") or huey.pending_count(),
            crashes=True,
        )
        assert report.violations > 0
        assert "crashes" in report.schedule

    def test_a_lost_item_of_a_session(self):
        """Flask-Session 0.8 (issue 71): of two requests at once, the one that ends last keeps its own."""
        needs("Flask-Session", "0.8")
        from flask import Flask, session
        from flask_session import Session

        app = Flask("shop")
        app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis_py.Redis.from_url(URL))
        Session(app)
        cookie = {}
        app.add_url_rule("/add/<item>", view_func=lambda item: session.update({item: 1}) or "")

        def add(item):
            with app.test_client() as browser:
                browser.set_cookie("session", cookie["id"]) if cookie else None
                browser.get(f"/add/{item}")
                cookie["id"] = browser.get_cookie("session").value
                return set(session)

        report = explore(
            {"a": lambda r, d: add("ink"), "b": lambda r, d: add("paper")},
            given=lambda r, d: cookie.clear() or add("first"),
            invariant=lambda r, d: {"ink", "paper"} <= add("last"),
        )
        assert (report.interleavings, report.violations, report.serial) == (6, 4, False)

    def test_the_clock_of_the_client(self):
        """pyrate-limiter 4.5: the second request is let in, as its client's clock is a minute ahead."""
        needs("pyrate-limiter", "4.5")
        from pyrate_limiter import Duration, Rate, RateItem, RedisBucket

        def hit(redis, db):
            client = redis_py.Redis.from_url(URL)
            bucket = RedisBucket.init([Rate(1, Duration.MINUTE)], client, "bucket")
            return bucket.put(RateItem("x", bucket.now()))

        report = explore({"a": hit, "b": hit}, invariant=one_was_let_in, clocks={"b": 61})
        assert report.violations > 0

    def test_another_clock_of_the_client(self):
        """limits 5.8, moving window: so is the second one here."""
        needs("limits", "5.8")
        from limits import parse, storage, strategies

        limiter = strategies.MovingWindowRateLimiter(storage.storage_from_string(URL))

        def hit(redis, db):
            return limiter.hit(parse("1/minute"), "k")

        report = explore({"a": hit, "b": hit}, invariant=one_was_let_in, clocks={"b": 61})
        assert report.violations > 0

    def test_a_lost_item_of_a_cached_session(self, django):
        """Django 5.2, sessions in the cache: each save writes the whole session as it was read."""
        from django.contrib.sessions.backends.cache import SessionStore

        kept = {}

        def put(item):
            store = SessionStore(kept.get("key"))
            store[item] = 1
            store.save()
            kept["key"] = store.session_key
            return set(store.keys())

        report = explore(
            {"a": lambda r, d: put("ink"), "b": lambda r, d: put("paper")},
            given=lambda r, d: kept.clear() or put("first"),
            invariant=lambda r, d: {"ink", "paper"} <= put("last"),
        )
        assert report.violations > 0
        assert not report.serial


def test_stand_ins_that_are_not_set_up():
    """Proxies of Flask outside of a request, Django's settings before they are configured, and any such."""
    needs("werkzeug")
    from werkzeug.local import LocalProxy

    class Lazy:
        @property
        def __class__(self):
            raise RuntimeError("there is nothing yet")

        @property
        def __dict__(self):
            raise RuntimeError("there is nothing yet")

    lazy, proxy = Lazy(), LocalProxy(lambda: 1 / 0)

    def count(redis, db):
        if redis.incr("n") > 2:
            print(lazy, proxy)

    for prune in (False, True):
        explore(
            {"ada": count, "bob": count}, invariant=lambda r, d: r.get("n") == "2", prune=prune
        ).check()


def test_kombu_sends():
    """Its transport makes a poller, and waits on it only to receive."""
    needs("kombu")
    import kombu

    def sends(redis, db):
        with kombu.Connection("redis://127.0.0.1:6379/0") as connection:
            kombu.Producer(connection).publish({"n": 1}, routing_key="jobs")

    report = explore({"ada": sends, "bob": sends}, invariant=lambda r, d: not r.exists("unacked"))
    assert (report.verdict.status, report.interleavings) == ("holds", 6)

    def waits(redis, db):
        with kombu.Connection("redis://127.0.0.1:6379/0") as connection:
            connection.SimpleQueue("jobs").get(timeout=1)

    with pytest.raises(NotSteppableError, match="waits on the socket of a Redis connection"):
        explore({"ada": waits}, invariant=lambda r, d: True)


def _count(text):
    return len(text)


def test_celery_sends():
    """It connects once in a process; who keeps results is refused, as it subscribes to them."""
    needs("celery")
    import celery

    url = "redis://127.0.0.1:6379/0"

    def sender(**options):
        task = celery.Celery(broker=url, **options).task(_count, shared=False)

        def given(redis, db):
            task.delay("jobs")
            redis.delete("celery")

        return {
            "given": given,
            "clients": dict.fromkeys(["ada", "bob"], lambda *_: task.delay("j")),
        }

    explore(**sender(), invariant=lambda redis, db: redis.llen("celery") == 2).check()
    with pytest.raises(NotSteppableError, match="SUBSCRIBE waits for messages"):
        explore(**sender(backend=url), invariant=lambda redis, db: True)
