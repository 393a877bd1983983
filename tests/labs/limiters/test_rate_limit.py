"""The experiments of labs 05 and 06: clients of several processes share one limit."""

import math
import time
from collections import deque

import numpy as np
import pytest

from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.history import History, Recorder
from labsupport.labs.sliding_window import RateLimit
from labsupport.labs.token_bucket import BucketLimit

LOG = """
local limit, window, time = tonumber(ARGV[1]), tonumber(ARGV[2]), redis.call('TIME')
local now = tonumber(ARGV[3]) or time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local used = redis.call('ZCARD', KEYS[1])
if used >= limit then
  return {0, 0, redis.call('ZRANGE', KEYS[1], used - limit, used - limit, 'WITHSCORES')[2] + window - now}
end
redis.call('ZADD', KEYS[1], now, string.format('%.0f-%d', now, used))
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
return {1, limit - used - 1, 0}
"""

GCRA = """
local capacity, interval, time = tonumber(ARGV[1]), tonumber(ARGV[2]), redis.call('TIME')
local now = tonumber(ARGV[3]) or time[1] * 1000000 + time[2]
local full = math.max(now, tonumber(redis.call('GET', KEYS[1])) or now) + interval
local early = full - now - capacity * interval
if early > 0 then return {0, 0, math.ceil(early)} end
redis.call('SET', KEYS[1], full, 'PX', math.ceil((full - now) / 1000))
return {1, math.floor(-early / interval), 0}
"""


def server_time(redis, key, limit, window, clock):
    allowed, left, wait = redis.eval(LOG, 1, key, limit, round(window * 1e6))
    return allowed == 1, left, wait / 1e6


def client_time(redis, key, limit, window, clock):
    allowed, left, wait = redis.eval(LOG, 1, key, limit, round(window * 1e6), round(clock() * 1e6))
    return allowed == 1, left, wait / 1e6


def unlimited(redis, key, limit, window, clock):
    redis.ping()
    return True, 1, 0


def counts_refusals(redis, key, limit, window, clock):
    with redis.pipeline(transaction=True) as pipe:
        pipe.zremrangebyscore(key, "-inf", clock() - window)
        pipe.zadd(key, {str(time.monotonic_ns()): clock()})
        pipe.zcard(key)
        *_, used = pipe.execute()
    return used <= limit, max(0, limit - used), 0 if used <= limit else window


def gcra(redis, key, capacity, rate, clock):
    allowed, left, wait = redis.eval(GCRA, 1, key, capacity, 1e6 / rate)
    return allowed == 1, left, wait / 1e6


def gcra_that_adds_up(redis, key, capacity, rate, clock):
    allowed, left, _ = redis.eval(GCRA, 1, f"{key}:{clock() // 10}", 3 * capacity, 1e6 / rate)
    return allowed == 1, left, 1 / rate


def statuses(result):
    return [claim.status for claim in result.verdict.claims]


@pytest.fixture(scope="module")
def limit():
    return RateLimit(clients=6, processes=3, seconds=0.6, window_seconds=0.1, limit=10)


@pytest.fixture(scope="module")
def bucket():
    return BucketLimit(clients=6, processes=3, seconds=0.6, capacity=10, rate=100)


@pytest.fixture(scope="module")
def good(limit):
    return limit.run(server_time, live=False)


class TestVerdicts:
    def test_a_right_limiter(self, limit, good):
        """A log that decides and then adds, by the server's time, keeps all claims."""
        assert statuses(good) == ["holds"] * 4
        assert good.numbers["worst"] <= 10
        assert limit.find(good.numbers) == "The limit of 10 is kept, and granted"

    def test_no_limit(self, limit):
        """Who admits all breaks the limit, and nobody ever had to wait."""
        found = limit.run(unlimited, live=False)
        assert statuses(found) == ["holds", "broken", "holds", "not exercised"]
        assert "where 10 are allowed" in found.figure.texts[0].get_text()

    def test_starved(self, limit, good):
        """Refusals that count keep the limit and starve everybody."""
        found = limit.run(counts_refusals, live=False)
        assert statuses(found) == ["holds", "holds", "broken", "holds"]
        comparison = limit.compare(found, good, live=False)
        assert statuses(comparison) == ["holds"]
        assert "of what is due" in comparison.figure.texts[0].get_text()
        assert statuses(limit.compare(good, found, live=False)) == ["broken"]

    def test_one_wrong_clock(self):
        """A clock that is ahead breaks what trusts it, and nothing else."""
        skewed = RateLimit(
            clients=6, processes=3, seconds=0.6, window_seconds=0.1, limit=10, skew_seconds=30
        )
        found = skewed.run(client_time, live=False)
        assert statuses(found) == ["holds", "broken", "holds", "holds"]
        assert statuses(skewed.run(server_time, live=False)) == ["holds"] * 4

    @pytest.mark.parametrize("told", [0, 30.0, math.inf])
    def test_told_wrong(self, limit, told):
        """Who is told to come back too early is refused again; too late is wrong as well."""

        def allow(redis, key, limit, window, clock):
            allowed, left, _ = server_time(redis, key, limit, window, clock)
            return allowed, left, 0 if allowed else told

        assert statuses(limit.run(allow, live=False)) == ["holds", "holds", "holds", "broken"]

    def test_a_bucket(self, bucket):
        """GCRA keeps all claims; a bucket of three times the capacity does not."""
        found = bucket.run(gcra, live=False)
        assert statuses(found) == ["holds"] * 4
        worse = bucket.run(gcra_that_adds_up, live=False)
        assert statuses(worse)[:3] == ["holds", "broken", "holds"]
        assert statuses(bucket.compare(worse, found, live=False)) == ["holds"]
        assert "from a bucket of 10" in worse.figure.texts[0].get_text()

    def test_nothing_is_asked_for(self, limit, good):
        """A run in which less was asked for than allowed says nothing."""
        numbers = good.numbers | {"most_asked": 19, "came_back": 0}
        assert {claim.status for claim in limit.judge(numbers)} == {"not exercised"}

    def test_never_answered(self, limit, good):
        """Clients without an answer are starved."""
        numbers = good.numbers | {"stuck": 2}
        assert [claim.status for claim in limit.judge(numbers)][2] == "broken"
        assert limit.find(numbers) == "2 clients never got an answer"

    def test_the_same_text_every_time(self, limit, good):
        """A verdict holds no number, so that it reads the same after each run."""
        assert str(limit.run(server_time, live=False)) == str(good)
        assert not any(sign.isdigit() for sign in str(good))


def history_of(tmp_path, calls):
    """A history of admitted calls, (start, end) in ms."""
    recorder, history = Recorder(tmp_path / "ring", capacity=1 << 10), History()
    history.add(tmp_path / "ring", process=0, capacity=1 << 10)
    history.origin_ns = 1
    for start, end in calls:
        recorder.record("admitted", 0, 1 + int(start * 1e6), 1 + int(end * 1e6))
    history.end()
    return history


class TestProof:
    def test_only_what_lies_wholly_inside(self, tmp_path):
        """A call that began before the window does not count, wherever it was decided."""
        service = RateLimit(limit=1, window_seconds=0.1)
        inside = history_of(tmp_path, [(0, 1), (98, 99.9)])
        assert service._used(inside, "admitted")[1].tolist() == [1, 2]

    @pytest.mark.parametrize("second", [(99, 100), (99, 150)])
    def test_at_the_edge(self, tmp_path, second):
        """A span as long as the window proves nothing."""
        service = RateLimit(limit=1, window_seconds=0.1)
        assert service._used(history_of(tmp_path, [(0, 1), second]), "admitted")[1].max() == 1

    def test_against_all_pairs(self, tmp_path):
        """For windows and buckets, what is found is what a search of all spans finds."""
        dice = np.random.default_rng(5)
        starts = np.sort(dice.uniform(0, 500, 60))
        calls = [(s, s + took) for s, took in zip(starts, dice.uniform(0.1, 2, 60), strict=True)]
        history = history_of(tmp_path, calls)
        spans = [
            (b - a, sum(a <= s and e <= b for s, e in calls))
            for a, _ in calls
            for _, b in calls
            if b > a
        ]
        most = max(count for length, count in spans if length < 100)
        found = RateLimit(window_seconds=0.1)._used(history, "admitted")[1].max()
        assert most - 2 <= found <= most
        beyond = max(count - length / 1e3 * 50 for length, count in spans)
        found = BucketLimit(capacity=5, rate=50)._used(history, "admitted")[1].max()
        assert beyond - 2 <= found <= beyond + 1e-6

    def test_what_is_due(self):
        """A fair limiter, replayed: ten at once and one more a window later; a bucket that drips."""
        at_once = np.array([0] * 15 + [99_999_999, 100_000_000], dtype="i8")
        assert RateLimit(limit=10, window_seconds=0.1)._fair(at_once) == 11
        assert BucketLimit(capacity=10, rate=100)._fair(at_once) == 12


class TestBadInput:
    @pytest.mark.parametrize(
        "knobs",
        [{"clients": 1}, {"limit": 0}, {"window_seconds": 0}, {"skew_seconds": "late"}],
        ids=str,
    )
    def test_absurd_knobs(self, knobs):
        """A knob out of its range is refused before anything starts."""
        with pytest.raises(InvalidSettingError, match=next(iter(knobs))):
            RateLimit(**knobs)

    def test_absurd_bucket(self):
        """So it is with a bucket that gains nothing."""
        with pytest.raises(InvalidSettingError, match="rate"):
            BucketLimit(rate=0)

    @pytest.mark.parametrize(
        "answer", [True, (True, 1), ("yes", 1, 0), (False, 0, math.nan), (False, 0, -1)]
    )
    def test_wrong_form(self, limit, answer):
        """An answer of another form is named, with the form that is due."""
        with pytest.raises(InvalidSettingError, match="The function returned"):
            limit.run(lambda redis, key, limit, window, clock: answer, live=False)

    def test_raises(self, limit):
        """A function that raises is named with its own line."""

        def allow(redis, key, limit, window, clock):
            return redis.get(key) / 0

        with pytest.raises(ImplementationError, match="TypeError"):
            limit.run(allow, live=False)


def test_a_limiter_in_each_process(limit):
    """State of a process is no limit for all of them."""
    seen = {}

    def allow(redis, key, limit, window, clock):
        redis.ping()
        log, now = seen.setdefault(key, deque()), time.monotonic()
        while log and log[0] <= now - window:
            log.popleft()
        if len(log) >= limit:
            return False, 0, max(0.0, log[0] + window - now)
        log.append(now)
        return True, limit - len(log), 0

    assert statuses(limit.run(allow, live=False))[:3] == ["holds", "broken", "holds"]
