"""The experiment of lab 13: callers of a cache whose server goes away."""

import pytest
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from labsupport.errors import InvalidSettingError
from labsupport.labs.redis_outage import Outage

QUICK = {"socket_timeout": 0.05, "retry": Retry(NoBackoff(), 0)}


def trusting(connect, load):
    return connect().get


def hasty(connect, load):
    return connect(**QUICK).get


def falls_back(connect, load):
    redis = connect(**QUICK)

    def page(key):
        try:
            return redis.get(key) or load(key)
        except RedisError:
            return load(key)

    return page


def gives_up_for_good(connect, load):
    redis, gone = connect(**QUICK), []

    def page(key):
        try:
            return load(key) if gone else redis.get(key)
        except RedisError:
            gone.append(True)
            return load(key)

    return page


@pytest.fixture(scope="module")
def stopped():
    return Outage(clients=2)


@pytest.fixture(scope="module")
def waits(stopped):
    return stopped.run(trusting, live=False)


@pytest.fixture(scope="module")
def loads(stopped):
    return stopped.run(gives_up_for_good, live=False)


def statuses(result):
    return [claim.status for claim in result.verdict.claims]


class TestVerdicts:
    def test_waits_until_it_is_back(self, waits):
        """Who trusts redis-py's defaults waits without an error, and is served nothing."""
        assert statuses(waits) == ["holds", "broken", "broken", "holds"]
        assert waits.numbers["stuck"] == 2

    def test_errors(self, stopped):
        """A timeout alone makes errors of the waiting."""
        assert statuses(stopped.run(hasty, live=False)) == ["broken", "holds", "broken", "holds"]

    @pytest.mark.long
    def test_never_comes_back(self, loads):
        """Who never asks again is served, and Redis is not used."""
        assert statuses(loads) == ["holds", "holds", "holds", "broken"]

    @pytest.mark.parametrize(("fault", "third"), [("killed", "broken"), ("busy", "holds")])
    def test_killed_or_busy(self, fault, third):
        """A dead server and a busy one answer at once; but each request knocks at a dead one's door."""
        found = Outage(clients=2, fault=fault).run(falls_back, live=False)
        assert statuses(found) == ["holds", "holds", third, "holds"]

    def test_comparison(self, stopped, waits, loads):
        """The comparison holds one way round only."""
        assert statuses(stopped.compare(waits, loads, live=False)) == ["holds"]
        assert statuses(stopped.compare(loads, waits, live=False)) == ["broken"]

    def test_not_met(self, stopped, loads):
        """A run in which not every client met the fault says nothing."""
        numbers = loads.numbers | {"all_struck": 0, "back_in_use": 2}
        assert {claim.status for claim in stopped.judge(numbers)} == {"not exercised"}
        assert "nothing was put to the test" in stopped.find(numbers)


def test_figure(waits, loads):
    """The title states the finding."""
    assert any("wait until Redis is back" in text.get_text() for text in waits.figure.texts)
    assert any("not all clients use it" in text.get_text() for text in loads.figure.texts)


def test_absurd_knobs():
    """An outage that is longer than the run is refused, and so is an unknown fault."""
    with pytest.raises(InvalidSettingError, match="away_seconds"):
        Outage(seconds=1.0, away_seconds=1.0)
    with pytest.raises(InvalidSettingError, match="fault is 'tired'"):
        Outage(fault="tired")
