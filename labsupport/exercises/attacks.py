"""The attacks on an answer, written once for all exercises: in sequence, at once, with faults."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING, Any

from labsupport.errors import LabError
from labsupport.exercises.contract import WAIT, Case, Contract, Functions
from labsupport.exercises.rehearsal.at_once import Remains, play_at_once, without_unpromised
from labsupport.exercises.rehearsal.in_turn import play_after
from labsupport.exercises.rehearsal.meetings import (
    Overtaken,
    play_meetings,
    play_overtaken,
    play_waits,
)
from labsupport.exercises.rehearsal.run import Breach
from labsupport.exercises.state import frozen

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["ATTACKS", "Attack", "attack"]

SHRINKS = True
"""Whether a smaller case is looked for when one breaks an answer; a test may do without."""

_MOST_WAITS = 3
_OVERTAKES = "a client that is overtaken at every step"
_CLOCKS_DIFFER = "several clients whose clocks differ"
_BY_PLACE = frozenset({_OVERTAKES, _CLOCKS_DIFFER})  # the first client's part is another's
# how often: ten attempts of three steps are not enough; then fewer, which are easier to read
_OVERTAKEN = (36, 6, 12, 18, 24)
_LONG_OVERTAKEN = 150, 2  # before every second step: 100 attempts of three

Attempt = Callable[[Case, int], tuple[int, Breach | None]]
"""Tries a case with so many runs at the most; returns how many it took, and the breach."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One kind of attack.

    Args:
        name: in words.
        fault: the contract must allow this, or say that nothing "stays"; "" when every contract does.
        examples: how many cases are tried.
        runs: how many runs of the explorer all of these may take.
        cases: the cases of a contract.
        attempt: makes what tries one case.
    """

    name: str
    fault: str
    examples: int
    runs: int
    cases: Callable[[Contract], "SearchStrategy[Case]"]
    attempt: Callable[[Contract, Functions], Attempt]


def attack(contract: Contract, answer: Functions) -> Iterator[tuple[Attack, int, Breach | None]]:
    """Each attack that the contract allows, how many runs it took, and the breach."""
    allowed = {"", *contract.faults, *({"stays"} & contract.clauses.keys())}
    for one in ATTACKS:
        if one.fault in allowed:
            yield (one, *_Search(one, contract, answer).run())


class _Search:
    """Tries cases until one breaks the answer, and then smaller ones that break it, too."""

    def __init__(self, one: Attack, contract: Contract, answer: Functions) -> None:
        self._one, self._contract = one, contract
        self._attempt = one.attempt(contract, answer)
        by_name = {ATTACKS[0].name: contract.always, _OVERTAKES: contract.crowds}
        self._named = by_name.get(one.name, ())
        self._spent, self._granted = 0, int(one.runs * contract.effort)
        if one.name == _OVERTAKES:
            self._granted += 2 * len(self._named)  # what each takes that breaks nothing
        self._most = self._granted
        self._broken: dict[str, Breach] = {}
        self._kept: set[str] = set()  # different examples may be the same case

    def run(self) -> tuple[int, Breach | None]:
        """How many runs it took, and the breach of the smallest case."""
        try:
            with _without_constants():
                self._generated()()
        except _StoppedError as stop:
            if not self._broken:
                raise stop.error from None
        except Exception:
            if not self._broken:
                raise
        for case in self._contract.rare if self._one is ATTACKS[0] and not self._broken else ():
            took, breach = self._attempt(case, self._one.runs)
            self._spent += took
            if breach is not None:
                return self._spent, breach
        if not self._broken:
            return self._spent, None
        smallest = min(self._broken, key=lambda text: (len(text), text))
        return self._spent, self._broken[smallest]

    def _generated(self) -> Callable[[], None]:
        """What tries the cases that are named, and then those that are generated."""
        from hypothesis import HealthCheck, Phase, example, given, seed, settings

        @seed(0)  # and not a digest of this function: an edit here would change what is drawn
        @settings(
            max_examples=self._one.examples,
            derandomize=True,
            database=None,
            deadline=None,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate, *([Phase.shrink] if SHRINKS else [])),
        )
        @given(self._one.cases(self._contract))
        def try_case(case: Case) -> None:
            self._try(case)

        for case in reversed(self._named):  # the first comes first
            try_case = example(case)(try_case)
        return try_case

    def _try(self, case: Case) -> None:
        text = same = repr(case)
        if (
            self._one.name not in _BY_PLACE
        ):  # who is named first is one of the orders that are tried
            same = repr(replace(case, programs=dict(sorted(case.programs.items()))))
        if text not in self._broken:
            if same in self._kept or self._spent >= self._most:
                return
            try:
                took, breach = self._attempt(case, self._most - self._spent)
            except LabError as error:  # no finding, and no reason to look for a smaller case
                raise _StoppedError(error) from None
            self._spent += took
            if breach is None:
                self._kept.add(same)
                return
            if not self._broken and SHRINKS:
                self._most = self._spent + self._granted  # as many again, to find a smaller one
            self._broken[text] = breach
        raise _BrokenError


@contextmanager
def _without_constants() -> Iterator[None]:
    """Draw the same whatever else is imported: Hypothesis draws constants of the modules that there are.

    And it registers a generator that a search with a seed has no use for, and collects all garbage first.
    """
    try:
        from hypothesis.core import threadlocal
        from hypothesis.internal.conjecture import providers
        from hypothesis.internal.constants_ast import Constants

        usual, none = providers._get_local_constants, Constants()
        threadlocal._hypothesis_global_random = threadlocal._hypothesis_global_random or Random()
    except (ImportError, AttributeError):  # a Hypothesis that does not
        yield
        return
    providers._get_local_constants = lambda: none
    providers.CONSTANTS_CACHE.cache.clear()
    try:
        yield
    finally:
        providers._get_local_constants = usual
        providers.CONSTANTS_CACHE.cache.clear()


class _StoppedError(BaseException):
    """Ends the generator at once."""

    def __init__(self, error: LabError) -> None:
        super().__init__(error)
        self.error = error


class _BrokenError(Exception):
    """Tells the generator that a case broke the answer."""


# the attacks


def _in_sequence(contract: Contract, answer: Functions) -> Attempt:
    def attempt(case: Case, most: int) -> tuple[int, Breach | None]:
        return play_after(contract, answer, case, attack="one call after the other")

    return attempt


def _at_once(contract: Contract, answer: Functions) -> Attempt:
    def attempt(case: Case, most: int) -> tuple[int, Breach | None]:
        return play_at_once(
            contract, answer, case, attack="several clients at once", most=min(most, 500)
        )

    return attempt


def _crowds(contract: Contract) -> "SearchStrategy[Case]":
    """Races; and one with room for all, where a contract has a limit."""
    from hypothesis import strategies as st

    room = contract.crowd()
    return contract.races() if room is None else st.one_of(st.just(room), contract.races())


def _overtaken(contract: Contract, answer: Functions) -> Attempt:
    """Before each step of one client another makes a call, many times; then it is left alone.

    Who tries again is overtaken for long, too; that takes time, and once is enough.
    """
    lasted = False

    def overtaken(case: Case, times: int, every: int = 1) -> Overtaken:
        (one, calls), (two, rivals) = list(case.programs.items())[:2]
        meeting = Case(case.start, {one: calls, two: (tuple(rivals) * times)[:times]})
        return play_overtaken(contract, answer, meeting, attack=_OVERTAKES, every=every)

    def attempt(case: Case, most: int) -> tuple[int, Breach | None]:
        nonlocal lasted
        if len(case.programs) < 2:
            return 0, None
        first = overtaken(case, _OVERTAKEN[0])
        spent = first.runs
        if not first.breach and not first.cut:
            if lasted or not first.tries:
                return spent, None
            longer = overtaken(case, *_LONG_OVERTAKEN)
            lasted = longer.breach is None
            return spent + longer.runs, longer.breach
        # there were too many orders to tell, or fewer are easier to read
        for times in _OVERTAKEN[1:]:
            fewer = overtaken(case, times)
            spent += fewer.runs
            if fewer.breach:
                return spent, fewer.breach
        return spent, first.breach

    return attempt


def _waiting(contract: Contract, answer: Functions) -> Attempt:
    def attempt(case: Case, most: int) -> tuple[int, Breach | None]:
        return play_waits(contract, answer, case, attack="a client that waits for long", most=most)

    return attempt


def _at_once_with(attack: str, **moves: Any) -> Callable[[Contract, Functions], Attempt]:
    def make(contract: Contract, answer: Functions) -> Attempt:
        def attempt(case: Case, most: int) -> tuple[int, Breach | None]:
            return play_at_once(contract, answer, case, attack=attack, most=min(most, 500), **moves)

        return attempt

    return make


def _meetings(attack: str, crash: str = "") -> Callable[[Contract, Functions], Attempt]:
    def make(contract: Contract, answer: Functions) -> Attempt:
        def attempt(case: Case, most: int) -> tuple[int, Breach | None]:
            if crash and crash not in case.programs:
                return 0, None
            return play_meetings(contract, answer, case, attack=attack, most=most, crash=crash)

        return attempt

    return make


def _with_a_pause(contract: Contract, answer: Functions) -> Attempt:
    attack = "several clients, and a pause that outlasts every TTL"
    return _at_once_with(attack, expires=contract.lapses)(contract, answer)


def _recovery(attack: str, **moves: Any) -> Callable[[Contract, Functions], Attempt]:
    """A client meets a fault at any step, and so does the next one; then others call."""
    return lambda contract, answer: _Recovery(attack, contract, answer, moves).attempt


@dataclass(slots=True)
class _Recovery:
    """What others make of what a fault has left."""

    attack: str
    contract: Contract
    answer: Functions
    moves: dict[str, Any]
    _known: set[str] = field(default_factory=set)  # what others have gone on from
    _waited: list[Case] = field(default_factory=list)  # which takes long to find out

    def attempt(self, case: Case, most: int) -> tuple[int, Breach | None]:
        left: list[Remains] = []
        spent, breach = play_at_once(
            self.contract, self.answer, case,
            attack=self.attack, most=min(most, 200), keep=left, **self.moves,
        )  # fmt: skip
        once = list(left)
        for one in once if breach is None else ():
            if spent < most and breach is None:
                took, breach = self._again(one, case, left, most - spent)
                spent += took
        for one in left if breach is None else ():
            if breach is None:
                took, breach = self._recover(one, case)
                spent += took
        return spent, breach

    def _again(
        self, one: Remains, case: Case, left: list[Remains], most: int
    ) -> tuple[int, Breach | None]:
        """The next one meets the same fault."""
        who, call = case.after[0]
        if call.name == WAIT:  # until what a crash has left is over
            return 0, None
        twice = Case(without_unpromised(self.contract, one.state), {who: (call,)}, case.after)
        return play_at_once(
            self.contract, self.answer, twice,
            attack=f"{self.attack}, and the next one, too",
            most=min(most, 100), ways=one.ways, keep=left,
            waits=self.contract.remembers, late_ms=one.elapsed_ms, **self.moves,
        )  # fmt: skip

    def _recover(self, one: Remains, case: Case) -> tuple[int, Breach | None]:
        """Others come at once, and when all that has a TTL is gone."""
        spent = 0
        text = f"{frozen(one.state)} {[way.state for way in one.ways]} {case.after}"
        if text in self._known:
            return 0, None
        self._known.add(text)
        later = without_unpromised(self.contract, one.state)
        states = [one.state] if later == one.state else [one.state, later]
        for state in states if len(self._waited) < _MOST_WAITS else states[-1:]:
            took, breach = play_after(
                self.contract, self.answer, Case(state, after=case.after),
                attack=f"{self.attack}, and others come afterwards",
                ways=one.ways, late_ms=one.elapsed_ms, waited=self._waited,
                waits=self.contract.remembers or (state is not later and later != state),
            )  # fmt: skip
            spent += took
            if breach is not None:
                return spent, breach
        return spent, None


def _with_clock(seconds: float) -> Callable[[Contract, Functions], Attempt]:
    """Calls one after the other, by a caller whose clock is ahead, or behind."""
    attack = f"a caller whose clock is {abs(seconds):,.0f} s {'ahead' if seconds > 0 else 'behind'}"

    def make(contract: Contract, answer: Functions) -> Attempt:
        def attempt(case: Case, most: int) -> tuple[int, Breach | None]:
            return play_after(contract, answer, case, attack=attack, clock=seconds)

        return attempt

    return make


def _with_clocks(contract: Contract, answer: Functions) -> Attempt:
    """Two clients in turn, one of whose clocks is an hour ahead."""

    def attempt(case: Case, most: int) -> tuple[int, Breach | None]:
        ahead = dict.fromkeys(list(case.programs)[1:], 3_600.0)
        return play_at_once(
            contract, answer, case,
            attack="several clients whose clocks differ by an hour", most=min(most, 100),
            clocks=ahead,
        )  # fmt: skip

    return attempt


ATTACKS = (
    Attack(
        "one call after the other", "", 100, 3_000,
        lambda contract: contract.sequences(), _in_sequence,
    ),
    Attack(
        "a clock that is ahead", "clocks", 30, 500,
        lambda contract: contract.sequences(), _with_clock(7_200),
    ),
    Attack(
        "a clock that is behind", "clocks", 30, 500,
        lambda contract: contract.sequences(), _with_clock(-7_200),
    ),
    Attack(
        "several clients at once", "", 20, 2_500,
        lambda contract: contract.races(), _at_once,
    ),
    Attack(
        _OVERTAKES, "", 7, 70,
        _crowds, _overtaken,
    ),
    Attack(
        "a client that waits for long", "", 6, 40,
        lambda contract: contract.races(), _waiting,
    ),
    Attack(
        _CLOCKS_DIFFER, "clocks", 6, 500,
        lambda contract: contract.races(), _with_clocks,
    ),
    Attack(
        "a client that crashes", "crash", 10, 1_500,
        lambda contract: contract.recoveries(), _recovery("a client that crashes", crashes=True),
    ),
    Attack(
        "several clients, and one crashes", "crash", 6, 800,
        lambda contract: contract.fault_races(),
        _at_once_with("several clients, and one crashes", crashes=["ada"], waits=True),
    ),
    Attack(
        "a client that meets one who crashes", "crash", 6, 300,
        lambda contract: contract.fault_races(),
        _meetings("a client that meets one who crashes", crash="ada"),
    ),
    *(
        Attack(
            f"a clock that is {word}, and a crash", "crash, clocks", 6, 250,
            lambda contract: contract.races(),
            _at_once_with(
                f"several clients, and one crashes whose clock is an hour {word}",
                crashes=["ada"], waits=True, clocks={"ada": seconds},
            ),
        )
        for word, seconds in (("ahead", 3_600.0), ("behind", -3_600.0))
    ),
    Attack(
        "a pause that outlasts every TTL", "pause", 10, 1_000,
        lambda contract: contract.fault_races(), _with_a_pause,
    ),
    Attack(
        "a client that stalls for a minute", "stall", 6, 150,
        lambda contract: contract.races(), _meetings("a client that stalls for a minute"),
    ),
    Attack(
        "a TTL that ends between two steps", "stays", 10, 300,
        lambda contract: contract.fault_races(),
        _at_once_with("a TTL that ends between two steps", expires="*", stays_only=True),
    ),
    Attack(
        "a reply that is lost", "lost reply", 10, 1_000,
        lambda contract: contract.recoveries(), _recovery("a reply that is lost", loses=True),
    ),
)  # fmt: skip
