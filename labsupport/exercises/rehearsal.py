"""One case, for real: an answer is run in it by the explorer and compared with what may come of it."""

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, permutations
from typing import Any

from redis.exceptions import ConnectionError, TimeoutError, WatchError

from labsupport.errors import LabError, NotDeterministicError, NotSteppableError
from labsupport.exercises.contract import WAIT, Call, Case, Contract, Functions, filled
from labsupport.exercises.matching import Raised
from labsupport.exercises.possibilities import Fault, Possibilities, Possibility, compare, staying
from labsupport.exercises.state import KEPT, State, frozen
from labsupport.exploration import explore
from labsupport.explorer.clients.actor import actor_here
from labsupport.explorer.moves.search import MAX_STEPS
from labsupport.explorer.operations import Move
from labsupport.explorer.stand_ins.timekeeper import Timekeeper, timekeeper_here

__all__ = [
    "Breach",
    "Overtaken",
    "Remains",
    "play_after",
    "play_at_once",
    "play_meetings",
    "play_overtaken",
    "play_waits",
    "without_unpromised",
]

_MOST_CHOICES = 200  # of a model, in one call
_MOST_MODELS = 16  # that fit what was seen, and may differ in what was not
_MOST_STEPS = 30  # of one call, until the next step of a client that is overtaken
_MOST_OVERTAKEN = 2_000  # orders: 37 calls of one moment have 740, 19 with one of two 1,330
_STALL_MS = 60_000  # what a client that stalls outlasts
_PATIENCE = 5_000  # attempts in vain, after which one that waits gives up, or never does
_AGES_MS = 1 << 62  # a server's clock goes twice as far; who sleeps longer and longer gets there
_MORE_RUNS = 150  # after the first breach, to find a shorter schedule
_STILL: dict[str, Any] = {"passes": False, "delays": False}


@dataclass(frozen=True, slots=True)
class Breach:
    """How an answer broke its contract.

    Args:
        attack: what was tried, in a few words.
        case: the start and the calls.
        fault: what is wrong.
        done: how many of the calls afterwards were made.
        report: the explorer's, with the schedule; None when the calls came one after the other.
    """

    attack: str
    case: Case
    fault: Fault
    done: int = 0
    report: Any = None


@dataclass(frozen=True, slots=True)
class Remains:
    """What one run has left, the states of the model that explain it, and how long it took."""

    state: State
    ways: tuple[Possibility, ...]
    elapsed_ms: float


_Earlier = dict[str, list[tuple[Call, Any]]]
"""By client: the calls that it has made, and what it was told."""


@dataclass(slots=True)
class _Notes:
    """What was noted during one run."""

    told: dict[str, list[Any]] = field(default_factory=dict)
    wrote_at: float = 0.0
    waited: str = ""  # who waited for somebody else

    def begin(self, contract: Contract, case: Case, redis: Any, db: Any, attack: str = "") -> None:
        """A run begins with the case's start."""
        _draw_anew(case, attack)
        self.told = {who: [] for who in case.programs}
        self.waited = ""
        self.wrote_at = _now(redis)
        contract.write(case.start, redis, db)


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
    moves = {**_STILL, **moves}  # time passes, and a reply is late, only where a contract says so
    try:
        report = race.run(race.stop_at_first, most, moves)
    except _FoundError:
        return race.shown(most, moves)
    except NotSteppableError as error:
        if "took no step" in error.problem:  # a call may need none: the sequence has judged it
            return 1, None
        raise
    endless = None if waits else _endless(report)
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
    notes: _Notes = field(default_factory=_Notes)
    runs: int = 0
    faults: dict[str, Fault] = field(default_factory=dict)
    _kept: set[str] = field(default_factory=set)

    def run(self, invariant: Callable[[Any, Any], bool], most: int, moves: Any) -> Any:
        """Run the orders, or so many of them."""
        clients = {
            who: _client(self.contract, self.answer, self.case, who, self.notes)
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
    notes: _Notes = field(default_factory=_Notes)
    redis: Any = None
    fault: Fault | None = None
    made: Sequence[Move] = ()
    trusts: bool = False  # what is told and left is not compared

    def first(self, **moves: Any) -> Any:
        """The report on the first order, one client after the other; None where one takes no step."""
        clients = {
            who: _client(self.contract, self.answer, self.case, who, self.notes)
            for who in self.case.programs
        }
        try:
            return explore(
                clients,
                given=self.given,
                invariant=self.explained,
                max_runs=1,
                **_STILL,
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


def _client(
    contract: Contract, answer: Functions, case: Case, who: str, notes: _Notes
) -> Callable[[Any, Any], None]:
    """One of those who meet in a case."""

    def run(redis: Any, db: Any) -> None:
        keeper = _keeper(who, case)
        for call in case.programs[who]:
            call = filled(call, zip(case.programs[who], notes.told[who], strict=False))
            begin = keeper.monotonic()
            reply = _reply(contract, answer, redis, db, who, call)
            if _is_no_reply(reply):
                return
            notes.told[who].append(reply)
            own = call.name in answer and call.name not in contract.patient
            if own and keeper.monotonic() > begin:
                notes.waited = who

    return run


def play_after(
    contract: Contract,
    answer: Functions,
    case: Case,
    *,
    attack: str,
    ways: Sequence[Possibility] = (),
    clock: float = 0.0,
    waits: bool = False,
    waited: list[Case] | None = None,
    late_ms: float = 0.0,
    **moves: Any,
) -> tuple[int, Breach | None]:
    """Run a case's calls `after`, one after the other, and compare after each of them.

    Args:
        contract: what is due.
        answer: the learner's functions.
        case: the start and the calls.
        attack: what is tried, in words.
        ways: the states of the model to go on from, when several explain what a fault has left.
        clock: how many seconds the caller's clock is ahead.
        waits: a call may wait, or give up, as long as there is what a crash has left.
        waited: takes the case if a call has done so.
        late_ms: how long ago the start was as its `ways` say.
        moves: the adversary's.

    Returns:
        How many orders were run, and the breach, if there was one.
    """
    starts = [way.state for way in ways] or [case.start]
    calls = _Calls(contract, answer, case, attack, starts, waits, waited, late_ms)
    if clock:
        moves["clocks"] = {calls.name: clock}
    if any(call.name == WAIT for _, call in case.after):
        # the first run is the one in which none else does
        moves |= {"passes": True, "stop": "first"}
    moves = {**_STILL, **moves}
    report = calls.run(lambda *_: "stop" not in moves, **moves)
    runs = calls.runs
    if calls.found:
        fault, number = calls.found[0]
        return runs, Breach(attack, case, fault, done=number)
    endless = _endless(report)
    if endless and waits:
        if waited is not None:
            waited.append(case)
        # what a crash has left is over at some time, and so is the wait for it
        usual = calls.run(lambda *_: True, delays=False)
        endless = _endless(usual) if any(one.kind == "stuck" for one in usual.findings) else None
    if endless:
        return runs, Breach(attack, case, endless, done=len(case.after))
    return runs, None


@dataclass(slots=True)
class _Calls:
    """A case's calls `after`, one after the other."""

    contract: Contract
    answer: Functions
    case: Case
    attack: str
    starts: Sequence[State]
    waits: bool
    waited: list[Case] | None
    late_ms: float
    found: list[tuple[Fault, int]] = field(default_factory=list)
    runs: int = 0
    _direct: Any = None
    _wrote_at: float = 0.0
    _models: list[tuple[State, _Earlier]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Who makes the first call; the explorer knows nobody else."""
        return self.case.after[0][0]

    def run(self, invariant: Callable[[Any, Any], bool], **moves: Any) -> Any:
        """Run them."""
        clients = {self.name: self.caller}
        return explore(clients, given=self.given, invariant=invariant, max_runs=200, **moves)

    def given(self, redis: Any, db: Any) -> None:
        self._direct = redis, db
        self.runs += 1
        _draw_anew(self.case, self.attack)
        self._wrote_at = _now(redis)
        self.contract.write(self.case.start, redis, db)

    def caller(self, redis: Any, db: Any) -> None:
        """Make each call, and compare."""
        here = actor_here()
        assert here is not None
        here.punctual = True  # the model's clock knows each wait
        redis.ping()  # a call may take no step, and a client must
        keeper = _keeper(self.name, self.case)
        begin, waited_ms = keeper.monotonic(), 0.0
        self._models = [(state.copy(), {}) for state in self.starts]
        earlier: _Earlier = {}
        for number, (who, call) in enumerate(self.case.after, 1):
            before = earlier.setdefault(who, [])
            got = _reply(self.contract, self.answer, redis, db, who, filled(call, before))
            before.append((call, got))
            waited_ms += call.args[0] * 1000 if call.name == WAIT else 0
            if self.waited is not None and keeper.monotonic() > begin and not waited_ms:
                self.waited.append(self.case)
            if self.waits and isinstance(got, Raised):
                return
            with here.trusting():  # that it looks is no step
                view = self.contract.read(*self._direct)
            elapsed_ms = self.late_ms + (view.at - self._wrote_at) * 1000 - waited_ms
            if (fault := self._unexplained(who, call, got, view, elapsed_ms)) is not None:
                self.found.append((fault, number))
                return

    def _unexplained(
        self, who: str, call: Call, got: Any, view: State, elapsed_ms: float
    ) -> Fault | None:
        """What is wrong with a call where no model explains it; those that do go on from it."""
        right: dict[str, tuple[State, _Earlier]] = {}
        nearest = Fault("ends", ""), -1
        for model, before in self._models:
            asked = filled(call, before.get(who, ()))
            ways = islice(self.contract.outcomes(model, who, asked), _MOST_CHOICES)
            for after, told in ways:
                due, names = Possibility({who: [told]}, after), dict(after.names)
                fault, near = compare(
                    self.contract, self.case.start, {who: [got]}, view, due, elapsed_ms, names
                )
                if fault is None:
                    after.names = names
                    since = {**before, who: [*before.get(who, ()), (call, told)]}
                    text = f"{sorted(after.items())} {after.lives} {names} {since}"
                    right.setdefault(text, (after, since))
                elif near > nearest[1]:
                    nearest = fault, near
                if len(right) >= _MOST_MODELS:
                    break
        self._models = list(right.values())
        return None if right else nearest[0]


def without_unpromised(contract: Contract, state: State) -> State:
    """The state when all that nothing is promised of, and that has a TTL, has expired."""
    later = state.copy()
    for key in () if contract.remembers else state.settled(contract.visible, within=False):
        if state.lives.get(key) is not KEPT:
            later.remove(key)
    return later


def _reply(contract: Contract, answer: Functions, redis: Any, db: Any, who: str, call: Call) -> Any:
    try:
        return contract.ask(answer, redis, db, who, call)
    except LabError:
        raise
    except Exception as error:
        return Raised(error)


def _is_no_reply(reply: Any) -> bool:
    """True when redis-py does not ask again, as the reply was lost to one who watches keys."""
    lost = isinstance(reply, Raised) and isinstance(reply.error, WatchError)
    return lost and isinstance(reply.error.__context__, ConnectionError | TimeoutError)


def _keeper(who: str, case: Case) -> Timekeeper:
    """Who keeps a client's time; what it draws is not what it has drawn before a fault."""
    keeper = timekeeper_here()
    assert keeper is not None
    keeper.chance.seed(f"{who} {case.start.shown()}")
    return keeper


def _draw_anew(case: Case, attack: str) -> None:
    """Have the module random draw other values than before a fault, and the same in each run."""
    random.seed(f"{attack} {case.start.shown()}")


def _endless(report: Any) -> Fault | None:
    for finding in report.findings:
        if finding.kind == "stuck":
            told = finding.reason.removeprefix("Nobody can move on: ")
            return Fault("ends", f"It does not end: {told}")
    given_up = str(report.given_up)
    if report.exhausted or given_up.startswith(("more than", "the search stops")):
        return None
    # who changes something at each attempt may wait for an end that the explorer does not see
    return Fault("ends", f"It does not end, or changes Redis at each attempt: {given_up}")


def _now(redis: Any) -> float:
    seconds, micros = redis.time()
    return float(seconds) + float(micros) / 1e6
