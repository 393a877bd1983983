"""A case whose programs run in every order of their steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labsupport.errors import NotDeterministicError, NotSteppableError
from labsupport.exercises.contract import Case, Contract, Functions
from labsupport.exercises.possibilities import Fault, Possibilities, Possibility, staying
from labsupport.exercises.rehearsal.run import (
    STILL,
    Breach,
    Notes,
    client_of,
    endless_fault,
)
from labsupport.exercises.state import KEPT, State, frozen
from labsupport.exploration import explore

__all__ = ["Remains", "play_at_once", "without_unpromised"]

_MORE_RUNS = 150  # after the first breach, to find a shorter schedule


@dataclass(frozen=True, slots=True)
class Remains:
    """What one run has left, the states of the model that explain it, and how long it took."""

    state: State
    ways: tuple[Possibility, ...]
    elapsed_ms: float


class _FoundError(BaseException):
    """Ends an exploration at the first breach."""


def play_at_once(
    contract: Contract,
    answer: Functions,
    case: Case,
    *,
    attack: str,
    most: int,
    ways: Sequence[Possibility] = (),
    keep: list[Remains] | None = None,
    waits: bool = False,
    late_ms: float = 0.0,
    clocks: Mapping[str, float] = {},
    stays_only: bool = False,
    **moves: Any,
) -> tuple[int, Breach | None]:
    """Run a case's programs in every order of their steps.

    Args:
        contract: what is due.
        answer: the learner's functions.
        case: the start and the programs.
        attack: what is tried, in words.
        most: the runs are ended quietly after so many.
        ways: what explains the start, when a fault has left it.
        keep: takes what the runs have left, each state once.
        waits: a client may wait for what a crash has left; a TTL ends that, but no move of these.
        late_ms: how long ago the start was as its `ways` say.
        clocks: how many seconds each client's clock is ahead.
        stays_only: only a key that stays for ever is a breach.
        moves: the adversary's, as options of `explore`.

    Returns:
        How many orders were run, and the breach, if there was one.
    """
    possible = Possibilities(
        contract, case, [way.state for way in ways],
        expires=bool(moves.get("expires")), outwaited=bool(moves.get("crashes")),
    )  # fmt: skip
    race = _Race(contract, answer, case, attack, possible, keep, late_ms, stays_only)
    if clocks:
        moves["clocks"] = clocks
    moves = {**STILL, **moves}  # time passes, and a reply is late, only where a contract says so
    try:
        report = race.run(race.stop_at_first, most, moves)
    except _FoundError:
        return race.shown(most, moves)
    except NotSteppableError as error:
        if "took no step" in error.problem:  # a call may need none: the sequence has judged it
            return 1, None
        raise
    endless = None if waits else endless_fault(report)
    return race.runs, Breach(attack, case, endless, report=report) if endless else None


@dataclass(slots=True)
class _Race:
    """A case whose programs run in every order of their steps."""

    contract: Contract
    answer: Functions
    case: Case
    attack: str
    possible: Possibilities
    keep: list[Remains] | None
    late_ms: float
    stays_only: bool
    notes: Notes = field(default_factory=Notes)
    runs: int = 0
    faults: dict[str, Fault] = field(default_factory=dict)
    _kept: set[str] = field(default_factory=set)

    def run(self, invariant: Callable[[Any, Any], bool], most: int, moves: Any) -> Any:
        """Run the orders, or so many of them."""
        clients = {
            who: client_of(self.contract, self.answer, self.case, who, self.notes)
            for who in self.case.programs
        }
        return explore(
            clients, given=self.given, invariant=invariant, prune=True, max_runs=most, **moves
        )

    def given(self, redis: Any, db: Any) -> None:
        self.notes.begin(self.contract, self.case, redis, db, self.attack)

    def stop_at_first(self, redis: Any, db: Any) -> bool:
        """End the exploration at the first breach."""
        self.runs += 1
        if (fault := self._fault_of(redis, db)) is not None:
            self.faults[fault.text] = fault
            raise _FoundError
        return True

    def say(self, redis: Any, db: Any) -> bool:
        """Break the invariant at each breach."""
        if (fault := self._fault_of(redis, db)) is not None:
            self.faults[fault.text] = fault
            raise AssertionError(fault.text)
        return True

    def shown(self, most: int, moves: Any) -> tuple[int, Breach]:
        """The breach that was found, and the schedule of the shortest that is found soon."""
        first = next(iter(self.faults.values()))
        more = most if self.runs > most else self.runs + _MORE_RUNS
        try:
            report = self.run(self.say, more, moves)
        except NotDeterministicError:  # what it does depends on the time: there is no schedule
            return 2 * self.runs, Breach(self.attack, self.case, first)
        fault = self.faults.get(report.reason, first)
        breach = Breach(self.attack, self.case, fault, report=report if report.violations else None)
        return self.runs + report.interleavings, breach

    def _fault_of(self, redis: Any, db: Any) -> Fault | None:
        if self.notes.waited and "waits" in self.contract.clauses:
            return Fault("waits", f"{self.notes.waited} waited for somebody else.")
        view = self.contract.read(redis, db)
        if self.stays_only:
            return staying(self.contract, view)
        elapsed_ms = self.late_ms + (view.at - self.notes.wrote_at) * 1000
        ways, fault = self.possible.explaining(self.notes.told, view, elapsed_ms)
        if fault is None and self.keep is not None:
            told = {who: len(replies) for who, replies in self.notes.told.items()}
            key = frozen([view.settled("*"), told])
            if key not in self._kept:
                self._kept.add(key)
                self.keep.append(Remains(view, tuple(ways), elapsed_ms))
        return fault


def without_unpromised(contract: Contract, state: State) -> State:
    """The state when all that nothing is promised of, and that has a TTL, has expired."""
    later = state.copy()
    for key in () if contract.remembers else state.settled(contract.visible, within=False):
        if state.lives.get(key) is not KEPT:
            later.remove(key)
    return later
