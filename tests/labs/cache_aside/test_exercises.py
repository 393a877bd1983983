"""The exercises of lab 01: what breaks each stub, and other good answers."""

import json
from collections import deque
from contextlib import suppress

from greenlet import getcurrent, greenlet
from redis.exceptions import LockError

from labsupport import check
from labsupport.labs.cache_aside.exercises import EXERCISES
from labsupport.servers import start_server
from tests.exercises.zoo import schedule


def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: a crash, a second load, an old row."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert schedule(first) == "GET SELECT SET crash:EXPIRE"
    assert "There were 2 loads" in str(second)
    assert schedule(third) == "GET SELECT UPDATE DEL SET"
    assert "1 of 10 orders" in third.reason


class _Slow:
    """A database whose query takes until its reader is gone on with."""

    def fetch_one(self, *_, **__):
        getcurrent().parent.switch("loading")
        return {"id": 1, "username": "ada"}


def test_steady_reads_fill_the_cache():
    """Of 40 readers, two of whom come during each load, two load: the first keeps its right to fill.

    Without the NX of the solution each takes that right from the one before, and 40 load.
    """
    get_user, _ = EXERCISES[2].solution()
    loading, loads = deque(), 0
    with start_server() as server, server.client() as redis:
        for _ in range(40):
            if len(loading) == 2:
                loading.popleft().switch()  # the oldest load is done
            reader = greenlet(lambda: get_user(redis, _Slow(), 1))
            if reader.switch() == "loading":
                loads += 1
                loading.append(reader)
        while loading:
            loading.popleft().switch()
        assert redis.exists("user:1") == 1
    assert loads == 2


class TestOtherGoodAnswers:
    def test_lock_of_redis_py(self):
        """redis-py's own lock makes one load of many, if its late release is no error."""

        def fetch_once(redis, key, load, ttl):
            cached = redis.get(key)
            if cached is None:
                lock = redis.lock(f"{key}:lock", timeout=10, sleep=0.005)
                lock.acquire()
                try:
                    cached = redis.get(key)
                    if cached is None:
                        cached = json.dumps(load())
                        redis.set(key, cached, px=int(ttl * 1000))
                finally:
                    with suppress(LockError):
                        lock.release()
            return json.loads(cached)

        found = check("01.2", fetch_once)
        assert found.passed, str(found)

    def test_version_that_stays(self):
        """A version that never expires, compared in a script, keeps the old row out as well."""
        fill = """
        if (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then return 0 end
        return redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600) and 1
        """

        def user_cache():
            def get_user(redis, db, user_id):
                key = f"user:{user_id}"
                cached, version = redis.mget(key, f"{key}:version")
                if cached is not None:
                    return json.loads(cached)
                row = db.fetch_one("SELECT * FROM users WHERE id = :id", id=user_id)
                redis.eval(fill, 2, key, f"{key}:version", json.dumps(row), version or "")
                return row

            def update_user(redis, db, user_id, name):
                update = "UPDATE users SET username = :name WHERE id = :id"
                db.execute(update, id=user_id, name=name)
                with redis.pipeline(transaction=True) as pipe:
                    pipe.incr(f"user:{user_id}:version")
                    pipe.delete(f"user:{user_id}")
                    pipe.execute()

            return get_user, update_user

        found = check("01.3", user_cache)
        assert found.passed, str(found)

    def test_a_script_for_what_is_not_there(self):
        """HSET and EXPIRE in one transaction are as good as a SET with a TTL."""

        def get_product(redis, db, product_id):
            key = f"product:{product_id}"
            cached = redis.hget(key, "row")
            if cached is not None:
                return json.loads(cached)
            row = db.fetch_one("SELECT * FROM products WHERE id = :id", id=product_id)
            with redis.pipeline(transaction=True) as pipe:
                pipe.hset(key, "row", json.dumps(row))
                pipe.expire(key, 3600 if row else 30)
                pipe.execute()
            return row

        found = check("01.1", get_product)
        assert found.passed, str(found)
