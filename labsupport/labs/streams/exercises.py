"""The exercises of lab 11: no job skipped, three deliveries, and one effect."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

from contextlib import suppress

from redis.exceptions import ResponseError

from labsupport.exercises import Exercise
from labsupport.exercises.judge import judged_by
from labsupport.labs.streams.checks import consume_of_many, credit_of_many, take_really
from labsupport.labs.streams.contracts import Credit
from labsupport.labs.streams.deliveries import Consume, Take

__all__ = ["EXERCISES"]


def consume_stub(redis, me, handle, min_idle):
    """Handle one job of the stream jobs as consumer me of the group mailers; return it, or None.

    Jobs added before the group existed count, too; many consumers begin at once. A job
    that has been pending for min_idle ms comes before a new one. It is acknowledged when it was
    handled: a job whose handle raises (the error reaches the caller), or whose consumer is killed,
    is handled again later. The field is "job".
    """
    with suppress(ResponseError):
        redis.xgroup_create("jobs", "mailers", id="$", mkstream=True)
    reply = redis.xreadgroup("mailers", me, {"jobs": ">"}, count=1)
    for _, entries in reply:
        for entry, fields in entries:
            redis.xack("jobs", "mailers", entry)
            handle(fields["job"])
            return fields["job"]
    return None


def consume_solution(redis, me, handle, min_idle):
    """Handle one job of the stream jobs as consumer me of the group mailers; return it, or None."""
    with suppress(ResponseError):  # BUSYGROUP: it is there
        redis.xgroup_create("jobs", "mailers", id="0", mkstream=True)
    start, entries = redis.xautoclaim("jobs", "mailers", me, min_idle, count=1)[:2]
    while not entries and start != "0-0":  # COUNT 1 looks at ten entries, and says where it stopped
        start, entries = redis.xautoclaim("jobs", "mailers", me, min_idle, start, count=1)[:2]
    if not entries:
        reply = redis.xreadgroup("mailers", me, {"jobs": ">"}, count=1)
        entries = reply[0][1] if reply else []
    for entry, fields in entries:
        handle(fields["job"])
        redis.xack("jobs", "mailers", entry)
        return fields["job"]
    return None


def take_stub(redis, me, min_idle):
    """Take a job that has been pending for min_idle ms; return (entry, job), or None.

    The stream is jobs; the group is mailers, and exists. A job is handed out three times at the
    most: the next to find it puts it into the stream dead, with the same fields, instead, and
    acknowledges it. Many do this at once, and may be killed: no job is lost, and none is in dead
    twice.
    """
    for entry, fields in redis.xautoclaim("jobs", "mailers", me, min_idle, count=1)[1]:
        return entry, fields["job"]
    return None


def take_solution(redis, me, min_idle):
    """Take a job that has been pending for min_idle ms; return (entry, job), or None."""
    bury = """
    -- KEYS: jobs, dead; ARGV: group, entry, the fields; returns 1, or 0 when it was done before.
    if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
    redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
    return 1
    """
    start = None
    while start != "0-0":  # COUNT 1 looks at ten entries, and says where it stopped
        start, found = redis.xautoclaim("jobs", "mailers", me, min_idle, start or "0-0", count=1)[
            :2
        ]
        for entry, fields in found:
            about = redis.xpending_range("jobs", "mailers", entry, entry, 1)
            if about and about[0]["times_delivered"] <= 3:
                return entry, fields["job"]
            pairs = [text for pair in fields.items() for text in pair]
            redis.eval(bury, 2, "jobs", "dead", "mailers", entry, *pairs)
    return None


def credit_stub(redis, entry, account, amount):
    """Add amount to the number in balance:{account}, once for each entry; return the balance.

    An entry is delivered again whenever its consumer was killed before the XACK, perhaps while
    the first one still works on it. It counts once, no matter who is killed when. What is
    remembered of an entry may be forgotten after a day, and no key but the balances stays for ever.
    """
    return redis.incrby(f"balance:{account}", amount)


def credit_solution(redis, entry, account, amount):
    """Add amount to the number in balance:{account}, once for each entry; return the balance."""
    once = """
    -- KEYS: the mark, the balance; ARGV: the amount, the mark's seconds; returns the balance.
    if redis.call('SET', KEYS[1], 1, 'NX', 'EX', ARGV[2]) then
      redis.call('INCRBY', KEYS[2], ARGV[1])
    end
    return tonumber(redis.call('GET', KEYS[2]))
    """
    return redis.eval(once, 2, f"credited:{entry}", f"balance:{account}", amount, 86_400)


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="11.1",
        title="No job skipped, none acknowledged too early",
        stub=consume_stub,
        solution=consume_solution,
        hints=(
            "Three things are wrong: where the group starts, when the `XACK` comes, and that nobody "
            "ever looks at what is pending.",
            "`id='0'`: all that is in the stream. Before new ones, `start, entries = "
            "redis.xautoclaim('jobs', 'mailers', me, min_idle, count=1)[:2]` gives what was left. It "
            "looks at ten entries for each that you ask for; `start` says where to go on.",
            "Group; `xautoclaim(…)` from `start` to `start` until it gives an entry, or `start` is "
            "`'0-0'`; if there was none, `reply = xreadgroup(…)` and `reply[0][1]`; then `handle`, then "
            "`XACK`. Let an error of `handle` pass: the job stays pending by itself.",
        ),
        check=judged_by(Consume(), also=consume_of_many),
    ),
    Exercise(
        number="11.2",
        title="Three deliveries, then the dead letters",
        stub=take_stub,
        solution=take_solution,
        hints=(
            "The server counts deliveries: `XPENDING` with a range shows `times_delivered`, and "
            "`XAUTOCLAIM` has just added one.",
            "Between the `XADD` to dead and the `XACK` you may be killed; put them into one step. And "
            "two may find the same job: which of them may put it into dead?",
            "A script: `if XACK == 0 then return 0`, then `XADD`. Only the one whose `XACK` says 1 has "
            "the right to bury it.",
        ),
        check=judged_by(Take(), also=take_really),
    ),
    Exercise(
        number="11.3",
        title="Delivered twice, credited once",
        stub=credit_stub,
        solution=credit_solution,
        hints=(
            "Remember which entries have been credited. Is the mark set before the balance is changed, "
            "or after? What if you are killed in between?",
            "Neither order is right with two commands. The mark and the balance must change in one step.",
            "A script: `if SET credited:{entry} 1 NX EX 86400 then INCRBY balance end`, and it returns "
            "`tonumber(GET balance)`.",
        ),
        check=judged_by(Credit(), also=credit_of_many),
    ),
)
