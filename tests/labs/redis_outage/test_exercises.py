"""The exercises of lab 13: what breaks each stub, and other good answers."""

from contextlib import suppress

import pytest
from redis.exceptions import (
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    WatchError,
)

from labsupport import check
from labsupport.labs.redis_outage import checks
from labsupport.labs.redis_outage.exercises import EXERCISES


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: a second call, one's own lock, the database."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert "ada was given 2; 1 is due" in first.reason
    assert "ada was given False; True is due" in second.reason
    assert third.reason.startswith("Redis is there: the answer raised DatabaseAwayError")


@pytest.mark.long
def test_a_server_that_is_late_is_not_away(monkeypatch):
    """Only where Redis is stopped does the client of 13.3 wait so shortly that a busy machine is late."""
    monkeypatch.setattr(checks, "_SILENCE_SECONDS", 0.000_001)
    found = EXERCISES[2].check(EXERCISES[2].solution)
    assert found.passed, str(found)


@pytest.mark.long
class TestOtherGoodAnswers:
    def test_watch_counts_once(self):
        """The note is watched; whoever was second starts again and finds it."""

        def count_once(redis, page, visit):
            def count(pipe):
                known = pipe.exists(note)
                pipe.multi()
                if not known:
                    pipe.incr(f"visits:{page}")
                    pipe.set(note, 1, ex=86_400)
                else:
                    pipe.get(f"visits:{page}")

            note = f"visits:{page}:{visit}"
            return int(redis.transaction(count, note)[0])

        found = check("13.1", count_once)
        assert found.passed, str(found)

    def test_watch_that_is_lost(self):
        """When the reply is lost to one who watches, redis-py raises; its caller asks again."""

        def count_once(redis, page, visit):
            note = f"visits:{page}:{visit}"
            while True:
                with redis.pipeline() as pipe:
                    pipe.watch(note)
                    if pipe.exists(note):
                        return int(pipe.get(f"visits:{page}"))
                    pipe.multi()
                    pipe.set(note, 1, ex=86_400).incr(f"visits:{page}")
                    with suppress(WatchError):
                        return pipe.execute()[1]

        found = check("13.1", count_once)
        assert found.passed, str(found)

    def test_a_count_that_is_there_before(self):
        """Whoever puts a 0 first, and then crashes, has counted nothing."""
        script = """
        if redis.call('SET', KEYS[2], 1, 'NX', 'EX', 86400) then redis.call('INCR', KEYS[1]) end
        return tonumber(redis.call('GET', KEYS[1]))
        """

        def count_once(redis, page, visit):
            redis.set(f"visits:{page}", 0, nx=True)
            return redis.eval(script, 2, f"visits:{page}", f"visits:{page}:{visit}")

        found = check("13.1", count_once)
        assert found.passed, str(found)

    def test_watch_takes(self):
        """Looking and taking under WATCH is as good as a script."""

        def take_lock(redis, name, token, ms):
            def take(pipe):
                holder = pipe.get(f"lock:{name}")
                pipe.multi()
                if holder in (None, token):
                    pipe.set(f"lock:{name}", token, px=ms)
                return holder in (None, token)

            return redis.transaction(take, f"lock:{name}", value_from_callable=True)

        found = check("13.2", take_lock)
        assert found.passed, str(found)

    def test_what_the_server_says_is_a_bug(self):
        """Who lets an answer of the server be a bug, unless it is busy, full or a replica, is right, too."""

        def get_page(redis, key, load, kept):
            def ask(command, *args, **options):
                try:
                    return command(*args, **options)
                except (OutOfMemoryError, ReadOnlyError):
                    return None
                except ResponseError as error:
                    if not str(error).startswith("BUSY "):
                        raise
                except RedisError:
                    return None

            page = ask(redis.get, key)
            if page is None:
                try:
                    page = load(key)
                except Exception:
                    if key in kept:
                        return kept[key]
                    raise
                ask(redis.set, key, page, 60)
            kept[key] = page
            return page

        found = check("13.3", get_page)
        assert found.passed, str(found)
