"""The exercises of lab 04: what to delete and when, a listener that was away, a crash in between."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

import secrets

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.cache_invalidation.checks import check_listen
from labsupport.labs.cache_invalidation.contracts import AnnounceUser, RenameUser

__all__ = ["EXERCISES"]


def rename_user_stub(redis, db, user_id, name):
    """Rename a user in a transaction; return True, or False if there is no such user.

    The row's version goes up by one. Readers keep the row in user:{id}, and in named:{username} the
    id of the user with that name, or null. Each key is filled under a lease, in the same key with
    :lease appended. Others read and write at once, and each may pause for longer than any TTL.
    When all have finished, no cached value differs from the database's, and each can be filled.
    """
    with db.transaction():
        rename = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id"
        changed = db.execute(rename, id=user_id, name=name)
        redis.delete(f"user:{user_id}", f"named:{name}")
    return changed == 1


def rename_user_solution(redis, db, user_id, name):
    """Rename a user in a transaction; return True, or False if there is no such user."""
    with db.transaction():  # the first UPDATE locks the row: nobody renames it after the SELECT
        db.execute("UPDATE users SET version = version + 1 WHERE id = :id", id=user_id)
        old = db.fetch_one("SELECT username FROM users WHERE id = :id", id=user_id)
        db.execute("UPDATE users SET username = :name WHERE id = :id", id=user_id, name=name)
    if old is None:
        return False
    keys = [f"user:{user_id}", f"named:{old['username']}", f"named:{name}"]
    redis.delete(*keys, *(f"{key}:lease" for key in keys))  # after the commit, and all at once
    return True


def listen_stub(subscriber, local):
    """Keep a service's local copies current; runs in a thread of its own, and never returns.

    local is a dict of rows by key. Writers publish a changed row's key on the channel
    "invalidate", to which the subscriber (of redis-py) is subscribed. When its connection is lost,
    it connects and subscribes anew by itself; nobody hears what is published meanwhile.
    """
    for message in subscriber.listen():
        if message["type"] == "message":
            local.pop(message["data"], None)


def listen_solution(subscriber, local):
    """Keep a service's local copies current; runs in a thread of its own, and never returns."""
    for message in subscriber.listen():
        if message["type"] == "message":
            local.pop(message["data"], None)
        else:  # the server confirms a subscription: the first one, or one after a gap
            local.clear()


def announce_user_stub(redis, db, user_id, name):
    """Rename a user in a transaction, so that no crash leaves an old row in the cache.

    The row's version goes up by one. A reader asks user:{id} first; it fills it under
    user:{id}:lease, and only if no deadline in the sorted set user:{id}:writers is still ahead (one
    for each writer, in seconds on the server's clock). Many read and write at once, and each may
    pause for longer than any TTL. What a crashed writer leaves is over within a minute; a
    finished writer keeps no reader out.
    """
    key = f"user:{user_id}"
    with db.transaction():
        rename = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id"
        db.execute(rename, id=user_id, name=name)
    redis.delete(key, f"{key}:lease")


def announce_user_solution(redis, db, user_id, name):
    """Rename a user in a transaction, so that no crash leaves an old row in the cache."""
    announce = """
    -- KEYS: the row, its lease, the writers; ARGV: the writer's token.
    redis.call('DEL', KEYS[1], KEYS[2])
    redis.call('ZADD', KEYS[3], redis.call('TIME')[1] + 60, ARGV[1])
    return redis.call('EXPIRE', KEYS[3], 60)
    """
    key, token = f"user:{user_id}", secrets.token_urlsafe()
    redis.eval(announce, 3, key, f"{key}:lease", f"{key}:writers", token)
    try:
        with db.transaction():
            rename = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id"
            db.execute(rename, id=user_id, name=name)
    finally:  # delete again: the deadline may have passed meanwhile
        with redis.pipeline(transaction=True) as pipe:
            pipe.delete(key, f"{key}:lease").zrem(f"{key}:writers", token).execute()


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="04.1",
        title="Every key that the row is in, at the right moment",
        stub=rename_user_stub,
        solution=rename_user_solution,
        hints=(
            "Which cached values does a new name make untrue? Under the old name, too, somebody may "
            "still be found.",
            "A reader who comes between your `DEL` and the commit puts the old row back. And one who "
            "read before you began may fill after you have deleted, unless its lease is gone.",
            "In the transaction, `UPDATE` the version (that locks the row), `SELECT` the old name, "
            "`UPDATE` the name. After the `with` block one `redis.delete` of six keys: `user:{id}`, "
            "`named:{old}`, `named:{new}`, and their leases.",
        ),
        check=judged_by(RenameUser()),
    ),
    Exercise(
        number="04.2",
        title="A listener that knows that it was away",
        stub=listen_stub,
        solution=listen_solution,
        hints=(
            "redis-py reconnects without an exception. But it does not hide everything: print all "
            "messages, not only those of the type `message`.",
            "The server confirms each subscription, including the one after a reconnect. What do you "
            "know at that moment about the time before?",
            "Nothing: so on a message of the type `subscribe`, `local.clear()`. After it, not before: "
            "until it is confirmed, messages are still lost.",
        ),
        check=check_listen,
    ),
    Exercise(
        number="04.3",
        title="A writer that may crash at any step",
        stub=announce_user_stub,
        solution=announce_user_solution,
        hints=(
            "After the commit it may be too late for everything. What can you do *before* it, so that "
            "nothing old is in the cache, and nothing old gets in?",
            "Announce yourself: one script deletes row and lease, and adds a token of your own to the "
            "writers, with a deadline from the server's `TIME`. Afterwards delete again, and remove "
            "your token only.",
            "The script: `DEL` row lease, `ZADD` writers TIME + 60 token, `EXPIRE` writers 60. Then, in "
            "a `try`, the transaction; in `finally` one MULTI: `delete(key, lease)`, `zrem(writers, "
            "token)`.",
        ),
        check=judged_by(AnnounceUser()),
    ),
)
