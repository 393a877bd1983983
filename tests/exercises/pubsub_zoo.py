"""Wrong answers to the exercises of lab 09, and what each must be refused for."""

from contextlib import suppress

from redis.exceptions import ResponseError
from zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

CRASH = "A subscriber that may crash"
COMES = "A message that comes while a subscriber reads"


# 09.1


@wrong("09.1", situation=CRASH, because="ada has lost ['one', 'two']")
def all_written_down_first(redis, name, handle):
    found = redis.xrange("orders", f"({redis.get(f'orders:{name}') or '0-0'}")
    if found:
        redis.set(f"orders:{name}", found[-1][0])
    for _, fields in found:
        handle(fields["text"])


@wrong("09.1", situation=CRASH, because="ada has lost")
def a_counter_ahead(redis, name, handle):
    while True:
        place = redis.incr(f"orders:{name}") - 1
        found = redis.xrange("orders")[place:]
        if not found:
            redis.decr(f"orders:{name}")
            return
        handle(found[0][1]["text"])


@wrong("09.1", situation="A subscriber that reads twice", because="handled", sequential=True)
def from_the_beginning_each_time(redis, name, handle):
    for _, fields in redis.xrange("orders"):
        handle(fields["text"])


@wrong("09.1", situation="A subscriber that reads twice", because="bob handled []", sequential=True)
def one_cursor_for_all(redis, name, handle):
    cursor = redis.get("orders:cursor") or "0-0"
    for entry_id, fields in redis.xrange("orders", f"({cursor}"):
        handle(fields["text"])
        redis.set("orders:cursor", entry_id)


@wrong("09.1", situation=COMES, because="of ['one', 'two', 'three']")
def written_down_as_the_newest(redis, name, handle):
    cursor = redis.get(f"orders:{name}") or "0-0"
    found = redis.xrange("orders", f"({cursor}")
    for _, fields in found:
        handle(fields["text"])
    newest = redis.xrevrange("orders", count=1)
    if newest:
        redis.set(f"orders:{name}", newest[0][0])


@wrong("09.1", situation="A subscriber that reads twice", because="'one'", sequential=True)
def newest_first(redis, name, handle):
    cursor = redis.get(f"orders:{name}") or "0-0"
    for entry_id, fields in redis.xrevrange("orders", "+", f"({cursor}"):
        handle(fields["text"])
        redis.set(f"orders:{name}", entry_id)


@wrong("09.1", situation=COMES, because="of ['one', 'two', 'three']")
def removed_for_good(redis, name, handle):
    done = int(redis.get(f"orders:{name}") or 0)
    for _, fields in redis.xrange("orders")[done:]:
        handle(fields["text"])
    redis.set(f"orders:{name}", redis.xlen("orders"))


# 09.2: all but the last pass with one caller


@wrong("09.2", situation="A caller who crashes", because="There are 0 e-mails")
def claims_then_queues(redis, order):
    if redis.sadd("confirmed", order):
        redis.xadd("emails", {"order": order})


@wrong("09.2", situation="Two callers at once", because="There are 2 e-mails")
def looks_then_queues_in_a_block(redis, order):
    if not redis.sismember("confirmed", order):
        redis.pipeline().sadd("confirmed", order).xadd("emails", {"order": order}).execute()


@wrong("09.2", situation="Two callers at once", because="There are 2 e-mails")
def looks_into_the_queue(redis, order):
    if all(fields["order"] != order for _, fields in redis.xrange("emails")):
        redis.xadd("emails", {"order": order})


@wrong("09.2", situation="A caller who crashes", because="There are 0 e-mails")
def a_lock_that_stays(redis, order):
    if redis.set(f"confirmed:{order}", 1, nx=True):
        redis.xadd("emails", {"order": order})


@wrong("09.2", situation="Two callers, and any key expires", because="e-mails for the order")
def a_claim_that_expires(redis, order):
    script = """
    if not redis.call('SET', KEYS[1], 1, 'NX', 'EX', 60) then return 0 end
    redis.call('XADD', KEYS[2], '*', 'order', ARGV[1])
    return 1
    """
    redis.eval(script, 2, f"confirmed:{order}", "emails", order)


@wrong("09.2", situation="One caller, two orders", because="'43': 1", sequential=True)
def every_time(redis, order):
    redis.xadd("emails", {"order": order})


# 09.3


def group(redis, name, start="0"):
    with suppress(ResponseError):
        redis.xgroup_create("orders", name, id=start, mkstream=True)


def entries(redis, name, after):
    return [
        entry for _, found in redis.xreadgroup(name, name, {"orders": after}) for entry in found
    ]


@wrong("09.3", situation=CRASH, because="ada has lost")
def only_what_is_new(redis, name, handle):
    group(redis, name)
    for entry_id, fields in entries(redis, name, ">"):
        handle(fields["text"])
        redis.xack("orders", name, entry_id)


@wrong("09.3", situation=CRASH, because="ada has lost")
def acknowledges_first(redis, name, handle):
    group(redis, name)
    for after in ("0", ">"):
        for entry_id, fields in entries(redis, name, after):
            redis.xack("orders", name, entry_id)
            handle(fields["text"])


@wrong("09.3", situation=CRASH, because="ada has lost")
def all_acknowledged_at_once_and_first(redis, name, handle):
    group(redis, name)
    for after in ("0", ">"):
        found = entries(redis, name, after)
        if found:
            redis.xack("orders", name, *[entry_id for entry_id, _ in found])
        for _, fields in found:
            handle(fields["text"])


@wrong("09.3", situation="A subscriber that reads twice", because="handled []", sequential=True)
def from_now_on(redis, name, handle):
    group(redis, name, "$")
    for after in ("0", ">"):
        for entry_id, fields in entries(redis, name, after):
            handle(fields["text"])
            redis.xack("orders", name, entry_id)


@wrong("09.3", situation="A subscriber that reads twice", because="unacknowledged", sequential=True)
def never_acknowledges(redis, name, handle):
    group(redis, name)
    for _, fields in entries(redis, name, ">"):
        handle(fields["text"])


@wrong("09.3", situation=CRASH, because="ada has lost")
def without_acknowledgement(redis, name, handle):
    group(redis, name)
    found = redis.xreadgroup(name, name, {"orders": ">"}, noack=True)
    for _, fields in [entry for _, some in found for entry in some]:
        handle(fields["text"])
