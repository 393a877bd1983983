"""What the exercises of lab 06 ask for, as models: a bucket, and turns."""

import math
from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import Call, Case, Contract
from labsupport.exercises.matching import ANYTHING, Between
from labsupport.exercises.state import KEPT, State

__all__ = ["Reserve", "Take", "TakeMany"]

_START = 1_800_000_000.0
_KEYS = st.sampled_from(["bucket:7", "bucket:7", "bucket:ann"])
_HAIR = 1e-6
_NO_WAIT = Between(0, 0)
_SLACK_SECONDS = 60.0  # for a busy machine; what has to be right lives far longer


class _Bucket(Contract):
    """Buckets, by key; nothing is promised of what is stored but how long."""

    visible = ()
    remembers = True
    starts = st.just(State())

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """How long the longest key lives: what is stored, and under which names, is free."""
        if "due" in state:
            return {"the life of the key, in s": state["due"]}
        lives = [math.ceil(ms / 1000) for ms in state.lives.values() if ms is not KEPT]
        return {"the life of the key, in s": max(lives, default=0)}

    def race_starts(self) -> Any:
        return self.starts


class Take(_Bucket):
    """06.1: no part of a token is lost, and none is made."""

    answer = "take"
    clauses: ClassVar = {
        "told": "Return (allowed, remaining, retry_after): True or False; the whole tokens left; for a "
        "refused call, the seconds until there is one, else 0.",
        "left": "The key expires when the bucket would be full again",
        "stays": "The key expires when the bucket would be full again",
        "at once": "callers come at once",
        "crash": "and may crash",
    }
    _offsets = (0.0, 0.0, 0.5, 33.3, 47.1, 70.9, 140.3, 10_000.7)

    def _call(self, capacity: int, rate: float, key: Any, offsets: Any) -> Any:
        return st.builds(
            lambda key, at: Call("take", (key, capacity, rate, _START + at)),
            key,
            st.sampled_from(offsets),
        )

    def sequences(self) -> Any:
        def of_one(bucket: tuple[int, float]) -> Any:
            calls = self._call(*bucket, _KEYS, (*self._offsets, -50.2))
            turns = st.tuples(st.just("ada"), calls)
            return st.builds(
                Case, self.starts, after=st.lists(turns, min_size=1, max_size=8).map(tuple)
            )

        buckets = st.sampled_from(
            [(1, 1 / 128), (3, 1 / 64), (2, 0.02), (2, 1 / 60), (100, 1 / 60), (3, 1 / 512)]
        )
        return buckets.flatmap(of_one)

    def race_calls(self) -> Any:
        raise NotImplementedError

    def races(self) -> Any:
        calls = st.tuples(self._call(1, 1 / 60, st.just("bucket:7"), (0.0, 70.9)))
        return st.builds(Case, self.starts, st.fixed_dictionaries({"ada": calls, "bob": calls}))

    def recoveries(self) -> Any:
        call = self._call(2, 1 / 60, st.just("bucket:7"), (0.0, 0.5))
        return call.map(
            lambda one: Case(State(), {"ada": (one,)}, (("ada", one), ("bob", one), ("bob", one)))
        )

    def take(self, state: State, key: str, capacity: int, rate: float, now: float) -> Any:
        tokens, at = state.get(key, (float(capacity), now))
        tokens = min(capacity, tokens + max(0.0, now - at) * rate)
        newest = max(at, now)
        older = (newest - now) * rate  # by so much less may be in the bucket for an older `now`
        allowed = tokens >= 1 - _HAIR
        if "unknown" in state or (older and allowed and tokens - older < 1 + _HAIR):
            state["unknown"] = 1  # the older caller may be refused: what is left then is unknown
            state["due"] = ANYTHING
            return ANYTHING
        if allowed:
            tokens -= 1
        state[key] = tokens, newest
        full = (capacity - tokens) / rate
        ends = state.hash_at("ends")
        high = full + newest - now
        ends[key] = full, (high if allowed else max(high, ends.get(key, (0, 0))[1]))
        state["due"] = Between(
            max(0.98 * low for low, _ in ends.values()) - _SLACK_SECONDS,
            max(high for _, high in ends.values()) * 1.02 + 1,
        )
        wait = (1 - tokens) / rate
        return (
            allowed,
            Between(max(0, math.floor(tokens - older - _HAIR)), math.floor(tokens + _HAIR), int),
            _NO_WAIT if allowed else Between(wait - 0.001, wait + newest - now + 0.001),
        )


class TakeMany(_Bucket):
    """06.2: all or none; the server's clock."""

    answer = "take_many"
    faults = ("crash", "clocks")
    clauses: ClassVar = {
        "told": "Return (allowed, remaining, retry_after) as `take` does: retry_after is when there "
        "will be `cost` tokens, and math.inf when there can never be as many.",
        "stays": "No key is without a TTL.",
        "left": "Take `cost` tokens at once, or none",
        "clock": "the time is the server's",
        "at once": "Callers come at once, and may crash",
        "crash": "Callers come at once, and may crash",
    }
    others: ClassVar = {"wait_a_tenth_of_a_second": lambda redis: __import__("time").sleep(0.1)}
    _rate = 0.001  # a token in 1,000 s: none, as long as a case takes

    def _call(self, capacity: int, key: Any) -> Any:
        return st.builds(
            lambda key, cost: Call("take_many", (key, capacity, self._rate, cost)),
            key,
            st.sampled_from([1, 2, 3, capacity, capacity + 1]),
        )

    def sequences(self) -> Any:
        def of_one(capacity: int) -> Any:
            turns = st.tuples(st.just("ada"), self._call(capacity, _KEYS))
            return st.builds(
                Case, self.starts, after=st.lists(turns, min_size=1, max_size=5).map(tuple)
            )

        quick = [
            ("ada", Call("take_many", ("bucket:7", 100, 20, 100))),
            ("ada", Call("wait_a_tenth_of_a_second")),
            ("ada", Call("take_many", ("bucket:7", 100, 20, 2))),
        ]
        plain = st.sampled_from([5, 5, 3, 12]).flatmap(of_one)
        rare = st.sampled_from([False] * 15 + [True])
        return rare.flatmap(
            lambda yes: st.just(Case(State(), after=tuple(quick))) if yes else plain
        )

    def races(self) -> Any:
        calls = st.tuples(self._call(5, st.just("bucket:7")))
        return st.builds(Case, self.starts, st.fixed_dictionaries({"ada": calls, "bob": calls}))

    def recoveries(self) -> Any:
        return self._call(5, st.just("bucket:7")).map(
            lambda one: Case(State(), {"ada": (one,)}, (("ada", one), ("bob", one), ("bob", one)))
        )

    def shown(self, state: State, start: State) -> dict[str, Any]:
        return {}

    def take_many(self, state: State, key: str, capacity: int, rate: float, cost: int) -> Any:
        tokens = state.get(key, capacity)
        if rate != self._rate:  # time has passed, and perhaps more than was meant
            state[key] = 0
            return True, Between(0, capacity, int), _NO_WAIT
        if cost > tokens:
            wait = (cost - tokens) / rate
            late = Between(wait - _SLACK_SECONDS, wait + 0.001)
            return False, tokens, late if cost <= capacity else Between(math.inf, math.inf)
        state[key] = tokens - cost
        return True, tokens - cost, _NO_WAIT

    def wait_a_tenth_of_a_second(self, state: State) -> None:
        pass


class Reserve(_Bucket):
    """06.3: each turn is somebody's, and none is left out."""

    answer = "reserve"
    clauses: ClassVar = {
        "told": "Reserve a turn, and return in how many seconds it is: 0 for at once.",
        "stays": "No key is without a TTL, and none expires before its last turn is over.",
        "left": "none expires before its last turn is over",
        "at once": "Callers come at once, and may crash.",
        "crash": "Callers come at once, and may crash.",
    }

    def _call(self, rate: float, key: Any, longest: Any, offsets: Any) -> Any:
        return st.builds(
            lambda key, longest, at: Call("reserve", (key, rate, longest, _START + at)),
            key,
            st.sampled_from(longest),
            st.sampled_from(offsets),
        )

    def sequences(self) -> Any:
        def of_one(rate: float) -> Any:
            calls = self._call(
                rate, _KEYS, (0, 64, 100.5, 10_000), (0.0, 0.0, 0.25, 40.0, 64.0, 300.5, 9_000.0)
            )
            turns = st.tuples(st.just("ada"), calls)
            return st.builds(
                Case, self.starts, after=st.lists(turns, min_size=1, max_size=7).map(tuple)
            )

        return st.sampled_from([1 / 64, 1 / 64, 0.02, 1 / 4096]).flatmap(of_one)

    def races(self) -> Any:
        calls = st.tuples(self._call(1 / 64, st.just("bucket:7"), (0, 64, 1000), (0.0, 40.0)))
        return st.builds(
            Case,
            self.starts,
            st.fixed_dictionaries({"ada": calls, "bob": calls}, optional={"cyd": calls}),
        )

    def recoveries(self) -> Any:
        return self._call(1 / 64, st.just("bucket:7"), (0, 64, 1000), (0.0,)).map(
            lambda one: Case(State(), {"ada": (one,)}, (("ada", one), ("bob", one), ("bob", one)))
        )

    def shown(self, state: State, start: State) -> dict[str, Any]:
        if not state and not state.at:
            return {"the life of the key, in s": Between(0, math.inf)}
        return super().shown(state, start)

    def reserve(self, state: State, key: str, rate: float, longest: float, now: float) -> Any:
        turn = max(now, state.get(key, now))
        newest = state[f"newest {key}"] = max(now, state.get(f"newest {key}", now))
        if turn - now > longest:
            return None
        state[key] = turn + 1 / rate
        least = state.hash_at("least")
        least[key] = turn + 1 / rate - newest
        due = max(0.98 * one for one in least.values()) - _SLACK_SECONDS
        state["due"] = Between(due, math.inf)
        return Between(turn - now - 0.001, turn - now + 0.001)
