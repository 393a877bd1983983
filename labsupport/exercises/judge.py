"""The verdict on an answer: attack it until something breaks, and say what in the learner's words."""

import fnmatch
from collections.abc import Callable
from typing import Any

from labsupport.exercises.attacks import attack
from labsupport.exercises.contract import Contract
from labsupport.exercises.exercise import Outcome
from labsupport.exercises.rehearsal import Breach

__all__ = ["Refusal", "judged_by"]

_LONGEST = 400


class Refusal:
    """What broke an answer: the calls or the schedule, what was given and what is due.

    Args:
        breach: how the contract was broken.

    Attributes:
        counterexample: the explorer's steps; None when the calls came one after the other.
    """

    def __init__(self, breach: Breach) -> None:
        self.breach = breach
        self.report = breach.report

    @property
    def violations(self) -> int:
        """How many of the orders that were run broke the contract; at least one."""
        return max(1, getattr(self.report, "violations", 1))

    @property
    def counterexample(self) -> Any:
        """The explorer's steps; None when the calls came one after the other."""
        return getattr(self.report, "counterexample", None)

    @property
    def schedule(self) -> str:
        """The calls, or the schedule, with the state before them."""
        case, report = self.breach.case, self.report
        lines = [f"In Redis at the start: {case.start.shown()}"]
        if report is not None:
            for who, calls in case.programs.items():
                lines.append(f"{who}: {', '.join(call.shown(who) for call in calls)}")
            if self.counterexample:
                lines += ["", report.schedule.rpartition("\n\n")[0]]
        else:
            for number, (who, call) in enumerate(case.after[: self.breach.done], 1):
                lines.append(f"{number}. {who} calls {call.shown(who)}")
        lines += ["", self.breach.fault.text]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.schedule

    __repr__ = __str__

    def _repr_mimebundle_(self, **options: Any) -> Any:
        if self.counterexample and hasattr(self.report, "_repr_mimebundle_"):
            return {**self.report._repr_mimebundle_(**options), "text/plain": str(self)}
        return {"text/plain": str(self)}


def judged_by(contract: Contract) -> Callable[[Callable[..., Any]], Outcome]:
    """The check that puts an answer to a contract's attacks."""

    def check(answer: Callable[..., Any]) -> Outcome:
        runs = 0
        for one, took, breach in attack(contract, answer):
            runs += took
            if breach is not None:
                return Outcome(False, reason_of(contract, breach), Refusal(breach))
        return Outcome(True, f"it kept its contract in {runs:,} runs: {one.name}, too.", runs)

    return check


def reason_of(contract: Contract, breach: Breach) -> str:
    """The clause that is broken, and how, in two sentences."""
    clause = clause_of(contract, breach)
    attack = breach.attack[0].upper() + breach.attack[1:]
    return f"{attack}: {breach.fault.text} The contract says: “{clause}”"[:_LONGEST]


def clause_of(contract: Contract, breach: Breach) -> str:
    """The sentence of the docstring that a breach is about."""
    clauses = contract.clauses
    fault = breach.fault
    special = "crash" if "crash" in breach.attack else "at once" if breach.report else ""
    for name in (special, fault.kind if fault.kind != "left" else "", "pause"):
        if name in clauses and name != "pause":
            return clauses[name]
    for pattern, clause in clauses.items():
        if fault.key and fnmatch.fnmatchcase(fault.key, pattern):
            return clause
    return clauses.get("left") or clauses["told"]
