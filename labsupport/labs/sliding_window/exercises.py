"""The exercises of lab 05: decide before you add, trust no caller's clock, keep two limits at once."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

import secrets

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.sliding_window.contracts import Allow, AllowAll, Limiter
from labsupport.labs.sliding_window.many_calls import allow_all_many, allow_many, limiter_many

__all__ = ["EXERCISES"]


def allow_stub(redis, key, limit, window, now):
    """Admit a call at `now` if fewer than `limit` were admitted in the `window` seconds before.

    Return (allowed, remaining, retry_after): True or False; how many more calls would be admitted
    at `now`; and, for a refused one, after how many seconds the next would be, else 0. A call that
    was admitted exactly `window` seconds ago no longer counts; a refused one never does. Every key
    has a TTL. Callers come at once, and may crash.
    """
    with redis.pipeline(transaction=True) as pipe:
        pipe.zremrangebyscore(key, "-inf", now - window)
        pipe.zadd(key, {secrets.token_hex(8): now})
        pipe.zcard(key)
        pipe.expire(key, int(window) + 1)
        *_, used, _ = pipe.execute()
    return used <= limit, max(0, limit - used), 0 if used <= limit else window


def allow_solution(redis, key, limit, window, now):
    """Admit a call at `now` if fewer than `limit` were admitted in the `window` seconds before."""
    script = """
    -- KEYS: the log; ARGV: limit, window and now in seconds, a name for the call.
    -- Returns 1 or 0, how many calls are in the window, and until when the next has to wait.
    local limit, window, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
    local used = redis.call('ZCARD', KEYS[1])
    if used >= limit then
      return {0, used, redis.call('ZRANGE', KEYS[1], used - limit, used - limit, 'WITHSCORES')[2]}
    end
    redis.call('ZADD', KEYS[1], now, ARGV[4])
    redis.call('EXPIRE', KEYS[1], math.ceil(window) + 1)
    return {1, used + 1, 0}
    """
    allowed, used, oldest = redis.eval(script, 1, key, limit, window, now, secrets.token_hex(8))
    return allowed == 1, max(0, limit - used), 0 if allowed else float(oldest) + window - now


def limiter_stub(redis, key, limit, window, clock):
    """As `allow`; but `clock()`, the caller's, may be a minute wrong, and `window` may be 0.1 s."""
    script = """
    -- KEYS: the log; ARGV: limit, window and now in µs, a name for the call.
    -- Returns 1 or 0, how many more calls there may be, and how many µs the next has to wait.
    local limit, window, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
    local used = redis.call('ZCARD', KEYS[1])
    if used >= limit then
      local leaves = redis.call('ZRANGE', KEYS[1], used - limit, used - limit, 'WITHSCORES')[2]
      return {0, 0, leaves + window - now}
    end
    redis.call('ZADD', KEYS[1], now, ARGV[4])
    redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
    return {1, limit - used - 1, 0}
    """
    args = [limit, *(round(seconds * 1e6) for seconds in (window, clock()))]
    allowed, left, wait = redis.eval(script, 1, key, *args, secrets.token_hex(8))
    return allowed == 1, left, wait / 1e6


def limiter_solution(redis, key, limit, window, clock):
    """As `allow`; but `clock()`, the caller's, may be a minute wrong, and `window` may be 0.1 s."""
    script = """
    -- KEYS: the log; ARGV: limit, window in µs, a name for the call.
    -- Returns 1 or 0, how many more calls there may be, and how many µs the next has to wait.
    local limit, window, time = tonumber(ARGV[1]), tonumber(ARGV[2]), redis.call('TIME')
    local now = time[1] * 1000000 + time[2]
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
    local used = redis.call('ZCARD', KEYS[1])
    if used >= limit then
      local leaves = redis.call('ZRANGE', KEYS[1], used - limit, used - limit, 'WITHSCORES')[2]
      return {0, 0, leaves + window - now}
    end
    redis.call('ZADD', KEYS[1], now, ARGV[3])
    redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
    return {1, limit - used - 1, 0}
    """
    args = [limit, round(window * 1e6), secrets.token_hex(8)]
    allowed, left, wait = redis.eval(script, 1, key, *args)
    return allowed == 1, left, wait / 1e6


def allow_all_stub(redis, key, limits, now):
    """Admit a call at `now` if each of `limits`, pairs of a limit and a window in seconds, allows it.

    A call that any of them refuses counts in none of them. Return (allowed, remaining, retry_after)
    as `allow` does: what all of them allow. Each key begins with `key` and has a TTL.
    Callers come at once, and may crash.
    """
    left = []
    for limit, window in limits:
        log = f"{key}:{window}"
        redis.zremrangebyscore(log, "-inf", now - window)
        used = redis.zcard(log)
        if used >= limit:
            return False, 0, window
        redis.zadd(log, {secrets.token_hex(8): now})
        redis.expire(log, int(window) + 1)
        left.append(limit - used - 1)
    return True, min(left), 0


def allow_all_solution(redis, key, limits, now):
    """Admit a call at `now` if each of `limits`, pairs of a limit and a window in seconds, allows it."""
    script = """
    -- KEYS: one log for all; ARGV: now, a name for the call; of each limit: itself, its window, and
    -- from where on it counts. Returns how many more calls there may be (-1: not even this one),
    -- and how many seconds the next has to wait.
    local now, left, wait, longest = tonumber(ARGV[1]), math.huge, 0, 0
    for i = 3, #ARGV, 3 do
      local limit, window = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
      left = math.min(left, limit - redis.call('ZCOUNT', KEYS[1], ARGV[i + 2], '+inf'))
      local blocking = redis.call('ZREVRANGE', KEYS[1], limit - 1, limit - 1, 'WITHSCORES')[2]
      if blocking then wait = math.max(wait, blocking + window - now) end
      longest = math.max(longest, window)
    end
    if left <= 0 then return {-1, tostring(wait)} end
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - longest)
    redis.call('ZADD', KEYS[1], now, ARGV[2])
    redis.call('EXPIRE', KEYS[1], math.ceil(longest) + 1)
    return {left - 1, '0'}
    """
    args = [part for limit, window in limits for part in (limit, window, f"({now - window!r}")]
    left, wait = redis.eval(script, 1, key, now, secrets.token_hex(8), *args)
    return left >= 0, max(0, left), float(wait)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="05.1",
        title="Decide, then add; and tell the refused when to come back",
        stub=allow_stub,
        solution=allow_solution,
        hints=(
            "A refused call should leave nothing behind. But `MULTI` has to know its commands before "
            "it has seen a reply, and a check in Python leaves a gap. Where can you decide?",
            "In a script: drop what is too old, count, and only if there is room, add and set the "
            "TTL. Two calls may come at the same `now`: they need two members.",
            "A refused call may come back when enough of the *oldest* calls have left: read the score "
            "at rank `used - limit` with `ZRANGE … WITHSCORES`; it leaves a window later.",
        ),
        check=judged_by(Allow(), also=allow_many),
    ),
    Exercise(
        number="05.2",
        title="Whatever the callers' clocks say",
        stub=limiter_stub,
        solution=limiter_solution,
        hints=(
            "One caller is a minute ahead. Which calls does its `ZREMRANGEBYSCORE` remove, and how "
            "long do its own calls stay?",
            "There is one clock that all of them share: the server's. Ask it inside the script, so "
            "that nothing comes between the time and the decision.",
            "`local time = redis.call('TIME')` gives seconds and µs as text; `time[1] * 1000000 + "
            "time[2]` is the time in µs, and still exact. Leave the argument `clock` alone.",
        ),
        check=judged_by(Limiter(), also=limiter_many),
    ),
    Exercise(
        number="05.3",
        title="Ten a second and a hundred an hour: all or none",
        stub=allow_all_stub,
        solution=allow_all_solution,
        hints=(
            "The stub asks one limit after the other. When the second one refuses, what has the first "
            "one already written down?",
            "Look at all limits first, in one script, and add only when all have room. One log with "
            "the longest of the windows is enough for all of them: `ZCOUNT` counts a part of it.",
            "Count with `ZCOUNT key (bound +inf` for each window; `remaining` is the smallest rest. "
            "`retry_after` is the *longest* wait: of each limit, the entry at rank `limit - 1` from "
            "the newest (`ZREVRANGE`) must have left. The TTL is that of the longest window.",
        ),
        check=judged_by(AllowAll(), also=allow_all_many),
    ),
)
