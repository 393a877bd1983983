"""Wrong answers to the exercises of lab 07, and what each must be refused for."""

import itertools
import os
import secrets
import time

from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

MINE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "
READ = "SELECT stock FROM products WHERE id = 1"


# 07.1


def parts(*, new=secrets.token_urlsafe, take=None, renew=None, free=None):
    """take, renew and free of the solution, but for what is given."""

    def right_take(redis, name, ttl):
        token = new()
        while not redis.set(name, token, nx=True, px=int(ttl * 1000)):
            time.sleep(0.01)
        return token

    def right_renew(redis, name, token, ttl):
        script = MINE + "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
        return bool(redis.eval(script, 1, name, token, int(ttl * 1000)))

    def right_free(redis, name, token):
        return bool(redis.eval(MINE + "return redis.call('DEL', KEYS[1])", 1, name, token))

    return take or right_take, renew or right_renew, free or right_free


@wrong("07.1", situation="One call after the other", because="has no time to live", sequential=True)
def no_ttl():
    def take(redis, name, ttl):
        token = secrets.token_urlsafe()
        while not redis.set(name, token, nx=True):
            time.sleep(0.01)
        return token

    return parts(take=take)


@wrong(
    "07.1",
    situation="A client that crashes",
    because="has no time to live; 60 s is due",
    schedule="SETNX crash:PEXPIRE",
)
def expires_it_afterwards():
    def take(redis, name, ttl):
        token = secrets.token_urlsafe()
        while not redis.setnx(name, token):
            time.sleep(0.01)
        redis.pexpire(name, int(ttl * 1000))
        return token

    return parts(take=take)


@wrong(
    "07.1",
    situation="One call after the other",
    because="was given True; False is due",
    sequential=True,
)
def no_token():
    return parts(new=lambda: "taken", free=lambda redis, name, token: bool(redis.delete(name)))


@wrong(
    "07.1",
    situation="Several clients, and a pause that outlasts every TTL",
    because="one gives ada a new token 1, then False and bob True, then 1",
    schedule="SET GET expire:lock:kettle SET DEL EVAL",
)
def looks_then_frees():
    def free(redis, name, token):
        return redis.get(name) == token and bool(redis.delete(name))

    return parts(free=free)


@wrong(
    "07.1",
    situation="One call after the other",
    because="was given True; False is due",
    sequential=True,
)
def renews_whosever_it_is():
    return parts(renew=lambda redis, name, token, ttl: bool(redis.pexpire(name, int(ttl * 1000))))


@wrong(
    "07.1",
    situation="Several clients, and a pause that outlasts every TTL",
    because="one gives ada a new token 1, then False and bob True, then 1",
)
def looks_then_renews():
    def renew(redis, name, token, ttl):
        return redis.get(name) == token and bool(redis.pexpire(name, int(ttl * 1000)))

    return parts(renew=renew)


@wrong(
    "07.1",
    situation="One call after the other",
    because="was given True; False is due",
    sequential=True,
)
def renews_by_taking():
    def renew(redis, name, token, ttl):
        return bool(redis.set(name, token, xx=True, px=int(ttl * 1000)))

    return parts(renew=renew)


@wrong(
    "07.1", situation="One call after the other", because="a new token 2 is due", sequential=True
)
def token_from_the_clock():
    return parts(new=lambda: str(int(time.time() * 10)))


@wrong(
    "07.1", situation="One call after the other", because="a new token 2 is due", sequential=True
)
def token_from_the_process():
    return parts(new=lambda: str(os.getpid()))


@wrong("07.1", situation="Several clients at once", because="No order of the calls gives that")
def looks_then_takes():
    def take(redis, name, ttl):
        token = secrets.token_urlsafe()
        while redis.exists(name):
            time.sleep(0.01)
        redis.set(name, token, px=int(ttl * 1000))
        return token

    return parts(take=take)


@wrong(
    "07.1",
    situation="One call after the other",
    because="is due. The contract: “lives for ttl seconds”",
    sequential=True,
)
def seconds_for_milliseconds():
    def take(redis, name, ttl):
        token = secrets.token_urlsafe()
        while not redis.set(name, token, nx=True, px=int(ttl)):
            time.sleep(0.01)
        return token

    return parts(take=take)


@wrong(
    "07.1",
    situation="One call after the other",
    because="was given False; True is due",
    sequential=True,
)
def never_shortens():
    def renew(redis, name, token, ttl):
        script = MINE + "return redis.call('PEXPIRE', KEYS[1], ARGV[2], 'GT')"
        return bool(redis.eval(script, 1, name, token, int(ttl * 1000)))

    return parts(renew=renew)


@wrong(
    "07.1",
    situation="One call after the other",
    because="an error (TimeoutError: it is still held",
    sequential=True,
)
def waits_for_ten_seconds():
    def take(redis, name, ttl):
        token, end = secrets.token_urlsafe(), time.monotonic() + 10
        while time.monotonic() < end:
            if redis.set(name, token, nx=True, px=int(ttl * 1000)):
                return token
            time.sleep(0.01)
        raise TimeoutError("it is still held")

    return parts(take=take)


@wrong(
    "07.1",
    situation="One call after the other",
    because="was given True; False is due",
    sequential=True,
)
def renews_what_has_expired():
    script = """
    local holder = redis.call('GET', KEYS[1])
    if holder and holder ~= ARGV[1] then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 1
    """

    def renew(redis, name, token, ttl):
        return redis.eval(script, 1, name, token, int(ttl * 1000)) == 1

    return parts(renew=renew)


@wrong(
    "07.1",
    situation="One call after the other",
    because="The key 'tokens' has no time to live: it stays for ever",
    sequential=True,
)
def token_from_a_counter():
    def take(redis, name, ttl):
        token = str(redis.incr("tokens"))
        while not redis.set(name, token, nx=True, px=int(ttl * 1000)):
            time.sleep(0.01)
        return token

    return parts(take=take)


# 07.2


@wrong(
    "07.2",
    situation="One call after the other",
    because="It does not end, or changes Redis at each attempt: an order took more",
    sequential=True,
)
def draws_for_each_attempt(redis, name, ttl):
    while True:
        number = redis.incr(f"{name}:number")
        if redis.set(name, number, nx=True, px=int(ttl * 1000)):
            return number
        time.sleep(0.01)


@wrong("07.2", situation="Several clients at once", because="in their order, holds 2, then 1")
def draws_when_it_looks_free(redis, name, ttl):
    while redis.exists(name):
        time.sleep(0.01)
    return draws_before_it_waits(redis, name, ttl)


@wrong(
    "07.2",
    situation="One call after the other",
    because="an int above all 10 before is due",
    sequential=True,
)
def one_digit(redis, name, ttl):
    script = """
    if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
    local number = tonumber(string.sub(redis.call('GET', KEYS[2]) or '0', -1)) + 1
    redis.call('SET', KEYS[2], number)
    redis.call('SET', KEYS[1], number, 'PX', ARGV[1])
    return number
    """
    while not (number := redis.eval(script, 2, name, f"{name}:number", int(ttl * 1000))):
        time.sleep(0.01)
    return number


@wrong(
    "07.2", situation="A client that crashes", because="lock:kettle holds 'taken'; nothing is due"
)
def draws_after_it_took(redis, name, ttl):
    while not redis.set(name, "taken", nx=True, px=int(ttl * 1000)):
        time.sleep(0.01)
    number = redis.incr(f"{name}:number")
    redis.set(name, number, xx=True, keepttl=True)
    return number


@wrong("07.2", situation="Several clients at once", because="in their order, holds 2, then 1")
def draws_before_it_waits(redis, name, ttl):
    number = redis.incr(f"{name}:number")
    while not redis.set(name, number, nx=True, px=int(ttl * 1000)):
        time.sleep(0.01)
    return number


@wrong(
    "07.2",
    situation="One call after the other",
    because="an int above the one before is due",
    sequential=True,
)
def number_from_the_clock(redis, name, ttl):
    number = int(time.time())
    while not redis.set(name, number, nx=True, px=int(ttl * 1000)):
        time.sleep(0.01)
    return number


@wrong("07.2", situation="One call after the other", because="before is due", sequential=True)
def number_by_chance(redis, name, ttl):
    number = secrets.randbelow(1_000) + 1
    while not redis.set(name, number, nx=True, px=int(ttl * 1000)):
        time.sleep(0.01)
    return number


@wrong(
    "07.2",
    situation="One call after the other",
    because="an int above all 2 before is due",
    sequential=True,
)
def counter_that_expires(redis, name, ttl):
    script = """
    if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
    local number = redis.call('INCR', KEYS[2])
    redis.call('PEXPIRE', KEYS[2], 2 * ARGV[1])
    redis.call('SET', KEYS[1], number, 'PX', ARGV[1])
    return number
    """
    while not (number := redis.eval(script, 2, name, f"{name}:number", int(ttl * 1000))):
        time.sleep(0.01)
    return number


@wrong("07.2", situation="A client that crashes", because="has no time to live; 60 s is due")
def numbered_without_a_ttl(redis, name, ttl):
    script = """
    if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
    return redis.call('SET', KEYS[1], redis.call('INCR', KEYS[2])) and redis.call('GET', KEYS[2])
    """
    while not (number := int(redis.eval(script, 2, name, f"{name}:number"))):
        time.sleep(0.01)
    redis.pexpire(name, int(ttl * 1000))
    return number


# 07.3


@wrong("07.3", situation="Several clients at once", because="stock holds '2'; '1' is due")
def checks_on_write_only(db, fence):
    left = db.fetch_one(READ)["stock"] - 1
    sql = "UPDATE products SET stock = :left, fence = :fence WHERE id = 1 AND fence < :fence"
    return left >= 0 and db.execute(sql, left=left, fence=fence) == 1


@wrong("07.3", situation="Several clients at once", because="stock holds '2'; '1' is due")
def lets_an_equal_number_in(db, fence):
    claim = "UPDATE products SET fence = :fence WHERE id = 1 AND fence <= :fence"
    if db.execute(claim, fence=fence) == 0:
        return False
    left = db.fetch_one(READ)["stock"] - 1
    sql = "UPDATE products SET stock = :left WHERE id = 1 AND fence = :fence"
    return left >= 0 and db.execute(sql, left=left, fence=fence) == 1


@wrong("07.3", situation="Several clients at once", because="stock holds '2'; '1' is due")
def claims_and_forgets(db, fence):
    claim = "UPDATE products SET fence = :fence WHERE id = 1 AND fence < :fence"
    if db.execute(claim, fence=fence) == 0:
        return False
    left = db.fetch_one(READ)["stock"] - 1
    return (
        left >= 0 and db.execute("UPDATE products SET stock = :left WHERE id = 1", left=left) == 1
    )


@wrong("07.3", situation="Several clients at once", because="stock holds '2'; '1' is due")
def claims_after_the_read(db, fence):
    left = db.fetch_one(READ)["stock"] - 1
    claim = "UPDATE products SET fence = :fence WHERE id = 1 AND fence < :fence"
    if left < 0 or db.execute(claim, fence=fence) == 0:
        return False
    sql = "UPDATE products SET stock = :left WHERE id = 1 AND fence = :fence"
    return db.execute(sql, left=left, fence=fence) == 1


@wrong("07.3", situation="Several clients at once", because="stock holds '2'; '1' is due")
def compares_in_python(db, fence):
    row = db.fetch_one("SELECT stock, fence FROM products WHERE id = 1")
    if row["fence"] >= fence or row["stock"] == 0:
        return False
    sql = "UPDATE products SET stock = :left, fence = :fence WHERE id = 1"
    return db.execute(sql, left=row["stock"] - 1, fence=fence) == 1


@wrong(
    "07.3",
    situation="One call after the other",
    because="ada was given True; False is due",
    sequential=True,
)
def no_fence_at_all(db, fence):
    sql = "UPDATE products SET stock = stock - 1 WHERE id = 1 AND stock > 0"
    return db.execute(sql) == 1


@wrong(
    "07.3",
    situation="One call after the other",
    because="ada was given True; False is due",
    sequential=True,
)
def sells_what_is_not_there(db, fence):
    claim = "UPDATE products SET fence = :fence WHERE id = 1 AND fence < :fence"
    if db.execute(claim, fence=fence) == 0:
        return False
    left = db.fetch_one(READ)["stock"] - 1
    sql = "UPDATE products SET stock = :left WHERE id = 1 AND fence = :fence"
    return db.execute(sql, left=left, fence=fence) == 1


ASKS = "SELECT fence FROM products WHERE id = 1"


@wrong(
    "07.3",
    situation="Several clients at once",
    because="ada was given True and bob was given True, then True. No order of the calls gives that",
)
def asks_before_it_sells(db, fence):
    if db.fetch_one(ASKS)["fence"] > fence:
        return False
    sql = "UPDATE products SET stock = stock - 1, fence = :fence WHERE id = 1 AND stock > 0"
    return db.execute(sql, fence=fence) == 1


@wrong(
    "07.3",
    situation="Several clients at once",
    because="ada was given True and bob was given True, then True. No order of the calls gives that",
)
def notes_the_number_afterwards(db, fence):
    sql = "UPDATE products SET stock = stock - 1 WHERE id = 1 AND fence < :fence AND stock > 0"
    sold = db.execute(sql, fence=fence) == 1
    if sold:
        db.execute("UPDATE products SET fence = :fence WHERE id = 1", fence=fence)
    return sold


@wrong(
    "07.3",
    situation="One call after the other",
    because="ada was given True; False is due",
    sequential=True,
)
def compares_as_text(db, fence):
    sql = (
        "UPDATE products SET stock = stock - 1, fence = :fence WHERE id = 1 AND stock > 0"
        " AND CAST(fence AS TEXT) < CAST(:fence AS TEXT)"
    )
    return db.execute(sql, fence=fence) == 1


@wrong(
    "07.3",
    situation="One call after the other",
    because="ada was given 1 (int); True (bool) is due",
    sequential=True,
)
def replies_with_the_rows(db, fence):
    sql = (
        "UPDATE products SET stock = stock - 1, fence = :fence"
        " WHERE id = 1 AND fence < :fence AND stock > 0"
    )
    return db.execute(sql, fence=fence)


@wrong("07.3", situation="A client that is overtaken at every step", because="ada was given False")
def tries_to_sell_three_times(db, fence):
    seen = "WHERE id = 1 AND stock = :stock AND fence = :fence"
    for _ in range(3):
        row = db.fetch_one("SELECT stock, fence FROM products WHERE id = 1")
        if row["fence"] > fence:
            return False
        sold = min(row["stock"], 1)
        sql = f"UPDATE products SET stock = :left, fence = :mine {seen}"
        if db.execute(sql, left=row["stock"] - sold, mine=fence, **row) == 1:
            return sold == 1
    return False


@wrong("07.3", situation="Several clients at once", because="stock holds")
def compares_the_fence_alone(db, fence):
    """Two with the same number write the same stock."""
    while True:
        row = db.fetch_one("SELECT stock, fence FROM products WHERE id = 1")
        if row["fence"] > fence:
            return False
        left = max(0, row["stock"] - 1)
        sql = "UPDATE products SET stock = :left, fence = :mine WHERE id = 1 AND fence = :fence"
        if db.execute(sql, left=left, mine=fence, fence=row["fence"]) == 1:
            return row["stock"] > 0


@wrong(
    "07.3", situation="One call after the other", because="the row of product 2", sequential=True
)
def sells_of_whatever_has_this_number(db, fence):
    claim = "UPDATE products SET fence = :fence WHERE id = 1 AND fence < :fence"
    if db.execute(claim, fence=fence) == 0:
        return False
    left = db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"] - 1
    sell = "UPDATE products SET stock = :left WHERE fence = :fence"
    return left >= 0 and db.execute(sell, left=left, fence=fence) > 0


@wrong("07.1", situation="3,000 locks, one after the other", because="a token that no other has")
def five_digits_for_a_token():
    return parts(new=lambda: str(secrets.randbelow(10**5)))


@wrong(
    "07.1", situation="One call after the other", because="a new token 2 is due", sequential=True
)
def counts_the_tokens_for_a_while():
    """The counter has a TTL, and begins again."""

    def take(redis, name, ttl):
        with redis.pipeline() as pipe:
            pipe.incr(f"{name}:tokens")
            pipe.pexpire(f"{name}:tokens", int(ttl * 10_000))
            token = str(pipe.execute()[0])
        while not redis.set(name, token, nx=True, px=int(ttl * 1000)):
            time.sleep(0.01)
        return token

    return parts(take=take)


@wrong(
    "07.2", situation="3,000 holders, one after the other", because="holder 102 has the number 101"
)
def counts_what_it_keeps(redis, name, ttl):
    """The number is the length of a list that grows no longer."""
    script = """
    if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
    local number = redis.call('LPUSH', KEYS[2], 1)
    redis.call('LTRIM', KEYS[2], 0, 99)
    redis.call('SET', KEYS[1], number, 'PX', ARGV[1])
    return number
    """
    while not (number := redis.eval(script, 2, name, f"{name}:holders", int(ttl * 1000))):
        time.sleep(0.01)
    return number


NAMES = itertools.count(1)


@wrong(
    "07.1", situation="Two processes, each with a memory of its own", because="both have the token"
)
def counts_in_its_own_memory():
    return parts(new=lambda: f"token {next(NAMES)}")


def take_within(polls):
    def take(redis, name, ttl):
        token = secrets.token_urlsafe()
        for _ in range(polls):
            if redis.set(name, token, nx=True, px=int(ttl * 1000)):
                return token
            time.sleep(0.01)
        raise TimeoutError("the lock is taken")

    return take


@wrong("07.1", situation="A client that waits for long", because="a new token 1 is due")
def gives_up_after_a_thousand_polls():
    return parts(take=take_within(1_000))


@wrong("07.1", because="The key 'lock:kettle' lives for 86,400 s", sequential=True)
def lives_for_a_day_at_the_most():
    def take(redis, name, ttl):
        token = secrets.token_urlsafe()
        while not redis.set(name, token, nx=True, px=int(min(ttl, 86_400) * 1000)):
            time.sleep(0.01)
        return token

    return parts(take=take)


@wrong("07.2", situation="A client that waits for long", because="bob")
def gives_up_after_two_thousand_polls(redis, name, ttl):
    script = """
    if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
    local number = redis.call('INCR', KEYS[2])
    redis.call('SET', KEYS[1], number, 'PX', ARGV[1])
    return number
    """
    for _ in range(2_000):
        if number := redis.eval(script, 2, name, f"{name}:number", int(ttl * 1000)):
            return number
        time.sleep(0.01)
    return None
