"""Wrong answers to the exercises of lab 06, and what each must be refused for."""

import math
import time

from redis.exceptions import WatchError

from labsupport.labs.token_bucket.exercises import take_many_solution
from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

ALONE = "One call after the other"
SLOWLY = f"{ALONE}, 0.75 tokens a second"

TAKE = """
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


def take(script, redis, key, capacity, rate, now):
    allowed, left, wait = redis.eval(script, 1, key, capacity, rate, now)
    return allowed == 1, left, 0 if allowed else float(wait)


def but(old, new):
    """The right script with one part changed."""
    assert old in TAKE
    return TAKE.replace(old, new)


def level(bucket, capacity, rate, now):
    tokens, at = float(bucket[0] or capacity), float(bucket[1] or now)
    return min(capacity, tokens + max(0, now - at) * rate), max(at, now)


def store(pipe, key, capacity, rate, tokens, at):
    pipe.hset(key, mapping={"tokens": tokens, "at": at})
    pipe.pexpire(key, math.ceil((capacity - tokens) / rate * 1000))


# 06.1: the first four pass every test with one caller


@wrong(
    "06.1",
    situation="Several clients at once",
    because="ada was given (True, 0, 0) and bob was given (True, 0, 0). No order of the calls",
)
def in_python(redis, key, capacity, rate, now):
    tokens, at = level(redis.hmget(key, "tokens", "at"), capacity, rate, now)
    if tokens < 1:
        return False, 0, (1 - tokens) / rate
    with redis.pipeline(transaction=True) as pipe:
        store(pipe, key, capacity, rate, tokens - 1, at)
        pipe.execute()
    return True, math.floor(tokens - 1), 0


@wrong(
    "06.1",
    situation="Several clients at once",
    because="ada was given (False, 0, 0) and bob was given (True, 0, 0). No order of the calls",
)
def gives_up_when_overtaken(redis, key, capacity, rate, now):
    with redis.pipeline() as pipe:
        pipe.watch(key)
        tokens, at = level(pipe.hmget(key, "tokens", "at"), capacity, rate, now)
        if tokens < 1:
            return False, 0, (1 - tokens) / rate
        pipe.multi()
        store(pipe, key, capacity, rate, tokens - 1, at)
        try:
            pipe.execute()
        except WatchError:
            return False, 0, 0
    return True, math.floor(tokens - 1), 0


@wrong(
    "06.1",
    situation="Several clients at once",
    because="the life of the key in seconds is 60.0; from 119.998 to 121.001 is due",
)
def expires_it_afterwards(redis, key, capacity, rate, now):
    script = but("'PEXPIRE', KEYS[1], math.ceil((capacity - tokens) / rate * 1000)", "'GET', 'x'")
    allowed, left, wait = redis.eval(script, 1, key, capacity, rate, now)
    missing = capacity - float(redis.hget(key, "tokens"))
    redis.pexpire(key, math.ceil(missing / rate * 1000))
    return allowed == 1, left, 0 if allowed else float(wait)


@wrong(
    "06.1",
    situation="One call after the other",
    because="(False, 0, 128) is due",
    sequential=True,
)
def sets_its_clock_back(redis, key, capacity, rate, now):
    return take(but("math.max(at, now))", "now)"), redis, key, capacity, rate, now)


@wrong(
    "06.1",
    situation="One call after the other",
    because="ada was given (False, 0, 128.0); (False, 0, 80.5120001) is due",
    sequential=True,
)
def floors(redis, key, capacity, rate, now):
    script = but("math.max(0, now - at) * rate", "math.floor(math.max(0, now - at) * rate)")
    return take(script, redis, key, capacity, rate, now)


@wrong(
    "06.1",
    situation="One call after the other",
    because="the life of the key in seconds is 3600.0; from 127.998 to 129.001 is due",
    sequential=True,
)
def lives_for_an_hour(redis, key, capacity, rate, now):
    script = but("math.ceil((capacity - tokens) / rate * 1000)", "3600000")
    return take(script, redis, key, capacity, rate, now)


@wrong(
    "06.1",
    situation="One call after the other",
    because="ada was given (False, 0, 128.0); (False, 0, 80.5120001) is due",
    sequential=True,
)
def waits_for_a_whole_token(redis, key, capacity, rate, now):
    return take(but("(1 - tokens) / rate", "1 / rate"), redis, key, capacity, rate, now)


@wrong(
    "06.1",
    situation="One call after the other",
    because="ada was given (False, -1, 256.0); (False, 0, 128) is due",
    sequential=True,
)
def goes_into_debt(redis, key, capacity, rate, now):
    script = but("tokens = tokens - allowed", "tokens = tokens - 1")
    return take(script, redis, key, capacity, rate, now)


@wrong(
    "06.1",
    situation="One call after the other",
    because="the life of the key in seconds is",
    sequential=True,
)
def runs_over(redis, key, capacity, rate, now):
    return take(but("math.min(capacity,", "("), redis, key, capacity, rate, now)


@wrong("06.1", situation="One call after the other", because=" is due", sequential=True)
def fourteen_digits(redis, key, capacity, rate, now):
    script = but("'at', math.max(at, now)", "'at', tostring(math.max(at, now))")
    return take(script, redis, key, capacity, rate, now)


# 06.2: the first four pass every test with one caller

MANY = """
local capacity, rate, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(ARGV[4]) or time[1] + time[2] / 1000000
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(bucket[1]) or capacity, tonumber(bucket[2]) or now
tokens = math.min(capacity, tokens + math.max(0, now - at) * rate)
if tokens < cost then return {0, math.floor(tokens), tostring((cost - tokens) / rate)} end
tokens = tokens - cost
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', math.max(at, now))
redis.call('PEXPIRE', KEYS[1], math.ceil((capacity - tokens) / rate * 1000) + 1)
return {1, math.floor(tokens), '0'}
"""


def take_many(redis, key, capacity, rate, cost, *now):
    allowed, left, wait = redis.eval(MANY, 1, key, capacity, rate, cost, *now)
    return allowed == 1, left, float(wait) if cost <= capacity else math.inf


def refused(redis, key, capacity, rate, cost):
    """What a call is told for which there are not enough; it changes nothing."""
    wait = float(redis.eval(MANY, 1, key, capacity, rate, capacity + 1)[2])
    tokens = capacity + 1 - wait * rate
    wait = (cost - tokens) / rate if cost <= capacity else math.inf
    return False, math.floor(tokens + 1e-5), wait


@wrong(
    "06.2",
    situation="Several clients at once",
    because="ada was given (True, 0, 0) and bob was given (True, 2, 0). No order of the calls",
)
def looks_then_takes(redis, key, capacity, rate, cost):
    answer = refused(redis, key, capacity, rate, cost)
    if answer[2] > 0:
        return answer
    script = "\n".join(line for line in MANY.splitlines() if "tokens < cost" not in line)
    _, left, _ = redis.eval(script, 1, key, capacity, rate, cost)
    return True, max(0, left), 0


@wrong(
    "06.2",
    situation="Several clients at once",
    because="ada was given (False, 2, 1000.0) and bob was given (True, 0, 0.0). No order of the calls",
)
def takes_then_gives_back(redis, key, capacity, rate, cost):
    if cost > capacity:
        return False, take_many(redis, key, capacity, rate, 0)[1], math.inf
    for taken in range(cost):
        answer = take_many(redis, key, capacity, rate, 1)
        if not answer[0]:
            take_many(redis, key, capacity, rate, -taken)
            return refused(redis, key, capacity, rate, cost)
    return answer


@wrong(
    "06.2",
    situation="A client that crashes, and the next one, too",
    because="(False, 2, 1000) is due",
)
def one_by_one_under_a_lock(redis, key, capacity, rate, cost):
    while not redis.set(f"{key}:lock", 1, nx=True, px=100):
        time.sleep(0.001)
    try:
        answer = refused(redis, key, capacity, rate, cost)
        if answer[2] > 0:
            return answer
        for _ in range(cost):
            answer = take_many(redis, key, capacity, rate, 1)
        return answer
    finally:
        redis.delete(f"{key}:lock")


@wrong(
    "06.2",
    situation="Several clients at once",
    because="ada was given (True, 2, 0) and bob was given (False, 2, 1000.0)",
)
def takes_all_then_gives_all_back(redis, key, capacity, rate, cost):
    if cost > capacity:
        return False, take_many(redis, key, capacity, rate, 0)[1], math.inf
    script = "\n".join(line for line in MANY.splitlines() if "tokens < cost" not in line)
    _, left, _ = redis.eval(script, 1, key, capacity, rate, cost)
    if left < 0:
        redis.eval(script, 1, key, capacity, rate, -cost)
        return refused(redis, key, capacity, rate, cost)
    return True, left, 0


@wrong(
    "06.2",
    situation="Several clients whose clocks differ by an hour",
    because="ada was given (True, 2, 0.0) and bob was given (True, 2, 0.0). No order of the calls",
)
def by_the_callers_clock(redis, key, capacity, rate, cost):
    return take_many(redis, key, capacity, rate, cost, time.time())


@wrong("06.2", situation=ALONE, because="(False, 2, 1000) is due", sequential=True)
def waits_for_all_of_them(redis, key, capacity, rate, cost):
    allowed, left, _ = take_many(redis, key, capacity, rate, cost)
    return allowed, left, 0 if allowed else cost / rate if cost <= capacity else math.inf


@wrong(
    "06.2",
    situation="One call after the other",
    because="ada was given (False, 5, 1000.0); (False, 5, from inf to inf) is due",
    sequential=True,
)
def says_when_it_never_will(redis, key, capacity, rate, cost):
    allowed, left, wait = redis.eval(MANY, 1, key, capacity, rate, cost)
    return allowed == 1, left, float(wait)


@wrong(
    "06.2",
    situation="One call after the other",
    because="The key 'bucket:7' has no time to live: it stays for ever",
    sequential=True,
)
def refused_calls_pay(redis, key, capacity, rate, cost):
    allowed, left, wait = take_many(redis, key, capacity, rate, cost)
    if not allowed:
        redis.hincrbyfloat(key, "tokens", -0.5)
    return allowed, left, wait


@wrong(
    "06.2",
    situation="A caller that takes a while between two steps",
    because="11 tokens were taken, of 8.",
)
def asks_first_what_time_it_is(redis, key, capacity, rate, cost):
    seconds, micros = redis.time()
    script = MANY.replace("math.max(at, now))", "now)")
    now = seconds + micros / 1e6
    allowed, left, wait = redis.eval(script, 1, key, capacity, rate, cost, now)
    return allowed == 1, left, float(wait) if cost <= capacity else math.inf


@wrong(
    "06.2", situation=ALONE, because="(True, 0, 0); (False, 2, 0.328571429) is due", sequential=True
)
def lives_for_whole_seconds(redis, key, capacity, rate, cost):
    ms = "math.ceil((capacity - tokens) / rate * 1000) + 1"
    script = MANY.replace(ms, "math.max(1, math.floor((capacity - tokens) / rate)) * 1000")
    allowed, left, wait = redis.eval(script, 1, key, capacity, rate, cost)
    return allowed == 1, left, 0 if allowed else float(wait) if cost <= capacity else math.inf


# 06.3: the first three pass every test with one caller

RESERVE = """
local interval, longest, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local turn = math.max(now, tonumber(redis.call('GET', KEYS[1])) or now)
if turn - now > longest then return false end
redis.call('SET', KEYS[1], turn + interval, 'PX', math.ceil((turn + interval - now) * 1000))
return tostring(turn - now)
"""


def reserve(redis, key, rate, longest, now, script=RESERVE):
    wait = redis.eval(script, 1, key, 1 / rate, longest, now)
    return None if wait is None else float(wait)


@wrong(
    "06.3",
    situation="Several clients at once",
    because="ada was given 0.0 and bob was given 0.0. No order of the calls",
)
def reads_then_writes(redis, key, rate, longest, now):
    turn = max(now, float(redis.get(key) or 0))
    if turn - now > longest:
        return None
    redis.set(key, turn + 1 / rate, px=math.ceil((turn - now + 1 / rate) * 1000))
    return turn - now


@wrong(
    "06.3",
    situation="Several clients at once",
    because="ada was given None and bob was given 0.0. No order of the calls",
)
def no_turn_when_overtaken(redis, key, rate, longest, now):
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
            return None
    return turn - now


@wrong(
    "06.3",
    situation="A client that crashes",
    because="The key 'bucket:7' has no time to live: it stays for ever",
)
def expires_the_turn_afterwards(redis, key, rate, longest, now):
    script = RESERVE.replace(", 'PX', math.ceil((turn + interval - now) * 1000)", "")
    wait = reserve(redis, key, rate, longest, now, script)
    if wait is not None:
        redis.pexpire(key, math.ceil((wait + 1 / rate) * 1000))
    return wait


@wrong(
    "06.3",
    situation="One call after the other",
    because="64 is due",
    sequential=True,
)
def who_is_refused_takes_a_turn(redis, key, rate, longest, now):
    wait = reserve(redis, key, rate, 1e9, now)
    return wait if wait <= longest else None


@wrong(
    "06.3",
    situation="One call after the other",
    because="is due",
    sequential=True,
)
def saves_up_turns(redis, key, rate, longest, now):
    script = RESERVE.replace("math.max(now, ", "(").replace("math.ceil(", "10000000 + (")
    wait = reserve(redis, key, rate, longest, now, script)
    return None if wait is None else max(0.0, wait)


@wrong(
    "06.3",
    situation="One call after the other",
    because="409.6 is due",
    sequential=True,
)
def for_an_hour(redis, key, rate, longest, now):
    script = RESERVE.replace("math.ceil((turn + interval - now) * 1000)", "3600000")
    return reserve(redis, key, rate, longest, now, script)


@wrong("06.3", situation=ALONE, because="0.0; 0.328571429 is due", sequential=True)
def keeps_the_turn_for_whole_seconds(redis, key, rate, longest, now):
    wait = reserve(redis, key, rate, longest, now)
    if wait is not None:
        redis.expire(key, max(1, math.floor(wait + 1 / rate)))
    return wait


@wrong("06.2", because="ada was given (True", sequential=True)
def is_full_when_the_first_ttl_ends(redis, key, capacity, rate, cost):
    script = """
    local capacity, rate, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    local time = redis.call('TIME')
    local now = time[1] + time[2] / 1000000
    local tokens, at = unpack(redis.call('HMGET', KEYS[1], 'tokens', 'at'))
    tokens = math.min(capacity, (tokens or capacity) + (now - (at or now)) * rate)
    local allowed = tokens >= cost
    if allowed then tokens = tokens - cost end
    redis.call('HSET', KEYS[1], 'tokens', string.format('%.17g', tokens), 'at', string.format('%.17g', now))
    redis.call('PEXPIRE', KEYS[1], math.ceil(capacity / rate * 1000), 'NX')
    return {allowed and 1 or 0, math.floor(tokens), string.format('%.17g', (cost - tokens) / rate)}
    """
    allowed, left, wait = redis.eval(script, 1, key, capacity, rate, cost)
    if allowed:
        return True, left, 0
    return False, left, float(wait) if cost <= capacity else math.inf


@wrong("06.1", because="One call after the other", sequential=True)
def three_decimals(redis, key, capacity, rate, now):
    """Who asks all the time loses each gain that is less than half a thousandth."""
    script = but("'tokens', tokens,", "'tokens', string.format('%.3f', tokens),")
    return take(script, redis, key, capacity, rate, now)


@wrong("06.1", situation=ALONE, because="(True, 8, 0); (True, from 3 to 4, 0) is due")
def holds_more_than_it_can(redis, key, capacity, rate, now):
    """When the capacity is lowered, what was in the bucket stays."""
    script = but("math.min(capacity, tokens", "math.min(math.max(capacity, tokens), tokens")
    return take(script, redis, key, capacity, rate, now)


def lives(part, redis, key, capacity, rate, cost):
    """Right, but for how long the key lives."""
    whole = "math.ceil((capacity - tokens) / rate * 1000) + 1"
    assert whole in MANY
    told = redis.eval(MANY.replace(whole, part), 1, key, capacity, rate, cost)
    allowed, left, wait = told
    return allowed == 1, left, 0 if allowed else float(wait) if cost <= capacity else math.inf


@wrong("06.2", situation=ALONE, because="(False, 4, 86400) is due", sequential=True)
def lives_for_a_day(redis, key, capacity, rate, cost):
    return lives("86400000", redis, key, capacity, rate, cost)


@wrong("06.2", situation=ALONE, because="(False, 1, 0.000732421875) is due", sequential=True)
def lives_for_whole_milliseconds(redis, key, capacity, rate, cost):
    """A fast bucket is full within one: the key is gone at once."""
    part = "math.floor((capacity - tokens) / rate * 1000)"
    return lives(part, redis, key, capacity, rate, cost)


@wrong("06.3", situation=ALONE, because="invalid expire time", sequential=True)
def keeps_the_turn_for_whole_milliseconds(redis, key, rate, longest, now):
    script = RESERVE.replace("math.ceil", "math.floor")
    return reserve(redis, key, rate, longest, now, script)


@wrong("06.1", situation=ALONE, because="ada was given (True, -1, 0); (False, 0", sequential=True)
def takes_nearly_one_for_one(redis, key, capacity, rate, now):
    return take(but("tokens >= 1", "tokens >= 0.999"), redis, key, capacity, rate, now)


@wrong("06.2", situation=ALONE, because="ada was given (True, -1, 0.0); (False, 0", sequential=True)
def takes_nearly_enough_for_enough(redis, key, capacity, rate, cost):
    script = MANY.replace("if tokens < cost", "if tokens < cost - 0.001")
    allowed, left, wait = redis.eval(script, 1, key, capacity, rate, cost)
    return allowed == 1, left, float(wait) if cost <= capacity else math.inf


@wrong("06.1", situation=ALONE, because="the life of the key in seconds is 3600.0", sequential=True)
def lives_for_an_hour_at_the_most(redis, key, capacity, rate, now):
    life = "math.ceil((capacity - tokens) / rate * 1000)"
    return take(but(life, f"math.min(3600000, {life})"), redis, key, capacity, rate, now)


@wrong("06.2", because="is due", sequential=True)
def a_thousand_tokens_at_the_most(redis, key, capacity, rate, cost):
    return take_many_solution(redis, key, capacity, rate, min(cost, 1_000))


@wrong("06.3", situation=ALONE, because="ada was given -36.0; 0 is due", sequential=True)
def a_turn_is_over_when_its_key_is_gone(redis, key, rate, longest, now):
    """Right as long as the caller's clock is no faster than the server's."""
    script = """
    local interval, longest, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    local turn = tonumber(redis.call('GET', KEYS[1])) or now
    if turn - now > longest then return false end
    local ms = math.ceil((turn + interval - now) * 1000)
    redis.call('SET', KEYS[1], string.format('%.17g', turn + interval), 'PX', ms)
    return string.format('%.17g', turn - now)
    """
    wait = redis.eval(script, 1, key, 1 / rate, longest, repr(now))
    return None if wait is None else float(wait)


@wrong("06.3", situation=ALONE, because="ada was given 28.0; 64 is due", sequential=True)
def saves_up_turns_by_a_clock_that_is_ahead(redis, key, rate, longest, now):
    """A turn that was not used is the next one's, as long as its key is there."""
    script = """
    local interval, longest, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
    local turn = tonumber(redis.call('GET', KEYS[1])) or now
    if turn - now > longest then return false end
    local ms = math.max(1000, math.ceil((turn + interval - now) * 1000))
    redis.call('SET', KEYS[1], string.format('%.17g', turn + interval), 'PX', ms)
    return string.format('%.17g', math.max(0, turn - now))
    """
    wait = redis.eval(script, 1, key, 1 / rate, longest, repr(now))
    return None if wait is None else float(wait)
