"""The exercises of lab 05: what breaks each stub, and other good answers."""

import math
import secrets

import pytest
from redis.exceptions import WatchError

from labsupport import check
from labsupport.labs.sliding_window.exercises import EXERCISES

LIST = """
local limit, window, now = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] and tonumber(ARGV[3])
local time = redis.call('TIME')
now = now or time[1] * 1000000 + time[2]
while true do
  local oldest = redis.call('LINDEX', KEYS[1], -1)
  if not oldest or now - oldest < window then break end
  redis.call('RPOP', KEYS[1])
end
local used = redis.call('LLEN', KEYS[1])
if used >= limit then
  return {0, 0, redis.call('LINDEX', KEYS[1], limit - 1) + window - now}
end
redis.call('LPUSH', KEYS[1], string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
return {1, limit - used - 1, 0}
"""


def in_a_list(redis, key, limit, window, *now):
    args = [round(seconds * 1e6) for seconds in (window, *now)]
    allowed, left, wait = redis.eval(LIST, 1, key, limit, *args)
    return bool(allowed), left, wait / 1e6


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: refusals that count, a clock, a half refusal."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert "ada was given (False, 0, 60); (False, 0, 45) is due" in str(first)
    assert "ada was given (False, 0, 59.75); (False, 0, 0.25) is due" in str(second)
    assert "ada was given (False, 0, 0.5); (False, 0, 0.25) is due" in str(third)


@pytest.mark.long
class TestOtherGoodAnswers:
    def test_a_list(self):
        """A list of moments, newest first, is as good a log as a sorted set."""
        found = check("05.1", in_a_list)
        assert found.passed, str(found)

    def test_optimistic(self):
        """WATCH decides in Python, and starts again when somebody came between."""

        def allow(redis, key, limit, window, now):
            while True:
                with redis.pipeline() as pipe:
                    pipe.watch(key)
                    bound = f"({now - window!r}"
                    calls = pipe.zrange(key, bound, "+inf", byscore=True, withscores=True)
                    if len(calls) >= limit:
                        return False, 0, calls[-limit][1] + window - now
                    pipe.multi()
                    pipe.zremrangebyscore(key, "-inf", now - window)
                    pipe.zadd(key, {secrets.token_hex(8): now})
                    pipe.expire(key, math.ceil(window))
                    try:
                        pipe.execute()
                    except WatchError:
                        continue
                return True, limit - len(calls) - 1, 0

        found = check("05.1", allow)
        assert found.passed, str(found)

    def test_a_list_by_the_servers_clock(self):
        """The same list, and the time of the server."""
        found = check(
            "05.2", lambda redis, key, limit, window, clock: in_a_list(redis, key, limit, window)
        )
        assert found.passed, str(found)

    def test_a_log_for_each_limit(self):
        """A log for each limit, all of them looked at before any is added to."""
        script = """
        local now, left, wait = tonumber(ARGV[1]), math.huge, 0
        for i, key in ipairs(KEYS) do
          local limit, window = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2])
          redis.call('ZREMRANGEBYSCORE', key, '-inf', now - window)
          local used = redis.call('ZCARD', key)
          left = math.min(left, limit - used)
          local first = redis.call('ZRANGE', key, used - limit, used - limit, 'WITHSCORES')[2]
          if used >= limit then wait = math.max(wait, first + window - now) end
        end
        if left <= 0 then return {0, 0, tostring(wait)} end
        for i, key in ipairs(KEYS) do
          redis.call('ZADD', key, now, ARGV[2])
          redis.call('EXPIRE', key, math.ceil(ARGV[2 * i + 2]))
        end
        return {1, left - 1, '0'}
        """

        def allow_all(redis, key, limits, now):
            keys = [f"{key}:{window}" for _, window in limits]
            pairs = [number for pair in limits for number in pair]
            args = (now, secrets.token_hex(8), *pairs)
            allowed, left, wait = redis.eval(script, len(keys), *keys, *args)
            return allowed == 1, left, float(wait)

        found = check("05.3", allow_all)
        assert found.passed, str(found)


def test_wrong_forms():
    """What is not (allowed, remaining, retry_after) is refused, and named."""
    found = check("05.1", lambda redis, key, limit, window, now: bool(redis.ping()))
    assert not found.passed
    assert "ada was given True (bool); (True, 0, 0) (tuple) is due" in str(found)
