"""Putting an answer to the explorer: one situation after the other, until one breaks it."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any

from labsupport.exercises import Outcome
from labsupport.explore import explore

__all__ = ["Trial", "put_through", "require"]

Function = Callable[[Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Trial:
    """One question to the explorer; the arguments are those of `explore`.

    Args:
        situation: what is tried, in a few words.
        clients: name and function of each.
        given: sets the state before each run, or None.
        invariant: what must hold; its docstring is the claim. `require` in it gives the reason.
        crashes: who may crash.
        expires: keys that may expire at any moment.
        prune: run one order of each class of equivalent ones.
        sample: give up quietly after so many runs: a long answer is not a wrong one.
    """

    situation: str
    clients: Mapping[str, Function]
    given: Function | None
    invariant: Function
    _: KW_ONLY
    crashes: bool | Collection[str] = False
    expires: Collection[str] = ()
    prune: bool = False
    sample: int | None = None


def put_through(trials: Iterable[Trial]) -> Outcome:
    """The first trial that breaks the answer, or a pass."""
    orders = 0
    for trial in trials:
        report = explore(
            trial.clients,
            given=trial.given,
            invariant=trial.invariant,
            crashes=trial.crashes,
            expires=trial.expires,
            prune=trial.prune,
            max_runs=trial.sample or 20_000,
        )
        orders += report.interleavings
        if report.violations:
            claim = (trial.invariant.__doc__ or "").strip().rstrip(".")
            share = "already"
            if report.interleavings > 1:
                share = f"{report.violations:,} of {report.interleavings:,} orders"
            verb = "breaks" if report.violations == 1 else "break"
            reason = f"{trial.situation}: {share} {verb} the claim {claim!r}."
            return Outcome(False, reason, report)
        sampled = trial.sample is not None and report.given_up.startswith("more than")
        if not report.exhausted and not sampled:
            reason = f"{trial.situation}: an order does not end, because {report.given_up}"
            return Outcome(False, reason, report)
    return Outcome(True, f"it withstood all {orders:,} orders of the steps.", report)


def require(held: bool, otherwise: str) -> None:
    """Fail with what is wrong; the explorer shows it below the schedule."""
    if not held:
        raise AssertionError(otherwise)
