"""Wrong answers to the exercises of lab 02, and what each must be refused for."""

import json
from contextlib import suppress

from redis.exceptions import LockError, WatchError

from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

USER = "SELECT * FROM users WHERE id = :id"
RENAME = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id RETURNING *"

# 02.1


@wrong("02.1", situation="One writer alone", because="The cache has 'grace'", sequential=True)
def caches_the_wish(redis, db, user_id, name):
    row = db.fetch_one(RENAME, id=user_id, name=name)
    if row:
        redis.set(f"user:{user_id}", json.dumps({"username": name}), ex=3600)
    return row


@wrong("02.1", situation="One writer alone", because="grace was told None", sequential=True)
def returns_nothing(redis, db, user_id, name):
    db.fetch_one(RENAME, id=user_id, name=name)
    redis.delete(f"user:{user_id}")


@wrong("02.1", situation="One writer alone", because="made version 1 to 1", sequential=True)
def does_not_count(redis, db, user_id, name):
    db.execute("UPDATE users SET username = :name WHERE id = :id", id=user_id, name=name)
    redis.delete(f"user:{user_id}")
    return db.fetch_one(USER, id=user_id)


@wrong(
    "02.1",
    situation="One writer of a cached row",
    because="user:2, whom nobody has changed, is gone",
    sequential=True,
)
def empties_the_cache(redis, db, user_id, name):
    row = db.fetch_one(RENAME, id=user_id, name=name)
    for key in redis.keys("user:*"):
        redis.delete(key)
    return row


@wrong("02.1", situation="Two writers", because="The cache has 'grace', the database 'alan'")
def reads_it_again(redis, db, user_id, name):
    row = db.fetch_one(RENAME, id=user_id, name=name)
    if row is not None:
        again = db.fetch_one(USER, id=user_id)
        redis.set(f"user:{user_id}", json.dumps(again), ex=3600)
    return row


@wrong("02.1", situation="Two writers", because="the database")
def compares_in_python(redis, db, user_id, name):
    row = db.fetch_one(RENAME, id=user_id, name=name)
    if row is not None:
        cached = redis.get(f"user:{user_id}")
        if cached is None or json.loads(cached)["version"] < row["version"]:
            redis.set(f"user:{user_id}", json.dumps(row), ex=3600)
    return row


@wrong("02.1", situation="Two writers", because="the database")
def watches_and_gives_up(redis, db, user_id, name):
    with redis.pipeline() as pipe:
        pipe.watch(f"user:{user_id}")
        row = db.fetch_one(RENAME, id=user_id, name=name)
        if row is not None:
            pipe.multi()
            pipe.set(f"user:{user_id}", json.dumps(row), ex=3600)
            with suppress(WatchError):
                pipe.execute()
    return row


@wrong(
    "02.1",
    situation="A writer who may crash",
    because="The cache has 'grace', the database 'ada'",
    schedule="UPDATE SET crash:COMMIT",
)
def inside_the_transaction(redis, db, user_id, name):
    with db.transaction():
        row = db.fetch_one(RENAME, id=user_id, name=name)
        if row is not None:
            redis.set(f"user:{user_id}", json.dumps(row), ex=3600)
    return row


@wrong(
    "02.1",
    situation="A writer who may crash",
    because="user:1 has no TTL",
    schedule="UPDATE EVAL crash:EXPIRE",
)
def expires_it_afterwards(redis, db, user_id, name):
    put = """
    local cached, row = redis.call('GET', KEYS[1]), cjson.decode(ARGV[1])
    if not cached or cjson.decode(cached).version < row.version then
      redis.call('SET', KEYS[1], ARGV[1])
    end
    """
    row = db.fetch_one(RENAME, id=user_id, name=name)
    if row is not None:
        redis.eval(put, 1, f"user:{user_id}", json.dumps(row))
        redis.expire(f"user:{user_id}", 3600)
    return row


@wrong("02.1", situation="Two writers, slower than any lock", because="the database")
def under_a_lock(redis, db, user_id, name):
    lock = redis.lock(f"user:{user_id}:lock", timeout=10, sleep=0.005)
    lock.acquire()
    try:
        row = db.fetch_one(RENAME, id=user_id, name=name)
        if row is not None:
            redis.set(f"user:{user_id}", json.dumps(row), ex=3600)
    finally:
        with suppress(LockError):
            lock.release()
    return row


# 02.2


@wrong("02.2", situation="Version 9 where 10 is", because="version 9 is left", sequential=True)
def always(redis, key, row, ttl):
    return bool(redis.set(key, json.dumps(row), ex=ttl))


@wrong("02.2", situation="Version 10 where 9 is", because="version 9 is left", sequential=True)
def never_twice(redis, key, row, ttl):
    return bool(redis.set(key, json.dumps(row), ex=ttl, nx=True))


@wrong("02.2", situation="Version 10 where 9 is", because="version 9 is left", sequential=True)
def compares_texts(redis, key, row, ttl):
    script = """
    local cached = redis.call('GET', KEYS[1])
    if cached and tostring(cjson.decode(cached).version) > ARGV[2] then return 0 end
    return redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3]) and 1
    """
    return bool(redis.eval(script, 1, key, json.dumps(row), row["version"], ttl))


@wrong("02.2", situation="Version 10 where 9 is", because="a TTL of", sequential=True)
def keeps_the_ttl(redis, key, row, ttl):
    script = """
    local cached = redis.call('GET', KEYS[1])
    if not cached then return redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3]) and 1 end
    if cjson.decode(cached).version > tonumber(ARGV[2]) then return 0 end
    return redis.call('SET', KEYS[1], ARGV[1], 'KEEPTTL') and 1
    """
    return bool(redis.eval(script, 1, key, json.dumps(row), row["version"], ttl))


PUT = """
local cached = redis.call('GET', KEYS[1])
if cached and cjson.decode(cached).version > tonumber(ARGV[2]) then return 0 end
return redis.call('SET', KEYS[1], ARGV[1]) and 1
"""


@wrong(
    "02.2",
    situation="A crash with version 11 where 10 is",
    because="user:1 has no TTL",
    schedule="EVAL crash:EXPIRE",
)
def expires_it_after_the_script(redis, key, row, ttl):
    kept = bool(redis.eval(PUT, 1, key, json.dumps(row), row["version"]))
    return kept and bool(redis.expire(key, ttl))


@wrong("02.2", situation="Versions 10 and 9 at once", because="version 9 is left")
def watches_once(redis, key, row, ttl):
    with redis.pipeline() as pipe:
        pipe.watch(key)
        cached = pipe.get(key)
        if cached is not None and json.loads(cached)["version"] > row["version"]:
            return False
        pipe.multi()
        pipe.set(key, json.dumps(row), ex=ttl)
        try:
            return all(pipe.execute())
        except WatchError:
            return False


@wrong("02.2", situation="Versions 10 and 9 at once", because="has a TTL of 5000 ms")
def swaps_back(redis, key, row, ttl):
    old = redis.set(key, json.dumps(row), ex=ttl, get=True)
    if old is not None and json.loads(old)["version"] > row["version"]:
        redis.set(key, old, ex=5)
        return False
    return True


@wrong("02.2", situation="A row that may expire", because="raised TypeError")
def looks_before_it_leaps(redis, key, row, ttl):
    while redis.exists(key):
        with redis.pipeline() as pipe, suppress(WatchError):
            pipe.watch(key)
            if json.loads(pipe.get(key))["version"] > row["version"]:
                return False
            pipe.multi()
            pipe.set(key, json.dumps(row), ex=ttl)
            pipe.execute()
            return True
    script = PUT.replace("ARGV[1])", "ARGV[1], 'EX', ARGV[3])")
    return bool(redis.eval(script, 1, key, json.dumps(row), row["version"], ttl))


@wrong("02.2", situation="Versions 10 and 9, slower than any lock", because="version 9 is left")
def locks_and_compares(redis, key, row, ttl):
    lock = redis.lock(f"{key}:lock", timeout=10, sleep=0.005)
    lock.acquire()
    try:
        cached = redis.get(key)
        if cached is not None and json.loads(cached)["version"] > row["version"]:
            return False
        redis.set(key, json.dumps(row), ex=ttl)
        return True
    finally:
        with suppress(LockError):
            lock.release()


# 02.3


def fenced(script):
    def put_fenced(redis, user_id, row):
        key = f"user:{user_id}"
        args = json.dumps(row), row["version"]
        return bool(redis.eval(script, 2, key, f"{key}:version", *args))

    return put_fenced


FENCE = """
if tonumber(redis.call('GET', KEYS[2]) or 0) > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'EX', 86400)
redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
return 1
"""


@wrong(
    "02.3",
    situation="One writer alone",
    because="lives for 3600 seconds, not for a day",
    sequential=True,
)
def fence_as_short_as_the_row(redis, user_id, row):
    return fenced(FENCE.replace("86400", "3600"))(redis, user_id, row)


@wrong("02.3", situation="One writer alone", because="has no TTL", sequential=True)
def fence_for_ever(redis, user_id, row):
    return fenced(FENCE.replace(", 'EX', 86400", ""))(redis, user_id, row)


@wrong("02.3", situation="Ten changes, one after the other", because="told", sequential=True)
def fence_of_texts(redis, user_id, row):
    script = FENCE.replace(
        "tonumber(redis.call('GET', KEYS[2]) or 0)", "(redis.call('GET', KEYS[2]) or '')"
    )
    return fenced(script.replace("tonumber(ARGV[2])", "ARGV[2]"))(redis, user_id, row)


@wrong("02.3", situation="A reader after the row has expired", because="told [True, False]")
def never_the_same_again(redis, user_id, row):
    return fenced(FENCE.replace("> tonumber", ">= tonumber"))(redis, user_id, row)


@wrong("02.3", situation="Two writers", because="The cache has 'grace'")
def looks_at_the_fence_first(redis, user_id, row):
    key = f"user:{user_id}"
    if int(redis.get(f"{key}:version") or 0) > row["version"]:
        return False
    redis.set(f"{key}:version", row["version"], ex=86400)
    redis.set(key, json.dumps(row), ex=3600)
    return True


@wrong(
    "02.3", situation="A reader, a writer, and a row that may expire", because="The cache has 'ada'"
)
def fence_that_only_refuses_once(redis, user_id, row):
    script = """
    local cached = redis.call('GET', KEYS[1])
    if cached and cjson.decode(cached).version > tonumber(ARGV[2]) then
      redis.call('SET', KEYS[2], cjson.decode(cached).version, 'EX', 86400)
      return 0
    end
    if tonumber(redis.call('GET', KEYS[2]) or 0) > tonumber(ARGV[2]) then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
    return 1
    """
    return fenced(script)(redis, user_id, row)


@wrong("02.3", situation="Two writers", because="The cache has 'grace'")
def raises_the_fence_afterwards(redis, user_id, row):
    key = f"user:{user_id}"
    script = FENCE.replace("redis.call('SET', KEYS[2], ARGV[2], 'EX', 86400)", "")
    kept = fenced(script)(redis, user_id, row)
    if kept:
        redis.set(f"{key}:version", row["version"], ex=86400)
    return kept


@wrong("02.3", situation="Two writers", because="The cache has 'grace'")
def counts_instead_of_comparing(redis, user_id, row):
    script = """
    redis.call('INCR', KEYS[2])
    redis.call('EXPIRE', KEYS[2], 86400)
    redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
    return 1
    """
    return fenced(script)(redis, user_id, row)


@wrong(
    "02.3", situation="A reader, and a writer who may crash", because="user:1:version has no TTL"
)
def fence_in_two_steps(redis, user_id, row):
    script = FENCE.replace(", 'EX', 86400", "")
    kept = fenced(script)(redis, user_id, row)
    redis.expire(f"user:{user_id}:version", 86400)
    return kept
