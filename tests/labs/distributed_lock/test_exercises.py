"""The exercises of lab 07: what breaks each stub, and other good answers."""

import random
import time

import pytest

from labsupport import check
from labsupport.labs.distributed_lock.exercises import EXERCISES
from tests.exercises.zoo import schedule


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: a stranger's free, an old number, a late write."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert "bob: renew('lock:kettle', '1', 60)" in str(first)
    assert "bob was given True; False is due" in first.reason
    assert schedule(second) == "INCRBY INCRBY SET EVAL SET EVAL"
    assert schedule(third) == "SELECT SELECT UPDATE UPDATE"


@pytest.mark.long
class TestOtherGoodAnswers:
    def test_lock_of_redis_py(self):
        """redis-py's own scripts do what 07.1 asks for."""

        def own_lock():
            def lock_of(redis, name, ttl, token=None):
                lock = redis.lock(name, timeout=ttl, sleep=0.01, thread_local=False)
                lock.local.token = token
                return lock

            def take(redis, name, ttl):
                lock = lock_of(redis, name, ttl)
                lock.acquire()
                return lock.local.token

            def told(call):
                try:
                    call()
                except Exception as error:
                    if type(error).__name__ != "LockNotOwnedError":
                        raise
                    return False
                return True

            def renew(redis, name, token, ttl):
                lock = lock_of(redis, name, ttl, token)
                return told(lambda: lock.extend(ttl, replace_ttl=True))

            def free(redis, name, token):
                return told(lock_of(redis, name, 1, token).release)

            return take, renew, free

        found = check("07.1", own_lock)
        assert found.passed, str(found)

    def test_generator_of_its_own(self):
        """It goes on, and does not draw again what it drew for one who has crashed."""

        def own_lock():
            _, renew, free = EXERCISES[0].solution()
            chance = random.Random()

            def take(redis, name, ttl):
                token = f"{chance.getrandbits(128):032x}"
                while not redis.set(name, token, nx=True, px=int(ttl * 1000)):
                    time.sleep(chance.uniform(0.001, 0.02))
                return token

            return take, renew, free

        found = check("07.1", own_lock)
        assert found.passed, str(found)

    @pytest.mark.parametrize("longer", [1, 2], ids=["a third of its life", "longer and longer"])
    def test_long_sleeps(self, longer):
        """Who waits may sleep as long as it likes between two attempts."""

        def numbered_lock(redis, name, ttl):
            script = """
            if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
            local number = redis.call('INCR', KEYS[2])
            redis.call('SET', KEYS[1], number, 'PX', ARGV[1])
            return number
            """
            keys, pause = (name, f"{name}:number"), ttl / 3
            while not (number := redis.eval(script, 2, *keys, int(ttl * 1000))):
                time.sleep(pause)
                pause *= longer
            return number

        found = check("07.2", numbered_lock)
        assert found.passed, str(found)

    def test_token_of_letters(self):
        """The module random does not draw again what it drew for one who has crashed."""

        def own_lock():
            _, renew, free = EXERCISES[0].solution()

            def take(redis, name, ttl):
                token = "".join(random.choices("abcdefgh", k=32))
                while not redis.set(name, token, nx=True, px=int(ttl * 1000)):
                    time.sleep(0.01)
                return token

            return take, renew, free

        found = check("07.1", own_lock)
        assert found.passed, str(found)

    def test_transaction_that_watches(self):
        """WATCH and MULTI free and renew as safely as a script."""

        def own_lock():
            def if_mine(redis, name, token, act):
                with redis.pipeline() as pipe:
                    pipe.watch(name)
                    if pipe.get(name) != token:
                        return False
                    pipe.multi()
                    act(pipe)
                    try:
                        return bool(pipe.execute()[0])
                    except Exception as error:
                        if type(error).__name__ != "WatchError":
                            raise
                        return False

            take = EXERCISES[0].solution()[0]

            def renew(redis, name, token, ttl):
                return if_mine(redis, name, token, lambda pipe: pipe.pexpire(name, int(ttl * 1000)))

            def free(redis, name, token):
                return if_mine(redis, name, token, lambda pipe: pipe.delete(name))

            return take, renew, free

        found = check("07.1", own_lock)
        assert found.passed, str(found)

    def test_keeps_more_than_the_lock(self):
        """What a lock keeps beside its key is its own, if it has a TTL."""

        def own_lock():
            take, renew, free = EXERCISES[0].solution()

            def noted(redis, name, ttl):
                token = take(redis, name, ttl)
                with redis.pipeline() as pipe:
                    pipe.rpush(f"{name}:holders", token)
                    pipe.expire(f"{name}:holders", 3600)
                    pipe.execute()
                return token

            return noted, renew, free

        found = check("07.1", own_lock)
        assert found.passed, str(found)

    def test_set_in_the_script(self):
        """The counter may be raised in a script that tries the SET first."""
        script = """
        if not redis.call('SET', KEYS[1], 0, 'NX', 'PX', ARGV[1]) then return 0 end
        local number = redis.call('INCR', KEYS[2])
        redis.call('SET', KEYS[1], number, 'XX', 'KEEPTTL')
        return number
        """

        def numbered_lock(redis, name, ttl):
            while True:
                number = redis.eval(script, 2, name, f"{name}:number", int(ttl * 1000))
                if number:
                    return number
                time.sleep(0.01)

        found = check("07.2", numbered_lock)
        assert found.passed, str(found)

    def test_watch_and_both_in_a_transaction(self):
        """The lock and the counter may be watched, and both set in a MULTI."""

        def numbered_lock(redis, name, ttl):
            def take(pipe):
                held = pipe.exists(name)
                number = int(pipe.get("numbers") or 0) + 1
                pipe.multi()
                if held:
                    return 0
                pipe.set("numbers", number)
                pipe.set(name, number, px=int(ttl * 1000))
                return number

            watched = (name, "numbers")
            while not (number := redis.transaction(take, *watched, value_from_callable=True)):
                time.sleep(0.01)
            return number

        found = check("07.2", numbered_lock)
        assert found.passed, str(found)

    def test_equal_number_may_sell(self):
        """Whether a second holder with the same number sells is left open."""

        def sell_once(db, fence):
            sql = (
                "UPDATE products SET stock = stock - 1, fence = :fence"
                " WHERE id = 1 AND fence <= :fence AND stock > 0"
            )
            return db.execute(sql, fence=fence) == 1

        found = check("07.3", sell_once)
        assert found.passed, str(found)

    def test_claim_that_returns_the_row(self):
        """RETURNING claims and reads in one statement."""

        def sell_once(db, fence):
            claim = "UPDATE products SET fence = :fence WHERE id = 1 AND fence < :fence"
            row = db.fetch_one(claim + " RETURNING stock", fence=fence)
            if row is None or row["stock"] == 0:
                return False
            sql = "UPDATE products SET stock = stock - 1 WHERE id = 1 AND fence = :fence"
            return db.execute(sql, fence=fence) == 1

        found = check("07.3", sell_once)
        assert found.passed, str(found)

    def test_one_statement(self):
        """One statement that compares, claims and sells is the shortest right answer."""

        def sell_once(db, fence):
            sql = (
                "UPDATE products SET stock = stock - 1, fence = :fence"
                " WHERE id = 1 AND fence < :fence AND stock > 0"
            )
            return db.execute(sql, fence=fence) == 1

        found = check("07.3", sell_once)
        assert found.passed, str(found)
