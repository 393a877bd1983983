"""What the checks of labs 05 and 06 share: calls in sequence, callers at once, callers in processes."""

from collections.abc import Callable, Sequence
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import (
    Answer,
    ClientFunction,
    Trial,
    nothing_for_ever,
    outcome_of,
    require,
)

__all__ = ["ALONE", "START", "in_sequence", "reply_of", "run_limit", "together"]

ALONE = "One call after the other"
START = 1_800_000_000.0
"""A moment in seconds since 1970, as a caller's clock would show it."""
_CLOSE_SECONDS = 0.001
_TIMES = 3


def reply_of(who: str, answer: Any) -> tuple[bool, int, float]:
    """What a limiter returned, if it has the right form."""
    form = f"{who} was told {answer!r:.60}, not (allowed, remaining, retry_after)."
    require(isinstance(answer, tuple | list) and len(answer) == 3, form)
    allowed, remaining, retry_after = answer
    require(allowed in (True, False) and isinstance(remaining, int), form)
    require(isinstance(retry_after, int | float), form)
    return bool(allowed), remaining, retry_after


def run_limit(experiment: Any, answer: Answer) -> Outcome:
    """What only several processes show; a run that never met its fault is done again."""
    for _ in range(_TIMES):
        result = experiment.run(answer, live=False)
        if result.verdict.status != "not exercised":
            break
    situation = f"{experiment.clients + 1} callers in several processes"
    withstood = "it withstood all orders of the steps, and callers in processes."
    return outcome_of(result, situation, withstood=withstood)


def in_sequence(
    ask: Callable[[Any, float], Any], due: Any, moments: Sequence[float], *, situation: str
) -> Trial:
    """One caller, one call after the other, each compared with what is due, up to the first fault.

    Args:
        ask: makes a call at a moment: (redis, now).
        due: makes a model of the limit; its `call(now)` says what the call must be told.
        moments: when, in seconds since some start.
        situation: what is tried, in a few words.
    """
    faults: list[str] = []

    def compare(who: str, answer: Any, admitted: bool, left: int, wait: float) -> None:
        allowed, remaining, retry_after = reply_of(who, answer)
        verb = "admitted" if admitted else "refused"
        require(allowed == admitted, f"{who} was not {verb}, as is due.")
        require(remaining == left, f"{who} was told remaining={remaining}; {left} is due.")
        told = f"{who} was told retry_after={retry_after:.4g}; {wait:.4g} is due."
        require(abs(retry_after - wait) <= _CLOSE_SECONDS, told)

    def caller(redis: Any, db: Any) -> None:
        model = due()
        for number, moment in enumerate(moments, 1):
            answer = ask(redis, START + moment)
            try:
                compare(f"Call {number}, at {moment:g} s,", answer, *model.call(START + moment))
            except AssertionError as fault:
                faults.append(str(fault))
                return

    def as_due(redis: Any, db: Any) -> bool:
        """each call is told what is due"""
        require(not faults, "".join(faults))
        return True

    return Trial(situation, {"ada": caller}, lambda redis, db: faults.clear(), as_due)


def together(
    ask: Callable[[str, Any], Any], admitted: int, callers: int = 2, *, prune: bool = False
) -> list[Trial]:
    """Callers at once, of whom so many must be admitted; and one who crashes."""
    told: dict[str, Any] = {}

    def caller(name: str) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            told[name] = ask(name, redis)

        return client

    def so_many(redis: Any, db: Any) -> bool:
        """as many are admitted as there is room for"""
        inside = sorted(name for name, answer in told.items() if reply_of(name, answer)[0])
        shown = " and ".join(inside) or "Nobody"
        require(len(inside) == admitted, f"{shown} got in, with room for {admitted}.")
        return True

    def forget(redis: Any, db: Any) -> None:
        told.clear()

    names = ["ada", "bob", "cyd"][:callers]
    word = {2: "Two", 3: "Three"}[callers]
    return [
        Trial(
            f"{word} callers at once, room for {admitted}",
            {name: caller(name) for name in names},
            forget,
            so_many,
            prune=prune,
            sample=200 if prune else None,
        ),
        Trial(
            "A caller who may crash", {"ada": caller("ada")}, forget, nothing_for_ever, crashes=True
        ),
    ]
