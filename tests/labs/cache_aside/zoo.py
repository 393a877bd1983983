"""Wrong answers to the exercises of lab 01, and what each must be refused for."""

import json
import random
import secrets
import time
from contextlib import suppress

from redis.exceptions import WatchError

from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

PRODUCT = "SELECT * FROM products WHERE id = :id"
USER = "SELECT * FROM users WHERE id = :id"
RENAME = "UPDATE users SET username = :name WHERE id = :id"
RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"


# 01.1: those refused because of a crash or an expiry pass every test in sequence


@wrong(
    "01.1",
    situation="One call after the other",
    because="is not there; a value is due",
    sequential=True,
)
def forgets_what_is_not_there(redis, db, product_id):
    cached = redis.get(f"product:{product_id}")
    if cached is not None:
        return json.loads(cached)
    row = db.fetch_one(PRODUCT, id=product_id)
    if row is not None:
        redis.set(f"product:{product_id}", json.dumps(row), ex=3600)
    return row


@wrong(
    "01.1",
    situation="A client that crashes",
    because="The key 'product:1' has no time to live",
    schedule="GET SELECT SETNX crash:EXPIRE",
)
def expires_it_afterwards(redis, db, product_id):
    cached = redis.get(f"product:{product_id}")
    if cached is not None:
        return json.loads(cached)
    row = db.fetch_one(PRODUCT, id=product_id)
    if redis.setnx(f"product:{product_id}", json.dumps(row)):
        redis.expire(f"product:{product_id}", 60 if row is None else 3600)
    return row


@wrong(
    "01.1",
    situation="One call after the other",
    because="is not there; a value is due",
    sequential=True,
)
def set_of_what_is_not_there(redis, db, product_id):
    cached = redis.get(f"product:{product_id}")
    if cached is not None:
        return json.loads(cached)
    if redis.sismember("missing", product_id):
        return None
    row = db.fetch_one(PRODUCT, id=product_id)
    if row is None:
        redis.sadd("missing", product_id)
        redis.expire("missing", 60)
    else:
        redis.set(f"product:{product_id}", json.dumps(row), ex=3600)
    return row


@wrong(
    "01.1",
    situation="Several clients at once",
    because="TypeError",
    schedule="EXISTS SELECT SET EXISTS DEL GET",
)
def looks_before_it_leaps(redis, db, product_id):
    key = f"product:{product_id}"
    if redis.exists(key):
        return json.loads(redis.get(key))
    row = db.fetch_one(PRODUCT, id=product_id)
    redis.set(key, json.dumps(row), ex=60 if row is None else 3600)
    return row


@wrong(
    "01.1",
    situation="One call after the other",
    because="lives for 3,600 s; 30 to 60 s is due",
    sequential=True,
)
def nothing_for_an_hour(redis, db, product_id):
    cached = redis.get(f"product:{product_id}")
    if cached is not None:
        return json.loads(cached)
    row = db.fetch_one(PRODUCT, id=product_id)
    redis.set(f"product:{product_id}", json.dumps(row), ex=3600)
    return row


@wrong(
    "01.1",
    situation="One call after the other",
    because="has no time to live",
    sequential=True,
)
def nothing_for_ever(redis, db, product_id):
    cached = redis.get(f"product:{product_id}")
    if cached is not None:
        return json.loads(cached)
    row = db.fetch_one(PRODUCT, id=product_id)
    redis.set(f"product:{product_id}", json.dumps(row), ex=3600 if row else None)
    return row


@wrong("01.1", situation="One call after the other", because="ada was given {}", sequential=True)
def an_empty_row(redis, db, product_id):
    cached = redis.get(f"product:{product_id}")
    if cached is not None:
        return json.loads(cached)
    row = db.fetch_one(PRODUCT, id=product_id)
    redis.set(f"product:{product_id}", json.dumps(row or {}), ex=3600 if row else 60)
    return row


@wrong(
    "01.1",
    situation="One call after the other",
    because="the count of calls that asked the database holds 2; 1 is due",
    sequential=True,
)
def an_empty_text(redis, db, product_id):
    cached = redis.get(f"product:{product_id}")
    if cached:
        return json.loads(cached)
    row = db.fetch_one(PRODUCT, id=product_id)
    redis.set(f"product:{product_id}", json.dumps(row) if row else "", ex=3600 if row else 60)
    return row


@wrong(
    "01.1",
    situation="One call after the other",
    because="A hit does not prolong that",
    sequential=True,
)
def young_for_ever(redis, db, product_id):
    cached = redis.getex(f"product:{product_id}", ex=3600)
    if cached is not None:
        return json.loads(cached)
    row = db.fetch_one(PRODUCT, id=product_id)
    redis.set(f"product:{product_id}", json.dumps(row), ex=60 if row is None else 3600)
    return row


@wrong(
    "01.1",
    situation="One call after the other",
    because="product:1 is not there; a value is due",
    sequential=True,
)
def in_this_process_only(redis, db, product_id, rows={}):  # noqa: B006
    redis.ping()
    if product_id not in rows:
        rows[product_id] = db.fetch_one(PRODUCT, id=product_id)
    return rows[product_id]


@wrong(
    "01.1",
    situation="One call after the other",
    because="lives for 3,600 s; 10 to 1,810 s is due",
    sequential=True,
)
def young_when_it_grows_old(redis, db, product_id):
    key = f"product:{product_id}"
    cached = redis.get(key)
    if cached is not None:
        if cached != "null" and redis.ttl(key) < 1_900:
            redis.expire(key, 3600)
        return json.loads(cached)
    row = db.fetch_one(PRODUCT, id=product_id)
    redis.set(key, json.dumps(row), ex=60 if row is None else 3600)
    return row


# 01.2: all but the last four return the right value when they are called one after the other


@wrong(
    "01.2",
    situation="Several clients at once",
    because="of many callers, one loads",
    schedule="GET GET SET RPUSH SET EVAL SET RPUSH SET EVAL",
)
def no_second_look(redis, key, load, ttl):
    lock, token = f"{key}:lock", secrets.token_urlsafe()
    while (cached := redis.get(key)) is None:
        if redis.set(lock, token, nx=True, px=10_000):
            try:
                value = load()
                redis.set(key, json.dumps(value), px=int(ttl * 1000))
                return value
            finally:
                redis.eval(RELEASE, 1, lock, token)
        time.sleep(0.005)
    return json.loads(cached)


def locked(acquire, release):
    """An answer that is right but for how it takes and frees the lock."""

    def fetch_once(redis, key, load, ttl):
        lock, token = f"{key}:lock", secrets.token_urlsafe()
        while (cached := redis.get(key)) is None:
            if not acquire(redis, lock, token):
                time.sleep(0.005)
                continue
            try:
                cached = redis.get(key)
                if cached is None:
                    cached = json.dumps(load())
                    redis.set(key, cached, px=int(ttl * 1000))
            finally:
                release(redis, lock, token)
            break
        return json.loads(cached)

    return fetch_once


def take(redis, lock, token):
    return redis.set(lock, token, nx=True, px=10_000)


def free(redis, lock, token):
    return redis.eval(RELEASE, 1, lock, token)


@wrong(
    "01.2", situation="Several clients at once", because="bob has lost product:1:lock to another"
)
def frees_any_lock(redis, key, load, ttl):
    return locked(take, lambda redis, lock, token: redis.delete(lock))(redis, key, load, ttl)


@wrong(
    "01.2", situation="Several clients at once", because="nobody frees a lock that is not theirs"
)
def looks_then_frees(redis, key, load, ttl):
    def look_then_free(redis, lock, token):
        if redis.get(lock) == token:
            redis.delete(lock)

    return locked(take, look_then_free)(redis, key, load, ttl)


@wrong("01.2", situation="A client that crashes", because="'product:1:lock' has no time to live")
def lock_without_a_ttl(redis, key, load, ttl):
    return locked(lambda redis, lock, token: redis.set(lock, token, nx=True), free)(
        redis, key, load, ttl
    )


@wrong(
    "01.2",
    situation="A client that crashes",
    because="'product:1:lock' has no time to live",
    schedule="GET SETNX crash:EXPIRE",
)
def lock_then_expire(redis, key, load, ttl):
    def acquire(redis, lock, token):
        return redis.setnx(lock, token) and redis.expire(lock, 10)

    return locked(acquire, free)(redis, key, load, ttl)


@wrong(
    "01.2",
    situation="One call after the other",
    because="the count of locks that are left in the end holds 1; 0 is due",
    sequential=True,
)
def no_finally(redis, key, load, ttl):
    lock, token = f"{key}:lock", secrets.token_urlsafe()
    while (cached := redis.get(key)) is None:
        if take(redis, lock, token):
            cached = redis.get(key) or json.dumps(load())
            redis.set(key, cached, px=int(ttl * 1000))
            free(redis, lock, token)
            break
        time.sleep(0.005)
    return json.loads(cached)


@wrong(
    "01.2",
    situation="One call after the other",
    because="product:1 is not there; a value is due",
    sequential=True,
)
def forgets_nothing(redis, key, load, ttl):
    lock, token = f"{key}:lock", secrets.token_urlsafe()
    while (cached := redis.get(key)) is None:
        if take(redis, lock, token):
            try:
                if (cached := redis.get(key)) is not None:
                    return json.loads(cached)
                value = load()
                if value is not None:
                    redis.set(key, json.dumps(value), px=int(ttl * 1000))
                return value
            finally:
                free(redis, lock, token)
        time.sleep(0.005)
    return json.loads(cached)


IN_FLIGHT = set()


@wrong("01.2", situation="Several clients at once", because="of many callers, one loads")
def within_this_process(redis, key, load, ttl):
    while (cached := redis.get(key)) is None:
        if key in IN_FLIGHT:
            time.sleep(0.005)
            continue
        IN_FLIGHT.add(key)
        try:
            cached = redis.get(key)
            if cached is None:
                cached = json.dumps(load())
                redis.set(key, cached, px=int(ttl * 1000))
        finally:
            IN_FLIGHT.discard(key)
    return json.loads(cached)


@wrong(
    "01.2",
    situation="Eight callers in two processes",
    because="A missing key costs one database load at a time",
)
def lock_for_a_moment(redis, key, load, ttl):
    def acquire(redis, lock, token):
        return redis.set(lock, token, nx=True, px=int(ttl * 10))

    return locked(acquire, free)(redis, key, load, ttl)


@wrong(
    "01.2",
    situation="A load that takes long",
    because="bob called load, too, while ada still loaded",
)
def impatient(redis, key, load, ttl):
    lock, token = f"{key}:lock", secrets.token_urlsafe()
    for _ in range(5):
        if (cached := redis.get(key)) is not None:
            return json.loads(cached)
        if take(redis, lock, token):
            break
        time.sleep(0.001)
    try:
        cached = redis.get(key)
        if cached is None:
            cached = json.dumps(load())
            redis.set(key, cached, px=int(ttl * 1000))
    finally:
        free(redis, lock, token)
    return json.loads(cached)


@wrong("01.2", situation="Several clients at once", because="ada was given None")
def does_not_wait(redis, key, load, ttl):
    lock, token = f"{key}:lock", secrets.token_urlsafe()
    cached = redis.get(key)
    if cached is None and take(redis, lock, token):
        try:
            cached = redis.get(key) or json.dumps(load())
            redis.set(key, cached, px=int(ttl * 1000))
        finally:
            free(redis, lock, token)
    return cached and json.loads(cached)


@wrong(
    "01.2",
    situation="One call after the other",
    because="ada was given None; a DatabaseAwayError that reaches the caller is due",
    sequential=True,
)
def swallows_the_error(redis, key, load, ttl):
    def quiet():
        with suppress(Exception):
            return load()

    return locked(take, free)(redis, key, quiet, ttl)


@wrong("01.2", situation="One call after the other", because="12.5 s is due", sequential=True)
def whole_seconds(redis, key, load, ttl):
    lock, token = f"{key}:lock", secrets.token_urlsafe()
    while (cached := redis.get(key)) is None:
        if take(redis, lock, token):
            try:
                cached = redis.get(key) or json.dumps(load())
                redis.set(key, cached, ex=int(ttl))
            finally:
                free(redis, lock, token)
            break
        time.sleep(0.005)
    return json.loads(cached)


@wrong(
    "01.2",
    situation="One call after the other",
    because="'product:1' has no time to live; 60 s is due",
    sequential=True,
)
def a_value_for_ever(redis, key, load, ttl):
    lock, token = f"{key}:lock", secrets.token_urlsafe()
    while (cached := redis.get(key)) is None:
        if take(redis, lock, token):
            try:
                cached = redis.get(key) or json.dumps(load())
                redis.set(key, cached)
            finally:
                free(redis, lock, token)
            break
        time.sleep(0.005)
    return json.loads(cached)


@wrong(
    "01.2",
    situation="One call after the other",
    because="Return the cached value, or load it",
    sequential=True,
)
def nothing_is_a_miss(redis, key, load, ttl):
    lock, token = f"{key}:lock", secrets.token_urlsafe()
    while not (cached := json.loads(redis.get(key) or "null")):
        if take(redis, lock, token):
            try:
                cached = load()
                redis.set(key, json.dumps(cached), px=int(ttl * 1000))
                return cached
            finally:
                free(redis, lock, token)
        time.sleep(0.005)
    return cached


@wrong(
    "01.2",
    situation="One call after the other",
    because="product:1 holds a value; nothing is due",
    sequential=True,
)
def caches_the_error(redis, key, load, ttl):
    lock, token = f"{key}:lock", secrets.token_urlsafe()
    while (cached := redis.get(key)) is None:
        if take(redis, lock, token):
            value = None
            try:
                if (cached := redis.get(key)) is not None:
                    break
                value = load()
                return value
            finally:
                if cached is None:
                    redis.set(key, json.dumps(value), px=int(ttl * 1000))
                free(redis, lock, token)
        time.sleep(0.005)
    return json.loads(cached)


@wrong(
    "01.2",
    situation="One call after the other",
    because="the count of locks that are left in the end holds 1; 0 is due",
    sequential=True,
)
def frees_it_only_after_an_error(redis, key, load, ttl):
    lock, token = f"{key}:lock", secrets.token_urlsafe()
    while (cached := redis.get(key)) is None:
        if take(redis, lock, token):
            try:
                cached = redis.get(key) or json.dumps(load())
                redis.set(key, cached, px=int(ttl * 1000))
            except Exception:
                free(redis, lock, token)
                raise
            break
        time.sleep(0.005)
    return json.loads(cached)


@wrong(
    "01.2",
    situation="Several clients at once",
    because="bob has lost product:1:lock to another",
)
def the_same_token_for_all(redis, key, load, ttl):
    def acquire(redis, lock, token):
        return take(redis, lock, "mine")

    def release(redis, lock, token):
        return free(redis, lock, "mine")

    return locked(acquire, release)(redis, key, load, ttl)


# 01.3: all but the last three pass a test in sequence


def cached_row(redis, user_id):
    cached = redis.get(f"user:{user_id}")
    return None if cached is None else json.loads(cached)


def plain_reader(redis, db, user_id):
    row = cached_row(redis, user_id)
    if row is None:
        row = db.fetch_one(USER, id=user_id)
        redis.set(f"user:{user_id}", json.dumps(row), ex=3600)
    return row


@wrong(
    "01.3",
    situation="Several clients at once",
    because="no old row is in the cache",
    schedule="DEL GET SELECT SET UPDATE",
)
def deletes_first():
    def update_user(redis, db, user_id, name):
        redis.delete(f"user:{user_id}")
        db.execute(RENAME, id=user_id, name=name)

    return plain_reader, update_user


@wrong(
    "01.3",
    situation="Several clients at once",
    because="no old row is in the cache",
    schedule="GET SELECT UPDATE DEL DEL SET",
)
def deletes_twice():
    def update_user(redis, db, user_id, name):
        db.execute(RENAME, id=user_id, name=name)
        redis.delete(f"user:{user_id}")
        time.sleep(1)
        redis.delete(f"user:{user_id}")

    return plain_reader, update_user


@wrong(
    "01.3",
    situation="Several clients at once",
    because="no old row is in the cache",
    schedule="GET SELECT UPDATE SELECT SET SET",
)
def writes_the_new_row():
    def update_user(redis, db, user_id, name):
        db.execute(RENAME, id=user_id, name=name)
        redis.set(f"user:{user_id}", json.dumps(db.fetch_one(USER, id=user_id)), ex=3600)

    return plain_reader, update_user


@wrong(
    "01.3",
    situation="Several clients at once",
    because="no old row is in the cache",
    schedule="GET SELECT UPDATE DEL SET",
)
def fills_only_what_is_empty():
    def get_user(redis, db, user_id):
        row = cached_row(redis, user_id)
        if row is None:
            row = db.fetch_one(USER, id=user_id)
            redis.set(f"user:{user_id}", json.dumps(row), ex=3600, nx=True)
        return row

    def update_user(redis, db, user_id, name):
        db.execute(RENAME, id=user_id, name=name)
        redis.delete(f"user:{user_id}")

    return get_user, update_user


@wrong(
    "01.3",
    situation="Several clients at once",
    because="no old row is in the cache",
    schedule="WATCH GET SELECT UPDATE DEL MULTI/EXEC",
)
def watches_a_key_that_is_not_there():
    def get_user(redis, db, user_id):
        with redis.pipeline() as pipe:
            pipe.watch(f"user:{user_id}")
            cached = pipe.get(f"user:{user_id}")
            if cached is not None:
                return json.loads(cached)
            row = db.fetch_one(USER, id=user_id)
            pipe.multi()
            pipe.set(f"user:{user_id}", json.dumps(row), ex=3600)
            with suppress(WatchError):  # somebody has changed it
                pipe.execute()
            return row

    def update_user(redis, db, user_id, name):
        db.execute(RENAME, id=user_id, name=name)
        redis.delete(f"user:{user_id}")  # of a missing key: changes nothing, so WATCH sees nothing

    return get_user, update_user


@wrong(
    "01.3",
    situation="Several clients at once",
    because="no old row is in the cache",
    schedule="GET GET SELECT GET UPDATE MULTI/EXEC SET",
)
def looks_at_the_version_then_fills():
    def get_user(redis, db, user_id):
        row = cached_row(redis, user_id)
        if row is None:
            version = redis.get(f"user:{user_id}:version")
            row = db.fetch_one(USER, id=user_id)
            if redis.get(f"user:{user_id}:version") == version:
                redis.set(f"user:{user_id}", json.dumps(row), ex=3600)
        return row

    return get_user, with_a_version


def with_a_version(redis, db, user_id, name, seconds=None):
    db.execute(RENAME, id=user_id, name=name)
    with redis.pipeline(transaction=True) as pipe:
        pipe.incr(f"user:{user_id}:version")
        if seconds:
            pipe.expire(f"user:{user_id}:version", seconds)
        pipe.delete(f"user:{user_id}")
        pipe.execute()


IF_SAME = """
if (redis.call('GET', KEYS[2]) or '') == ARGV[2] then
  redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
end
"""


@wrong(
    "01.3",
    situation="Several clients, and a pause that outlasts every TTL",
    because="a reader may crash, or pause for any time",
    schedule="GET GET SELECT UPDATE MULTI/EXEC expire:user:1:version EVAL",
)
def version_that_expires():
    def get_user(redis, db, user_id):
        row = cached_row(redis, user_id)
        if row is None:
            key = f"user:{user_id}"
            version = redis.get(f"{key}:version") or ""
            row = db.fetch_one(USER, id=user_id)
            redis.eval(IF_SAME, 2, key, f"{key}:version", json.dumps(row), version)
        return row

    def update_user(redis, db, user_id, name):
        with_a_version(redis, db, user_id, name, seconds=10)

    return get_user, update_user


def reader_with_a_pass(make_token):
    def get_user(redis, db, user_id):
        row = cached_row(redis, user_id)
        if row is None:
            key, token = f"user:{user_id}", make_token()
            redis.set(f"{key}:pass", token, ex=10)
            row = db.fetch_one(USER, id=user_id)
            redis.eval(IF_SAME, 2, key, f"{key}:pass", json.dumps(row), token)
        return row

    return get_user


@wrong(
    "01.3",
    situation="Several clients at once",
    because="no old row is in the cache",
    schedule="GET SET SELECT UPDATE DEL EVAL",
)
def pass_that_stays_valid():
    def update_user(redis, db, user_id, name):
        db.execute(RENAME, id=user_id, name=name)
        redis.delete(f"user:{user_id}")

    return reader_with_a_pass(secrets.token_urlsafe), update_user


@wrong(
    "01.3",
    situation="Several clients at once",
    because="no old row is in the cache",
    schedule="GET SET SELECT UPDATE DEL EVAL DEL",
)
def pass_taken_after_the_row():
    def update_user(redis, db, user_id, name):
        db.execute(RENAME, id=user_id, name=name)
        redis.delete(f"user:{user_id}")
        redis.delete(f"user:{user_id}:pass")

    return reader_with_a_pass(secrets.token_urlsafe), update_user


@wrong("01.3", situation="Several clients at once", because="no old row is in the cache")
def the_same_pass_for_all():
    def update_user(redis, db, user_id, name):
        db.execute(RENAME, id=user_id, name=name)
        redis.delete(f"user:{user_id}", f"user:{user_id}:pass")

    return reader_with_a_pass(lambda: "reading"), update_user


@wrong("01.3", situation="Several clients at once", because="waited for somebody else")
def readers_wait_for_one_another():
    def get_user(redis, db, user_id):
        key, token = f"user:{user_id}", secrets.token_urlsafe()
        while (row := cached_row(redis, user_id)) is None:
            if redis.set(f"{key}:pass", token, nx=True, ex=10):
                row = db.fetch_one(USER, id=user_id)
                redis.eval(IF_SAME, 2, key, f"{key}:pass", json.dumps(row), token)
                redis.eval(RELEASE, 1, f"{key}:pass", token)
                return row
            time.sleep(0.005)
        return row

    def update_user(redis, db, user_id, name):
        db.execute(RENAME, id=user_id, name=name)
        redis.delete(f"user:{user_id}", f"user:{user_id}:pass")

    return get_user, update_user


@wrong(
    "01.3",
    situation="Readers without a pause",
    because="Two readers were done, and user:1 was empty",
)
def each_reader_takes_the_pass():
    def get_user(redis, db, user_id):
        key, token = f"user:{user_id}", secrets.token_urlsafe()
        row = cached_row(redis, user_id)
        if row is None:
            redis.set(f"{key}:pass", token, ex=10)  # without NX
            row = db.fetch_one(USER, id=user_id)
            redis.eval(IF_SAME, 2, key, f"{key}:pass", json.dumps(row), token)
        return row

    def update_user(redis, db, user_id, name):
        db.execute(RENAME, id=user_id, name=name)
        redis.delete(f"user:{user_id}", f"user:{user_id}:pass")

    return get_user, update_user


@wrong(
    "01.3",
    situation="One call after the other",
    because="the count of calls that asked the database holds 2; 1 is due",
    sequential=True,
)
def caches_nothing():
    def get_user(redis, db, user_id):
        return cached_row(redis, user_id) or db.fetch_one(USER, id=user_id)

    def update_user(redis, db, user_id, name):
        db.execute(RENAME, id=user_id, name=name)
        redis.delete(f"user:{user_id}")

    return get_user, update_user


@wrong(
    "01.3",
    situation="One call after the other",
    because="holds another row than the database",
    sequential=True,
)
def trusts_the_ttl():
    def update_user(redis, db, user_id, name):
        db.execute(RENAME, id=user_id, name=name)

    return plain_reader, update_user


@wrong("01.3", situation="Several clients at once", because="no old row is in the cache")
def voids_the_pass_and_writes_through():
    def get_user(redis, db, user_id):
        row, key, token = cached_row(redis, user_id), f"user:{user_id}", secrets.token_urlsafe()
        if row is None:
            mine = redis.set(f"{key}:pass", token, nx=True, ex=10)
            row = db.fetch_one(USER, id=user_id)
            if mine:
                redis.eval(IF_SAME, 2, key, f"{key}:pass", json.dumps(row), token)
        return row

    def update_user(redis, db, user_id, name):
        row = db.fetch_one(f"{RENAME} RETURNING *", id=user_id, name=name)
        with redis.pipeline() as pipe:
            pipe.delete(f"user:{user_id}:pass")
            pipe.set(f"user:{user_id}", json.dumps(row), ex=3600)
            pipe.execute()

    return get_user, update_user


@wrong(
    "01.3",
    situation="One call after the other",
    because="user:1 holds another row than the database",
    sequential=True,
)
def one_key_for_all_users():
    def get_user(redis, db, user_id):
        row = cached_row(redis, 1)
        if row is None:
            row = db.fetch_one(USER, id=user_id)
            redis.set("user:1", json.dumps(row), ex=3600)
        return row

    def update_user(redis, db, user_id, name):
        db.execute(RENAME, id=user_id, name=name)
        redis.delete("user:1")

    return get_user, update_user


@wrong("01.3", situation="", because="does not return 2 functions", sequential=True)
def one_function():
    return plain_reader


@wrong("01.2", situation="Several clients at once", because="['ada', 'bob']; ['bob'] is due")
def loads_without_the_lock_after_a_while(redis, key, load, ttl):
    """The holder need not move meanwhile."""
    lock, token = f"{key}:lock", secrets.token_hex(16)
    for _ in range(20):
        if (cached := redis.get(key)) is not None:
            return json.loads(cached)
        if redis.set(lock, token, nx=True, px=5_000):
            break
        time.sleep(0.02)
    try:
        if (cached := redis.get(key)) is not None:
            return json.loads(cached)
        value = load()
        redis.set(key, json.dumps(value), px=int(ttl * 1000))
        return value
    finally:
        redis.eval(RELEASE, 1, lock, token)


@wrong("01.3", situation="A client that crashes", because="asked the database holds")
def reader_whose_pass_stays_for_ever():
    """One who crashes leaves it, and no row is ever cached again."""
    fill = """
    if redis.call('GET', KEYS[2]) ~= ARGV[3] then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
    return redis.call('DEL', KEYS[2])
    """

    def get_user(redis, db, user_id):
        key, token = f"user:{user_id}", secrets.token_urlsafe()
        if (cached := redis.get(key)) is not None:
            return json.loads(cached)
        mine = redis.set(f"{key}:pass", token, nx=True)
        row = db.fetch_one(USER, id=user_id)
        if mine:
            redis.eval(fill, 2, key, f"{key}:pass", json.dumps(row), 3600, token)
        return row

    def update_user(redis, db, user_id, name):
        db.execute(RENAME, id=user_id, name=name)
        redis.delete(f"user:{user_id}", f"user:{user_id}:pass")

    return get_user, update_user


def cached_product(redis, db, product_id, seconds):
    key = f"product:{product_id}"
    if (cached := redis.get(key)) is None:
        cached = json.dumps(db.fetch_one(PRODUCT, id=product_id))
        redis.set(key, cached, px=round(seconds(cached != "null") * 1000))
    return json.loads(cached)


@wrong("01.1", because="1,800 to 3,600 s is due", sequential=True)
def too_long_at_times(redis, db, product_id):
    """Jitter on both sides."""
    return cached_product(
        redis, db, product_id, lambda there: (3_300 if there else 55) * random.uniform(0.9, 1.1)
    )


@wrong("01.1", because="asked the database holds", sequential=True)
def some_hits_look_ahead(redis, db, product_id):
    """In its last minute some ask again, so that it never expires."""
    key = f"product:{product_id}"
    if 0 < redis.ttl(key) < 60 and random.random() < 0.2:
        redis.delete(key)
    return cached_product(redis, db, product_id, lambda there: 2_400 if there else 45)


@wrong("01.2", because="waits for BLPOP")
def waits_to_be_woken(redis, key, load, ttl):
    """Who has crashed wakes nobody."""
    lock, token = f"{key}:lock", secrets.token_hex(8)
    while (cached := redis.get(key)) is None:
        if not redis.set(lock, token, nx=True, ex=10):
            redis.blpop(f"{key}:loaded")
            continue
        try:
            cached = json.dumps(load())
            redis.set(key, cached, px=round(ttl * 1000))
        finally:
            redis.eval(RELEASE, 1, lock, token)
            redis.rpush(f"{key}:loaded", *"1234")
            redis.expire(f"{key}:loaded", 10)
    return json.loads(cached)


def tries_for_a_while(tries, redis, key, load, ttl):
    """The value, as JSON, or None when others have had the lock for so many tries of 10 ms."""
    lock, token = f"{key}:lock", secrets.token_urlsafe()
    for _ in range(tries):
        if (cached := redis.get(key)) is not None:
            return cached
        if take(redis, lock, token):
            try:
                cached = redis.get(key) or json.dumps(load())
                redis.set(key, cached, px=int(ttl * 1000))
                return cached
            finally:
                free(redis, lock, token)
        time.sleep(0.01)
    return None


@wrong(
    "01.2",
    situation="A load that takes long",
    because="bob called load, too, while ada still loaded",
)
def loads_after_a_second(redis, key, load, ttl):
    """A query may take longer than that, and then all who wait make it."""
    cached = tries_for_a_while(100, redis, key, load, ttl)
    return load() if cached is None else json.loads(cached)


@wrong(
    "01.2",
    situation="A load that takes long",
    because="bob was given an error (TimeoutError",
)
def raises_after_two_seconds(redis, key, load, ttl):
    """Neither the cached value nor a load."""
    cached = tries_for_a_while(200, redis, key, load, ttl)
    if cached is None:
        raise TimeoutError(key)
    return json.loads(cached)


@wrong("01.2", because="Return the cached value, or load it; of many callers, one loads")
def trusts_who_has_loaded(redis, key, load, ttl):
    """Whose load may have failed."""
    lock, token = f"{key}:lock", secrets.token_urlsafe()
    if redis.get(key) is None and take(redis, lock, token):
        try:
            if redis.get(key) is None:
                redis.set(key, json.dumps(load()), px=int(ttl * 1000))
        finally:
            free(redis, lock, token)
    while redis.exists(lock):
        time.sleep(0.01)
    return json.loads(redis.get(key) or "null")


def late_fill(script):
    """An answer that is right but for how it fills a key that another may have filled meanwhile."""

    def get_product(redis, db, product_id):
        key = f"product:{product_id}"
        if (cached := redis.get(key)) is None:
            cached = json.dumps(db.fetch_one(PRODUCT, id=product_id))
            redis.eval(script, 1, key, cached, 45 if cached == "null" else 3000)
        return json.loads(cached)

    return get_product


@wrong("01.1", because="lives for 3,000 s; 30 to 60 s is due")
def expires_what_another_has_put_there(redis, db, product_id):
    """A `null` stays for an hour, or a row for a minute."""
    script = "redis.call('SETNX', KEYS[1], ARGV[1]) redis.call('EXPIRE', KEYS[1], ARGV[2])"
    return late_fill(script)(redis, db, product_id)


@wrong("01.1", because="lives for 3,000 s; 30 to 60 s is due")
def keeps_the_ttl_of_another(redis, db, product_id):
    """Of what was not there, and is now, or the other way round."""
    script = """
    if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then return end
    redis.call('SET', KEYS[1], ARGV[1], 'KEEPTTL')
    """
    return late_fill(script)(redis, db, product_id)


@wrong(
    "01.1",
    because="ada was given None; a DatabaseAwayError that reaches the caller is due",
    sequential=True,
)
def takes_an_error_for_nothing(redis, db, product_id):
    """Whoever asks in the next minute is told that there is no such product."""
    key = f"product:{product_id}"
    if (cached := redis.get(key)) is not None:
        return json.loads(cached)
    row = None
    with suppress(Exception):
        row = db.fetch_one(PRODUCT, id=product_id)
    redis.set(key, json.dumps(row), ex=3600 if row else 60)
    return row


@wrong("01.2", because="lives for 1 s; 0.4 s is due", sequential=True)
def keeps_it_for_a_second_at_least(redis, key, load, ttl):
    return locked(take, free)(redis, key, load, max(1, ttl))


@wrong("01.2", situation="One call after the other", because="ValueError", sequential=True)
def knows_whole_numbers_only(redis, key, load, ttl):
    locked(take, free)(redis, key, load, ttl)
    return json.loads(redis.get(key), parse_float=int)


@wrong("01.2", situation="A client that waits for long", because="loads holds ['ada', 'bob']")
def loads_it_after_a_thousand_polls(redis, key, load, ttl):
    token = secrets.token_urlsafe()
    for _ in range(1_000):
        if (cached := redis.get(key)) is not None:
            return json.loads(cached)
        if redis.set(f"{key}:lock", token, nx=True, ex=60):
            break
        time.sleep(0.02)
    try:
        if (cached := redis.get(key)) is None:
            redis.set(key, cached := json.dumps(load()), px=int(ttl * 1000))
        return json.loads(cached)
    finally:
        redis.eval(RELEASE, 1, f"{key}:lock", token)


@wrong("01.2", because="a DatabaseAwayError that reaches the caller is due", sequential=True)
def takes_a_value_error_for_nothing(redis, key, load, ttl):
    def there():
        with suppress(ValueError):
            return load()

    return locked(take, free)(redis, key, there, ttl)
