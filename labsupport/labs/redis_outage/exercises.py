"""The exercises of lab 13: a visit that counts once, a lock asked for twice, a page without Redis."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

from redis.exceptions import (
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
)

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.redis_outage.checks import check_many_visits, check_page
from labsupport.labs.redis_outage.contracts import CountOnce, TakeLock

__all__ = ["EXERCISES"]


def count_once_stub(redis, page, visit):
    """Count a visit of a page in visits:{page}, once for each visit's ID; return the count.

    A caller who got no reply calls again, with the same arguments; a caller may crash at any step,
    and calls of the same visit come at once, too. The count stays for ever; what else you keep in
    Redis has a TTL, of a day.
    """
    return redis.incr(f"visits:{page}")


def count_once_solution(redis, page, visit):
    """Count a visit of a page in visits:{page}, once for each visit's ID; return the count."""
    script = """
    -- Counts a visit unless it was counted. KEYS: the count, the visit; ARGV: how long to remember
    -- the visit, in s; returns the count.
    if redis.call('SET', KEYS[2], 1, 'NX', 'EX', ARGV[1]) then
      return redis.call('INCR', KEYS[1])
    end
    return tonumber(redis.call('GET', KEYS[1]))
    """
    return redis.eval(script, 2, f"visits:{page}", f"visit:{page}:{visit}", 86_400)


def take_lock_stub(redis, name, token, ms):
    """Take lock:{name}, or ask for it again; return True if it is yours now, else False.

    A lock that is free, or that holds your token, then holds it, for ms from now on; another's stays
    as it is, and lives as long as before. Several callers do this at once, each with a token of its
    own; each may crash at any step. A caller who got no reply calls again, with the same arguments.
    """
    return redis.set(f"lock:{name}", token, nx=True, px=ms) is not None


def take_lock_solution(redis, name, token, ms):
    """Take lock:{name}, or ask for it again; return True if it is yours now, else False."""
    script = """
    -- Takes a lock that is free, or one's own. KEYS: the lock; ARGV: token, ms; returns 1, or 0.
    local holder = redis.call('GET', KEYS[1])
    if holder and holder ~= ARGV[1] then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 1
    """
    return redis.eval(script, 1, f"lock:{name}", token, ms) == 1


def get_page_stub(redis, key, load, kept):
    """Return the page, whatever becomes of Redis.

    It is cached in Redis under its key, for 60 seconds. If it is not there, or Redis is down, load(key)
    makes it, in one call; then cache it. If load raises, return the last page that was returned, from
    the dict kept, and don't cache it; if there is none, the error reaches the caller. Redis is
    away when there is no connection (redis-py's ConnectionError) or no answer, when it is busy
    ("BUSY …"), full, or read-only. Any other error of Redis is a bug, and reaches the caller. A
    page may be empty. The client has its timeouts, and doesn't retry.
    """
    found = redis.get(key)
    if found is None:
        found = load(key)
        redis.set(key, found, ex=60)
    kept[key] = found
    return found


def get_page_solution(redis, key, load, kept):
    """Return the page, whatever becomes of Redis."""

    def ask(command, *args, **options):
        try:
            return command(*args, **options)
        except (ConnectionError, TimeoutError, OutOfMemoryError, ReadOnlyError):
            return None  # Redis is down
        except RedisError as error:
            if not str(error).startswith("BUSY"):
                raise
            return None

    page = ask(redis.get, key)
    if page is None:
        try:
            page = load(key)
        except Exception:
            if key not in kept:
                raise
            return kept[key]
        ask(redis.set, key, page, ex=60)
    kept[key] = page
    return page


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="13.1",
        title="A visit counts once",
        stub=count_once_stub,
        solution=count_once_solution,
        hints=(
            "The server has to know which visits it has counted. What if the caller crashes after it "
            "noted the visit and before it counted it? Or the other way round?",
            "Noting and counting must be one step: a script, or `WATCH` and a MULTI. And a note without a "
            "TTL stays for ever: a set of all visits only grows.",
            "In a script: `SET visit 1 NX EX 86400`; if that was done, return `INCR` of the count, else "
            "its `GET` as a number.",
        ),
        check=judged_by(CountOnce(), also=check_many_visits),
    ),
    Exercise(
        number="13.2",
        title="A lock that can be asked for twice",
        stub=take_lock_stub,
        solution=take_lock_solution,
        hints=(
            "`SET … NX` says None to a client that does not get the lock. To which other client, "
            "when redis-py repeats the command because the reply was lost?",
            "`SET … NX GET` tells you whose it was, but it leaves your own lock with the time that it had. "
            "And when you then give it more time, is it still yours?",
            "Looking and taking must be one step. In a script: `GET` the lock; if there is a holder other "
            "than you, return 0; else `SET` it with `PX`, and return 1.",
        ),
        check=judged_by(TakeLock()),
    ),
    Exercise(
        number="13.3",
        title="A page that doesn't need Redis",
        stub=get_page_stub,
        solution=get_page_solution,
        hints=(
            "There are two commands of Redis in this function, and either can fail while the other does "
            "not: a full server still answers `GET`.",
            "In redis-py a `TimeoutError` isn't a `ConnectionError`, a full server raises "
            "`OutOfMemoryError`, a replica `ReadOnlyError`, and a busy one a `ResponseError` whose text "
            "begins with BUSY. "
            "`except RedisError` catches all of them, and your bugs, too.",
            "Wrap each command by itself, so that an error of Redis means None. Call `load` outside of "
            "those: its error is not Redis's. Note the page in `kept` just before you return it.",
        ),
        check=check_page,
    ),
)
