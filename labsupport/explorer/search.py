"""Every order of the clients' steps, depth first, each replayed from the given state.

Stateless search (Godefroid, "Model Checking for Programming Languages using VeriSoft", POPL 1997):
nothing of a run is kept but its choices; the next run repeats them up to the last choice that has an
alternative. With pruning, sleep sets (Godefroid, LNCS 1032, 1996, chapter 5) let each class of orders
that differ only in steps that commute be completed once.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from labsupport.errors import ImplementationError, NotDeterministicError, NotSteppableError
from labsupport.explorer.adversary import Adversary
from labsupport.explorer.checker import Checker
from labsupport.explorer.operations import EVERYTHING, Effects, Move, Names
from labsupport.explorer.system import System

__all__ = ["Search"]

MAX_STEPS = 1_000
"""A run that takes more is given up."""


class Ending(Enum):
    COMPLETE = auto()  # all clients have finished
    EQUIVALENT = auto()  # pruned: only orders remain that were run already
    VOID = auto()  # the last choice turned out to be impossible
    ENDLESS = auto()  # the clients would go on for ever


@dataclass(slots=True)
class Choice:
    """A point of the run with its possible moves, those done with, and the one taken."""

    moves: list[Move]
    asleep: dict[Move, Effects]
    chosen: Move
    command: str
    effects: Effects
    void: set[Move] = field(default_factory=set)


class Search:
    """One exploration; the counters, and the checker's findings, are its result.

    Args:
        system: the server and the database that the steps go to.
        adversary: makes the moves.
        checker: looks at what each complete run has left.
        given: sets the state before each run.
        prune: run one order of each class of equivalent ones.
        max_runs: the search is given up after so many.

    Attributes:
        interleavings: how many runs were complete.
        given_up: why not all orders were run; empty when they were.
    """

    def __init__(
        self,
        system: System,
        adversary: Adversary,
        checker: Checker,
        given: Callable[..., Any],
        *,
        prune: bool,
        max_runs: int,
    ) -> None:
        self.system = system
        self.adversary = adversary
        self.checker = checker
        self.interleavings = 0
        self.given_up = ""
        self._given = given
        self._prune = prune
        self._max_runs = max_runs
        self._choices: list[Choice] = []

    def first(self) -> bool:
        """Run the first order, one client after the other; True when there are more."""
        more = self._one()
        for actor in self.adversary.actors:
            if actor.fault is not None:
                raise actor.fault
            if actor.done and actor.last is None:
                raise NotSteppableError(
                    f"The client {actor.name!r} took no step: no command reached the redis or db "
                    "that it was handed.",
                    "Use the function's own arguments: lambda redis, db: my_function(redis, db).",
                )
        return more

    def rest(self) -> None:
        """Run all the others."""
        runs = 1
        while self._one():
            runs += 1
            if runs >= self._max_runs:
                self.given_up = self.given_up or (
                    f"more than {self._max_runs:,} orders; explore fewer clients or steps, "
                    "or set prune=True."
                )
                return

    # one run

    def _one(self) -> bool:
        random.seed(0)  # the same draws in each run
        try:
            ending = self._run()
            if ending is Ending.COMPLETE:
                self.interleavings += 1
                self.checker.check(self.adversary.actors, self.adversary.trace)
            elif ending is Ending.ENDLESS and not self.given_up:
                self.given_up = self._endless()
        finally:
            self.adversary.end()
        return self._backtrack()

    def _run(self) -> Ending:
        self._begin()
        for choice in self._choices:  # what the runs before have done, up to the new choice
            ending = self._take(choice)
            if ending is not None:
                return ending
        asleep = self._asleep_after(self._choices[-1]) if self._choices else {}
        while True:
            moves = self.adversary.moves()
            if not moves:
                return Ending.ENDLESS if self.adversary.stuck else Ending.COMPLETE
            if len(self._choices) == MAX_STEPS:
                return Ending.ENDLESS
            awake = [move for move in moves if move not in asleep] if asleep else moves
            if not awake:
                return Ending.EQUIVALENT
            choice = Choice(moves, asleep, awake[0], "", EVERYTHING)
            self._choices.append(choice)
            ending = self._take(choice)
            if ending is not None:
                return ending
            asleep = self._asleep_after(choice)

    def _begin(self) -> None:
        self.system.reset()
        for actor in self.adversary.actors:
            actor.reset()
        try:
            self._given(self.system.redis, self.system.db)
        except Exception as error:
            raise ImplementationError("'given'", error) from error
        serial = self.interleavings == 0 and all(
            choice.chosen == choice.moves[0] for choice in self._choices
        )
        self.adversary.begin(serial=serial)

    def _take(self, choice: Choice) -> Ending | None:
        """Make the chosen move; when it is a replayed one, see that it is the same."""
        chosen = choice.chosen
        command = self.adversary.command(chosen)
        if not choice.command:
            choice.command = command
            if self._prune:
                choice.effects = self.adversary.effects(chosen)
        elif choice.command != command:
            raise NotDeterministicError(
                "The same schedule gave different steps when it was replayed.",
                "Reset in `given` what the functions remember between runs, and decide nothing "
                "by the clock or by chance.",
            )
        if self.adversary.make(chosen):
            return None
        choice.void.add(chosen)
        if chosen.kind != "idle":
            return Ending.VOID
        ways_out = [
            move
            for move in choice.moves
            if move.kind in {"timeout", "expire"}
            or (move.kind == "idle" and move not in choice.void)
        ]
        return Ending.VOID if ways_out else Ending.ENDLESS

    def _endless(self) -> str:
        waiting = [actor for actor in self.adversary.actors if actor.live]
        names = Names()
        if len(self.adversary.trace) >= MAX_STEPS or not waiting:
            return f"an order took more than {MAX_STEPS:,} steps."
        what = "; ".join(
            f"{actor.name!r} repeats {names.label(operation)} for ever"
            for actor in waiting
            if (operation := actor.pending or actor.last) is not None
        )
        return f"{what}. Bound the loop, or give what it waits for a way to end."

    # the next order

    def _asleep_after(self, choice: Choice) -> dict[Move, Effects]:
        """The moves whose orders with the chosen one were run already: they commute with it."""
        if not self._prune:
            return {}
        return {
            move: effects
            for move, effects in choice.asleep.items()
            if move.who != choice.chosen.who and not effects.conflicts(choice.effects)
        }

    def _backtrack(self) -> bool:
        while self._choices:
            choice = self._choices[-1]
            choice.asleep[choice.chosen] = choice.effects
            for move in choice.moves:
                if move not in choice.asleep:
                    choice.chosen, choice.command = move, ""
                    return True
            self._choices.pop()
        return False
