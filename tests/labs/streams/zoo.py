"""Wrong answers to the exercises of lab 11, and why each is refused."""

import zlib
from contextlib import suppress

from redis.exceptions import ConnectionError, ResponseError

from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong

# 11.1


def group(redis, start="0"):
    with suppress(ResponseError):
        redis.xgroup_create("jobs", "mailers", id=start, mkstream=True)


def idle(redis, me, min_idle):
    start = None
    while start != "0-0":
        start, found = redis.xautoclaim("jobs", "mailers", me, min_idle, start or "0-0", count=1)[
            :2
        ]
        if found:
            return found
    return []


def new(redis, me):
    reply = redis.xreadgroup("mailers", me, {"jobs": ">"}, count=1)
    return reply[0][1] if reply else []


def done(redis, handle, entries):
    for entry, fields in entries:
        handle(fields["job"])
        redis.xack("jobs", "mailers", entry)
        return fields["job"]
    return None


@wrong("11.1", because="ada was given None; 'a' (str) is due", sequential=True)
def from_now_on(redis, me, handle, min_idle):
    group(redis, "$")
    return done(redis, handle, idle(redis, me, min_idle) or new(redis, me))


@wrong("11.1", because="BUSYGROUP", sequential=True)
def creates_it_each_time(redis, me, handle, min_idle):
    redis.xgroup_create("jobs", "mailers", id="0", mkstream=True)
    return done(redis, handle, idle(redis, me, min_idle) or new(redis, me))


@wrong("11.1", because="BUSYGROUP")
def looks_for_the_group(redis, me, handle, min_idle):
    if not redis.exists("jobs") or not redis.xinfo_groups("jobs"):
        redis.xgroup_create("jobs", "mailers", id="0", mkstream=True)
    return done(redis, handle, idle(redis, me, min_idle) or new(redis, me))


@wrong("11.1", because="bob was given None; 'a' (str) is due", sequential=True)
def only_new_ones(redis, me, handle, min_idle):
    group(redis)
    return done(redis, handle, new(redis, me))


@wrong("11.1", because="bob was given None; 'a' (str) is due", sequential=True)
def only_its_own(redis, me, handle, min_idle):
    group(redis)
    reply = redis.xreadgroup("mailers", me, {"jobs": "0"}, count=1)
    return done(redis, handle, (reply[0][1] if reply else []) or new(redis, me))


@wrong("11.1", because="pending holds []; ['a'] is due", sequential=True)
def acknowledges_first(redis, me, handle, min_idle):
    group(redis)
    for entry, fields in idle(redis, me, min_idle) or new(redis, me):
        redis.xack("jobs", "mailers", entry)
        try:
            handle(fields["job"])
        except Exception:
            redis.xadd("jobs", fields)
            raise
        return fields["job"]
    return None


@wrong("11.1", because="pending holds []; ['a'] is due", sequential=True)
def without_acknowledgement(redis, me, handle, min_idle):
    group(redis)
    entries = idle(redis, me, min_idle)
    if not entries:
        reply = redis.xreadgroup("mailers", me, {"jobs": ">"}, count=1, noack=True)
        entries = reply[0][1] if reply else []
    for entry, fields in entries:
        try:
            handle(fields["job"])
        except Exception:
            redis.xadd("jobs", fields)
            raise
        redis.xack("jobs", "mailers", entry)
        return fields["job"]
    return None


@wrong("11.1", because="ada was given 'a' (str); None is due", sequential=True)
def claims_what_others_have(redis, me, handle, min_idle):
    group(redis)
    return done(redis, handle, idle(redis, me, 0) or new(redis, me))


@wrong("11.1", because="a PrinterAwayError that reaches the caller is due", sequential=True)
def swallows_the_error(redis, me, handle, min_idle):
    group(redis)
    with suppress(Exception):
        return done(redis, handle, idle(redis, me, min_idle) or new(redis, me))


@wrong("11.1", because="ada was given 'new'; 'late' is due", sequential=True)
def looks_at_ten(redis, me, handle, min_idle):
    """XAUTOCLAIM looks at ten entries for each that it is asked for, and says where it stopped."""
    group(redis)
    found = redis.xautoclaim("jobs", "mailers", me, min_idle, count=1)[1]
    return done(redis, handle, found or new(redis, me))


# 11.2


def deliveries(redis, entry):
    about = redis.xpending_range("jobs", "mailers", entry, entry, 1)
    return about[0]["times_delivered"] if about else None


@wrong("11.2", because="dead holds ['a', 'a']; ['a'] is due")
def buries_then_acknowledges(redis, me, min_idle):
    for entry, fields in idle(redis, me, min_idle):
        if (deliveries(redis, entry) or 9) <= 3:
            return entry, fields["job"]
        redis.xadd("dead", fields)
        redis.xack("jobs", "mailers", entry)
    return None


@wrong("11.2", because="deliveries holds {}; {'1-0': 3} is due")
def acknowledges_then_buries(redis, me, min_idle):
    for entry, fields in idle(redis, me, min_idle):
        if (deliveries(redis, entry) or 9) <= 3:
            return entry, fields["job"]
        if redis.xack("jobs", "mailers", entry):
            redis.xadd("dead", fields)
    return None


@wrong("11.2", because="dead holds ['a', 'a']; ['a'] is due")
def in_a_transaction(redis, me, min_idle):
    for entry, fields in idle(redis, me, min_idle):
        count = deliveries(redis, entry)
        if count is not None and count <= 3:
            return entry, fields["job"]
        redis.pipeline().xadd("dead", fields).xack("jobs", "mailers", entry).execute()
    return None


BURY = """
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
return 1
"""


def bury(redis, entry, fields):
    pairs = [text for pair in fields.items() for text in pair]
    redis.eval(BURY, 2, "jobs", "dead", "mailers", entry, *pairs)


@wrong("11.2", because="ada was given ('1-0', 'a') (tuple); None is due", sequential=True)
def one_too_many(redis, me, min_idle):
    for entry, fields in idle(redis, me, min_idle):
        count = deliveries(redis, entry)
        if count is not None and count <= 4:
            return entry, fields["job"]
        bury(redis, entry, fields)
    return None


@wrong("11.2", because="dead holds ['a']; ['b'] is due", sequential=True)
def one_too_few(redis, me, min_idle):
    for entry, fields in idle(redis, me, min_idle):
        count = deliveries(redis, entry)
        if count is not None and count < 3:
            return entry, fields["job"]
        bury(redis, entry, fields)
    return None


@wrong("11.2", because="dead holds ['a']; [] is due", sequential=True)
def takes_what_is_not_idle(redis, me, min_idle):
    for entry, fields in idle(redis, me, 0):
        count = deliveries(redis, entry)
        if count is not None and count <= 3:
            return entry, fields["job"]
        bury(redis, entry, fields)
    return None


@wrong("11.2", because="IndexError")
def trusts_the_list(redis, me, min_idle):
    for entry, fields in idle(redis, me, min_idle):
        about = redis.xpending_range("jobs", "mailers", entry, entry, 1)[0]
        if about["times_delivered"] <= 3:
            return entry, fields["job"]
        bury(redis, entry, fields)
    return None


@wrong("11.2", because="dead holds ['b']; ['a', 'b'] is due", sequential=True)
def dead_with_its_id(redis, me, min_idle):
    """An entry's ID in dead makes it be there once; but an ID must be greater than those before."""
    for entry, fields in idle(redis, me, min_idle):
        count = deliveries(redis, entry)
        if count is not None and count <= 3:
            return entry, fields["job"]
        with suppress(ResponseError):
            redis.xadd("dead", fields, id=entry)
        redis.xack("jobs", "mailers", entry)
    return None


@wrong("11.2", because="without all its fields", sequential=True)
def keeps_only_the_job(redis, me, min_idle):
    for entry, fields in idle(redis, me, min_idle):
        count = deliveries(redis, entry)
        if count is not None and count <= 3:
            return entry, fields["job"]
        bury(redis, entry, {"job": fields["job"]})
    return None


@wrong("11.2", because="ada was given None; ('12-0', 'late')", sequential=True)
def hands_out_of_ten(redis, me, min_idle):
    """XAUTOCLAIM with COUNT 1 looks at ten pending entries, and says where it stopped."""
    for entry, fields in redis.xautoclaim("jobs", "mailers", me, min_idle, count=1)[1]:
        count = deliveries(redis, entry)
        if count is not None and count <= 3:
            return entry, fields["job"]
        bury(redis, entry, fields)
    return None


# 11.3


@wrong(
    "11.3",
    situation="Several clients at once",
    because="ada was given 5 and bob was given 0. No order of the calls gives that",
)
def marks_first(redis, entry, account, amount):
    if redis.set(f"credited:{entry}", 1, nx=True, ex=86_400):
        return redis.incrby(f"balance:{account}", amount)
    return int(redis.get(f"balance:{account}") or 0)


@wrong(
    "11.3",
    situation="Several clients at once",
    because="ada was given 5 and bob was given 10. No order of the calls gives that",
)
def marks_afterwards(redis, entry, account, amount):
    if redis.exists(f"credited:{entry}"):
        return int(redis.get(f"balance:{account}"))
    balance = redis.incrby(f"balance:{account}", amount)
    redis.set(f"credited:{entry}", 1, ex=86_400)
    return balance


@wrong(
    "11.3",
    situation="Several clients at once",
    because="ada was given 10 and bob was given 5. No order of the calls gives that",
)
def in_a_transaction_11_3(redis, entry, account, amount):
    if redis.exists(f"credited:{entry}"):
        return int(redis.get(f"balance:{account}"))
    pipe = redis.pipeline().set(f"credited:{entry}", 1, ex=86_400)
    return pipe.incrby(f"balance:{account}", amount).execute()[1]


@wrong(
    "11.3",
    situation="Several clients at once",
    because="ada was given 10 and bob was given 5. No order of the calls gives that",
)
def reads_then_writes(redis, entry, account, amount):
    known = redis.get(f"credited:{entry}")
    balance = int(redis.get(f"balance:{account}") or 0)
    if known is None:
        balance += amount
        pipe = redis.pipeline().set(f"credited:{entry}", 1, ex=86_400)
        pipe.set(f"balance:{account}", balance).execute()
    return balance


@wrong(
    "11.3",
    situation="One call after the other",
    because="The key 'credited' has no time to live: it stays for ever",
    sequential=True,
)
def remembers_for_ever(redis, entry, account, amount):
    script = """
    if redis.call('SADD', KEYS[1], ARGV[2]) == 1 then redis.call('INCRBY', KEYS[2], ARGV[1]) end
    return tonumber(redis.call('GET', KEYS[2]))
    """
    return redis.eval(script, 2, "credited", f"balance:{account}", amount, entry)


@wrong(
    "11.3",
    situation="One call after the other",
    because="ada was given 19; 14 is due",
    sequential=True,
)
def forgets_too_soon(redis, entry, account, amount):
    script = """
    if redis.call('SET', KEYS[1], 1, 'NX', 'EX', 60) then redis.call('INCRBY', KEYS[2], ARGV[1]) end
    return tonumber(redis.call('GET', KEYS[2]))
    """
    return redis.eval(script, 2, f"credited:{entry}", f"balance:{account}", amount)


@wrong("11.3", because="ada was given 15; 10 is due", sequential=True)
def forgets_all_at_once(redis, entry, account, amount):
    """The set of an account's entries ends a day after its first one."""
    script = """
    if redis.call('SADD', KEYS[2], ARGV[1]) == 1 then
      redis.call('EXPIRE', KEYS[2], 86400, 'NX')
      redis.call('INCRBY', KEYS[1], ARGV[2])
    end
    return tonumber(redis.call('GET', KEYS[1]))
    """
    return redis.eval(script, 2, f"balance:{account}", f"credited:{account}", entry, amount)


def pending_for(redis, min_idle, count):
    """Of so many that are pending, those that have been for long."""
    rows = redis.xpending_range("jobs", "mailers", "-", "+", count)
    return [row for row in rows if row["time_since_delivered"] >= min_idle]


@wrong("11.1", because="'late' is due", sequential=True)
def looks_at_a_thousand(redis, me, handle, min_idle):
    group(redis)
    for row in pending_for(redis, min_idle, 1_000)[:1]:
        found = redis.xclaim("jobs", "mailers", me, min_idle, [row["message_id"]])
        return done(redis, handle, found or new(redis, me))
    return done(redis, handle, new(redis, me))


@wrong("11.2", because="'late') is due", sequential=True)
def hands_out_of_a_thousand(redis, me, min_idle):
    for row in pending_for(redis, min_idle, 1_000):
        found = redis.xclaim("jobs", "mailers", me, min_idle, [row["message_id"]])
        for entry, fields in found:
            if row["times_delivered"] < 3:
                return entry, fields["job"]
            bury(redis, entry, fields)
    return None


@wrong("11.3", because="ada was given 5; 35 is due", sequential=True)
def remembers_the_balance(redis, entry, account, amount):
    """Of an entry that comes again it tells the balance of then."""
    script = """
    local known = redis.call('GET', KEYS[1])
    if known then return tonumber(known) end
    local balance = redis.call('INCRBY', KEYS[2], ARGV[1])
    redis.call('SET', KEYS[1], balance, 'EX', 86400)
    return balance
    """
    return redis.eval(script, 2, f"credited:{entry}", f"balance:{account}", amount)


@wrong("11.1", because="is due", sequential=True)
def handles_where_it_asks_for_the_group(redis, me, handle, min_idle):
    """An error of Redis that handle raises is taken for a group that is missing."""
    for _ in range(2):
        with suppress(ResponseError):
            return done(redis, handle, idle(redis, me, min_idle) or new(redis, me))
        group(redis)
    return None


def consumed(redis, me, handle, min_idle):
    group(redis)
    return done(redis, handle, idle(redis, me, min_idle) or new(redis, me))


@wrong("11.1", because="ada was given 'a'; ' a\\n' is due", sequential=True)
def returns_it_without_its_blanks(redis, me, handle, min_idle):
    job = consumed(redis, me, handle, min_idle)
    return job and job.strip()


@wrong("11.1", because="what was handled holds ['a']; [' a\\n'] is due", sequential=True)
def handles_it_without_its_blanks(redis, me, handle, min_idle):
    return consumed(redis, me, lambda job: handle(job.strip()), min_idle)


@wrong("11.1", because="ada was given 'a' (str); None is due", sequential=True)
def knows_whole_seconds_only(redis, me, handle, min_idle):
    return consumed(redis, me, handle, min_idle // 1_000 * 1_000)


@wrong("11.1", because="entries; jobs are lost", sequential=True)
def keeps_the_last_hundred_jobs(redis, me, handle, min_idle):
    job = consumed(redis, me, handle, min_idle)
    redis.xtrim("jobs", maxlen=100)
    return job


@wrong("11.1", because="for ever. The contract: “return it, or None”", sequential=True)
def waits_for_a_job_for_ever(redis, me, handle, min_idle):
    group(redis)
    entries = idle(redis, me, min_idle)
    if not entries:
        entries = redis.xreadgroup("mailers", me, {"jobs": ">"}, count=1, block=0)[0][1]
    return done(redis, handle, entries)


DEAD_LETTER = """
if redis.call('%s', KEYS[1], %s ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[2], %s '*', unpack(ARGV, 2))
return 1
"""


def taken(redis, me, min_idle, script):
    for entry, fields in idle(redis, me, min_idle):
        times = deliveries(redis, entry)
        if times and times <= 3:
            return entry, fields["job"]
        pairs = [text for pair in fields.items() for text in pair]
        redis.eval(script, 2, "jobs", "dead", entry, *pairs)
    return None


@wrong("11.2", because="10,201 is due", sequential=True)
def keeps_a_hundred_dead_letters(redis, me, min_idle):
    return taken(redis, me, min_idle, DEAD_LETTER % ("XACK", "'mailers',", "'MAXLEN', 100,"))


@wrong("11.2", because="One more for the 10,200 in dead", sequential=True)
def keeps_ten_thousand_dead_letters(redis, me, min_idle):
    return taken(redis, me, min_idle, DEAD_LETTER % ("XACK", "'mailers',", "'MAXLEN', '~', 10000,"))


@wrong("11.2", because="instead, and acknowledges it", sequential=True)
def deletes_and_does_not_acknowledge(redis, me, min_idle):
    return taken(redis, me, min_idle, DEAD_LETTER % ("XDEL", "", ""))


@wrong("11.3", because="ada was given 5; 35 is due", sequential=True)
def takes_entries_for_numbers(redis, entry, account, amount):
    """1-1 and 1-10 are one number."""
    script = """
    if redis.call('SET', KEYS[1], 1, 'NX', 'EX', 86400) then redis.call('INCRBY', KEYS[2], ARGV[1]) end
    return tonumber(redis.call('GET', KEYS[2]))
    """
    number = float(entry.replace("-", "."))
    return redis.eval(script, 2, f"credited:{number}", f"balance:{account}", amount)


@wrong("11.3", situation="3,000 calls that differ, and the first again", because="is due")
def counts_by_hyperloglog(redis, entry, account, amount):
    script = """
    local new = redis.call('PFADD', KEYS[1], ARGV[2])
    redis.call('EXPIRE', KEYS[1], 86400)
    if new == 1 then redis.call('INCRBY', KEYS[2], ARGV[1]) end
    return tonumber(redis.call('GET', KEYS[2]) or 0)
    """
    keys = f"credited:{account}", f"balance:{account}"
    return redis.eval(script, 2, *keys, amount, entry)


@wrong("11.1", because="a PrinterAwayError that reaches the caller is due", sequential=True)
def tries_it_twice(redis, me, handle, min_idle):
    def twice(job):
        try:
            handle(job)
        except Exception:
            handle(job)

    group(redis)
    return done(redis, twice, idle(redis, me, min_idle) or new(redis, me))


@wrong("11.3", situation="3,000 calls that differ, and the first again", because="is due")
def remembers_sixteen_bits(redis, entry, account, amount):
    """Of entries that follow one another, no two are alike in their checksum."""
    script = """
    if redis.call('SETBIT', KEYS[1], ARGV[2], 1) == 0 then redis.call('INCRBY', KEYS[2], ARGV[1]) end
    redis.call('EXPIRE', KEYS[1], 86400)
    return tonumber(redis.call('GET', KEYS[2]))
    """
    keys = f"credited:{account}", f"balance:{account}"
    return redis.eval(script, 2, *keys, amount, zlib.crc32(entry.encode()) % 65_536)


@wrong("11.1", because="No order of the calls gives that")
def goes_on_when_another_was_faster(redis, me, handle, min_idle):
    """Though the next one has been pending for long, too."""
    group(redis)
    for one in redis.xpending_range("jobs", "mailers", "-", "+", 1, idle=min_idle):
        found = redis.xclaim("jobs", "mailers", me, min_idle, [one["message_id"]])
        if found:
            return done(redis, handle, found)
    return done(redis, handle, new(redis, me))


@wrong("11.1", because="a ConnectionError that reaches the caller is due", sequential=True)
def takes_a_lost_connection_for_its_own(redis, me, handle, min_idle):
    group(redis)
    with suppress(ConnectionError):
        return done(redis, handle, idle(redis, me, min_idle) or new(redis, me))


@wrong("11.1", because="a PrinterAwayError that reaches the caller is due", sequential=True)
def swallows_a_value_error(redis, me, handle, min_idle):
    group(redis)
    with suppress(ValueError):
        return done(redis, handle, idle(redis, me, min_idle) or new(redis, me))


@wrong("11.3", situation="3,000 calls that differ, and the first again", because="is due")
def remembers_the_newest_two_thousand(redis, entry, account, amount):
    script = """
    if redis.call('ZADD', KEYS[1], 'NX', ARGV[3], ARGV[2]) == 1 then
      redis.call('INCRBY', KEYS[2], ARGV[1])
    end
    redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -2001)
    redis.call('EXPIRE', KEYS[1], 86400)
    return tonumber(redis.call('GET', KEYS[2]))
    """
    keys = f"credited:{account}", f"balance:{account}"
    seconds, micros = redis.time()
    return redis.eval(script, 2, *keys, amount, entry, seconds + micros / 1e6)
