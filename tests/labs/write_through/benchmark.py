"""Labs 02 and 04 beside dogpile.cache, cashews and redis-py's client-side cache, in the same races.

Prints the server's own count of round trips, writes per second in turns (medians, and ratios to the
plain DEL), what each leaves in the cache in the order of steps that breaks two writers, and for how
long a service serves an old row after it was cut off.
"""

import asyncio
import json
import logging
import statistics
import threading
import time

from cashews import Cache
from dogpile.cache import make_region
from dogpile.cache.api import NO_VALUE
from redis.backoff import ExponentialBackoff
from redis.cache import CacheConfig
from redis.retry import Retry

from labsupport.database import open_shop
from labsupport.labs.cache_invalidation import StaleReads
from labsupport.servers import start_server

USER = "SELECT * FROM users WHERE id = :id"
RENAME = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id RETURNING *"
PUT_NEWER = """
local cached, row = redis.call('GET', KEYS[1]), cjson.decode(ARGV[1])
if cached and cjson.decode(cached).version >= row.version then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""


class Finishes:
    """What each does with the cache after the database was written; and what a reader then finds."""

    def __init__(self, server):
        self.redis = server.client()
        self.loop = asyncio.new_event_loop()
        self.cashews = Cache()
        self.cashews.setup(server.url)
        self.region = make_region().configure(
            "dogpile.cache.redis",
            expiration_time=3600,
            arguments={
                "connection_pool": server.client(decode_responses=False).connection_pool,
                "redis_expiration_time": 7200,
            },
        )
        self.ways = {
            "DEL": (lambda key, row: self.redis.delete(key), self.mine),
            "SET": (lambda key, row: self.redis.set(key, json.dumps(row), ex=3600), self.mine),
            "versioned script": (self.versioned, self.mine),
            "dogpile delete": (lambda key, row: self.region.delete(key), self.dogpile),
            "dogpile set": (lambda key, row: self.region.set(key, row), self.dogpile),
            "cashews delete": (lambda key, row: self.wait(self.cashews.delete(key)), self.theirs),
            "cashews set": (
                lambda key, row: self.wait(self.cashews.set(key, row, expire=3600)),
                self.theirs,
            ),
        }

    def wait(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def versioned(self, key, row):
        self.redis.eval(PUT_NEWER, 1, key, json.dumps(row), 3600)

    def mine(self, key):
        cached = self.redis.get(key)
        return None if cached is None else json.loads(cached)

    def dogpile(self, key):
        cached = self.region.get(key)
        return None if cached is NO_VALUE else cached

    def theirs(self, key):
        return self.wait(self.cashews.get(key))

    def close(self):
        self.wait(self.cashews.close())
        self.loop.close()


def writes(finishes, server, shop):
    admin = server.client()

    def trips(act):
        before = admin.info("stats")["total_reads_processed"]
        act()
        return admin.info("stats")["total_reads_processed"] - before - 1  # one is this INFO

    def rate(way, times=200):
        start = time.perf_counter()
        for _ in range(times):
            finishes.ways[way][0]("user:9", shop.fetch_one(RENAME, id=9, name="grace"))
        return times / (time.perf_counter() - start)

    row = shop.fetch_one(USER, id=9)
    for finish, _ in finishes.ways.values():
        finish("user:9", row)  # connected, and warm
    turns = [{way: rate(way) for way in finishes.ways} for _ in range(7)]
    print(
        f"{'after the UPDATE':<18} {'trips':>6} {'writes/s':>9} {'to DEL':>7}   two writers, crossed"
    )
    for way, (finish, read) in finishes.ways.items():
        key = f"user:{way}".replace(" ", "-")
        count = trips(lambda f=finish, k=key: f(k, row))
        median = statistics.median(turn[way] for turn in turns)
        ratio = statistics.median(turn[way] / turn["DEL"] for turn in turns)
        first = shop.fetch_one(RENAME, id=1, name="grace")
        second = shop.fetch_one(RENAME, id=1, name="alan")
        finish(key, second)
        finish(key, first)
        left = read(key)
        end = "nothing" if left is None else "the new row" if left == second else "THE OLD ROW"
        print(f"{way:<18} {count:>6} {median:>9,.0f} {ratio:>7.2f}   leaves {end}")


def get_user(redis, db, user_id):
    cached = redis.get(f"user:{user_id}")
    if cached is not None:
        return json.loads(cached)
    row = db.fetch_one(USER, id=user_id)
    redis.set(f"user:{user_id}", json.dumps(row), ex=3600)
    return row


def by_hand(*, forget):
    """A dict with a TTL in each service, and messages on a channel."""

    def service(connect, db, ttl):
        redis, local = connect(), {}
        subscriber = connect(retry=Retry(ExponentialBackoff(), 10)).pubsub()
        subscriber.subscribe("invalidate")

        def listen():
            for message in subscriber.listen():
                if message["type"] == "message":
                    local.pop(message["data"], None)
                elif forget:
                    local.clear()

        def get(user_id):
            row, until = local.get(f"user:{user_id}", (None, 0))
            if time.monotonic() >= until:
                row = get_user(redis, db, user_id)
                local[f"user:{user_id}"] = row, time.monotonic() + ttl
            return row

        def update(user_id, name):
            db.execute(RENAME.removesuffix(" RETURNING *"), id=user_id, name=name)
            redis.delete(f"user:{user_id}")
            redis.publish("invalidate", f"user:{user_id}")

        threading.Thread(target=listen, daemon=True).start()
        return get, update

    return service


def by_redis_py(connect, db, ttl):
    """CLIENT TRACKING."""
    redis = connect(protocol=3, cache_config=CacheConfig())

    def update(user_id, name):
        db.execute(RENAME.removesuffix(" RETURNING *"), id=user_id, name=name)
        redis.delete(f"user:{user_id}")

    return lambda user_id: get_user(redis, db, user_id), update


def by_cashews(connect, db, ttl):
    """cashews with its own client-side cache, which is broadcast tracking on a second connection.

    For five seconds it ignores what it is told of a key that it has set itself (cashews 7.6,
    `BcastClientSide._expire_for_recently_update`); a service that fills the cache has just done so.
    """
    logging.disable()  # it logs each lost connection, as it should
    pool = connect().connection_pool.connection_kwargs
    url = f"redis://{pool['host']}:{pool['port']}/0?client_name={pool['client_name']}"
    loop, cache = asyncio.new_event_loop(), Cache()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def wait(awaitable):
        return asyncio.run_coroutine_threadsafe(awaitable, loop).result(10)

    async def start():
        cache.setup(url, client_side=True)
        await cache.init()

    async def read(user_id):
        row = await cache.get(f"user:{user_id}")
        if row is None:
            row = db.fetch_one(USER, id=user_id)
            await cache.set(f"user:{user_id}", row, expire=3600)
        return row

    def update(user_id, name):
        db.execute(RENAME.removesuffix(" RETURNING *"), id=user_id, name=name)
        wait(cache.delete(f"user:{user_id}"))

    wait(start())
    return lambda user_id: wait(read(user_id)), update


def cut_off():
    services = StaleReads()
    print(f"\n{'copies in services':<30} {'connected':>12} {'cut off':>12} {'stale for':>10}")
    ways = {
        "a channel": by_hand(forget=False),
        "a channel, forgets at a gap": by_hand(forget=True),
        "redis-py, client-side cache": by_redis_py,
        "cashews, client_side=True": by_cashews,
    }
    for name, service in ways.items():
        found = services.run(service, live=False, name=name)
        told, cut = (claim.status for claim in found.verdict.claims[:2])
        seconds = found.numbers["longest_stale_seconds"]
        print(f"{name:<30} {told:>12} {cut:>12} {seconds:>8.3f} s")


if __name__ == "__main__":
    with start_server(tcp=True) as server, open_shop() as shop:
        finishes = Finishes(server)
        writes(finishes, server, shop)
        finishes.close()
    cut_off()
