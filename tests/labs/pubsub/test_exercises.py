"""The exercises of lab 09: what breaks each stub, and other good answers."""

from contextlib import suppress

import pytest
from redis.exceptions import ResponseError, WatchError

from labsupport import check
from labsupport.labs.pubsub import confirm_checks
from labsupport.labs.pubsub.exercises import EXERCISES
from tests.exercises.zoo import schedule


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: a message twice, two who claim, an entry in hand."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert "is due. The contract: “The copy is always the stock as it was" in first.reason
    assert "the orders in emails holds ['42', '42']; ['42'] is due" in str(second)
    assert schedule(third) == "XINFO XTRIM"
    assert "though bob still needs it: 5-10" in str(third)


@pytest.mark.long
class TestOtherGoodAnswers:
    @pytest.mark.parametrize("way", ["script", "until it is the same", "watch"])
    def test_copy_of_one_moment(self, way):
        """The version and the stock of one moment, by a script, a second look, or WATCH."""

        def script(redis):
            text = "return {redis.call('GET', KEYS[1]), redis.call('HGETALL', KEYS[2])}"
            version, found = redis.eval(text, 2, "version", "stock")
            return version, dict(zip(found[::2], found[1::2], strict=True))

        def until_it_is_the_same(redis):
            version = redis.get("version")
            while True:
                found, after = redis.hgetall("stock"), redis.get("version")
                if after == version:
                    return version, found
                version = after

        def watch(redis):
            def read(pipe):
                version = pipe.get("version")
                pipe.multi()
                pipe.hgetall("stock")
                versions.append(version)

            versions = []
            (found,) = redis.transaction(read, "version")
            return versions[-1], found

        anew = {"script": script, "until it is the same": until_it_is_the_same, "watch": watch}[way]

        def follow(redis, version, stock, message):
            match message:
                case (number, product, change) if number == version + 1:
                    stock[product] = stock.get(product, 0) + change
                    return number, stock
                case (number, _, _) if number <= version:
                    return version, stock
            number, found = anew(redis)
            return int(number or 0), {name: int(pieces) for name, pieces in found.items()}

        found = check("09.1", follow)
        assert found.passed, str(found)

    def test_watch(self):
        """A claim and its entry in one MULTI that depends on the claim not being there."""

        def confirm(redis, order):
            with redis.pipeline() as pipe:
                while True:
                    pipe.watch("confirmed")
                    if pipe.sismember("confirmed", order):
                        return
                    pipe.multi()
                    pipe.sadd("confirmed", order)
                    pipe.xadd("emails", {"order": order})
                    with suppress(WatchError):
                        pipe.execute()
                        return

        found = check("09.2", confirm)
        assert found.passed, str(found)

    def test_look_through_the_whole_stream(self, monkeypatch):
        """Whoever watches the stream needs no other key; with each order it takes longer."""
        monkeypatch.setattr(confirm_checks, "_SECONDS", 1.0)

        def confirm(redis, order):
            def queue(pipe):
                there = any(fields["order"] == order for _, fields in pipe.xrange("emails"))
                pipe.multi()
                if not there:
                    pipe.xadd("emails", {"order": order})

            redis.transaction(queue, "emails")

        found = check("09.2", confirm)
        assert found.passed, str(found)

    def test_field_of_a_hash(self):
        """HSETNX claims as well as SADD, in a script with the entry."""

        def confirm(redis, order):
            script = """
            if redis.call('HSETNX', KEYS[1], ARGV[1], 1) == 1 then
              redis.call('XADD', KEYS[2], '*', 'order', ARGV[1])
            end
            """
            redis.eval(script, 2, "confirmed", "emails", order)

        found = check("09.2", confirm)
        assert found.passed, str(found)

    def test_groups_of_one_moment(self):
        """All that is known of the groups, read in one MULTI, may be asked in any order."""

        def trim(redis, names):
            pipe = redis.pipeline()
            for name in names:
                pipe.xpending("orders", name)
            *pending, groups = pipe.xinfo_groups("orders").execute(raise_on_error=False)
            last = {group["name"]: group["last-delivered-id"] for group in groups}
            if any(isinstance(one, ResponseError) for one in pending):
                return
            ids = []
            for name, one in zip(names, pending, strict=True):
                ms, sequence = map(int, (one["min"] or last[name]).split("-"))
                ids.append((ms, sequence + (one["min"] is None)))
            redis.xtrim("orders", minid="{}-{}".format(*min(ids)), approximate=False)

        found = check("09.3", trim)
        assert found.passed, str(found)

    def test_entry_by_entry(self):
        """From the oldest on, XDEL what no group needs, each asked for how far it has read first."""

        def trim(redis, names):
            for entry, _ in redis.xrange("orders"):
                for name in names:
                    groups = redis.xinfo_groups("orders")
                    last = next(
                        (one["last-delivered-id"] for one in groups if one["name"] == name), "0-0"
                    )
                    if tuple(map(int, last.split("-"))) < tuple(map(int, entry.split("-"))):
                        return
                    if redis.xpending_range("orders", name, entry, entry, 1):
                        return
                redis.xdel("orders", entry)

        found = check("09.3", trim)
        assert found.passed, str(found)

    def test_script(self):
        """One script in which nothing can come between the questions and the XTRIM."""
        script = """
        local function parts(id)
          local ms, sequence = string.match(id, '(%d+)-(%d+)')
          return tonumber(ms), tonumber(sequence)
        end
        local read, ms, sequence = {}, math.huge, 0
        for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
          read[group[2]] = group[8]
        end
        for _, name in ipairs(ARGV) do
          if not read[name] then return 0 end
          local oldest = redis.call('XPENDING', KEYS[1], name)[2]
          local m, s = parts(oldest or read[name])
          if not oldest then s = s + 1 end
          if m < ms or (m == ms and s < sequence) then ms, sequence = m, s end
        end
        return redis.call('XTRIM', KEYS[1], 'MINID', string.format('%d-%d', ms, sequence))
        """

        def trim(redis, names):
            redis.eval(script, 1, "orders", *names)

        found = check("09.3", trim)
        assert found.passed, str(found)
