"""What happens to an answer to exercise 06.2 when time passes between two steps of a caller."""

import time
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, require
from labsupport.exploration import explore

__all__ = ["check_slow_caller"]

_KEY, _CAPACITY, _RATE = "bucket:7", 5, 0.5
_LATER_SECONDS = 6.0  # three tokens more
_HAIR = 1e-4  # of a token
_MOST_RUNS = 200
_SITUATION = "A caller that takes a while between two steps"


def check_slow_caller(answer: Answer) -> Outcome:
    taken: list[int] = []
    begun = 0.0

    def given(redis: Any, db: Any) -> None:
        nonlocal begun
        taken.clear()
        begun = _now(redis)

    def takes(redis: Any, cost: int) -> None:
        if answer(redis, _KEY, _CAPACITY, _RATE, cost)[0]:
            taken.append(cost)

    def ada(redis: Any, db: Any) -> None:
        takes(redis, 1)

    def bob(redis: Any, db: Any) -> None:
        takes(redis, _CAPACITY)
        time.sleep(_LATER_SECONDS)
        takes(redis, 2)
        takes(redis, 3)

    def none_made(redis: Any, db: Any) -> bool:
        """the time is the server's: no more is taken than the bucket held and gained"""
        due = _CAPACITY + (_now(redis) - begun) * _RATE
        require(sum(taken) <= due + _HAIR, f"{sum(taken)} tokens were taken, of {due:g}.")
        return True

    report = explore(
        {"ada": ada, "bob": bob}, given=given, invariant=none_made,
        passes=True, delays=False, prune=True, stop="first", max_runs=_MOST_RUNS,
    )  # fmt: skip
    if report.violations and report.findings[0].kind == "broken":
        claim = (none_made.__doc__ or "").strip()
        return Outcome(False, f"{_SITUATION}: an order breaks the claim {claim!r}.", report)
    return Outcome(True, "no tokens are made while time passes.", report)


def _now(redis: Any) -> float:
    seconds, micros = redis.time()
    return float(seconds) + float(micros) / 1e6
