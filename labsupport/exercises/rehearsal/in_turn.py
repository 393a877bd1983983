"""A case whose calls come one after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from labsupport.exercises.contract import WAIT, Call, Case, Contract, Functions, filled
from labsupport.exercises.matching import Raised
from labsupport.exercises.possibilities import Fault, Possibility, compare
from labsupport.exercises.rehearsal.run import (
    STILL,
    Breach,
    draw_anew,
    endless_fault,
    keeper_of,
    now,
    reply_to,
)
from labsupport.exercises.state import State
from labsupport.exploration import explore
from labsupport.explorer.clients.actor import actor_here

__all__ = ["play_after"]

_MOST_CHOICES = 200  # of a model, in one call
_MOST_MODELS = 16  # that fit what was seen, and may differ in what was not


_Earlier = dict[str, list[tuple[Call, Any]]]
"""By client: the calls that it has made, and what it was told."""


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
    moves = {**STILL, **moves}
    report = calls.run(lambda *_: "stop" not in moves, **moves)
    runs = calls.runs
    if calls.found:
        fault, number = calls.found[0]
        return runs, Breach(attack, case, fault, done=number)
    endless = endless_fault(report)
    if endless and waits:
        if waited is not None:
            waited.append(case)
        # what a crash has left is over at some time, and so is the wait for it
        usual = calls.run(lambda *_: True, delays=False)
        endless = (
            endless_fault(usual) if any(one.kind == "stuck" for one in usual.findings) else None
        )
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
        draw_anew(self.case, self.attack)
        self._wrote_at = now(redis)
        self.contract.write(self.case.start, redis, db)

    def caller(self, redis: Any, db: Any) -> None:
        """Make each call, and compare."""
        here = actor_here()
        assert here is not None
        here.punctual = True  # the model's clock knows each wait
        redis.ping()  # a call may take no step, and a client must
        keeper = keeper_of(self.name, self.case)
        begin, waited_ms = keeper.monotonic(), 0.0
        self._models = [(state.copy(), {}) for state in self.starts]
        earlier: _Earlier = {}
        for number, (who, call) in enumerate(self.case.after, 1):
            before = earlier.setdefault(who, [])
            got = reply_to(self.contract, self.answer, redis, db, who, filled(call, before))
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
