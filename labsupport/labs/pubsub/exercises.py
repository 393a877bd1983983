"""The exercises of lab 09: a copy that notices a gap, one e-mail for all, and a safe trim."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.pubsub.confirm_checks import check_many_orders
from labsupport.labs.pubsub.contracts import Confirm, Follow
from labsupport.labs.pubsub.trim_checks import check_trim

__all__ = ["EXERCISES"]


def follow_stub(redis, version, stock, message):
    """Return a subscriber's copy (version, stock) after a message; stock maps products to ints.

    The publisher changes the hash stock, raises the key version by one, and publishes (version,
    product, change): all in one step; before the first there is neither. Messages keep their
    order, but some never come, and some are in the copy already. message is None when a
    subscription was confirmed: before that, anything may have been missed. The copy is always the
    stock as it was at its version, which is never below that of the message. Redis is asked only
    if something was missed.
    """
    if message is not None:
        number, product, change = message
        return number, {**stock, product: stock.get(product, 0) + change}
    version = int(redis.get("version"))
    return version, {name: int(pieces) for name, pieces in redis.hgetall("stock").items()}


def follow_solution(redis, version, stock, message):
    """Return a subscriber's copy (version, stock) after a message; stock maps products to ints."""
    if message is not None:
        number, product, change = message
        if number <= version:
            return version, stock  # it is in the copy already
        if number == version + 1:
            return number, {**stock, product: stock.get(product, 0) + change}
    # a gap: take everything anew, the version and the stock as they are at one moment
    number, found = redis.pipeline(transaction=True).get("version").hgetall("stock").execute()
    return int(number or 0), {name: int(pieces) for name, pieces in found.items()}


def confirm_stub(redis, order):
    """Queue one confirmation of `order`: one entry of the stream emails, with the field "order".

    Every subscriber that hears of an order calls this, so it is called several times for one
    order, even at once. A caller may crash at any step; when another one then calls, there is
    exactly one entry for the order.
    """
    if not redis.sismember("confirmed", order):
        redis.xadd("emails", {"order": order})
        redis.sadd("confirmed", order)


def confirm_solution(redis, order):
    """Queue one confirmation of `order`: one entry of the stream emails, with the field "order"."""
    script = """
    -- KEYS: the orders confirmed, the e-mails; ARGV: the order; returns 1 if it was queued now.
    if redis.call('SADD', KEYS[1], ARGV[1]) == 0 then return 0 end
    redis.call('XADD', KEYS[2], '*', 'order', ARGV[1])
    return 1
    """
    redis.eval(script, 2, "confirmed", "emails", order)


def trim_stub(redis, names):
    """Remove the oldest entries of the stream orders, as far as all of `names` have handled them.

    Each reads through a group of its own name and acknowledges what it has handled. One that has
    not started yet has no group, and needs everything; groups of others do not count. Meanwhile
    all go on: they read and acknowledge, and new orders come. Nothing that anybody needs is
    removed; afterwards the oldest entry is needed by somebody, or there is none. The groups stay
    as they are. The stream is there.
    """
    groups = redis.xinfo_groups("orders")
    oldest = min(group["last-delivered-id"] for group in groups)
    redis.xtrim("orders", minid=oldest, approximate=False)


def trim_solution(redis, names):
    """Remove the oldest entries of the stream orders, as far as all of `names` have handled them."""
    read = {group["name"]: group["last-delivered-id"] for group in redis.xinfo_groups("orders")}
    if not read.keys() >= set(names):
        return  # somebody has not started yet
    needed = []
    for name in names:  # first how far they have read, then what of it is pending; never vice versa
        pending = redis.xpending("orders", name)["min"]
        ms, sequence = map(int, (pending or read[name]).split("-"))
        needed.append((ms, sequence if pending else sequence + 1))
    redis.xtrim("orders", minid="{}-{}".format(*min(needed)), approximate=False)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="09.1",
        title="A copy that notices what it has missed",
        stub=follow_stub,
        solution=follow_solution,
        hints=(
            "The message carries a number, the copy too. What does it mean when they are the same, "
            "when they are neighbours, when there is something between them?",
            "Not above the copy's: it is old news. One above: add it. More: something is missing, and "
            "only Redis has it. But what was read of version 7 and the stock of version 8 make a copy "
            "that is wrong for good.",
            "The first two need no Redis. Else read both in one step: "
            '`redis.pipeline(transaction=True).get("version").hgetall("stock").execute()`. Return what '
            "you read, and do not add the message: it is in there.",
        ),
        check=judged_by(Follow()),
    ),
    Exercise(
        number="09.2",
        title="One e-mail, though everybody heard",
        stub=confirm_stub,
        solution=confirm_solution,
        hints=(
            "Two callers can both find that nobody has confirmed yet. Which command both asks and "
            "claims?",
            "`SADD` says whether the member is new. But a client that claims and then crashes has "
            "queued nothing: the claim and the entry must be one step.",
            "A script: if `SADD confirmed order` is 0, return; else `XADD emails * order …`. Or "
            "`WATCH`, look, and both commands in a MULTI.",
        ),
        check=judged_by(Confirm(), also=check_many_orders),
    ),
    Exercise(
        number="09.3",
        title="Throw away what everybody has read",
        stub=trim_stub,
        solution=trim_solution,
        hints=(
            "The last entry that a group was given may not be handled yet. What else does the server "
            "know about a group, and who of `names` is not among the groups at all?",
            "A group needs from its oldest pending entry on (`XPENDING`), or, if none is pending, "
            "from the one after the last delivered. A group that reads between your two questions: "
            "in which order may you ask them? And ids are two numbers, not a text.",
            "`XINFO GROUPS` first: a name without a group? Return. Then for each name "
            '`redis.xpending("orders", name)["min"]`, or, if that is None, `last-delivered-id` with '
            "one more behind the dash. `XTRIM orders MINID` the smallest, exactly.",
        ),
        check=check_trim,
    ),
)
