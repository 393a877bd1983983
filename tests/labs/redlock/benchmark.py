"""Redlock beside its peers on five servers: round trips, throughput in turns, a node that forgets."""

import logging
import secrets
import statistics
import time

import redis
from pottery import Redlock

from labsupport.servers import start_masters

FREE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"
TURNS, TIMES = 5, 100


def ours(nodes, key, ttl):
    token, start = secrets.token_urlsafe(), time.monotonic()
    votes = 0
    for node in nodes:
        try:
            votes += bool(node.set(key, token, nx=True, px=int(ttl * 1000)))
        except redis.RedisError:
            continue

    def free():
        for node in nodes:
            try:
                node.eval(FREE, 1, key, token)
            except redis.RedisError:
                continue

    if votes > len(nodes) // 2 and time.monotonic() - start < 0.99 * ttl - 0.002:
        return free
    free()
    return None


def pottery(nodes, key, ttl):
    lock = Redlock(key=key, masters=nodes, auto_release_time=ttl)
    return lock.release if lock.acquire(blocking=False) else None


def redis_py(nodes, key, ttl):
    """The lock of one server, for comparison."""
    lock = nodes[0].lock(key, timeout=ttl)
    return lock.release if lock.acquire(blocking=False) else None


def reads(nodes):
    return sum(node.info("stats")["total_reads_processed"] for node in nodes)


def measure(lock, nodes):
    start, before = time.perf_counter(), reads(nodes)
    for turn in range(TIMES):
        free = lock(nodes, f"lock:{turn}:{secrets.token_hex(4)}", 10)
        free()
    seconds = time.perf_counter() - start
    return TIMES / seconds, (reads(nodes) - before - len(nodes)) / TIMES


def two_holders(lock):
    """Whether a second client gets the lock when a third node has come back empty."""
    servers = start_masters(5)
    try:
        nodes = [server.client(socket_timeout=0.3) for server in servers]
        for server in servers[3:]:
            server.kill()
        first = lock(nodes, "lock", 30)
        for server in servers[3:]:
            server.restart()
        servers[2].kill()
        servers[2].restart()
        return first is not None and lock(nodes, "lock", 30) is not None
    finally:
        for server in servers:
            server.close()


if __name__ == "__main__":
    logging.getLogger("pottery").disabled = True
    locks = (ours, pottery, redis_py)
    servers = start_masters(5)
    nodes = [server.client() for server in servers]
    turns = [{lock: measure(lock, nodes) for lock in locks} for _ in range(TURNS)]
    base = statistics.median(turn[ours][0] for turn in turns)
    for lock in locks:
        rate = statistics.median(turn[lock][0] for turn in turns)
        trips = statistics.median(turn[lock][1] for turn in turns)
        lost = "-" if lock is redis_py else ("two holders" if two_holders(lock) else "one holder")
        print(
            f"{lock.__name__:<10} {trips:>5.1f} round trips {rate:>7,.0f} locks/s"
            f" ({rate / base:.2f} of ours)  after an empty restart: {lost}"
        )
    for server in servers:
        server.close()
