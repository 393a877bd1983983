"""Locks of one server side by side: round trips, takes in turns, and a holder that is late."""

import secrets
import statistics
import time

import redis_lock
from pottery import Redlock

from labsupport.servers import start_server

RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"
ACQUIRE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local fence = redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], fence, 'PX', ARGV[1])
return fence
"""
TURNS, TIMES = 5, 200


def token(redis, name, ttl):
    """Lab 07's lock with a token; returns what frees it."""
    mine = secrets.token_urlsafe()
    assert redis.set(name, mine, nx=True, px=int(ttl * 1000))
    return lambda: redis.eval(RELEASE, 1, name, mine)


def fenced(redis, name, ttl):
    """Lab 07's lock that numbers its holders."""
    fence = redis.eval(ACQUIRE, 2, name, f"{name}:fence", int(ttl * 1000))
    return lambda: redis.eval(RELEASE, 1, name, fence)


def redis_py(redis, name, ttl):
    lock = redis.lock(name, timeout=ttl)
    assert lock.acquire(blocking=False)
    return lock.release


def python_redis_lock(redis, name, ttl):
    lock = redis_lock.Lock(redis, name, expire=max(1, int(ttl)))
    assert lock.acquire(blocking=False)
    return lock.release


def pottery(redis, name, ttl):
    """A Redlock of one master: what its client costs, not what five servers cost."""
    lock = Redlock(key=name, masters={redis}, auto_release_time=ttl)
    assert lock.acquire(blocking=False)
    return lock.release


LOCKS = [token, fenced, redis_py, python_redis_lock, pottery]


def round_trips(lock, redis):
    """By the server's own count, for a take and a release."""
    before = redis.info("stats")["total_reads_processed"]
    lock(redis, f"lock:{lock.__name__}", 10)()
    return redis.info("stats")["total_reads_processed"] - before - 1


def takes_per_second(lock, redis):
    start = time.perf_counter()
    for _ in range(TIMES):
        lock(redis, f"lock:{lock.__name__}", 10)()
    return TIMES / (time.perf_counter() - start)


def frees_anothers(lock, redis):
    """Whether a holder whose lock has expired frees the lock of the next one."""
    name = f"late:{lock.__name__}"
    late = lock(redis, name, 1)
    redis.delete(*redis.keys(f"*{name}"))  # its time is over
    keys = set(redis.keys("*"))
    lock(redis, name, 60)
    held = set(redis.keys("*")) - keys or {name}
    try:
        late()
    except Exception as error:
        return f"no: {type(error).__name__}"
    return "no" if all(map(redis.exists, held)) else "yes"


def main():
    with start_server() as server, server.client() as redis:
        for lock in LOCKS:
            lock(redis, f"lock:{lock.__name__}", 10)()  # connected, scripts known
        turns = [[takes_per_second(lock, redis) for lock in LOCKS] for _ in range(TURNS)]
        base = statistics.median(turn[0] for turn in turns)
        print(f"{'lock':20}{'round trips':>12}{'takes/s':>10}{'ratio':>7}  frees another's")
        for place, lock in enumerate(LOCKS):
            rate = statistics.median(turn[place] for turn in turns)
            trips, late = round_trips(lock, redis), frees_anothers(lock, redis)
            print(f"{lock.__name__:20}{trips:12}{rate:10,.0f}{rate / base:7.2f}  {late}")


if __name__ == "__main__":
    main()
