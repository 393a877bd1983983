"""What happens to a server, and what becomes of each pattern: as real as the experiments say."""

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, OutOfMemoryError, ResponseError, TimeoutError
from redis.retry import Retry

from labsupport.errors import InvalidSettingError
from labsupport.labs.redis_outage import FAULTS, LOST_REPLY, Pattern, fill, put_through, struck
from labsupport.labs.redis_outage.faults import CONFIG
from labsupport.servers import start_server

EXPECTED = {
    "killed": ConnectionError,
    "stopped": TimeoutError,
    "busy": ResponseError,
    "full": OutOfMemoryError,
    "evicting": OutOfMemoryError,
}


@pytest.fixture
def server():
    with start_server(config=CONFIG) as server:
        yield server


class TestFaults:
    @pytest.mark.parametrize("fault", FAULTS)
    def test_hits_and_ends(self, server, fault):
        """A write fails in the fault's own way as long as it lasts, and not before or afterwards."""
        # in haste only where no answer comes: a busy machine may be late with any other
        hasty = {"socket_timeout": 0.2} if EXPECTED[fault] is TimeoutError else {}
        with server.client() as client, server.client(**hasty) as writer:
            client.set("n", 1)
            with struck(server, fault), pytest.raises(EXPECTED[fault]):
                writer.set("n", 2)
            client.set("n", 3)

    @pytest.mark.parametrize("fault", FAULTS)
    def test_ends_after_an_error_too(self, server, fault):
        """An error in the block does not leave the server as it is."""
        with pytest.raises(ZeroDivisionError), struck(server, fault):
            _ = 1 / 0
        assert server.client().set("n", 1)

    def test_no_such_fault(self, server):
        """An unknown fault is answered with those that there are."""
        with pytest.raises(InvalidSettingError, match="'tired'"), struck(server, "tired"):
            pass

    @pytest.mark.parametrize(("policy", "left"), [("allkeys-lru", 0), ("noeviction", 1)])
    def test_evicts_what_was_there(self, policy, left):
        """A cache that writes on evicts everything old, or is refused, by the server's policy."""
        with start_server(config={"maxmemory-policy": policy}) as server:
            client = server.client()
            client.set("old", 1)
            evicted = fill(client)
            assert client.exists("old") == left
            assert (evicted > 0) is (left == 0)
            assert fill(client, evictions=10) >= 10 * (1 - left)


def connect(url):
    retry = Retry(NoBackoff(), 1)
    return Redis.from_url(url, socket_timeout=0.2, retry=retry, decode_responses=True)


def miscounted(redis, told):
    count = int(redis.get("n") or 0)
    return "" if count == 8 else str(count)


COUNTER = Pattern(lambda redis: redis.set("n", 7), lambda redis: redis.incr("n"), miscounted)
HARMLESS = Pattern(lambda redis: redis.set("n", 8), lambda redis: redis.set("n", 8), miscounted)
EVICTS = {"evicting": {"maxmemory-policy": "allkeys-lru"}}


class TestOrdeal:
    def test_what_was_seen_and_lost(self):
        """A counter loses in four ways, and its caller sees an error in two of them only."""
        found = put_through({"counter": COUNTER}, connect, config=EVICTS)
        assert found.lost.loc["counter"].to_dict() == {
            "killed": "1",
            "stopped": "9",
            "busy": "–",
            "full": "–",
            "evicting": "1",
            LOST_REPLY: "9",
        }
        assert found.seen.loc["counter"].to_list() == [
            "ConnectionError", "TimeoutError", "ResponseError", "OutOfMemoryError", "–", "–",
        ]  # fmt: skip
        assert [claim.status for claim in found.verdict.claims] == ["broken"]

    def test_nothing_lost(self):
        """What may be said twice keeps its claim, where the server keeps what it has."""
        faults = ["stopped", "full", LOST_REPLY]
        found = put_through({"setter": HARMLESS}, connect, faults=faults)
        assert (found.lost == "–").all(axis=None)
        assert [claim.status for claim in found.verdict.claims] == ["holds"]

    def test_errors_of_the_pattern_are_shown(self):
        """Only an error of Redis is an outage."""
        broken = Pattern(lambda redis: None, lambda redis: 1 / 0, miscounted)
        with pytest.raises(ZeroDivisionError):
            put_through({"broken": broken}, connect, faults=["full"])
