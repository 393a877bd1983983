"""An exercise, and what becomes of an answer to it."""

import inspect
import re
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from typing import Any

from IPython.display import Markdown

from labsupport.errors import (
    SURROUNDINGS,
    ImplementationError,
    Interrupted,
    InvalidSettingError,
    LabError,
)
from labsupport.exercises.progress import Progress
from labsupport.exercises.stale import require_current
from labsupport.prints import capped
from labsupport.verdict import Status, row

__all__ = ["Exercise", "Outcome", "source"]

_PLAIN = "margin:1em 0;white-space:pre-wrap;word-break:normal"
_TABLE = "margin:1em 0;border-collapse:collapse;font-family:monospace;text-align:left"
_CELL = "padding:.1em 1em .1em 0;text-align:left;vertical-align:top;white-space:pre-wrap;border:0"
_LANES = re.compile(r"\S+(?: \S+)*")
_STEP = re.compile(r" *(\d+) {2} *(.*)")


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

    @property
    def _told(self) -> tuple[str, str, str]:
        """The verdict with its reason, the calls or steps that led to it, and what to do now."""
        sign, word = ("✓", "passed") if self.passed else ("✗", "not yet")
        head = f"{sign} {self.number} {word}: {self.reason}"
        if self.passed:
            return head, "", f'Compare with the lab\'s own: solution("{self.number}")'
        schedule = getattr(self.evidence, "schedule", "")
        steps, _, finding = schedule.rpartition("\n\n")
        shown = steps if finding in self.reason else schedule  # it is said once
        return head, shown, f'Another try, or a hint("{self.number}").'

    def __str__(self) -> str:
        head, shown, then = self._told
        return f"{head}\n\n{shown}\n\n{then}" if shown else f"{head}\n{then}"

    def _repr_html_(self) -> str:
        """Sentences break between words, and a schedule is a table whose cells do."""
        head, shown, then = self._told
        sign_and_number, _, reason = head.partition(": ")
        status: Status = "holds" if self.passed else "broken"
        first, *more = reason.split("\n")
        head = row(status, sign_and_number.split(" ", 1)[1], first)
        said = (
            f'<div style="white-space:pre-line">{escape(chr(10).join(more))}</div>' if more else ""
        )
        return f"{head}{said}{_steps(shown)}<div>{escape(then)}</div>"

    __repr__ = __str__


def _steps(shown: str) -> str:
    """Calls and what does not hold as they are, and between them a schedule as a table."""
    parts = shown.split("\n\n")
    at = next((at for at, part in enumerate(parts) if _rows(part)), len(parts))
    table = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{escape(one)}</td>' for one in cells) + "</tr>"
        for part in parts[at : at + 1]
        for cells in _rows(part)
    )
    table = table and f'<table style="{_TABLE}">{table}</table>'
    return _plain(parts[:at]) + table + _plain(parts[at + 1 :])


def _plain(parts: list[str]) -> str:
    return f'<pre style="{_PLAIN}">{escape(text)}</pre>' if (text := "\n\n".join(parts)) else ""


def _passed_through(answer: Callable[..., Any], error: Exception) -> bool:
    """Whether an error came by code of the module, or the notebook, in which the answer is written."""
    space = getattr(answer, "__globals__", None)
    return any(frame.f_globals is space for frame, _ in traceback.walk_tb(error.__traceback__))


def _rows(schedule: str) -> list[list[str]]:
    """The names of the lanes, and each step in its lane; none, if it is no schedule."""
    header, *lines = schedule.split("\n")
    steps = [_STEP.fullmatch(line) for line in lines]
    if not header.startswith("    ") or not lines or not all(steps):
        return []
    lanes = list(_LANES.finditer(header))
    rows = [["", *(lane[0] for lane in lanes)]]
    for step in filter(None, steps):
        cells = [""] * len(lanes)  # a step is in one lane; its text may be longer than that is wide
        cells[sum(lane.start() <= step.start(2) for lane in lanes) - 1] = step[2]
        rows.append([step[1], *cells])
    return rows


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

    def judge(self, answer: Callable[..., Any]) -> Outcome:
        """Try to break an answer, and remember a pass or why it was refused.

        Args:
            answer: the learner's function, with the stub's parameters.

        Raises:
            InvalidSettingError: `answer` is not a function with the stub's parameters, or the cell
                that defines it has failed since.
            LabError: the server or the database cannot be had; it says nothing of the answer.
        """
        from labsupport.explorer import one_process  # with all of redis-py

        _compare_parameters(self, answer)
        require_current(answer)
        try:
            with capped(), one_process():  # two clients of an experiment are threads of one, too
                found = self.check(answer)
        except KeyboardInterrupt:
            raise Interrupted from None
        except SURROUNDINGS:
            raise
        except ImplementationError as error:
            found = Outcome(False, error.problem)
        except LabError as error:
            found = Outcome(False, f"{error.problem} {error.remedy}")
        except Exception as error:  # of a function that the answer has returned, say
            if not _passed_through(answer, error):
                raise
            found = Outcome(False, ImplementationError("the answer", error).problem)
        progress = Progress()
        if found.passed and self.number not in progress.passed:
            progress.passed.append(self.number)
            progress.save()
        elif not found.passed:
            progress.note(self.number, found.reason)
            progress.save()
        return Outcome(found.passed, found.reason, found.evidence, self.number)

    def next_hint(self) -> Markdown:
        """One hint more than was shown before; after the last one, all of them."""
        progress = Progress()
        shown = min(progress.hints.get(self.number, 0) + 1, len(self.hints))
        progress.hints[self.number] = shown
        progress.save()
        lines = [f"{place}. {text}" for place, text in enumerate(self.hints[:shown], 1)]
        left = len(self.hints) - shown
        more = (
            f"*{left} more: run the cell again.*"
            if left
            else f'*That was the last; `solution("{self.number}")` shows one.*'
        )
        return Markdown("\n".join([f"**{self.number} {self.title}**", "", *lines, "", more]))

    def show_solution(self) -> Markdown:
        """One answer that passes, as source code."""
        return Markdown(f"**{self.number} {self.title}**\n\n```python\n{source(self.solution)}```")


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
    for is_one, kind in (
        (inspect.iscoroutinefunction, "an async function"),
        (inspect.isasyncgenfunction, "an async generator function"),
        (inspect.isgeneratorfunction, "a generator function"),
    ):
        if is_one(answer) and not is_one(one.stub):
            raise InvalidSettingError(
                f"{getattr(answer, '__name__', 'the answer')} is {kind}: to call it runs none of it.",
                f"Write a plain function, as the stub is: def {shown}.",
            )
    with suppress(ValueError):  # a builtin without a signature
        try:
            inspect.signature(answer).bind(*wanted)
        except TypeError:
            raise InvalidSettingError(
                f"{getattr(answer, '__name__', 'the answer')} does not take {', '.join(wanted)}.",
                f"Keep the stub's form: {shown}.",
            ) from None
