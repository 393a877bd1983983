"""The experiment of lab 12: users, late requests and killed logins, and when sessions end."""

import json
import re
import secrets

import matplotlib.figure
import psutil
import pytest

from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.experiments.stage import RunStopped
from labsupport.labs.sessions import SessionLifetimes, session_lifetimes
from labsupport.labs.sessions.ends import Ends

BEGIN = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[1], 'ends', now + ARGV[2])
redis.call('PEXPIREAT', KEYS[1], now + math.min(ARGV[1], ARGV[2]))
"""
VISIT = """
local ends, t = redis.call('HGET', KEYS[1], 'ends'), redis.call('TIME')
if not ends then return false end
redis.call('PEXPIREAT', KEYS[1],
  math.min(t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[1], ends))
return 1
"""
UPDATE = """
return redis.call('EXISTS', KEYS[1]) == 1 and redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
"""


class Right:
    """A store in which every session ends when it should."""

    def __init__(self, redis, idle_ms, absolute_ms):
        self.redis, self.idle_ms, self.absolute_ms = redis, idle_ms, absolute_ms

    def create(self, user):
        token = secrets.token_urlsafe(32)
        self.redis.eval(BEGIN, 1, f"session:{token}", self.idle_ms, self.absolute_ms)
        return token

    def get(self, token):
        return self.redis.eval(VISIT, 1, f"session:{token}", self.idle_ms)

    def put(self, token, name, value):
        return self.redis.eval(UPDATE, 1, f"session:{token}", name, value)

    def destroy(self, token):
        self.redis.delete(f"session:{token}")


class TwoCommands(Right):
    """A login in two commands: killed between them, it stays."""

    def create(self, user):
        token = secrets.token_urlsafe(32)
        self.redis.hset(f"session:{token}", "ends", 2**52)
        self.redis.pexpire(f"session:{token}", self.idle_ms)
        return token


class ComesBack(Right):
    """One string, written back whole, and with a TTL: it comes back, but not for ever."""

    def create(self, user):
        token = secrets.token_urlsafe(32)
        self.redis.set(f"session:{token}", "{}", px=self.idle_ms)
        return token

    def get(self, token):
        text = self.redis.getex(f"session:{token}", px=self.idle_ms)
        return text and {"user": json.loads(text)}

    def put(self, token, name, value):
        self.redis.set(f"session:{token}", json.dumps({name: value}), px=self.idle_ms)


class LooksFirst(Right):
    """A write that looks in one command and writes in the next, as Django's cache sessions do."""

    def put(self, token, name, value):
        if self.redis.exists(f"session:{token}"):
            self.redis.eval(UPDATE.replace("== 1", ">= 0"), 1, f"session:{token}", name, value)


class NeverIdle(Right):
    """The idle timeout is forgotten."""

    def __init__(self, redis, idle_ms, absolute_ms):
        super().__init__(redis, absolute_ms, absolute_ms)


class Hasty(Right):
    """Sessions end after half of the idle timeout."""

    def __init__(self, redis, idle_ms, absolute_ms):
        super().__init__(redis, idle_ms // 8, absolute_ms)


class MissesThree(Right):
    """The first three late requests find no session, as on a machine that is too slow for it."""

    def create(self, user):
        token = secrets.token_urlsafe(32) + user
        self.redis.eval(BEGIN, 1, f"session:{token}", self.idle_ms, self.absolute_ms)
        return token

    def get(self, token):
        if token.endswith("leaver") and getattr(self, "missed", 0) < 3:
            self.missed = getattr(self, "missed", 0) + 1
            return None
        return super().get(token)


class LogsOutNobody(Right):
    """A logout that only forgets the cookie."""

    def destroy(self, token):
        self.redis.ping()


@pytest.fixture(scope="module")
def lifetimes():
    return SessionLifetimes(users=6, seconds=1.0, idle_seconds=0.2, absolute_seconds=0.5)


@pytest.fixture(scope="module")
def right(lifetimes):
    return lifetimes.run(Right, live=False)


@pytest.fixture(scope="module")
def two_commands(lifetimes):
    return lifetimes.run(TwoCommands, live=False)


def statuses(result):
    return [claim.status for claim in result.verdict.claims]


def broken(result):
    return [place for place, status in enumerate(statuses(result)) if status == "broken"]


DESTROYED, TTL, IDLE, ABSOLUTE, WITHIN = range(5)


class TestVerdicts:
    def test_a_right_store_holds(self, right):
        """Every claim was put to the test, and holds."""
        assert statuses(right) == ["holds"] * 5
        assert right.numbers["held_requests"] > 0
        assert right.numbers["asked_old"] > 0
        assert right.numbers["asked_within"] > right.numbers["logins"]

    def test_a_killed_login_stays_for_ever(self, two_commands):
        """Killed between two commands, a login leaves one session; and the end is forgotten."""
        assert broken(two_commands) == [TTL, ABSOLUTE]
        assert two_commands.numbers["for_ever"] == 1

    @pytest.mark.parametrize(
        ("store", "claims"),
        [
            (ComesBack, [DESTROYED, ABSOLUTE]),
            (LooksFirst, [DESTROYED, TTL]),
            (NeverIdle, [IDLE]),
            (LogsOutNobody, [DESTROYED]),
        ],
        ids=lambda value: getattr(value, "__name__", ""),
    )
    def test_each_claim_can_break(self, lifetimes, store, claims):
        """A store breaks the claims that it breaks, and no other."""
        assert broken(lifetimes.run(store, live=False)) == claims

    def test_a_late_request_is_tried_again(self, lifetimes):
        """When no request was held between two of its commands, there are more of them."""
        result = lifetimes.run(MissesThree, live=False)
        assert statuses(result) == ["holds"] * 5
        assert len(result.events.select("late")) > 3

    def test_a_store_that_is_too_strict(self, lifetimes, monkeypatch):
        """To turn somebody away within both limits is a defect, too."""
        # nobody ever meets the absolute timeout
        monkeypatch.setattr(session_lifetimes, "_PATIENCE_SECONDS", 0.5)
        result = lifetimes.run(Hasty, live=False)
        assert WITHIN in broken(result)
        assert "turned away too early" in result.figure.texts[0].get_text()

    @pytest.mark.parametrize(
        ("number", "claim"),
        [
            ("held_requests", DESTROYED),
            ("asked_out", DESTROYED),
            ("logins", TTL),
            ("asked_idle", IDLE),
            ("asked_old", ABSOLUTE),
            ("asked_within", WITHIN),
        ],
    )
    def test_what_was_not_met_says_nothing(self, lifetimes, right, number, claim):
        """Without the fault, or a visit that the clock leaves no doubt of, nothing is claimed."""
        found = [one.status for one in lifetimes.judge({**right.numbers, number: 0})]
        assert found[claim] == "not exercised"
        assert "broken" not in found

    def test_the_same_text_every_time(self, lifetimes, two_commands):
        """A verdict holds no number, so that it reads the same after each run."""
        assert str(lifetimes.run(TwoCommands, live=False)) == str(two_commands)
        assert not any(sign.isdigit() for sign in str(two_commands))

    def test_comparison(self, lifetimes, two_commands, right):
        """The comparison holds one way round only."""
        assert statuses(lifetimes.compare(two_commands, right, live=False)) == ["holds"]
        assert statuses(lifetimes.compare(right, two_commands, live=False)) == ["broken"]


class TestResult:
    def test_history(self, right):
        """The learner's own pandas finds what the verdict is made of."""
        events = right.history
        assert (events.event == "login").sum() == right.numbers["logins"]
        within = events[events.event == "within"]
        assert len(within) == right.numbers["asked_within"]
        assert (within.value == 1).all()
        assert set(events[events.event.isin(["idle", "old", "out"])].value) == {0}

    def test_nobody_is_in_the_way_of_a_fault(self, right):
        """Who looks which session comes back meets no session of those who are to be killed."""
        late, logins = right.events.select("late"), right.events.select("login")
        killed = logins[logins["value"] < -100]
        assert len(killed) == 2
        assert killed["start_ns"].min() > late["end_ns"].max()

    def test_an_interrupted_run_leaves_nothing(self, lifetimes):
        """Stopped while workers are held, a run ends them."""
        before = {process.pid for process in psutil.Process().children(recursive=True)}
        asked = iter(range(10**9))
        with pytest.raises(RunStopped):
            lifetimes.perform(Right, "right", stopped=lambda: next(asked) > 40)
        assert next(asked) > 40
        after = {process.pid for process in psutil.Process().children(recursive=True)}
        assert after <= before

    def test_what_is_there_is_valid(self, lifetimes, right, two_commands):
        """The two lines of the chart agree for a right store; they do not for a wrong one."""
        excess = []
        for result in (right, two_commands):
            there = result.events.select("there")["value"]
            ends = Ends(lifetimes.idle_seconds, lifetimes.absolute_seconds)
            times, valid = ends.valid(result.events)
            assert len(times) == len(there) == len(valid)
            excess.append((there - valid).max())
            assert there[-1] == result.numbers["for_ever"]
        assert excess[0] == 0 < excess[1]

    def test_figure(self, lifetimes, right, two_commands):
        """The title states the finding, and both runs share their axes."""
        assert isinstance(right.figure, matplotlib.figure.Figure)
        title = right.figure.texts[0].get_text()
        assert title == "Every session ends when it should, and none before"
        assert re.search("stays? for ever", two_commands.figure.texts[0].get_text())
        both = lifetimes.compare(two_commands, right, live=False).figure
        assert len({axes.get_ylim() for axes in both.axes[::2]}) == 1


class TestBadInput:
    @pytest.mark.parametrize(
        "knobs",
        [
            {"users": 2},
            {"seconds": 0},
            {"idle_seconds": 0.01},
            {"absolute_seconds": 0.5, "idle_seconds": 0.4},
            {"processes": 1.5},
        ],
        ids=str,
    )
    def test_absurd_knobs(self, knobs):
        """A knob out of its range is refused before anything starts."""
        with pytest.raises(InvalidSettingError, match=next(iter(knobs))):
            SessionLifetimes(**knobs)

    def test_not_a_store(self, lifetimes):
        """A function of other parameters is refused; one that raises is named with its own line."""
        with pytest.raises(InvalidSettingError, match="idle_ms"):
            lifetimes.run(lambda redis: None, live=False)

        class Raises(Right):
            def put(self, token, name, value):
                return 1 / 0

        with pytest.raises(ImplementationError, match="ZeroDivisionError"):
            lifetimes.run(Raises, live=False)
