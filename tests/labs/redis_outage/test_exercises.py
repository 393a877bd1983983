"""The exercises of lab 13: what breaks each stub, and other good answers."""

from redis.exceptions import RedisError

from labsupport import check
from labsupport.labs.redis_outage.exercises import EXERCISES


def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: a second call, one's own lock, the database."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert "ada was given 2; 1 is due" in first.reason
    assert "ada was given False; True is due" in second.reason
    assert third.reason.startswith("Redis is there: the answer raised DatabaseAwayError")


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

    def test_take_then_read(self):
        """Whose lock it is can be read afterwards: nobody else gives it to me or takes it from me."""

        def try_lock(redis, name, token, ms):
            redis.set(f"lock:{name}", token, nx=True, px=ms)
            return redis.get(f"lock:{name}") == token

        found = check("13.2", try_lock)
        assert found.passed, str(found)

    def test_script_takes(self):
        """A script that looks and takes is as good as SET NX GET."""

        def try_lock(redis, name, token, ms):
            script = """
            local holder = redis.call('GET', KEYS[1])
            if holder then return holder == ARGV[1] and 1 or 0 end
            redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
            return 1
            """
            return redis.eval(script, 1, f"lock:{name}", token, ms) == 1

        found = check("13.2", try_lock)
        assert found.passed, str(found)

    def test_by_the_text_of_the_error(self):
        """Who tells a bug from an outage by its text alone is right, too."""

        def get_page(redis, key, load, kept):
            def ask(command, *args, **options):
                try:
                    return command(*args, **options)
                except RedisError as error:
                    if "WRONGTYPE" in str(error):
                        raise

            page = ask(redis.get, key)
            if page is None:
                try:
                    page = load(key)
                except Exception:
                    if key in kept:
                        return kept[key]
                    raise
                ask(redis.setex, key, 60, page)
            kept[key] = page
            return page

        found = check("13.3", get_page)
        assert found.passed, str(found)
