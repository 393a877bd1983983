"""The course: its labs, found by folder, and their exercises by number."""

import ast
import functools
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labsupport.errors import UnknownNameError

if TYPE_CHECKING:
    from IPython.display import Markdown

    from labsupport.exercises import Exercise, Outcome

__all__ = ["check", "exercise", "exercises_of", "hint", "solution", "titles"]

_LABS = Path(__file__).parent / "labs"


@functools.cache
def titles() -> dict[str, str]:
    """The title of each lab, "10 List queue", by the name of its folder, in the course's order.

    A folder is a lab when its docstring begins with a number; the first line, up to the colon, is the
    title. Folders without one hold what several labs share.
    """
    found = {}
    for face in _LABS.glob("*/__init__.py"):
        title = (ast.get_docstring(ast.parse(face.read_text("utf-8"))) or "").partition(":")[0]
        if re.match(r"\d\d ", title):
            found[face.parent.name] = title
    return dict(sorted(found.items(), key=lambda lab: lab[1]))


def exercises_of(lab: str) -> "tuple[Exercise, ...]":
    """The exercises of a lab, by the name of its folder, e.g. "list_queue"."""
    found: tuple[Exercise, ...] = importlib.import_module(
        f"labsupport.labs.{lab}.exercises"
    ).EXERCISES
    return found


def exercise(number: str) -> "Exercise":
    """The exercise of that number, e.g. "01.1".

    Raises:
        UnknownNameError: there is none; the message lists those that there are.
    """
    lab = next((name for name, title in titles().items() if title[:2] == str(number)[:2]), None)
    one = next((one for one in (exercises_of(lab) if lab else ()) if one.number == number), None)
    if one is not None:
        return one
    known = ", ".join(one.number for name in titles() for one in exercises_of(name))
    raise UnknownNameError(f"There is no exercise {number!r}.", f"There are {known}.")


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
    """
    return exercise(number).judge(answer)


def hint(number: str) -> "Markdown":
    """The next hint of an exercise; after the last one, all of them."""
    return exercise(number).next_hint()


def solution(number: str) -> "Markdown":
    """One answer that passes, as source code."""
    return exercise(number).show_solution()
