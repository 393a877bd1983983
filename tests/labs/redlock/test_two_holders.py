"""The experiment of lab 08: two clients, one lock, and servers that fail."""

import secrets
import time
from contextlib import suppress

import pytest
import redis

from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.labs.redlock import TwoHolders
from labsupport.workers import point

FREE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"
PACE = 0.01


def vote(nodes, token, ttl):
    votes = 0
    for node in nodes:
        with suppress(redis.RedisError):
            votes += bool(node.set("lock", token, nx=True, px=int(ttl * 1000)))
    return votes > len(nodes) // 2


def free(nodes, token):
    for node in nodes:
        with suppress(redis.RedisError):
            node.eval(FREE, 1, "lock", token)


def sell(nodes, db, ttl, claim=False):
    token, start = secrets.token_hex(), time.monotonic()
    if not vote(nodes, token, ttl):
        free(nodes, token)
        return False
    point("holds")
    if claim:
        db.execute("UPDATE products SET claimed_by = :token WHERE id = 1", token=token)
    stock = db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"]
    sold = False
    if stock and time.monotonic() < start + ttl:
        point("writes")
        update = "UPDATE products SET stock = :left WHERE id = 1"
        mine = f" AND claimed_by = '{token}'" if claim else ""
        sold = db.execute(update + mine, left=stock - 1) == 1
    point("frees")
    free(nodes, token)
    return sold


def sell_claimed(nodes, db, ttl):
    return sell(nodes, db, ttl, claim=True)


def run(function=sell, **knobs):
    return TwoHolders(pace_seconds=PACE, **knobs).run(function, live=False)


def statuses(result):
    return [claim.status for claim in result.verdict.claims]


class TestVerdicts:
    @pytest.mark.parametrize("down", [0, 1, 2])
    def test_a_majority_is_enough(self, down):
        """With up to two of five nodes dead one client has the lock, and the other is refused."""
        assert statuses(run(down=down)) == ["holds", "holds", "holds"]

    def test_no_majority(self):
        """With three dead nodes nobody gets the lock."""
        found = run(down=3)
        assert statuses(found) == ["not exercised", "not exercised", "broken"]
        assert found.figure.texts[0].get_text() == "Nobody gets the lock"

    def test_an_empty_restart_gives_two_majorities(self):
        """A node that comes back empty votes twice; the one piece is sold twice."""
        found = run(fault="restart")
        assert statuses(found) == ["broken", "broken", "holds"]
        assert found.numbers["sold"] == 2

    @pytest.mark.parametrize(
        "knobs", [{"remedy": "fsync"}, {"remedy": "delay", "ttl_seconds": 0.5}]
    )
    def test_remedies_of_a_restart(self, knobs):
        """What a node wrote to disk, or a restart after the TTL, keeps the second one out."""
        assert statuses(run(fault="restart", **knobs)) == ["holds", "holds", "holds"]

    def test_failover(self):
        """A replica that lagged knows nothing of the lock."""
        assert statuses(run(fault="failover")) == ["broken", "broken", "holds"]

    def test_pause_and_claim(self):
        """After a pause there are two holders; a claim in the resource lets one of them write."""
        pause = TwoHolders(fault="pause", ttl_seconds=0.3, pace_seconds=PACE)
        paused, claimed = (pause.run(one, live=False) for one in (sell, sell_claimed))
        assert statuses(paused) == ["broken", "broken", "holds"]
        assert statuses(claimed) == ["broken", "holds", "holds"]
        assert statuses(pause.compare(paused, claimed, live=False)) == ["holds"]
        assert statuses(pause.compare(claimed, paused, live=False)) == ["broken"]

    @pytest.mark.long
    def test_never_met(self):
        """A client that never takes the lock cannot be paused with it: nothing was tested."""
        found = run(lambda nodes, db, ttl: False, fault="pause", ttl_seconds=0.2)
        assert statuses(found) == ["not exercised", "not exercised", "broken"]
        assert "nothing was put to the test" in found.figure.texts[0].get_text()

    def test_the_same_text_every_time(self):
        """A verdict holds no number, so that it reads the same after each run."""
        texts = {str(run(fault="restart")) for _ in range(2)}
        assert len(texts) == 1
        assert not any(sign.isdigit() for sign in texts.pop())


class TestBadInput:
    @pytest.mark.parametrize(
        "knobs",
        [
            {"fault": "fire"},
            {"remedy": "hope"},
            {"down": 6},
            {"fault": "pause", "down": 1},
            {"fault": "pause", "remedy": "fsync"},
            {"ttl_seconds": 0},
        ],
        ids=str,
    )
    def test_absurd_knobs(self, knobs):
        """What does not exist, or does not go together, is refused before anything starts."""
        with pytest.raises(InvalidSettingError):
            TwoHolders(**knobs)

    def test_raises(self):
        """A function that raises is named with its error."""

        def broken(nodes, db, ttl):
            return 1 / 0

        with pytest.raises(ImplementationError, match="ZeroDivisionError"):
            run(broken)
