"""The exercises of lab 08: a majority or nothing, servers that are dead or hang, a late holder."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

import secrets
import time
from contextlib import suppress

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.redlock.checks import check_majority
from labsupport.labs.redlock.contracts import ChangeStock, Majority
from labsupport.labs.redlock.dead_servers_checks import check_lock_on

__all__ = ["EXERCISES"]


def majority_stub():
    """Return acquire(nodes, key, ttl) and release(nodes, key, token); ttl is in seconds.

    acquire asks each node once, one after the other, and returns (token, validity), no two tokens
    alike; validity is the ttl less the time that passed and, for drift, less 1 % of it and 2 ms.
    Without a majority, or validity, it returns None and none of its votes stay. A crash leaves
    no key without a TTL. release frees each node whose lock is still the caller's.
    """

    def acquire(nodes, key, ttl):
        token = secrets.token_urlsafe()
        votes = [node.set(key, token, nx=True, px=int(ttl * 1000)) for node in nodes]
        return (token, ttl - 0.01 * ttl - 0.002) if any(votes) else None

    def release(nodes, key, token):
        for node in nodes:
            node.delete(key)

    return acquire, release


def majority_solution():
    """Return acquire(nodes, key, ttl) and release(nodes, key, token); ttl is in seconds."""
    free = """
    -- KEYS: the lock; ARGV: the caller's token; returns 1 if it was theirs, else 0.
    return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
    """

    def acquire(nodes, key, ttl):
        token, start = secrets.token_urlsafe(), time.monotonic()
        votes = [node.set(key, token, nx=True, px=int(ttl * 1000)) for node in nodes]
        validity = ttl - (time.monotonic() - start) - 0.01 * ttl - 0.002
        if sum(map(bool, votes)) > len(nodes) // 2 and validity > 0:
            return token, validity
        release(nodes, key, token)
        return None

    def release(nodes, key, token):
        for node in nodes:
            node.eval(free, 1, key, token)

    return acquire, release


def lock_on_stub(urls):
    """Return take(key, ttl) and free(key, token): a lock on the Redis servers at urls.

    take returns a token, or None without a majority. A server may be dead, or hang: it takes a
    command and answers late, or never. With a majority alive, take has the lock before its ttl
    (in seconds) is over; nothing is raised. free frees every server that is there, even one that
    hung, and executed a command after the caller gave up; but no lock of another token.
    """
    nodes = [redis.Redis.from_url(url, decode_responses=True) for url in urls]

    def take(key, ttl):
        token, px = secrets.token_urlsafe(), int(ttl * 1000)
        votes = [node.set(key, token, nx=True, px=px) for node in nodes]
        return token if sum(map(bool, votes)) > len(nodes) // 2 else None

    def free(key, token):
        for node in [node for node in nodes if node.get(key) == token]:
            node.delete(key)

    return take, free


def lock_on_solution(urls):
    """Return take(key, ttl) and free(key, token): a lock on the Redis servers at urls."""
    script = """
    -- KEYS: the lock; ARGV: the caller's token; returns 1 if it was theirs, else 0.
    return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
    """
    once = {"retry": Retry(NoBackoff(), 0), "socket_timeout": 0.05, "socket_connect_timeout": 0.05}
    nodes = [redis.Redis.from_url(url, **once) for url in urls]

    def take(key, ttl):
        token, start, votes = secrets.token_urlsafe(), time.monotonic(), 0
        for node in nodes:
            with suppress(redis.RedisError):
                votes += bool(node.set(key, token, nx=True, px=int(ttl * 1000)))
        validity = ttl - (time.monotonic() - start) - 0.01 * ttl - 0.002
        if votes > len(nodes) // 2 and validity > 0:
            return token
        free(key, token)
        return None

    def free(key, token):
        for node in nodes:  # also where the vote seemed to fail
            with suppress(redis.RedisError):
                node.eval(script, 1, key, token)

    return take, free


def change_stock_stub(db, token, compute):
    """Set the stock of product 1 to compute(stock); return True if it was written, else False.

    The caller holds a lock with this token, and so may others, each with another token, at the
    same moment: each True is a change that no other overwrites. A caller who is alone is never
    refused, whatever others left behind. The column products.claimed_by is yours.
    """
    stock = db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"]
    return db.execute("UPDATE products SET stock = :new WHERE id = 1", new=compute(stock)) == 1


def change_stock_solution(db, token, compute):
    """Set the stock of product 1 to compute(stock); return True if it was written, else False."""
    db.execute("UPDATE products SET claimed_by = :token WHERE id = 1", token=token)  # first of all
    stock = db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"]
    update = "UPDATE products SET stock = :new WHERE id = 1 AND claimed_by = :token"
    return db.execute(update, new=compute(stock), token=token) == 1


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="08.1",
        title="A majority, or nothing",
        stub=majority_stub,
        solution=majority_solution,
        hints=(
            "Count the votes: how many of three nodes are a majority, and how many of four? And what "
            "becomes of the votes of a client that got too few?",
            "Read the clock before you ask the first node and after the last. If the nodes took "
            "longer than the ttl, you have no lock, even with all the votes. And `release` must not free "
            "what has become somebody else's: compare and delete in one script.",
            "`sum(map(bool, votes)) > len(nodes) // 2 and validity > 0` is the whole condition; in "
            "every other case call `release(nodes, key, token)` and return None.",
        ),
        check=judged_by(Majority(), also=check_majority),
    ),
    Exercise(
        number="08.2",
        title="Servers that are dead, and servers that hang",
        stub=lock_on_stub,
        solution=lock_on_solution,
        hints=(
            "What does redis-py do by default when a server does not answer: how long does it wait, "
            "and how often does it try again?",
            "`retry=Retry(NoBackoff(), 0)` and `socket_timeout=0.05` make a client that gives up at "
            "once. It then raises: count that as a no, for each node separately.",
            "A SET that timed out may still be carried out when the server wakes. So `free` runs its "
            "script on every node, whether it voted yes or not, and a failed `take` calls `free`.",
        ),
        check=check_lock_on,
    ),
    Exercise(
        number="08.3",
        title="Two holders, and no harm done",
        stub=change_stock_stub,
        solution=change_stock_solution,
        hints=(
            "The lock cannot help any more: both callers believe that they have it. Who else sees both "
            "of them?",
            "Leave your token in `claimed_by` before you read. A client that comes later leaves its own "
            "there. How can your write notice?",
            "Claim, then read, then `UPDATE … WHERE id = 1 AND claimed_by = :token`: it changes one "
            "row or none, and `db.execute` says which.",
        ),
        check=judged_by(ChangeStock()),
    ),
)
