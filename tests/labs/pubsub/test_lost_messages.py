"""The experiment of lab 09: who loses what, exactly, over which transport."""

from contextlib import suppress

import pytest
from redis.exceptions import ResponseError

from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.labs.pubsub import LostMessages


def pubsub(redis, names):
    def send(message):
        redis.publish("orders", message)

    def receive(me, handle):
        channel = redis.pubsub(ignore_subscribe_messages=True)
        channel.subscribe("orders")
        for message in channel.listen():
            handle(message["data"])

    return send, receive


def stream(redis, names):
    def send(message):
        redis.xadd("orders", {"text": message})

    def receive(me, handle):
        with suppress(ResponseError):
            redis.xgroup_create("orders", me, id="0", mkstream=True)
        after = "0"
        while True:
            reply = redis.xreadgroup(me, me, {"orders": after}, count=50, block=0)
            for entry_id, fields in reply[0][1]:
                handle(fields["text"])
                redis.xack("orders", me, entry_id)
            if not reply[0][1]:
                after = ">"

    return send, receive


def cursor(redis, names):
    """The place is written down before the message is handled, so nothing is handled twice."""

    def send(message):
        redis.xadd("orders", {"text": message})

    def receive(me, handle):
        while True:
            reply = redis.xread({"orders": redis.get(me) or "0"}, count=1, block=0)
            entry_id, fields = reply[0][1][0]
            redis.set(me, entry_id)
            handle(fields["text"])

    return send, receive


def notified(redis, names):
    """What is published is short, and only a sign that there is something to read."""

    def send(message):
        redis.pipeline().xadd("orders", {"text": message}).publish("news", "orders").execute()

    def receive(me, handle):
        channel = redis.pubsub()
        channel.subscribe("news")
        for _ in channel.listen():
            for entry_id, fields in redis.xrange("orders", f"({redis.get(me) or '0-0'}"):
                handle(fields["text"])
                redis.set(me, entry_id)

    return send, receive


def small(**knobs):
    return LostMessages(**{"messages": 200, "missed": 100, "seconds": 0.2, **knobs})


@pytest.fixture(scope="module")
def loud():
    return small().run(pubsub, live=False)


@pytest.fixture(scope="module")
def silent():
    return small(retries=10).run(pubsub, live=False)


@pytest.fixture(scope="module")
def streamed():
    return small().run(stream, live=False)


def statuses(result):
    return [claim.status for claim in result.verdict.claims]


def lost(result):
    return [result.numbers[f"{who}_lost"] for who in ("steady", "killed", "cut", "late")]


class TestVerdicts:
    @pytest.mark.parametrize("name", ["loud", "silent"])
    def test_pubsub_loses_exactly(self, name, request):
        """Lost is what was sent meanwhile, to the message; by the slow one at least something."""
        result = request.getfixturevalue(name)
        assert lost(result) == [0, 100, 100, 57]
        assert 0 < result.numbers["slow_lost"] <= 100
        assert statuses(result)[:5] == ["holds", *["broken"] * 4]
        assert statuses(result)[6] == "holds"

    def test_reconnects_without_a_word(self, silent, loud):
        """With redis-py's defaults nobody is told; without retries both are."""
        assert statuses(silent)[5] == "broken"
        assert silent.numbers["cut_error"] == silent.numbers["slow_error"] == 0
        assert silent.numbers["cut_connected"] >= 1
        assert statuses(loud)[5] == "holds"
        assert loud.numbers["cut_error"] == loud.numbers["slow_error"] == 1

    def test_stream_repeats(self, streamed):
        """A stream loses nothing; the message that was handled and not acknowledged comes again."""
        assert statuses(streamed) == [*["holds"] * 6, "broken"]
        twice = {who: streamed.numbers[f"{who}_twice"] for who in LostMessages.subscribers}
        assert twice == {"steady": 0, "killed": 1, "cut": 0, "slow": 0, "late": 0}

    def test_all_holds(self):
        """Every claim can hold: here the place is written down first, and the kill comes after."""
        assert set(statuses(small().run(cursor, live=False))) == {"holds"}

    def test_not_exercised(self, streamed):
        """A run in which nothing was cut, or that did not get to its end, says nothing."""
        numbers = streamed.numbers | {"over": 0, "twice": 0}
        assert {claim.status for claim in small().judge(numbers)} == {"not exercised"}
        assert "nothing was put to the test" in small().find(numbers)

    def test_who_is_not_cut_off_was_not_too_slow(self, monkeypatch):
        """Where the server keeps all for it (Valkey 9.1 if each is large), nothing is put to the test."""
        room = "labsupport.labs.pubsub.lost_messages.BUFFER_BYTES"
        monkeypatch.setattr(room, 100_000_000)
        found = small().run(pubsub, live=False)
        assert found.numbers["slow_lost"] == 0
        assert statuses(found)[3] == statuses(found)[5] == "not exercised"

    @pytest.mark.long
    def test_who_is_sent_little_was_too_slow_all_the_same(self):
        """On a busy machine Redis shrinks a buffer that rests for 5 s, and lists what comes then."""
        found = small(messages=1000, missed=500, seconds=16.0).run(notified, live=False)
        assert statuses(found)[3] == statuses(found)[5] == "holds"

    def test_comparison(self, loud, streamed):
        """The comparison holds one way round only."""
        assert statuses(small().compare(loud, streamed, live=False)) == ["holds"]
        assert statuses(small().compare(streamed, loud, live=False)) == ["broken"]

    def test_the_same_text_every_time(self, loud):
        """A verdict holds no number, so that it reads the same after each run."""
        assert str(small().run(pubsub, live=False)) == str(loud)
        assert not any(sign.isdigit() for sign in str(loud))


class TestResult:
    def test_table(self, loud, streamed):
        """Sent is received and lost; what came twice is received twice."""
        for result in (loud, streamed):
            table = small().count(result)
            assert list(table.index) == list(LostMessages.subscribers)
            assert (table["sent"] == 200).all()
            assert (table["received"] - table["twice"] + table["lost"] == table["sent"]).all()

    def test_figure(self, loud, streamed):
        """The title states the finding."""
        for result, found in (
            (loud, "by 4 of 5 subscribers"),
            (streamed, "Nothing is lost; 1 handled twice"),
        ):
            assert any(text.get_text().endswith(found) for text in result.figure.texts)


class TestBadInput:
    @pytest.mark.parametrize(
        "knobs",
        [{"messages": 3}, {"missed": 150}, {"retries": -1}, {"seconds": 0}, {"missed": 1.5}],
        ids=str,
    )
    def test_absurd_knobs(self, knobs):
        """A knob out of its range is refused before anything starts."""
        with pytest.raises(InvalidSettingError, match=next(iter(knobs))):
            small(**knobs)

    def test_raises(self):
        """A receiver that raises is named with its own error."""

        def transport(redis, names):
            def receive(me, handle):
                raise ZeroDivisionError

            return lambda message: None, receive

        with pytest.raises(ImplementationError, match="ZeroDivisionError"):
            small().run(transport, live=False)

    def test_not_the_text(self):
        """What is handled must be the text that was sent."""

        def transport(redis, names):
            send, _ = pubsub(redis, names)

            def receive(me, handle):
                channel = redis.pubsub()
                channel.subscribe("orders")
                for message in channel.listen():
                    handle(message)

            return send, receive

        with pytest.raises(ImplementationError, match="not the text that was sent"):
            small().run(transport, live=False)
