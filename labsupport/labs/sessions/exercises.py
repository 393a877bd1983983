"""The exercises of lab 12: a visit, a new token at login, and a sign-in that was overtaken."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.sessions.accounts_contract import Accounts
from labsupport.labs.sessions.contracts import Rotate, Visit
from labsupport.labs.sessions.many_sessions import end_many

__all__ = ["EXERCISES"]


def visit_stub(redis, session, idle_ms):
    """Return the session's fields and prolong it, or None when it is over; key: session:{session}.

    It lives for idle_ms from now on, and never beyond the server's time in its field `ends` (ms).
    The field `visits` counts the visits, including this one: none is lost. What is over stays over, and
    every key has a TTL. Visits and a logout come at once, and may crash.
    """
    key = f"session:{session}"
    fields = redis.hgetall(key)
    if not fields:
        return None
    fields["visits"] = str(redis.hincrby(key, "visits", 1))
    redis.pexpire(key, idle_ms)
    return fields


def visit_solution(redis, session, idle_ms):
    """Return the session's fields and prolong it, or None when it is over; key: session:{session}."""
    script = """
    -- Counts a visit, and prolongs the session up to its end.
    -- KEYS: session; ARGV: idle timeout in ms; returns fields and values, or nothing.
    local ends, t = redis.call('HGET', KEYS[1], 'ends'), redis.call('TIME')
    local now = t[1] * 1000 + math.floor(t[2] / 1000)
    if not ends then return {} end
    redis.call('HINCRBY', KEYS[1], 'visits', 1)
    redis.call('PEXPIREAT', KEYS[1], math.min(now + ARGV[1], ends))
    return redis.call('HGETALL', KEYS[1])
    """
    found = redis.eval(script, 1, f"session:{session}", idle_ms)
    return dict(zip(found[::2], found[1::2], strict=True)) or None


def rotate_stub(redis, user, old, new):
    """Log the user in: the session `old` goes on as `new`; return True, or False if it was over.

    A session is a hash, session:{name}. Afterwards `old` is void, and `new` has its fields, its TTL
    and the field `user`. The set sessions:{user} names each session that has that user, and lives
    for eight hours from now. All this holds even after a crash at any step, and every key has
    a TTL. Logins, visits and a logout come at once.
    """
    fields = redis.hgetall(f"session:{old}")
    if not fields:
        return False
    redis.hset(f"session:{new}", mapping={**fields, "user": user})
    redis.pexpire(f"session:{new}", redis.pttl(f"session:{old}"))
    redis.delete(f"session:{old}")
    redis.sadd(f"sessions:{user}", new)
    redis.expire(f"sessions:{user}", 28_800)
    return True


def rotate_solution(redis, user, old, new):
    """Log the user in: the session `old` goes on as `new`; return True, or False if it was over."""
    script = """
    -- Continues a session under a new name, logged in, and notes it with its user's others.
    -- KEYS: old session, new session, the user's set; ARGV: user, new name; returns 1 or 0.
    if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
    redis.call('RENAME', KEYS[1], KEYS[2])
    redis.call('HSET', KEYS[2], 'user', ARGV[1])
    redis.call('SADD', KEYS[3], ARGV[2])
    redis.call('EXPIRE', KEYS[3], 28800)
    return 1
    """
    keys = f"session:{old}", f"session:{new}", f"sessions:{user}"
    return bool(redis.eval(script, 3, *keys, user, new))


def accounts_stub():
    """Return sign_in and change_email; a link to an old address opens no lasting session.

    sign_in returns True, and session:{session} holds the user's id for an hour, if email is the
    user's; else False. The user is there; while change_email is under way, or after a minute,
    anybody may be told False. change_email sets the email, then ends the user's sessions. Once
    both are done, or sign_in has crashed, no session exists that began with another address.
    """

    def sign_in(redis, db, user_id, email, session):
        if db.fetch_one("SELECT * FROM users WHERE id = :id", id=user_id)["email"] != email:
            return False
        key, index = f"session:{session}", f"sessions:{user_id}"
        pipe = redis.pipeline(transaction=True).set(key, user_id, ex=3600)
        return bool(pipe.sadd(index, key).expire(index, 3600).execute())

    def change_email(redis, db, user_id, email):
        db.execute("UPDATE users SET email = :email WHERE id = :id", email=email, id=user_id)
        redis.delete(f"sessions:{user_id}", *redis.smembers(f"sessions:{user_id}"))

    return sign_in, change_email


def accounts_solution():
    """Return sign_in and change_email; a link to an old address opens no lasting session."""
    begin = """
    -- Begins a session, unless all were ended since the caller looked at the count of that.
    -- KEYS: session, the user's set, the count; ARGV: user, the count; returns 1 or 0.
    if (redis.call('GET', KEYS[3]) or '') ~= ARGV[2] then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
    redis.call('SADD', KEYS[2], KEYS[1])
    return redis.call('EXPIRE', KEYS[2], 3600)
    """
    end_all = """
    -- Ends all sessions of a user, and counts that. KEYS: the user's set, the count.
    for _, session in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('DEL', session) end
    redis.call('DEL', KEYS[1])
    redis.call('INCR', KEYS[2])
    """

    def sign_in(redis, db, user_id, email, session):
        ended = redis.get(f"ended:{user_id}") or ""  # before the row is read
        row = db.fetch_one("SELECT * FROM users WHERE id = :id", id=user_id)
        keys = f"session:{session}", f"sessions:{user_id}", f"ended:{user_id}"
        return row["email"] == email and bool(redis.eval(begin, 3, *keys, user_id, ended))

    def change_email(redis, db, user_id, email):
        db.execute("UPDATE users SET email = :email WHERE id = :id", email=email, id=user_id)
        redis.eval(end_all, 2, f"sessions:{user_id}", f"ended:{user_id}")

    return sign_in, change_email


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="12.1",
        title="Count a visit, and prolong the session up to its end",
        stub=visit_stub,
        solution=visit_solution,
        hints=(
            "The session can end between any two of these steps, and a write to a hash that is not "
            "there makes one. Between which steps must no other client come?",
            "One script: look, count, prolong, read. `redis.call('TIME')` is the server's clock: "
            "seconds and microseconds.",
            "`HGET` ends, and return `{}` if it is not there; `HINCRBY` visits; `PEXPIREAT` to the "
            "smaller of `now + ARGV[1]` and ends (`math.min`), *after* the count, since a moment "
            "that has passed deletes the key; `HGETALL`. In Python, `dict(zip(found[::2], "
            "found[1::2]))`.",
        ),
        check=judged_by(Visit()),
    ),
    Exercise(
        number="12.2",
        title="A new token at login, for a session that can still be revoked",
        stub=rotate_stub,
        solution=rotate_solution,
        hints=(
            "Between the copy and the delete there are two sessions, and what is written to the old "
            "one meanwhile is lost. Is there a command that does not copy?",
            "`RENAME` moves a key with its fields and its TTL, and fails if it is not there; but a "
            "`MULTI` goes on after a failure, and its `HSET` makes a session that nobody ends.",
            "One script with three keys: return 0 if the old one does not `EXISTS`; `RENAME`, `HSET` "
            "user, `SADD` the name to the user's set, `EXPIRE` the set, return 1. Or `WATCH` the old "
            "key, look, `MULTI` the same four, and start again after a `WatchError`.",
        ),
        check=judged_by(Rotate()),
    ),
    Exercise(
        number="12.3",
        title="Log out everywhere, even while someone is logging in",
        stub=accounts_stub,
        solution=accounts_solution,
        hints=(
            "The schedule: the row is read, the address changes, all sessions end, and then one "
            "begins. What could tell the late one that it was overtaken?",
            "It is the lease of lab 01 once more: before you read the row, note something that "
            "`change_email` makes void; begin the session only if it is still the same.",
            "A counter `ended:{user_id}`: `sign_in` reads it *before* the row; `change_email` does "
            "`INCR` on it as it ends the sessions; and one script begins the session only while the "
            "counter is what it was. (`WATCH` on the counter, before the row is read, does it, too.)",
        ),
        check=judged_by(Accounts(), also=end_many),
    ),
)
