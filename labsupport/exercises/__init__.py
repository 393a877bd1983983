"""Exercises: a stub, hints that come one at a time, a check that tries to break the answer."""

import importlib
import inspect
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from IPython.display import Markdown

from labsupport.errors import ImplementationError, InvalidSettingError, LabError, UnknownNameError
from labsupport.explore import Report

__all__ = ["MODULES", "Exercise", "Outcome", "check", "exercise", "hint", "solution"]

MODULES = {
    "00": "start_here",
    "01": "cache_aside",
    "02": "write_through",
    "03": "write_behind",
    "04": "cache_invalidation",
    "05": "sliding_window",
    "06": "token_bucket",
    "07": "distributed_lock",
    "08": "redlock",
    "09": "pubsub",
    "10": "list_queue",
    "11": "streams",
    "12": "sessions",
}
"""The module with the exercises of each lab, by the lab's number."""
_PROGRESS = ".progress.json"


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What became of an answer; as a cell's last value it shows itself.

    Args:
        passed: True when nothing broke it.
        reason: what broke it, or what it withstood, in one or two lines.
        evidence: the explorer's report or the experiment's result that says so.
    """

    passed: bool
    reason: str
    evidence: Any = None
    number: str = ""

    def __str__(self) -> str:
        head = (
            f"{'✓' if self.passed else '✗'} {self.number} {'passed' if self.passed else 'not yet'}"
        )
        lines = [f"{head}: {self.reason}"]
        if isinstance(self.evidence, Report) and self.evidence.counterexample:
            lines += ["", self.evidence.schedule]
        if self.passed:
            lines.append(f'Compare with the lab\'s own: solution("{self.number}")')
        else:
            lines.append(f'Another try, or a hint("{self.number}").')
        return "\n".join(lines)

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class Exercise:
    """One exercise.

    Args:
        number: lab and place, e.g. "01.1".
        title: what is to be done, in a few words.
        stub: the function that the learner starts from; it must not pass.
        solution: a function that passes.
        hints: from a nudge to nearly the answer.
        check: puts an answer to the test and returns an `Outcome`.
    """

    number: str
    title: str
    stub: Callable[..., Any]
    solution: Callable[..., Any]
    hints: tuple[str, ...]
    check: Callable[[Callable[..., Any]], Outcome]


@dataclass(slots=True)
class _Progress:
    """What the learner has passed and which hints were shown; a file beside the notebooks."""

    path: Path = field(default_factory=lambda: Path(os.environ.get("LAB_PROGRESS", _PROGRESS)))
    passed: list[str] = field(default_factory=list)
    hints: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with suppress(OSError, ValueError, TypeError, AttributeError):  # absent, or damaged: anew
            saved = json.loads(self.path.read_text())
            self.passed = [str(number) for number in saved["passed"]]
            self.hints = {str(key): int(value) for key, value in saved["hints"].items()}

    def save(self) -> None:
        with suppress(OSError):  # a read-only folder costs the memory of progress, nothing else
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps({"passed": self.passed, "hints": self.hints}, indent=1))
            new.replace(self.path)


def exercise(number: str) -> Exercise:
    """The exercise of that number, e.g. "01.1".

    Raises:
        UnknownNameError: there is none; the message lists those that there are.
    """
    known: list[str] = []
    for module in MODULES.values():
        found = importlib.import_module(f"labsupport.exercises.{module}").EXERCISES
        for one in found:
            if one.number == number:
                return one  # type: ignore[no-any-return]
            known.append(one.number)
    raise UnknownNameError(f"There is no exercise {number!r}.", f"There are {', '.join(known)}.")


def check(number: str, answer: Callable[..., Any]) -> Outcome:
    """Try to break an answer.

    Args:
        number: e.g. "01.1".
        answer: the learner's function, with the stub's parameters.

    Returns:
        An `Outcome`: .passed, .reason, .evidence.

    Raises:
        UnknownNameError: there is no such exercise.
        InvalidSettingError: `answer` is not a function with the stub's parameters.
    """
    one = exercise(number)
    _compare_parameters(one, answer)
    try:
        found = one.check(answer)
    except ImplementationError as error:
        found = Outcome(False, error.problem)
    except LabError as error:
        found = Outcome(False, f"{error.problem} {error.remedy}")
    progress = _Progress()
    if found.passed and number not in progress.passed:
        progress.passed.append(number)
        progress.save()
    return Outcome(found.passed, found.reason, found.evidence, number)


def hint(number: str) -> Markdown:
    """The next hint of an exercise; after the last one, all of them."""
    one = exercise(number)
    progress = _Progress()
    shown = min(progress.hints.get(number, 0) + 1, len(one.hints))
    progress.hints[number] = shown
    progress.save()
    lines = [f"{place}. {text}" for place, text in enumerate(one.hints[:shown], 1)]
    left = len(one.hints) - shown
    more = (
        f"*{left} more: run the cell again.*"
        if left
        else f'*That was the last; `solution("{number}")` shows one.*'
    )
    return Markdown("\n".join([f"**{number} {one.title}**", "", *lines, "", more]))


def solution(number: str) -> Markdown:
    """One answer that passes, as source code."""
    one = exercise(number)
    return Markdown(f"**{number} {one.title}**\n\n```python\n{source(one.solution)}```")


def source(function: Callable[..., Any]) -> str:
    """The source of a stub or solution, as it stands in a cell."""
    text = inspect.getsource(function)
    name = function.__name__
    public = name.removesuffix("_stub").removesuffix("_solution")
    return text.replace(f"def {name}(", f"def {public}(", 1)


def _compare_parameters(one: Exercise, answer: Any) -> None:
    wanted = list(inspect.signature(one.stub).parameters)
    shown = f"{source(one.stub).partition('(')[0].removeprefix('def ')}({', '.join(wanted)})"
    if not callable(answer):
        raise InvalidSettingError(
            f"check({one.number!r}) was given {type(answer).__name__}, not a function.",
            f"Pass the function itself, without calling it; its form is {shown}.",
        )
    with suppress(ValueError):  # a builtin without a signature
        try:
            inspect.signature(answer).bind(*wanted)
        except TypeError:
            raise InvalidSettingError(
                f"{getattr(answer, '__name__', 'the answer')} does not take {', '.join(wanted)}.",
                f"Keep the stub's form: {shown}.",
            ) from None
