"""Runs a second of the explorer, as a learner calls it. Medians of several explorations.

What a machine gives varies by half from minute to minute; the last figure, a ratio that is taken in one
breath, is the one to compare.
"""

import json
import socket
import statistics
import time

from labsupport import explore
from labsupport.exploration import open_system

USER = "SELECT * FROM users WHERE id = :id"


def get_user(redis, db):
    cached = redis.get("user:1")
    if cached is not None:
        return json.loads(cached)
    row = db.fetch_one(USER, id=1)
    redis.set("user:1", json.dumps(row), ex=3600)
    return row


def update_user(redis, db):
    db.execute("UPDATE users SET username = :name WHERE id = :id", id=1, name="grace")
    redis.delete("user:1")


async def get_user_async(redis, db):
    cached = await redis.get("user:1")
    if cached is not None:
        return json.loads(cached)
    row = db.fetch_one(USER, id=1)
    await redis.set("user:1", json.dumps(row), ex=3600)
    return row


async def update_user_async(redis, db):
    db.execute("UPDATE users SET username = :name WHERE id = :id", id=1, name="grace")
    await redis.delete("user:1")


def fresh(redis, db):
    cached = redis.get("user:1")
    return cached is None or json.loads(cached) == db.fetch_one(USER, id=1)


def measure(name, clients, repeats, **options):
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        report = explore(clients, invariant=fresh, **options)
        found.append((report.interleavings, time.perf_counter() - begin))
    runs = found[0][0]
    seconds = statistics.median(spent for _, spent in found)
    print(f"{name:<44} {runs:>6,} orders {seconds * 1e3:>8.1f} ms {runs / seconds:>8,.0f} runs/s")


def round_trip(pinned):
    """Microseconds of one bare PING over the explorer's own server."""
    bench = open_system()
    path = bench.redis.connection_pool.connection_kwargs.get("path")
    if path is None:
        return float("nan")
    with socket.socket(socket.AF_UNIX) as wire:
        wire.connect(path)

        def ping():
            begin = time.perf_counter()
            for _ in range(2000):
                wire.sendall(b"PING\r\n")
                wire.recv(64)
            return (time.perf_counter() - begin) / 2000 * 1e6

        if not pinned:
            return ping()
        with bench.one_core():
            return ping()


def over_plain_calls(clients, repeats):
    """How much longer a run takes than the same calls one after the other, reset and invariant too."""
    bench = open_system()
    ratios = []
    for _ in range(repeats):
        begin = time.perf_counter()
        runs = explore(clients, invariant=fresh).interleavings
        middle = time.perf_counter()
        with bench.one_core():
            for _ in range(runs):
                bench.reset()
                for client in clients.values():
                    client(bench.redis, bench.db)
                fresh(bench.redis, bench.db)
        ratios.append((middle - begin) / (time.perf_counter() - middle))
    bench.reset()
    return statistics.median(ratios)


if __name__ == "__main__":
    two = {"reader": get_user, "writer": update_user}
    three = {**two, "second reader": get_user}
    explore(two, invariant=fresh)
    print(
        f"bare round trip, two cores {round_trip(False):.0f} µs, one core {round_trip(True):.0f} µs"
    )
    measure("cache-aside, reader and writer", two, 60)
    coroutines = {"reader": get_user_async, "writer": update_user_async}
    measure("the same as coroutines", coroutines, 60)
    measure("cache-aside, two readers and a writer", three, 9)
    measure("the same, pruned", three, 9, prune=True)
    measure("reader and writer, with crashes", two, 20, crashes=True)
    measure("reader and writer, with expiry", two, 20, expires="user:1")
    print(
        f"a run of three clients / the same calls without the explorer {over_plain_calls(three, 9):.2f}"
    )
