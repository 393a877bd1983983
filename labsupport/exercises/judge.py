"""The verdict on an answer: attack it until something breaks, and say what in the learner's words."""

import fnmatch
import functools
import inspect
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from labsupport.errors import LabError
from labsupport.exercises.attacks import ATTACKS, attack
from labsupport.exercises.contract import Contract, Functions
from labsupport.exercises.exercise import Outcome
from labsupport.exercises.matching import listed
from labsupport.exercises.rehearsal.in_turn import play_after
from labsupport.exercises.rehearsal.run import Breach
from labsupport.exercises.trials import elsewhere

__all__ = ["Refusal", "judged_by"]

_REMEMBERS = " It is what the process remembers: in a new process, the same calls break nothing."


class Refusal:
    """What broke an answer: the calls or the schedule, what was given and what is due.

    Args:
        breach: how the contract was broken.
        begins: the start in words.

    Attributes:
        counterexample: the explorer's steps; None when the calls came one after the other.
    """

    def __init__(self, breach: Breach, begins: str) -> None:
        self.breach = breach
        self._begins = begins
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
        lines = [self._begins]
        if case.programs:
            for who, calls in case.programs.items():
                lines.append(f"{who}: {listed([call.shown(who) for call in calls])}")
            if self.counterexample:
                lines += ["", _timeless(report.schedule.rpartition("\n\n")[0])]
        if report is None:
            for number, (who, call) in enumerate(case.after[: self.breach.done], 1):
                lines.append(f"{number}. {who}: {call.shown(who)}")
        lines += ["", self.breach.fault.text]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.schedule

    __repr__ = __str__

    def _repr_mimebundle_(self, **options: Any) -> Any:
        if self.counterexample and hasattr(self.report, "_repr_mimebundle_"):
            return {**self.report._repr_mimebundle_(**options), "text/plain": str(self)}
        return {"text/plain": str(self)}


def _timeless(schedule: str) -> str:
    """Without what the real clock decides: the same answer gets the same reason on any machine."""
    schedule = re.sub(r"(P?TTL \S+ → )\d+", r"\1‹time left›", schedule)
    return re.sub(r"(P?EXPIRE \S+ )\d+(?= → )", r"\1‹time left›", schedule)


@dataclass(frozen=True, slots=True)
class judged_by:  # noqa: N801 (it reads as what it does: check=judged_by(contract))
    """The check that puts an answer to a contract's attacks.

    Args:
        contract: what is due.
        also: judges what only real processes show, once nothing else has broken an answer.
    """

    contract: Contract
    also: Callable[[Callable[..., Any]], Outcome] | None = None

    def __call__(self, answer: Callable[..., Any]) -> Outcome:
        runs, fresh = 0, elsewhere(answer)  # before it remembers anything
        functions = self.contract.bound(answer)
        for _, took, breach in attack(self.contract, functions):
            runs += took
            if breach is not None:
                refusal = Refusal(breach, self.contract.begins(breach.case.start))
                remembers = _due_to_memory(self.contract, functions, fresh, breach)
                more = _REMEMBERS if remembers else ""
                return Outcome(False, reason_of(self.contract, breach, more), refusal)
        if self.also is not None and not (found := self.also(answer)).passed:
            return found
        return Outcome(
            True, f"it kept its contract in {runs:,} runs, whatever happened to it.", runs
        )


def _due_to_memory(
    contract: Contract, answer: Functions, fresh: Callable[..., Any], breach: Breach
) -> bool:
    """Whether calls that break the answer each time break no copy of it that remembers no others."""
    if breach.attack != ATTACKS[0].name:
        return False

    def breaks(functions: Functions) -> bool:
        return play_after(contract, functions, breach.case, attack=breach.attack)[1] is not None

    with suppress(LabError):
        copies = contract.bound(fresh)
        if breaks(answer):
            for one in copies.values():
                _forget(one)
            return not breaks(copies)
    return False


def _forget(function: Callable[..., Any]) -> None:
    """Empty what functools keeps for it, or for those of its module: a copy may share that."""
    for one in (function, *getattr(inspect.unwrap(function), "__globals__", {}).values()):
        if isinstance(one, functools._lru_cache_wrapper):
            one.cache_clear()


def reason_of(contract: Contract, breach: Breach, more: str = "") -> str:
    """What was tried, how it failed, and the clause that is broken."""
    attack = breach.attack[0].upper() + breach.attack[1:]
    clause = clause_of(contract, breach).rstrip(".")  # the sentence that quotes it has a full stop
    return f"{attack}: {breach.fault.text}{more} The contract: “{clause}”."


def clause_of(contract: Contract, breach: Breach) -> str:
    """The sentence of the docstring that a breach is about."""
    clauses, fault = contract.clauses, breach.fault
    if breach.case.about and fault.kind in ("told", "left"):
        return breach.case.about
    about = [name for name in clauses if fault.key and fnmatch.fnmatchcase(fault.key, name)]
    names = [fault.kind] if fault.kind in ("waits", "stays") else []
    names += [name for name in about if " " in name]  # it is in words, and says what is meant
    if "crash" in breach.attack and fault.kind == "lives":
        names += ["lives", *about]
    names += [
        name for name in ("crash", "pause", "clock", "reply that is lost") if name in breach.attack
    ]
    if breach.case.programs:
        names.append("at once")
    elif breach.done:
        last = breach.case.after[breach.done - 1][1].name
        names += [f"{last} tells"] if fault.kind in ("told", "raised") else []
        names.append(last)
    names += {"left": [], "raised": ["raised", "told"]}.get(fault.kind, [fault.kind])
    return next(clauses[name] for name in (*names, *about, "left", "told") if name in clauses)
