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


@wrong(
    "02.1",
    situation="One call after the other",
    because="user:1 holds another row than the database",
    sequential=True,
)
def caches_the_wish(redis, db, user_id, name):
    row = db.fetch_one(RENAME, id=user_id, name=name)
    if row:
        redis.set(f"user:{user_id}", json.dumps({"username": name}), ex=3600)
    return row


@wrong("02.1", situation="One call after the other", because="ada was given None", sequential=True)
def returns_nothing(redis, db, user_id, name):
    db.fetch_one(RENAME, id=user_id, name=name)
    redis.delete(f"user:{user_id}")


@wrong("02.1", situation="One call after the other", because="ada was given", sequential=True)
def does_not_count(redis, db, user_id, name):
    db.execute("UPDATE users SET username = :name WHERE id = :id", id=user_id, name=name)
    redis.delete(f"user:{user_id}")
    return db.fetch_one(USER, id=user_id)


@wrong(
    "02.1",
    situation="One call after the other",
    because="other users' rows are left alone",
    sequential=True,
)
def empties_the_cache(redis, db, user_id, name):
    row = db.fetch_one(RENAME, id=user_id, name=name)
    for key in redis.keys("user:*"):
        redis.delete(key)
    return row


@wrong(
    "02.1",
    situation="One call after the other",
    because="user:10, which nobody has changed, holds nothing; a row is due. The contract: “other users'",
    sequential=True,
)
def takes_the_key_for_a_prefix(redis, db, user_id, name):
    row = db.fetch_one(RENAME, id=user_id, name=name)
    for key in redis.keys(f"user:{user_id}*"):
        redis.delete(key)
    return row


@wrong(
    "02.1",
    situation="Several clients at once",
    because="user:1 holds another row than the database",
)
def reads_it_again(redis, db, user_id, name):
    row = db.fetch_one(RENAME, id=user_id, name=name)
    if row is not None:
        again = db.fetch_one(USER, id=user_id)
        redis.set(f"user:{user_id}", json.dumps(again), ex=3600)
    return row


@wrong(
    "02.1",
    situation="Several clients at once",
    because="user:1 holds another row than the database",
)
def compares_in_python(redis, db, user_id, name):
    row = db.fetch_one(RENAME, id=user_id, name=name)
    if row is not None:
        cached = redis.get(f"user:{user_id}")
        if cached is None or json.loads(cached)["version"] < row["version"]:
            redis.set(f"user:{user_id}", json.dumps(row), ex=3600)
    return row


@wrong(
    "02.1",
    situation="Several clients at once",
    because="user:1 holds another row than the database",
)
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
    situation="A client that crashes",
    because="user:1 holds another row than the database",
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
    situation="A client that crashes",
    because="'user:1' has no time to live",
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


@wrong(
    "02.1",
    situation="Several clients, and a pause that outlasts every TTL",
    because="user:1 holds another row than the database",
)
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


@wrong("02.1", situation="Several clients at once", because="user:1 holds another row")
def deletes_first(redis, db, user_id, name):
    redis.delete(f"user:{user_id}")
    return db.fetch_one(RENAME, id=user_id, name=name)


@wrong("02.1", situation="Several clients at once", because="No order of the calls gives that")
def counts_in_python(redis, db, user_id, name):
    row = db.fetch_one(USER, id=user_id)
    if row is None:
        return None
    row |= {"username": name, "version": row["version"] + 1}
    update = "UPDATE users SET username = :username, version = :version WHERE id = :id"
    db.execute(update, id=user_id, username=name, version=row["version"])
    redis.delete(f"user:{user_id}")
    return row


# 02.2


@wrong(
    "02.2",
    situation="One call after the other",
    because="ada was given True; False is due",
    sequential=True,
)
def always(redis, key, row, ttl):
    return bool(redis.set(key, json.dumps(row), ex=ttl))


@wrong(
    "02.2",
    situation="One call after the other",
    because="ada was given False; True is due",
    sequential=True,
)
def never_twice(redis, key, row, ttl):
    return bool(redis.set(key, json.dumps(row), ex=ttl, nx=True))


@wrong(
    "02.2",
    situation="One call after the other",
    because="ada was given True; False is due",
    sequential=True,
)
def compares_texts(redis, key, row, ttl):
    script = """
    local cached = redis.call('GET', KEYS[1])
    if cached and tostring(cjson.decode(cached).version) > ARGV[2] then return 0 end
    return redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3]) and 1
    """
    return bool(redis.eval(script, 1, key, json.dumps(row), row["version"], ttl))


@wrong("02.2", situation="One call after the other", because="lives for 5 s", sequential=True)
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
    situation="Several clients at once",
    because="ada was given False",
    schedule="EVAL DEL EXPIRE",
)
def expires_it_after_the_script(redis, key, row, ttl):
    kept = bool(redis.eval(PUT, 1, key, json.dumps(row), row["version"]))
    return kept and bool(redis.expire(key, ttl))


@wrong("02.2", situation="Several clients at once", because="ada was given False")
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


@wrong("02.2", situation="One call after the other", because="lives for 5 s", sequential=True)
def swaps_back(redis, key, row, ttl):
    old = redis.set(key, json.dumps(row), ex=ttl, get=True)
    if old is not None and json.loads(old)["version"] > row["version"]:
        redis.set(key, old, ex=5)
        return False
    return True


@wrong("02.2", situation="Several clients at once", because="TypeError")
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


@wrong("02.2", situation="One call after the other", because="is due", sequential=True)
def encoded_by_lua(redis, key, row, ttl):
    script = PUT.replace("ARGV[1])", "cjson.encode(cjson.decode(ARGV[1])), 'EX', ARGV[3])")
    return redis.eval(script, 1, key, json.dumps(row), row["version"], ttl) is not None


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
    situation="One call after the other",
    because="lives for 3,600 s; 86,400 s is due",
    sequential=True,
)
def fence_as_short_as_the_row(redis, user_id, row):
    return fenced(FENCE.replace("86400", "3600"))(redis, user_id, row)


@wrong(
    "02.3",
    situation="One call after the other",
    because="'user:1:version' has no time to live",
    sequential=True,
)
def fence_for_ever(redis, user_id, row):
    return fenced(FENCE.replace(", 'EX', 86400", ""))(redis, user_id, row)


@wrong(
    "02.3",
    situation="One call after the other",
    because="is due",
    sequential=True,
)
def fence_of_texts(redis, user_id, row):
    script = FENCE.replace(
        "tonumber(redis.call('GET', KEYS[2]) or 0)", "(redis.call('GET', KEYS[2]) or '')"
    )
    return fenced(script.replace("tonumber(ARGV[2])", "ARGV[2]"))(redis, user_id, row)


@wrong(
    "02.3",
    situation="One call after the other",
    because="ada was given False; True is due",
    sequential=True,
)
def never_the_same_again(redis, user_id, row):
    return fenced(FENCE.replace("> tonumber", ">= tonumber"))(redis, user_id, row)


@wrong("02.3", situation="Several clients at once", because="'version': 9}")
def looks_at_the_fence_first(redis, user_id, row):
    key = f"user:{user_id}"
    if int(redis.get(f"{key}:version") or 0) > row["version"]:
        return False
    redis.set(f"{key}:version", row["version"], ex=86400)
    redis.set(key, json.dumps(row), ex=3600)
    return True


@wrong(
    "02.3",
    situation="One call after the other",
    because="ada was given True; False is due",
    sequential=True,
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


@wrong("02.3", situation="Several clients at once", because="'version': 9}")
def raises_the_fence_afterwards(redis, user_id, row):
    key = f"user:{user_id}"
    script = FENCE.replace("redis.call('SET', KEYS[2], ARGV[2], 'EX', 86400)", "")
    kept = fenced(script)(redis, user_id, row)
    if kept:
        redis.set(f"{key}:version", row["version"], ex=86400)
    return kept


@wrong(
    "02.3",
    situation="One call after the other",
    because="ada was given True; False is due",
    sequential=True,
)
def counts_instead_of_comparing(redis, user_id, row):
    script = """
    redis.call('INCR', KEYS[2])
    redis.call('EXPIRE', KEYS[2], 86400)
    redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
    return 1
    """
    return fenced(script)(redis, user_id, row)


@wrong("02.3", situation="A client that crashes", because="'user:1:version' has no time to live")
def fence_in_two_steps(redis, user_id, row):
    script = FENCE.replace(", 'EX', 86400", "")
    kept = fenced(script)(redis, user_id, row)
    if kept:
        redis.expire(f"user:{user_id}:version", 86400)
    return kept


@wrong(
    "02.3",
    situation="One call after the other",
    because="for a day from the newest row on",
    sequential=True,
)
def fence_that_is_not_renewed(redis, user_id, row):
    script = FENCE.replace("'EX', 86400", "'KEEPTTL'").replace(
        "return 1", "redis.call('EXPIRE', KEYS[2], 86400, 'NX') return 1"
    )
    return fenced(script)(redis, user_id, row)


@wrong(
    "02.3",
    situation="One call after the other",
    because="lives for 86,400 s; 86,380 s is due",
    sequential=True,
)
def fence_that_the_refused_renew(redis, user_id, row):
    script = FENCE.replace("return 0", "redis.call('EXPIRE', KEYS[2], 86400) return 0")
    return fenced(script)(redis, user_id, row)


@wrong("02.3", situation="One call after the other", because="is due", sequential=True)
def fence_of_the_refused(redis, user_id, row):
    script = """
    local fence = tonumber(redis.call('GET', KEYS[2]) or 0)
    redis.call('SET', KEYS[2], ARGV[2], 'EX', 86400)
    if fence > tonumber(ARGV[2]) then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
    return 1
    """
    return fenced(script)(redis, user_id, row)


@wrong("02.3", because="ada was given True; False is due")
def remembers_what_lua_prints(redis, user_id, row):
    script = """
    local version = tonumber(ARGV[2])
    if tonumber(redis.call('GET', KEYS[2]) or -1) > version then return 0 end
    redis.call('SET', KEYS[2], tostring(version), 'EX', 86400)
    redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
    return 1
    """
    key = f"user:{user_id}"
    return bool(redis.eval(script, 2, key, f"{key}:version", json.dumps(row), row["version"]))


@wrong("02.3", because="ada was given True; False is due", sequential=True)
def prints_the_newer_of_two(redis, user_id, row):
    """The row knows its version; when it is gone, what Lua has printed does not."""
    script = """
    local version, cached = tonumber(ARGV[2]), redis.call('GET', KEYS[1])
    if cached and cjson.decode(cached).version > version then return 0 end
    local fence = tonumber(redis.call('GET', KEYS[2]) or version)
    if fence > version then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
    redis.call('SET', KEYS[2], tostring(version), 'EX', 86400)
    return 1
    """
    key = f"user:{user_id}"
    return bool(redis.eval(script, 2, key, f"{key}:version", json.dumps(row), row["version"]))


@wrong("02.2", because="ada was given False; True is due", sequential=True)
def finds_a_version_in_the_text(redis, key, row, ttl):
    """The first that the text has may be that of a part of the row."""
    script = """
    local version = string.match(redis.call('GET', KEYS[1]) or '', '"version": (%d+)')
    if version and tonumber(version) > tonumber(ARGV[2]) then return 0 end
    return redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3]) and 1
    """
    return bool(redis.eval(script, 1, key, json.dumps(row), row["version"], ttl))


@wrong("02.2", because="ada was given False; True is due", sequential=True)
def compares_32_bits(redis, key, row, ttl):
    script = """
    local cached = redis.call('GET', KEYS[1])
    local ahead = cached and bit.tobit(cjson.decode(cached).version) > bit.tobit(ARGV[2])
    if ahead then return 0 end
    return redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3]) and 1
    """
    return bool(redis.eval(script, 1, key, json.dumps(row), row["version"], ttl))


@wrong("02.3", because="ada was given False; True is due", sequential=True)
def remembers_32_bits(redis, user_id, row):
    script = """
    local fence, version = redis.call('GET', KEYS[2]), bit.tobit(ARGV[2])
    if fence and tonumber(fence) > version then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
    redis.call('SET', KEYS[2], version, 'EX', 86400)
    return 1
    """
    key = f"user:{user_id}"
    return bool(redis.eval(script, 2, key, f"{key}:version", json.dumps(row), row["version"]))


@wrong(
    "02.2",
    situation="Several clients, and a pause that outlasts every TTL",
    because="user:1 holds {'id': 1, 'username': 'name 9', 'version': 9}",
)
def under_a_lock_with_a_token(redis, key, row, ttl):
    lock = redis.lock(f"{key}:lock", timeout=10, sleep=0.01)
    lock.acquire()
    cached = redis.get(key)
    kept = cached is None or json.loads(cached)["version"] <= row["version"]
    if kept:
        redis.set(key, json.dumps(row), ex=ttl)
    with suppress(LockError):
        lock.release()
    return kept


@wrong("02.2", because="'email': None} is due", sequential=True)
def leaves_out_what_is_none(redis, key, row, ttl):
    row = {name: value for name, value in row.items() if value is not None}
    script = """
    local cached = redis.call('GET', KEYS[1])
    if cached and cjson.decode(cached).version > tonumber(ARGV[2]) then return 0 end
    return redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3]) and 1
    """
    return bool(redis.eval(script, 1, key, json.dumps(row), row["version"], ttl))


@wrong("02.1", situation="Several clients at once", because="user:1 holds another row")
def watches_and_then_sets_what_it_reads(redis, db, user_id, name):
    with redis.pipeline() as pipe:
        pipe.watch(f"user:{user_id}")
        row = db.fetch_one(RENAME, id=user_id, name=name)
        if row is None:
            return None
        pipe.multi()
        pipe.set(f"user:{user_id}", json.dumps(row), ex=3600)
        try:
            pipe.execute()
        except WatchError:  # a reader's row may be there by now, and another writer's soon
            now = db.fetch_one("SELECT * FROM users WHERE id = :id", id=user_id)
            redis.set(f"user:{user_id}", json.dumps(now), ex=3600)
    return row


@wrong("02.1", because="is due", sequential=True)
def names_of_64_characters(redis, db, user_id, name):
    row = db.fetch_one(RENAME, id=user_id, name=name[:64])
    redis.delete(f"user:{user_id}")
    return row


@wrong("02.2", because="lives for 604,800 s", sequential=True)
def lives_for_a_week_at_the_most(redis, key, row, ttl):
    script = """
    local there = redis.call('GET', KEYS[1])
    if there and cjson.decode(there).version > tonumber(ARGV[2]) then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
    return 1
    """
    life = min(ttl, 604_800)
    return redis.eval(script, 1, key, json.dumps(row), row["version"], life) == 1
