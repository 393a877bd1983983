"""What the exercises of lab 06 ask for, as models: a bucket, and turns."""

import itertools
import math
from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import Call, Case, Contract
from labsupport.exercises.matching import ANYTHING, Between
from labsupport.exercises.state import KEPT, State
from labsupport.labs.limiters.near import NO_WAIT, START, in_time, near

__all__ = ["Reserve", "Take", "TakeMany"]

_KEYS = st.sampled_from(["bucket:7", "bucket:7", "bucket:7", "bucket:ann"])
_HAIR = 1e-4  # of a token
# In the time of a token: whole ms at the rates below, and no sum of a few of them is a whole token.
_STEPS = st.sampled_from([0, 0, 0, 0.371, 1.417, 2.639, 60.291])


class _Bucket(Contract):
    """Buckets, by key; nothing is promised of how they are stored."""

    visible = ()
    remembers = True
    starts = st.just(State())

    def wait(self, state: State, seconds: float) -> None:
        state["clock"] = state.get("clock", 0.0) + seconds

    def race_calls(self) -> Any:
        """Calls of a bucket that two clients meet."""
        raise NotImplementedError

    def races(self) -> Any:
        calls = st.tuples(self.race_calls())
        programs = {"ada": calls, "bob": calls}
        return st.builds(
            Case, self.starts, st.fixed_dictionaries(programs, optional={"cyd": calls})
        )

    def crowded(self) -> Call:
        """A call of a bucket that has enough for many."""
        raise NotImplementedError

    def crowd(self) -> Case:
        one = (self.crowded(),)
        return Case(State(), {"ada": one, "bob": one})

    def recoveries(self) -> Any:
        return self.race_calls().map(
            lambda one: Case(State(), {"ada": (one,)}, (("ada", one), ("bob", one), ("bob", one)))
        )


class Take(_Bucket):
    """06.1: no part of a token is lost, and none is made."""

    answer = "take"
    verb = "is"
    clauses: ClassVar = {
        "told": "Return (allowed, remaining, retry_after): True or False; the whole tokens left; for a "
        "refused call, the seconds until there is one, else 0.",
        "the life of the key*": "The key expires when the bucket would be full again",
        "stays": "The key expires when the bucket would be full again",
        "at once": "callers come at once",
        "crash": "and may crash",
    }
    _buckets = st.sampled_from(
        [(1, 1 / 128), (3, 1 / 64), (2, 0.02), (2, 1 / 60), (100, 1 / 60), (3, 1 / 512), (3, 0.4)]
    )

    # who asks all the time gains less than a thousandth of a token between two calls; a smaller
    # bucket holds no more than it can; and one that gains a token a day is not full after two hours
    rare = (
        Case(
            State(),
            after=in_time(
                [
                    (at, Call("take", ("bucket:7", 1, 1, START + at)))
                    for at in (0, *(n * 0.0004 for n in range(1, 60)), 0.9995, 1)
                ]
            ),
        ),
        Case(
            State(),
            after=in_time(
                [
                    (at, Call("take", ("bucket:7", capacity, 1 / 60, START + at)))
                    for at, capacity in ((0, 10), (1, 5))
                ]
            ),
        ),
        Case(
            State(),
            after=in_time(
                [(at, Call("take", ("bucket:7", 1, 1 / 86_400, START + at))) for at in (0, 7_200)]
            ),
        ),
    )

    def sequences(self) -> Any:
        """Now and then a caller's clock is behind."""

        def timed(bucket: tuple[int, float], steps: list[tuple[str, float, bool]]) -> Case:
            capacity, rate = bucket
            moments = itertools.accumulate(round(step / rate, 3) for _, step, _ in steps)
            calls = []
            for (key, _, late), at in zip(steps, moments, strict=True):
                now = at - (0.783 / rate if late else 0)
                calls.append((at, Call("take", (key, capacity, rate, START + now))))
            return Case(State(), after=in_time(calls))

        late = st.sampled_from([False] * 7 + [True])
        steps = st.lists(st.tuples(_KEYS, _STEPS, late), min_size=1, max_size=8)
        return st.builds(timed, self._buckets, steps)

    def race_calls(self) -> Any:
        moments = st.sampled_from([START, START + 70.9])
        return st.builds(
            lambda capacity, now: Call("take", ("bucket:7", capacity, 1 / 60, now)),
            st.sampled_from([1, 2]),
            moments,
        )

    def crowded(self) -> Call:
        return Call("take", ("bucket:7", 100, 1 / 60, START))

    def races(self) -> Any:
        """All callers know the same bucket."""
        return super().races().filter(_of_one_bucket)

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """How long the longest key lives."""
        if state.at:
            lives = [ms / 1000 for ms in state.lives.values() if ms is not KEPT]
            return {"the life of the key in seconds": max(lives, default=0)}
        if "unknown" in state:
            return {"the life of the key in seconds": ANYTHING}
        clock, ends = state.get("clock", 0.0), state.get("ends", {}).values()
        low = max((low for low, _ in ends), default=0) - clock
        high = max((high for _, high in ends), default=0) - clock
        return {
            "the life of the key in seconds": Between(max(0, low - 0.002), max(0, high + 1.001))
        }

    def take(self, state: State, key: str, capacity: int, rate: float, now: float) -> Any:
        clock = state.get("clock", 0.0)
        tokens, at, seen, before = state.get(key, (float(capacity), now, clock, capacity))
        spent = before - tokens
        tokens = min(capacity, tokens + max(0.0, now - at) * rate)
        newest, seen = (now, clock) if now >= at else (at, seen)
        older = (newest - now) * rate  # by so much less may be in the bucket for an older `now`
        allowed = tokens >= 1 - _HAIR
        ends = state.hash_at("ends")
        gone = now - START < clock and clock > ends.get(key, (math.inf, 0))[0] - _HAIR
        if gone or "unknown" in state or (older and allowed and tokens - older < 1 + _HAIR):
            state["unknown"] = 1  # an older caller may be refused, or find that the key has expired
            return ANYTHING
        if allowed:
            tokens -= 1
        if capacity < before:  # it is as full as it was, or lacks as much
            state["unknown"] = 1
            left = Between(capacity - spent - 1, math.floor(tokens), int)
            return (allowed, left, NO_WAIT) if left.low >= 0 else ANYTHING
        state[key] = tokens, newest, seen, capacity
        full = (capacity - tokens) / rate
        high = clock + full + newest - now
        ends[key] = seen + full, (high if allowed else max(high, ends.get(key, (0, 0))[1]))
        wait = near((1 - tokens) / rate)
        return (
            allowed,
            Between(max(0, math.floor(tokens - older - _HAIR)), math.floor(tokens + _HAIR), int),
            NO_WAIT if allowed else Between(wait.low, wait.high + newest - now),
        )


def _of_one_bucket(case: Case) -> bool:
    return len({call.args[:3] for calls in case.programs.values() for call in calls}) == 1


class TakeMany(_Bucket):
    """06.2: all or none; the server's clock."""

    answer = "take_many"
    faults = ("crash", "clocks")
    clauses: ClassVar = {
        "told": "Return (allowed, remaining, retry_after) as `take` does: retry_after is when there "
        "will be `cost` tokens, and math.inf when there can never be that many.",
        "stays": "Every key has a TTL.",
        "left": "Take `cost` tokens at once, or none",
        "clock": "the time is the server's",
        "at once": "Callers come at once, and may crash",
        "crash": "Callers come at once, and may crash",
    }

    @property
    def rare(self) -> tuple[Case, ...]:  # type: ignore[override]
        """A small cost after a great one, and two great ones: how long the key has to live.

        Or a hair is missing, or the microseconds have few digits, or it is full after whole seconds
        and a part of one, after days, or within a millisecond; or there are thousands.
        """

        def timed(costs: list[tuple[float, int]], capacity: int = 5, rate: float = 0.5) -> Case:
            calls = [
                (at, Call("take_many", ("bucket:7", capacity, rate, cost))) for at, cost in costs
            ]
            return Case(State(), after=in_time(calls))

        return (
            timed([(0, 4), (0, 1), (5, 5)]),
            timed([(0, 5), (8, 4), (13, 5)]),
            timed([(0.05, 5), (2.1, 1)]),
            timed([(0, 5), (1.999, 1)]),
            timed([(0, 1), (1.1, 3)], 3, 0.7),
            timed([(0, 5), (345_600, 5)], 5, 1 / 86_400),
            timed([(0, 4), (0, 4)], 5, 4_096),
            timed([(0, 3_000), (0, 3_000)], 5_000, 1),
        )

    def sequences(self) -> Any:
        def timed(bucket: tuple[int, float], steps: list[tuple[str, float, int]]) -> Case:
            capacity, rate = bucket
            moments = itertools.accumulate(round(step / rate, 3) for _, step, _ in steps)
            calls = []
            for (key, _, cost), at in zip(steps, moments, strict=True):
                wanted = capacity + 1 if cost == _TOO_MANY else min(cost, capacity)
                calls.append((at, Call("take_many", (key, capacity, rate, wanted))))
            return Case(State(), after=in_time(calls))

        buckets = st.sampled_from([(5, 0.001), (5, 0.5), (3, 1 / 60), (12, 4), (1, 0.1)])
        costs = st.sampled_from([1, 2, 3, 5, 12, _TOO_MANY])
        steps = st.lists(st.tuples(_KEYS, _STEPS, costs), min_size=1, max_size=7)
        return st.builds(timed, buckets, steps)

    def race_calls(self) -> Any:
        return st.sampled_from([3, 2, 5, 6, 1]).map(
            lambda cost: Call("take_many", ("bucket:7", 5, 0.001, cost))
        )

    def crowded(self) -> Call:
        return Call("take_many", ("bucket:7", 1_000, 0.001, 3))

    def take_many(self, state: State, key: str, capacity: int, rate: float, cost: int) -> Any:
        now = state.get("clock", 0.0)
        tokens, at = state.get(key, (float(capacity), now))
        tokens = min(capacity, tokens + (now - at) * rate)
        allowed = cost <= tokens + _HAIR
        if allowed:
            tokens -= cost
        state[key] = tokens, now
        wait = Between(math.inf, math.inf) if cost > capacity else near((cost - tokens) / rate)
        return allowed, math.floor(tokens + _HAIR), NO_WAIT if allowed else wait


_TOO_MANY = -1


class Reserve(_Bucket):
    """06.3: each turn is somebody's, and none is left out."""

    answer = "reserve"
    clauses: ClassVar = {
        "told": "Reserve a turn, and return how many seconds away it is: 0 for at once.",
        "stays": "Every key has a TTL",
        "at once": "Callers come at once, and may crash.",
        "crash": "Callers come at once, and may crash.",
    }

    @property
    def rare(self) -> tuple[Case, ...]:  # type: ignore[override]
        """The next turn is after whole seconds and a part of one: how long the key has to live.

        Or after a part of a millisecond; or it is over by the clock of a caller that is ahead.
        """
        ahead = tuple(("ada", self._call("bucket:7", 1 / 64, 90, at)) for at in (0, 100, 100))
        return Case(State(), after=ahead, about="Unused turns are not saved up."), *(
            Case(
                State(),
                after=in_time([(at, self._call("bucket:7", rate, 9, at)) for at in moments]),
            )
            for rate, moments in ((0.7, (0, 1.1)), (0.7, (0, 0, 2.1)), (4_000, (0, 0, 0)))
        )

    def sequences(self) -> Any:
        def timed(rate: float, steps: list[tuple[str, float, float]]) -> Case:
            moments = itertools.accumulate(round(step / rate, 3) for _, step, _ in steps)
            return Case(
                State(),
                after=in_time(
                    [
                        (at, self._call(key, rate, longest / rate, at))
                        for (key, _, longest), at in zip(steps, moments, strict=True)
                    ]
                ),
            )

        longest = st.sampled_from([0, 0.99, 1.01, 2.5, 50])
        steps = st.lists(st.tuples(_KEYS, _STEPS, longest), min_size=1, max_size=7)
        far = st.builds(  # a turn that is hours away is kept for as long
            lambda rate, wait: timed(rate, [("bucket:7", 0, 50), ("bucket:7", wait, 50)]),
            st.sampled_from([1 / 4096, 1 / 90_000]),
            st.sampled_from([0.9, 0.97]),
        )
        rates = st.sampled_from([1 / 64, 1 / 64, 0.02, 1 / 4096, 3, 7])
        return st.one_of(st.builds(timed, rates, steps), far)

    def _call(self, key: str, rate: float, longest: float, seconds: float) -> Call:
        return Call("reserve", (key, rate, longest, START + seconds))

    def race_calls(self) -> Any:
        return st.builds(
            lambda longest, at: self._call("bucket:7", 1 / 64, longest, at),
            st.sampled_from([1000, 64, 0]),
            st.sampled_from([0.0, 40.0]),
        )

    def crowded(self) -> Call:
        return self._call("bucket:7", 1 / 64, 100_000, 0.0)

    def reserve(self, state: State, key: str, rate: float, longest: float, now: float) -> Any:
        turn = max(now, state.get(key, now))
        if turn - now > longest:
            return None
        state[key] = turn + 1 / rate
        return near(turn - now)
