"""The exercises of lab 00: count, move, sell, with others at work and crashes at every step."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.start_here.contracts import Buy, CountVisit, MoveCredit

__all__ = ["EXERCISES"]


def count_visit_stub(redis, page):
    """Count one visit in visits:{page}, and return its number: 1 for the first visitor.

    The count stays for ever. Visitors come at once; each may pause for any time, or crash.
    """
    number = int(redis.get(f"visits:{page}") or 0) + 1
    redis.set(f"visits:{page}", number)
    return number


def count_visit_solution(redis, page):
    """Count one visit in visits:{page}, and return its number: 1 for the first visitor."""
    return redis.incr(f"visits:{page}")


def move_credit_stub(redis, giver, receiver, cents):
    """Move cents from credit:{giver} to credit:{receiver}, whoever they are.

    A missing credit counts as 0, and it may fall below 0. No credit expires. Transfers come at
    once; each may pause for any time, or crash.
    """
    redis.decrby(f"credit:{giver}", cents)
    redis.incrby(f"credit:{receiver}", cents)


def move_credit_solution(redis, giver, receiver, cents):
    """Move cents from credit:{giver} to credit:{receiver}."""
    with redis.pipeline(transaction=True) as pipe:
        pipe.decrby(f"credit:{giver}", cents)
        pipe.incrby(f"credit:{receiver}", cents)
        pipe.execute()


def buy_stub(redis, product, customer):
    """Take one from stock:{product} and add the customer to the list buyers:{product}.

    Return True, or False when there is none left; then nothing changes. Stock and buyers stay for
    ever; customers come at once; each may pause for any time, or crash.
    """
    if int(redis.get(f"stock:{product}") or 0) < 1:
        return False
    redis.decr(f"stock:{product}")
    redis.rpush(f"buyers:{product}", customer)
    return True


def buy_solution(redis, product, customer):
    """Take one from stock:{product} and add the customer to the list buyers:{product}.

    Return True, or False when there is none left; then nothing changes.
    """
    script = """
    -- Sells one piece if there is one.
    -- KEYS: stock (a number), buyers (a list); ARGV: customer; returns 1 (sold) or 0.
    if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then
      return 0
    end
    redis.call('DECR', KEYS[1])
    redis.call('RPUSH', KEYS[2], ARGV[1])
    return 1
    """
    return bool(redis.eval(script, 2, f"stock:{product}", f"buyers:{product}", customer))


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="00.1",
        title="Count without losing a visit",
        stub=count_visit_stub,
        solution=count_visit_solution,
        hints=(
            "Between which two steps must no other client come? Let two visitors read before either of "
            "them writes.",
            "A read, a sum in Python and a write are two round trips. Redis can do the sum itself.",
            "`INCR` adds one and replies with the new number, in one step: return that reply. A `GET` "
            "after it may see somebody else's visit.",
        ),
        check=judged_by(CountVisit()),
    ),
    Exercise(
        number="00.2",
        title="Move credit so that a crash at any step leaves the sum right",
        stub=move_credit_stub,
        solution=move_credit_solution,
        hints=(
            "Look at the sum of the two balances after the first step. Another order of the two "
            "steps does not help: what would the sum be then?",
            "`except` and `finally` do not run when a process is killed. The server must get both "
            "changes at once, or none.",
            "Queue `decrby` and `incrby` in `redis.pipeline(transaction=True)` and send them with one "
            "`execute()`. Do not read the balances: what you read may be old when you write.",
        ),
        check=judged_by(MoveCredit()),
    ),
    Exercise(
        number="00.3",
        title="Sell the last item once",
        stub=buy_stub,
        solution=buy_solution,
        hints=(
            "The check and the sale are separate steps. MULTI alone cannot join them: it has to know "
            "its commands before it has seen a reply.",
            "Either decide inside the server, in a Lua script, or `WATCH` the stock *before* you read "
            "it, and start again when `execute()` raises `WatchError`.",
            "`redis.eval(script, 2, stock_key, buyers_key, customer)`: in the script, `GET` the stock "
            "(a missing key is `false`, so write `or 0`), return 0 when it is below 1, else `DECR`, "
            "`RPUSH` and return 1. In Python, turn the reply into `True` or `False` with `bool`.",
        ),
        check=judged_by(Buy()),
    ),
)
