"""What may come of a case: every order of the model's atomic pieces (linearizability).

A real run is right if some order of the pieces tells the clients what they were told and leaves what
is left (Herlihy and Wing, "Linearizability", TOPLAS 12(3), 1990; where a call has several pieces, each
of them is a point, unless the model is `ALONE` there). Of a client that crashed, or lost its reply, any
part of its call may have happened.
"""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labsupport.exercises.contract import ALONE, Blocked, Call, Case, Contract, filled
from labsupport.exercises.matching import Names, Raised, listed, lives_as, same, typed
from labsupport.exercises.state import KEPT, State, copied, plain_text
from labsupport.explorer.operations import glob_matches

__all__ = ["Fault", "Possibilities", "Possibility", "compare", "staying"]

_MOST_ORDERS = 4_000
_MOST_CHARACTERS = 300

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
        stalls: somebody stalls, so that calls may be `too_late`.
        most: no more orders than these are worked out.
        directed: work out for each run the orders that tell what was told, instead of all for all runs.

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
        stalls: bool = False,
        most: int = _MOST_ORDERS,
        directed: bool = False,
    ) -> None:
        self._contract = contract
        self._directed = directed
        self._most = most
        self._outwaited = outwaited
        self._too_late = contract.too_late if stalls else {}
        self._expires = expires
        self.cut = False
        self._case = case
        self._starts = starts or [case.start]
        self._serial: list[Possibility] | None = None
        self._all: list[Possibility] | None = None

    def explaining(
        self, told: Told, view: State, elapsed_ms: float
    ) -> tuple[list[Possibility], Fault | None]:
        """The possibilities that explain a run; if there are none, what is wrong with it."""
        if self._directed:
            self.cut = False
            ways = self._unique(self._orders(serial=False, told=told))
            fits, _ = self._fitting(ways, told, view, elapsed_ms)
            if fits or self.cut:
                return fits, None
            self._directed = False
            _, fault = self.explaining(told, view, elapsed_ms)
            self._directed, self.cut = True, False
            return [], fault
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

    def _unique(self, ways: Iterator[tuple[str, Possibility]]) -> list[Possibility]:
        found: dict[str, Possibility] = {}
        for text, way in ways:
            found.setdefault(text, way)
        return list(found.values())

    def _orders(
        self, *, serial: bool, told: Told | None = None
    ) -> Iterator[tuple[str, Possibility]]:
        """Every order, or every one without an interruption; what is alike so far goes on once.

        Args:
            serial: without an interruption.
            told: leave out what tells anybody else.

        Returns:
            a text that is the same for what ends alike, and how it ends.
        """
        todo: list[tuple[_Rest, tuple[_Move, ...], _Play | None, _Seen]] = []
        for number, start in enumerate(self._starts):
            nothing = Possibility(dict.fromkeys(self._case.programs, ()), start)
            rest = _Rest(number, nothing, dict.fromkeys(nothing.told, ""), frozenset(), {})
            todo.append((rest, (), None, {}))
        known: set[tuple[int, str]] = set()
        tried = 0
        while todo and tried < self._most:
            tried += 1
            rest, order, play, seen = todo.pop()
            try:
                play = self._played(rest, order, play, seen)
            except Blocked as wait:
                if self._outwaited and wait.ms is not KEPT:
                    outwaited = (*order[:-1], (None, (wait.key,)), order[-1])
                    todo.append((rest, outwaited, None, seen))
                continue
            if play.options:  # the last move has to choose first
                who, picks = order[-1]
                more = [(*order[:-1], (who, (*picks, n))) for n in range(len(play.options))]
            elif (told is not None and not play.tells(told)) or (
                key := (rest.start, play.key(text := play.text()))
            ) in known:
                continue
            else:
                known.add(key)
                yield text, (way := play.possibility())
                if play.resting():
                    gone = frozenset(play.gone)
                    rest, order = _Rest(rest.start, way, dict(play.said), gone, play.seen), ()
                more = [(*order, move) for move in self._next(play, serial=serial)]
            # the last is next, and goes on from here; the others do so from where all were at rest
            todo += [(rest, one, play if one is more[-1] else None, play.seen) for one in more]
        self.cut = self.cut or bool(todo)

    def _next(self, play: "_Play", *, serial: bool) -> Iterator["_Move"]:
        """The moves that may come next."""
        for who, calls in self._case.programs.items():
            ended = len(play.told[who]) == len(calls) or who in play.gone
            if not ended and not (serial and play.inside not in ("", who)):
                yield who, ()
        for key, life in play.state.lives.items() if self._expires else ():
            lapses = any(glob_matches(one, key) for one in self._contract.lapses)
            if lapses and life is not KEPT and key in play.state:  # the model knows its content
                yield None, (key,)

    def _played(
        self, rest: "_Rest", order: tuple["_Move", ...], play: "_Play | None", seen: "_Seen"
    ) -> "_Play":
        """The order played to its last move, by the one that has come to the move before, if any."""
        if play is None:
            play = _Play(self._contract, self._case, rest, self._too_late)
            for move in order[:-1]:
                play.make(move)
            play.seen = seen
        if order:
            play.seen = {who: list(each) for who, each in play.seen.items()}
            play.make(order[-1], seeing=True)
        return play


_Move = tuple[str | None, tuple[Any, ...]]
"""Whose piece comes next, and what it chooses; or None, and which key expires."""

_Seen = dict[str, list[Any]]
"""For each client in the middle of a call, what there was before each of its pieces, and its choices."""


@dataclass(frozen=True, slots=True)
class _Rest:
    """A moment of an order at which nobody is in the middle of a call, but for who has crashed.

    Args:
        start: which of the starts the order began with.
        way: what there is; it is not changed.
        said: what each client was told, as text.
        gone: who has crashed.
        seen: what they had seen.
    """

    start: int
    way: Possibility
    said: Mapping[str, str]
    gone: frozenset[str]
    seen: _Seen


class _Play:
    """One order of the pieces, from a moment at rest, and as far as it has come.

    Attributes:
        state: what is left so far.
        told: what each client was told so far.
        said: the same as text.
        inside: who is in the middle of a call; "" for nobody.
        options: what the last move has to choose from, if it has to.
        gone: who has crashed.
        seen: what the calls know that go on.
    """

    def __init__(
        self, contract: Contract, case: Case, rest: _Rest, too_late: Mapping[str, Any]
    ) -> None:
        self.state = rest.way.state.copy()
        self.told: dict[str, list[Any]] = {who: list(rest.way.told[who]) for who in case.programs}
        self.said = dict(rest.said)
        self.inside = ""
        self.options: Sequence[Any] = ()
        self.gone: set[str] = set(rest.gone)
        self._alone = False
        self._runs = {
            who: _run(contract, self.state, who, calls, self.told[who], too_late)
            for who, calls in case.programs.items()
        }
        self.seen: _Seen = dict(rest.seen)

    def make(self, move: "_Move", *, seeing: bool = False) -> None:
        """Take the next piece of a client, which then may have to choose; or let a key expire.

        Args:
            move: which one.
            seeing: note what the client has seen.
        """
        who, picks = move
        if who is None:
            self.state.remove(*picks)
            return
        before = len(self.told[who])
        if self.options:
            options = self._runs[who].send(self.options[picks[-1]])
        else:
            if self._alone and who != self.inside:
                self.gone.add(self.inside)  # others come only when it has crashed there
            if seeing:
                self.seen.setdefault(who, []).append(_content(self.state))
            options = next(self._runs[who])
            for pick in picks:
                options = self._runs[who].send(options[pick])
        if seeing and picks:
            self.seen.setdefault(who, []).append(picks)
        self.options = options or ()
        if self.options:
            return
        ended = len(self.told[who]) > before
        if ended:
            self.said[who] += f"{self.told[who][-1]!r}\n"
            self.seen.pop(who, None)
        self.inside = "" if ended else who
        self._alone = not ended and options is ALONE

    def tells(self, told: Told) -> bool:
        """Whether each may have been told what it was told last, whatever it was told before."""
        return all(
            not due or len(told[who]) < len(due) or same(told[who][len(due) - 1], due[-1], {})
            for who, due in self.told.items()
        )

    def text(self) -> str:
        """A text that is the same for what ends alike, if it ends here."""
        return f"{_content(self.state)} {self.said}"

    def key(self, text: str) -> str:
        """The same for all that goes on alike: a call knows what it has seen."""
        seen = sorted(self.seen.items())
        return f"{text} {seen} {self.inside} {self._alone} {sorted(self.gone)}"

    def resting(self) -> bool:
        """True when nobody is in the middle of a call, but for who has crashed there."""
        return not self.inside and self.seen.keys() <= self.gone

    def possibility(self) -> Possibility:
        """What there is so far."""
        told = {who: list(replies) for who, replies in self.told.items()}
        return Possibility(told, self.state.copy())


def _run(
    contract: Contract,
    state: State,
    who: str,
    calls: Sequence[Call],
    told: list[Any],
    too_late: Mapping[str, Any],
) -> Generator[Any, Any, None]:
    for call in calls[len(told) :]:
        call = filled(call, zip(calls, told, strict=False))
        if call.name in too_late and (yield (False, True)):
            reply = too_late[call.name]
        else:
            reply = yield from contract.pieces(state, who, call)
        # a part of the state, perhaps, which goes on changing
        told.append(copied(reply))
        yield None


def _content(state: State) -> str:
    return f"{sorted(state.items())} {sorted(state.lives.items())}"


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
                shown, wanted = map(_cut, typed(got, due))
                failed = shown.startswith("an error") or isinstance(due, Raised)
                kind = "raised" if failed else "told"
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
            wanted = "none" if due is KEPT else _seconds(due)
            lives = "has no time to live" if got is KEPT else f"lives for {_lasting(got, wanted)}"
            return Fault("lives", f"The key {key!r} {lives}; {wanted} is due.", key), near
    return staying(contract, view), near


def _lasting(ms: float, wanted: str) -> str:
    """In whole seconds; where so many are due, it lacks a part of one."""
    whole = f"{math.ceil(ms / 1000):,} s"
    return whole if whole != wanted else f"{math.floor(ms / 100) / 10:,} s"


def staying(contract: Contract, view: State) -> Fault | None:
    """The first key that stays for ever though the contract says that none does."""
    visible = view.settled(contract.visible)
    for key in view if "stays" in contract.clauses else ():
        if key not in visible and view.lives[key] is KEPT:
            text = f"The key {key!r} has no time to live: it stays for ever."
            return Fault("stays", text, key)
    return None


def _holds_zero(state: State, key: str) -> bool:
    """Whether a count is there that a contract may show as none."""
    return str(state.get(key)) == "0"


def _left(contract: Contract, start: State, view: State, due: State, names: Names) -> Fault | None:
    real, model = contract.shown(view, start), contract.shown(due, start)
    for key in dict.fromkeys([*real, *model]):  # in the order in which the contract shows them
        if key not in real:
            found = "holds '0'" if _holds_zero(view, key) else "is not there"
            return Fault("left", f"{key} {found}; {plain_text(model[key])} is due.", key)
        if key not in model:
            wanted = "'0'" if _holds_zero(due, key) else "nothing"
            return Fault(
                "left", f"{key} {contract.verb} {plain_text(real[key])}; {wanted} is due.", key
            )
        if not same(real[key], model[key], names, stored=True):
            got, wanted = plain_text(real[key]), plain_text(model[key])
            return Fault("left", f"{key} {contract.verb} {got}; {wanted} is due.", key)
    return None


def _cut(text: str) -> str:
    """A text, of a long one the beginning and the end."""
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} … {text[-40:]}"


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
