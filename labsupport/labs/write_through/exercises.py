"""The exercises of lab 02: two writers, a script that keeps the newer row, a fence that lasts."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

import json

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.write_through.contracts import PutFenced, PutNewer, RenameUser

__all__ = ["EXERCISES"]


def rename_user_stub(redis, db, user_id, name):
    """Rename a user, count it in version, and return the row, or None if there is no such user.

    Readers keep rows as JSON in user:{id}, for an hour. When all writers have finished, that key
    holds the row of the database, or nothing; other users' rows are left alone. Writers come at
    once, and may pause for any time. A crash may leave the row as it was, but never one that the
    database has not had. Every key has a TTL.
    """
    rename = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id RETURNING *"
    row = db.fetch_one(rename, id=user_id, name=name)
    if row is not None:
        redis.set(f"user:{user_id}", json.dumps(row), ex=3600)
    return row


def rename_user_solution(redis, db, user_id, name):
    """Rename a user, count it in version, and return the row, or None if there is no such user."""
    rename = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id RETURNING *"
    row = db.fetch_one(rename, id=user_id, name=name)  # committed when this returns
    redis.delete(f"user:{user_id}")  # twice is as good as once, and in any order
    return row


def put_newer_stub(redis, key, row, ttl):
    """Keep a row as JSON in key for ttl seconds, unless a newer one is there.

    Return True if it was kept, else False. row["version"], a whole number below 2 ** 53, says which
    row is newer; one of the same version is kept. Writers come at once, and may pause for any time.
    A crash leaves a key as it was, or as it is to be, and no other key for ever.
    """
    cached = redis.get(key)
    if cached is not None and json.loads(cached)["version"] > row["version"]:
        return False
    redis.set(key, json.dumps(row), ex=ttl)
    return True


def put_newer_solution(redis, key, row, ttl):
    """Keep a row as JSON in key for ttl seconds, unless a newer one is there."""
    script = """
    -- KEYS: the row; ARGV: the row as JSON, its version, its TTL in seconds; returns 1 if kept.
    local cached = redis.call('GET', KEYS[1])
    if cached and cjson.decode(cached).version > tonumber(ARGV[2]) then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
    return 1
    """
    return bool(redis.eval(script, 1, key, json.dumps(row), row["version"], ttl))


def put_fenced_stub(redis, user_id, row):
    """Keep a row in user:{id} for an hour, unless a newer one is or was there; return whether it was kept.

    The row is kept as JSON. It may expire at any moment, and an older one must not take its place.
    What you remember for that goes under user:{id}:version, and lives for a day from the newest
    row on. Callers come at once, and may crash.
    """
    script = """
    -- KEYS: the row; ARGV: the row as JSON, its version; returns 1 if kept, else 0.
    local cached = redis.call('GET', KEYS[1])
    if cached and cjson.decode(cached).version > tonumber(ARGV[2]) then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
    return 1
    """
    return bool(redis.eval(script, 1, f"user:{user_id}", json.dumps(row), row["version"]))


def put_fenced_solution(redis, user_id, row):
    """Keep a row in user:{id} for an hour, unless a newer one is or was there; return whether it was kept."""
    script = """
    -- KEYS: the row, its fence; ARGV: the row as JSON, its version; returns 1 if kept, else 0.
    if tonumber(redis.call('GET', KEYS[2]) or 0) > tonumber(ARGV[2]) then return 0 end
    redis.call('SET', KEYS[2], ARGV[2], 'EX', 86400)
    redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
    return 1
    """
    key = f"user:{user_id}"
    return bool(redis.eval(script, 2, key, f"{key}:version", json.dumps(row), row["version"]))


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="02.1",
        title="Two writers, and one truth",
        stub=rename_user_stub,
        solution=rename_user_solution,
        hints=(
            "Look at the schedule: the database takes the two writes in one order, and Redis in the "
            "other. Which command has the same effect in any order?",
            "Writing into the cache *before* the commit is no way out: what if the commit never "
            "comes? And a lock in Redis is over when its TTL is, whether its holder is done or not.",
            "`DEL` after the `UPDATE`. The next reader puts the row back, from the database.",
        ),
        check=judged_by(RenameUser()),
    ),
    Exercise(
        number="02.2",
        title="The newer row stays",
        stub=put_newer_stub,
        solution=put_newer_solution,
        hints=(
            "Between the `GET` and the `SET` a newer row can arrive, and you would write over it.",
            "Compare and set in one step, on the server: a script. `cjson.decode` reads JSON there. "
            "Note that Lua compares texts letter by letter: '9' is above '10'.",
            "`redis.eval(script, 1, key, json.dumps(row), row['version'], ttl)`; in the script: `GET`; "
            "return 0 if there is a row and its `.version` is above `tonumber(ARGV[2])`; then `SET` "
            "with `EX`, and return 1. In Python, make it a `bool`.",
        ),
        check=judged_by(PutNewer()),
    ),
    Exercise(
        number="02.3",
        title="A fence that outlives the row",
        stub=put_fenced_stub,
        solution=put_fenced_solution,
        hints=(
            "The script compares with the row that is cached. When that has expired, what is there "
            "to compare with?",
            "Keep the newest version in a separate key that lives longer than any reader sleeps. "
            "It must change in the same step as the row.",
            "`redis.eval(script, 2, key, f'{key}:version', …)`: return 0 if the number in KEYS[2] is "
            "above this row's version (`or 0` when it is not there); else `SET` KEYS[2] to the "
            "version with `EX` 86400, `SET` the row with `EX` 3600, return 1.",
        ),
        check=judged_by(PutFenced()),
    ),
)
