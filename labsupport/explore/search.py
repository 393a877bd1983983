"""Every order of the clients' steps, depth first, each replayed from the given state.

Stateless search (Godefroid, "Model Checking for Programming Languages using VeriSoft", POPL 1997):
nothing of a run is kept but its choices; the next run repeats them up to the last choice that has an
alternative. With pruning, sleep sets (Godefroid, LNCS 1032, 1996, chapter 5) let each class of orders
that differ only in steps that commute be completed once.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from labsupport.errors import (
    ImplementationError,
    InvalidSettingError,
    NotDeterministicError,
    NotSteppableError,
)
from labsupport.explore.bench import Bench
from labsupport.explore.clients import Actor
from labsupport.explore.operations import EVERYTHING, NOTHING, Effects, Move, Names, Operation
from labsupport.explore.report import Step

__all__ = ["Search"]

MAX_STEPS = 1_000
"""A run that takes more is given up."""
MAX_IDLE = 64
"""A client that repeats a step so often in vain, with nobody else to move, would do so for ever."""


class Outcome(Enum):
    COMPLETE = auto()  # all clients have finished
    EQUIVALENT = auto()  # pruned: only orders remain that were run already
    VOID = auto()  # the last choice turned out to be impossible
    ENDLESS = auto()  # the clients would go on for ever


@dataclass(slots=True)
class Choice:
    """A point of the run with its possible moves, those done with, and the one taken."""

    moves: list[Move]
    command: str
    asleep: dict[Move, Effects]
    chosen: Move
    effects: Effects = EVERYTHING
    void: set[Move] = field(default_factory=set)


class Search:
    """One exploration; the counters are its result.

    Args:
        bench: the server and the database that the steps go to.
        actors: the clients.
        given: sets the state before each run.
        invariant: must hold when all have finished.
        claim: what the invariant says, in words.
        crashes: names of the clients that may crash.
        expires: keys, or glob patterns, that may expire.
        prune: run one order of each class of equivalent ones.
        max_runs: the search is given up after so many.
    """

    def __init__(
        self,
        bench: Bench,
        actors: Sequence[Actor],
        given: Callable[..., Any],
        invariant: Callable[..., Any],
        *,
        claim: str,
        crashes: Iterable[str],
        expires: Sequence[str],
        prune: bool,
        max_runs: int,
    ) -> None:
        self.bench = bench
        self._all = list(actors)
        self._actors = {actor.name: actor for actor in actors}
        self._given = given
        self._invariant = invariant
        self._claim = claim
        self._crashes = frozenset(crashes)
        self._expires = expires
        self._prune = prune
        self._max_runs = max_runs
        self._choices: list[Choice] = []
        self._endless: set[int] = set()  # sites that are known to repeat for ever
        self._names = Names()
        self._keys: dict[str, str] = {}  # of the keys that may expire, by the name in this run
        self._trace: list[tuple[Move, Operation | None]] = []
        self.moves = 0  # of all runs; tells the watchdog that something happens
        self.interleavings = 0
        self.violations = 0
        self.given_up = ""
        self.shortest: list[Step] | None = None
        self.reason = ""
        self._key: tuple[int, int] = (0, 0)

    def end(self) -> None:
        """Unwind what a run that was broken off has left."""
        for actor in self._all:
            actor.end()

    def first(self) -> bool:
        """Run the first order, one client after the other; True when there are more."""
        more = self._one()
        for actor in self._all:
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

    def _one(self) -> bool:
        random.seed(0)  # the same draws in each run
        try:
            outcome = self._run()
            if outcome is Outcome.COMPLETE:
                self.interleavings += 1
                self._judge()
            elif outcome is Outcome.ENDLESS and not self.given_up:
                self._give_up()
        finally:
            self.end()
        return self._backtrack()

    def _run(self) -> Outcome:
        self.bench.reset()
        for actor in self._all:
            actor.reset()
        self._call(self._given, "given")
        self._trace = []
        self._names = Names()
        self._keys = {}
        depth = 0
        asleep: dict[Move, Effects] = {}
        for actor in self._all:
            actor.start()
            self._check(actor)
        while depth < len(self._choices):  # what the runs before have done, up to the new choice
            choice = self._choices[depth]
            depth += 1
            self._expect(choice)
            outcome = self._take(choice)
            if outcome is not None:
                return outcome
        asleep = self._asleep_after(self._choices[-1]) if self._choices else {}
        while True:
            moves = self._moves()
            if not moves:
                return Outcome.ENDLESS if self._stuck() else Outcome.COMPLETE
            if depth == MAX_STEPS:
                return Outcome.ENDLESS
            awake = [move for move in moves if move not in asleep] if asleep else moves
            if not awake:
                return Outcome.EQUIVALENT
            choice = Choice(moves, "", asleep, awake[0])
            self._choices.append(choice)
            depth += 1
            self._expect(choice)
            outcome = self._take(choice)
            if outcome is not None:
                return outcome
            asleep = self._asleep_after(choice)

    # what can happen next

    def _moves(self) -> list[Move]:
        live = [actor for actor in self._all if actor.live]
        if not live:
            return []
        if not self._crashes and not self._expires:
            moves = [a.move for a in live if not a.parked and a.waiting is None]
            if moves:
                return moves
        ready = [actor for actor in live if actor.waiting is None]
        moves = [actor.move for actor in ready if not actor.parked]
        crashes = [Move("crash", a.name) for a in live if a.name in self._crashes]
        expiries = [Move("expire", key) for key in self._expirable()]
        if not moves:
            # Only waiting is left: it ends when a timeout is over, or a client stops retrying.
            moves = [
                Move("timeout", a.name) for a in live if a.waiting is not None and a.waiting[2]
            ]
            others = bool(moves or expiries)
            moves += [
                Move("idle", a.name)
                for a in ready
                if not (others and a.pending and a.pending.site in self._endless)
            ]
            if not moves and not expiries:
                return []
        return moves + crashes + expiries

    def _expirable(self) -> list[str]:
        """The keys that may expire, by the names that they have in this run."""
        self._keys = {self._names.of(k): k for k in self.bench.expirable(self._expires)}
        return list(self._keys)

    def _stuck(self) -> bool:
        return any(actor.live for actor in self._all)

    def _take(self, choice: Choice) -> Outcome | None:
        move = choice.chosen
        self.moves += 1
        if move.kind == "expire":
            self._trace.append((move, None))
            key = self._keys.get(move.who)
            if key is None:
                raise NotDeterministicError(
                    f"{move.who} expired by itself while the orders were explored.",
                    "Give it a TTL of some seconds; it is the explorer that decides when it is over.",
                )
            self.bench.expire(key)
            self._moved(None)
            return None
        actor = self._actors[move.who]
        operation = actor.pending or actor.last
        if move.kind == "crash":
            self._trace.append((move, operation))
            actor.crash()
        elif move.kind == "timeout":
            self._trace.append((move, actor.last))
            actor.time_out()
            actor.proceed()
        elif move.kind == "idle":
            outcome = self._idle(actor, choice)
            if outcome is not None:
                return outcome
        else:
            self._trace.append((move, operation))
            actor.proceed()
            if actor.busy:  # the database has no lock to give: nothing was done
                actor.busy = False
                self._trace.pop()
                choice.void.add(move)
                return Outcome.VOID
        self._moved(actor)
        self._check(actor)
        return None

    def _idle(self, actor: Actor, choice: Choice) -> Outcome | None:
        """Let a client retry while nothing else moves, until it does something else."""
        operation = actor.pending
        assert operation is not None
        self._trace.append((Move("step", actor.name), operation))
        for _ in range(MAX_IDLE):
            actor.proceed()
            self.moves += 1
            if not actor.live or not actor.parked:
                return None
        self._endless.add(operation.site)
        choice.void.add(choice.chosen)
        ways_out = [
            move
            for move in choice.moves
            if move.kind in {"timeout", "expire"}
            or (move.kind == "idle" and move not in choice.void)
        ]
        return Outcome.VOID if ways_out else Outcome.ENDLESS

    def _moved(self, mover: Actor | None) -> None:
        """Others see that something moved; blocked clients that were served go on."""
        waiting = False
        for actor in self._all:
            if actor is not mover:
                actor.alone, actor.parked = 0, False
            waiting = waiting or actor.waiting is not None
        if not waiting:
            return
        for actor in self._all:
            while actor.live and actor.served():
                actor.proceed()
                self._check(actor)

    def _check(self, actor: Actor) -> None:
        """Raise what is no finding of the exploration but a mistake in using it."""
        if actor.fault is not None:
            raise actor.fault
        if actor.error is not None and self.interleavings == 0 and self._serial():
            raise ImplementationError(f"The client {actor.name!r}", actor.error) from actor.error

    def _serial(self) -> bool:
        return all(choice.chosen == choice.moves[0] for choice in self._choices)

    # replay and pruning

    def _command(self, move: Move) -> str:
        """The move in a word or two; empty when it cannot be made now."""
        if move.kind == "expire":
            return move.kind if move.who in self._expirable() else "-"
        actor = self._actors[move.who]
        operation = actor.pending or actor.last
        if not actor.live or operation is None:
            return "-"
        name = operation.commands[0][0] if operation.commands else "MULTI"  # EXEC of nothing
        return f"{move.kind} {name}"

    def _expect(self, choice: Choice) -> None:
        """Note what the chosen move is when it is new; when it is replayed, see that it is the same."""
        command = self._command(choice.chosen)
        if not choice.command:
            choice.command = command
            if self._prune:
                choice.effects = self._effects(choice.chosen)
            return
        if choice.command != command:
            raise NotDeterministicError(
                "The same schedule gave different steps when it was replayed.",
                "Reset in `given` what the functions remember between runs, and decide nothing "
                "by the clock or by chance.",
            )

    def _asleep_after(self, choice: Choice) -> dict[Move, Effects]:
        """The moves whose orders with the chosen one were run already: they commute with it."""
        if not self._prune:
            return {}
        return {
            move: effects
            for move, effects in choice.asleep.items()
            if move.who != choice.chosen.who and not effects.conflicts(choice.effects)
        }

    def _effects(self, move: Move) -> Effects:
        actor = self._actors.get(move.who)
        if move.kind == "step" and actor is not None and actor.pending is not None:
            return actor.pending.effects(self.bench.keys_of)
        if move.kind == "crash" and actor is not None:
            holds = actor.waiting is not None or actor.db.in_transaction
            return EVERYTHING if holds else NOTHING
        return EVERYTHING

    def _backtrack(self) -> bool:
        while self._choices:
            choice = self._choices[-1]
            choice.asleep = choice.asleep | {choice.chosen: choice.effects}
            left = [move for move in choice.moves if move not in choice.asleep]
            if left:
                choice.chosen = left[0]
                choice.command = ""
                return True
            self._choices.pop()
        return False

    # judging a complete run

    def _judge(self) -> None:
        reason = next(
            (
                f"{actor.name} raised {type(actor.error).__name__}: {actor.error}"
                for actor in self._all
                if actor.error is not None
            ),
            "",
        )
        if not reason:
            try:
                held = self._invariant(self.bench.redis, self.bench.db)
            except AssertionError as error:
                held, reason = False, str(error).partition("\n")[0]
            except Exception as error:
                raise ImplementationError("The invariant", error) from error
            if not isinstance(held, bool | int) and type(held).__name__ not in {"bool", "bool_"}:
                raise InvalidSettingError(
                    f"The invariant returned {held!r}, which is neither True nor False.",
                    "Let it return a comparison, such as redis.get('n') == '2'.",
                )
            if held:
                return
        self.violations += 1
        switches = sum(
            a[0].who != b[0].who for a, b in zip(self._trace, self._trace[1:], strict=False)
        )
        key = (len(self._trace), switches)
        if self.shortest is None or key < self._key:
            self._key = key
            self.shortest = self._steps()
            self.reason = reason or "When all have finished, this does not hold: " + self._claim

    def _give_up(self) -> None:
        waiting = [actor for actor in self._all if actor.live]
        names = Names()
        if len(self._trace) >= MAX_STEPS or not waiting:
            self.given_up = f"an order took more than {MAX_STEPS:,} steps."
            return
        what = "; ".join(
            f"{actor.name!r} repeats {names.label(operation)} for ever"
            for actor in waiting
            if (operation := actor.pending or actor.last) is not None
        )
        self.given_up = f"{what}. Bound the loop, or give what it waits for a way to end."

    def _steps(self) -> list[Step]:
        names = Names()
        steps = []
        for move, operation in self._trace:
            if operation is None:
                steps.append(Step("redis", "expire", move.who))
                continue
            kind = "step" if move.kind == "idle" else move.kind
            store = "redis" if operation.kind == "redis" else "database"
            label = names.label(operation)
            reply = names.reply(operation) if kind == "step" else ""
            steps.append(Step(move.who, kind, label, reply, store))
        return steps

    def _call(self, function: Callable[..., Any], what: str) -> None:
        try:
            function(self.bench.redis, self.bench.db)
        except Exception as error:
            raise ImplementationError(f"{what!r}", error) from error
