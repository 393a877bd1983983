"""The exercises of lab 07: a lock that is only its holder's, numbers in order, a resource that checks."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

import secrets
import time

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.distributed_lock.contracts import NumberedLock, OwnLock, SellOnce
from labsupport.labs.distributed_lock.token_checks import check_many_numbers, check_many_tokens

__all__ = ["EXERCISES"]


def own_lock_stub():
    """Return take, renew and free; the lock is the key `name`, and lives for ttl seconds.

    take waits until the lock is free, and returns a token that nobody else ever has. renew gives
    the lock ttl seconds from now, free frees it; both return True, or False when it is no longer
    the caller's: then they change nothing. A crash leaves nothing that stays for ever.
    """

    def take(redis, name, ttl):
        while not redis.set(name, "taken", nx=True, px=int(ttl * 1000)):
            time.sleep(0.01)
        return "taken"

    def renew(redis, name, token, ttl):
        return bool(redis.pexpire(name, int(ttl * 1000)))

    def free(redis, name, token):
        return bool(redis.delete(name))

    return take, renew, free


def own_lock_solution():
    """Return take, renew and free; the lock is the key `name`, and lives for ttl seconds."""
    mine = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end "

    def take(redis, name, ttl):
        token = secrets.token_urlsafe()
        while not redis.set(name, token, nx=True, px=int(ttl * 1000)):
            time.sleep(0.01)
        return token

    def renew(redis, name, token, ttl):
        script = mine + "return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
        return bool(redis.eval(script, 1, name, token, int(ttl * 1000)))

    def free(redis, name, token):
        return bool(redis.eval(mine + "return redis.call('DEL', KEYS[1])", 1, name, token))

    return take, renew, free


def numbered_lock_stub(redis, name, ttl):
    """Wait for the lock `name`, take it for ttl seconds, and return its number, an int above 0.

    Each number is greater than all that were handed out before it. While the lock is
    held, its key holds the number. A crash leaves no lock that stays for ever.
    """
    number = redis.incr(f"{name}:number")
    while not redis.set(name, number, nx=True, px=int(ttl * 1000)):
        time.sleep(0.01)
    return number


def numbered_lock_solution(redis, name, ttl):
    """Wait for the lock `name`, take it for ttl seconds, and return its number, an int above 0."""
    script = """
    -- Takes a lock. KEYS: the lock, the counter; ARGV: ms; returns the number, or 0 if it is held.
    if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
    local number = redis.call('INCR', KEYS[2])
    redis.call('SET', KEYS[1], number, 'PX', ARGV[1])
    return number
    """
    while not (number := redis.eval(script, 2, name, f"{name}:number", int(ttl * 1000))):
        time.sleep(0.01)
    return number


def sell_once_stub(db, fence):
    """Sell one piece of product 1 to the holder of lock number `fence`; return True if sold.

    Two may believe that they hold the lock, in any order and at any time, or with the same
    number after Redis lost its counter. Each piece that is sold leaves the stock, and none is
    sold that is not there. A number below one that came before it sells nothing, an equal one
    may. Any other that is not overtaken sells. products.fence is 0 at the start.
    """
    row = db.fetch_one("SELECT stock FROM products WHERE id = 1")
    if row["stock"] == 0:
        return False
    sql = "UPDATE products SET stock = :left, fence = :fence WHERE id = 1 AND fence <= :fence"
    return db.execute(sql, left=row["stock"] - 1, fence=fence) == 1


def sell_once_solution(db, fence):
    """Sell one piece of product 1 to the holder of lock number `fence`; return True if sold."""
    claim = "UPDATE products SET fence = :fence WHERE id = 1 AND fence < :fence"
    if db.execute(claim, fence=fence) == 0:
        return False  # somebody with this number, or a later one, has been here
    row = db.fetch_one("SELECT stock FROM products WHERE id = 1")
    if row["stock"] == 0:
        return False
    sql = "UPDATE products SET stock = :left WHERE id = 1 AND fence = :fence"
    return db.execute(sql, left=row["stock"] - 1, fence=fence) == 1


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="07.1",
        title="A lock that only its holder can free or renew",
        stub=own_lock_stub,
        solution=own_lock_solution,
        hints=(
            "Everybody writes the same word into the lock. How can you tell its holder from the others?",
            "`take` writes `secrets.token_urlsafe()` and returns it. Looking whose the lock is, and "
            "then acting, takes two commands; between them it can change hands.",
            "One script each: `if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end`, then "
            "`return redis.call('PEXPIRE', KEYS[1], ARGV[2])`, or `DEL`. `bool(...)` of the reply.",
        ),
        check=judged_by(OwnLock(), also=check_many_tokens),
    ),
    Exercise(
        number="07.2",
        title="A lock that numbers its holders",
        stub=numbered_lock_stub,
        solution=numbered_lock_solution,
        hints=(
            "The number is drawn first, and then its holder waits. Who may come in meanwhile?",
            "Take first and draw then, and the lock can expire between the two. Taking the lock and "
            "drawing the number must be one step.",
            "One script with two keys, the lock and the counter: `EXISTS` the lock? return 0. Else "
            "`INCR` the counter, `SET` the lock to it with `PX`, and return it.",
        ),
        check=judged_by(NumberedLock(), also=check_many_numbers),
    ),
    Exercise(
        number="07.3",
        title="A resource that refuses an overtaken holder",
        stub=sell_once_stub,
        solution=sell_once_solution,
        hints=(
            "The fence is compared when it is too late: what was read may be old by then.",
            "Write the number before you read: from then on, a holder with a lower one is refused. Is "
            "it enough to refuse at the door, or can a holder be overtaken inside?",
            "`UPDATE … SET fence = :fence WHERE id = 1 AND fence < :fence` (0 rows: return False); "
            "`SELECT stock`; `UPDATE … SET stock = :left WHERE id = 1 AND fence = :fence`.",
        ),
        check=judged_by(SellOnce()),
    ),
)
