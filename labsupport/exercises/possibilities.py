"""What may come of a case: every order of the model's atomic pieces (linearizability).

A real run is right if some order of the pieces tells the clients what they were told and leaves what
is left (Herlihy and Wing, "Linearizability", TOPLAS 12(3), 1990; where a call has several pieces, each
of them is a point, unless the model is `ALONE` there). Of a client that crashed, or lost its reply, any
part of its call may have happened.
"""

import fnmatch
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labsupport.exercises.contract import ALONE, Blocked, Case, Contract, filled
from labsupport.exercises.matching import Names, listed, lives_as, same, typed
from labsupport.exercises.state import KEPT, State, frozen, plain_text

__all__ = ["Fault", "Possibilities", "Possibility", "compare", "staying"]

_MOST_ORDERS = 4_000

Told = Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Possibility:
    """One way in which a case may end.

    Args:
        told: what each client was told.
        state: what is left.
    """

    told: Told
    state: State

    def knowing(self, names: Names) -> "Possibility":
        """The same, where the model knows what the answer has made up."""
        if names == self.state.names:
            return self
        state = self.state.copy()
        state.names = names
        return Possibility(self.told, state)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a run.

    Args:
        kind: "told", "left", "lives", "stays" or "raised".
        text: got and due, in a sentence.
        key: which key it is about, if any.
    """

    kind: str
    text: str
    key: str = ""


class Possibilities:
    """All that may come of a case's programs; worked out when first asked for.

    Args:
        contract: whose model says what is due.
        case: start and programs.
        starts: the model's states to begin with, when several explain what a fault has left.
        expires: what has a TTL may expire at any moment.
        outwaited: who is blocked by what has a TTL may wait until it has expired.
        most: no more orders than these are worked out.

    Attributes:
        cut: True when there are more orders than were worked out: what none of them explains is not
            wrong.
    """

    def __init__(
        self,
        contract: Contract,
        case: Case,
        starts: Sequence[State] = (),
        *,
        expires: bool = False,
        outwaited: bool = False,
        most: int = _MOST_ORDERS,
    ) -> None:
        self._contract = contract
        self._most = most
        self._outwaited = outwaited
        self._expires = expires
        self.cut = False
        # Redis says what a class has not with ^, and fnmatch with !
        self._lapses = [one.replace("[^", "[!") for one in contract.lapses]
        self._case = case
        self._starts = starts or [case.start]
        self._serial: list[Possibility] | None = None
        self._all: list[Possibility] | None = None

    def explaining(
        self, told: Told, view: State, elapsed_ms: float
    ) -> tuple[list[Possibility], Fault | None]:
        """The possibilities that explain a run; if there are none, what is wrong with it."""
        if self._serial is None:
            self._serial = self._unique(self._orders(serial=True))
        fits, fault = self._fitting(self._serial, told, view, elapsed_ms)
        cut = any(len(told[who]) < len(calls) for who, calls in self._case.programs.items())
        if fits and not cut:
            return fits, None
        if self._all is None:
            self._all = self._unique(self._orders(serial=False))
        found, other = self._fitting(self._all, told, view, elapsed_ms)
        if found or fits:
            return found or fits, None
        return [], self._in_no_order(told, other or fault)

    def _in_no_order(self, told: Told, fault: Fault | None) -> Fault | None:
        """Of several clients, the replies are wrong together; none is by itself."""
        if fault is None or fault.kind != "told" or len(told) < 2:
            return fault
        assert self._all is not None
        given = _all_told(told)
        due = next(
            (way for way in self._serial or self._all if self._may_be(told, way.told)), self._all[0]
        )
        text = f"{given}. No order of the calls gives that; one gives {_all_told(due.told, '')}."
        return Fault("told", text)

    def _fitting(
        self, ways: list[Possibility], told: Told, view: State, elapsed_ms: float
    ) -> tuple[list[Possibility], Fault | None]:
        fits, nearest, rank = [], None, -1
        for way in ways:
            if not self._may_be(told, way.told):
                continue
            names = dict(way.state.names)
            fault, closeness = compare(
                self._contract, self._case.start, told, view, way, elapsed_ms, names
            )
            if fault is None:
                fits.append(way.knowing(names))
            elif closeness > rank:
                nearest, rank = fault, closeness
        return fits, nearest

    def _may_be(self, told: Told, modelled: Told) -> bool:
        """True when the model has come as far as the clients did; cut off, it is one call further."""
        for who, calls in self._case.programs.items():
            real, due = len(told[who]), len(modelled[who])
            if real == len(calls):
                if due != real:
                    return False
            elif due not in (real, real + 1):
                return False
        return True

    def _unique(self, ways: Iterator[Possibility]) -> list[Possibility]:
        found: dict[str, Possibility] = {}
        for way in ways:
            told = {who: [repr(one) for one in replies] for who, replies in way.told.items()}
            key = frozen([told, {k: repr(v) for k, v in way.state.items()}, repr(way.state.lives)])
            found.setdefault(key, way)
        return list(found.values())

    def _orders(self, *, serial: bool) -> Iterator[Possibility]:
        """Every order, or every one without an interruption; each is replayed from the start."""
        todo: list[tuple[State, tuple[_Move, ...]]] = [(start, ()) for start in self._starts]
        tried = 0
        while todo and tried < self._most:
            tried += 1
            start, order = todo.pop()
            try:
                played = self._play(start, order)
            except Blocked as wait:
                if self._outwaited and wait.ms is not KEPT:
                    todo.append((start, (*order[:-1], (None, (wait.key,)), order[-1])))
                continue
            if played.options:  # the last move has to choose first
                who, picks = order[-1]
                options = range(played.options)
                todo += [(start, (*order[:-1], (who, (*picks, n)))) for n in options]
                continue
            yield played.possibility
            for who, calls in self._case.programs.items():
                if len(played.possibility.told[who]) == len(calls) or who in played.gone:
                    continue
                if serial and played.inside not in ("", who):
                    continue
                todo.append((start, (*order, (who, ()))))
            state = played.possibility.state
            for key, life in state.lives.items() if self._expires else ():
                lapses = any(fnmatch.fnmatchcase(key, one) for one in self._lapses)
                if lapses and life is not KEPT and key in state:  # the model knows its content
                    todo.append((start, (*order, (None, (key,)))))
        self.cut = self.cut or bool(todo)

    def _play(self, start: State, order: tuple["_Move", ...]) -> "_Played":
        state = start.copy()
        told: dict[str, list[Any]] = {who: [] for who in self._case.programs}
        runs = {who: self._run(state, who, told[who]) for who in self._case.programs}
        inside, alone = "", False
        gone: set[str] = set()
        for who, picks in order:
            if who is None:
                state.remove(*picks)
                continue
            if alone and who != inside:
                gone.add(inside)  # others come only when it has crashed there
            before = len(told[who])
            options = next(runs[who])
            for pick in picks:
                options = runs[who].send(options[pick])
            if options:
                return _Played(Possibility(told, state), who, len(options), gone)
            inside = "" if len(told[who]) > before else who
            alone = bool(inside) and options is ALONE
        return _Played(Possibility(told, state), inside, 0, gone)

    def _run(self, state: State, who: str, told: list[Any]) -> Generator[Any, Any, None]:
        calls = self._case.programs[who]
        for call in calls:
            call = filled(call, zip(calls, told, strict=False))
            reply = yield from self._contract.pieces(state, who, call)
            told.append(reply)
            yield None


_Move = tuple[str | None, tuple[Any, ...]]
"""Whose piece comes next, and what it chooses; or None, and which key expires."""


@dataclass(frozen=True, slots=True)
class _Played:
    possibility: Possibility
    inside: str  # who is in the middle of a call; "" for nobody
    options: int  # how many ways the last move has to go on
    gone: set[str]  # who has crashed


def compare(
    contract: Contract,
    start: State,
    told: Told,
    view: State,
    way: Possibility,
    elapsed_ms: float,
    names: Names,
) -> tuple[Fault | None, int]:
    """What is wrong with a run if this was to come of it, and how near it came; adds to `names`."""
    near = 0
    for who, replies in told.items():
        for got, due in zip(replies, way.told[who], strict=False):
            if not same(got, due, names):
                shown, wanted = typed(got, due)
                kind = "raised" if shown.startswith("an error") else "told"
                return Fault(kind, f"{who} was given {shown}; {wanted} is due."), near
            near += 1
    near += 10
    view = _renamed(view, names)
    fault = _left(contract, start, view, way.state, names)
    if fault is not None:
        return fault, near
    near += 10
    visible = view.settled(contract.visible)
    for key in view:
        due = way.state.lives.get(key, KEPT)
        got = view.lives[key]
        if key in visible and not lives_as(got, due, elapsed_ms):
            lives = (
                "has no time to live" if got is KEPT else f"lives for {math.ceil(got / 1000):,} s"
            )
            wanted = "none" if due is KEPT else _seconds(due)
            return Fault("lives", f"The key {key!r} {lives}; {wanted} is due.", key), near
    return staying(contract, view), near


def staying(contract: Contract, view: State) -> Fault | None:
    """The first key that stays for ever though the contract says that none does."""
    visible = view.settled(contract.visible)
    for key in view if "stays" in contract.clauses else ():
        if key not in visible and view.lives[key] is KEPT:
            text = f"The key {key!r} has no time to live: it stays for ever."
            return Fault("stays", text, key)
    return None


def _left(contract: Contract, start: State, view: State, due: State, names: Names) -> Fault | None:
    real, model = contract.shown(view, start), contract.shown(due, start)
    for key in dict.fromkeys([*real, *model]):  # in the order in which the contract shows them
        if key not in real:
            return Fault("left", f"{key} is not there; {plain_text(model[key])} is due.", key)
        if key not in model:
            return Fault("left", f"{key} holds {plain_text(real[key])}; nothing is due.", key)
        if not same(real[key], model[key], names, stored=True):
            got, wanted = plain_text(real[key]), plain_text(model[key])
            return Fault("left", f"{key} holds {got}; {wanted} is due.", key)
    return None


def _all_told(told: Told, was: str = "was given ") -> str:
    parts = [
        f"{who} {was}{listed(list(map(repr, replies)), ', then ')}" for who, replies in told.items()
    ]
    return " and ".join(part for part in parts)


def _seconds(ms: Any) -> str:
    if isinstance(ms, int | float):
        return f"{ms / 1000:,g} s"
    return f"{ms.low / 1000:,g} to {ms.high / 1000:,g} s"


def _renamed(view: State, names: Names) -> State:
    """The state with the texts that the answer made up replaced by what they stand for."""
    if not names:
        return view

    def of(value: Any) -> Any:
        if isinstance(value, str):
            for text, name in names.items():
                value = value.replace(text, name) if isinstance(text, str) else value
            return value
        if isinstance(value, dict):
            return type(value)({of(key): of(one) for key, one in value.items()})
        if isinstance(value, list | set):
            return type(value)(of(one) for one in value)
        return value

    renamed = State(
        {of(key): of(value) for key, value in view.items()},
        {of(key): life for key, life in view.lives.items()},
    )
    renamed.at = view.at
    return renamed
