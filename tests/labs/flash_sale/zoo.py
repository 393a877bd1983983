"""Wrong answers to the exercises of lab 16, and what each must be refused for."""

import time
from contextlib import suppress

from redis.exceptions import ConnectionError, TimeoutError, WatchError

from labsupport.labs.flash_sale.exercises import shop_solution
from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

SEEN = "if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 1 end "
LEFT = "if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end "
TAKE = "redis.call('DECR', KEYS[1]) redis.call('SADD', KEYS[2], ARGV[1]) "
ORDER = "redis.call('XADD', KEYS[3], '*', 'customer', ARGV[1]) "

UNREPEATED = "A reply that is lost, and no second attempt of the client"


def sell(redis, customer, script):
    return redis.eval(script, 3, "stock", "buyers", "orders", customer) == 1


# 16.1


@wrong("16.1", because="True is due", sequential=True)
def looks_at_the_stock_first(redis, customer):
    return sell(redis, customer, f"{LEFT}{SEEN}{TAKE}{ORDER}return 1")


@wrong("16.1", because="orders", sequential=True)
def places_no_order(redis, customer):
    return sell(redis, customer, f"{SEEN}{LEFT}{TAKE}return 1")


@wrong("16.1", because="orders", sequential=True)
def orders_before_it_looks(redis, customer):
    return sell(redis, customer, f"{ORDER}{SEEN}{LEFT}{TAKE}return 1")


@wrong("16.1", because="orders", sequential=True)
def keeps_only_the_last_order(redis, customer):
    short = ORDER.replace("'*'", "'MAXLEN', '=', 1, '*'")
    return sell(redis, customer, f"{SEEN}{LEFT}{TAKE}{short}return 1")


@wrong("16.1", because="stock", sequential=True)
def takes_without_looking(redis, customer):
    with redis.pipeline() as pipe:
        pipe.decr("stock").sadd("buyers", customer).xadd("orders", {"customer": customer})
        return pipe.execute()[0] >= 0


@wrong("16.1", because="")
def looks_in_the_client(redis, customer):
    if redis.sismember("buyers", customer):
        return True
    return sell(redis, customer, f"{LEFT}{TAKE}{ORDER}return 1")


@wrong("16.1", because="2 round trips, where one is allowed")
def asks_twice(redis, customer):
    if redis.sismember("buyers", customer):
        return True
    return sell(redis, customer, f"{SEEN}{LEFT}{TAKE}{ORDER}return 1")


@wrong("16.1", because="round trips, where one is allowed")
def watches(redis, customer):
    with redis.pipeline() as pipe:
        while True:
            try:
                pipe.watch("stock", "buyers")
                if pipe.sismember("buyers", customer):
                    return True
                if int(pipe.get("stock") or 0) < 1:
                    return False
                pipe.multi()
                pipe.decr("stock").sadd("buyers", customer)
                pipe.xadd("orders", {"customer": customer}).execute()
            except WatchError:
                continue
            return True


# 16.2: the solution with one part made wrong


def with_parts(sign_in=None, admit=None, reserve=None):
    right = shop_solution()
    return tuple(one or other for one, other in zip((sign_in, admit, reserve), right, strict=True))


def taking(script):
    def reserve(redis, customer):
        return redis.eval(script, 2, "stock", "buyers", customer) == 1

    return reserve


@wrong("16.2", because="stock", sequential=True)
def sells_one_customer_two():
    return with_parts(reserve=taking(f"{LEFT}{TAKE}return 1"))


@wrong("16.2", because="buyers", sequential=True)
def keeps_who_came_too_late():
    early = "if redis.call('SADD', KEYS[2], ARGV[1]) == 0 then return 1 end "
    return with_parts(reserve=taking(f"{early}{LEFT}redis.call('DECR', KEYS[1]) return 1"))


@wrong("16.2", because="False is due", sequential=True)
def tells_everybody_yes():
    return with_parts(reserve=taking(f"{SEEN}{LEFT.replace('return 0', 'return 1')}{TAKE}return 1"))


@wrong("16.2", because="True is due")
def watches_what_it_does_not_change():
    """A "no" needs no EXEC; so the stock may be read when this customer's other call has taken it."""

    def reserve(redis, customer):
        with redis.pipeline() as pipe:
            while True:
                try:
                    pipe.watch("stock", "buyers")
                    if pipe.sismember("buyers", customer):
                        return True
                    if int(pipe.get("stock") or 0) < 1:
                        return False
                    pipe.multi()
                    pipe.decr("stock").sadd("buyers", customer).execute()
                except WatchError:
                    continue
                return True

    return with_parts(reserve=reserve)


@wrong("16.2", because="crash")
def signs_in_by_halves():
    def sign_in(redis, token, customer):
        redis.hset(f"session:{token}", "customer", customer)
        redis.expire(f"session:{token}", 1800)

    return with_parts(sign_in=sign_in)


@wrong("16.2", because="crash")
def counts_and_then_limits():
    def admit(redis, customer):
        calls = redis.incr(f"calls:{customer}")
        if calls == 1:
            redis.expire(f"calls:{customer}", 60)
        return calls <= 3

    return with_parts(admit=admit)


@wrong("16.2", because="at once")
def reads_and_then_counts():
    def admit(redis, customer):
        calls = int(redis.get(f"calls:{customer}") or 0)
        if calls < 3:
            redis.set(f"calls:{customer}", calls + 1, ex=60)
        return calls < 3

    return with_parts(admit=admit)


@wrong("16.2", because="True is due", sequential=True)
def begins_the_minute_anew():
    def admit(redis, customer):
        with redis.pipeline() as pipe:
            return pipe.incr(f"calls:{customer}").expire(f"calls:{customer}", 60).execute()[0] <= 3

    return with_parts(admit=admit)


@wrong("16.2", because="does not return 3 functions", sequential=True)
def returns_the_mended_part_alone():
    return shop_solution()[2]


@wrong("16.1", situation="One call after the other", because="True; False is due", sequential=True)
def no_stock_is_a_full_one(redis, customer):
    left = "if redis.call('GET', KEYS[1]) == '0' then return 0 end "
    return sell(redis, customer, SEEN + left + TAKE + ORDER + "return 1")


@wrong("16.1", situation="One call after the other", because="orders holds", sequential=True)
def forgets_old_orders(redis, customer):
    order = ORDER.replace("'*'", "'MAXLEN', '~', 1000, '*'")
    return sell(redis, customer, SEEN + LEFT + TAKE + order + "return 1")


@wrong("16.2", because="A TTL that ends between two steps: The key 'calls:7' has no time to live")
def sets_the_minute_and_counts():
    def admit(redis, customer):
        redis.set(f"calls:{customer}", 0, ex=60, nx=True)
        return redis.incr(f"calls:{customer}") <= 3

    return with_parts(admit=admit)


@wrong("16.2", because="A client that is overtaken at every step")
def gives_up_while_there_is_stock():
    def reserve(redis, customer):
        with redis.pipeline() as pipe:
            for _ in range(5):
                with suppress(WatchError):
                    pipe.watch("stock", "buyers")
                    if pipe.sismember("buyers", customer):
                        return True
                    if int(pipe.get("stock") or 0) < 1:
                        return False
                    pipe.multi()
                    pipe.decr("stock").sadd("buyers", customer).execute()
                    return True
        return False

    return with_parts(reserve=reserve)


@wrong("16.1", because="A caller whose clock is 7,200 s behind")
def numbers_the_order_itself(redis, customer):
    order = ORDER.replace("'*'", "ARGV[2] .. '-*'")
    script = f"{SEEN}{LEFT}{TAKE}{order}return 1"
    now = round(time.time() * 1000)
    return redis.eval(script, 3, "stock", "buyers", "orders", customer, now) == 1


@wrong("16.1", situation="One call after the other", because="is due", sequential=True)
def looks_at_the_latest_orders(redis, customer):
    seen = """
    for _, entry in ipairs(redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 100)) do
      if entry[2][2] == ARGV[1] then return 1 end
    end
    """
    return sell(redis, customer, f"{seen}{LEFT}{TAKE}{ORDER}return 1")


@wrong("16.1", situation="One call after the other", because="ResponseError", sequential=True)
def the_customer_is_written_into_the_script(redis, customer):
    script = f"{SEEN}{LEFT}{TAKE}{ORDER}return 1".replace("ARGV[1]", f"'{customer}'")
    return sell(redis, customer, script)


@wrong("16.2", situation="One call after the other", because="False; True is due", sequential=True)
def one_door_for_all():
    def admit(redis, customer):
        return shop_solution()[1](redis, "all")

    return with_parts(admit=admit)


@wrong("16.2", situation="One call after the other", because="is due", sequential=True)
def a_customer_named_stock():
    def admit(redis, customer):
        script = "redis.call('SET', KEYS[1], 0, 'EX', 60, 'NX') return redis.call('INCR', KEYS[1])"
        return redis.eval(script, 1, customer) <= 3

    return with_parts(admit=admit)


@wrong("16.2", because="half an hour", sequential=True)
def a_half_hour_that_does_not_begin_again():
    def sign_in(redis, token, customer):
        with redis.pipeline() as pipe:
            pipe.hset(f"session:{token}", "customer", customer)
            pipe.expire(f"session:{token}", 1800, nx=True).execute()

    return with_parts(sign_in=sign_in)


@wrong("16.1", because="orders holds", sequential=True)
def forgets_very_old_orders(redis, customer):
    order = ORDER.replace("'*'", "'MAXLEN', 10000, '*'")
    return sell(redis, customer, SEEN + LEFT + TAKE + order + "return 1")


@wrong("16.1", situation=UNREPEATED, because="False; True is due")
def takes_no_reply_for_a_no(redis, customer):
    try:
        return sell(redis, customer, f"{SEEN}{LEFT}{TAKE}{ORDER}return 1")
    except (ConnectionError, TimeoutError):
        return False


@wrong("16.2", situation=UNREPEATED, because="False; True is due")
def reserves_and_takes_no_reply_for_a_no():
    def reserve(redis, customer):
        try:
            return shop_solution()[2](redis, customer)
        except (ConnectionError, TimeoutError):
            return False

    return with_parts(reserve=reserve)


@wrong("16.2", because="It takes one from the number in stock", sequential=True)
def buyers_who_are_forgotten_after_a_day():
    def reserve(redis, customer):
        with redis.pipeline() as pipe:
            take = f"{SEEN}{LEFT}{TAKE}return 1"
            pipe.eval(take, 2, "stock", "buyers", customer).expire("buyers", 86_400)
            return pipe.execute()[0] == 1

    return with_parts(reserve=reserve)


@wrong("16.1", because="True for a customer who has a piece, else False", sequential=True)
def no_stock_is_an_error(redis, customer):
    left = LEFT.replace(" or 0", "")
    return sell(redis, customer, f"{SEEN}{left}{TAKE}{ORDER}return 1")


NONE_LEFT = "local left = redis.call('GET', KEYS[1]) if not left or left == '0' then return 0 end "


@wrong("16.1", situation="One call after the other", because="False is due", sequential=True)
def knows_no_stock_below_none(redis, customer):
    return sell(redis, customer, f"{SEEN}{NONE_LEFT}{TAKE}{ORDER}return 1")


@wrong("16.2", situation="One call after the other", because="False is due", sequential=True)
def reserves_below_none():
    return with_parts(reserve=taking(f"{SEEN}{NONE_LEFT}{TAKE}return 1"))


def within(seconds):
    def admit(redis, customer):
        script = """
        redis.call('SET', KEYS[1], 0, 'EX', ARGV[1], 'NX')
        return redis.call('INCR', KEYS[1])
        """
        return redis.eval(script, 1, f"calls:{customer}", seconds) <= 3

    return admit


@wrong("16.2", situation="One call after the other", because="True is due", sequential=True)
def minute_of_sixty_one_seconds():
    return with_parts(admit=within(61))


@wrong("16.2", situation="One call after the other", because="False is due", sequential=True)
def minute_of_fifty_nine_seconds():
    return with_parts(admit=within(59))


@wrong("16.2", situation="One call after the other", because="True is due", sequential=True)
def whoever_is_refused_waits_for_a_minute_more():
    def admit(redis, customer):
        script = """
        redis.call('SET', KEYS[1], 0, 'EX', 60, 'NX')
        local calls = redis.call('INCR', KEYS[1])
        if calls > 3 then redis.call('EXPIRE', KEYS[1], 60) end
        return calls
        """
        return redis.eval(script, 1, f"calls:{customer}") <= 3

    return with_parts(admit=admit)


@wrong("16.2", because="session:t1 holds {'customer': '9'}", sequential=True)
def tokens_in_small_letters():
    return with_parts(
        sign_in=lambda redis, token, customer: shop_solution()[0](redis, token.lower(), customer)
    )


@wrong("16.1", because="buyers holds", sequential=True)
def strips_the_customer(redis, customer):
    return sell(redis, customer.strip(), f"{SEEN}{LEFT}{TAKE}{ORDER}return 1")


@wrong("16.2", because="ada was given False; True is due", sequential=True)
def one_door_for_those_who_begin_alike():
    def admit(redis, customer):
        script = "redis.call('SET', KEYS[1], 0, 'EX', 60, 'NX') return redis.call('INCR', KEYS[1])"
        return redis.eval(script, 1, f"calls:{customer[:8]}") <= 3

    return with_parts(admit=admit)


@wrong("16.1", because="orders holds", sequential=True)
def sends_it_to_a_number(redis, customer):
    order = ORDER.replace("ARGV[1]", "tonumber(ARGV[1]) or ARGV[1]")
    return sell(redis, customer, f"{SEEN}{LEFT}{TAKE}{order}return 1")


@wrong("16.1", because="ada was given False; True is due", sequential=True)
def looks_for_the_beginning_of_a_name(redis, customer):
    seen = SEEN.replace("ARGV[1]", "string.sub(ARGV[1], 1, 64)")
    return sell(redis, customer, f"{seen}{LEFT}{TAKE}{ORDER}return 1")


@wrong("16.2", because="ada was given False; True is due", sequential=True)
def one_door_for_long_names_alike():
    def admit(redis, customer):
        script = "redis.call('SET', KEYS[1], 0, 'EX', 60, 'NX') return redis.call('INCR', KEYS[1])"
        return redis.eval(script, 1, f"calls:{customer[:64]}") <= 3

    return with_parts(admit=admit)


@wrong("16.2", because="nothing is due", sequential=True)
def tokens_of_32_characters():
    return with_parts(
        sign_in=lambda redis, token, customer: shop_solution()[0](redis, token[:32], customer)
    )
