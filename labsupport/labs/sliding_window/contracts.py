"""What the exercises of lab 05 ask for, as models: a window's calls, under one limit or several."""

import math
from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import Call, Case, Contract
from labsupport.exercises.matching import Between
from labsupport.exercises.state import KEPT, State

__all__ = ["Allow", "AllowAll"]

_START = 1_800_000_000.0
_KEYS = st.sampled_from(["limit:7", "limit:7", "limit:ann"])
_STEPS = st.sampled_from([0.0, 0.0, 0.5, 15.25, 30.0, 60.0, 90.5])
_SLACK_SECONDS = 30.0  # for a busy machine; the windows are longer
_NO_WAIT = Between(0, 0)


def _near(seconds: float) -> Between:
    return Between(seconds - 0.001, seconds + 0.001)


class _Windows(Contract):
    """Calls that were admitted, by key; nothing is promised of what is stored but how long."""

    visible = ()
    remembers = True
    starts = st.just(State())

    def _calls_in_time(self, call: Any) -> Any:
        """Cases of calls whose `now` never goes back; `call` is given the key and now."""

        def timed(steps: list[tuple[str, float]]) -> Case:
            now, turns = _START, []
            for key, step in steps:
                now += step
                turns.append(("ada", call(key, now)))
            return Case(State(), after=tuple(turns))

        return st.lists(st.tuples(_KEYS, _STEPS), min_size=1, max_size=9).map(timed)

    def _at_once(self, call: Call, before: int) -> Case:
        names = ("ada", "bob") if before else ("ada", "bob", "cyd")
        return Case(State(), dict.fromkeys(names, (call,)))

    def recoveries(self) -> Any:
        """A crash in a call that is admitted, or in one that is refused; calls then, and later."""

        def at(call: Call, seconds: float) -> Call:
            return Call(call.name, (*call.args[:-1], _START + seconds))

        def case(one: Call, calls: int) -> Case:
            later = tuple(("bob", at(one, seconds)) for seconds in (30, 60, 60, 95))
            return Case(State(), {"ada": (one, at(one, 30), at(one, 30))[:calls]}, later)

        return st.builds(case, self.race_calls(), st.sampled_from([1, 2, 3]))

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """What is stored, and how, is free; but it must not be forgotten too early."""
        if "due" in state:
            return {"how long the calls are remembered, in s": state["due"]}
        if not state.at:
            return {"how long the calls are remembered, in s": Between(0, math.inf)}
        lives = [math.ceil(ms / 1000) for ms in state.lives.values() if ms is not KEPT]
        return {"how long the calls are remembered, in s": max(lives, default=0)}

    def _admit(self, state: State, key: str, limits: Any, now: float) -> Any:
        """The calls that were admitted are in the list at `key`."""
        log = state.list_at(key)
        left, wait = math.inf, 0.0
        for limit, window in limits:
            inside = sorted(at for at in log if at > now - window)
            left = min(left, limit - len(inside))
            if len(inside) >= limit:
                wait = max(wait, inside[len(inside) - limit] + window - now)
        if left <= 0:
            return False, 0, _near(wait)
        log.append(now)
        longest = max(window for _, window in limits)
        least = state.hash_at("least")
        least[key] = now + longest
        latest = max(least.values()) - now
        state["due"] = Between(0.98 * latest - _SLACK_SECONDS, math.inf)
        return True, left - 1, _NO_WAIT


class Allow(_Windows):
    """05.1: fewer than the limit were admitted in the window before."""

    answer = "allow"
    clauses: ClassVar = {
        "told": "Return (allowed, remaining, retry_after): True or False; how many more calls would be "
        "admitted at `now`; and, for a refused one, after how many seconds the next would be, else 0.",
        "stays": "No key is without a TTL",
        "left": "no call is forgotten while it counts",
        "at once": "Callers come at once, and may crash.",
        "crash": "Callers come at once, and may crash.",
    }
    _limits = st.sampled_from([(1, 60), (2, 60), (3, 90.5), (2, 5_400), (5, 60)])

    def sequences(self) -> Any:
        def of_one(limit: tuple[int, float]) -> Any:
            return self._calls_in_time(lambda key, now: Call("allow", (key, *limit, now)))

        return self._limits.flatmap(of_one)

    def race_calls(self) -> Any:
        return st.sampled_from([1, 2]).map(
            lambda limit: Call("allow", ("limit:7", limit, 60, _START))
        )

    def races(self) -> Any:
        return st.builds(self._at_once, self.race_calls(), st.sampled_from([0, 1, 1]))

    def allow(self, state: State, key: str, limit: int, window: float, now: float) -> Any:
        return self._admit(state, key, [(limit, window)], now)


class AllowAll(_Windows):
    """05.3: each limit allows it, or it counts in none."""

    answer = "allow_all"
    clauses: ClassVar = {
        "told": "Return (allowed, remaining, retry_after) as `allow` does: what all of them allow.",
        "stays": "none is without a TTL",
        "keys that do not begin with the key": "Each key begins with `key`",
        "left": "no call is forgotten while it counts",
        "at once": "Callers come at once, and may crash.",
        "crash": "Callers come at once, and may crash.",
    }
    _limits = st.sampled_from(
        [
            ((2, 60), (3, 90.5)),
            ((3, 90.5), (2, 60)),
            ((1, 30.5), (2, 60), (4, 5_400)),
            ((4, 60), (2, 5_400)),
            ((2, 60),),
        ]
    )

    def sequences(self) -> Any:
        def of_one(limits: Any) -> Any:
            return self._calls_in_time(lambda key, now: Call("allow_all", (key, [*limits], now)))

        return self._limits.flatmap(of_one)

    def race_calls(self) -> Any:
        limits = st.sampled_from([[(1, 60), (2, 90.5)], [(3, 60), (2, 90.5)]])
        return limits.map(lambda pairs: Call("allow_all", ("limit:7", pairs, _START)))

    def races(self) -> Any:
        return st.builds(self._at_once, self.race_calls(), st.sampled_from([0, 1, 1]))

    def shown(self, state: State, start: State) -> dict[str, Any]:
        odd = [key for key in state if not key.startswith(("limit:", "due", "least"))]
        return {**super().shown(state, start), "keys that do not begin with the key": sorted(odd)}

    def allow_all(self, state: State, key: str, limits: Any, now: float) -> Any:
        return self._admit(state, key, limits, now)
