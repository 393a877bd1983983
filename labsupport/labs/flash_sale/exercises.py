"""The exercises of lab 16: a sale in one round trip, and the one bug of a shop."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.flash_sale.contracts import Checkout, Parts, check_checkout, check_reserve

__all__ = ["EXERCISES"]


def checkout_stub(redis, customer):
    """Sell one piece; return True for a customer who has a piece, else False.

    Take one from the number in stock, while there is one; put the customer into the set buyers, and
    add one entry with the field customer to the stream orders. One each: a customer of the set gets
    no second one, and no second entry. Customers come at once, even the same one twice; a process
    may crash, and have a wrong clock; a reply may be lost: then the customer asks again. At most one
    round trip to Redis for each call, but for the very first one of a client.
    """
    script = """
    if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 1 end
    if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
    redis.call('DECR', KEYS[1])
    return 1 + redis.call('SADD', KEYS[2], ARGV[1])
    """
    told = redis.eval(script, 2, "stock", "buyers", customer)
    if told == 2:
        redis.xadd("orders", {"customer": customer})
    return told > 0


def checkout_solution(redis, customer):
    """Sell one piece; return True for a customer who has a piece, else False."""
    script = """
    -- KEYS: stock, buyers, orders; ARGV: the customer. Returns 1 for a customer who has a piece.
    if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 1 end
    if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
    redis.call('DECR', KEYS[1])
    redis.call('SADD', KEYS[2], ARGV[1])
    redis.call('XADD', KEYS[3], '*', 'customer', ARGV[1])
    return 1
    """
    return redis.eval(script, 3, "stock", "buyers", "orders", customer) == 1


def shop_stub():
    """Return sign_in(redis, token, customer), admit(redis, customer), reserve(redis, customer).

    sign_in keeps the hash session:{token}, with the field customer, for half an hour. admit is True
    for the first three calls of a customer in a minute. reserve is True for a customer who has a
    piece, even when asked again, else False. It takes one from the number in stock for each customer
    of the set buyers. Nothing else stays for ever. Any call may crash, or be made again, or meet others.
    """

    def sign_in(redis, token, customer):
        script = (
            "redis.call('HSET', KEYS[1], 'customer', ARGV[1]) redis.call('EXPIRE', KEYS[1], 1800)"
        )
        redis.eval(script, 1, f"session:{token}", customer)

    def admit(redis, customer):
        script = "redis.call('SET', KEYS[1], 0, 'EX', 60, 'NX') return redis.call('INCR', KEYS[1])"
        return redis.eval(script, 1, f"calls:{customer}") <= 3

    def reserve(redis, customer):
        script = """if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
        if redis.call('SADD', KEYS[2], ARGV[1]) == 1 then redis.call('DECR', KEYS[1]) end return 1"""
        return redis.eval(script, 2, "stock", "buyers", customer) == 1

    return sign_in, admit, reserve


def shop_solution():
    """Return sign_in(redis, token, customer), admit(redis, customer), reserve(redis, customer)."""

    def sign_in(redis, token, customer):
        script = (
            "redis.call('HSET', KEYS[1], 'customer', ARGV[1]) redis.call('EXPIRE', KEYS[1], 1800)"
        )
        redis.eval(script, 1, f"session:{token}", customer)

    def admit(redis, customer):
        script = "redis.call('SET', KEYS[1], 0, 'EX', 60, 'NX') return redis.call('INCR', KEYS[1])"
        return redis.eval(script, 1, f"calls:{customer}") <= 3

    def reserve(redis, customer):
        script = """if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 1 end
        if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
        redis.call('DECR', KEYS[1]) return redis.call('SADD', KEYS[2], ARGV[1])"""
        return redis.eval(script, 2, "stock", "buyers", customer) == 1

    return sign_in, admit, reserve


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="16.1",
        title="One round trip",
        stub=checkout_stub,
        solution=checkout_solution,
        hints=(
            "A process may die between the script and `XADD`. Then the customer has a piece that nobody "
            "will ever send. Asking again does not help: why not?",
            "A script may write to a stream, too. Then there is no moment between the two.",
            "Add `redis.call('XADD', KEYS[3], '*', 'customer', ARGV[1])` behind the `SADD`, give `eval` "
            "a third key, and return what the script says.",
        ),
        check=judged_by(Checkout(), also=check_checkout),
    ),
    Exercise(
        number="16.2",
        title="The one bug",
        stub=shop_stub,
        solution=shop_solution,
        hints=(
            "Each part is one script, so no order of steps can break it. Which call comes twice, and may "
            "be told something else the second time?",
            "A reply was lost, and the customer asks again. What has become of the stock meanwhile?",
            "`reserve` looks at the stock before it looks at the buyers. The last buyer, asking again, is "
            "told that all is gone. Turn the two around.",
        ),
        check=judged_by(Parts(), also=check_reserve),
    ),
)
