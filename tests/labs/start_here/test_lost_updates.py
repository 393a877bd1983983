"""The experiment of lab 00: processes that count in one key."""

import matplotlib.figure
import pytest

from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.labs.start_here import LostUpdates


def read_then_write(redis, key):
    number = int(redis.get(key) or 0) + 1
    redis.set(key, number)
    return number


def increment(redis, key):
    return redis.incr(key)


def increment_then_read(redis, key):
    redis.incr(key)
    return int(redis.get(key))


@pytest.fixture(scope="module")
def race():
    return LostUpdates(clients=2, seconds=0.2)


@pytest.fixture(scope="module")
def naive(race):
    return race.run(read_then_write, live=False)


@pytest.fixture(scope="module")
def repaired(race):
    return race.run(increment, live=False)


def statuses(result):
    return [claim.status for claim in result.verdict.claims]


class TestVerdicts:
    def test_read_then_write_loses(self, naive):
        """Two processes that read and then write lose visits, and know nothing of it."""
        assert statuses(naive) == ["holds", "broken", "broken"]
        assert naive.numbers["lost"] > 0
        assert naive.numbers["visits"] == naive.numbers["counted"] + naive.numbers["lost"]

    def test_increment_loses_nothing(self, repaired):
        """With one command for all of it every visit is counted, and has its own number."""
        assert statuses(repaired) == ["holds", "holds", "holds"]
        assert repaired.numbers["visits"] == repaired.numbers["counted"] > 0

    def test_right_count_and_wrong_numbers(self, race):
        """A counter that is right in the end can still give two visitors one number."""
        found = race.run(increment_then_read, live=False)
        assert statuses(found) == ["holds", "holds", "broken"]

    def test_no_number_at_all(self, race):
        """A function that returns nothing gives no visitor a number of their own."""
        found = race.run(lambda redis, key: redis.incr(key) and None, live=False)
        assert statuses(found) == ["holds", "holds", "broken"]

    def test_comparison(self, race, naive, repaired):
        """The comparison holds one way round only."""
        assert statuses(race.compare(naive, repaired, live=False)) == ["holds"]
        assert statuses(race.compare(repaired, naive, live=False)) == ["broken"]

    @pytest.mark.parametrize(("at_once", "status"), [(0, "not exercised"), (1, "holds")])
    def test_never_at_the_same_time(self, race, repaired, at_once, status):
        """A run in which nobody met anybody says nothing."""
        numbers = repaired.numbers | {"at_the_same_time": at_once}
        assert {claim.status for claim in race.judge(numbers)} == {status}

    def test_the_same_text_every_time(self, race, naive):
        """A verdict holds no number, so that it reads the same after each run."""
        assert str(race.run(read_then_write, live=False)) == str(naive)
        assert not any(sign.isdigit() for sign in str(naive))


class TestResult:
    def test_history(self, naive):
        """The history has each visit with its client, its time and the number it was given."""
        frame = naive.history
        assert set(frame["event"]) == {"visit", "counter"}
        frame = frame[frame["event"] == "visit"]
        assert len(frame) == naive.numbers["visits"]
        assert set(frame["client"]) == {0, 1}
        assert (frame["end_seconds"] >= frame["start_seconds"]).all()
        assert frame["value"].nunique() < len(frame)

    def test_figure(self, race, naive, repaired):
        """The title states the finding."""
        assert isinstance(naive.figure, matplotlib.figure.Figure)
        words = [text.get_text() for text in naive.figure.texts]
        assert any(word.endswith("visits are lost") for word in words)
        words = [text.get_text() for text in repaired.figure.texts]
        assert any(word.endswith("visits are counted") for word in words)
        both = race.compare(naive, repaired, live=False).figure
        assert len({axes.get_ylim() for axes in both.axes}) == 1

    def test_the_chart_says_what_the_counter_says(self, race):
        """The line ends at what Redis holds, whatever the visit that ended last was told."""
        found = race.run(lambda redis, key: redis.incr(key) and 1, live=False)
        words = {text.get_text() for axes in found.figure.axes for text in axes.texts}
        assert f"counted {found.numbers['counted']:,}" in words, words

    def test_counts_on_past_wrong_replies(self, race, naive):
        """The finding names what is worst."""
        stuck = naive.numbers | {"stuck": 1}
        assert "never came back" in race.find(stuck)
        shared = naive.numbers | {"lost": 0}
        assert "share their number" in race.find(shared)
        assert [claim.status for claim in race.judge(stuck)][1] == "broken"


class TestBadInput:
    @pytest.mark.parametrize(
        "knobs",
        [{"clients": 1}, {"clients": 2.5}, {"clients": -3}, {"seconds": 0}, {"seconds": "long"}],
        ids=str,
    )
    def test_absurd_knobs(self, knobs):
        """A knob out of its range is refused before anything starts."""
        with pytest.raises(InvalidSettingError, match=next(iter(knobs))):
            LostUpdates(**knobs)

    def test_raises(self, race):
        """A function that raises is named with its own line."""

        def count(redis, key):
            return redis.incr(key) / 0

        with pytest.raises(ImplementationError, match="ZeroDivisionError"):
            race.run(count, live=False)

    def test_not_a_counter(self, race):
        """A key that holds no number in the end is no counter."""

        def count(redis, key):
            redis.set(key, "many")
            return 1

        assert statuses(race.run(count, live=False))[1] == "broken"
