"""The course: its labs, found by folder, and their exercises by number."""

import ast
import functools
import importlib
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labsupport.errors import CallError, UnknownNameError, called_as

if TYPE_CHECKING:
    from IPython.display import Markdown

    from labsupport.exercises import Exercise, Outcome

__all__ = [
    "check",
    "exercise",
    "exercise_titles",
    "exercises_of",
    "hint",
    "overview",
    "solution",
    "titles",
]

_LABS = Path(__file__).parent / "labs"
_TIE = "\N{NO-BREAK SPACE}"
PAGE = "course.md"
"""The page that `make lab` opens first; it lies beside the notebooks, and a pass is noted there."""


def titles() -> dict[str, str]:
    """The title of each lab, "10 List queue", by the name of its folder, in the course's order.

    A folder is a lab when its docstring begins with a number; the first line, up to the colon, is the
    title. Folders without one hold what several labs share.
    """
    return {lab: said.partition(": ")[0] for lab, said in _first_lines().items()}


@functools.cache
def _first_lines() -> dict[str, str]:
    """What each lab's docstring begins with, "10 List queue: the job that dies with its worker."."""
    found = {}
    for face in _LABS.glob("*/__init__.py"):
        said = (ast.get_docstring(ast.parse(face.read_text("utf-8"))) or "").partition("\n")[0]
        if re.match(r"\d\d ", said):
            found[face.parent.name] = said
    return dict(sorted(found.items(), key=lambda lab: lab[1]))


def exercises_of(lab: str) -> "tuple[Exercise, ...]":
    """The exercises of a lab, by the name of its folder, e.g. "list_queue"."""
    found: tuple[Exercise, ...] = importlib.import_module(
        f"labsupport.labs.{lab}.exercises"
    ).EXERCISES
    return found


@functools.cache
def exercise_titles() -> dict[str, str]:
    """The title of each exercise, by its number; read from the source, as importing takes a second."""
    found = {}
    for lab in titles():
        source = (_LABS / lab / "exercises.py").read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Exercise":
                told = {one.arg: ast.literal_eval(one.value) for one in node.keywords[:2]}
                found[str(told["number"])] = str(told["title"])
    return dict(sorted(found.items()))


def overview(passed: Collection[str], notebooks: Path) -> str:
    """The course as a page of Markdown: its labs, what was passed, and what comes next.

    Args:
        passed: the numbers of the exercises.
        notebooks: the folder of the notebooks, whose cards say the minutes.
    """
    exercises = exercise_titles()
    coming = next((number for number in exercises if number not in passed), None)
    count = sum(number in passed for number in exercises)
    lines = [f"# Redis Patterns Lab\n\n{count} of {len(exercises)} exercises passed."]
    if coming is None:
        lines.append("That is all of them.")
    else:
        lab, title = next(one for one in titles().items() if one[1][:2] == coming[:2])
        begin = "Begin with" if not count else "Next:"
        lines.append(
            f"**{begin} [{title}]({title[:2]}_{lab}.ipynb)**, exercise {coming}: {exercises[coming]}."
        )
    lines.append("")  # and a list: JupyterLab would put a table into the middle of the page
    for lab, title in titles().items():
        marks = [
            f"{'✓' if number in passed else '○'}{_TIE}{number}"
            for number in exercises
            if number[:2] == title[:2]
        ]
        subject = _first_lines()[lab].partition(": ")[2]
        name = f"{title[:2]}_{lab}.ipynb"
        minutes = _minutes(notebooks / name)
        lines.append(f"* [{title}]({name}): {subject} {f'{_TIE}· '.join([*minutes, *marks])}")
    legend = "✓ passed, ○ not yet. The minutes are those of the core path, without the exercises."
    return "\n".join([*lines, "", f"{legend} `make progress` says the same.", ""])


def _minutes(notebook: Path) -> list[str]:
    """The core path's, as its card has them; none where there is no card."""
    with suppress(OSError), notebook.open(encoding="utf-8") as file:
        if found := re.search(r"\*\*Time\*\* \| (\d+) minutes", file.read(4000)):
            return [f"{found[1]} min"]
    return []


def exercise(number: str) -> "Exercise":
    """The exercise of that number, e.g. "01.1".

    Raises:
        UnknownNameError: there is none; the message lists those that there are.
    """
    lab = next((name for name, title in titles().items() if title[:2] == str(number)[:2]), None)
    one = next((one for one in (exercises_of(lab) if lab else ()) if one.number == number), None)
    if one is not None:
        return one
    known = ", ".join(
        one.number for name in ([lab] if lab else titles()) for one in exercises_of(name)
    )
    raise UnknownNameError(f"There is no exercise {number!r}.", f"There are {known}.")


_CHECK = 'check("01.1", get_product)'


@called_as(_CHECK)
def check(number: str, answer: Callable[..., Any]) -> "Outcome":
    """Try to break an answer.

    Args:
        number: e.g. "01.1".
        answer: the learner's function, with the stub's parameters.

    Returns:
        An `Outcome`: .passed, .reason, .evidence.

    Raises:
        UnknownNameError: there is no such exercise.
        InvalidSettingError: `answer` is not a function with the stub's parameters.
        CallError: an argument is missing, or they are in another order.
        LabError: the server or the database cannot be had; it says nothing of the answer.
    """
    _require_number("check", number, _CHECK)
    found = exercise(number).judge(answer)
    if found.passed:
        from labsupport.exercises import Progress

        with suppress(OSError):  # a read-only folder
            page = Path(PAGE)
            if page.exists():
                page.write_text(overview(Progress().passed, page.parent), encoding="utf-8")
    return found


@called_as('hint("01.1")')
def hint(number: str) -> "Markdown":
    """The next hint of an exercise; after the last one, all of them."""
    _require_number("hint", number, 'hint("01.1")')
    return exercise(number).next_hint()


@called_as('solution("01.1")')
def solution(number: str) -> "Markdown":
    """One answer that passes, as source code."""
    _require_number("solution", number, 'solution("01.1")')
    return exercise(number).show_solution()


def _require_number(name: str, number: object, form: str) -> None:
    if not isinstance(number, str):
        raise CallError(
            f"{name}() was given {type(number).__name__} where the exercise's number is due, as text.",
            f"Call it as {form}.",
        )
