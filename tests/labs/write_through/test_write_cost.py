"""The experiment of lab 02: what a write costs, and for whom the memory is."""

import json

import pytest

from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.labs.write_through import WriteCost

RENAME = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id RETURNING *"
WRITTEN, READ = (
    "Every row is written while the reader follows the page views",
    "No memory is spent on rows that nobody reads",
)


def through(redis, db, user_id, name):
    row = db.fetch_one(RENAME, id=user_id, name=name)
    redis.set(f"user:{user_id}", json.dumps(row), ex=3600)


def around(redis, db, user_id, name):
    db.fetch_one(RENAME, id=user_id, name=name)
    redis.delete(f"user:{user_id}")


def only_database(redis, db, user_id, name):
    db.fetch_one(RENAME, id=user_id, name=name)


@pytest.fixture(scope="module")
def cost():
    return WriteCost(views=100, seconds=0.2)


@pytest.fixture(scope="module")
def filled(cost):
    return cost.run(through, live=False)


@pytest.fixture(scope="module")
def spared(cost):
    return cost.run(around, live=False)


def statuses(result):
    return [claim.status for claim in result.verdict.claims]


class TestVerdicts:
    def test_through_fills_the_cache_for_nobody(self, filled):
        """Each of the thousand rows is cached, and the first hundred views need few of them."""
        assert statuses(filled) == ["holds", "broken"]
        assert filled.numbers["rows_written"] == 1000
        assert filled.numbers["never_read_bytes"] > 0.8 * filled.numbers["cached_bytes"] > 0

    def test_around_keeps_what_is_read(self, cost, spared):
        """Only a reader fills the cache, so all that is there was read."""
        assert statuses(spared) == ["holds", "holds"]
        assert statuses(cost.run(only_database, live=False)) == ["holds", "holds"]

    def test_other_keys_of_a_row_count_as_well(self, cost):
        """A fence beside each row is memory for a row that nobody reads, too."""

        def fenced(redis, db, user_id, name):
            around(redis, db, user_id, name)
            redis.set(f"user:{user_id}:version", 1, ex=86400)

        assert statuses(cost.run(fenced, live=False)) == ["holds", "broken"]

    def test_comparison(self, cost, filled, spared):
        """It holds one way round only."""
        assert statuses(cost.compare(filled, spared, live=False)) == ["holds"]
        assert statuses(cost.compare(spared, filled, live=False)) == ["broken"]

    def test_not_all_written(self, cost, spared):
        """A run in which a row was not written, or a view not followed, says nothing."""
        for gap in ({"all_written": 0}, {"all_followed": 0}):
            assert {one.status for one in cost.judge(spared.numbers | gap)} == {"not exercised"}

    def test_stuck(self, cost, spared):
        """A writer that never comes back breaks the run's first claim."""
        stuck = spared.numbers | {"stuck": 1}
        assert cost.judge(stuck)[0].status == "broken"
        assert cost.find(stuck) == "The writer never came back"

    def test_the_same_text_every_time(self, cost, filled):
        """A verdict holds no number."""
        assert str(cost.run(through, live=False)) == str(filled)
        assert [claim.text for claim in filled.verdict.claims] == [WRITTEN, READ]
        assert not any(sign.isdigit() for sign in str(filled))


def test_titles_and_axes(cost, filled, spared):
    """The title states the finding, and a comparison has one scale for each column."""
    assert filled.figure.texts[0].get_text().endswith("of the memory is for rows that nobody reads")
    assert "Only what is read is cached" in spared.figure.texts[0].get_text()
    both = cost.compare(filled, spared, live=False).figure
    assert both.texts[0].get_text().startswith("For nobody:")
    assert len({axes.get_ylim() for axes in both.axes}) == 2


def test_history(filled):
    """Each write and each view is there, with its time."""
    counts = filled.history["event"].value_counts()
    assert counts["view"] == 100
    assert counts["write"] == filled.numbers["writes"]


@pytest.mark.parametrize("knobs", [{"views": 0}, {"views": 2.5}, {"seconds": -1}], ids=str)
def test_absurd_knobs(knobs):
    """A knob out of its range is refused before anything starts."""
    with pytest.raises(InvalidSettingError, match=next(iter(knobs))):
        WriteCost(**knobs)


def test_raises(cost):
    """A function that raises is named with its own line."""

    def update(redis, db, user_id, name):
        raise ZeroDivisionError("on purpose")

    with pytest.raises(ImplementationError, match="on purpose"):
        cost.run(update, live=False)
