"""How answers to the exercises of lab 05 are put to the test."""

from collections.abc import Callable, Sequence
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, Trial, keys_of, put_through, require
from labsupport.labs.limiters.checks import ALONE, START, in_sequence, run_limit, together
from labsupport.labs.sliding_window.rate_limit import RateLimit

__all__ = ["check_allow", "check_allow_all", "check_limiter"]

Limits = Sequence[tuple[int, float]]

_KEY = "calls:7"


class _Logs:
    """What is due, by the definition of the limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._admitted: list[float] = []

    def call(self, now: float) -> tuple[bool, int, float]:
        left = min(limit - len(self._within(window, now)) for limit, window in self._limits)
        if left > 0:
            self._admitted.append(now)
            return True, left - 1, 0.0
        waits = [
            calls[-limit] + window - now
            for limit, window in self._limits
            if len(calls := self._within(window, now)) >= limit
        ]
        return False, 0, max(waits)

    def _within(self, window: float, now: float) -> list[float]:
        return [at for at in self._admitted if at > now - window]


def check_allow(answer: Answer) -> Outcome:
    moments = (0, 0, 1, 2, 10, 59.75, 60, 60, 60.5, 61, 61.25, 70, 120.5, 400, 400, 400, 400)

    def ask(redis: Any, now: float) -> Any:
        return answer(redis, _KEY, 3, 60, now)

    def at_once(limit: int) -> Callable[[str, Any], Any]:
        return lambda name, redis: answer(redis, _KEY, limit, 60, START)

    return put_through(
        (
            in_sequence(ask, lambda: _Logs([(3, 60)]), moments, situation=ALONE),
            *together(at_once(1), 1),
            *together(at_once(2), 2),
            *together(at_once(2), 2, 3, prune=True)[:1],
        )
    )


def check_limiter(answer: Answer) -> Outcome:
    ahead = {"ada": 0.0, "bob": 60.0, "cyd": -60.0}

    def at_once(limit: int) -> Callable[[str, Any], Any]:
        return lambda name, redis: answer(redis, _KEY, limit, 30, lambda: START + ahead[name])

    found = put_through(
        (
            *together(at_once(1), 1),
            *together(at_once(2), 2),
            *together(at_once(2), 2, 3, prune=True)[:1],
        )
    )
    if not found.passed:
        return found
    experiment = RateLimit(clients=5, processes=3, seconds=0.6, window_seconds=0.1, skew_seconds=60)
    return run_limit(experiment, answer)


def check_allow_all(answer: Answer) -> Outcome:
    limits = ((2, 10), (4, 3600))
    moments = (0, 0, 0, 9.5, 10, 10.5, 11, 20, 21, 3599, 3600, 3600.5, 3609, 3611, 9000, 9000, 9000)

    def ask(redis: Any, now: float) -> Any:
        return answer(redis, _KEY, limits, now)

    def at_once(*some: tuple[int, int]) -> Callable[[str, Any], Any]:
        return lambda name, redis: answer(redis, _KEY, some, START)

    def one(redis: Any, db: Any) -> None:
        answer(redis, _KEY, limits, START)

    def remembered(redis: Any, db: Any) -> bool:
        """a call is remembered for as long as the longest window"""
        ttl = max((redis.pttl(key) for key in keys_of(redis)), default=0) / 1000
        require(ttl > 3590, f"With a window of 3600 s, nothing is kept for more than {ttl:.0f} s.")
        return True

    return put_through(
        (
            in_sequence(ask, lambda: _Logs(limits), moments, situation=ALONE),
            Trial("One call, and a long pause", {"ada": one}, None, remembered),
            *together(at_once((1, 10), (5, 60)), 1),
            *together(at_once((5, 10), (1, 60)), 1),
            *together(at_once((2, 10), (2, 60)), 2),
            *together(at_once((2, 10), (3, 60)), 2, 3, prune=True)[:1],
        )
    )
