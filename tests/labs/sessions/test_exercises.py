"""The exercises of lab 12: what breaks each stub, and other good answers."""

import pytest
from redis.exceptions import WatchError

from labsupport import check
from labsupport.labs.sessions.exercises import EXERCISES
from tests.exercises.zoo import schedule
from tests.labs.sessions.zoo import prolongs_from_the_last_whole_second

END_ALL = """
for _, session in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('DEL', session) end
return redis.call('DEL', KEYS[1])
"""


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: the end, a crash, a sign-in under way."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert "The key 'session:a' lives for 30 s; 20 s is due" in str(first)
    assert "ada was given True and bob was given True. No order of the calls" in str(second)
    assert schedule(third) == "SELECT UPDATE SMEMBERS DEL MULTI/EXEC"


@pytest.mark.long
def test_a_part_of_a_second_is_told():
    """No reason says that a key lives for 30 s, and that 30 s is due."""
    found = check("12.1", prolongs_from_the_last_whole_second)
    assert "The key 'session:a' lives for 29.1 s; 30 s is due" in str(found)


def server_ms(redis):
    seconds, micros = redis.time()
    return seconds * 1000 + micros // 1000


@pytest.mark.long
class TestOtherGoodAnswers:
    def test_counts_first_and_then_prolongs(self):
        """A crash in between leaves a visit that was counted, and the TTL as it was: nothing is lost."""
        count = """
        local ends, time = redis.call('HGET', KEYS[1], 'ends'), redis.call('TIME')
        if not ends or tonumber(ends) <= time[1] * 1000 + math.floor(time[2] / 1000) then return false end
        return {redis.call('HINCRBY', KEYS[1], 'visits', 1), ends}
        """

        def visit(redis, session, idle_ms):
            key = f"session:{session}"
            counted = redis.eval(count, 1, key)
            if not counted:
                return None
            with redis.pipeline(transaction=True) as pipe:
                pipe.pexpire(key, idle_ms)
                pipe.pexpireat(key, int(counted[1]), lt=True)
                pipe.hgetall(key)
                fields = pipe.execute()[2]
            return {**fields, "visits": str(counted[0])} if fields else None

        found = check("12.1", visit)
        assert found.passed, str(found)

    def test_a_visit_with_watch(self):
        """Optimistic locking, tried again until nobody came between, is as good as a script."""

        def visit(redis, session, idle_ms):
            key = f"session:{session}"
            with redis.pipeline(transaction=True) as pipe:
                while True:
                    pipe.watch(key)
                    ends, now = int(pipe.hget(key, "ends") or 0), server_ms(redis)
                    if ends <= now:
                        return None
                    pipe.multi()
                    pipe.hincrby(key, "visits", 1)
                    pipe.pexpireat(key, min(now + idle_ms, ends))
                    pipe.hgetall(key)
                    try:
                        return pipe.execute()[-1]
                    except WatchError:
                        continue

        found = check("12.1", visit)
        assert found.passed, str(found)

    def test_a_visit_that_computes_what_is_left(self):
        """PEXPIRE by the smaller of the two, counted first, ends what is past its end."""

        def visit(redis, session, idle_ms):
            script = """
            local ends, t = redis.call('HGET', KEYS[1], 'ends'), redis.call('TIME')
            local left = (ends or 0) - (t[1] * 1000 + math.floor(t[2] / 1000))
            if left <= 0 then redis.call('DEL', KEYS[1]) return {} end
            redis.call('HINCRBY', KEYS[1], 'visits', 1)
            redis.call('PEXPIRE', KEYS[1], math.min(left, ARGV[1]))
            return redis.call('HGETALL', KEYS[1])
            """
            found = redis.eval(script, 1, f"session:{session}", idle_ms)
            return {found[at]: found[at + 1] for at in range(0, len(found), 2)} or None

        found = check("12.1", visit)
        assert found.passed, str(found)

    def test_a_rotation_with_watch(self):
        """WATCH, look, MULTI, and again after a WatchError."""

        def rotate(redis, user, old, new):
            with redis.pipeline(transaction=True) as pipe:
                while True:
                    pipe.watch(f"session:{old}")
                    if not pipe.exists(f"session:{old}"):
                        return False
                    pipe.multi()
                    pipe.rename(f"session:{old}", f"session:{new}")
                    pipe.hset(f"session:{new}", "user", user)
                    pipe.sadd(f"sessions:{user}", new)
                    pipe.expire(f"sessions:{user}", 28_800)
                    try:
                        return bool(pipe.execute())
                    except WatchError:
                        continue

        found = check("12.2", rotate)
        assert found.passed, str(found)

    def test_a_rotation_by_copy(self):
        """COPY and DEL in one script do what RENAME does."""

        def rotate(redis, user, old, new):
            script = """
            if redis.call('COPY', KEYS[1], KEYS[2]) == 0 then return false end
            redis.call('DEL', KEYS[1])
            redis.call('HSET', KEYS[2], 'user', ARGV[1])
            redis.call('SADD', KEYS[3], ARGV[2])
            redis.call('EXPIRE', KEYS[3], 28800)
            return 1
            """
            keys = f"session:{old}", f"session:{new}", f"sessions:{user}"
            return redis.eval(script, 3, *keys, user, new) == 1

        found = check("12.2", rotate)
        assert found.passed, str(found)

    def test_a_sign_in_that_watches_the_count(self):
        """WATCH on a counter that every revocation changes, before the row is read."""

        def accounts():
            def sign_in(redis, db, user_id, email, session):
                key, index, ended = f"session:{session}", f"sessions:{user_id}", f"ended:{user_id}"
                with redis.pipeline(transaction=True) as pipe:
                    pipe.watch(ended)
                    row = db.fetch_one("SELECT * FROM users WHERE id = :id", id=user_id)
                    if row["email"] != email:
                        return False
                    pipe.multi()
                    pipe.set(key, user_id, ex=3600)
                    pipe.sadd(index, key).expire(index, 3600)
                    try:
                        return bool(pipe.execute())
                    except WatchError:
                        return False

            def change_email(redis, db, user_id, email):
                db.execute(
                    "UPDATE users SET email = :email WHERE id = :id", email=email, id=user_id
                )
                redis.incr(f"ended:{user_id}")
                redis.eval(END_ALL, 1, f"sessions:{user_id}")

            return sign_in, change_email

        found = check("12.3", accounts)
        assert found.passed, str(found)

    def test_a_sign_in_with_a_pass_of_its_own(self):
        """A pass for each sign-in, which a change of the address makes void, as with a lease."""
        begin = """
        if redis.call('SREM', KEYS[3], ARGV[2]) == 0 then return 0 end
        redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
        redis.call('SADD', KEYS[2], KEYS[1])
        return redis.call('EXPIRE', KEYS[2], 3600)
        """

        def accounts():
            def sign_in(redis, db, user_id, email, session):
                keys = f"session:{session}", f"sessions:{user_id}", f"passes:{user_id}"
                redis.pipeline().sadd(keys[2], session).expire(keys[2], 60).execute()
                row = db.fetch_one("SELECT * FROM users WHERE id = :id", id=user_id)
                if row["email"] != email:
                    return False
                return bool(redis.eval(begin, 3, *keys, user_id, session))

            def change_email(redis, db, user_id, email):
                db.execute(
                    "UPDATE users SET email = :email WHERE id = :id", email=email, id=user_id
                )
                redis.delete(f"passes:{user_id}")
                redis.eval(END_ALL, 1, f"sessions:{user_id}")

            return sign_in, change_email

        found = check("12.3", accounts)
        assert found.passed, str(found)
