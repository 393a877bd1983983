"""Every order of the clients' steps, depth first, each replayed from the given state.

Stateless search (Godefroid, "Model Checking for Programming Languages using VeriSoft", POPL 1997):
nothing of a run is kept but its choices; the next run repeats them up to the last choice that has an
alternative. With pruning, sleep sets (Godefroid, LNCS 1032, 1996, chapter 5) let each class of orders
that differ only in steps that commute be completed once.
"""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from labsupport.errors import ImplementationError, NotDeterministicError, NotSteppableError
from labsupport.explorer.checker import Checker
from labsupport.explorer.clients.actor import Actor
from labsupport.explorer.moves.adversary import Adversary
from labsupport.explorer.moves.attempts import LASTS, MAX_IDLE
from labsupport.explorer.moves.stage import REMEMBERS_NOT
from labsupport.explorer.operations import EVERYTHING, Effects, Move, Taken, owner
from labsupport.explorer.system import System

__all__ = ["Ending", "NoStepError", "Search"]

MAX_STEPS = 1_000
"""A run that takes more is given up."""
MAX_ALONE = 60
"""So many steps in a row, or four times as many as in the first order, though others could move, too."""
MAX_ENDLESS = 20
"""After so many of those the search is, too."""
LONG, TIMES_THE_FIRST = 200, 20
"""A run of more steps, and of so many times those of the first order, is long."""
MOST_MOVES_LONG = 60_000
"""So many moves are made after the first long run: there may be ever longer ones."""
MOST_MEETINGS = 500
"""How many orders with few switches are run where there are too many for all."""

# what they are variants of
_USUAL = {"late": "step", "delay": "step"} | dict.fromkeys(LASTS, "idle")
_NATURAL = frozenset({"step", "arrive", "idle", "timeout", "pass"})


class NoStepError(NotSteppableError):
    """A client took no step in the first order."""


class Ending(Enum):
    COMPLETE = auto()  # all clients have finished
    EQUIVALENT = auto()  # pruned: only orders remain that were run already
    VOID = auto()  # the last choice turned out to be impossible
    STUCK = auto()  # nobody can move on
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
    looked: set[Move] = field(default_factory=set)  # after these a client has looked at a clock
    resort: bool = False  # the environment has been asked for a way out
    foresees: bool = False  # moments to come were looked for; what is seen then is remembered


class Search:
    """One exploration; the counters, and the checker's findings, are its result.

    Args:
        system: the server and the database that the steps go to.
        adversary: makes the moves.
        checker: looks at what each run has left.
        given: sets the state before each run.

    Attributes:
        interleavings: how many runs came to an end, or to where nobody could move on.
        given_up: why not all orders were run; empty when they were.
        prune: run one order of each class of equivalent ones.
        restart: brings what the clients keep of chance back to its beginning.
        heed: called between two steps; it raises what has come from outside meanwhile.
    """

    def __init__(
        self,
        system: System,
        adversary: Adversary,
        checker: Checker,
        given: Callable[..., Any],
    ) -> None:
        self.system = system
        self.adversary = adversary
        self.checker = checker
        self.interleavings = 0
        self.given_up = ""
        self.restart: Callable[[], None] = lambda: None
        self.heed: Callable[[], None] = lambda: None
        self._given = given
        self.prune = False
        self._max_runs, self._max_moves = 20_000, math.inf
        self._stop_first = False
        self._steps: Counter[str] = Counter()  # of each client, in the first order
        self._endless = 0.0
        self._choices: list[Choice] = []

    def limit(self, *, max_runs: int, max_moves: float, stop_first: bool) -> None:
        """Give the search up after so many runs or moves, or end it at the first violation."""
        self._max_runs, self._max_moves = max_runs, max_moves
        self._stop_first = stop_first

    def first(self) -> bool:
        """Run the first order, one client after the other; True when there are more."""
        if self.system.clock.passing:
            self._rehearse()
        more = self._one()
        for actor in self.adversary.clients:
            actor.at_first = False
            if actor.fault is not None:
                raise actor.fault
            if actor.done and actor.last is None and not actor.crashed:
                raise _no_step(actor)
        return more

    def look_for_steps(self) -> None:
        """Raise where all that a client did in any order was to begin, and to leave tasks behind."""
        for actor in self.adversary.clients:
            if actor.left_tasks and not (actor.stepped or self.given_up):
                raise _no_step(actor)

    def _rehearse(self) -> None:
        """Learn in an order that does not count how long what lasts."""
        try:
            self.rerun([], lambda: None)
        finally:
            self.adversary.end()
        self.system.clock.learn()

    def rest(self) -> None:
        """Run all the others."""
        runs = 1
        while not (self._stop_first and self.checker.violations):
            if runs < self._max_runs:
                if not self._one() or self._endless >= MAX_ENDLESS:
                    return
                runs += 1
            if runs >= self._max_runs or self.adversary.stage.moved >= self._max_moves:
                orders = f"{runs:,} orders" if runs > 1 else "1 order"
                self.given_up = self.given_up or (
                    f"more than {orders}; {self._how_to_have_fewer()}"
                )
                if not (self.checker.violations or self._endless):
                    self._few_switches(min(self._max_runs // 2, MOST_MEETINGS))
                return
        self.given_up = self.given_up or "the search stops at the first violation."

    def _how_to_have_fewer(self) -> str:
        beating = [actor.name for actor in self.adversary.clients if actor.beats]
        if beating and not self.system.clock.passing:
            return (
                f"a task of {beating[0]} may go round its loop between any two steps: set passes=1, "
                "where a sleep lasts until time has passed."
            )
        return "explore fewer clients or steps, or set prune=True."

    def _few_switches(self, most: int) -> None:
        """Run orders in which the clients switch three times at the most: one begins, another comes in.

        Depth first, what is run of too many orders is alike in how it begins. Few switches break most of
        what is broken (Musuvathi and Qadeer, "Iterative Context Bounding", PLDI 2007). Of each such order
        there are others, in which the adversary makes a move of its own where the clients switch.

        Args:
            most: how many orders of either kind; drawn evenly where there are more.
        """
        powers = self.adversary.powers
        late = bool(powers.delays)  # what follows the last reply is no step
        meetings = [
            (one, before, other, within)
            for one, other in itertools.permutations(self._steps, 2)
            for before in range(1, self._steps[one] + late)
            for within in range(1, self._steps[other] + 1)
        ]
        faults = [(*one, *fault) for one in meetings for fault in powers.at_a_switch]
        for orders in ([(*one, "", 0) for one in meetings], faults):
            drawn = random.Random(0).sample(orders, min(most, len(orders)))
            for one, before, other, within, kind, switch in drawn:
                parts = [
                    [Move("step", one)] * (before - 1) + [Move("delay" if late else "step", one)],
                    [Move("step", other)] * within,
                    [Move("arrive", one)] * late
                    + [Move("step", one)] * (self._steps[one] - before),
                ]
                try:
                    ending, made = self.rerun(self._with_fault(parts, kind, switch), lambda: None)
                    self._judge(ending, tuple(made))
                finally:
                    self.adversary.end()
                if self._stop_first and self.checker.violations:
                    return

    def _with_fault(self, parts: list[list[Move]], kind: str, switch: int) -> Iterator[Move]:
        """An order, in which the adversary makes a move of that kind before a part, if it can then."""
        for at, part in enumerate(parts):
            if kind and at == switch:
                found = [move for move in self.adversary.moves() if move.kind == kind]
                yield from found[self.interleavings % max(len(found), 1) :][:1]
            yield from part

    def replay(self, moves: Sequence[Move]) -> Iterator[Taken]:
        """Run one order again; each move is made when the next value is asked for."""
        self._same_draws()
        try:
            self._begin(serial=False)
            seen = 0
            for move in moves:
                self.adversary.command(move)  # it looks up the keys that may expire
                self.adversary.make(move)
                yield from self.adversary.trace[seen:]
                seen = len(self.adversary.trace)
        finally:
            self.adversary.end()

    def rerun(self, moves: Iterable[Move], look: Callable[[], None]) -> tuple[Ending, list[Move]]:
        """Run one order to its end, one client after the other where `moves` does not say.

        Args:
            moves: the order, each asked for when it is its turn; what cannot be made where it stands
                is left out.
            look: called before the first step and after each; may look at the state.

        Returns:
            how it ended, and the moves that were made. The checker can look at it until `dismiss`.
        """
        self._same_draws()
        wanted, made, vain = iter(moves), list[Move](), set[Move]()
        self._begin(serial=False)
        look()
        while len(made) < MAX_STEPS:
            move = self._next(wanted, vain)
            if move is None:
                return Ending.STUCK if self.adversary.stuck else Ending.COMPLETE, made
            self.adversary.command(move)  # it looks up the keys that may expire
            possible = self.adversary.make(move)
            if len(self.adversary.trace) == len(made):  # nothing came of it
                vain.add(move)
                continue
            made.append(move)
            vain.clear()
            look()
            if not possible:  # it was done, and can't have been
                return Ending.VOID, made
        return Ending.ENDLESS, made

    def _next(self, wanted: Iterator[Move], vain: set[Move]) -> Move | None:
        """The next wanted move that can be made, else the first client's; None when there is none."""
        possible = self.adversary.moves()
        if not possible and self.adversary.stuck and (resort := self.adversary.last_resort()):
            possible = [resort]
        possible = [move for move in possible if move not in vain]
        alone = all(move.kind != "step" for move in possible)
        for move in wanted:
            usual = _USUAL.get(move.kind)
            if usual and Move(usual, move.who) in possible:
                return move
            waits = Move("idle", move.who) if move.kind == "step" and alone else move
            found = next((one for one in (move, waits) if one in possible), None)
            if found is not None:
                return found
        for kinds in (_NATURAL, {"expire"} if self.adversary.stuck else set()):  # it ends a wait
            if (found := next((one for one in possible if one.kind in kinds), None)) is not None:
                return found
        return None

    # one run

    def _same_draws(self) -> None:
        random.seed(0)
        self.restart()

    def _one(self) -> bool:
        self._same_draws()
        try:
            ending = self._run()
            moves = tuple(choice.chosen for choice in self._choices)
            self._steps = self._steps or Counter(one.who for one in moves if one.kind == "step")
            self._judge(ending, moves)
        finally:
            self.adversary.end()
        return self._backtrack()

    def _judge(self, ending: Ending, moves: tuple[Move, ...]) -> None:
        adversary = self.adversary
        if ending is Ending.COMPLETE:
            self.interleavings += 1
            if len(moves) > max(LONG, TIMES_THE_FIRST * self._steps.total()):
                self._max_moves = min(self._max_moves, adversary.stage.moved + MOST_MOVES_LONG)
            self.checker.check(adversary.clients, adversary.trace, moves, adversary.stage.serial)
        elif ending is Ending.STUCK and (who := adversary.futility.counting):
            self._endless += MAX_ENDLESS // 4
            self.given_up = (
                f"{owner(who)} makes more than {MAX_IDLE:,} attempts in vain, and counts; "
                "let it make fewer."
            )
        elif ending is Ending.STUCK:
            self.interleavings += 1
            end = len(adversary.trace)
            if adversary.futility.hopeless:  # such a run is long
                end = adversary.futility.since
                self._endless += 0.2
                if self._endless >= MAX_ENDLESS:
                    self.given_up = "in very many orders nobody can move on."
            self.checker.stuck(
                adversary.stuck, adversary.trace[:end], moves[:end], adversary.stage.serial
            )
        elif ending is Ending.ENDLESS:
            alone = len(moves) < MAX_STEPS
            whose = Counter(owner(move.who) for move in moves[-MAX_ALONE:] if move.who != "time")
            who, times = next(iter(whose.most_common(1)), ("", 0))
            one = times > 0.9 * whose.total()
            self._endless += MAX_ENDLESS // 4 if alone or one else 1  # there are many alike
            self._max_moves = min(self._max_moves, adversary.stage.moved + MAX_ENDLESS * MAX_STEPS)
            goes_on = f": {who} goes on without end; bound its loop" if one else ""
            self.given_up = f"an order took more than {MAX_STEPS:,} steps{goes_on}."
            if alone:
                self.given_up = (
                    f"{owner(moves[-1].who)} goes on without end while others stand still; bound its "
                    "loop, or let time pass."
                )

    def _run(self) -> Ending:
        self._begin(
            serial=self.interleavings == 0
            and all(choice.chosen == choice.moves[0] for choice in self._choices)
        )
        for choice in self._choices:  # what the runs before have done, up to the new choice
            if choice.foresees:
                self.adversary.passing.foresee()
            ending = self._take(choice)
            if ending is not None:
                return ending
        asleep = self._asleep_after(self._choices[-1]) if self._choices else {}
        while True:
            foreseen = self.adversary.passing.foreseen
            moves = self.adversary.moves()
            if all(move.kind == "crash" for move in moves) and self.adversary.stuck:
                resort = self.adversary.last_resort()
                if resort is None:
                    return Ending.STUCK
                moves = [resort, *moves]
            if not moves:
                return Ending.COMPLETE
            if len(self._choices) == MAX_STEPS or self._goes_on_alone(moves):
                return Ending.ENDLESS
            awake = [move for move in moves if move not in asleep] if asleep else moves
            if not awake:
                return Ending.EQUIVALENT
            choice = Choice(moves, asleep, awake[0], "", EVERYTHING)
            choice.foresees = self.adversary.passing.foreseen != foreseen
            self._choices.append(choice)
            ending = self._take(choice)
            if ending is not None:
                return ending
            asleep = self._asleep_after(choice)

    def _goes_on_alone(self, moves: list[Move]) -> bool:
        """Whether one client has taken very many steps in a row, though others could move.

        Each of these is another place for the others to come in, and they bring no end nearer.
        """
        if not self._choices or not self._steps:  # the first order is the measure
            return False
        who = self._choices[-1].chosen
        most = max(MAX_ALONE, 4 * self._steps[who.who])
        others = any(move.kind == "step" and move != who for move in moves)
        if who.kind != "step" or not others or len(self._choices) < most:
            return False
        return all(choice.chosen == who for choice in self._choices[-most:])

    def _begin(self, *, serial: bool) -> None:
        self.system.reset()
        for actor in self.adversary.clients:
            actor.reset()
            actor.redis.start()
        try:
            with self.system.hosting():
                self._given(self.system.redis, self.system.db)
        except Exception as error:
            raise ImplementationError("'given'", error) from error
        self.adversary.begin(serial=serial)

    def _take(self, choice: Choice) -> Ending | None:
        """Make the chosen move; when it is a replayed one, see that it is the same."""
        self.heed()
        chosen = choice.chosen
        command = self.adversary.command(chosen)
        if not choice.command:
            choice.command = command
            if self.prune:
                choice.effects = self.adversary.effects(chosen)
        elif choice.command != command:
            raise NotDeterministicError(
                f"The same schedule gave {choice.command}, and {command} when it was replayed.",
                REMEMBERS_NOT,
            )
        if self.adversary.make(chosen):
            if self.adversary.looks_after(chosen):
                choice.looked.add(chosen)
            more = [one for one in self.adversary.variants(chosen) if one not in choice.moves]
            if more:
                choice.moves = [*choice.moves, *more]
            return None
        choice.void.add(chosen)
        if any(one.live and one.on_its_way for one in self.adversary.stage.actors):  # it can arrive
            return Ending.VOID
        left = {move.kind for move in choice.moves if move not in choice.void}
        if chosen.kind == "step" and left <= {"crash"}:  # all wait for locks that others hold
            return Ending.STUCK
        waits = {"step", "idle", "again", "late", "begin", "timeout", "pass", "wait"}
        ways = {move for move in choice.moves if move.kind != "crash"}  # a crash need not come
        paused = bool(self.adversary.trace) and self.adversary.trace[-1].move.kind == "wait"
        if choice.void >= ways and {move.kind for move in ways} <= waits and not paused:
            resort = None if choice.resort else self.adversary.last_resort()
            choice.resort = True
            if resort is None:
                return Ending.STUCK
            choice.moves = [*choice.moves, resort]
        return Ending.VOID

    # the next order

    def _asleep_after(self, choice: Choice) -> dict[Move, Effects]:
        """The moves whose orders with the chosen one were run already: they commute with it."""
        if not self.prune:
            return {}
        return {
            move: effects
            for move, effects in choice.asleep.items()
            if move not in choice.looked
            and owner(move.who) != owner(choice.chosen.who)
            and not effects.conflicts(choice.effects)
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


def _no_step(client: Actor) -> NoStepError:
    if client.left_tasks:
        return NoStepError(
            f"The client {client.name!r} took no step: when it ended, its tasks were cancelled, as "
            "asyncio.run does.",
            "Let the function await them at its end, if they would go on in your service.",
        )
    return NoStepError(
        f"The client {client.name!r} took no step: no command reached the redis or db that it was handed.",
        "Use the function's own arguments, and await each command if it is a coroutine.",
    )
