"""Wrong answers to the exercises of lab 00, and what each must be refused for."""

import time
from contextlib import suppress

from redis.exceptions import WatchError

from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong


# 00.1: those refused only when two visitors come at once pass every test with one


@wrong(
    "00.1",
    situation="Several clients at once",
    because="ada was given 1 and bob was given 1. No order of the calls gives that",
)
def multi_around_the_write_only(redis, page):
    number = int(redis.get(f"visits:{page}") or 0) + 1
    with redis.pipeline(transaction=True) as pipe:
        pipe.set(f"visits:{page}", number)
        pipe.execute()
    return number


@wrong(
    "00.1",
    situation="Several clients at once",
    because="ada was given 2 and bob was given 2. No order of the calls gives that",
)
def increment_then_read(redis, page):
    redis.incr(f"visits:{page}")
    return int(redis.get(f"visits:{page}"))


@wrong(
    "00.1",
    situation="Several clients at once",
    because="ada was given 2 and bob was given 2. No order of the calls gives that",
)
def pipeline_without_multi(redis, page):
    with redis.pipeline(transaction=False) as pipe:
        pipe.incr(f"visits:{page}")
        pipe.get(f"visits:{page}")
        return int(pipe.execute()[1])


@wrong(
    "00.1",
    situation="Several clients at once",
    because="ada was given 1 and bob was given 1. No order of the calls gives that",
)
def watch_without_another_try(redis, page):
    with redis.pipeline() as pipe:
        pipe.watch(f"visits:{page}")
        number = int(pipe.get(f"visits:{page}") or 0) + 1
        pipe.multi()
        pipe.set(f"visits:{page}", number)
        with suppress(WatchError):  # somebody else was quicker
            pipe.execute()
    return number


@wrong(
    "00.1",
    situation="Several clients at once",
    because="ada was given an error (WatchError: Watched variable changed. at line 79: pipe.execut",
)
def watch_error_not_caught(redis, page):
    with redis.pipeline() as pipe:
        pipe.watch(f"visits:{page}")
        number = int(pipe.get(f"visits:{page}") or 0) + 1
        pipe.multi()
        pipe.set(f"visits:{page}", number)
        pipe.execute()
    return number


@wrong(
    "00.1",
    situation="Several clients at once",
    because="visits:home holds '1'; '2' is due",
)
def watch_after_the_read(redis, page):
    number = int(redis.get(f"visits:{page}") or 0) + 1
    with redis.pipeline() as pipe:
        pipe.watch(f"visits:{page}")
        pipe.multi()
        pipe.set(f"visits:{page}", number)
        while True:
            try:
                pipe.execute()
                return number
            except WatchError:
                number += 1


@wrong(
    "00.1",
    situation="Several clients at once",
    because="visits:home holds '10'; '11' is due",
)
def set_if_still_absent(redis, page):
    key = f"visits:{page}"
    if redis.set(key, 1, nx=True):
        return 1
    return int(redis.set(key, int(redis.get(key)) + 1, get=True)) + 1


@wrong(
    "00.1",
    situation="A client that crashes, and the next one, too",
    because="It does not end: ada repeats SET lock:home mine NX for ever",
)
def lock_for_ever(redis, page):
    while not redis.set(f"lock:{page}", "mine", nx=True):
        time.sleep(0.01)
    number = int(redis.get(f"visits:{page}") or 0) + 1
    redis.set(f"visits:{page}", number)
    redis.delete(f"lock:{page}")
    return number


@wrong(
    "00.1",
    situation="Several clients, and a pause that outlasts every TTL",
    because="ada was given 1 and bob was given 1. No order of the calls gives that",
)
def lock_with_a_time_to_live(redis, page):
    while not redis.set(f"lock:{page}", "mine", nx=True, ex=10):
        time.sleep(0.01)
    number = int(redis.get(f"visits:{page}") or 0) + 1
    redis.set(f"visits:{page}", number)
    redis.delete(f"lock:{page}")
    return number


@wrong(
    "00.1",
    situation="One call after the other",
    because="ada was given 1; 10 is due",
    sequential=True,
)
def counts_in_python(redis, page, counts={}):  # noqa: B006
    counts[page] = 1
    redis.set(f"visits:{page}", counts[page])
    return counts[page]


@wrong(
    "00.1",
    situation="One call after the other",
    because="ada was given '1' (str); 1 (int) is due",
    sequential=True,
)
def replies_with_text(redis, page):
    return str(redis.incr(f"visits:{page}"))


@wrong(
    "00.1",
    situation="One call after the other",
    because="ada was given None; 1 (int) is due",
    sequential=True,
)
def forgets_to_return(redis, page):
    redis.incr(f"visits:{page}")


# 00.2: most of these move the money as long as nobody crashes and nobody else moves any


@wrong(
    "00.2",
    situation="A client that crashes",
    because="credit:ada holds '1001'; '1000' is due",
)
def gives_first(redis, giver, receiver, cents):
    redis.incrby(f"credit:{receiver}", cents)
    redis.decrby(f"credit:{giver}", cents)


@wrong(
    "00.2",
    situation="A client that crashes",
    because="credit:ada holds '999'; '1000' is due",
)
def pipeline_is_no_transaction(redis, giver, receiver, cents):
    with redis.pipeline(transaction=False) as pipe:
        pipe.decrby(f"credit:{giver}", cents)
        pipe.incrby(f"credit:{receiver}", cents)
        pipe.execute()


@wrong(
    "00.2",
    situation="A client that crashes",
    because="credit:ada holds '999'; '1000' is due",
)
def credits_in_finally(redis, giver, receiver, cents):
    try:
        redis.decrby(f"credit:{giver}", cents)
    finally:
        redis.incrby(f"credit:{receiver}", cents)


@wrong(
    "00.2",
    situation="A client that crashes",
    because="credit:ada holds '999'; '1000' is due",
)
def takes_back_on_error(redis, giver, receiver, cents):
    redis.decrby(f"credit:{giver}", cents)
    try:
        redis.incrby(f"credit:{receiver}", cents)
    except Exception:
        redis.incrby(f"credit:{giver}", cents)
        raise


@wrong(
    "00.2",
    situation="A client that crashes",
    because="credit:ada holds '999'; '1000' is due",
)
def two_transactions(redis, giver, receiver, cents):
    with redis.pipeline(transaction=True) as pipe:
        pipe.decrby(f"credit:{giver}", cents)
        pipe.execute()
        pipe.incrby(f"credit:{receiver}", cents)
        pipe.execute()


@wrong(
    "00.2",
    situation="A client that crashes",
    because="credit:ada holds '999'; '1000' is due",
)
def note_that_nobody_reads(redis, giver, receiver, cents):
    redis.hset("transfer", mapping={"from": giver, "to": receiver, "cents": cents})
    redis.decrby(f"credit:{giver}", cents)
    redis.incrby(f"credit:{receiver}", cents)
    redis.delete("transfer")


@wrong(
    "00.2",
    situation="One call after the other",
    because="credit:ada holds '1001'; '1000' is due",
    sequential=True,
)
def writes_what_it_read(redis, giver, receiver, cents):
    gives = int(redis.get(f"credit:{giver}"))
    gets = int(redis.get(f"credit:{receiver}"))
    redis.mset({f"credit:{giver}": gives - cents, f"credit:{receiver}": gets + cents})


@wrong(
    "00.2",
    situation="Several clients at once",
    because="credit:ada holds '1000'; '999' is due",
)
def gives_up_when_watched_key_moves(redis, giver, receiver, cents):
    with redis.pipeline() as pipe:
        pipe.watch(f"credit:{giver}", f"credit:{receiver}")
        pipe.multi()
        pipe.decrby(f"credit:{giver}", cents)
        pipe.incrby(f"credit:{receiver}", cents)
        try:
            pipe.execute()
        except WatchError:
            return


@wrong(
    "00.2",
    situation="One call after the other",
    because="credit:ada holds '1001'; '1000' is due",
    sequential=True,
)
def watches_one_of_two(redis, giver, receiver, cents):
    with redis.pipeline() as pipe:
        while True:
            try:
                pipe.watch(f"credit:{giver}")
                gets = int(pipe.get(f"credit:{receiver}"))
                gives = int(pipe.get(f"credit:{giver}"))
                pipe.multi()
                pipe.set(f"credit:{giver}", gives - cents)
                pipe.set(f"credit:{receiver}", gets + cents)
                pipe.execute()
                return
            except WatchError:
                continue


@wrong(
    "00.2",
    situation="A client that crashes, and the next one, too",
    because="It does not end: ada repeats SET lock:credit ada NX for ever",
)
def one_lock_for_all_transfers(redis, giver, receiver, cents):
    while not redis.set("lock:credit", giver, nx=True):
        time.sleep(0.01)
    with redis.pipeline(transaction=True) as pipe:
        pipe.decrby(f"credit:{giver}", cents)
        pipe.incrby(f"credit:{receiver}", cents)
        pipe.execute()
    redis.delete("lock:credit")


@wrong(
    "00.2",
    situation="One call after the other",
    because="credit:ada holds '1001'; '999' is due",
    sequential=True,
)
def wrong_way_round(redis, giver, receiver, cents):
    with redis.pipeline(transaction=True) as pipe:
        pipe.incrby(f"credit:{giver}", cents)
        pipe.decrby(f"credit:{receiver}", cents)
        pipe.execute()


# 00.3: most of these serve one customer after the other without a mistake


@wrong(
    "00.3",
    situation="Several clients at once",
    because="ada was given True and bob was given True. No order of the calls gives that",
)
def multi_after_the_check(redis, product, customer):
    if int(redis.get(f"stock:{product}") or 0) < 1:
        return False
    with redis.pipeline(transaction=True) as pipe:
        pipe.decr(f"stock:{product}")
        pipe.rpush(f"buyers:{product}", customer)
        pipe.execute()
    return True


@wrong(
    "00.3",
    situation="One call after the other",
    because="stock:7 holds '-1'; '0' is due",
    sequential=True,
)
def takes_first_and_looks_then(redis, product, customer):
    if redis.decr(f"stock:{product}") < 0:
        return False
    redis.rpush(f"buyers:{product}", customer)
    return True


@wrong(
    "00.3",
    situation="A client that crashes",
    because="stock:7 holds '0'; '1' is due",
)
def takes_first_and_puts_back(redis, product, customer):
    if redis.decr(f"stock:{product}") < 0:
        redis.incr(f"stock:{product}")
        return False
    redis.rpush(f"buyers:{product}", customer)
    return True


@wrong(
    "00.3",
    situation="Several clients at once",
    because="ada was given False and bob was given True. No order of the calls gives that",
)
def watch_and_no_second_try(redis, product, customer):
    with redis.pipeline() as pipe:
        pipe.watch(f"stock:{product}")
        if int(pipe.get(f"stock:{product}") or 0) < 1:
            return False
        pipe.multi()
        pipe.decr(f"stock:{product}")
        pipe.rpush(f"buyers:{product}", customer)
        try:
            pipe.execute()
        except WatchError:
            return False
    return True


@wrong(
    "00.3",
    situation="Several clients at once",
    because="ada was given True and bob was given True. No order of the calls gives that",
)
def reads_before_it_watches(redis, product, customer):
    left = int(redis.get(f"stock:{product}") or 0)
    with redis.pipeline() as pipe:
        while left > 0:
            try:
                pipe.watch(f"stock:{product}")
                pipe.multi()
                pipe.decr(f"stock:{product}")
                pipe.rpush(f"buyers:{product}", customer)
                pipe.execute()
                return True
            except WatchError:
                left = int(redis.get(f"stock:{product}") or 0)
    return False


@wrong(
    "00.3",
    situation="Several clients at once",
    because="ada was given True and bob was given True. No order of the calls gives that",
)
def watches_the_buyers(redis, product, customer):
    with redis.pipeline() as pipe:
        while True:
            try:
                if int(pipe.get(f"stock:{product}").execute()[0] or 0) < 1:
                    return False
                pipe.watch(f"buyers:{product}")
                pipe.multi()
                pipe.decr(f"stock:{product}")
                pipe.rpush(f"buyers:{product}", customer)
                pipe.execute()
                return True
            except WatchError:
                continue


@wrong(
    "00.3",
    situation="A client that crashes",
    because="stock:7 holds '0'; '1' is due",
)
def script_that_forgets_the_buyer(redis, product, customer):
    script = """
    if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
    redis.call('DECR', KEYS[1])
    return 1
    """
    if not redis.eval(script, 1, f"stock:{product}"):
        return False
    redis.rpush(f"buyers:{product}", customer)
    return True


@wrong(
    "00.3",
    situation="One call after the other",
    because="ada was given an error (ResponseError: user_script:2: attempt to compare nil with number",
    sequential=True,
)
def script_that_trips_over_a_missing_key(redis, product, customer):
    script = """
    if tonumber(redis.call('GET', KEYS[1])) < 1 then return 0 end
    redis.call('DECR', KEYS[1])
    redis.call('RPUSH', KEYS[2], ARGV[1])
    return 1
    """
    return bool(redis.eval(script, 2, f"stock:{product}", f"buyers:{product}", customer))


@wrong(
    "00.3",
    situation="A client that crashes, and the next one, too",
    because="It does not end: ada repeats SET lock:7 ada NX for ever",
)
def sells_under_a_lock_for_ever(redis, product, customer):
    while not redis.set(f"lock:{product}", customer, nx=True):
        time.sleep(0.01)
    sold = multi_after_the_check(redis, product, customer)
    redis.delete(f"lock:{product}")
    return sold


@wrong(
    "00.3",
    situation="Several clients, and a pause that outlasts every TTL",
    because="was given",
)
def sells_under_a_lock_that_expires(redis, product, customer):
    with redis.lock(f"lock:{product}", timeout=10, sleep=0.01):
        return multi_after_the_check(redis, product, customer)


@wrong(
    "00.3",
    situation="One call after the other",
    because="ada was given 0 (int); False (bool) is due",
    sequential=True,
)
def replies_with_a_number(redis, product, customer):
    script = """
    if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
    redis.call('DECR', KEYS[1])
    redis.call('RPUSH', KEYS[2], ARGV[1])
    return 1
    """
    return redis.eval(script, 2, f"stock:{product}", f"buyers:{product}", customer)


@wrong(
    "00.1", situation="A client that is overtaken at every step", because="No order of the calls"
)
def gives_up_after_five_conflicts(redis, page):
    """Five conflicts in a row take more than two visitors who come once."""
    key, number = f"visits:{page}", 0
    with redis.pipeline() as pipe, suppress(WatchError):
        for _ in range(5):
            with suppress(WatchError):
                pipe.watch(key)
                number = int(pipe.get(key) or 0) + 1
                pipe.multi()
                pipe.set(key, number).execute()
                return number
    return number


@wrong(
    "00.3",
    situation="One call after the other",
    because="False when there is none left; then nothing changes",
    sequential=True,
)
def makes_a_stock_of_nothing(redis, product, customer):
    script = """
    if redis.call('DECR', KEYS[1]) < 0 then redis.call('INCR', KEYS[1]) return 0 end
    return redis.call('RPUSH', KEYS[2], ARGV[1])
    """
    return redis.eval(script, 2, f"stock:{product}", f"buyers:{product}", customer) > 0


@wrong("00.3", because="A client that is overtaken at every step: ada was given False")
def gives_up_while_there_is_plenty(redis, product, customer):
    with redis.pipeline() as pipe:
        for _ in range(5):
            with suppress(WatchError):
                pipe.watch(f"stock:{product}")
                if int(pipe.get(f"stock:{product}") or 0) < 1:
                    return False
                pipe.multi()
                pipe.decr(f"stock:{product}").rpush(f"buyers:{product}", customer)
                pipe.execute()
                return True
    return False


@wrong("00.3", because="(1,000 in all)")
def keeps_a_thousand_buyers(redis, product, customer):
    script = """
    if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
    redis.call('DECR', KEYS[1])
    redis.call('RPUSH', KEYS[2], ARGV[1])
    redis.call('LTRIM', KEYS[2], -1000, -1)
    return 1
    """
    return bool(redis.eval(script, 2, f"stock:{product}", f"buyers:{product}", customer))


@wrong("00.2", because="credit:ada holds '9.0071992547409e+15'")
def writes_what_lua_prints(redis, giver, receiver, cents):
    script = """
    for n, change in ipairs({-ARGV[1], ARGV[1]}) do
      redis.call('SET', KEYS[n], tostring((redis.call('GET', KEYS[n]) or 0) + change))
    end
    """
    redis.eval(script, 2, f"credit:{giver}", f"credit:{receiver}", cents)


@wrong("00.3", because="ada was given True; False is due", sequential=True)
def sells_below_nothing(redis, product, customer):
    script = """
    if tonumber(redis.call('GET', KEYS[1]) or 0) == 0 then return 0 end
    redis.call('DECR', KEYS[1])
    redis.call('RPUSH', KEYS[2], ARGV[1])
    return 1
    """
    return bool(redis.eval(script, 2, f"stock:{product}", f"buyers:{product}", customer))


@wrong(
    "00.3",
    situation="One call after the other",
    because="stock:7 is not there; '0' is due",
    sequential=True,
)
def the_last_piece_takes_the_stock_away(redis, product, customer):
    script = """
    local left = tonumber(redis.call('GET', KEYS[1]) or 0)
    if left < 1 then return 0 end
    if left == 1 then redis.call('DEL', KEYS[1]) else redis.call('DECR', KEYS[1]) end
    return redis.call('RPUSH', KEYS[2], ARGV[1])
    """
    keys = f"stock:{product}", f"buyers:{product}"
    return redis.eval(script, 2, *keys, customer) > 0


@wrong(
    "00.1",
    situation="One call after the other",
    because="visits:home holds '9.007199254741e+15'; '9007199254740991' is due",
    sequential=True,
)
def counts_in_fourteen_digits(redis, page):
    script = """
    local number = (tonumber(redis.call('GET', KEYS[1])) or 0) + 1
    redis.call('SET', KEYS[1], tostring(number))
    return number
    """
    return redis.eval(script, 1, f"visits:{page}")


@wrong("00.1", because="nothing is due", sequential=True)
def pages_of_64_characters(redis, page):
    return redis.incr(f"visits:{str(page)[:64]}")


@wrong("00.2", because="is due", sequential=True)
def names_without_their_blanks(redis, giver, receiver, cents):
    pipe = redis.pipeline().decrby(f"credit:{giver.strip()}", cents)
    pipe.incrby(f"credit:{receiver.strip()}", cents).execute()


@wrong("00.2", because="is due", sequential=True)
def a_thousand_euros_at_the_most(redis, giver, receiver, cents):
    cents = min(cents, 100_000)
    redis.pipeline().decrby(f"credit:{giver}", cents).incrby(f"credit:{receiver}", cents).execute()


@wrong("00.3", because="is due", sequential=True)
def customers_without_their_blanks(redis, product, customer):
    script = """
    if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
    redis.call('DECR', KEYS[1])
    return redis.call('RPUSH', KEYS[2], ARGV[1])
    """
    keys = f"stock:{product}", f"buyers:{product}"
    return redis.eval(script, 2, *keys, str(customer).strip()) > 0


@wrong("00.1", situation="A client that is overtaken at every step", because="is due")
def gives_up_after_fifty_tries(redis, page):
    key = f"visits:{page}"
    for _ in range(50):
        with redis.pipeline() as pipe, suppress(WatchError):
            pipe.watch(key)
            number = int(pipe.get(key) or 0) + 1
            pipe.multi()
            pipe.set(key, number).execute()
            return number
    return None
