"""The exercises of lab 04: what breaks each stub, and other good answers, on both databases."""

import secrets

import pytest

from labsupport import check
from labsupport.errors import StatementError
from labsupport.exploration import close_testbed
from labsupport.labs.cache_invalidation.exercises import EXERCISES
from tests.exercises.zoo import schedule

RENAME = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id"


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: a key left behind, a gap, a crash."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert "named:ada in the cache" in str(first)
    assert "A lost connection: the copies of" in second.reason
    assert schedule(third) == "UPDATE COMMIT crash:DEL"


@pytest.mark.long
class TestOtherGoodAnswers:
    def test_the_leases_first(self):
        """In two steps, too, if the leases go first: then nobody may fill what is deleted next."""

        def rename_user(redis, db, user_id, name):
            with db.transaction():
                old = db.fetch_one("SELECT username FROM users WHERE id = :id", id=user_id)
                db.execute(RENAME, id=user_id, name=name)
            names = [name, old["username"]] if old else [name]
            keys = [f"user:{user_id}", *(f"named:{one}" for one in names)]
            redis.delete(*(f"{key}:lease" for key in keys))
            redis.delete(*keys)
            return old is not None

        found = check("04.1", rename_user)
        assert found.passed, str(found)

    def test_a_script_that_deletes(self):
        """The delete may be a script, and a version that is compared is as good as a transaction."""

        def rename_user(redis, db, user_id, name):
            while True:
                old = db.fetch_one("SELECT username, version FROM users WHERE id = :id", id=user_id)
                if old is None:
                    return False
                version = old["version"]
                if db.execute(f"{RENAME} AND version = :v", id=user_id, name=name, v=version):
                    break
            script = "for _, key in ipairs(KEYS) do redis.call('DEL', key, key .. ':lease') end"
            redis.eval(script, 3, f"user:{user_id}", f"named:{name}", f"named:{old['username']}")
            return True

        found = check("04.1", rename_user)
        assert found.passed, str(found)

    def test_forgets_at_each_message_of_any_kind(self):
        """To forget everything, whatever is heard, costs more loads and is as true."""

        def listen(subscriber, local):
            for _ in subscriber.listen():
                local.clear()

        found = check("04.2", listen)
        assert found.passed, str(found)

    def test_asks_for_messages(self):
        """`get_message` in a loop hears of subscriptions as well."""

        def listen(subscriber, local):
            while True:
                message = subscriber.get_message(timeout=1.0)
                if message and message["type"] == "message":
                    local.pop(message["data"], None)
                elif message:
                    local.clear()

        found = check("04.2", listen)
        assert found.passed, str(found)

    def test_scripts_and_a_shorter_announcement(self):
        """Scripts announce and release; half a minute is long enough."""
        announce = """
        redis.call('DEL', KEYS[1], KEYS[2])
        redis.call('ZADD', KEYS[3], redis.call('TIME')[1] + 30, ARGV[1])
        return redis.call('EXPIRE', KEYS[3], 30)
        """
        release = "redis.call('DEL', KEYS[1], KEYS[2]) return redis.call('ZREM', KEYS[3], ARGV[1])"

        def announce_user(redis, db, user_id, name):
            token = secrets.token_urlsafe()
            keys = [f"user:{user_id}{part}" for part in ("", ":lease", ":writers")]
            redis.eval(announce, 3, *keys, token)
            try:
                with db.transaction():
                    db.execute(RENAME, id=user_id, name=name)
            finally:
                redis.eval(release, 3, *keys, token)

        found = check("04.3", announce_user)
        assert found.passed, str(found)

    def test_releases_in_two_steps(self):
        """The deadline may come from TIME, and the token may go after the delete, in steps of their own."""

        def announce_user(redis, db, user_id, name):
            token = secrets.token_urlsafe()
            key, lease, writers = (f"user:{user_id}{part}" for part in ("", ":lease", ":writers"))
            deadline = redis.time()[0] + 20
            with redis.pipeline(transaction=True) as pipe:
                pipe.zadd(writers, {token: deadline}).expire(writers, 20).delete(key, lease)
                pipe.execute()
            try:
                db.execute(RENAME, id=user_id, name=name)
            finally:
                redis.delete(key, lease)
                redis.zrem(writers, token)

        found = check("04.3", announce_user)
        assert found.passed, str(found)

    def test_announces_behind_the_update(self):
        """Within the transaction: what fails before has announced nothing; an error may be told as False."""

        def announce_user(redis, db, user_id, name):
            key, token = f"user:{user_id}", secrets.token_urlsafe()
            try:
                with db.transaction():
                    db.execute(RENAME, id=user_id, name=name)
                    with redis.pipeline(transaction=True) as pipe:
                        pipe.zadd(f"{key}:writers", {token: redis.time()[0] + 60})
                        pipe.expire(f"{key}:writers", 60).delete(key, f"{key}:lease").execute()
            except StatementError:
                return False
            with redis.pipeline(transaction=True) as pipe:
                pipe.delete(key, f"{key}:lease").zrem(f"{key}:writers", token).execute()
            return True

        found = check("04.3", announce_user)
        assert found.passed, str(found)

    @pytest.mark.parametrize("ttl", [None, 3600])
    def test_deadlines_alone_end_an_announcement(self, ttl):
        """Once its deadline is past, what a crashed writer has left keeps nobody out, TTL or not."""

        def announce_user(redis, db, user_id, name):
            key, token = f"user:{user_id}", secrets.token_urlsafe()
            with redis.pipeline(transaction=True) as pipe:
                pipe.zadd(f"{key}:writers", {token: redis.time()[0] + 58})
                if ttl:
                    pipe.expire(f"{key}:writers", ttl)
                pipe.delete(key, f"{key}:lease").execute()
            try:
                with db.transaction():
                    db.execute(RENAME, id=user_id, name=name)
            finally:
                with redis.pipeline(transaction=True) as pipe:
                    pipe.delete(key, f"{key}:lease").zrem(f"{key}:writers", token).execute()

        found = check("04.3", announce_user)
        assert found.passed, str(found)


@pytest.fixture
def explored(backend):
    """Explorations on the database that is chosen; the explorer's own is opened anew."""
    close_testbed()
    yield backend
    close_testbed()


@pytest.mark.long
@pytest.mark.usefixtures("explored")
@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
@pytest.mark.parametrize("one", EXERCISES, ids=lambda one: one.number)
def test_on_postgresql(one):
    """One contract: each stub is refused and each solution passes there, too."""
    assert not check(one.number, one.stub).passed
    found = check(one.number, one.solution)
    assert found.passed, str(found)
