"""The experiment of lab 04: services with a copy each, one of which is cut off for a moment."""

import json
import os
import threading
import time

import numpy as np
import pytest
from redis.backoff import ExponentialBackoff
from redis.cache import CacheConfig
from redis.retry import Retry

from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.labs.cache_invalidation import StaleReads
from labsupport.labs.cache_invalidation.staleness import stale_spans, version_of
from labsupport.processes import process_status

USER = "SELECT * FROM users WHERE id = :id"
RENAME = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id"
TOLD, CUT, TTL = (
    "An update reaches every service that is connected",
    "A service that was cut off learns of the update when it is back",
    "No old row is served for longer than twice the local TTL",
)


def get_user(redis, db, user_id):
    cached = redis.get(f"user:{user_id}")
    if cached is not None:
        return json.loads(cached)
    row = db.fetch_one(USER, id=user_id)
    redis.set(f"user:{user_id}", json.dumps(row), ex=3600)
    return row


def publisher(*, delete=True, forget=False, local_ttl=None):
    """A service that listens; without `delete` the shared cache keeps the old row."""

    def service(connect, db, ttl):
        redis, local = connect(), {}
        subscriber = connect(retry=Retry(ExponentialBackoff(), 10)).pubsub()
        subscriber.subscribe("invalidate")

        def listen():
            for message in subscriber.listen():
                if message["type"] == "message":
                    local.pop(message["data"], None)
                elif forget:
                    local.clear()

        def get(user_id):
            row, until = local.get(f"user:{user_id}", (None, 0))
            if time.monotonic() >= until:
                row = get_user(redis, db, user_id)
                local[f"user:{user_id}"] = row, time.monotonic() + (local_ttl or ttl)
            return row

        def update(user_id, name):
            db.execute(RENAME, id=user_id, name=name)
            if delete:
                redis.delete(f"user:{user_id}")
            redis.publish("invalidate", f"user:{user_id}")

        threading.Thread(target=listen, daemon=True).start()
        return get, update

    return service


def tracked(connect, db, ttl):
    redis = connect(protocol=3, cache_config=CacheConfig())

    def update(user_id, name):
        db.execute(RENAME, id=user_id, name=name)
        redis.delete(f"user:{user_id}")

    return lambda user_id: get_user(redis, db, user_id), update


def no_copy(connect, db, ttl):
    return (
        lambda user_id: db.fetch_one(USER, id=user_id),
        lambda user_id, name: db.execute(RENAME, id=user_id, name=name),
    )


@pytest.fixture(scope="module")
def services():
    return StaleReads(services=2, seconds=0.2)


@pytest.fixture(scope="module")
def lost(services):
    return services.run(publisher(), live=False, name="lost")


@pytest.fixture(scope="module")
def forgot(services):
    return services.run(publisher(forget=True), live=False, name="forgot")


def statuses(result):
    return [claim.status for claim in result.verdict.claims]


class TestVerdicts:
    def test_a_lost_message_costs_a_ttl(self, lost):
        """The service that was cut off is stale until its own copy is too old, the other is not."""
        assert statuses(lost) == ["holds", "broken", "holds"]
        stale = stale_spans(lost.events)
        last = stale[stale[:, 0] == 2]
        assert (last[:, 2] - last[:, 1]).max() / 1e9 == lost.numbers["longest_stale_seconds"]

    def test_to_forget_at_each_subscription_holds(self, forgot):
        """A listener that forgets when it is back learns of what it missed."""
        assert statuses(forgot) == ["holds", "holds", "holds"]

    def test_server_assisted_copies_hold(self, services):
        """redis-py's client-side cache is emptied with the connection that it depends on."""
        found = services.run(tracked, live=False)
        if found.lacking:
            pytest.skip(found.lacking)
        assert statuses(found) == ["holds", "holds", "holds"]
        assert found.numbers["stale_reads"] <= found.numbers["reads"] / 10

    def test_the_shared_cache_keeps_the_old_row(self):
        """If the shared key is never deleted, the message does no good, and there is no end to it."""
        found = StaleReads(services=2, seconds=0.2, ttl_seconds=0.3).run(
            publisher(delete=False), live=False
        )
        assert statuses(found) == ["broken", "broken", "broken"]
        assert "shared cache" in found.figure.texts[0].get_text()

    def test_a_copy_that_ignores_its_ttl(self):
        """Without the net, a lost message is lost for good."""
        found = StaleReads(services=2, seconds=0.2, ttl_seconds=0.3).run(
            publisher(local_ttl=3600), live=False
        )
        assert statuses(found) == ["holds", "broken", "broken"]

    def test_nothing_to_cut_off(self, services):
        """A service that has no connection cannot be cut off: that claim was not exercised."""
        assert statuses(services.run(no_copy, live=False)) == ["holds", "not exercised", "holds"]

    def test_comparison(self, services, lost, forgot):
        """It holds one way round only."""
        assert statuses(services.compare(lost, forgot, live=False)) == ["holds"]
        assert statuses(services.compare(lost, lost, live=False)) == ["broken"]
        assert statuses(services.compare(forgot, forgot, live=False)) == ["broken"]

    def test_a_cut_that_came_too_late(self, services, forgot):
        """A copy that was too old in any case proves nothing."""
        late = forgot.numbers | {"cut_met": 0}
        assert [claim.status for claim in services.judge(late)][1] == "not exercised"
        assert "nothing was put to the test" in services.find(late)

    def test_wrong_rows_are_old_rows(self, services):
        """A service that returns something else has not got the update."""

        def wrong(connect, db, ttl):
            return lambda user_id: {"username": "eve"}, lambda user_id, name: None

        assert statuses(services.run(wrong, live=False))[0] == "broken"

    def test_the_same_text_every_time(self, services, lost):
        """A verdict holds no number."""
        again = services.run(publisher(), live=False, name="lost")
        assert str(again) == str(lost)
        assert [claim.text for claim in lost.verdict.claims] == [TOLD, CUT, TTL]
        assert not any(sign.isdigit() for sign in str(lost))

    def test_stuck(self, services, forgot):
        """A service that never answers breaks what it ought to hold."""
        stuck = forgot.numbers | {"stuck": 1}
        assert [claim.status for claim in services.judge(stuck)] == ["broken", "holds", "broken"]
        assert services.find(stuck) == "1 of 2 services never answers"


class TestStaleness:
    def test_versions(self):
        """The number in a name says which update a row is of."""
        names = [
            {"username": "ada"},
            {"username": "ada 12"},
            {"username": "eve"},
            {},
            None,
            "ada 3",
        ]
        assert [version_of(row) for row in names] == [1, 12, 0, 0, 0, 0]

    def test_spans_cover_the_reads(self, lost):
        """Each service's stretches, old and new, follow one another without a gap."""
        spans = np.concatenate([stale_spans(lost.events), stale_spans(lost.events, stale=False)])
        for row in (1, 2):
            mine = spans[spans[:, 0] == row]
            mine = mine[np.argsort(mine[:, 1])]
            assert (mine[1:, 1] == mine[:-1, 2]).all()


def test_titles(lost, forgot):
    """The title states the finding."""
    assert lost.figure.texts[0].get_text().startswith("Cut off for a moment, service 2 is stale")
    assert forgot.figure.texts[0].get_text().startswith("No service serves an old row for longer")


@pytest.mark.parametrize(
    "knobs", [{"services": 1}, {"services": 2.5}, {"ttl_seconds": 0}, {"seconds": "long"}], ids=str
)
def test_absurd_knobs(knobs):
    """A knob out of its range is refused before anything starts."""
    with pytest.raises(InvalidSettingError, match=next(iter(knobs))):
        StaleReads(**knobs)


def test_raises(services):
    """A service that raises is named with its own line."""

    def service(connect, db, ttl):
        return lambda user_id: connect().get("nothing").upper(), None

    with pytest.raises(ImplementationError, match="AttributeError"):
        services.run(service, live=False)


def test_an_end_while_a_service_is_stopped(services, tmp_path):
    """An error in the update that the stopped service misses ends all processes, that one too."""

    def service(connect, db, ttl):
        connect().ping()
        (tmp_path / str(os.getpid())).touch()

        def update(user_id, name):
            if name == "ada 3":
                raise ZeroDivisionError("on purpose")
            db.execute(RENAME, id=user_id, name=name)

        return lambda user_id: db.fetch_one(USER, id=user_id), update

    with pytest.raises(ImplementationError, match="on purpose"):
        services.run(service, live=False)
    processes = [int(path.name) for path in tmp_path.iterdir()]
    assert len(processes) == 3
    assert {process_status(process) for process in processes} == {"dead"}
