"""A case whose clients meet in orders that are named one by one."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

from labsupport.errors import NotSteppableError
from labsupport.exercises.contract import Case, Contract, Functions
from labsupport.exercises.possibilities import Fault, Possibilities
from labsupport.exercises.rehearsal.run import (
    STILL,
    Breach,
    Notes,
    client_of,
)
from labsupport.exploration import explore
from labsupport.explorer.moves.search import MAX_STEPS
from labsupport.explorer.operations import Move

__all__ = ["Overtaken", "play_meetings", "play_overtaken", "play_waits"]

_MOST_STEPS = 30  # of one call, until the next step of a client that is overtaken
_MOST_OVERTAKEN = 2_000  # orders: 37 calls of one moment have 740, 19 with one of two 1,330
_STALL_MS = 60_000  # what a client that stalls outlasts
_PATIENCE = 5_000  # attempts in vain, after which one that waits gives up, or never does
_AGES_MS = 1 << 62  # a server's clock goes twice as far; who sleeps longer and longer gets there


@dataclass(frozen=True, slots=True)
class Overtaken:
    """What became of a client that was overtaken.

    Args:
        runs: how many orders were run.
        breach: if there was one.
        cut: there were too many orders of the model to tell.
        tries: it has taken more steps than alone.
    """

    runs: int
    breach: Breach | None = None
    cut: bool = False
    tries: bool = False


def play_overtaken(
    contract: Contract, answer: Functions, case: Case, *, attack: str, every: int = 1
) -> Overtaken:
    """Run one order of two clients' steps: before each step of the first, the other makes a call.

    Args:
        contract: what is due.
        answer: the learner's functions.
        case: the start and the programs.
        attack: what is tried, in words.
        every: before every second step only, and so on.
    """
    one, two = case.programs
    possible = Possibilities(contract, case, most=_MOST_OVERTAKEN, directed=True)
    table = _Table(contract, answer, case, possible)

    def moves() -> Iterator[Move]:
        for _ in range(MAX_STEPS):
            yield from [Move("step", one)] * every
            made = len(table.notes.told[two])
            for _ in range(_MOST_STEPS):
                if not len(table.notes.told[two]) == made < len(case.programs[two]):
                    break
                yield Move("step", two)

    table.trusts = True  # one after the other: that is another attack's
    report = table.first()
    if report is None or report.findings:
        return Overtaken(1)
    alone = _steps(report.anew((), looks=False).moves)[one]
    table.trusts = False
    breach = table.breach(report, moves(), attack)
    cut = breach is None and possible.cut
    return Overtaken(3, breach, cut, tries=_steps(table.made)[one] > alone)


def _steps(moves: Iterable[Move]) -> Counter[str]:
    return Counter(move.who for move in moves if move.kind == "step")


def play_meetings(
    contract: Contract,
    answer: Functions,
    case: Case,
    *,
    attack: str,
    most: int,
    crash: str = "",
) -> tuple[int, Breach | None]:
    """Run orders in which one client begins, another comes in, and then the first goes on.

    Args:
        contract: what is due.
        answer: the learner's functions.
        case: the start and the programs.
        attack: what is tried, in words.
        most: no more orders than these; drawn evenly where there are more.
        crash: who comes in, and crashes at each step. Without one the first stalls for a minute, the
            other comes in and finishes, and another minute passes.
    """
    possible = Possibilities(contract, case, outwaited=bool(crash), stalls=not crash)
    table = _Table(contract, answer, case, possible)
    report = (
        table.first(crashes=[crash], expires=()) if crash else table.first(expires=contract.lapses)
    )
    if report is None or report.findings or len(case.programs) < 2:
        return 1, None
    steps = _steps(report.anew((), looks=False).moves)
    meetings = [
        (one, before, other, within)
        for one, other in permutations(case.programs, 2)
        for before in range(1, steps[one])
        for within in (range(1, steps[other]) if crash else [MAX_STEPS])
        if crash in ("", other)
    ]
    runs = 2
    for one, before, other, within in random.Random(0).sample(meetings, min(most, len(meetings))):
        moves = table.meeting(one, before, other, within, crash)
        runs += 1
        if (breach := table.breach(report, moves, attack)) is not None:
            return runs, breach
    return runs, None


def play_waits(
    contract: Contract, answer: Functions, case: Case, *, attack: str, most: int
) -> tuple[int, Breach | None]:
    """Run orders in which one stands still after some of its steps, and another waits for very long.

    Args:
        contract: what is due.
        answer: the learner's functions.
        case: the start and the programs.
        attack: what is tried, in words.
        most: no more orders than these; a long wait counts as fifteen.
    """
    table = _Table(contract, answer, case, Possibilities(contract, case))
    report = table.first()
    if report is None or report.findings:
        return 1, None
    steps = _steps(report.anew((), looks=False).moves)
    runs = 2
    for one, other in permutations(case.programs, 2):
        for before in range(1, steps[one]):
            if runs >= most:
                return runs, None
            goes_on = [Move("step", other)] * MAX_STEPS
            moves = [*[Move("step", one)] * before, *goes_on, Move("idle", other), *goes_on]
            breach = table.breach(report, moves, attack, patience=_PATIENCE)
            runs += 15 if table.notes.waited else 1
            if breach is not None:
                return runs, breach
    return runs, None


@dataclass(slots=True)
class _Table:
    """Where the clients of a case meet, in orders that are named one by one."""

    contract: Contract
    answer: Functions
    case: Case
    possible: Possibilities
    notes: Notes = field(default_factory=Notes)
    redis: Any = None
    fault: Fault | None = None
    made: Sequence[Move] = ()
    trusts: bool = False  # what is told and left is not compared

    def first(self, **moves: Any) -> Any:
        """The report on the first order, one client after the other; None where one takes no step."""
        clients = {
            who: client_of(self.contract, self.answer, self.case, who, self.notes)
            for who in self.case.programs
        }
        try:
            return explore(
                clients,
                given=self.given,
                invariant=self.explained,
                max_runs=1,
                **STILL,
                **moves,
            )
        except NotSteppableError as error:
            if "took no step" in error.problem:
                return None
            raise

    def given(self, redis: Any, db: Any) -> None:
        self.redis = redis
        self.notes.begin(self.contract, self.case, redis, db)

    def explained(self, redis: Any, db: Any) -> bool:
        if self.trusts:
            return True
        view = self.contract.read(redis, db)
        elapsed_ms = (view.at - self.notes.wrote_at) * 1000
        if elapsed_ms > _AGES_MS:
            return True
        _, fault = self.possible.explaining(self.notes.told, view, elapsed_ms)
        if fault is None or self.possible.cut:
            return True
        self.fault = fault
        raise AssertionError(fault.text)

    def breach(
        self, report: Any, moves: Iterable[Move], attack: str, **options: Any
    ) -> Breach | None:
        """What one order breaks."""
        try:
            rerun = report.anew(moves, looks=False, **options)
        except OverflowError:  # it sleeps longer than a number says
            return None
        self.made, finding = rerun.moves, rerun.finding
        if finding is None or finding.kind != "broken":
            return None
        assert self.fault is not None
        shown = replace(report, findings=(finding,))
        return Breach(attack, self.case, self.fault, report=shown)

    def meeting(self, one: str, before: int, other: str, within: int, crash: str) -> Iterator[Move]:
        """So many steps of one, so many of the other, who may crash then; what is left goes on."""
        for _ in range(before):
            yield Move("step", one)
        yield from () if crash else self._minute()
        for _ in range(within):
            yield Move("step", other)
        yield from [Move("crash", crash)] if crash else self._minute()

    def _minute(self) -> Iterator[Move]:
        """A minute passes: what has as long to live, or less, is gone."""
        for key in sorted(self.redis.keys()):
            if 0 < self.redis.pttl(key) <= _STALL_MS:
                yield Move("expire", key)
