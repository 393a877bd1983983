"""Wrong answers to the exercises of lab 12, and what each must be refused for."""

from contextlib import suppress

from redis.exceptions import LockNotOwnedError, ResponseError, WatchError

from labsupport.labs.sessions.exercises import rotate_solution, visit_solution
from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong


def fields_of(found):
    return dict(zip(found[::2], found[1::2], strict=True)) or None


def server_ms(redis):
    seconds, micros = redis.time()
    return seconds * 1000 + micros // 1000


# 12.1: the sequential ones are those that a single visit gives away


@wrong(
    "12.1",
    situation="One call after the other",
    because="The key 'session:a' lives for 30 s; 20 s is due",
    sequential=True,
)
def knows_no_end(redis, session, idle_ms):
    script = """
    if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
    redis.call('HINCRBY', KEYS[1], 'visits', 1)
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
    return redis.call('HGETALL', KEYS[1])
    """
    return fields_of(redis.eval(script, 1, f"session:{session}", idle_ms))


@wrong(
    "12.1",
    situation="One call after the other",
    because="session:a holds {'user': '7', 'ends': '20000'}; {'user': '7', 'ends': '20000', 'visits': '",
    sequential=True,
)
def counts_for_the_caller_only(redis, session, idle_ms):
    fields = redis.hgetall(f"session:{session}")
    if not fields:
        return None
    redis.pexpireat(f"session:{session}", min(server_ms(redis) + idle_ms, int(fields["ends"])))
    return fields | {"visits": str(int(fields.get("visits", 0)) + 1)}


@wrong(
    "12.1",
    situation="One call after the other",
    because="The key 'session:a' lives for 15 s; 20 s is due",
    sequential=True,
)
def prolongs_nothing(redis, session, idle_ms):
    script = """
    if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
    redis.call('HINCRBY', KEYS[1], 'visits', 1)
    return redis.call('HGETALL', KEYS[1])
    """
    return fields_of(redis.eval(script, 1, f"session:{session}", idle_ms))


@wrong(
    "12.1",
    situation="One call after the other",
    because="ada was given {'visits': '1'} (dict); None is due",
    sequential=True,
)
def counts_after_it_has_ended_it(redis, session, idle_ms):
    script = """
    local ends, t = redis.call('HGET', KEYS[1], 'ends'), redis.call('TIME')
    if not ends then return {} end
    local now = t[1] * 1000 + math.floor(t[2] / 1000)
    redis.call('PEXPIREAT', KEYS[1], math.min(now + ARGV[1], ends))
    redis.call('HINCRBY', KEYS[1], 'visits', 1)
    return redis.call('HGETALL', KEYS[1])
    """
    return fields_of(redis.eval(script, 1, f"session:{session}", idle_ms))


@wrong(
    "12.1",
    situation="Several clients at once",
    because="No order of the calls",
)
def looks_then_counts(redis, session, idle_ms):
    key = f"session:{session}"
    fields = redis.hgetall(key)
    ends, now = int(fields.get("ends", 0)), server_ms(redis)
    if ends <= now:
        return None
    redis.hincrby(key, "visits", 1)
    redis.pexpireat(key, min(now + idle_ms, ends))
    return redis.hgetall(key)


@wrong(
    "12.1",
    situation="Several clients at once",
    because="bob was given 1 and ada was given {'visits': '1'}. No order of the calls",
)
def multi_without_watch(redis, session, idle_ms):
    key = f"session:{session}"
    ends, now = int(redis.hget(key, "ends") or 0), server_ms(redis)
    if ends <= now:
        return None
    with redis.pipeline(transaction=True) as pipe:
        pipe.hincrby(key, "visits", 1)
        pipe.pexpireat(key, min(now + idle_ms, ends))
        pipe.hgetall(key)
        return pipe.execute()[-1]


@wrong(
    "12.1",
    situation="Several clients at once",
    because="No order of the calls",
)
def reads_adds_writes(redis, session, idle_ms):
    write = """
    if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
    redis.call('HSET', KEYS[1], 'visits', ARGV[2])
    redis.call('PEXPIREAT', KEYS[1], ARGV[1])
    return redis.call('HGETALL', KEYS[1])
    """
    key = f"session:{session}"
    fields, now = redis.hgetall(key), server_ms(redis)
    ends = int(fields.get("ends", 0))
    if ends <= now:
        return None
    count = int(fields.get("visits", 0)) + 1
    return fields_of(redis.eval(write, 1, key, min(now + idle_ms, ends), count))


@wrong(
    "12.1",
    situation="Several clients at once",
    because="ada was given an error (WatchError: Watched variable changed.",
)
def watches_once(redis, session, idle_ms):
    key = f"session:{session}"
    with redis.pipeline(transaction=True) as pipe:
        pipe.watch(key)
        ends, now = int(pipe.hget(key, "ends") or 0), server_ms(redis)
        if ends <= now:
            return None
        pipe.multi()
        pipe.hincrby(key, "visits", 1)
        pipe.pexpireat(key, min(now + idle_ms, ends))
        pipe.hgetall(key)
        return pipe.execute()[-1]


# 12.2: all but the first two pass with one login that nothing disturbs

INDEX = """
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('EXPIRE', KEYS[1], 28800)
"""
MOVE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('RENAME', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[2], 'user', ARGV[1])
return 1
"""


@wrong(
    "12.2",
    situation="One call after the other",
    because="session:a holds {'cart': '1'}; nothing is due",
    sequential=True,
)
def copies(redis, user, old, new):
    script = """
    if redis.call('COPY', KEYS[1], KEYS[2]) == 0 then return 0 end
    redis.call('HSET', KEYS[2], 'user', ARGV[1])
    redis.call('SADD', KEYS[3], ARGV[2])
    redis.call('EXPIRE', KEYS[3], 28800)
    return 1
    """
    keys = f"session:{old}", f"session:{new}", f"sessions:{user}"
    return bool(redis.eval(script, 3, *keys, user, new))


@wrong(
    "12.2",
    situation="One call after the other",
    because="The key 'sessions:7' has no time to live; 28,800 s is due",
    sequential=True,
)
def index_for_ever(redis, user, old, new):
    script = """
    if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
    redis.call('RENAME', KEYS[1], KEYS[2])
    redis.call('HSET', KEYS[2], 'user', ARGV[1])
    redis.call('SADD', KEYS[3], ARGV[2])
    return 1
    """
    keys = f"session:{old}", f"session:{new}", f"sessions:{user}"
    return bool(redis.eval(script, 3, *keys, user, new))


@wrong(
    "12.2",
    situation="One call after the other",
    because="session:a holds {'cart': '1', 'user': '7'}; nothing is due",
    sequential=True,
)
def keeps_the_token(redis, user, old, new):
    script = """
    if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
    redis.call('HSET', KEYS[1], 'user', ARGV[1])
    redis.call('SADD', KEYS[2], ARGV[2])
    redis.call('EXPIRE', KEYS[2], 28800)
    return 1
    """
    return bool(redis.eval(script, 2, f"session:{old}", f"sessions:{user}", user, old))


@wrong(
    "12.2",
    situation="One call after the other",
    because="session:x holds {'user': '7'}; nothing is due",
    sequential=True,
)
def trusts_a_rollback(redis, user, old, new):
    with redis.pipeline(transaction=True) as pipe:
        pipe.rename(f"session:{old}", f"session:{new}")
        pipe.hset(f"session:{new}", "user", user)
        pipe.sadd(f"sessions:{user}", new)
        pipe.expire(f"sessions:{user}", 28_800)
        try:
            pipe.execute()
        except ResponseError:
            return False
    return True


@wrong(
    "12.2",
    situation="A client that crashes",
    because="session:x holds {'cart': '1', 'user': '7'}; nothing is due",
)
def index_afterwards(redis, user, old, new):
    if not redis.eval(MOVE, 2, f"session:{old}", f"session:{new}", user):
        return False
    redis.eval(INDEX, 1, f"sessions:{user}", new)
    return True


@wrong(
    "12.2",
    situation="One call after the other",
    because="sessions:d'Arc holds {'z'}; nothing is due",
    sequential=True,
)
def index_first(redis, user, old, new):
    redis.eval(INDEX, 1, f"sessions:{user}", new)
    return bool(redis.eval(MOVE, 2, f"session:{old}", f"session:{new}", user))


@wrong(
    "12.2",
    situation="Several clients at once",
    because="ada was given True and bob was given True. No order of the calls",
)
def looks_then_moves(redis, user, old, new):
    if not redis.exists(f"session:{old}"):
        return False
    with redis.pipeline(transaction=True) as pipe:
        pipe.rename(f"session:{old}", f"session:{new}")
        pipe.hset(f"session:{new}", "user", user)
        pipe.sadd(f"sessions:{user}", new)
        pipe.expire(f"sessions:{user}", 28_800)
        pipe.execute(raise_on_error=False)
    return True


@wrong(
    "12.2",
    situation="Several clients at once",
    because="ada was given True and bob was given True. No order of the calls",
)
def copies_what_it_has_read(redis, user, old, new):
    fields, left = redis.hgetall(f"session:{old}"), redis.pttl(f"session:{old}")
    if not fields or left < 0:
        return False
    with redis.pipeline(transaction=True) as pipe:
        pipe.hset(f"session:{new}", mapping={**fields, "user": user})
        pipe.pexpire(f"session:{new}", left)
        pipe.delete(f"session:{old}")
        pipe.sadd(f"sessions:{user}", new)
        pipe.expire(f"sessions:{user}", 28_800)
        pipe.execute()
    return True


@wrong(
    "12.2",
    situation="Several clients at once",
    because="ada was given an error (WatchError: Watched variable changed.",
)
def watches_and_gives_up(redis, user, old, new):
    with redis.pipeline(transaction=True) as pipe:
        pipe.watch(f"session:{old}")
        if not pipe.exists(f"session:{old}"):
            return False
        pipe.multi()
        pipe.rename(f"session:{old}", f"session:{new}")
        pipe.hset(f"session:{new}", "user", user)
        pipe.sadd(f"sessions:{user}", new)
        pipe.expire(f"sessions:{user}", 28_800)
        pipe.execute()
    return True


# 12.3: all but the last three are right when nothing else happens


def begin(redis, user_id, session):
    key, index = f"session:{session}", f"sessions:{user_id}"
    pipe = redis.pipeline(transaction=True).set(key, user_id, ex=3600)
    return bool(pipe.sadd(index, key).expire(index, 3600).execute())


def has(db, user_id, email):
    return db.fetch_one("SELECT * FROM users WHERE id = :id", id=user_id)["email"] == email


def move(db, user_id, email):
    db.execute("UPDATE users SET email = :email WHERE id = :id", email=email, id=user_id)


def end_all(redis, user_id):
    redis.delete(f"sessions:{user_id}", *redis.smembers(f"sessions:{user_id}"))


def plain_sign_in(redis, db, user_id, email, session):
    return has(db, user_id, email) and begin(redis, user_id, session)


@wrong("12.3", situation="Several clients at once", because="session:ada holds '1'; nothing is due")
def revokes_before_the_change():
    def change_email(redis, db, user_id, email):
        end_all(redis, user_id)
        move(db, user_id, email)

    return plain_sign_in, change_email


@wrong("12.3", situation="Several clients at once", because="session:ada holds '1'; nothing is due")
def revokes_twice():
    def change_email(redis, db, user_id, email):
        end_all(redis, user_id)
        move(db, user_id, email)
        end_all(redis, user_id)

    return plain_sign_in, change_email


@wrong(
    "12.3",
    situation="Several clients, and one crashes",
    because="session:ada holds '1'; nothing is due",
)
def looks_again_afterwards():
    def sign_in(redis, db, user_id, email, session):
        if not has(db, user_id, email):
            return False
        begin(redis, user_id, session)
        if has(db, user_id, email):
            return True
        redis.delete(f"session:{session}")
        return False

    def change_email(redis, db, user_id, email):
        move(db, user_id, email)
        end_all(redis, user_id)

    return sign_in, change_email


COUNTED = """
if (redis.call('GET', KEYS[3]) or '') ~= ARGV[2] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
redis.call('SADD', KEYS[2], KEYS[1])
return redis.call('EXPIRE', KEYS[2], 3600)
"""


def counted(redis, user_id, session, ended):
    keys = f"session:{session}", f"sessions:{user_id}", f"ended:{user_id}"
    return bool(redis.eval(COUNTED, 3, *keys, user_id, ended or ""))


@wrong("12.3", situation="Several clients at once", because="session:ada holds '1'; nothing is due")
def the_set_goes_with_who_came_meanwhile():
    """Who begins between SMEMBERS and DEL is in no set: the next change does not end it."""

    def sign_in(redis, db, user_id, email, session):
        ended = redis.get(f"ended:{user_id}")
        return has(db, user_id, email) and counted(redis, user_id, session, ended)

    def change_email(redis, db, user_id, email):
        move(db, user_id, email)
        redis.incr(f"ended:{user_id}")
        end_all(redis, user_id)

    return sign_in, change_email


@wrong("12.3", situation="Several clients at once", because="session:ada holds '1'; nothing is due")
def count_read_after_the_row():
    def sign_in(redis, db, user_id, email, session):
        right = has(db, user_id, email)
        ended = redis.get(f"ended:{user_id}")
        return right and counted(redis, user_id, session, ended)

    def change_email(redis, db, user_id, email):
        move(db, user_id, email)
        redis.incr(f"ended:{user_id}")
        end_all(redis, user_id)

    return sign_in, change_email


@wrong("12.3", situation="Several clients at once", because="session:ada holds '1'; nothing is due")
def counts_after_it_has_ended_them():
    def sign_in(redis, db, user_id, email, session):
        ended = redis.get(f"ended:{user_id}")
        return has(db, user_id, email) and counted(redis, user_id, session, ended)

    def change_email(redis, db, user_id, email):
        move(db, user_id, email)
        end_all(redis, user_id)
        redis.incr(f"ended:{user_id}")

    return sign_in, change_email


@wrong(
    "12.3",
    situation="Several clients at once",
    because="ada was given False and bob was given False, then None. No order of the calls",
)
def one_pass_for_all():
    script = """
    if redis.call('GETDEL', KEYS[3]) ~= ARGV[2] then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'EX', 3600)
    redis.call('SADD', KEYS[2], KEYS[1])
    return redis.call('EXPIRE', KEYS[2], 3600)
    """

    def sign_in(redis, db, user_id, email, session):
        redis.set(f"pass:{user_id}", session, ex=60)
        keys = f"session:{session}", f"sessions:{user_id}", f"pass:{user_id}"
        return has(db, user_id, email) and bool(redis.eval(script, 3, *keys, user_id, session))

    def change_email(redis, db, user_id, email):
        move(db, user_id, email)
        redis.delete(f"pass:{user_id}")
        end_all(redis, user_id)

    return sign_in, change_email


@wrong(
    "12.3",
    situation="Several clients at once",
    because="ada was given an error (WatchError: Watched variable changed.",
)
def watch_that_gives_up():
    def sign_in(redis, db, user_id, email, session):
        key, index = f"session:{session}", f"sessions:{user_id}"
        with redis.pipeline(transaction=True) as pipe:
            pipe.watch(index)
            if not has(db, user_id, email):
                return False
            pipe.multi()
            pipe.set(key, user_id, ex=3600)
            pipe.sadd(index, key).expire(index, 3600)
            return bool(pipe.execute())

    def change_email(redis, db, user_id, email):
        move(db, user_id, email)
        index = f"sessions:{user_id}"
        redis.sadd(index, "session:none")  # so that there is something to delete
        end_all(redis, user_id)

    return sign_in, change_email


@wrong(
    "12.3",
    situation="One call after the other",
    because="holds '1'; nothing is due",
    sequential=True,
)
def trusts_the_ttl():
    def change_email(redis, db, user_id, email):
        move(db, user_id, email)

    return plain_sign_in, change_email


@wrong(
    "12.3",
    situation="One call after the other",
    because="is not there; '1' is due",
    sequential=True,
)
def ends_all_of_everybody():
    def change_email(redis, db, user_id, email):
        move(db, user_id, email)
        redis.delete("none", *redis.scan_iter(match="session:*"))

    return plain_sign_in, change_email


@wrong(
    "12.3",
    because="accounts() does not return 2 functions",
)
def one_function():
    return plain_sign_in


@wrong("12.1", situation="One call after the other", because="61.5 s is due", sequential=True)
def lives_for_whole_seconds(redis, session, idle_ms):
    script = """
    if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
    redis.call('HINCRBY', KEYS[1], 'visits', 1)
    redis.call('EXPIRE', KEYS[1], math.floor(tonumber(ARGV[1]) / 1000))
    redis.call('PEXPIREAT', KEYS[1], redis.call('HGET', KEYS[1], 'ends') or 0, 'LT')
    return redis.call('HGETALL', KEYS[1])
    """
    return fields_of(redis.eval(script, 1, f"session:{session}", idle_ms))


@wrong("12.2", situation="One call after the other", because="False; True is due", sequential=True)
def nobody_logs_in_twice(redis, user, old, new):
    script = """
    if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HEXISTS', KEYS[1], 'user') == 1 then
      return 0
    end
    redis.call('RENAME', KEYS[1], KEYS[2])
    redis.call('HSET', KEYS[2], 'user', ARGV[1])
    redis.call('SADD', KEYS[3], ARGV[2])
    return redis.call('EXPIRE', KEYS[3], 28800)
    """
    keys = (f"session:{old}", f"session:{new}", f"sessions:{user}")
    return redis.eval(script, 3, *keys, user, new) == 1


@wrong("12.2", because="sessions:7 holds")
def clears_the_set_up_in_passing(redis, user, old, new):
    index = f"sessions:{user}"
    script = """
    if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
    redis.call('RENAME', KEYS[1], KEYS[2])
    redis.call('HSET', KEYS[2], 'user', ARGV[1])
    redis.call('SADD', KEYS[3], ARGV[2])
    return redis.call('EXPIRE', KEYS[3], 28800)
    """
    if not redis.eval(script, 3, f"session:{old}", f"session:{new}", index, user, new):
        return False
    alive = [name for name in redis.smembers(index) if redis.exists(f"session:{name}")]
    if alive:
        with redis.pipeline() as pipe:
            pipe.delete(index).sadd(index, *alive).expire(index, 28_800).execute()
    return True


@wrong("12.2", because="No order of the calls gives that")
def reads_before_it_watches(redis, user, old, new):
    """A visit between the two has been told its number, and the new session has not counted it."""
    source, index = f"session:{old}", f"sessions:{user}"
    while True:
        fields, ms = redis.pipeline(transaction=True).hgetall(source).pttl(source).execute()
        if not fields:
            return False
        with redis.pipeline() as pipe, suppress(WatchError):
            pipe.watch(source)
            if not pipe.exists(source):
                return False
            pipe.multi()
            pipe.delete(source)
            pipe.hset(f"session:{new}", mapping=fields | {"user": user})
            pipe.pexpire(f"session:{new}", ms)
            pipe.srem(index, old)
            pipe.sadd(index, new)
            pipe.expire(index, 28_800)
            pipe.execute()
            return True


@wrong("12.3", because="session:ada holds '1'; nothing is due")
def locks_the_account_for_ten_seconds():
    def locked(redis, user_id, work):
        with suppress(LockNotOwnedError), redis.lock(f"account:{user_id}", timeout=10):
            told = work()
        return told

    def sign_in(redis, db, user_id, email, session):
        def work():
            return plain_sign_in(redis, db, user_id, email, session)

        return locked(redis, user_id, work)

    def change_email(redis, db, user_id, email):
        def work():
            move(db, user_id, email)
            end_all(redis, user_id)

        locked(redis, user_id, work)

    return sign_in, change_email


@wrong("12.3", because="session:ada holds '1'; nothing is due")
def forgets_a_change_after_a_minute():
    """Who began before it, and stalls until then, finds that nothing has changed."""

    def sign_in(redis, db, user_id, email, session):
        ended = redis.get(f"ended:{user_id}")
        return has(db, user_id, email) and counted(redis, user_id, session, ended)

    def change_email(redis, db, user_id, email):
        move(db, user_id, email)
        script = """
        redis.call('INCR', KEYS[2])
        redis.call('EXPIRE', KEYS[2], 60)
        for _, key in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('DEL', key) end
        return redis.call('DEL', KEYS[1])
        """
        redis.eval(script, 2, f"sessions:{user_id}", f"ended:{user_id}")

    return sign_in, change_email


@wrong(
    "12.1",
    situation="One call after the other",
    because="'visits': '1'}; {'user': '7', 'cart': ' 3'",
    sequential=True,
)
def returns_the_fields_that_it_knows(redis, session, idle_ms):
    script = """
    local ends, t = redis.call('HGET', KEYS[1], 'ends'), redis.call('TIME')
    if not ends then return {} end
    redis.call('HINCRBY', KEYS[1], 'visits', 1)
    redis.call('PEXPIREAT', KEYS[1], math.min(t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[1], ends))
    return redis.call('HMGET', KEYS[1], 'user', 'ends', 'visits')
    """
    found = redis.eval(script, 1, f"session:{session}", idle_ms)
    return dict(zip(("user", "ends", "visits"), found, strict=True)) if any(found) else None


@wrong(
    "12.2",
    situation="One call after the other",
    because="sessions:7 holds {'session:x'}; {'x'} is due",
    sequential=True,
)
def names_keys_and_not_sessions(redis, user, old, new):
    script = """
    if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
    redis.call('RENAME', KEYS[1], KEYS[2])
    redis.call('HSET', KEYS[2], 'user', ARGV[1])
    redis.call('SADD', KEYS[3], KEYS[2])
    redis.call('EXPIRE', KEYS[3], 28800)
    return 1
    """
    keys = f"session:{old}", f"session:{new}", f"sessions:{user}"
    return bool(redis.eval(script, 3, *keys, user))


def counting_accounts(same, kept):
    """Right, but for which addresses are the same, and what a session holds."""

    def sign_in(redis, db, user_id, email, session):
        ended = redis.get(f"ended:{user_id}")
        row = db.fetch_one("SELECT email FROM users WHERE id = :id", id=user_id)
        return same(row["email"], email) and counted(redis, kept(user_id), session, ended)

    def change_email(redis, db, user_id, email):
        move(db, user_id, email)
        redis.incr(f"ended:{user_id}")
        end_all(redis, user_id)

    return sign_in, change_email


@wrong("12.3", because="ada was given True; False is due", sequential=True)
def takes_addresses_for_the_same_in_any_case():
    return counting_accounts(
        lambda one, other: one.lower() == other.lower(), lambda user_id: user_id
    )


@wrong(
    "12.3",
    because="session:s1 holds '1'; '2' is due. The contract: “session:{session} holds",
    sequential=True,
)
def everybody_is_user_1():
    return counting_accounts(lambda one, other: one == other, lambda user_id: 1)


@wrong(
    "12.1",
    situation="One call after the other",
    because="The key 'session:a' lives for 10 s; 9.1 s is due",
    sequential=True,
)
def asks_the_server_for_whole_seconds(redis, session, idle_ms):
    script = """
    local ends, now = redis.call('HGET', KEYS[1], 'ends'), redis.call('TIME')[1] * 1000
    if not ends or now >= tonumber(ends) then return {} end
    redis.call('HINCRBY', KEYS[1], 'visits', 1)
    redis.call('PEXPIRE', KEYS[1], math.min(ARGV[1], ends - now))
    return redis.call('HGETALL', KEYS[1])
    """
    return fields_of(redis.eval(script, 1, f"session:{session}", idle_ms))


@wrong(
    "12.1",
    situation="One call after the other",
    because="The key 'session:a' lives for 29.1 s; 30 s is due",
    sequential=True,
)
def prolongs_from_the_last_whole_second(redis, session, idle_ms):
    script = """
    local ends, now = redis.call('HGET', KEYS[1], 'ends'), redis.call('TIME')[1] * 1000
    if not ends then return {} end
    redis.call('HINCRBY', KEYS[1], 'visits', 1)
    redis.call('PEXPIREAT', KEYS[1], math.min(now + ARGV[1], ends))
    return redis.call('HGETALL', KEYS[1])
    """
    found = redis.eval(script, 1, f"session:{session}", idle_ms)
    return dict(zip(found[::2], found[1::2], strict=True)) or None


@wrong("12.3", because="'session:s1' lives for 1,799 s; 3,600 s is due", sequential=True)
def has_one_hour_for_both_sign_ins():
    begin = COUNTED.replace("'EX', 3600)", "'EX', 3600, 'NX')", 1)

    def sign_in(redis, db, user_id, email, session):
        ended = redis.get(f"ended:{user_id}") or ""
        keys = f"session:{session}", f"sessions:{user_id}", f"ended:{user_id}"
        return has(db, user_id, email) and bool(redis.eval(begin, 3, *keys, user_id, ended))

    _, change_email = counting_accounts(lambda one, other: one == other, lambda user_id: user_id)
    return sign_in, change_email


@wrong("12.3", because="has left 8,000; none is due", sequential=True)
def ends_a_hundred_sessions():
    def change_email(redis, db, user_id, email):
        move(db, user_id, email)
        script = """
        for _, session in ipairs(redis.call('SRANDMEMBER', KEYS[1], 100)) do
          redis.call('DEL', session)
        end
        redis.call('DEL', KEYS[1])
        return redis.call('INCR', KEYS[2])
        """
        redis.eval(script, 2, f"sessions:{user_id}", f"ended:{user_id}")

    def sign_in(redis, db, user_id, email, session):
        ended = redis.get(f"ended:{user_id}") or ""
        return has(db, user_id, email) and bool(counted(redis, user_id, session, ended))

    return sign_in, change_email


@wrong("12.3", situation="8,100 sessions of one user", because="has left 8,100", sequential=True)
def ends_all_in_one_command():
    def change_email(redis, db, user_id, email):
        move(db, user_id, email)
        script = """
        local sessions = redis.call('SMEMBERS', KEYS[1])
        redis.call('INCR', KEYS[2])
        if #sessions > 0 then redis.call('DEL', KEYS[1], unpack(sessions)) end
        """
        redis.eval(script, 2, f"sessions:{user_id}", f"ended:{user_id}")

    def sign_in(redis, db, user_id, email, session):
        ended = redis.get(f"ended:{user_id}") or ""
        return has(db, user_id, email) and bool(counted(redis, user_id, session, ended))

    return sign_in, change_email


@wrong("12.1", because="is due", sequential=True)
def sessions_of_32_characters(redis, session, idle_ms):
    return visit_solution(redis, session[:32], idle_ms)


@wrong("12.1", because="86,400 s; 300,000 s is due", sequential=True)
def idle_for_a_day_at_the_most(redis, session, idle_ms):
    return visit_solution(redis, session, min(idle_ms, 86_400_000))


@wrong("12.2", because="is due", sequential=True)
def new_names_of_32_characters(redis, user, old, new):
    return rotate_solution(redis, user, old, new[:32])
