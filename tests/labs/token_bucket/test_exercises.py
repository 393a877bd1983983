"""The exercises of lab 06: what breaks each stub, and other good answers."""

import json
import math

import pytest
from redis.exceptions import WatchError

from labsupport import check
from labsupport.labs.token_bucket.exercises import EXERCISES

GCRA = """
local capacity, interval = tonumber(ARGV[1]), tonumber(ARGV[2])
local now, cost = tonumber(ARGV[3]), tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
end
local full = math.max(now, tonumber(redis.call('GET', KEYS[1])) or now)
local early = full + cost * interval - now - capacity * interval
local left = math.floor((capacity * interval - (full - now)) / interval)
if early > 0 then return {0, math.max(0, left), tostring(early)} end
full = full + cost * interval
redis.call('SET', KEYS[1], full, 'PX', math.ceil((full - now) * 1000))
return {1, left - cost, '0'}
"""


def gcra(redis, key, capacity, rate, now="", cost=1):
    args = (capacity, 1 / rate, now, cost)
    allowed, left, wait = redis.eval(GCRA, 1, key, *args)
    return allowed == 1, left, float(wait) if cost <= capacity else math.inf


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: a lost part, a half payment, a turn that is forgotten."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert "the life of the key in seconds is 3600.0" in str(first)
    assert "ada was given (False, 0, 6000.0); (False, 5, inf) is due" in str(second)
    assert "ada was given 0.0; 409.6 is due" in third.reason


@pytest.mark.long
class TestOtherGoodAnswers:
    def test_a_bucket_that_is_packed(self):
        """One value, which is no text: nobody but the script has to read it."""
        script = """
        local capacity, rate, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
        local packed = redis.call('GET', KEYS[1])
        local tokens, at = capacity, now
        if packed then tokens, at = unpack(cmsgpack.unpack(packed)) end
        tokens = math.min(capacity, tokens + math.max(0, now - at) * rate)
        at = math.max(at, now)
        local allowed = tokens >= 1 - 0.000001 and 1 or 0
        local left, wait = tokens - allowed, '0'
        if allowed == 0 then wait = string.format('%.17g', at - now + (1 - tokens) / rate) end
        local ms = math.max(1, math.ceil((capacity - left) / rate * 1000))
        redis.call('SET', KEYS[1], cmsgpack.pack({left, at}), 'PX', string.format('%.0f', ms))
        return {allowed, math.floor(left + 0.000001), wait}
        """

        def take(redis, key, capacity, rate, now):
            allowed, left, wait = redis.eval(script, 1, key, capacity, rate, now)
            return allowed == 1, left, float(wait)

        found = check("06.1", take)
        assert found.passed, str(found)

    def test_whole_intervals(self):
        """Whole tokens only, and a clock that moves on by their time."""
        script = """
        local capacity, rate, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
        local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
        local tokens, at = tonumber(bucket[1]) or capacity, tonumber(bucket[2]) or now
        local gained = math.floor(math.max(0, now - at) * rate + 1e-9)
        tokens, at = tokens + gained, at + gained / rate
        if tokens >= capacity then tokens, at = capacity, math.max(at, now) end
        local allowed = tokens >= 1 and 1 or 0
        tokens = tokens - allowed
        redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', at)
        redis.call('PEXPIRE', KEYS[1], math.ceil(((capacity - tokens) / rate - (now - at)) * 1000))
        return {allowed, tokens, tostring(1 / rate - (now - at))}
        """

        def take(redis, key, capacity, rate, now):
            allowed, left, wait = redis.eval(script, 1, key, capacity, rate, now)
            return allowed == 1, left, 0 if allowed else float(wait)

        found = check("06.1", take)
        assert found.passed, str(found)

    def test_full_when_time_passes(self):
        """Where no time has passed nothing is gained, and nothing capped."""

        def take(redis, key, capacity, rate, now):
            def one(pipe):
                tokens, at = json.loads(pipe.get(key) or "null") or (capacity, now)
                if now > at:
                    tokens, at = min(capacity, tokens + (now - at) * rate), now
                pipe.multi()
                if tokens < 1:
                    return False, 0, (1 - tokens) / rate
                ms = max(1, math.ceil((capacity - tokens + 1) / rate * 1000))
                pipe.set(key, json.dumps([tokens - 1, at]), px=ms)
                return True, int(tokens - 1), 0

            return redis.transaction(one, key, value_from_callable=True)

        found = check("06.1", take)
        assert found.passed, str(found)

    def test_gcra(self):
        """One number is as good as two."""
        found = check(
            "06.1", lambda redis, key, capacity, rate, now: gcra(redis, key, capacity, rate, now)
        )
        assert found.passed, str(found)

    def test_gcra_with_a_cost(self):
        """GCRA takes several as well."""

        def take_many(redis, key, capacity, rate, cost):
            return gcra(redis, key, capacity, rate, cost=cost)

        found = check("06.2", take_many)
        assert found.passed, str(found)

    def test_the_time_of_who_watches(self):
        """Who asks for the time when it watches has not been overtaken when it writes."""

        def take_many(redis, key, capacity, rate, cost):
            def draw(pipe):
                seconds, micros = pipe.time()
                now = seconds + micros / 1e6
                bucket = pipe.hmget(key, "tokens", "at")
                tokens, at = float(bucket[0] or capacity), float(bucket[1] or now)
                tokens = min(capacity, tokens + (now - at) * rate) - cost
                pipe.multi()
                if tokens < 0:
                    wait = -tokens / rate if cost <= capacity else math.inf
                    return False, math.floor(tokens + cost), wait
                pipe.hset(key, mapping={"tokens": tokens, "at": now})
                pipe.pexpire(key, math.ceil((capacity - tokens) / rate * 1000))
                return True, math.floor(tokens), 0

            return redis.transaction(draw, key, value_from_callable=True)

        found = check("06.2", take_many)
        assert found.passed, str(found)

    def test_optimistic_turns(self):
        """WATCH, and start again when somebody came between."""

        def reserve(redis, key, rate, longest, now):
            while True:
                with redis.pipeline() as pipe:
                    pipe.watch(key)
                    turn = max(now, float(pipe.get(key) or 0))
                    if turn - now > longest:
                        return None
                    pipe.multi()
                    pipe.set(key, turn + 1 / rate, px=math.ceil((turn - now + 1 / rate) * 1000))
                    try:
                        pipe.execute()
                    except WatchError:
                        continue
                return turn - now

        found = check("06.3", reserve)
        assert found.passed, str(found)

    def test_a_list_of_turns_for_reserve(self):
        """The moments may be whole µs in a script."""
        script = """
        local now, step, longest = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
        local turn = math.max(now, tonumber(redis.call('HGET', KEYS[1], 'next')) or now)
        if turn - now > longest then return -1 end
        redis.call('HSET', KEYS[1], 'next', turn + step)
        redis.call('PEXPIRE', KEYS[1], math.ceil((turn + step - now) / 1000))
        return turn - now
        """

        def reserve(redis, key, rate, longest, now):
            micros = [round(seconds * 1e6) for seconds in (now, 1 / rate, longest)]
            wait = redis.eval(script, 1, key, *micros)
            return None if wait < 0 else wait / 1e6

        found = check("06.3", reserve)
        assert found.passed, str(found)
