"""Wrong answers to the exercises of lab 05, and what each must be refused for."""

import math
import secrets
import time
from collections import deque

from redis.exceptions import WatchError

from labsupport.labs.sliding_window.exercises import allow_all_solution, allow_solution
from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

ALONE = "One call after the other"
CROWD = "6 callers in several processes"


def script_of(
    *, drop="'-inf', now - window", member="ARGV[4]", place="0", answer="limit - used - 1"
):
    """The log in one script, right but for one part; its moments are µs."""
    return f"""
    local limit, window, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    redis.call('ZREMRANGEBYSCORE', KEYS[1], {drop})
    local used = redis.call('ZCARD', KEYS[1])
    if used >= limit then
      local blocking = redis.call('ZRANGE', KEYS[1], {place}, {place}, 'WITHSCORES')[2]
      return {{0, 0, blocking + window - now}}
    end
    redis.call('ZADD', KEYS[1], now, {member})
    redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
    return {{1, {answer}, 0}}
    """


def decide(script, redis, key, limit, window, now):
    args = (round(window * 1e6), round(now * 1e6), secrets.token_hex(8))
    allowed, left, wait = redis.eval(script, 1, key, limit, *args)
    return allowed == 1, left, wait / 1e6


# 05.1: the first five pass every test with one caller


def oldest_leaves(redis, key, window, now):
    ((_, score),) = redis.zrange(key, 0, 0, withscores=True)
    return score + window - now


@wrong(
    "05.1",
    situation="Several clients at once",
    because="ada was given (True, 0, 0) and bob was given (True, 0, 0). No order of the calls",
)
def checks_then_adds(redis, key, limit, window, now):
    redis.zremrangebyscore(key, "-inf", now - window)
    used = redis.zcard(key)
    if used >= limit:
        return False, 0, oldest_leaves(redis, key, window, now)
    with redis.pipeline(transaction=True) as pipe:
        pipe.zadd(key, {secrets.token_hex(8): now})
        pipe.expire(key, math.ceil(window))
        pipe.execute()
    return True, limit - used - 1, 0


@wrong(
    "05.1",
    situation="Several clients at once",
    because="ada was given (False, 0, 60.0) and bob was given (False, 0, 60.0). No order of the calls",
)
def adds_then_takes_it_back(redis, key, limit, window, now):
    name = secrets.token_hex(8)
    with redis.pipeline(transaction=True) as pipe:
        pipe.zremrangebyscore(key, "-inf", now - window)
        pipe.zadd(key, {name: now})
        pipe.expire(key, math.ceil(window))
        pipe.zrange(key, 0, 0, withscores=True)
        *_, ((_, oldest),) = pipe.execute()
    used = redis.zcard(key)
    if used > limit:
        redis.zrem(key, name)
        return False, 0, oldest + window - now
    return True, limit - used, 0


@wrong(
    "05.1",
    situation="A client that crashes",
    because="The key 'limit:7' has no time to live: it stays for ever",
)
def expires_it_afterwards(redis, key, limit, window, now):
    script = script_of().replace("redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))", "")
    answer = decide(script, redis, key, limit, window, now)
    redis.expire(key, math.ceil(window))
    return answer


@wrong(
    "05.1",
    situation="Several clients at once",
    because="ada was given (False, 0, 0) and bob was given (True, 0, 0). No order of the calls",
)
def gives_up_when_overtaken(redis, key, limit, window, now):
    with redis.pipeline() as pipe:
        pipe.watch(key)
        calls = pipe.zrange(key, f"({now - window!r}", "+inf", byscore=True, withscores=True)
        if len(calls) >= limit:
            return False, 0, calls[0][1] + window - now
        pipe.multi()
        pipe.zremrangebyscore(key, "-inf", now - window)
        pipe.zadd(key, {secrets.token_hex(8): now})
        pipe.expire(key, math.ceil(window))
        try:
            pipe.execute()
        except WatchError:
            return False, 0, 0
    return True, limit - len(calls) - 1, 0


@wrong(
    "05.1",
    situation="A client that crashes",
    because="The key 'limit:7:lock' has no time to live: it stays for ever",
)
def locks_for_ever(redis, key, limit, window, now):
    while not redis.set(f"{key}:lock", 1, nx=True):
        time.sleep(0.001)
    try:
        return checks_then_adds(redis, key, limit, window, now)
    finally:
        redis.delete(f"{key}:lock")


@wrong(
    "05.1",
    situation="One call after the other",
    because="ada was given (False, 0, 15.0); (True, 0, 0) is due",
    sequential=True,
)
def counts_refusals(redis, key, limit, window, now):
    with redis.pipeline(transaction=True) as pipe:
        pipe.zremrangebyscore(key, "-inf", now - window)
        pipe.zadd(key, {secrets.token_hex(8): now})
        pipe.zrange(key, 0, 0, withscores=True)
        pipe.zcard(key)
        pipe.expire(key, math.ceil(window))
        _, _, ((_, oldest),), used, _ = pipe.execute()
    allowed = used <= limit
    return allowed, max(0, limit - used), 0 if allowed else oldest + window - now


@wrong(
    "05.1",
    situation="One call after the other",
    because="ada was given (True, 0, 0.0); (False, 0, 60) is due",
    sequential=True,
)
def one_moment_one_member(redis, key, limit, window, now):
    return decide(script_of(member="now"), redis, key, limit, window, now)


@wrong(
    "05.1",
    situation="One call after the other",
    because="ada was given (False, 0, 0.0); (True, 0, 0) is due",
    sequential=True,
)
def the_edge_still_counts(redis, key, limit, window, now):
    drop = "'-inf', string.format('(%.17g', now - window)"
    return decide(script_of(drop=drop), redis, key, limit, window, now)


@wrong(
    "05.1",
    situation="One call after the other",
    because="ada was given (False, 0, 0.0); (True, 0, 0) is due",
    sequential=True,
)
def the_edge_rounded_up_seldom_counts(redis, key, limit, window, now):
    drop = "'-inf', '(' .. now - window"  # of fourteen digits
    return decide(script_of(drop=drop), redis, key, limit, window, now)


@wrong(
    "05.1",
    situation="One call after the other",
    because="ada was given (False, 0, 60.0); (False, 0, 45) is due",
    sequential=True,
)
def waits_for_the_newest(redis, key, limit, window, now):
    return decide(script_of(place="-1"), redis, key, limit, window, now)


@wrong(
    "05.1",
    situation="One call after the other",
    because="ada was given (True, 1, 0.0); (True, 0, 0) is due",
    sequential=True,
)
def counts_before_this_one(redis, key, limit, window, now):
    return decide(script_of(answer="limit - used"), redis, key, limit, window, now)


@wrong(
    "05.1",
    situation="One call after the other",
    because="(False, 0, 60) is due",
    sequential=True,
)
def fixed_window(redis, key, limit, window, now):
    counter = f"{key}:{int(now // window)}"
    with redis.pipeline(transaction=True) as pipe:
        pipe.incr(counter)
        pipe.expire(counter, math.ceil(window))
        used, _ = pipe.execute()
    return used <= limit, max(0, limit - used), 0 if used <= limit else window - now % window


# 05.2: all of them pass with one caller whose clock is right

SERVER = script_of().replace(
    "tonumber(ARGV[3])", "redis.call('TIME')\n    now = now[1] * 1000000 + now[2]", 1
)


@wrong(
    "05.2",
    situation="One call after the other",
    because="ada was given (False, 0, 0.5); (False, 0, 0.375) is due",
    sequential=True,
)
def latest_clock_wins(redis, key, limit, window, clock):
    script = """
    local now = math.max(tonumber(ARGV[1]), tonumber(redis.call('GET', KEYS[1]) or 0))
    redis.call('SET', KEYS[1], now, 'EX', 3600)
    return string.format('%.0f', now)
    """
    now = int(redis.eval(script, 1, f"{key}:clock", round(clock() * 1e6))) / 1e6
    return decide(script_of(), redis, key, limit, window, now)


@wrong(
    "05.2",
    situation="Several clients at once",
    because="ada was given (True, 0, 0) and bob was given (True, 0, 0). No order of the calls",
)
def asks_then_checks_then_adds(redis, key, limit, window, clock):
    seconds, micros = redis.time()
    return checks_then_adds(redis, key, limit, window, seconds + micros / 1e6)


SEEN = deque()


@wrong(
    "05.2",
    situation="One call after the other",
    because="ada was given (False, 0, 0.5); (True, 0, 0) is due",
    sequential=True,
)
def in_this_process_only(redis, key, limit, window, clock):
    redis.ping()
    now = time.monotonic()
    while SEEN and SEEN[0][0] <= now - window:
        SEEN.popleft()
    mine = [at for at, name in SEEN if name == key]
    if len(mine) >= limit:
        return False, 0, mine[0] + window - now
    SEEN.append((now, key))
    return True, limit - len(mine) - 1, 0


@wrong(
    "05.2",
    situation="One call after the other",
    because="ada was given (False, 0, 0); (False, 0, 0.5) is due",
    sequential=True,
)
def come_back_at_once(redis, key, limit, window, clock):
    allowed, left, _ = decide(SERVER, redis, key, limit, window, 0)
    return allowed, left, 0


@wrong(
    "05.2",
    situation="One call after the other",
    because="ada was given (False, 0, 500.0); (False, 0, 0.5) is due",
    sequential=True,
)
def milliseconds(redis, key, limit, window, clock):
    allowed, left, wait = decide(SERVER, redis, key, limit, window, 0)
    return allowed, left, wait * 1000


# a refusal that counts starves the crowd, or on a slow machine sends away again who has waited
@wrong(
    "05.2",
    situation="One call after the other",
    because="ada was given (False, 0, 0.125); (True, 0, 0) is due",
    sequential=True,
)
def counts_refusals_by_server_time(redis, key, limit, window, clock):
    adds = "redis.call('ZADD', KEYS[1], now, ARGV[4])\n"
    script = SERVER.replace("    local used", f"    {adds}    local used", 1).replace(adds, "", 2)
    script = script.replace("    local used", f"    {adds}    local used", 1)
    script = script.replace("used >= limit", "used > limit").replace(
        "limit - used - 1", "limit - used"
    )
    return decide(script, redis, key, limit, window, 0)


@wrong(
    "05.2",
    situation="One call after the other",
    because="value is not an integer",
    sequential=True,
)
def whole_seconds(redis, key, limit, window, clock):
    script = SERVER.replace(
        "'PEXPIRE', KEYS[1], math.ceil(window / 1000)", "'EXPIRE', KEYS[1], window / 1000000"
    )
    return decide(script, redis, key, limit, window, 0)


# 05.3: the first four pass every test with one caller


def blocking(calls, limit, window, now):
    inside = [at for at in calls if at > now - window]
    return inside[-limit] + window - now if len(inside) >= limit else 0


def log_of(redis, key):
    return [score for _, score in redis.zrange(key, 0, -1, withscores=True)]


def look(calls, limits, now):
    wait = max(blocking(calls, limit, window, now) for limit, window in limits)
    left = min(limit - sum(at > now - window for at in calls) for limit, window in limits)
    return wait, max(0, left)


def add(pipe, key, limits, now, name=None):
    longest = max(window for _, window in limits)
    pipe.zremrangebyscore(key, "-inf", now - longest)
    pipe.zadd(key, {name or secrets.token_hex(8): now})
    pipe.expire(key, math.ceil(longest) + 1)


@wrong(
    "05.3",
    situation="Several clients at once",
    because="ada was given (True, 0, 0) and bob was given (True, 0, 0). No order of the calls",
)
def looks_at_all_then_adds(redis, key, limits, now):
    wait, left = look(log_of(redis, key), limits, now)
    if not left:
        return False, 0, wait
    with redis.pipeline(transaction=True) as pipe:
        add(pipe, key, limits, now)
        pipe.execute()
    return True, left - 1, 0


@wrong(
    "05.3",
    situation="Several clients at once",
    because="ada was given (False, 0, 60.0) and bob was given (False, 0, 60.0). No order of the calls",
)
def adds_then_takes_it_back_of_all(redis, key, limits, now):
    name = secrets.token_hex(8)
    with redis.pipeline(transaction=True) as pipe:
        add(pipe, key, limits, now, name)
        pipe.execute()
    calls = [s for n, s in redis.zrange(key, 0, -1, withscores=True) if n != name]
    wait, left = look(calls, limits, now)
    if not left:
        redis.zrem(key, name)
        return False, 0, wait
    return True, left - 1, 0


@wrong(
    "05.3",
    situation="A client that crashes",
    because="The key 'limit:7' has no time to live: it stays for ever",
)
def expires_the_log_afterwards(redis, key, limits, now):
    while True:
        with redis.pipeline() as pipe:
            pipe.watch(key)
            wait, left = look(log_of(pipe, key), limits, now)
            if not left:
                return False, 0, wait
            pipe.multi()
            pipe.zadd(key, {secrets.token_hex(8): now})
            try:
                pipe.execute()
            except WatchError:
                continue
        redis.expire(key, math.ceil(max(window for _, window in limits)) + 1)
        return True, left - 1, 0


@wrong(
    "05.3",
    situation="Several clients at once",
    because="ada was given (False, 0, 0) and bob was given (True, 0, 0). No order of the calls",
)
def refuses_when_overtaken(redis, key, limits, now):
    with redis.pipeline() as pipe:
        pipe.watch(key)
        wait, left = look(log_of(pipe, key), limits, now)
        if not left:
            return False, 0, wait
        pipe.multi()
        add(pipe, key, limits, now)
        try:
            pipe.execute()
        except WatchError:
            return False, 0, 0
    return True, left - 1, 0


@wrong(
    "05.3",
    situation="One call after the other",
    because="ada was given (False, 0, 90.5); (False, 0, 60) is due",
    sequential=True,
)
def one_after_the_other(redis, key, limits, now):
    answers = [
        decide(script_of(), redis, f"{key}:{window}", limit, window, now)
        for limit, window in limits
    ]
    allowed = all(allowed for allowed, _, _ in answers)
    wait = max(wait for _, _, wait in answers)
    return allowed, min(left for _, left, _ in answers) if allowed else 0, wait


def in_a_transaction(redis, key, limits, now, *, lives=None, choose=max):
    """Right, but for what is chosen."""
    while True:
        with redis.pipeline() as pipe:
            pipe.watch(key)
            calls = log_of(pipe, key)
            _, left = look(calls, limits, now)
            if not left:
                waits = [blocking(calls, limit, window, now) for limit, window in limits]
                return False, 0, choose(wait for wait in waits if wait)
            pipe.multi()
            add(pipe, key, limits, now)
            if lives:
                pipe.expire(key, lives)
            try:
                pipe.execute()
                return True, left - 1, 0
            except WatchError:
                continue


@wrong(
    "05.3",
    situation="One call after the other",
    because="ada was given (False, 0, 30.5); (False, 0, 60) is due",
    sequential=True,
)
def the_shortest_wait(redis, key, limits, now):
    return in_a_transaction(redis, key, limits, now, choose=min)


@wrong(
    "05.3",
    situation="One call after the other",
    because="ada was given (True, 1, 0); (True, 0, 0) is due",
    sequential=True,
)
def forgets_with_the_shortest(redis, key, limits, now):
    return in_a_transaction(redis, key, limits, now, lives=10)


def log_in_seconds(redis, key, limit, window, now, *, drop="now - window", place="used - limit"):
    """The log of the solution, right but for one part."""
    script = f"""
    local limit, window, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', {drop})
    local used = redis.call('ZCARD', KEYS[1])
    local place = {place}
    if used >= limit then
      return {{0, 0, redis.call('ZRANGE', KEYS[1], place, place, 'WITHSCORES')[2]}}
    end
    redis.call('ZADD', KEYS[1], now, ARGV[4])
    redis.call('EXPIRE', KEYS[1], math.ceil(window) + 1)
    return {{1, limit - used - 1, 0}}
    """
    told = redis.eval(script, 1, key, limit, window, now, secrets.token_hex(8))
    allowed, left, oldest = told
    return allowed == 1, left, 0 if allowed else float(oldest) + window - now


@wrong("05.1", situation=ALONE, because="36.0); (False, 0, 52) is due", sequential=True)
def knows_no_limit_that_was_lowered(redis, key, limit, window, now):
    """With more calls in the window than the limit, more than one has to leave."""
    return log_in_seconds(redis, key, limit, window, now, place="0")


@wrong("05.1", situation=ALONE, because="(True, 0, 0) is due", sequential=True)
def keeps_the_call_at_the_edge(redis, key, limit, window, now):
    """What Lua puts behind another text has fourteen digits, and may have been rounded up."""
    return log_in_seconds(redis, key, limit, window, now, drop="'(' .. now - window")


@wrong("05.1", situation=ALONE, because="(True, 0, 0) is due", sequential=True)
def fourteen_digits(redis, key, limit, window, now):
    """They may be rounded down."""
    return log_in_seconds(redis, key, limit, window, now, drop="tostring(now - window)")


@wrong("05.2", situation=ALONE, because="(True, 0, 0) is due", sequential=True)
def microseconds_behind_a_point(redis, key, limit, window, clock):
    """50,000 of them become half a second."""
    script = """
    local time = redis.call('TIME')
    return time[1] .. '.' .. time[2]
    """
    now = float(redis.eval(script, 0))
    return decide(script_of(), redis, key, limit, window, now)


@wrong("05.2", situation=ALONE, because="(False, 0, 0.06) is due", sequential=True)
def microseconds_behind_a_point_and_a_short_life(redis, key, limit, window, clock):
    """10,000 and 50,000 of them are 0.4 s apart; what lives too long for it is gone in time."""
    script = """
    local limit, window, time = tonumber(ARGV[1]), tonumber(ARGV[2]), redis.call('TIME')
    local now = tonumber(time[1] .. '.' .. time[2])
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
    local used = redis.call('ZCARD', KEYS[1])
    if used >= limit then
      local leaves = redis.call('ZRANGE', KEYS[1], used - limit, used - limit, 'WITHSCORES')[2]
      return {0, 0, string.format('%.17g', leaves + window - now)}
    end
    redis.call('ZADD', KEYS[1], now, ARGV[3])
    redis.call('PEXPIRE', KEYS[1], math.ceil(window * 1000))
    return {1, limit - used - 1, '0'}
    """
    allowed, left, wait = redis.eval(script, 1, key, limit, window, secrets.token_hex(8))
    return allowed == 1, left, float(wait)


@wrong("05.3", situation=ALONE, because="(True, 0, 0) is due", sequential=True)
def joins_key_and_window(redis, key, limits, now):
    """limit:7 with 160 s, and limit:71 with 60 s."""
    windows = "-".join(str(window) for _, window in limits)
    return in_a_transaction(redis, f"{key}{windows}", limits, now)


def in_logs(redis, keys, limits, now):
    """A log for each limit, at keys of one's own."""
    while True:
        with redis.pipeline() as pipe:
            pipe.watch(*keys)
            logs = [log_of(pipe, key) for key in keys]
            found = [look(log, [limit], now) for log, limit in zip(logs, limits, strict=True)]
            wait, left = max(wait for wait, _ in found), min(left for _, left in found)
            if left <= 0:
                return False, 0, wait
            pipe.multi()
            for key, limit in zip(keys, limits, strict=True):
                add(pipe, key, [limit], now)
            try:
                pipe.execute()
                return True, left - 1, 0
            except WatchError:
                continue


@wrong(
    "05.3",
    situation=ALONE,
    because="ada was given (True, 0, 0); (False, 0, 15) is due",
    sequential=True,
)
def a_log_for_each_number(redis, key, limits, now):
    """Two limits of as many calls, in windows of their own, share a log."""
    return in_logs(redis, [f"{key}:{limit}" for limit, _ in limits], limits, now)


@wrong("05.3", situation=ALONE, because="keys that do not begin with the key", sequential=True)
def before_the_key(redis, key, limits, now):
    return in_logs(redis, [f"limit:{key}:{pair}" for pair in limits], limits, now)


A_DAY = script_of(place="used - limit").replace("math.ceil(window / 1000)", "86400000")


@wrong("05.1", situation=ALONE, because="(False, 0, 259200) is due", sequential=True)
def lives_for_a_day(redis, key, limit, window, now):
    return decide(A_DAY, redis, key, limit, window, now)


@wrong("05.2", situation=ALONE, because="(False, 0, 259200) is due", sequential=True)
def lives_for_a_day_by_the_servers_clock(redis, key, limit, window, clock):
    script = A_DAY.replace(
        "tonumber(ARGV[3])", "redis.call('TIME')\nnow = now[1] * 1000000 + now[2]"
    )
    return decide(script, redis, key, limit, window, 0)


@wrong("05.3", situation=ALONE, because="(False, 0, 259200) is due", sequential=True)
def lives_for_a_day_at_the_most(redis, key, limits, now):
    return in_a_transaction(redis, key, limits, now, lives=86_400)


@wrong(
    "05.1", situation=ALONE, because="ada was given (True, 28, 0.0); (True, 27, 0)", sequential=True
)
def counts_up_to_a_hundred(redis, key, limit, window, now):
    script = script_of(place="used - limit").replace(
        "redis.call('ZCARD', KEYS[1])", "#redis.call('ZRANGE', KEYS[1], 0, 99)"
    )
    return decide(script, redis, key, limit, window, now)


@wrong(
    "05.3", situation=ALONE, because="ada was given (True, 28, 0); (True, 27, 0)", sequential=True
)
def looks_at_the_newest_hundred(redis, key, limits, now):
    while True:
        with redis.pipeline() as pipe:
            pipe.watch(key)
            wait, left = look(log_of(pipe, key)[-100:], limits, now)
            if not left:
                return False, 0, wait
            pipe.multi()
            add(pipe, key, limits, now)
            try:
                pipe.execute()
            except WatchError:
                continue
            return True, left - 1, 0


@wrong("05.3", because="is due", sequential=True)
def looks_at_two_limits(redis, key, limits, now):
    return allow_all_solution(redis, key, limits[:2], now)


@wrong("05.1", situation="1,200 calls an hour", because="1,002")
def remembers_a_thousand_calls(redis, key, limit, window, now):
    told = allow_solution(redis, key, limit, window, now)
    redis.zremrangebyrank(key, 0, -1001)
    return told
