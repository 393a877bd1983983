"""The exercises of lab 01: what breaks each stub, and other good answers."""

import json
import random
import secrets
import time
from collections import deque
from contextlib import suppress

import pytest
from greenlet import getcurrent, greenlet
from redis.exceptions import LockError

from labsupport import check
from labsupport.labs.cache_aside.checks import PatientHerd
from labsupport.labs.cache_aside.exercises import EXERCISES
from labsupport.servers import start_server
from tests.exercises.zoo import schedule

RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: what is not there, a second load, an old row."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert "is not there; a value is due" in first.reason
    assert schedule(second) == "GET RPUSH GET RPUSH SET SET"
    assert schedule(third) == "GET SELECT UPDATE DEL SET"


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


@pytest.mark.long
class TestOtherGoodAnswers:
    def test_jitter(self):
        """A TTL with jitter is as good as a round one."""

        def get_product(redis, db, product_id):
            key = f"product:{product_id}"
            cached = redis.get(key)
            if cached is not None:
                return json.loads(cached) if cached else None
            row = db.fetch_one("SELECT * FROM products WHERE id = :id", id=product_id)
            ms = random.randint(31_000, 59_000) * (60 if row else 1)
            redis.set(key, json.dumps(row) if row else "", px=ms)
            return row

        found = check("01.1", get_product)
        assert found.passed, str(found)

    def test_fills_only_what_nobody_has_filled(self):
        """What another has put there is left alone, and returned."""

        def get_product(redis, db, product_id):
            key = f"product:{product_id}"
            if (cached := redis.get(key)) is None:
                row = db.fetch_one("SELECT * FROM products WHERE id = :id", id=product_id)
                seconds = 45 if row is None else 2700
                cached = redis.set(key, json.dumps(row), nx=True, get=True, ex=seconds)
            return row if cached is None else json.loads(cached)

        found = check("01.1", get_product)
        assert found.passed, str(found)

    def test_who_holds_it(self):
        """SET NX GET tells whose the lock is; and the wait may grow."""

        def fetch_once(redis, key, load, ttl):
            free = redis.register_script(RELEASE)
            lock, token, wait = f"{key}:lock", secrets.token_hex(16), 0.002
            while (cached := redis.get(key)) is None:
                if redis.set(lock, token, nx=True, get=True, px=10_000) is None:
                    try:
                        cached = redis.get(key)
                        if cached is None:
                            cached = json.dumps(load())
                            redis.set(key, cached, px=int(ttl * 1000))
                    finally:
                        free([lock], [token])
                    break
                time.sleep(wait)
                wait = min(wait * 2, 0.05)
            return json.loads(cached)

        found = check("01.2", fetch_once)
        assert found.passed, str(found)

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

    def test_a_pause_of_five_seconds(self):
        """Who sleeps for long between two attempts is served late, and not never."""

        def fetch_once(redis, key, load, ttl):
            while (cached := redis.get(key)) is None:
                if not redis.set(f"{key}:lock", "", nx=True, px=10_000):
                    time.sleep(5)
                    continue
                cached = json.dumps(load())
                redis.set(key, cached, px=int(ttl * 1000))
                redis.delete(f"{key}:lock")
            return json.loads(cached)

        found = PatientHerd(clients=2, processes=1, seconds=0.5, ttl_seconds=0.3).run(
            fetch_once, live=False
        )
        assert found.verdict.status == "holds", str(found.verdict)

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
                pipe.expire(key, 3600 if row else 45)
                pipe.execute()
            return row

        found = check("01.1", get_product)
        assert found.passed, str(found)

    def test_rows_by_version(self):
        """A rename that counts in version, and leaves the newest as a fence, keeps old rows out."""
        fill = """
        if tonumber(redis.call('GET', KEYS[2]) or 0) > tonumber(ARGV[2]) then return end
        redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
        """
        fence = """
        if tonumber(redis.call('GET', KEYS[2]) or 0) < tonumber(ARGV[1]) then
          redis.call('SET', KEYS[2], ARGV[1])
        end
        redis.call('DEL', KEYS[1])
        """
        rename = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id"

        def user_cache():
            def get_user(redis, db, user_id):
                keys = f"user:{user_id}", f"user:{user_id}:fence"
                if (cached := redis.get(keys[0])) is not None:
                    return json.loads(cached)
                row = db.fetch_one("SELECT * FROM users WHERE id = :id", id=user_id)
                redis.eval(fill, 2, *keys, json.dumps(row), row["version"])
                return row

            def update_user(redis, db, user_id, name):
                row = db.fetch_one(f"{rename} RETURNING version", id=user_id, name=name)
                redis.eval(fence, 2, f"user:{user_id}", f"user:{user_id}:fence", row["version"])

            return get_user, update_user

        found = check("01.3", user_cache)
        assert found.passed, str(found)
