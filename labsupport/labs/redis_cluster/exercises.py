"""The exercises of lab 14: keys of one slot, a redirection that is followed, a promise that is kept."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

from redis.exceptions import AskError, MovedError

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.redis_cluster.checks import check_fetch, check_promise
from labsupport.labs.redis_cluster.slot_checks import Reserve, for_many

__all__ = ["EXERCISES"]


def reserve_stub(redis, product, user):
    """Reserve one piece of a product for a user; return True, or False.

    The stock of a product is in the key stock:{product}, with the braces: stock:{kettle} holds "3".
    Reserving takes one from it. False when none is left, or when the user has reserved a piece of
    this product before. Which key you remember that in is up to you. It works on one server and on a
    cluster, where different products lie on different nodes, and for any user name. Many users
    reserve at once; a process may crash; then the user asks again.
    """
    script = """
    -- KEYS: the stock, who has reserved; ARGV: the user; returns 1 or 0.
    if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 0 end
    if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
    redis.call('DECR', KEYS[1])
    redis.call('SADD', KEYS[2], ARGV[1])
    return 1
    """
    keys = [f"stock:{{{product}}}", f"reserved:{product}"]
    return redis.eval(script, 2, *keys, user) == 1


def reserve_solution(redis, product, user):
    """Reserve one piece of a product for a user; return True, or False."""
    script = """
    -- KEYS: the stock, who has reserved; ARGV: the user; returns 1 or 0.
    if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 0 end
    if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
    redis.call('DECR', KEYS[1])
    redis.call('SADD', KEYS[2], ARGV[1])
    return 1
    """
    keys = [f"stock:{{{product}}}", f"reserved:{{{product}}}"]
    return redis.eval(script, 2, *keys, user) == 1


def fetch_stub(nodes, key):
    """Return what GET key says in a cluster, in as few requests as the nodes allow.

    nodes has a plain redis.Redis client of each node, by address: nodes["127.0.0.1:7001"]; other
    threads use them, too. Ask the first one. MOVED means: the slot lives there now. ASK means: this
    once, ask there, after ASKING. Either is an error of redis-py with the attributes host and port,
    and one may follow the other, many times. Any other error reaches the caller.
    """
    client = next(iter(nodes.values()))
    try:
        return client.get(key)
    except MovedError as moved:
        return nodes[f"{moved.host}:{moved.port}"].get(key)


def fetch_solution(nodes, key):
    """Return what GET key says in a cluster, in as few requests as the nodes allow."""
    client, asking = next(iter(nodes.values())), False
    while True:
        with client.pipeline(transaction=False) as pipe:  # ASKING counts on its own connection
            if asking:
                pipe.execute_command("ASKING")
            *_, answer = pipe.get(key).execute(raise_on_error=False)
        if not isinstance(answer, Exception):
            return answer
        if not isinstance(answer, AskError):
            raise answer
        # in redis-py a MovedError is an AskError, too
        client, asking = nodes[f"{answer.host}:{answer.port}"], not isinstance(answer, MovedError)


def promise_stub(redis, key, order):
    """Put an order at the end of the list in key; return True once a replica has it, too.

    False if no replica has confirmed it after 100 ms: then the order may be there or not, and the
    caller is told so in half a second at the most. redis is a client of the primary, which may have
    several replicas; other threads use it, too. An order that Redis refuses is never True.
    """
    redis.rpush(key, order)
    return True


def promise_solution(redis, key, order):
    """Put an order at the end of the list in key; return True once a replica has it, too."""
    with redis.pipeline(transaction=False) as pipe:  # WAIT asks for the writes of its connection
        _, copies = pipe.rpush(key, order).wait(1, 100).execute()
    return copies >= 1


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="14.1",
        title="One script, one slot",
        stub=reserve_stub,
        solution=reserve_solution,
        hints=(
            "The script is right; its keys are not. Which part of a key does a cluster hash?",
            "If a key has braces with something between them, only that is hashed. The stock has "
            "them already.",
            "Both keys need the product between braces: `reserved:{kettle}`. In an f-string a brace is "
            'written twice: `f"reserved:{{{product}}}"`.',
        ),
        check=judged_by(Reserve(), also=for_many),
    ),
    Exercise(
        number="14.2",
        title="Follow a redirection",
        stub=fetch_stub,
        solution=fetch_solution,
        hints=(
            "While a slot moves, its old node answers ASK for the keys that it no longer has. And it "
            "may be MOVED that led you to it.",
            "The node that imports a slot serves it only after `ASKING`, for one command, on the same "
            "connection. A pipeline sends both on one.",
            "A loop: ask; on `MovedError` go there; on `AskError` go there and say `ASKING` first; "
            "otherwise return.",
        ),
        check=check_fetch,
    ),
    Exercise(
        number="14.3",
        title="A promise that survives a failover",
        stub=promise_stub,
        solution=promise_solution,
        hints=(
            "`WAIT replicas milliseconds` blocks until so many replicas have confirmed, and returns how "
            "many have.",
            "It returns when the time is over, too: look at what it says. And it speaks for the writes "
            "of its own connection.",
            "`pipe = redis.pipeline(transaction=False)`, then `pipe.rpush(…).wait(1, 100).execute()` "
            "returns two answers; the second one is the number of replicas.",
        ),
        check=check_promise,
    ),
)
