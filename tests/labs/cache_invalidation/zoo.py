"""Wrong answers to the exercises of lab 04, and what each must be refused for."""

import secrets
import time

from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

NAME = "SELECT username FROM users WHERE id = :id"
RENAME = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id"

# 04.1


def renamed(db, user_id, name):
    """The old name, or None; the user has the new one."""
    with db.transaction():
        old = db.fetch_one(NAME, id=user_id)
        db.execute(RENAME, id=user_id, name=name)
    return old and old["username"]


def keys_of(user_id, *names):
    return [f"user:{user_id}", *(f"named:{name}" for name in names)]


def leases_of(keys):
    return [f"{key}:lease" for key in keys]


@wrong(
    "04.1",
    situation="One writer, and all is cached",
    because="named:ada says 1, the database null",
    sequential=True,
)
def forgets_the_old_name(redis, db, user_id, name):
    old = renamed(db, user_id, name)
    keys = keys_of(user_id, name)
    redis.delete(*keys, *leases_of(keys))
    return old is not None


@wrong(
    "04.1",
    situation="One writer, and all is cached",
    because="named:eve says null, the database 1",
    sequential=True,
)
def forgets_that_nobody_had_the_name(redis, db, user_id, name):
    old = renamed(db, user_id, name)
    keys = keys_of(user_id, old)
    redis.delete(*keys, *leases_of(keys))
    return old is not None


@wrong("04.1", situation="A user that is not there", because="told [True]", sequential=True)
def says_yes_to_all(redis, db, user_id, name):
    keys = keys_of(user_id, renamed(db, user_id, name), name)
    redis.delete(*keys, *leases_of(keys))
    return True


@wrong(
    "04.1", situation="The writer, and a reader", because="user:1 says 'ada', the database 'eve'"
)
def leaves_the_lease(redis, db, user_id, name):
    old = renamed(db, user_id, name)
    redis.delete(*keys_of(user_id, old, name))
    return old is not None


@wrong(
    "04.1", situation="The writer, and a reader", because="user:1 says 'ada', the database 'eve'"
)
def inside_the_transaction(redis, db, user_id, name):
    with db.transaction():
        old = db.fetch_one(NAME, id=user_id)
        if old is None:
            return False
        db.execute(RENAME, id=user_id, name=name)
        keys = keys_of(user_id, old["username"], name)
        redis.delete(*keys, *leases_of(keys))
    return True


@wrong(
    "04.1", situation="The writer, and a reader", because="user:1 says 'ada', the database 'eve'"
)
def before_the_transaction(redis, db, user_id, name):
    old = db.fetch_one(NAME, id=user_id)
    if old is None:
        return False
    keys = keys_of(user_id, old["username"], name)
    redis.delete(*keys, *leases_of(keys))
    renamed(db, user_id, name)
    return True


@wrong(
    "04.1", situation="The writer, and a reader", because="user:1 says 'ada', the database 'eve'"
)
def twice_without_the_lease(redis, db, user_id, name):
    old = renamed(db, user_id, name)
    for _ in range(2):
        redis.delete(*keys_of(user_id, old, name))
        time.sleep(1)
    return old is not None


@wrong(
    "04.1", situation="The writer, and a reader", because="user:1 says 'ada', the database 'eve'"
)
def the_lease_one_step_later(redis, db, user_id, name):
    old = renamed(db, user_id, name)
    keys = keys_of(user_id, old, name)
    redis.delete(*keys)
    redis.delete(*leases_of(keys))
    return old is not None


@wrong("04.1", situation="The writer, and who asks for ada", because="named:ada says 1")
def only_the_lease_of_the_row(redis, db, user_id, name):
    old = renamed(db, user_id, name)
    keys = keys_of(user_id, old, name)
    redis.delete(*keys, f"user:{user_id}:lease")
    return old is not None


# 04.2

CUT = "A service that was cut off learns of the update when it is back"
TWO = "Two services, one of them cut off"


@wrong("04.2", situation=TWO, because=CUT)
def forgets_all_at_each_message(subscriber, local):
    for message in subscriber.listen():
        if message["type"] == "message":
            local.clear()


@wrong("04.2", situation=TWO, because=CUT)
def forgets_at_the_start_only(subscriber, local):
    local.clear()
    for message in subscriber.listen():
        local.pop(message["data"], None)


@wrong("04.2", situation=TWO, because=CUT)
def does_not_hear_of_subscriptions(subscriber, local):
    subscriber.ignore_subscribe_messages = True
    for message in subscriber.listen():
        if message is None:
            continue
        if message["type"] == "subscribe":
            local.clear()
        else:
            local.pop(message["data"], None)


@wrong("04.2", situation=TWO, because=CUT)
def forgets_when_it_unsubscribes(subscriber, local):
    for message in subscriber.listen():
        if message["type"] == "unsubscribe":
            local.clear()
        else:
            local.pop(message["data"], None)


@wrong("04.2", situation=TWO, because="An update reaches every service", sequential=True)
def pops_the_channel(subscriber, local):
    for message in subscriber.listen():
        if message["type"] == "subscribe":
            local.clear()
        else:
            local.pop(message["channel"], None)


@wrong("04.2", situation="", because="raised KeyError", sequential=True)
def must_be_there(subscriber, local):
    for message in subscriber.listen():
        if message["type"] == "message":
            del local[message["data"], 0]


@wrong("04.2", situation="", because="found no local copy", sequential=True)
def keeps_nothing(subscriber, local):
    while True:
        local.clear()
        time.sleep(0.0002)


# 04.3


ANNOUNCE = """
for place, key in ipairs(KEYS) do if place > 1 then redis.call('DEL', key) end end
redis.call('ZADD', KEYS[1], redis.call('TIME')[1] + ARGV[2], ARGV[1])
return ARGV[3] ~= '' and redis.call('EXPIRE', KEYS[1], ARGV[3])
"""


def announce(redis, user_id, token, *, ahead=60, ttl=60, delete=("", ":lease")):
    keys = [f"user:{user_id}{part}" for part in (":writers", *delete)]
    redis.eval(ANNOUNCE, len(keys), *keys, token, ahead, ttl or "")


def change(db, user_id, name):
    with db.transaction():
        db.execute(RENAME, id=user_id, name=name)


def release(redis, user_id, token):
    key = f"user:{user_id}"
    with redis.pipeline(transaction=True) as pipe:
        pipe.delete(key, f"{key}:lease").zrem(f"{key}:writers", token).execute()


@wrong("04.3", situation="One writer alone", because="announced who have finished", sequential=True)
def never_releases(redis, db, user_id, name):
    announce(redis, user_id, secrets.token_urlsafe())
    change(db, user_id, name)
    redis.delete(f"user:{user_id}", f"user:{user_id}:lease")


@wrong("04.3", situation="A writer who may crash", because="user:1 says 'ada'")
def announces_and_leaves_the_row(redis, db, user_id, name):
    token = secrets.token_urlsafe()
    announce(redis, user_id, token, delete=[":lease"])
    change(db, user_id, name)
    release(redis, user_id, token)


@wrong("04.3", situation="A writer who may crash", because="user:1:writers has no TTL")
def announced_for_ever(redis, db, user_id, name):
    token = secrets.token_urlsafe()
    announce(redis, user_id, token, ttl=None)
    change(db, user_id, name)
    release(redis, user_id, token)


@wrong("04.3", situation="A writer who may crash", because="user:1:writers has no TTL")
def expires_in_a_second_step(redis, db, user_id, name):
    token = secrets.token_urlsafe()
    announce(redis, user_id, token, ttl=None)
    redis.expire(f"user:{user_id}:writers", 60)
    change(db, user_id, name)
    release(redis, user_id, token)


@wrong("04.3", situation="A writer who may crash", because="lives for 3600 seconds")
def kept_for_an_hour(redis, db, user_id, name):
    token = secrets.token_urlsafe()
    announce(redis, user_id, token, ttl=3600)
    change(db, user_id, name)
    release(redis, user_id, token)


@wrong("04.3", situation="A writer who may crash", because="A deadline is 3600 seconds ahead")
def announced_for_an_hour(redis, db, user_id, name):
    token = secrets.token_urlsafe()
    announce(redis, user_id, token, ahead=3600)
    change(db, user_id, name)
    release(redis, user_id, token)


@wrong("04.3", situation="A reader, and a writer who may crash", because="user:1 says 'ada'")
def late_by_a_day(redis, db, user_id, name):
    token = secrets.token_urlsafe()
    announce(redis, user_id, token, ahead=-86_400)
    change(db, user_id, name)
    release(redis, user_id, token)


@wrong("04.3", situation="A writer who may crash", because="user:1 says 'ada'")
def announces_too_late(redis, db, user_id, name):
    token = secrets.token_urlsafe()
    change(db, user_id, name)
    announce(redis, user_id, token)
    release(redis, user_id, token)


@wrong("04.3", situation="A reader, and a writer who may crash", because="user:1 says 'ada'")
def deletes_then_announces(redis, db, user_id, name):
    key, token = f"user:{user_id}", secrets.token_urlsafe()
    redis.delete(key, f"{key}:lease")
    announce(redis, user_id, token, delete=())
    change(db, user_id, name)
    release(redis, user_id, token)


@wrong(
    "04.3",
    situation="A writer, a reader, and a pause longer than any TTL",
    because="user:1 says 'ada'",
)
def trusts_the_announcement(redis, db, user_id, name):
    token = secrets.token_urlsafe()
    announce(redis, user_id, token)
    change(db, user_id, name)
    redis.zrem(f"user:{user_id}:writers", token)


@wrong(
    "04.3",
    situation="Two writers, one of whom may crash, and a reader",
    because="the database",
)
def lets_everybody_in(redis, db, user_id, name):
    announce(redis, user_id, secrets.token_urlsafe())
    change(db, user_id, name)
    key = f"user:{user_id}"
    redis.delete(key, f"{key}:lease", f"{key}:writers")
