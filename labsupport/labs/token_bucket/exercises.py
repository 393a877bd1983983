"""The exercises of lab 06: lose no part of a token, take several or none, and wait for one's turn."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

import math

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.token_bucket.checks import check_slow_caller
from labsupport.labs.token_bucket.contracts import Reserve, Take, TakeMany

__all__ = ["EXERCISES"]


def take_stub(redis, key, capacity, rate, now):
    """Take a token at `now` from a bucket that is full at first and gains `rate` a second.

    Return (allowed, remaining, retry_after): True or False; the whole tokens left; for a refused
    call, the seconds until there is one, else 0. No part of a token is lost, and none is made if
    a `now` is older than another caller's. The key expires when the bucket would be full again;
    callers come at once, and may crash.
    """
    script = """
    -- KEYS: the bucket; ARGV: capacity, rate, now; returns 1 or 0, and the tokens left.
    local capacity, rate, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    local tokens, at = unpack(redis.call('HMGET', KEYS[1], 'tokens', 'at'))
    tokens, at = tonumber(tokens) or capacity, tonumber(at) or now
    local gained = math.floor((now - at) * rate)
    if gained > 0 then tokens, at = math.min(capacity, tokens + gained), now end
    if tokens < 1 then return {0, 0} end
    redis.call('HSET', KEYS[1], 'tokens', tokens - 1, 'at', at)
    return {1, tokens - 1, redis.call('EXPIRE', KEYS[1], 3600)}
    """
    allowed, left, *_ = redis.eval(script, 1, key, capacity, rate, now)
    return allowed == 1, left, 0 if allowed else 1 / rate


def take_solution(redis, key, capacity, rate, now):
    """Take a token at `now` from a bucket that is full at first and gains `rate` a second."""
    script = """
    -- KEYS: the bucket; ARGV: capacity, tokens a second, now in seconds.
    -- Returns 1 or 0, the whole tokens left, and how many seconds the next one takes.
    local capacity, rate, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
    local tokens, at = tonumber(bucket[1]) or capacity, tonumber(bucket[2]) or now
    tokens = math.min(capacity, tokens + math.max(0, now - at) * rate)
    local allowed = tokens >= 1 and 1 or 0
    tokens = tokens - allowed
    redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', math.max(at, now))
    redis.call('PEXPIRE', KEYS[1], math.ceil((capacity - tokens) / rate * 1000))
    return {allowed, math.floor(tokens), tostring((1 - tokens) / rate)}
    """
    allowed, left, wait = redis.eval(script, 1, key, capacity, rate, now)
    return allowed == 1, left, 0 if allowed else float(wait)


def take_many_stub(redis, key, capacity, rate, cost):
    """Take `cost` tokens at once, or none; the time is the server's.

    Return (allowed, remaining, retry_after) as `take` does: retry_after is when there will be `cost`
    tokens, and math.inf when there can never be that many. Every key has a TTL. Callers come at
    once, and may crash.
    """
    script = """
    -- Takes one token. KEYS: the bucket; ARGV: capacity, rate; returns 1 or 0, the tokens left.
    local capacity, rate, time = tonumber(ARGV[1]), tonumber(ARGV[2]), redis.call('TIME')
    local tokens, at = unpack(redis.call('HMGET', KEYS[1], 'tokens', 'at'))
    local now = time[1] + time[2] / 1000000
    tokens = math.min(capacity, (tokens or capacity) + (now - (at or now)) * rate)
    local allowed = tokens >= 1 and 1 or 0
    redis.call('HSET', KEYS[1], 'tokens', tokens - allowed, 'at', now)
    redis.call('PEXPIRE', KEYS[1], math.ceil((capacity - tokens + allowed) / rate * 1000))
    return {allowed, math.floor(tokens - allowed)}
    """
    allowed, left = [redis.eval(script, 1, key, capacity, rate) for _ in range(cost)][-1]
    return allowed == 1, left, 0 if allowed else cost / rate


def take_many_solution(redis, key, capacity, rate, cost):
    """Take `cost` tokens at once, or none; the time is the server's."""
    script = """
    -- KEYS: the bucket; ARGV: capacity, tokens a second, how many to take.
    -- Returns 1 or 0, the whole tokens left, and how many seconds it takes until there are enough.
    local capacity, rate, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    local time = redis.call('TIME')
    local now = time[1] + time[2] / 1000000
    local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
    local tokens, at = tonumber(bucket[1]) or capacity, tonumber(bucket[2]) or now
    tokens = math.min(capacity, tokens + math.max(0, now - at) * rate)
    if tokens < cost then return {0, math.floor(tokens), tostring((cost - tokens) / rate)} end
    tokens = tokens - cost
    redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', math.max(at, now))
    redis.call('PEXPIRE', KEYS[1], math.ceil((capacity - tokens) / rate * 1000))
    return {1, math.floor(tokens), '0'}
    """
    allowed, left, wait = redis.eval(script, 1, key, capacity, rate, cost)
    return allowed == 1, left, float(wait) if cost <= capacity else math.inf


def reserve_stub(redis, key, rate, longest, now):
    """Reserve a turn, and return how many seconds away it is: 0 for at once.

    Turns are 1 / `rate` seconds apart, in the order of asking. If the next is more than `longest`
    seconds away, return None, and take none. Unused turns are not saved up. Every key has a
    TTL. Callers come at once, and may crash.
    """
    turn = max(now, float(redis.get(key) or 0))
    if turn - now > longest:
        return None
    redis.set(key, turn + 1 / rate, ex=3600)
    return turn - now


def reserve_solution(redis, key, rate, longest, now):
    """Reserve a turn, and return how many seconds away it is: 0 for at once."""
    script = """
    -- KEYS: the moment of the next turn; ARGV: seconds between two, the longest wait, now.
    -- Returns how many seconds the caller has to wait, or nothing when that is too long.
    local interval, longest, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    local turn = math.max(now, tonumber(redis.call('GET', KEYS[1])) or now)
    if turn - now > longest then return false end
    local ms = math.ceil((turn + interval - now) * 1000)
    redis.call('SET', KEYS[1], turn + interval, 'PX', ms)
    return tostring(turn - now)
    """
    wait = redis.eval(script, 1, key, 1 / rate, longest, now)
    return None if wait is None else float(wait)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="06.1",
        title="Not a part of a token lost, and none made",
        stub=take_stub,
        solution=take_solution,
        hints=(
            "At 1.5 tokens a second, what has the bucket gained after one second, and what does "
            "`math.floor` leave of it? Where does the other half go when `at` becomes `now`?",
            "Either keep fractions of tokens, or move `at` on by the time of the *whole* tokens only. "
            "And a `now` that is older than `at` must change nothing: not the tokens, not `at`.",
            "`tokens = math.min(capacity, tokens + math.max(0, now - at) * rate)`, stored on both "
            "ways out with `math.max(at, now)`; TTL `(capacity - tokens) / rate`. A refused call waits "
            "for `(1 - tokens) / rate`; send it as text, or Lua cuts it to a whole number.",
        ),
        check=judged_by(Take()),
    ),
    Exercise(
        number="06.2",
        title="Several tokens at once, or none",
        stub=take_many_stub,
        solution=take_many_solution,
        hints=(
            "An export costs three tokens. There are two. What is left in the bucket after the stub "
            "has refused?",
            "Give the cost to the script: it compares once, and takes all or nothing. Others see it "
            "if you take first and give back later.",
            "`if tokens < cost` return `{0, math.floor(tokens), tostring((cost - tokens) / rate)}`, "
            "else take `cost`. In Python: `math.inf` when `cost > capacity`.",
        ),
        check=judged_by(TakeMany(), also=check_slow_caller),
    ),
    Exercise(
        number="06.3",
        title="A turn for everybody: wait instead of being refused",
        stub=reserve_stub,
        solution=reserve_solution,
        hints=(
            "Two callers read the same turn. What must happen to the read and the write?",
            "This is GCRA without a burst: one key with the moment of the next free turn, read and "
            "moved on in one script. A turn in the past is lost: start from `now`.",
            "`turn = math.max(now, GET or now)`; too far away: `return false` and write nothing; else "
            "`SET` turn + interval with a `PX` that reaches until then, and return "
            "`tostring(turn - now)`.",
        ),
        check=judged_by(Reserve()),
    ),
)
