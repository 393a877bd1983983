"""The exercises of lab 02: what breaks each stub, and other good answers, on both databases."""

import json
from contextlib import suppress

import pytest
from redis.exceptions import WatchError

from labsupport import check, explore
from labsupport.exploration import close_testbed
from labsupport.labs.write_through.exercises import EXERCISES
from tests.exercises.zoo import schedule

RENAME = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id RETURNING *"
PUT = """
local cached = redis.call('GET', KEYS[1])
if cached and cjson.decode(cached).version > tonumber(ARGV[2]) then return 0 end
return redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3]) and 1
"""


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: two writers, two steps, a row that expired."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert schedule(first) == "UPDATE UPDATE SET SET"
    assert schedule(second) == "GET GET SET SET"
    assert "2. ada: expire(1)" in str(third)
    assert "ada was given True; False is due" in third.reason


@pytest.mark.long
def test_a_newer_version_that_has_expired():
    """Two who compare versions harm each other when the newer row is gone: 02.3 is about that."""

    def rename_user(redis, db, user_id, name):
        row = db.fetch_one(RENAME, id=user_id, name=name)
        if row is not None:
            redis.eval(PUT, 1, f"user:{user_id}", json.dumps(row), row["version"], 3600)
        return row

    found = check("02.1", rename_user)
    assert not found.passed
    assert "expire(1)" in str(found)


@pytest.mark.long
class TestOtherGoodAnswers:
    def test_commit_in_a_transaction_then_delete(self):
        """An explicit transaction and UNLINK instead of DEL are as good."""

        def rename_user(redis, db, user_id, name):
            with db.transaction():
                row = db.fetch_one(RENAME, id=user_id, name=name)
            redis.unlink(f"user:{user_id}")
            return row

        found = check("02.1", rename_user)
        assert found.passed, str(found)

    def test_watch_until_it_works(self):
        """WATCH, compare, MULTI, and again when somebody came between."""

        def put_newer(redis, key, row, ttl):
            with redis.pipeline() as pipe:
                while True:
                    try:
                        pipe.watch(key)
                        cached = pipe.get(key)
                        if cached is not None and json.loads(cached)["version"] > row["version"]:
                            return False
                        pipe.multi()
                        pipe.set(key, json.dumps(row), ex=ttl)
                        pipe.execute()
                        return True
                    except WatchError:
                        continue

        found = check("02.2", put_newer)
        assert found.passed, str(found)

    def test_the_row_is_read_again(self):
        """WATCH, the row as it is by now, SET; it may be another's, or come back when it had expired."""

        def rename_user(redis, db, user_id, name):
            row, key = db.fetch_one(RENAME, id=user_id, name=name), f"user:{user_id}"
            for _ in range(3 if row else 0):
                with redis.pipeline() as pipe, suppress(WatchError):
                    pipe.watch(key)
                    now = db.fetch_one("SELECT * FROM users WHERE id = :id", id=user_id)
                    pipe.multi()
                    pipe.set(key, json.dumps(now), ex=3600)
                    pipe.execute()
                    return row
            with redis.pipeline() as pipe:  # a write, so that others notice
                pipe.set(key, "", ex=1).delete(key).execute()
            return row

        found = check("02.1", rename_user)
        assert found.passed, str(found)

    def test_a_registered_script(self):
        """A script by its digest is one step as well."""

        def put_newer(redis, key, row, ttl):
            put = redis.register_script(PUT)
            return put([key], [json.dumps(row), row["version"], ttl]) == 1

        found = check("02.2", put_newer)
        assert found.passed, str(found)

    def test_a_fence_in_a_hash(self):
        """The fence may be of another type, if it changes with the row and lives for a day."""
        script = """
        local fence = redis.call('HGET', KEYS[2], 'newest')
        if fence and tonumber(fence) > tonumber(ARGV[2]) then return 0 end
        redis.call('HSET', KEYS[2], 'newest', ARGV[2])
        redis.call('EXPIRE', KEYS[2], 86400)
        return redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600) and 1
        """

        def put_fenced(redis, user_id, row):
            keys = f"user:{user_id}", f"user:{user_id}:version"
            return redis.eval(script, 2, *keys, json.dumps(row), row["version"]) == 1

        found = check("02.3", put_fenced)
        assert found.passed, str(found)

    def test_a_fence_by_watch(self):
        """So is one that is compared by the client, under WATCH."""

        def put_fenced(redis, user_id, row):
            key, fence = f"user:{user_id}", f"user:{user_id}:version"
            with redis.pipeline() as pipe:
                while True:
                    try:
                        pipe.watch(fence)
                        if int(pipe.get(fence) or 0) > row["version"]:
                            return False
                        pipe.multi()
                        pipe.set(fence, row["version"], ex=86400)
                        pipe.set(key, json.dumps(row), ex=3600)
                        pipe.execute()
                        return True
                    except WatchError:
                        continue

        found = check("02.3", put_fenced)
        assert found.passed, str(found)


@pytest.fixture
def explored(backend):
    """Explorations on each of the two databases; the explorer's own is opened anew."""
    close_testbed()
    yield backend
    close_testbed()


@pytest.mark.usefixtures("explored")
@pytest.mark.long
class TestBothDatabases:
    """One contract: the lab says the same on SQLite and on PostgreSQL."""

    def test_orders(self):
        """Two writers who set have six orders, of which two end apart; who delete, none."""

        def orders(finish):
            def writer(name):
                def client(redis, db):
                    row = db.fetch_one(RENAME, id=1, name=name)
                    finish(redis, json.dumps(row))

                return client

            return explore({"ada": writer("grace"), "bob": writer("alan")}, invariant=same)

        def same(redis, db):
            cached = redis.get("user:1")
            return not cached or json.loads(cached) == db.fetch_one(
                "SELECT * FROM users WHERE id = 1"
            )

        found = orders(lambda redis, text: redis.set("user:1", text))
        assert found.headline == "6 interleavings, 2 break the invariant"
        found = orders(lambda redis, text: redis.delete("user:1"))
        assert found.headline == "6 interleavings, none breaks the invariant"

    @pytest.mark.parametrize("one", EXERCISES, ids=lambda one: one.number)
    def test_exercises(self, one):
        """Each stub is refused, and each solution passes."""
        assert not check(one.number, one.stub).passed
        found = check(one.number, one.solution)
        assert found.passed, str(found)
