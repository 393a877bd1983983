"""What the exercises of lab 05 ask for, as models: a window's calls, under one limit or several."""

import itertools
import math
from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import Argument, Call, Case, Contract
from labsupport.exercises.state import State
from labsupport.explorer.stand_ins.timekeeper import timekeeper_here
from labsupport.labs.limiters.near import NO_WAIT, START, in_time, near

__all__ = ["Allow", "AllowAll", "Limiter"]

_KEYS = st.sampled_from(["limit:7", "limit:7", "limit:7", "limit:ann"])
_STEPS = st.sampled_from(
    [0, 0, 0, 1 / 4, 1 / 2, 3 / 4, 1, 3 / 2]
)  # in windows: whole ms, and exact
_CALLS = 130
_EARLIER = 2**-14, 30 + 2**-14, 60 + 2**-14  # the one in between prolongs what is kept
_REPLY = (
    "Return (allowed, remaining, retry_after): True or False; how many more calls would be "
    "admitted at `now`; and, for a refused one, after how many seconds the next would be, else 0."
)


class _Windows(Contract):
    """Calls that were admitted, by key; nothing is promised of how they are stored."""

    visible = ()
    remembers = True
    starts = st.just(State())

    def call(self, key: Any, limits: Any, seconds: float) -> Call:
        """A call so many seconds after the first moment."""
        raise NotImplementedError

    @property
    def rare(self) -> tuple[Case, ...]:  # type: ignore[override]
        """The limit is lowered while more calls are in the window; or there are many, or days.

        Or fourteen digits say a moment that is a little earlier: `START` alone is rounded up.
        """
        many, few = ((3, 60),), ((1, 60),)
        moments = ((0.0, many), (8.0, many), (16.0, many), (24.0, few))
        lowered = [(at, self.call("limit:7", limits, at)) for at, limits in moments]
        one = self.call("limit:7", ((_CALLS - 1, 60),), 0.0)
        many_calls = Case(State(), after=(("ada", one),) * _CALLS)
        earlier = [(at, self.call("limit:7", ((2, 60),), at)) for at in _EARLIER]
        cases = (Case(State(), after=in_time(some)) for some in (lowered, earlier))
        return *cases, self._days(((1, 604_800),)), many_calls

    def _days(self, limits: Any) -> Case:
        """Two calls, the second of which is due to be refused after four days."""
        calls = [(at, self.call("limit:7", limits, at)) for at in (0.0, 345_600.0)]
        return Case(State(), after=in_time(calls))

    def limits(self) -> Any:
        """Strategy for the limits of a case; of an exercise with one limit, pairs of one."""
        raise NotImplementedError

    def sequences(self) -> Any:
        """Calls whose time never goes back; the server's passes with it."""

        def timed(limits: Any, steps: list[tuple[str, float]]) -> Case:
            unit = limits[len(steps) % len(limits)][1]
            moments = itertools.accumulate(step * unit for _, step in steps)
            calls = [
                (at, self.call(key, limits, at))
                for (key, _), at in zip(steps, moments, strict=True)
            ]
            return Case(State(), after=in_time(calls))

        return st.builds(
            timed,
            self.limits(),
            st.lists(st.tuples(_KEYS, _STEPS), min_size=1, max_size=9),
        )

    def race_limits(self) -> Any:
        """Strategy for limits that two calls meet."""
        return st.sampled_from([((1, 60),), ((2, 60),)])

    def races(self) -> Any:
        """Two clients or three, room for one or two."""

        def case(limits: Any, names: Any) -> Case:
            call = self.call("limit:7", limits, 0)
            return Case(State(), dict.fromkeys(names, (call,)))

        names = st.sampled_from([("ada", "bob"), ("ada", "bob"), ("ada", "bob", "cyd")])
        return st.builds(case, self.race_limits(), names)

    def crowd(self) -> Case:
        """There is room for all."""
        one = (self.call("limit:7", ((1_000, 60),), 0),)
        return Case(State(), {"ada": one, "bob": one})

    def recoveries(self) -> Any:
        """A crash in a call that is admitted, or in one that is refused; calls then, and later."""

        def case(limits: Any, calls: int) -> Case:
            one, later = (self.call("limit:7", limits, seconds) for seconds in (0, 30))
            after = [(at, self.call("limit:7", limits, at)) for at in (30, 60, 60, 95)]
            return Case(State(), {"ada": (one, later, later)[:calls]}, in_time(after, latest=30.0))

        return st.builds(case, self.race_limits(), st.sampled_from([1, 2, 3]))

    def admit(self, state: State, key: str, limits: Any, now: float) -> Any:
        """The model: the calls that were admitted are in the list at `key`."""
        log = state.list_at(key)
        left, wait = math.inf, 0.0
        for limit, window in limits:
            inside = sorted(at for at in log if at > now - window)
            left = min(left, limit - len(inside))
            if len(inside) >= limit:
                wait = max(wait, inside[len(inside) - limit] + window - now)
        if left <= 0:
            return False, 0, near(wait)
        log.append(now)
        return True, left - 1, NO_WAIT


class Allow(_Windows):
    """05.1: fewer than the limit were admitted in the window before."""

    answer = "allow"
    clauses: ClassVar = {
        "told": "Admit a call at `now` if fewer than `limit` were admitted in the `window` seconds "
        f"before. {_REPLY}",
        "stays": "Every key has a TTL",
        "at once": "Callers come at once, and may crash.",
        "crash": "Callers come at once, and may crash.",
    }

    def limits(self) -> Any:
        return st.sampled_from(
            [(1, 60), (2, 60), (3, 90.5), (2, 5_400), (5, 60), (2, 0.5), (1, 1.5)]
        ).map(lambda pair: (pair,))

    def call(self, key: Any, limits: Any, seconds: float) -> Call:
        return Call("allow", (key, *limits[0], START + seconds))

    def allow(self, state: State, key: str, limit: int, window: float, now: float) -> Any:
        return self.admit(state, key, [(limit, window)], now)


class _Clock(Argument):
    """A caller's clock, which is wrong."""

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead

    def __repr__(self) -> str:
        return f"clock_{abs(self._ahead):g}_s_{'ahead' if self._ahead > 0 else 'behind'}"

    def real(self, redis: Any, db: Any, who: str) -> Any:
        keeper = timekeeper_here()
        assert keeper is not None
        return lambda: keeper.time() + self._ahead


class Limiter(_Windows):
    """05.2: as 05.1, by the server's clock."""

    answer = "limiter"
    faults = ("crash", "clocks")
    clauses: ClassVar = {
        "told": "As `allow`",
        "stays": "As `allow`",
        "clock": "`clock()`, the caller's, may be a minute wrong",
        "at once": "As `allow`",
        "crash": "As `allow`",
    }

    @property
    def rare(self) -> tuple[Case, ...]:  # type: ignore[override]
        """Or a window is a small part of a second, in which the microseconds have few digits."""
        one = self.call("limit:7", ((1, 0.1),), 0)
        calls = [(0.0, one)] * 2, [(0.05, one), (0.3, one)], [(0.01, one), (0.05, one)]
        return (*super().rare, *(Case(State(), after=in_time(some)) for some in calls))

    def limits(self) -> Any:
        return st.sampled_from([(1, 0.5), (2, 0.5), (3, 1.5), (2, 60), (2, 5_400)]).map(
            lambda pair: (pair,)
        )

    def call(self, key: Any, limits: Any, seconds: float) -> Call:
        ahead = (60.0, -60.0, 0.5, 0.0)[round(seconds * 8) % 4]
        return Call("limiter", (key, *limits[0], _Clock(ahead)))

    def wait(self, state: State, seconds: float) -> None:
        state["clock"] = state.get("clock", 0.0) + seconds

    def limiter(self, state: State, key: str, limit: int, window: float, clock: Any) -> Any:
        return self.admit(state, key, [(limit, window)], state.get("clock", 0.0))


class AllowAll(_Windows):
    """05.3: each limit allows it, or it counts in none."""

    answer = "allow_all"
    clauses: ClassVar = {
        "told": "Return (allowed, remaining, retry_after) as `allow` does: what all of them allow.",
        "stays": "Each key begins with `key` and has a TTL.",
        "keys that do not begin with the key": "Each key begins with `key`",
        "at once": "Callers come at once, and may crash.",
        "crash": "Callers come at once, and may crash.",
    }

    def limits(self) -> Any:
        return st.sampled_from(
            [
                ((2, 60), (3, 90.5)),
                ((3, 90.5), (2, 60)),
                ((1, 30.5), (2, 60), (4, 5_400)),
                ((4, 60), (2, 5_400)),
                ((1, 0.5), (3, 60)),
                ((2, 60),),
            ]
        )

    @property
    def rare(self) -> tuple[Case, ...]:  # type: ignore[override]
        """Two of the limits have the same window; whether each has a log of its own is not said.

        Or two have nearly the same, or the same limit; or a key is the beginning of another; or the
        third limit counts; or a window is of days; or there are many calls.
        """
        same = [(0.0, self.call("limit:7", ((3, 60), (2, 60)), 0))] * 3
        turned = [(0.0, self.call("limit:7", ((2, 60), (3, 60)), 0))] * 3
        near = [(at, self.call("limit:7", ((3, 60), (2, 60.5)), at)) for at in (0.0, 0.0, 60.25)]
        equal = [(at, self.call("limit:7", ((2, 30), (2, 60)), at)) for at in (0.0, 40.0, 45.0)]
        joined = [
            (0.0, self.call(*one, 0))
            for one in (("limit:7", ((1, 160),)), ("limit:71", ((1, 60),)))
        ]
        third = [(0.0, self.call("limit:7", ((9, 60), (8, 90), (1, 120)), 0))] * 2
        cases = same, turned, near, equal, joined, third
        week = self._days(((2, 60), (1, 604_800)))
        many = (("ada", self.call("limit:7", ((_CALLS - 1, 60), (1_000, 90)), 0)),) * _CALLS
        return (
            *(Case(State(), after=in_time(some)) for some in cases),
            week,
            Case(State(), after=many),
        )

    def race_limits(self) -> Any:
        return st.sampled_from([((1, 60), (2, 90.5)), ((3, 60), (2, 90.5))])

    def call(self, key: Any, limits: Any, seconds: float) -> Call:
        return Call("allow_all", (key, list(limits), START + seconds))

    def shown(self, state: State, start: State) -> dict[str, Any]:
        odd = [key for key in state if not key.startswith(("limit:7", "limit:ann"))]
        return {"keys that do not begin with the key": sorted(odd)}

    def allow_all(self, state: State, key: str, limits: Any, now: float) -> Any:
        return self.admit(state, key, limits, now)
