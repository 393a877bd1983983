"""The orders of an exploration, searched, and searched again under other conditions where nothing broke.

Chance, time and late replies multiply the orders; so they come in only where the first search has seen
that they may matter, each by itself.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from labsupport.errors import ImplementationError, Interrupted
from labsupport.explorer.checker import Checker
from labsupport.explorer.clients.actor import Actor, CoroutineFoundError
from labsupport.explorer.clients.namespaces import Namespaces
from labsupport.explorer.clients.seats import SharedLock
from labsupport.explorer.clock import Clock
from labsupport.explorer.exploring import code_of, exploring
from labsupport.explorer.memory.sharing import shared_locks, shared_names
from labsupport.explorer.moves.adversary import Adversary
from labsupport.explorer.moves.passing_time import MOST_MOMENTS
from labsupport.explorer.moves.search import NoStepError, Search
from labsupport.explorer.moves.stage import Powers
from labsupport.explorer.own.async_pools import handed_out
from labsupport.explorer.own.coroutines import CoroutineActor
from labsupport.explorer.own.hosted import hosted
from labsupport.explorer.system import Seat, System

__all__ = ["Question", "Rounds"]

_MOVES_A_RUN = 50  # on average, where there are very many runs; one that polls takes hundreds
_MANY_RUNS = 20_000
_MOST_UNASKED = 2_000  # orders in which time passes, though nobody asked for it
_MOST_MOVES_UNASKED = 12_000  # in all of them
_MOST_DELAYED = 400  # orders in which a reply comes late, though nobody asked for it
_MOST_MOVES_DELAYED = 5_000
_MOST_UNASKED_TWICE = 10_000  # where a client asks twice what time it is
_MOST_MOVES_UNASKED_TWICE = 100_000
_OTHER_CLOCK = (
    "The database's clock (now(), CURRENT_TIMESTAMP) is the machine's, where no time passes: hand a "
    "statement the time that Python says."
)

_DRAWN_ALIKE = "The server draws the same for all who ask it for any member."
_DRAWN = "What the server draws is one of many: the same for all was tried, and another for each."
_DRAWN_ONCE = "What the server draws is one of many: one was tried."
_FEW_ALIKE = "Clients that draw one of a few (a code, a digit) draw the same here."
_FEW = "Clients draw one of a few: the same for all was tried, and another for each."
_FRACTIONS = (
    "Clients draw fractions, or go by one of very many (random.random() and its like): tried were some, "
    "very small and very large ones."
)
_FRACTIONS_FOUND = (
    "All fractions, and numbers out of very many, that clients draw and go by are very {} here."
)
_FEW_ONCE = "A client draws one of a few (a code, a digit): one was tried."
_TRIED_ONE = (
    "Of very many values that are drawn (by numpy, by gauss() and its like, or as a token that code goes "
    "by) one was tried."
)
_LAST_ATTEMPT = (
    "{} gives up after several attempts: not in all orders was the last one's reply lost, too."
)
_FEW_LATE = "Replies came late in orders with few switches only, though {}; delays=True tries all."

_OWN_PROCESS = (
    "{} asks os.getpid(): each client is a process of its own; to threads it is the same."
)
_LEFT_TASKS = (
    "When {} ended, a task of its own was still at work, and was cancelled, as asyncio.run does; await it to "
    "have all of it explored."
)
_OWN_SEED = (
    "{} calls random.seed() or setstate(): each client draws from a generator of its own then, as processes "
    "do; threads share one."
)
_NOT_PRUNED = "Not pruned: the clients share {} in the process's memory, which pruning cannot see."


Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of an exploration; see `explore`.

    Args:
        powers: of the adversary, but for how often time may pass.
    """

    system: System
    clients: Mapping[str, Function]
    given: Function
    invariant: Function
    powers: Callable[..., Powers]
    passes: bool | int | None
    delays: bool | int | None
    clocks: Mapping[str, float] | None
    prune: bool
    stop_first: bool
    max_runs: int

    @property
    def functions(self) -> list[Function]:
        """All whose code runs."""
        return [*self.clients.values(), self.given, self.invariant]


class Rounds:
    """The search that answers a question, and those that follow where nothing broke.

    Args:
        question: what is asked.

    Attributes:
        notes: what one has to know of the answer.
    """

    def __init__(self, question: Question) -> None:
        self._asked = question
        self._clients = question.clients
        self.notes: list[str] = []
        self._awaited = {name for name, client in self._clients.items() if _awaits(client)}
        self._alike = False  # whether all draw the same
        self._late = False  # whether clients may begin late, for what they share in memory
        self._shared: list[str] = []  # what they share, which pruning cannot see
        self._locks: list[SharedLock] = []
        self._look_at_memory(self._clients)
        self._times = int(question.passes or 0)

    def run(self) -> Search:
        """Search; the search whose result counts."""
        search = self._first()
        if self._shared:
            self.notes.append(_NOT_PRUNED.format(", ".join(self._shared)))
        if not search.checker.violations:
            search = self._by_chance(search)
        if not search.checker.violations and self._asked.system.clock.drew_fraction:
            search = self._in_fractions(search)
        if not search.checker.violations and self._asked.system.clock.drew_once:
            self.notes.append(_TRIED_ONE)
        gives_up = search.adversary.attempts.gives_up
        if gives_up and not (search.checker.violations or search.given_up):
            search = self._at_last(search)
        if self._asked.passes is None and not search.checker.violations:
            search = self._in_time(search)
        if self._asked.delays is None and not search.given_up:
            search = self._delayed(search)
        if not search.checker.violations:
            self.notes += _limits_of(search)
        self._note_what_was_asked(search.adversary.clients)
        return search

    def _first(self) -> Search:
        """The first search; once more where it has shown that the clients share more than was seen."""
        search = None
        try:
            search = self._search(self._times)
        except (ImplementationError, NoStepError):
            # all have begun at once: who finds memory in use may find it free when it begins later
            if self._late or not self._names(self._clients, logs=False):
                raise
            self._late = True
        search = search or self._search(self._times)
        found = search.checker.violations and not search.checker.serial
        # `given`, or a library's call, may lead to what the clients share
        if not found and self._look_at_memory(code_of(search)):
            search = self._search(self._times)
        return search

    def _look_at_memory(self, code: Mapping[str, Any]) -> bool:
        """Find what the clients share in it; whether that is another than was known."""
        before = self._shared, self._late, self._locks
        self._late |= bool(self._asked.delays) and bool(self._names(code, logs=False))
        self._shared = self._names(code) if self._asked.prune else []
        self._locks = shared_locks(code)
        return before != (self._shared, self._late, self._locks)

    def _names(self, code: Mapping[str, Any], *, logs: bool = True) -> list[str]:
        return shared_names(code, logs=logs, reader=self._asked.invariant)

    def _search(
        self,
        times: int,
        most: int | None = None,
        moves: float = math.inf,
        fractions: str = "",
        **powers: Any,
    ) -> Search:
        """Run all orders.

        Args:
            times: how often time may pass.
            most: give the search up after so many orders.
            moves: the same, in moves.
            fractions: of which kind are those that clients draw.
            powers: what else the adversary may do.
        """
        asked = self._asked
        clock = Clock(
            asked.clocks,
            passing=bool(times),
            any_day=bool(asked.passes),
            alike=self._alike,
            fractions=fractions,
        )
        asked.system.begin(clock)
        search = self._set_up(asked.powers(passes=times, **({"begins": self._late} | powers)))
        search.prune = asked.prune and not self._shared and not search.adversary.powers.delays
        most = asked.max_runs if most is None else min(most, asked.max_runs)
        moves = min(moves, _MOVES_A_RUN * max(asked.max_runs, _MANY_RUNS))
        search.limit(max_runs=most, max_moves=moves, stop_first=asked.stop_first)
        try:
            with exploring(search, asked.functions):
                if search.first():
                    search.rest()
                search.look_for_steps()
        except CoroutineFoundError:  # a lambda around a coroutine function: begin again
            found = {actor.name for actor in search.adversary.clients if actor.fault is not None}
            if found <= self._awaited:
                raise
            self._awaited |= found
            return self._search(times, most, moves, fractions, **powers)
        except KeyboardInterrupt:
            raise Interrupted from None
        return search

    def _set_up(self, powers: Powers) -> Search:
        asked = self._asked
        seats = asked.system.seats(len(self._clients))
        actors = [
            self._actor(name, function, seat)
            for (name, function), seat in zip(self._clients.items(), seats, strict=True)
        ]
        said = asked.invariant
        said = said.func if isinstance(said, functools.partial) else said
        doc = (said.__doc__ or "").strip().splitlines()
        own = [*self._clients.values(), asked.given]
        checker = Checker(
            asked.system,
            hosted(asked.invariant, handed_out),
            doc[0].rstrip(".") if doc else "the invariant holds",
            powers.raises,
            functools.cache(lambda: asked.system.named_scripts(Namespaces(own).own)),
        )
        adversary = Adversary(asked.system, actors, powers)
        for actor in actors:
            if isinstance(actor, CoroutineActor):
                actor.join = functools.partial(adversary.stage.join, client=actor)
                actor.handed = handed_out
        return Search(asked.system, adversary, checker, hosted(asked.given, handed_out))

    def _actor(self, name: str, function: Function, seat: Seat) -> Actor:
        system = self._asked.system
        kind = CoroutineActor if name in self._awaited else Actor
        actor = kind(name, function, seat.redis, seat.db, system.clock, system.no_op)
        seat.redis.actor = seat.steps.actor = actor
        actor.shared_locks = self._locks
        return actor

    # the others, where nothing broke in the first

    def _by_chance(self, search: Search) -> Search:
        """The same once more, while all draw alike what is one of a few."""
        clock = self._asked.system.clock
        drew, few = clock.drew, clock.drew_few
        if max(len(drew), len(few)) <= 1:
            self.notes += [_DRAWN_ONCE] * bool(drew) + [_FEW_ONCE] * bool(few)
            return search
        self._alike = True
        other = self._search(self._times)
        self._alike = bool(other.checker.violations)
        search = other if self._alike else search
        search.given_up = search.given_up or other.given_up
        self.notes += [_DRAWN_ALIKE if self._alike else _DRAWN] if len(drew) > 1 else []
        self.notes += [_FEW_ALIKE if self._alike else _FEW] if len(few) > 1 else []
        return search

    def _in_fractions(self, search: Search) -> Search:
        """The same once more, with very small fractions and with very large ones."""
        for fractions in ("small", "large"):
            other = self._search(self._times, fractions=fractions)
            search.given_up = search.given_up or other.given_up
            if other.checker.violations:
                self.notes.append(_FRACTIONS_FOUND.format(fractions))
                return other
        self.notes.append(_FRACTIONS)
        return search

    def _at_last(self, search: Search) -> Search:
        """The same once more, while a reply is lost at the last attempt before a client gives up."""
        other = self._search(self._times, _MOST_UNASKED, _MOST_MOVES_UNASKED, at_last=True)
        if other.checker.violations:
            return other
        if other.given_up:
            self.notes.append(_LAST_ATTEMPT.format(search.adversary.attempts.gives_up))
        return search

    def _in_time(self, search: Search) -> Search:
        """The same once more, while time passes, where that may matter."""
        actors, passing = search.adversary.clients, search.adversary.passing
        twice = [actor.name for actor in actors if actor.read_twice]
        asked = [actor.name for actor in actors if actor.asked]
        limits, may = (_MOST_UNASKED, _MOST_MOVES_UNASKED), True
        if twice:
            why = f"{twice[0]} asks twice what time it is"
            limits = _MOST_UNASKED_TWICE, _MOST_MOVES_UNASKED_TWICE
        elif passing.oversleeps:
            why = f"{passing.oversleeps} sleeps for longer than something in Redis lives"
            may = not passing.may_wait
        elif len(asked) > 1:
            why, may = f"{asked[0]} and {asked[1]} ask what time it is", False
        elif any(search.system.clock.idle_ms):
            why, may = "an entry is claimed only once it has been idle for a while", False
        else:
            return search
        other = self._search(1, *limits) if may else None
        if other is not None and (
            other.checker.violations or (other.adversary.passing.passed_once and not other.given_up)
        ):
            self.notes.append(f"Time may pass once, as {why}.")
            return other
        self.notes.append(f"Time stood still, though {why}; passes=True lets it pass.")
        return search

    def _delayed(self, search: Search) -> Search:
        """The same once more, while clients begin, or replies come, later, where memory is shared."""
        broken = search.checker.violations
        if broken and not search.checker.serial:
            return search
        names = self._names(code_of(search), logs=False)
        alone: dict[str, Any] = {"crashes": frozenset(), "expires": (), "loses": frozenset()}
        moves = _MOST_MOVES_DELAYED if _few(search) else 1
        why = f"the clients share {', '.join(names)} in the process's memory"
        left_out = False
        if names:
            other = self._search(
                self._times, _MOST_DELAYED, _MOST_MOVES_DELAYED, begins=True, **alone
            )
            if other.checker.violations and not (broken and other.checker.serial):
                self.notes.append(f"A client may begin later than another's step, as {why}.")
                return other
            left_out = bool(other.given_up)
        if who := search.adversary.stage.tasks:
            why = f"tasks of {who} share its memory"
        if broken or not (names or who):
            return search
        other = self._search(self._times, _MOST_DELAYED, moves, delays=1, **alone)
        if other.checker.violations:
            self.notes.append(f"A reply may come later than another's step, as {why}.")
            return other
        if other.given_up or left_out:
            self.notes.append(_FEW_LATE.format(why))
        return search

    def _note_what_was_asked(self, actors: list[Actor]) -> None:
        """Tell of clocks, and of what belongs to a process, that the clients asked for."""
        if self._asked.system.clock.database:
            self.notes.append(_OTHER_CLOCK)
        if asked := [actor.name for actor in actors if actor.asked_process]:
            self.notes.append(_OWN_PROCESS.format(asked[0]))
        if seeded := [actor.name for actor in actors if actor.gave_seed]:
            self.notes.append(_OWN_SEED.format(seeded[0]))


def _few(search: Search) -> bool:
    """Whether all orders may be run with late replies, else only those with few switches."""
    moves, orders = search.adversary.stage.moved, search.interleavings or 1
    return 2 * moves * moves / orders < _MOST_MOVES_DELAYED


def _limits_of(search: Search) -> list[str]:
    """What an answer without a violation does not say; at worst that it says nothing."""
    notes = []
    unmatched = search.adversary.expiries.unmatched
    if unmatched and search.interleavings:
        told = " or ".join(map(repr, unmatched))
        notes.append(f"Nothing that matches {told} was there to expire.")
    if search.adversary.passing.cut_short:
        notes.append(
            f"A pause passed {MOST_MOMENTS} moments at which something changes; there were more."
        )
    if left := [actor.name for actor in search.adversary.clients if actor.left_tasks]:
        notes.append(_LEFT_TASKS.format(left[0]))
    anew = [actor.name for actor in search.adversary.clients if actor.looked_anew]
    if anew and not search.given_up:
        search.given_up = (
            f"a statement of {anew[0]} waited for a lock, and then went by what was there; PostgreSQL "
            "goes by what was there when it began."
        )
    return notes


def _awaits(function: Function) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 (an object with an async __call__)
    )
