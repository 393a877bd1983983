"""The exercises of lab 11: what breaks each stub, and other good answers."""

from contextlib import suppress

import pytest
from redis.exceptions import ResponseError, WatchError

from labsupport import check
from labsupport.exercises.contract import ME, Call, Case
from labsupport.exercises.rehearsal.in_turn import play_after
from labsupport.labs.queues.handling import Handle
from labsupport.labs.streams.deliveries import Consume
from labsupport.labs.streams.exercises import EXERCISES


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: a late group, no end, a second delivery."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert "ada was given None; 'a' (str) is due" in str(first)
    assert "ada was given ('1-0', 'a') (tuple); None is due" in str(second)
    assert "ada was given 10; 5 is due" in str(third)


@pytest.mark.long
class TestOtherGoodAnswers:
    def test_pending_and_claim(self):
        """XPENDING with IDLE and XCLAIM, which asks for the idle time again, as before XAUTOCLAIM."""

        def consume(redis, me, handle, min_idle):
            with suppress(ResponseError):
                redis.xgroup_create("jobs", "mailers", id="0", mkstream=True)
            entries = []
            for one in redis.xpending_range("jobs", "mailers", "-", "+", 10, idle=min_idle):
                entries = redis.xclaim("jobs", "mailers", me, min_idle, [one["message_id"]])
                if entries:
                    break
            if not entries:
                reply = redis.xreadgroup("mailers", me, {"jobs": ">"}, count=1)
                entries = reply[0][1] if reply else []
            for entry, fields in entries:
                handle(fields["job"])
                redis.xack("jobs", "mailers", entry)
                return fields["job"]
            return None

        found = check("11.1", consume)
        assert found.passed, str(found)

    def test_the_latest_of_those_that_wait(self):
        """Which of several that are pending comes first is not said, and two jobs may be alike."""

        def consume(redis, me, handle, min_idle):
            with suppress(ResponseError):
                redis.xgroup_create("jobs", "mailers", id="0", mkstream=True)
            waiting = redis.xpending_range("jobs", "mailers", "-", "+", 100, idle=min_idle)
            entries = []
            while waiting and not entries:
                latest = [waiting.pop()["message_id"]]
                entries = redis.xclaim("jobs", "mailers", me, min_idle, latest)
            if not entries:
                reply = redis.xreadgroup("mailers", me, {"jobs": ">"}, count=1)
                entries = reply[0][1] if reply else []
            for entry, fields in entries:
                handle(fields["job"])
                redis.xack("jobs", "mailers", entry)
                return fields["job"]
            return None

        found = check("11.1", consume)
        assert found.passed, str(found)
        start = Consume.start([("a", "old", 1, 3_600_000), ("a", "bob", 1, 60_000)], [])
        calls = [Call("consume", (ME, Handle(), min_idle)) for min_idle in (0, 600_000)]
        case = Case(start, after=[("ada", call) for call in calls])
        assert play_after(Consume(), {"consume": consume}, case, attack="")[1] is None

    def test_acknowledges_and_deletes(self):
        """A job that was handled may leave the stream as well: XACK and XDEL in one MULTI."""

        def consume(redis, me, handle, min_idle):
            groups = redis.xinfo_groups("jobs") if redis.exists("jobs") else []
            if not groups:
                try:
                    redis.xgroup_create("jobs", "mailers", id="0-0", mkstream=True)
                except ResponseError as error:
                    if "BUSYGROUP" not in str(error):
                        raise
            start, entries = redis.xautoclaim("jobs", "mailers", me, min_idle, count=1)[:2]
            while not entries and start != "0-0":
                start, entries, _ = redis.xautoclaim(
                    "jobs", "mailers", me, min_idle, start, count=1
                )
            if not entries and (reply := redis.xreadgroup("mailers", me, {"jobs": ">"}, count=1)):
                entries = reply[0][1]
            if not entries:
                return None
            ((entry, fields),) = entries
            handle(fields["job"])
            redis.pipeline().xack("jobs", "mailers", entry).xdel("jobs", entry).execute()
            return fields["job"]

        found = check("11.1", consume)
        assert found.passed, str(found)

    def test_count_before_the_claim(self):
        """The count may be read before the job is claimed: then it is one less."""

        def take(redis, me, min_idle):
            bury = """
            if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 1 then
              redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
            end
            """
            for one in redis.xpending_range("jobs", "mailers", "-", "+", 10, idle=min_idle):
                entry = one["message_id"]
                claimed = redis.xclaim("jobs", "mailers", me, min_idle, [entry])
                if not claimed:
                    continue  # somebody was quicker
                ((entry, fields),) = claimed
                if one["times_delivered"] < 3:
                    return entry, fields["job"]
                pairs = [text for pair in fields.items() for text in pair]
                redis.eval(bury, 2, "jobs", "dead", "mailers", entry, *pairs)
            return None

        found = check("11.2", take)
        assert found.passed, str(found)

    def test_transaction_that_watches_a_mark(self):
        """A mark for each entry, watched, makes a MULTI of XADD and XACK as safe as a script."""

        def bury(redis, entry, fields):
            with redis.pipeline() as pipe, suppress(WatchError):
                pipe.watch(f"buried:{entry}")
                if pipe.exists(f"buried:{entry}"):
                    return
                pipe.multi()
                pipe.set(f"buried:{entry}", 1, ex=86_400)
                pipe.xadd("dead", fields)
                pipe.xack("jobs", "mailers", entry)
                pipe.execute()

        def take(redis, me, min_idle):
            start = None
            while start != "0-0":
                start, found, _ = redis.xautoclaim(
                    "jobs", "mailers", me, min_idle, start or "0-0", count=1
                )
                for entry, fields in found:
                    about = redis.xpending_range("jobs", "mailers", entry, entry, 1)
                    if about and about[0]["times_delivered"] <= 3:
                        return entry, fields["job"]
                    bury(redis, entry, fields)
            return None

        found = check("11.2", take)
        assert found.passed, str(found)

    def test_all_in_one_script(self):
        """One script that claims, counts, and buries."""

        def take(redis, me, min_idle):
            script = """
            local start, entry = '0-0', nil
            repeat
              local found = redis.call(
                'XAUTOCLAIM', KEYS[1], 'mailers', ARGV[1], ARGV[2], start, 'COUNT', 1)
              start, entry = found[1], found[2][1]
            until entry or start == '0-0'
            if not entry then return false end
            local about = redis.call('XPENDING', KEYS[1], 'mailers', entry[1], entry[1], 1)[1]
            if about[4] <= 3 then return {entry[1], entry[2][2]} end
            redis.call('XADD', KEYS[2], '*', unpack(entry[2]))
            redis.call('XACK', KEYS[1], 'mailers', entry[1])
            return false
            """
            taken = redis.eval(script, 2, "jobs", "dead", me, min_idle)
            return tuple(taken) if taken else None

        found = check("11.2", take)
        assert found.passed, str(found)

    def test_transaction_that_watches(self):
        """WATCH the mark, then the mark and the balance in one MULTI."""

        def credit(redis, entry, account, amount):
            mark, balance = f"credited:{entry}", f"balance:{account}"
            with redis.pipeline() as pipe:
                while True:
                    pipe.watch(mark)
                    if pipe.exists(mark):
                        return int(pipe.get(balance))
                    pipe.multi()
                    pipe.set(mark, 1, ex=86_400)
                    pipe.incrby(balance, amount)
                    with suppress(WatchError):
                        return pipe.execute()[1]

        found = check("11.3", credit)
        assert found.passed, str(found)

    def test_marks_that_are_called_after_the_balance(self):
        """The name of what is remembered is anybody's choice."""

        def credit(redis, entry, account, amount):
            script = """
            if redis.call('SET', KEYS[1] .. ':' .. ARGV[2], 1, 'NX', 'EX', 86400) then
              return redis.call('INCRBY', KEYS[1], ARGV[1])
            end
            return tonumber(redis.call('GET', KEYS[1]))
            """
            return redis.eval(script, 1, f"balance:{account}", amount, entry)

        found = check("11.3", credit)
        assert found.passed, str(found)

    def test_a_set_of_today(self):
        """One set of entries with a TTL that each new entry prolongs, instead of a key for each."""

        def credit(redis, entry, account, amount):
            script = """
            if redis.call('SADD', KEYS[1], ARGV[1]) == 1 then
              redis.call('EXPIRE', KEYS[1], 86400)
              return redis.call('INCRBY', KEYS[2], ARGV[2])
            end
            return tonumber(redis.call('GET', KEYS[2]))
            """
            return redis.eval(script, 2, f"credited:{account}", f"balance:{account}", entry, amount)

        found = check("11.3", credit)
        assert found.passed, str(found)
