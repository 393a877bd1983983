"""Wrong answers: how a lab's zoo keeps them, and how a counterexample is put in a line."""

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Wrong", "Zoo", "schedule"]


class Wrong(NamedTuple):
    """A wrong answer, and what it must be refused for.

    Attributes:
        number: the exercise.
        answer: the function.
        situation: how the reason begins; "" when that does not matter.
        because: a part of what is wrong in the end, or of the reason.
        schedule: the counterexample, see `schedule`; None when it does not matter.
        sequential: whether a single client, with no fault, is enough to refuse it.
    """

    number: str
    answer: Callable[..., Any]
    situation: str
    because: str
    schedule: str | None
    sequential: bool


class Zoo(list[Wrong]):
    """The wrong answers to the exercises of one lab."""

    def wrong(
        self,
        number: str,
        *,
        situation: str = "",
        because: str,
        schedule: str | None = None,
        sequential: bool = False,
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Put a wrong answer in the zoo; the arguments are those of `Wrong`."""

        def keep(function: Callable[..., Any]) -> Callable[..., Any]:
            self.append(Wrong(number, function, situation, because, schedule, sequential))
            return function

        return keep


def schedule(outcome: Any) -> str:
    """The counterexample in a line: "GET crash:SET" and so on; MULTI/EXEC for a transaction."""
    words = []
    for step in outcome.evidence.counterexample:
        name = "MULTI/EXEC" if step.label.startswith("MULTI ") else step.label.split()[0]
        words.append(name if step.move == "step" else f"{step.move}:{name}")
    return " ".join(words)
