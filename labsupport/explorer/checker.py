"""Whether a complete run broke the invariant, and the shortest run that did."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.explorer.clients.actor import Actor
from labsupport.explorer.operations import Move, Names, Operation
from labsupport.explorer.report import Step
from labsupport.explorer.system import System

__all__ = ["Checker"]

Trace = Sequence[tuple[Move, Operation | None]]


class Checker:
    """Puts the invariant to each complete run.

    Args:
        system: holds the state that a run has left.
        invariant: must hold when all have finished.
        claim: what it says, in words.

    Attributes:
        violations: how many runs broke it.
        shortest: the steps of the shortest of these, with the fewest switches; None without any.
        reason: how that one ended, in one line.
    """

    def __init__(self, system: System, invariant: Callable[..., Any], claim: str) -> None:
        self.violations = 0
        self.shortest: list[Step] | None = None
        self.reason = ""
        self._system = system
        self._invariant = invariant
        self._claim = claim
        self._switches = 0  # in the shortest

    def check(self, actors: Sequence[Actor], trace: Trace) -> None:
        """Look at what a complete run has left."""
        reason = self._broken(actors)
        if reason is None:
            return
        self.violations += 1
        if self.shortest is not None and len(trace) > len(self.shortest):
            return
        movers = [move.who for move, _ in trace]
        switches = sum(a != b for a, b in pairwise(movers))
        if self.shortest is None or (len(trace), switches) < (len(self.shortest), self._switches):
            self.shortest, self._switches = _steps(trace), switches
            self.reason = reason or "When all have finished, this does not hold: " + self._claim

    def _broken(self, actors: Sequence[Actor]) -> str | None:
        """How the run broke the invariant, empty if it just does not hold; None when it holds."""
        for actor in actors:
            if actor.error is not None:
                return f"{actor.name} raised {type(actor.error).__name__}: {actor.error}"
        try:
            held = self._invariant(self._system.redis, self._system.db)
        except AssertionError as error:
            return str(error).partition("\n")[0]
        except Exception as error:
            raise ImplementationError("The invariant", error) from error
        if not isinstance(held, bool | int) and type(held).__name__ not in {"bool", "bool_"}:
            raise InvalidSettingError(
                f"The invariant returned {held!r}, which is neither True nor False.",
                "Let it return a comparison, such as redis.get('n') == '2'.",
            )
        return None if held else ""


def _steps(trace: Trace) -> list[Step]:
    names = Names()
    steps = []
    for move, operation in trace:
        if operation is None:
            steps.append(Step("redis", "expire", move.who))
            continue
        store = "redis" if operation.kind == "redis" else "database"
        label = names.label(operation)
        reply = names.reply(operation) if move.kind == "step" else ""
        steps.append(Step(move.who, move.kind, label, reply, store))
    return steps
