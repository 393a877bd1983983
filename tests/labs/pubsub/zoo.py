"""Wrong answers to the exercises of lab 09, and what each must be refused for."""

import zlib
from contextlib import suppress

from redis.exceptions import ResponseError, WatchError

from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

# 09.1: the first four pass as long as nothing changes meanwhile


def ints(found):
    return {name: int(pieces) for name, pieces in found.items()}


def applied(stock, message):
    number, product, change = message
    return number, {**stock, product: stock.get(product, 0) + change}


def anew(redis):
    number, found = redis.pipeline().get("version").hgetall("stock").execute()
    return int(number or 0), ints(found)


def next_one(version, message):
    return message is not None and message[0] == version + 1


def old(version, message):
    return message is not None and message[0] <= version


@wrong(
    "09.1",
    situation="Several clients at once",
    because="No order of the calls gives that; one gives ada (4, {'kettle': 6, 'teapot': 2})",
)
def version_before_stock(redis, version, stock, message):
    if old(version, message):
        return version, stock
    if next_one(version, message):
        return applied(stock, message)
    return int(redis.get("version") or 0), ints(redis.hgetall("stock"))


@wrong("09.1", situation="A client that is overtaken at every step", because="ada was given (")
def gives_up_after_five_torn_reads(redis, version, stock, message):
    if old(version, message):
        return version, stock
    if next_one(version, message):
        return applied(stock, message)
    for _ in range(5):
        before, found = redis.get("version"), ints(redis.hgetall("stock"))
        if redis.get("version") == before:
            break
    return int(before or 0), found


@wrong("09.1", situation="Several clients at once", because="ada was given (4, {'kettle': 4})")
def stock_before_version(redis, version, stock, message):
    if old(version, message):
        return version, stock
    if next_one(version, message):
        return applied(stock, message)
    found = ints(redis.hgetall("stock"))
    return int(redis.get("version") or 0), found


@wrong(
    "09.1",
    situation="One call after the other",
    because="ada was given (2, {'kettle': -3}); (3, {'kettle': -3}) is due",
    sequential=True,
)
def at_the_version_of_the_message(redis, version, stock, message):
    if old(version, message):
        return version, stock
    if next_one(version, message):
        return applied(stock, message)
    return (message[0], ints(redis.hgetall("stock"))) if message else anew(redis)


@wrong(
    "09.1",
    situation="Several clients at once",
    because="No order of the calls gives that; one gives ada (4, {'kettle': 6, 'teapot': 2})",
)
def a_pipeline_without_multi(redis, version, stock, message):
    if old(version, message):
        return version, stock
    if next_one(version, message):
        return applied(stock, message)
    pipe = redis.pipeline(transaction=False).get("version").hgetall("stock")
    number, found = pipe.execute()
    return int(number or 0), ints(found)


@wrong(
    "09.1",
    situation="Several clients at once",
    because="No order of the calls gives that; one gives ada (4, {'kettle': 6, 'teapot': 2})",
)
def looks_once_more(redis, version, stock, message):
    if old(version, message):
        return version, stock
    if next_one(version, message):
        return applied(stock, message)
    number, found = redis.get("version"), redis.hgetall("stock")
    if redis.get("version") != number:
        number, found = redis.get("version"), redis.hgetall("stock")
    return int(number or 0), ints(found)


@wrong(
    "09.1",
    situation="One call after the other",
    because="ada was given (2, {'kettle': -3}); (2, {'kettle': -2}) is due",
    sequential=True,
)
def adds_what_is_in_there(redis, version, stock, message):
    if old(version, message):
        return version, stock
    if next_one(version, message) or message is None:
        return applied(stock, message) if message else anew(redis)
    return applied(anew(redis)[1], message)


@wrong(
    "09.1",
    situation="One call after the other",
    because="ada was given (1, {'kettle': -2}); (1, {'kettle': -1}) is due",
    sequential=True,
)
def only_looks_for_gaps(redis, version, stock, message):
    if message is None or message[0] > version + 1:
        return anew(redis)
    return applied(stock, message)


@wrong(
    "09.1", situation="One call after the other", because="Redis was asked in vain", sequential=True
)
def asks_at_what_is_old(redis, version, stock, message):
    return applied(stock, message) if next_one(version, message) else anew(redis)


@wrong(
    "09.1", situation="One call after the other", because="Redis was asked in vain", sequential=True
)
def asks_every_time(redis, version, stock, message):
    return anew(redis)


@wrong(
    "09.1",
    situation="One call after the other",
    because="ada was given (0, {}); (1, {'kettle': -1}) is due",
    sequential=True,
)
def waits_for_the_next(redis, version, stock, message):
    if message is None or old(version, message):
        return version, stock
    return applied(stock, message) if next_one(version, message) else anew(redis)


# 09.2: all but the last pass with one caller


@wrong(
    "09.2",
    situation="A client that crashes, and the next one, too",
    because="the orders in emails holds []; ['42'] is due",
)
def claims_then_queues(redis, order):
    if redis.sadd("confirmed", order):
        redis.xadd("emails", {"order": order})


@wrong(
    "09.2",
    situation="Several clients at once",
    because="the orders in emails holds ['42', '42']; ['42'] is due",
)
def looks_then_queues_in_a_block(redis, order):
    if not redis.sismember("confirmed", order):
        redis.pipeline().sadd("confirmed", order).xadd("emails", {"order": order}).execute()


@wrong(
    "09.2",
    situation="Several clients at once",
    because="the orders in emails holds ['42', '42']; ['42'] is due",
)
def looks_into_the_queue(redis, order):
    if all(fields["order"] != order for _, fields in redis.xrange("emails")):
        redis.xadd("emails", {"order": order})


@wrong(
    "09.2",
    situation="A client that crashes, and the next one, too",
    because="the orders in emails holds []; ['42'] is due",
)
def a_lock_that_stays(redis, order):
    if redis.set(f"confirmed:{order}", 1, nx=True):
        redis.xadd("emails", {"order": order})


@wrong(
    "09.2",
    situation="One call after the other",
    because="holds ['0', '0']; ['0'] is due",
    sequential=True,
)
def a_claim_that_expires(redis, order):
    script = """
    if not redis.call('SET', KEYS[1], 1, 'NX', 'EX', 60) then return 0 end
    redis.call('XADD', KEYS[2], '*', 'order', ARGV[1])
    return 1
    """
    redis.eval(script, 2, f"confirmed:{order}", "emails", order)


@wrong(
    "09.2",
    situation="One call after the other",
    because="holds ['42', '42']; ['42'] is due",
    sequential=True,
)
def every_time(redis, order):
    redis.xadd("emails", {"order": order})


# 09.3


def two(entry):
    ms, sequence = entry.split("-")
    return int(ms), int(sequence)


def cut(redis, ids):
    redis.xtrim("orders", minid="{}-{}".format(*min(ids)), approximate=False)


def last_ones(redis):
    return {group["name"]: group["last-delivered-id"] for group in redis.xinfo_groups("orders")}


def from_where(last, pending, more=1):
    """The oldest entry that a group needs, of two answers of the server."""
    if pending:
        return two(pending)
    ms, sequence = two(last)
    return ms, sequence + more


MANY = "3,010 orders, one after the other"
READS = "A subscriber reads on meanwhile"


@wrong("09.3", situation=READS, because="though bob still needs it: 5-10")
def pending_first(redis, names):
    pending = {}
    for name in names:
        with suppress(ResponseError):  # no such group
            pending[name] = redis.xpending("orders", name)["min"]
    if len(pending) == len(names):
        last = last_ones(redis)
        cut(redis, [from_where(last[name], pending[name]) for name in names])


@wrong("09.3", situation=READS, because="though bob still needs it: 5-10")
def pending_first_in_one_round_trip(redis, names):
    if len({*last_ones(redis)} & {*names}) < len(names):
        return
    pipe = redis.pipeline(transaction=False)
    for name in names:
        pipe.xpending("orders", name)
    *pending, groups = pipe.xinfo_groups("orders").execute()
    last = {group["name"]: group["last-delivered-id"] for group in groups}
    cut(
        redis,
        [from_where(last[name], one["min"]) for name, one in zip(names, pending, strict=True)],
    )


@wrong("09.3", situation="An order comes meanwhile", because="though bob still needs it: 5-10")
def so_many_from_the_end(redis, names):
    last = last_ones(redis)
    if {*names} <= last.keys():
        pending = {name: redis.xpending("orders", name)["min"] for name in names}
        oldest = "{}-{}".format(*min(from_where(last[name], pending[name]) for name in names))
        left = len(redis.xrange("orders", oldest))
        redis.xtrim("orders", maxlen=left, approximate=False)


@wrong("09.3", situation="An order comes after the last", because="though ada still needs it: 5-12")
def empties_it_when_all_are_done(redis, names):
    last = last_ones(redis)
    if {*names} <= last.keys():
        ids = [from_where(last[name], redis.xpending("orders", name)["min"]) for name in names]
        if any(redis.xrange("orders", "{}-{}".format(*one), count=1) for one in ids):
            cut(redis, ids)
        else:
            redis.xtrim("orders", maxlen=0, approximate=False)


@wrong("09.3", situation=READS, because="raised AttributeError")
def trusts_the_count(redis, names):
    groups = {group["name"]: group for group in redis.xinfo_groups("orders")}
    if {*names} <= groups.keys():
        ids = []
        for name in names:
            more = groups[name]["pending"] and redis.xpending("orders", name)["min"].split("-")
            last = groups[name]["last-delivered-id"]
            ids.append((int(more[0]), int(more[1])) if more else from_where(last, None))
        cut(redis, ids)


@wrong(
    "09.3",
    situation="One is a message behind",
    because="though bob still needs it: 5-9",
    sequential=True,
)
def compares_texts(redis, names):
    last = last_ones(redis)
    if {*names} <= last.keys():
        ids = [from_where(last[name], redis.xpending("orders", name)["min"]) for name in names]
        redis.xtrim("orders", minid=min("{}-{}".format(*one) for one in ids), approximate=False)


@wrong(
    "09.3",
    situation="One has not started",
    because="though bob still needs it: 5-8",
    sequential=True,
)
def of_the_groups_that_there_are(redis, names):
    last = last_ones(redis)
    cut(
        redis,
        [
            from_where(last[name], redis.xpending("orders", name)["min"])
            for name in names
            if name in last
        ],
    )


@wrong(
    "09.3",
    situation="A group of somebody else",
    because="The oldest entry is 5-9, and all have handled it",
    sequential=True,
)
def for_every_group(redis, names):
    last = last_ones(redis)
    if {*names} <= last.keys():
        cut(redis, [from_where(last[one], redis.xpending("orders", one)["min"]) for one in last])


@wrong(
    "09.3",
    situation="All are done",
    because="The oldest entry is 5-11, and all have handled it",
    sequential=True,
)
def keeps_the_last_one(redis, names):
    last = last_ones(redis)
    if {*names} <= last.keys():
        cut(
            redis,
            [from_where(last[one], redis.xpending("orders", one)["min"], more=0) for one in names],
        )


@wrong(
    "09.3",
    situation="One subscriber is behind",
    because="The oldest entry is 5-8",
    sequential=True,
)
def about_so_many(redis, names):
    last = last_ones(redis)
    if {*names} <= last.keys():
        ids = [from_where(last[name], redis.xpending("orders", name)["min"]) for name in names]
        redis.xtrim("orders", minid="{}-{}".format(*min(ids)))  # redis-py: approximately


@wrong("09.3", situation="All are done", because="There is no stream any more", sequential=True)
def away_with_it(redis, names):
    last = last_ones(redis)
    if {*names} <= last.keys():
        ids = [from_where(last[name], redis.xpending("orders", name)["min"]) for name in names]
        cut(redis, ids)
        if not redis.xlen("orders"):
            redis.delete("orders")


@wrong(
    "09.3", situation="One subscriber is behind", because="The groups have changed", sequential=True
)
def asks_by_reading(redis, names):
    for name in names:
        with suppress(ResponseError):
            if redis.xreadgroup(name, name, {"orders": "0"}, count=1)[0][1]:
                return
            if redis.xreadgroup(name, name, {"orders": ">"}, count=1):
                return
    redis.xtrim("orders", maxlen=0, approximate=False)


@wrong(
    "09.1",
    situation="One call after the other",
    because="ada was given (1, {'kettle': -1}); (2, {'kettle': -2}) is due",
    sequential=True,
)
def one_confirmation_is_enough(redis, version, stock, message):
    if message is None:
        return (version, stock) if version else anew(redis)
    if message[0] <= version:
        return version, stock
    return applied(stock, message) if message[0] == version + 1 else anew(redis)


@wrong(
    "09.2",
    situation="One call after the other",
    because="is due. The contract: “Queue one confirmation of `order`",
    sequential=True,
)
def order_as_the_entrys_id(redis, order):
    with suppress(ResponseError):  # it is there already
        redis.xadd("emails", {"order": order}, id=f"{order}-1")


@wrong(
    "09.3",
    situation="Handled, and in hand: ada 0 and 0, bob 2 and 2",
    because="though ada still needs it",
)
def pending_ones_decide(redis, names):
    read = {group["name"]: group["last-delivered-id"] for group in redis.xinfo_groups("orders")}
    if not read.keys() >= set(names):
        return
    pending = [redis.xpending("orders", name)["min"] for name in names]
    if any(pending):
        cut(redis, [two(entry) for entry in pending if entry])
    else:
        cut(redis, [from_where(read[name], None) for name in names])


@wrong(
    "09.2", situation="One call after the other", because="the orders in emails", sequential=True
)
def keeps_the_last_thousand(redis, order):
    """The e-mails that wait longest are thrown away."""
    script = """
    if redis.call('SADD', KEYS[1], ARGV[1]) == 0 then return end
    redis.call('XADD', KEYS[2], 'MAXLEN', '1000', '*', 'order', ARGV[1])
    """
    redis.eval(script, 2, "confirmed", "emails", order)


@wrong(
    "09.2", situation="One call after the other", because="the orders in emails", sequential=True
)
def looks_at_the_last_hundred(redis, order):
    script = """
    for _, entry in ipairs(redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 100)) do
      if entry[2][2] == ARGV[1] then return end
    end
    redis.call('XADD', KEYS[1], '*', 'order', ARGV[1])
    """
    redis.eval(script, 1, "emails", order)


@wrong("09.3", because="1001-0 afterwards; None is due", sequential=True)
def looks_at_a_thousand(redis, names):
    read = {group["name"]: group["last-delivered-id"] for group in redis.xinfo_groups("orders")}
    if not read.keys() >= set(names):
        return
    pending = {name: redis.xpending("orders", name)["min"] for name in names}
    needed = min(from_where(read[name], pending[name]) for name in names)
    there = [entry for entry, _ in redis.xrange("orders", count=1_000)]
    if handled := [entry for entry in there if two(entry) < needed]:
        redis.xdel("orders", *handled)


@wrong("09.1", situation="One call after the other", because="is due", sequential=True)
def one_page_of_the_stock(redis, version, stock, message):
    """A scan has a second page when there is more than fits into one."""
    if old(version, message):
        return version, stock
    if next_one(version, message):
        return applied(stock, message)
    number, (_, found) = redis.pipeline().get("version").hscan("stock", count=500).execute()
    return int(number or 0), ints(found)


@wrong("09.2", situation="A client that is overtaken at every step", because="the orders in emails")
def tries_beside_all_other_orders(redis, order):
    """Each order that is confirmed meanwhile touches what is watched."""
    for _ in range(4):
        with redis.pipeline() as pipe, suppress(WatchError):
            pipe.watch("confirmed")
            if not pipe.sismember("confirmed", order):
                pipe.multi()
                pipe.xadd("emails", {"order": order}).sadd("confirmed", order).execute()
            return


@wrong("09.3", situation="One has not started, somebody else has", because="bob still needs it")
def counts_the_groups(redis, names):
    groups = redis.xinfo_groups("orders")
    if len(groups) < len(names):
        return
    needed = []
    for group in groups:
        if group["name"] in names:
            pending = redis.xpending("orders", group["name"])["min"]
            needed.append(from_where(group["last-delivered-id"], pending))
    if needed:
        redis.xtrim("orders", minid="{}-{}".format(*min(needed)), approximate=False)


@wrong(
    "09.3",
    situation="One begins at the end",
    because="The oldest entry is 5-8, and all have handled it",
    sequential=True,
)
def not_started_without_a_consumer(redis, names):
    groups = {group["name"]: group["consumers"] for group in redis.xinfo_groups("orders")}
    if all(groups.get(name) for name in names):
        last = last_ones(redis)
        cut(redis, [from_where(last[one], redis.xpending("orders", one)["min"]) for one in names])


@wrong("09.2", situation=MANY, because="has none")
def a_bit_for_each_order(redis, order):
    """Two orders that share a bit share an e-mail."""
    script = """
    if redis.call('SETBIT', KEYS[1], ARGV[2], 1) == 0 then
      redis.call('XADD', KEYS[2], '*', 'order', ARGV[1])
    end
    """
    redis.eval(script, 2, "confirmed", "emails", order, zlib.crc32(order.encode()) % 65_536)


def confirm_by(mark, redis, order):
    """Right, but that an order is known by what `mark` makes of it."""
    script = """
    if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then
      redis.call('XADD', KEYS[2], '*', 'order', ARGV[2])
    end
    """
    redis.eval(script, 2, "confirmed", "emails", mark(order), order)


@wrong("09.2", situation=MANY, because="order 042 has none")
def takes_an_order_for_a_number(redis, order):
    confirm_by(lambda order: int(order) if order.isdigit() else order, redis, order)


@wrong("09.2", situation=MANY, because="order A-42 has none")
def takes_capitals_for_small_letters(redis, order):
    confirm_by(str.lower, redis, order)


@wrong("09.2", situation=MANY, because="order 2026-11-29/2 has none")
def knows_an_order_by_its_beginning(redis, order):
    confirm_by(lambda order: order[:10], redis, order)


def trims(redis, names, groups, first_pending):
    """Right, but for the groups that are given, and for how the oldest pending entry is found."""
    oldest = []
    for name in names:
        if name not in groups:
            return
        ms, number = groups[name].split("-")
        oldest.append(first_pending(name) or f"{ms}-{int(number) + 1}")
    first = min(oldest, key=lambda one: [int(part) for part in one.split("-")])
    redis.xtrim("orders", minid=first, approximate=False)


def last_ids(redis):
    return {one["name"]: one["last-delivered-id"] for one in redis.xinfo_groups("orders")}


@wrong("09.3", because="The groups have changed", sequential=True)
def takes_it_in_hand_to_look_at_it(redis, names):
    def first_pending(name):
        given = redis.xautoclaim("orders", name, "trimmer", 0, "0-0", count=1)[1]
        return given[0][0] if given else None

    trims(redis, names, last_ids(redis), first_pending)


@wrong("09.3", because="The groups have changed", sequential=True)
def notes_again_how_far_they_are(redis, names):
    groups = last_ids(redis)
    for name in groups:
        redis.xgroup_setid("orders", name, groups[name])
    trims(redis, names, groups, lambda name: redis.xpending("orders", name)["min"])


@wrong(
    "09.3", situation="One has not started, 'Bob' has", because="bob still needs", sequential=True
)
def names_in_small_letters(redis, names):
    spelled = {name.lower(): name for name in last_ids(redis)}
    groups = {name.lower(): last for name, last in last_ids(redis).items()}
    trims(redis, names, groups, lambda name: redis.xpending("orders", spelled[name])["min"])


@wrong("09.3", situation="One has not started, 'bobby' has", because="", sequential=True)
def names_by_their_beginning(redis, names):
    groups = last_ids(redis)
    theirs = {name: next((one for one in groups if one.startswith(name)), None) for name in names}
    if None in theirs.values():
        return
    trims(
        redis,
        names,
        {name: groups[one] for name, one in theirs.items()},
        lambda name: redis.xpending("orders", theirs[name])["min"],
    )


@wrong("09.3", because="and bob, the last of 4 names, has handled 1,000 of them", sequential=True)
def looks_at_two_names(redis, names):
    last = last_ones(redis)
    if {*names} <= last.keys():
        some = names[:2]
        cut(redis, [from_where(last[n], redis.xpending("orders", n)["min"]) for n in some])


@wrong("09.1", because="'grains': 9007199254740993}) is due", sequential=True)
def counts_by_floats(redis, version, stock, message):
    if old(version, message):
        return version, stock
    if next_one(version, message):
        return applied(stock, message)
    number, found = redis.pipeline().get("version").hgetall("stock").execute()
    return int(number or 0), {name: int(float(pieces)) for name, pieces in found.items()}


@wrong("09.2", because="3,010 orders, one after the other: 3,008 are in emails", sequential=True)
def orders_without_their_blanks(redis, order):
    script = """
    if redis.call('SADD', KEYS[1], ARGV[1]) == 0 then return 0 end
    redis.call('XADD', KEYS[2], '*', 'order', ARGV[2])
    return 1
    """
    redis.eval(script, 2, "confirmed", "emails", order.strip(), order)


@wrong("09.2", situation=MANY, because="has none")
def knows_twenty_bits_of_an_order(redis, order):
    confirm_by(lambda order: zlib.crc32(order.encode()) % 2**20, redis, order)
