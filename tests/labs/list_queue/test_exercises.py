"""The exercises of lab 10: what breaks each stub, and other good answers."""

from contextlib import suppress

import pytest
from redis.exceptions import WatchError

from labsupport import check
from labsupport.labs.list_queue.exercises import EXERCISES


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: a job in hand, no count, no clock."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert "jobs:ada = ['a']" in str(first)  # left by a worker that was killed
    assert "ada was given None; 'a' (str) is due" in first.reason
    assert "attempts is not there; {'a': '1'} is due" in str(second)
    assert "ada was given 1; 0 is due" in str(third)


@pytest.mark.long
class TestOtherGoodAnswers:
    def test_back_to_where_it_came_from(self):
        """What a killed worker has left goes back to jobs first, and is then taken like any other."""

        def work_once(redis, me, handle):
            mine = f"jobs:{me}"
            while redis.lmove(mine, "jobs", "LEFT", "RIGHT"):
                pass
            job = redis.lmove("jobs", mine, "RIGHT", "LEFT")
            if job is None:
                return None
            handle(job)
            redis.lpop(mine)
            return job

        found = check("10.1", work_once)
        assert found.passed, str(found)

    def test_back_to_the_others_after_an_error(self):
        """A job whose handling fails stays in a list: in that of all, too, so that another may try."""

        def work_once(redis, me, handle):
            mine = f"jobs:{me}"
            left = redis.lrange(mine, -1, -1)
            job = left[0] if left else redis.rpoplpush("jobs", mine)
            if job is None:
                return None
            try:
                handle(job)
            except Exception:
                redis.lmove(mine, "jobs", "RIGHT", "RIGHT")
                raise
            redis.rpop(mine)
            return job

        found = check("10.1", work_once)
        assert found.passed, str(found)

    def test_waits_for_a_job(self):
        """BLMOVE with a timeout, and the other end of what was left."""

        def work_once(redis, me, handle):
            mine = f"jobs:{me}"
            left = redis.lrange(mine, 0, 0)
            job = left[0] if left else redis.blmove("jobs", mine, 1, "RIGHT", "LEFT")
            if job is not None:
                handle(job)
                redis.lrem(mine, 1, job)
            return job

        found = check("10.1", work_once)
        assert found.passed, str(found)

    def test_taken_in_a_script(self):
        """A script that looks into both lists takes a job in one step."""

        def work_once(redis, me, handle):
            take = """
            return redis.call('LINDEX', KEYS[2], -1)
              or redis.call('LMOVE', KEYS[1], KEYS[2], 'RIGHT', 'LEFT')
            """
            job = redis.eval(take, 2, "jobs", f"jobs:{me}")
            if job is not None:
                handle(job)
                redis.lrem(f"jobs:{me}", -1, job)
            return job

        found = check("10.1", work_once)
        assert found.passed, str(found)

    def test_one_script_for_each_job(self):
        """A reaper may look in many steps, as long as one script moves and counts a job."""

        def reap(redis):
            script = """
            if redis.call('EXISTS', KEYS[5]) == 1 then return 0 end
            local job = redis.call('LPOP', KEYS[1])
            if not job then return 0 end
            if redis.call('HINCRBY', KEYS[2], job, 1) < 3 then
              redis.call('RPUSH', KEYS[3], job)
            else
              redis.call('RPUSH', KEYS[4], job)
            end
            return 1
            """
            found = 0
            for name in sorted(redis.smembers("workers")):
                keys = f"jobs:{name}", "attempts", "jobs", "dead", f"lease:{name}"
                while redis.eval(script, 5, *keys):
                    found += 1
            return found

        found = check("10.2", reap)
        assert found.passed, str(found)

    def test_transaction_that_watches_a_list(self):
        """WATCH the list and the count, look, and move in a MULTI: as safe as a script."""

        def give_back(redis, name):
            mine = f"jobs:{name}"
            with redis.pipeline() as pipe, suppress(WatchError):
                pipe.watch(mine, f"lease:{name}", "attempts")
                job = pipe.lindex(mine, 0)
                if job is None or pipe.exists(f"lease:{name}"):
                    return None
                again = int(pipe.hget("attempts", job) or 0) + 1 < 3
                pipe.multi()
                pipe.lpop(mine)
                pipe.hincrby("attempts", job, 1)
                pipe.rpush("jobs" if again else "dead", job)
                pipe.execute()
                return True
            return False  # somebody was quicker: look again

        def reap(redis):
            found = 0
            for name in sorted(redis.smembers("workers")):
                while (done := give_back(redis, name)) is not None:
                    found += done
            return found

        found = check("10.2", reap)
        assert found.passed, str(found)

    def test_removes_before_it_pushes(self):
        """In a script the order of the two does not matter, and ZPOPMIN may look at one at a time."""

        def release_due(redis):
            script = """
            local now, moved = redis.call('TIME'), 0
            local ms = now[1] * 1000 + now[2] / 1000
            while true do
              local first = redis.call('ZPOPMIN', KEYS[1])
              if not first[1] then return moved end
              if tonumber(first[2]) > ms then
                redis.call('ZADD', KEYS[1], first[2], first[1])
                return moved
              end
              redis.call('LPUSH', KEYS[2], first[1])
              moved = moved + 1
            end
            """
            return redis.eval(script, 2, "later", "jobs")

        found = check("10.3", release_due)
        assert found.passed, str(found)

    def test_server_time_and_a_script_for_each(self):
        """TIME may be asked from outside: it is the server's, and whoever removes the job moves it."""

        def release_due(redis):
            move = """
            if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
            redis.call('LPUSH', KEYS[2], ARGV[1])
            return 1
            """
            seconds, micros = redis.time()
            due = redis.zrange("later", "-inf", seconds * 1000 + micros // 1000, byscore=True)
            return sum(redis.eval(move, 2, "later", "jobs", job) for job in due)

        found = check("10.3", release_due)
        assert found.passed, str(found)

    def test_transaction_that_watches_the_set(self):
        """WATCH the set, then LPUSH and ZREM of all that is due in one MULTI."""

        def release_due(redis):
            with redis.pipeline() as pipe:
                while True:
                    pipe.watch("later")
                    seconds, micros = pipe.time()
                    due = pipe.zrangebyscore("later", 0, seconds * 1000 + micros // 1000)
                    if not due:
                        return 0
                    pipe.multi()
                    pipe.lpush("jobs", *due)
                    pipe.zrem("later", *due)
                    with suppress(WatchError):
                        return pipe.execute()[1]

        found = check("10.3", release_due)
        assert found.passed, str(found)
