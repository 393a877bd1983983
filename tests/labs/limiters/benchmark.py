"""Rate limiters side by side: worst window, share of what is due, round trips, and throughput in turns.

Ours are the scripts of labs 05 and 06, read from the notebooks' own cells.
"""

import json
import math
import statistics
import time
from pathlib import Path
from types import SimpleNamespace

import limits.storage.redis
from limits import RateLimitItemPerSecond
from limits.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter
from pyrate_limiter import Rate, RateItem
from pyrate_limiter.buckets.redis_bucket import RedisBucket
from throttled import RateLimiterType, Throttled, rate_limiter
from throttled.store import RedisStore

from labsupport.labs.sliding_window import RateLimit
from labsupport.labs.token_bucket import BucketLimit
from labsupport.servers import start_server

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"


def scripts(notebook):
    """The scripts of a notebook, by name."""
    found = {}
    for cell in json.loads((NOTEBOOKS / notebook).read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and source.split(" = ")[0] in {
            "LOG",
            "COUNTERS",
            "BUCKET",
            "GCRA",
        }:
            exec(source.split("\ndef ")[0], found)
    return found


SCRIPTS = scripts("05_sliding_window.ipynb") | scripts("06_token_bucket.ipynb")
LOG, COUNTERS, BUCKET, GCRA = (SCRIPTS[name] for name in ("LOG", "COUNTERS", "BUCKET", "GCRA"))


def made(redis, key, make):
    """What a library makes once for a client and a key; the client carries it."""
    mine = vars(redis).setdefault("made", {})
    if key not in mine:
        mine[key] = make()
    return mine[key]


def windowed(script, redis, key, limit, window):
    allowed, used, wait = redis.eval(script, 1, key, limit, round(window * 1e6))
    return allowed == 1, max(0, math.floor(limit - float(used))), wait / 1e6


def our_log(redis, key, limit, window, clock):
    return windowed(LOG, redis, key, limit, window)


def our_counters(redis, key, limit, window, clock):
    return windowed(COUNTERS, redis, key, limit, window)


def our_bucket(redis, key, capacity, rate, clock):
    allowed, left, wait = redis.eval(BUCKET, 1, key, capacity, rate)
    return allowed == 1, left, 0 if allowed else float(wait)


def our_gcra(redis, key, capacity, rate, clock):
    allowed, left, wait = redis.eval(GCRA, 1, key, capacity, 1e6 / rate)
    return allowed == 1, left, wait / 1e6


def limits_of(strategy, redis, key, limit, window, clock):
    limits.storage.redis.time = SimpleNamespace(time=clock)  # the clock of its machine

    def make():
        pool = redis.connection_pool
        return strategy(limits.storage.RedisStorage("redis://", connection_pool=pool))

    limiter, item = made(redis, strategy, make), RateLimitItemPerSecond(limit, math.ceil(window))
    if limiter.hit(item, key):
        return True, 0, 0
    stats = limiter.get_window_stats(item, key)
    return False, stats.remaining, max(0, stats.reset_time - clock())


def limits_moving(redis, key, limit, window, clock):
    return limits_of(MovingWindowRateLimiter, redis, key, limit, window, clock)


def limits_counters(redis, key, limit, window, clock):
    return limits_of(SlidingWindowCounterRateLimiter, redis, key, limit, window, clock)


def pyrate(redis, key, limit, window, clock):
    rates = [Rate(limit, round(window * 1000))]
    bucket = made(redis, key, lambda: RedisBucket.init(rates, redis, key))
    item = RateItem("call", round(clock() * 1000))
    bucket.leak(item.timestamp)
    allowed = bool(bucket.put(item))
    return allowed, 0, 0 if allowed else max(0, bucket.waiting(item)) / 1000


def throttled(redis, key, using, quota):
    def make():
        store = RedisStore(server="redis://localhost")
        store._backend._client = redis  # the connection of this client
        return Throttled(key=key, using=using.value, quota=quota, store=store)

    result = made(redis, (key, using), make).limit()
    return not result.limited, result.state.remaining, max(0, result.state.retry_after)


def throttled_sliding(redis, key, limit, window, clock):
    quota = rate_limiter.per_sec(limit)
    return throttled(redis, key, RateLimiterType.SLIDING_WINDOW, quota)


def throttled_gcra(redis, key, capacity, rate, clock):
    quota = rate_limiter.per_sec(round(rate), burst=capacity)
    return throttled(redis, key, RateLimiterType.GCRA, quota)


def throttled_bucket(redis, key, capacity, rate, clock):
    quota = rate_limiter.per_sec(round(rate), burst=capacity)
    return throttled(redis, key, RateLimiterType.TOKEN_BUCKET, quota)


WINDOWS = (our_log, our_counters, limits_moving, limits_counters, pyrate, throttled_sliding)
BUCKETS = (our_bucket, our_gcra, throttled_bucket, throttled_gcra)


def round_trips(redis, limiter, key):
    before = redis.info("stats")["total_reads_processed"]
    allowed, _, _ = limiter(redis, key, 2, 1, time.time)
    return allowed, redis.info("stats")["total_reads_processed"] - before - 1


def trips(redis, limiter):
    """Round trips of an admitted and of a refused call, all warm."""
    name, found = limiter.__name__, {True: 0, False: 0}
    for call in range(40):
        allowed, count = round_trips(redis, limiter, f"{name}:trips")
        if call > 3:
            found[allowed] = count
        if call > 3 and not found[True]:
            time.sleep(0.1)
    return found[True], found[False]


def calls_per_second(redis, limiter, times=400):
    begin = time.perf_counter()
    for _ in range(times):
        limiter(redis, f"{limiter.__name__}:many", 1_000_000, 1, time.time)
    return times / (time.perf_counter() - begin)


def table(experiment, skewed, limiters):
    print(
        f"{'':<20}{'worst':>8}{'of due':>8}{'skewed: worst':>15}{'of due':>8}"
        f"{'trips in':>10}{'refused':>9}{'calls/s':>10}{'ratio':>7}"
    )
    with start_server() as server, server.client(single_connection_client=False) as redis:
        turns = [[calls_per_second(redis, one) for one in limiters] for _ in range(7)]
        speeds = [statistics.median(column) for column in zip(*turns, strict=True)]
        counts = [trips(redis, one) for one in limiters]
    for limiter, speed, (admitted, refused) in zip(limiters, speeds, counts, strict=True):
        numbers = [one.run(limiter, live=False).numbers for one in (experiment, skewed)]
        shown = "".join(
            f"{n['worst']:>{a}.0f}{n['share_of_due']:>{b}.0%}"
            for n, a, b in zip(numbers, (8, 15), (8, 8), strict=True)
        )
        print(
            f"{limiter.__name__:<20}{shown}{admitted:>10}{refused:>9}{speed:>10,.0f}{speed / speeds[0]:>7.2f}"
        )


if __name__ == "__main__":
    knobs = {"window_seconds": 1.0, "seconds": 6.0}
    print("20 calls a second, light load, two bursts, then twice the limit; one clock 30 s ahead")
    table(RateLimit(**knobs), RateLimit(**knobs, skew_seconds=30), WINDOWS)
    print("\na bucket of 20, 100 a second")
    table(BucketLimit(), BucketLimit(skew_seconds=30), BUCKETS)
