"""The exercises of lab 09: read what was missed, one e-mail for all, and a message kept."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

from contextlib import suppress

from redis.exceptions import ResponseError

from labsupport.exercises import Exercise
from labsupport.exercises.pubsub_checks import check_catch_up, check_confirm, check_read_inbox

__all__ = ["EXERCISES"]


def catch_up_stub(redis, name, handle):
    """Handle each message that subscriber `name` has not handled yet, oldest first, then return.

    Messages are the fields "text" of the entries of the stream orders; each subscriber gets all
    of them, those from before its first call as well. Keep what has been handled under a key that
    begins with orders:. A crash loses nothing; without one, nothing is handled twice.
    """
    cursor = redis.get(f"orders:{name}") or "0-0"
    for entry_id, fields in redis.xrange("orders", f"({cursor}"):
        redis.set(f"orders:{name}", entry_id)
        handle(fields["text"])


def catch_up_solution(redis, name, handle):
    """Handle each message that subscriber `name` has not handled yet, oldest first, then return."""
    cursor = redis.get(f"orders:{name}") or "0-0"
    for entry_id, fields in redis.xrange("orders", f"({cursor}"):
        handle(fields["text"])
        redis.set(f"orders:{name}", entry_id)  # after it is handled: a crash repeats, never skips


def confirm_stub(redis, order):
    """Queue one confirmation of `order`: one entry of the stream emails, with the field "order".

    Every subscriber that hears of an order calls this, so it is called several times for one
    order, also at once. A caller may crash at any step; when another one then calls, there is
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


def read_inbox_stub(redis, name, handle):
    """Handle all that waits for `name` in the stream orders, through the group `name`; return then.

    The group may not be there yet: it begins with the oldest message. What was delivered and not
    acknowledged comes first. A message (the field "text") is acknowledged after it is handled, and
    a crash at any step loses nothing. The consumer is called `name`, too.
    """
    with suppress(ResponseError):  # BUSYGROUP: it is there already
        redis.xgroup_create("orders", name, id="$", mkstream=True)
    for _, entries in redis.xreadgroup(name, name, {"orders": ">"}) or []:
        for entry_id, fields in entries:
            redis.xack("orders", name, entry_id)
            handle(fields["text"])


def read_inbox_solution(redis, name, handle):
    """Handle all that waits for `name` in the stream orders, through the group `name`; return then."""
    with suppress(ResponseError):  # BUSYGROUP: it is there already
        redis.xgroup_create("orders", name, id="0", mkstream=True)
    for after in ("0", ">"):  # what was delivered before, then what is new
        for _, entries in redis.xreadgroup(name, name, {"orders": after}):
            for entry_id, fields in entries:
                handle(fields["text"])
                redis.xack("orders", name, entry_id)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="09.1",
        title="Read from where you were",
        stub=catch_up_stub,
        solution=catch_up_solution,
        hints=(
            "A crash may come in place of any step. What has been written down by then, and what "
            "has been handled?",
            "Write the cursor down after a message is handled, not before: a message that is handled "
            "again can be made harmless, one that is skipped cannot be had back.",
            "`GET` the cursor, or `0-0`; `XRANGE orders (cursor +`; for each entry: handle it, then "
            "`SET` the cursor to its id.",
        ),
        check=check_catch_up,
    ),
    Exercise(
        number="09.2",
        title="One e-mail, though everybody heard",
        stub=confirm_stub,
        solution=confirm_solution,
        hints=(
            "Two callers can both find that nobody has confirmed yet. Which command both asks and "
            "claims?",
            "`SADD` says whether the member is new. But whoever claims and then crashes has queued "
            "nothing: the claim and the entry must be one step.",
            "A script: if `SADD confirmed order` is 0, return; else `XADD emails * order …`. Or "
            "`WATCH`, look, and both commands in a MULTI.",
        ),
        check=check_confirm,
    ),
    Exercise(
        number="09.3",
        title="A group of your own, and nothing lost in it",
        stub=read_inbox_stub,
        solution=read_inbox_solution,
        hints=(
            "Where does a group begin to read, and what happens if two processes create it, or one "
            "crashes in between?",
            '`id="0"` with `mkstream`, and BUSYGROUP is no error. What was delivered to a process '
            "that died is not delivered again by `>`: ask for it with `0`.",
            "Create the group, or go on if it is there; `XREADGROUP` first with `0`, then with `>`; "
            "for each entry: handle, then `XACK`.",
        ),
        check=check_read_inbox,
    ),
)
