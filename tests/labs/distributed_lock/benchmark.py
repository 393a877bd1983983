"""The locks of lab 07 beside those of libraries: round trips, takes per second, the same faults.

All by turns in one run, on one server; medians, and ratios to the lab's own lock.
"""

import logging
import secrets
import statistics
import time
from contextlib import contextmanager

import pottery
import redis_lock
from redis.exceptions import LockNotOwnedError

from labsupport.labs.distributed_lock import LockRace
from labsupport.servers import start_server

RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"


@contextmanager
def token_lock(redis, name, ttl):
    token = secrets.token_urlsafe()
    while not redis.set(name, token, nx=True, px=int(ttl * 1000)):
        time.sleep(0.01)
    try:
        yield token
    finally:
        if not redis.eval(RELEASE, 1, name, token):
            raise LockNotOwnedError(name)


def redis_py(redis, name, ttl):
    return redis.lock(name, timeout=ttl, sleep=0.01)


def python_redis_lock(redis, name, ttl):
    # its TTL is in whole seconds, and it wants replies in bytes
    return redis_lock.Lock(redis, name, expire=max(1, round(ttl)))


def pottery_redlock(redis, name, ttl):
    return pottery.Redlock(key=name, masters={redis}, auto_release_time=ttl)


def sell(db, fence):
    left = db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"] - 1
    return db.execute("UPDATE products SET stock = :left WHERE id = 1", left=left) == 1


def take(lock, client, times):
    for _ in range(times):
        with lock(client, f"bench:{lock.__name__}", 10):
            pass


def round_trips(lock, client, admin):
    before = admin.info("stats")["total_reads_processed"]
    take(lock, client, 100)
    return (admin.info("stats")["total_reads_processed"] - before - 1) / 100


def per_second(lock, client, times=300):
    begin = time.perf_counter()
    take(lock, client, times)
    return times / (time.perf_counter() - begin)


if __name__ == "__main__":
    logging.disable()  # the libraries log what the table says
    locks = [token_lock, redis_py, python_redis_lock, pottery_redlock]
    with start_server() as server:
        admin = server.client()
        plain = {"decode_responses": True}
        raw = {"decode_responses": False}
        options = dict(zip(locks, [plain, plain, raw, plain], strict=True))
        clients = {lock: server.client(**options[lock]) for lock in locks}
        for lock in locks:
            take(lock, clients[lock], 20)
        trips = {lock: round_trips(lock, clients[lock], admin) for lock in locks}
        turns = [{lock: per_second(lock, clients[lock]) for lock in locks} for _ in range(7)]
    print(f"{'':<20} {'round trips':>12} {'takes/s':>10} {'to ours':>9}")
    medians = {lock: statistics.median(turn[lock] for turn in turns) for lock in locks}
    for lock in locks:
        ratio = statistics.median(turn[lock] / turn[token_lock] for turn in turns)
        name = lock.__name__
        print(f"{name:<20} {trips[lock]:>12.1f} {medians[lock]:>10,.0f} {ratio:>9.2f}")
    for lock in (token_lock, redis_py):
        print("", LockRace(sell=sell).run(lock, live=False), sep="\n")
