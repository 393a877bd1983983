"""Wrong answers to the exercises of lab 04, and what each must be refused for."""

import json
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
    situation="One call after the other",
    because="named:ada in the cache",
    sequential=True,
)
def forgets_the_old_name(redis, db, user_id, name):
    old = renamed(db, user_id, name)
    keys = keys_of(user_id, name)
    redis.delete(*keys, *leases_of(keys))
    return old is not None


@wrong(
    "04.1",
    situation="One call after the other",
    because="named:eve in the cache",
    sequential=True,
)
def forgets_that_nobody_had_the_name(redis, db, user_id, name):
    old = renamed(db, user_id, name)
    keys = keys_of(user_id, old)
    redis.delete(*keys, *leases_of(keys))
    return old is not None


@wrong(
    "04.1",
    situation="One call after the other",
    because="ada was given True; False is due",
    sequential=True,
)
def says_yes_to_all(redis, db, user_id, name):
    keys = keys_of(user_id, renamed(db, user_id, name), name)
    redis.delete(*keys, *leases_of(keys))
    return True


@wrong(
    "04.1",
    situation="Several clients at once",
    because="user:1 in the cache",
)
def leaves_the_lease(redis, db, user_id, name):
    old = renamed(db, user_id, name)
    redis.delete(*keys_of(user_id, old, name))
    return old is not None


@wrong(
    "04.1",
    situation="Several clients at once",
    because="user:1 in the cache",
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
    "04.1",
    situation="Several clients at once",
    because="user:1 in the cache",
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
    "04.1",
    situation="Several clients at once",
    because="user:1 in the cache",
)
def twice_without_the_lease(redis, db, user_id, name):
    old = renamed(db, user_id, name)
    for _ in range(2):
        redis.delete(*keys_of(user_id, old, name))
        time.sleep(1)
    return old is not None


@wrong(
    "04.1",
    situation="Several clients at once",
    because="user:1 in the cache",
)
def the_lease_one_step_later(redis, db, user_id, name):
    old = renamed(db, user_id, name)
    keys = keys_of(user_id, old, name)
    redis.delete(*keys)
    redis.delete(*leases_of(keys))
    return old is not None


@wrong(
    "04.1",
    situation="Several clients at once",
    because="in the cache, which the database contradicts",
)
def only_the_lease_of_the_row(redis, db, user_id, name):
    old = renamed(db, user_id, name)
    keys = keys_of(user_id, old, name)
    redis.delete(*keys, f"user:{user_id}:lease")
    return old is not None


@wrong("04.1", situation="Several clients at once", because="named:lin in the cache")
def reads_the_old_name_before(redis, db, user_id, name):
    old = db.fetch_one(NAME, id=user_id)
    if old is None:
        return False
    with db.transaction():
        db.execute(RENAME, id=user_id, name=name)
    keys = keys_of(user_id, old["username"], name)
    redis.delete(*keys, *leases_of(keys))
    return True


@wrong(
    "04.1",
    situation="One call after the other",
    because="ada was given 1 (int); True (bool) is due",
    sequential=True,
)
def returns_how_many_rows(redis, db, user_id, name):
    with db.transaction():
        old = db.fetch_one(NAME, id=user_id)
        changed = db.execute(RENAME, id=user_id, name=name)
    keys = keys_of(user_id, old and old["username"], name)
    redis.delete(*keys, *leases_of(keys))
    return changed


@wrong("04.1", situation="Several clients at once", because="named:eve in the cache")
def writes_who_has_the_name(redis, db, user_id, name):
    old = renamed(db, user_id, name)
    if old is None:
        return False
    keys = keys_of(user_id, old, name)
    with redis.pipeline() as pipe:
        pipe.delete(*keys, *leases_of(keys)).set(f"named:{name}", user_id, ex=3600).execute()
    return True


@wrong("04.1", situation="Several clients at once", because="user:1 in the cache")
def writes_the_row(redis, db, user_id, name):
    old = renamed(db, user_id, name)
    if old is None:
        return False
    row = db.fetch_one("SELECT * FROM users WHERE id = :id", id=user_id)
    keys = keys_of(user_id, old, name)
    with redis.pipeline() as pipe:
        pipe.delete(*keys, *leases_of(keys))
        pipe.set(f"user:{user_id}", json.dumps(row), ex=3600).execute()
    return True


@wrong(
    "04.1",
    situation="One call after the other",
    because="ada was given False; True is due",
    sequential=True,
)
def keeps_readers_out_for_an_hour(redis, db, user_id, name):
    old = renamed(db, user_id, name)
    if old is None:
        return False
    keys = keys_of(user_id, old, name)
    with redis.pipeline() as pipe:
        for lease in leases_of(keys):
            pipe.set(lease, "renamed", ex=3600)
        pipe.delete(*keys).execute()
    return True


# 04.2


@wrong(
    "04.2",
    situation="A lost connection",
    because="the copies of d'Arc é, user:1, user:2 were still there.",
)
def forgets_all_at_each_message(subscriber, local):
    for message in subscriber.listen():
        if message["type"] == "message":
            local.clear()


@wrong(
    "04.2",
    situation="A lost connection",
    because="the copies of d'Arc é, user:1, user:2 were still there.",
)
def forgets_at_the_start_only(subscriber, local):
    local.clear()
    for message in subscriber.listen():
        local.pop(message["data"], None)


@wrong(
    "04.2",
    situation="A lost connection",
    because="the copies of d'Arc é, user:1, user:2 were still there.",
)
def does_not_hear_of_subscriptions(subscriber, local):
    subscriber.ignore_subscribe_messages = True
    for message in subscriber.listen():
        if message is None:
            continue
        if message["type"] == "subscribe":
            local.clear()
        else:
            local.pop(message["data"], None)


@wrong(
    "04.2",
    situation="A lost connection",
    because="the copies of d'Arc é, user:1, user:2 were still there.",
)
def forgets_when_it_unsubscribes(subscriber, local):
    for message in subscriber.listen():
        if message["type"] == "unsubscribe":
            local.clear()
        else:
            local.pop(message["data"], None)


@wrong(
    "04.2",
    situation="A message",
    because="the copy of 'user:1' was still there after a message about it",
    sequential=True,
)
def pops_the_channel(subscriber, local):
    for message in subscriber.listen():
        if message["type"] == "subscribe":
            local.clear()
        else:
            local.pop(message["channel"], None)


@wrong("04.2", situation="A message", because="it raised KeyError: ('user:1', 0).", sequential=True)
def must_be_there(subscriber, local):
    for message in subscriber.listen():
        if message["type"] == "message":
            del local[message["data"], 0]


@wrong("04.2", because="no copy left, though nobody had said anything", sequential=True)
def keeps_nothing(subscriber, local):
    while True:
        local.clear()
        time.sleep(0.0002)


@wrong(
    "04.2",
    situation="A second lost connection",
    because="were still there",
)
def forgets_after_the_first_gap(subscriber, local):
    subscriptions = 0
    for message in subscriber.listen():
        if message["type"] == "message":
            local.pop(message["data"], None)
        elif (subscriptions := subscriptions + 1) <= 2:
            local.clear()


@wrong(
    "04.2",
    situation="A second in which nobody says anything",
    because="it returned",
    sequential=True,
)
def ends_when_it_is_quiet(subscriber, local):
    while (message := subscriber.get_message(timeout=0.9)) is not None:
        if message["type"] == "message":
            local.pop(message["data"], None)
        else:
            local.clear()


@wrong("04.2", situation="A second lost connection", because="were still there")
def takes_quiet_for_a_gap(subscriber, local):
    while True:
        message = subscriber.get_message(timeout=0.9)
        if message is None:
            local.clear()
        elif message["type"] == "message":
            local.pop(message["data"], None)


@wrong(
    "04.2",
    situation="A message about a key without a copy",
    because="it raised KeyError",
    sequential=True,
)
def deletes_what_is_not_there(subscriber, local):
    for message in subscriber.listen():
        if message["type"] == "message":
            del local[message["data"]]
        else:
            local.clear()


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


def change_and_release(redis, db, user_id, name, token):
    try:
        change(db, user_id, name)
    finally:
        release(redis, user_id, token)


@wrong(
    "04.3",
    situation="One call after the other",
    because="the count of writers whose deadline is ahead holds 1; 0 is due",
    sequential=True,
)
def never_releases(redis, db, user_id, name):
    announce(redis, user_id, secrets.token_urlsafe())
    change(db, user_id, name)
    redis.delete(f"user:{user_id}", f"user:{user_id}:lease")


@wrong(
    "04.3",
    situation="A client that crashes",
    because="in the cache",
)
def announces_and_leaves_the_row(redis, db, user_id, name):
    token = secrets.token_urlsafe()
    announce(redis, user_id, token, delete=[":lease"])
    change_and_release(redis, db, user_id, name, token)


@wrong("04.3", because="the last deadline of a writer holds 60,000 s from now")
def announced_for_ever(redis, db, user_id, name):
    """Its seconds are ms, and no TTL of the key ends them."""
    token = secrets.token_urlsafe()
    announce(redis, user_id, token, ahead=60_000, ttl=None)
    change_and_release(redis, db, user_id, name, token)


@wrong(
    "04.3",
    situation="A client that crashes",
    because="The key 'user:2:lease' lives for 3,600 s; 0 to 60 s is due",
)
def holds_the_lease_itself(redis, db, user_id, name):
    """A writer's deadline ends in time, and the lease that it keeps from readers does not."""
    token = secrets.token_urlsafe()
    announce(redis, user_id, token, ttl=None)
    redis.set(f"user:{user_id}:lease", token, ex=3600)
    change_and_release(redis, db, user_id, name, token)


@wrong(
    "04.3",
    situation="A client that crashes",
    because="The key 'user:2:since' has no time to live",
)
def notes_when_it_began(redis, db, user_id, name):
    """Of a key without deadlines only a TTL can say when it is over."""
    token = secrets.token_urlsafe()
    redis.set(f"user:{user_id}:since", redis.time()[0])
    announce(redis, user_id, token, ttl=None)
    try:
        change_and_release(redis, db, user_id, name, token)
    finally:
        redis.delete(f"user:{user_id}:since")


@wrong(
    "04.3",
    situation="A client that crashes",
    because="holds 3,600 s from now; a minute from now at the most is due",
)
def announced_for_an_hour(redis, db, user_id, name):
    token = secrets.token_urlsafe()
    announce(redis, user_id, token, ahead=3600)
    change_and_release(redis, db, user_id, name, token)


@wrong(
    "04.3",
    situation="Several clients, and one crashes",
    because="user:1 in the cache",
)
def late_by_a_day(redis, db, user_id, name):
    token = secrets.token_urlsafe()
    announce(redis, user_id, token, ahead=-86_400)
    change_and_release(redis, db, user_id, name, token)


@wrong(
    "04.3",
    situation="A client that crashes",
    because="user:2 in the cache",
)
def announces_too_late(redis, db, user_id, name):
    token = secrets.token_urlsafe()
    change(db, user_id, name)
    announce(redis, user_id, token)
    release(redis, user_id, token)


@wrong(
    "04.3",
    situation="Several clients, and one crashes",
    because="in the cache",
)
def deletes_then_announces(redis, db, user_id, name):
    key, token = f"user:{user_id}", secrets.token_urlsafe()
    redis.delete(key, f"{key}:lease")
    announce(redis, user_id, token, delete=())
    change_and_release(redis, db, user_id, name, token)


@wrong(
    "04.3",
    situation="Several clients, and a pause that outlasts every TTL",
    because="user:1 in the cache",
)
def trusts_the_announcement(redis, db, user_id, name):
    token = secrets.token_urlsafe()
    announce(redis, user_id, token)
    try:
        change(db, user_id, name)
    finally:
        redis.zrem(f"user:{user_id}:writers", token)


@wrong(
    "04.3",
    situation="A client that crashes, and the next one, too",
    because="the count of deadlines of others that it took away holds 1",
)
def lets_everybody_in(redis, db, user_id, name):
    announce(redis, user_id, secrets.token_urlsafe())
    try:
        change(db, user_id, name)
    finally:
        key = f"user:{user_id}"
        redis.delete(key, f"{key}:lease", f"{key}:writers")


@wrong("04.3", because="the count of deadlines of others that it took away holds 1")
def names_the_process(redis, db, user_id, name):
    token = "process-7"
    announce(redis, user_id, token)
    change_and_release(redis, db, user_id, name, token)


@wrong("04.3", because="a deadline holds '3660 s ahead'")
def asks_its_own_clock(redis, db, user_id, name):
    key, token = f"user:{user_id}", secrets.token_urlsafe()
    with redis.pipeline() as pipe:
        pipe.delete(key, f"{key}:lease").zadd(f"{key}:writers", {token: time.time() + 60})
        pipe.expire(f"{key}:writers", 60).execute()
    change_and_release(redis, db, user_id, name, token)


@wrong("04.3", situation="A client that crashes", because="user:2 in the cache")
def announces_user_1_only(redis, db, user_id, name):
    token = secrets.token_urlsafe()
    announce(redis, 1, token)
    try:
        change(db, user_id, name)
    finally:
        release(redis, 1, token)
    redis.delete(f"user:{user_id}", f"user:{user_id}:lease")


@wrong("04.2", because="A connection that was lost before the first word")
def takes_the_first_word_for_granted(subscriber, local):
    confirmed = False
    for message in subscriber.listen():
        if message["type"] == "message":
            local.pop(message["data"], None)
        elif confirmed:
            local.clear()
        confirmed = True


@wrong("04.2", because="The same key once more", sequential=True)
def hears_everything_once(subscriber, local):
    last = None
    for message in subscriber.listen():
        if message["type"] != "message":
            local.clear()
        elif message["data"] != last:
            last = message["data"]
            local.pop(last, None)


@wrong("04.3", because="the TTL of user:2:writers, with a deadline 60 s ahead, holds")
def leaves_the_ttl_to_the_first_writer(redis, db, user_id, name):
    key, token = f"user:{user_id}", secrets.token_urlsafe()
    announce = """
    redis.call('DEL', KEYS[1], KEYS[2])
    redis.call('ZADD', KEYS[3], redis.call('TIME')[1] + 60, ARGV[1])
    return redis.call('EXPIRE', KEYS[3], 60, 'NX')
    """
    redis.eval(announce, 3, key, f"{key}:lease", f"{key}:writers", token)
    change_and_release(redis, db, user_id, name, token)


@wrong("04.1", because="ada was given False; True is due", sequential=True)
def keeps_what_it_took_for_nobody(redis, db, user_id, name):
    """Its leases stay where there is no such user."""
    for key in keys_of(user_id, name):
        redis.set(f"{key}:lease", "a writer's")
    if (old := renamed(db, user_id, name)) is None:
        return False
    keys = keys_of(user_id, old, name)
    redis.delete(*keys, *(f"{key}:lease" for key in keys))
    return True


@wrong("04.2", because="A message that many others follow", sequential=True)
def waits_until_nobody_says_anything(subscriber, local):
    gathered = set()
    while True:
        message = subscriber.get_message(timeout=0.05)
        if message and message["type"] == "message":
            gathered.add(message["data"])
        elif message:
            local.clear()
        else:
            while gathered:
                local.pop(gathered.pop(), None)


@wrong("04.3", because="writers whose deadline is ahead holds 1; 0 is due", sequential=True)
def releases_only_what_was_changed(redis, db, user_id, name):
    """A statement that fails leaves its deadline, and nobody may fill the key."""
    token = secrets.token_urlsafe()
    announce(redis, user_id, token)
    change(db, user_id, name)
    release(redis, user_id, token)


@wrong("04.2", because="A message behind 200 others", sequential=True)
def rests_after_each_message(subscriber, local):
    while True:
        message = subscriber.get_message()
        if message and message["type"] == "message":
            local.pop(message["data"], None)
        elif message:
            local.clear()
        time.sleep(0.2)


def rename_as(key_of, redis, db, user_id, name):
    """Right, but for the keys of names."""
    old = renamed(db, user_id, name)
    if old is not None:
        keys = f"user:{user_id}", f"named:{key_of(old)}", f"named:{key_of(name)}"
        redis.delete(*(f"{key}:lease" for key in keys), *keys)
    return old is not None


@wrong("04.1", because="nothing is due", sequential=True)
def names_without_their_blanks(redis, db, user_id, name):
    return rename_as(str.strip, redis, db, user_id, name)


@wrong("04.1", because="nothing is due", sequential=True)
def names_of_64_characters(redis, db, user_id, name):
    return rename_as(lambda name: name[:64], redis, db, user_id, name)
