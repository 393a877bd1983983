"""How answers to the exercises of lab 04 are put to the test."""

import json
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from labsupport.exercises import Outcome
from labsupport.exercises.trials import (
    Answer,
    ClientFunction,
    Trial,
    keys_of,
    outcome_of,
    put_through,
    require,
    require_ttl,
)
from labsupport.labs.cache_invalidation.stale_reads import StaleReads

__all__ = ["check_announce_user", "check_listen", "check_rename_user"]

_USER = "SELECT * FROM users WHERE id = :id"
_NAMED = "SELECT id FROM users WHERE username = :name"
_RENAME = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id"

# Reads a value, or grants the lease to fill it. KEYS: value, lease, the deadlines of those who are
# writing; ARGV: the reader's token; returns the value, and 1 if granted.
_GRANT = """
local value, now = redis.call('GET', KEYS[1]), redis.call('TIME')[1]
if value or redis.call('ZCOUNT', KEYS[3], '(' .. now, '+inf') > 0 then return {value, 0} end
return {value, redis.call('SET', KEYS[2], ARGV[1], 'NX', 'EX', 10) and 1 or 0}
"""

# Lets a writer begin. KEYS: value, lease, deadlines; ARGV: its token.
_ANNOUNCE = """
redis.call('DEL', KEYS[1], KEYS[2])
return redis.call('ZADD', KEYS[3], redis.call('TIME')[1] + 30, ARGV[1])
"""

# Fills a value in, unless the lease is another's by now. KEYS: value, lease; ARGV: token, value.
_FILL = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', 3600)
return redis.call('DEL', KEYS[2])
"""


def _read(redis: Any, key: str, load: Callable[[], Any]) -> None:
    token = secrets.token_urlsafe()
    _, granted = redis.eval(_GRANT, 3, key, f"{key}:lease", f"{key}:writers", token)
    if granted:
        redis.eval(_FILL, 2, key, f"{key}:lease", token, json.dumps(load()))


def _reader(redis: Any, db: Any) -> None:
    _read(redis, "user:1", lambda: db.fetch_one(_USER, id=1))


def _finder(name: str) -> ClientFunction:
    return lambda redis, db: _read(redis, f"named:{name}", lambda: _id_of(db, name))


def _id_of(db: Any, name: str) -> Any:
    row = db.fetch_one(_NAMED, name=name)
    return None if row is None else row["id"]


def _warm(redis: Any, db: Any) -> None:
    for read in (_reader, _finder("ada"), _finder("eve")):
        read(redis, db)


def _true(redis: Any, db: Any) -> bool:
    """no cached value is another than the database's"""
    values = {"user:1": db.fetch_one(_USER, id=1)}
    values |= {f"named:{name}": _id_of(db, name) for name in ("ada", "eve")}
    for key, value in values.items():
        cached = redis.get(key)
        said = f"{key} says {_short(cached)}, the database {_short(json.dumps(value))}."
        require(cached is None or json.loads(cached) == value, said)
    return True


def _short(text: str | None) -> str:
    row = json.loads(text or "null")
    return repr(row["username"]) if isinstance(row, dict) else str(text)


def check_rename_user(answer: Answer) -> Outcome:
    told: list[Any] = []

    def given(redis: Any, db: Any) -> None:
        told.clear()

    def warm(redis: Any, db: Any) -> None:
        given(redis, db)
        _warm(redis, db)

    def rename(user: int) -> ClientFunction:
        return lambda redis, db: told.append(answer(redis, db, user, "eve"))

    def renamed(redis: Any, db: Any) -> bool:
        """the user is renamed, and no cached value is another than the database's"""
        row = db.fetch_one(_USER, id=1)
        require(told == [True], f"The caller was told {told!r}.")
        found = row["username"], row["version"]
        require(found == ("eve", 2), f"The database says {found[0]!r}, version {found[1]}.")
        return _true(redis, db)

    def nobody(redis: Any, db: Any) -> bool:
        """there is no such user: False, and nothing has changed"""
        require(told == [False], f"The caller was told {told!r}.")
        return _true(redis, db)

    writer = rename(1)
    readers = {"a reader": _reader, "who asks for ada": _finder("ada"), "for eve": _finder("eve")}
    return put_through(
        (
            Trial("One writer alone", {"writer": writer}, given, renamed),
            Trial("One writer, and all is cached", {"writer": writer}, warm, renamed),
            Trial("A user that is not there", {"writer": rename(0)}, warm, nobody),
            *(
                Trial(f"The writer, and {who}", {"reader": read, "writer": writer}, start, renamed)
                for who, read in readers.items()
                for start in (given, warm)
            ),
            Trial(
                "The writer, a reader, and a pause longer than any TTL",
                {"reader": _reader, "writer": writer},
                warm,
                renamed,
                expires="user:1*",
                prune=True,
            ),
        )
    )


class _NoCopiesError(Exception):
    """Raised by a service whose copies are never there."""


def _service_with(listen: Answer) -> Answer:
    """A service whose local copies are kept true by `listen`."""

    def service(connect: Any, db: Any, ttl: float) -> tuple[Answer, Answer]:
        redis, local = connect(), dict[Any, Any]()
        subscriber = connect(retry=Retry(ExponentialBackoff(), 10)).pubsub()
        subscriber.subscribe("invalidate")
        failed: list[BaseException] = []
        reads = loads = 0

        def run() -> None:
            try:
                listen(subscriber, local)
            except BaseException as error:
                failed.append(error)

        def get(user_id: int) -> Any:
            nonlocal reads, loads
            if failed:
                raise failed[0]
            key = f"user:{user_id}"
            row, until = local.get(key, (None, 0.0))
            reads += 1
            if time.monotonic() >= until:
                loads += 1
                cached = redis.get(key)
                row = json.loads(cached) if cached else db.fetch_one(_USER, id=user_id)
                redis.set(key, json.dumps(row), ex=3600)
                local[key] = row, time.monotonic() + ttl
            if reads > 20 and loads > reads / 2:
                raise _NoCopiesError(f"{loads} of {reads} reads found no local copy")
            return row

        def update(user_id: int, name: str) -> None:
            db.execute(_RENAME, id=user_id, name=name)
            redis.delete(f"user:{user_id}")
            redis.publish("invalidate", f"user:{user_id}")

        threading.Thread(target=run, daemon=True).start()
        return get, update

    return service


def check_listen(answer: Answer) -> Outcome:
    services = StaleReads(services=2, seconds=0.2)
    result = services.run(_service_with(answer), live=False, name="listen")
    withstood = "both services had each new row, also the one that was cut off."
    return outcome_of(result, "Two services, one of them cut off", withstood=withstood)


def check_announce_user(answer: Answer) -> Outcome:
    def rename(redis: Any, db: Any) -> None:
        answer(redis, db, 1, "eve")

    def other(redis: Any, db: Any) -> None:
        """Another writer, who keeps to the rules."""
        redis.eval(_ANNOUNCE, 3, "user:1", "user:1:lease", "user:1:writers", "other")
        db.execute(_RENAME, id=1, name="bob")
        with redis.pipeline(transaction=True) as pipe:
            pipe.delete("user:1", "user:1:lease").zrem("user:1:writers", "other").execute()

    def renamed(redis: Any, db: Any) -> bool:
        """the user is renamed, the cache holds no old row, and can be filled again"""
        name = db.fetch_one(_USER, id=1)["username"]
        require(name == "eve", f"The name in the database is {name!r}.")
        require(not redis.zcard("user:1:writers"), "Writers are announced who have finished.")
        return true(redis, db)

    def true(redis: Any, db: Any) -> bool:
        """the cache holds no old row, and nothing stays for ever"""
        require_ttl(redis)
        for key in keys_of(redis):
            ttl, limit = redis.pttl(key) / 1000, 60 if key == "user:1:writers" else 3600
            require(ttl <= limit, f"{key} lives for {ttl:.0f} seconds.")
        latest = redis.zrange("user:1:writers", -1, -1, withscores=True)
        ahead = latest[0][1] - redis.time()[0] if latest else 0.0
        require(ahead <= 60, f"A deadline is {ahead:.0f} seconds ahead.")
        return _true(redis, db)

    def no_old_row(redis: Any, db: Any) -> bool:
        """the cache holds no old row"""
        return _true(redis, db)

    one = {"writer": rename}
    both = {"reader": _reader, **one}
    rivals = {"writer": rename, "other": other, "reader": _reader}
    return put_through(
        (
            Trial("One writer alone", one, _reader, renamed),
            Trial("A reader and a writer", both, None, renamed),
            Trial("A reader and a writer of a cached row", both, _reader, renamed),
            Trial("A writer who may crash", one, _reader, true, crashes=["writer"]),
            Trial("A reader, and a writer who may crash", both, None, true, crashes=["writer"]),
            Trial(
                "A reader, and a writer of a cached row who may crash",
                both,
                _reader,
                true,
                crashes=["writer"],
            ),
            Trial(
                "A writer, a reader, and a pause longer than any TTL",
                both,
                _reader,
                no_old_row,
                expires="user:1*",
                prune=True,
            ),
            Trial(
                "Two writers, one of whom may crash, and a reader",
                rivals,
                None,
                no_old_row,
                crashes=["other"],
                prune=True,
                sample=6_000,
            ),
        )
    )
