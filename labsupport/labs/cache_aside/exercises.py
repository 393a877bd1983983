"""The exercises of lab 01: missing rows, one load for all, and no old row in the cache."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

import json
import random
import secrets
import time

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.cache_aside.checks import check_steady_readers, check_under_load
from labsupport.labs.cache_aside.contracts import GetProduct, UserCache
from labsupport.labs.cache_aside.single_flight_contract import FetchOnce

__all__ = ["EXERCISES"]


def get_product_stub(redis, db, product_id):
    """Return the product's row, or None when there is no such product.

    product:{id} keeps a row for half an hour to an hour, and "no such product" for half a minute to
    a minute. A hit does not prolong that; while it is kept, the database is not asked. Every key
    has a TTL. Callers come at once, and may crash.
    """
    key = f"product:{product_id}"
    cached = redis.get(key)
    if cached:
        return json.loads(cached)
    row = db.fetch_one("SELECT * FROM products WHERE id = :id", id=product_id)
    if row:
        redis.set(key, json.dumps(row))
        redis.expire(key, 3600)
    return row


def get_product_solution(redis, db, product_id):
    """Return the product's row, or None when there is no such product."""
    key = f"product:{product_id}"
    cached = redis.get(key)
    if cached is not None:
        return json.loads(cached)
    row = db.fetch_one("SELECT * FROM products WHERE id = :id", id=product_id)
    redis.set(key, json.dumps(row), ex=60 if row is None else 3600)
    return row


def fetch_once_stub(redis, key, load, ttl):
    """Return the cached value, or load it; of many callers, one loads. The lock is {key}:lock.

    The value, which JSON can hold, is cached for ttl seconds, even None (nothing there). An error
    in load reaches its caller and frees the lock. A holder may crash, or be slower than its lock:
    nobody waits for ever, and nobody frees a lock that is not theirs.
    """
    cached = redis.get(key)
    if cached is not None:
        return json.loads(cached)
    value = load()
    redis.set(key, json.dumps(value), px=int(ttl * 1000))
    return value


def fetch_once_solution(redis, key, load, ttl):
    """Return the cached value, or load it; of many callers, one loads. The lock is {key}:lock."""
    release = """
    -- KEYS: the lock; ARGV: the caller's token; returns 1 when the lock was theirs.
    return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
    """
    lock, token = f"{key}:lock", secrets.token_urlsafe()
    while (cached := redis.get(key)) is None:
        if not redis.set(lock, token, nx=True, px=10_000):
            time.sleep(random.uniform(0.002, 0.01))  # so that they don't ask in step
            continue
        try:
            cached = redis.get(key)  # somebody may have filled it since
            if cached is None:
                cached = json.dumps(load())
                redis.set(key, cached, px=int(ttl * 1000))
        finally:
            redis.eval(release, 1, lock, token)
        break
    return json.loads(cached)


def user_cache_stub():
    """Return get_user and update_user; user:{id} holds the row as JSON, or nothing.

    get_user returns the row; on a hit it does not ask the database. When all have finished, no old
    row is in the cache; a reader may crash, or pause for any time. No reader waits for another
    one: if it may not fill the cache, it returns the row that it read. Even while readers come without
    a pause, the row is cached.
    """

    def get_user(redis, db, user_id):
        cached = redis.get(f"user:{user_id}")
        if cached is not None:
            return json.loads(cached)
        row = db.fetch_one("SELECT * FROM users WHERE id = :id", id=user_id)
        redis.set(f"user:{user_id}", json.dumps(row), ex=3600)
        return row

    def update_user(redis, db, user_id, name):
        db.execute("UPDATE users SET username = :name WHERE id = :id", id=user_id, name=name)
        redis.delete(f"user:{user_id}")

    return get_user, update_user


def user_cache_solution():
    """Return get_user and update_user; user:{id} holds the row as JSON, or nothing."""
    fill = """
    -- KEYS: the row, its pass; ARGV: the row, seconds, the reader's pass; returns 1 when filled.
    if redis.call('GET', KEYS[2]) ~= ARGV[3] then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
    return redis.call('DEL', KEYS[2])
    """

    def get_user(redis, db, user_id):
        key, token = f"user:{user_id}", secrets.token_urlsafe()
        cached = redis.get(key)
        if cached is not None:
            return json.loads(cached)
        # before the row is read; with NX the first reader keeps it, or steady reads would never fill
        mine = redis.set(f"{key}:pass", token, nx=True, ex=10)
        row = db.fetch_one("SELECT * FROM users WHERE id = :id", id=user_id)
        if mine:
            redis.eval(fill, 2, key, f"{key}:pass", json.dumps(row), 3600, token)
        return row

    def update_user(redis, db, user_id, name):
        db.execute("UPDATE users SET username = :name WHERE id = :id", id=user_id, name=name)
        redis.delete(f"user:{user_id}", f"user:{user_id}:pass")  # and all passes are void

    return get_user, update_user


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="01.1",
        title="Remember what is not there, and let nothing stay for ever",
        stub=get_product_stub,
        solution=get_product_solution,
        hints=(
            "Two things are missing: a crash between two commands leaves something behind, and "
            "one kind of product is never cached at all. Which?",
            "`SET` takes the TTL along: `ex=` or `px=`. And a missing row needs a value that "
            "`redis.get` does not confuse with an empty cache.",
            "`json.dumps(None)` is the text `null`: not None, so `cached is not None` is a hit, and "
            "`json.loads` gives None back. Set it with `ex=60`, and rows with `ex=3600`.",
        ),
        check=judged_by(GetProduct()),
    ),
    Exercise(
        number="01.2",
        title="One load for all, even when it fails, crashes or finds nothing",
        stub=fetch_once_stub,
        solution=fetch_once_solution,
        hints=(
            "Start from `single_flight` above. What happens to its lock when `load` raises? And how "
            "many loads are there when `load` returns None?",
            "`try` … `finally` frees the lock after an error; a TTL frees it after a crash. After "
            "taking the lock, look into the cache again: somebody may have filled it meanwhile.",
            "Loop: `GET` key; `SET` lock token `NX PX` 10000, or sleep for a few milliseconds, "
            "`random.uniform(0.002, 0.01)`, and go round; then, in a `try`: `GET` again, `load()`, "
            "`SET` with `px=int(ttl * 1000)`; in `finally` the script that deletes the lock only if "
            "it holds the token.",
        ),
        check=judged_by(FetchOnce(), also=check_under_load),
    ),
    Exercise(
        number="01.3",
        title="No old row in the cache, and no reader who waits",
        stub=user_cache_stub,
        solution=user_cache_solution,
        hints=(
            "The lease closes the gap, but its readers wait for the one who has it. Must a reader "
            "wait if it may not fill the cache?",
            "Before it reads the database, a reader leaves its own token under a second key, "
            "unless there is one. It may fill the cache only while its token is there. Who removes it?",
            "Miss: `SET` pass token `NX EX 10` (without NX each reader takes the right from the one "
            "before, and under steady reads none ever fills), then SELECT. If the pass is yours, one "
            "script: if it still is, `SET` the row and `DEL` the pass. The writer: UPDATE, then one "
            "`DEL` of row and pass.",
        ),
        check=judged_by(UserCache(), also=check_steady_readers),
    ),
)
