"""An exercise's contract: what is due, as a few lines of plain Python, and what may happen to it."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import GeneratorType
from typing import TYPE_CHECKING, Any, ClassVar

from labsupport.errors import InvalidSettingError
from labsupport.exercises.matching import ANYTHING, Raised, Skipped
from labsupport.exercises.state import KEPT, State
from labsupport.explorer.stand_ins.timekeeper import timekeeper_here

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = [
    "ALONE",
    "ME",
    "WAIT",
    "Argument",
    "Blocked",
    "Call",
    "Case",
    "Contract",
    "Functions",
    "Given",
    "Programs",
    "filled",
]

Functions = Mapping[str, Callable[..., Any]]
"""The learner's functions by name."""

WAIT = "wait"
"""The name of a call that everybody can make, in a case of calls one after the other: time passes."""


ALONE: Sequence[Any] = ()
"""What a model yields where a crash may fall, but nobody else may come."""


class Argument:
    """An argument that is one thing for the answer and another for the model."""

    def real(self, redis: Any, db: Any, who: str) -> Any:
        """What the answer is handed; `redis` and `db` are those of the client `who`."""
        return self

    def modelled(self, who: str) -> Any:
        """What the model is handed."""
        return self


class _Me(Argument):
    def real(self, redis: Any, db: Any, who: str) -> Any:
        return who

    def modelled(self, who: str) -> Any:
        return who

    def __repr__(self) -> str:
        return "me"


ME = _Me()
"""The name of the client that calls."""


@dataclass(frozen=True, slots=True)
class Given(Argument):
    """What a call has given to the same client; "nobody's" when it has given nothing.

    Args:
        name: the call's.
        shown: what stands for it in a cell.
        place: which one; the last by default.
    """

    name: str
    shown: str
    place: int = -1

    def __repr__(self) -> str:
        return self.shown


class Blocked(Exception):  # noqa: N818 (no error, but how a model waits)
    """Raised in a model by a call that waits: it comes when somebody else has changed the state.

    Args:
        key: while it is there, the call waits.
        ms: how long it lives; `KEPT` until somebody deletes it.
    """

    def __init__(self, key: str, ms: Any) -> None:
        super().__init__(key)
        self.key = key
        self.ms = ms


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the answer, or one act of somebody else.

    Args:
        name: the contract's `answer`, or one of its `others`; the model's method of that name.
        args: what is passed behind `redis`.
    """

    name: str
    args: tuple[Any, ...] = ()

    def shown(self, who: str) -> str:
        """As it would stand in a cell."""
        given = (repr(a.modelled(who)) if isinstance(a, Argument) else repr(a) for a in self.args)
        return f"{self.name}({', '.join(given)})"


def filled(call: Call, earlier: Iterable[tuple[Call, Any]]) -> Call:
    """The call with what its client was given `earlier` in place of each `Given`."""

    def value(wanted: Given) -> Any:
        told = [reply for call, reply in earlier if call.name == wanted.name]
        found = told[wanted.place] if told else None
        return "nobody's" if found is None or isinstance(found, Raised | Skipped) else found

    if not any(isinstance(one, Given) for one in call.args):
        return call
    return Call(call.name, tuple(value(a) if isinstance(a, Given) else a for a in call.args))


Programs = Mapping[str, Sequence[Call]]
"""The calls of each client, one after the other."""


@dataclass(frozen=True, slots=True)
class Case:
    """What an answer is put through: a start, clients at once, and calls when all is over.

    Args:
        start: what is in Redis.
        programs: the calls of the clients that meet.
        after: who calls what afterwards, one call after the other.
        about: the sentence that it puts to the test, where what is told or left says too little.
    """

    start: State
    programs: Programs = field(default_factory=dict)
    after: Sequence[tuple[str, Call]] = ()
    about: str = field(default="", repr=False, kw_only=True)


class Contract:
    """The contract of one exercise; each has a subclass, whose methods are the model.

    A model's method has the name of a call and is handed the state and the call's arguments. It
    changes the state and returns what the caller is told. Where a call is not one moment, it is a
    generator that yields between its atomic pieces: others may come there, and a crash may fall;
    only a crash where it yields `ALONE`. Where the answer is free to choose, the model yields the
    options, and is sent the chosen one. Where the call has to wait, the model raises `Blocked`.

    Attributes:
        answer: the name of the learner's function, and of its model.
        functions: when the learner's function makes several, their names, and those of their models.
        takes: what each function is handed before a call's arguments: "redis", "db" or both.
        clauses: sentences of the docstring, by what breaks them: "told", "left", "lives", "stays",
            "raised", "at once", "crash", "ends", "waits", the name of a call that was the last of a
            sequence (or, of what it tells, "<name> tells"), or the pattern of a key; one with a blank
            comes first. The exact word counts.
            With "waits", nobody may wait for somebody else, but in `patient` functions.
        visible: patterns of the keys whose content is promised; any other must have a TTL.
        verb: between what is shown and its value, in a reason.
        place: where the start is.
        remembers: True when the contract's state is in keys of the answer's own, so that their TTLs
            do not pass in a case.
        others: what other actors do, by name, with what they are handed as the answer is; what it
            returns is compared with what the model's method returns, unless that is None.
        clients: names of those who meet.
        faults: the moves of the adversary that the contract allows: "crash", "pause", "lost reply",
            "clocks", "crash, clocks" for one whose clock is wrong and that crashes, and "stall" for
            one who takes a minute over a step, where no promised key lives for as short a time.
        lapses: patterns of the keys that may expire in a pause.
        too_late: what a function may answer, by its name, and do nothing, where somebody stalls.
        effort: the share of an attack's runs that it gets, where each run takes long.
        starts: strategy for what is in Redis before.
        calls: strategy for one call of anybody, in sequence.
        always: cases in sequence that are tried whatever is drawn, before all others.
        rare: the same, after all others: each takes more to understand.
        crowds: cases of two clients, the first of which is overtaken by the other at every step.
    """

    answer: ClassVar[str]
    functions: ClassVar[Sequence[str]] = ()
    takes: ClassVar[Sequence[str]] = ("redis",)
    clauses: ClassVar[Mapping[str, str]]
    visible: ClassVar[Sequence[str]]
    verb: ClassVar[str] = "holds"
    place: ClassVar[str] = "In Redis"
    remembers: ClassVar[bool] = False
    others: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    clients: ClassVar[Sequence[str]] = ("ada", "bob")
    faults: ClassVar[Sequence[str]] = ("crash",)
    lapses: ClassVar[Sequence[str]] = ("*",)
    too_late: ClassVar[Mapping[str, Any]] = {}
    patient: ClassVar[Sequence[str]] = ()
    effort: ClassVar[float] = 1.0
    always: "ClassVar[Sequence[Case]]" = ()
    rare: "ClassVar[Sequence[Case]]" = ()
    crowds: "ClassVar[Sequence[Case]]" = ()
    starts: "ClassVar[SearchStrategy[State]]"
    calls: "ClassVar[SearchStrategy[Call]]"

    # where the defaults do not fit

    def sequences(self) -> "SearchStrategy[Case]":
        """Cases of calls one after the other."""
        from hypothesis import strategies as st

        turns = st.tuples(st.sampled_from(self.clients[:2]), self.calls)
        return st.builds(
            Case, self.starts, after=st.lists(turns, min_size=1, max_size=4).map(tuple)
        )

    def races(self) -> "SearchStrategy[Case]":
        """Cases of two clients at once, or three; one of them makes the learner's call."""
        from hypothesis import strategies as st

        one, two = self.clients[:2]
        programs = {one: st.tuples(self.fault_calls()), two: st.tuples(self.race_calls())}
        more = dict.fromkeys(self.clients[2:3], programs[two])
        return st.builds(Case, self.race_starts(), st.fixed_dictionaries(programs, optional=more))

    def crowd(self) -> Case | None:
        """A case of two clients in which there is room for all; None where nothing can be used up."""
        return None

    def fault_races(self) -> "SearchStrategy[Case]":
        """Cases of several clients at once, where ada may crash, or any key expires."""
        return self.races()

    def recoveries(self) -> "SearchStrategy[Case]":
        """Cases of one client that meets a fault, and what is called afterwards."""
        from hypothesis import strategies as st

        def case(start: State, call: Call) -> Case:
            one, two = self.clients[:2]
            return Case(start, {one: (call,)}, ((one, call), (two, call), (two, call)))

        return st.builds(case, self.race_starts(), self.fault_calls())

    def race_starts(self) -> "SearchStrategy[State]":
        """Starts of a race or a fault."""
        return self.starts

    def race_calls(self) -> "SearchStrategy[Call]":
        """Calls in a race."""
        return self.calls

    def fault_calls(self) -> "SearchStrategy[Call]":
        """The learner's calls in a race or a fault."""
        own = self.functions or (self.answer,)
        return self.race_calls().filter(lambda call: call.name in own)

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """What is promised of a state, the model's or the real one; equal where both are right."""
        return state.settled(self.visible)

    def read(self, redis: Any, db: Any) -> State:
        """The real state."""
        return State.read(redis)

    def write(self, start: State, redis: Any, db: Any) -> None:
        """Put the start in place."""
        start.write(redis)

    def begins(self, start: State) -> str:
        """The start in a line, for the learner."""
        return f"{self.place} at the start: {start.shown()}"

    def wait(self, state: State, seconds: float) -> None:
        """The model of `wait`, a call of the frame: time passes, and nothing else happens."""
        state.age(seconds * 1000)

    # not to be changed

    def bound(self, answer: Callable[..., Any]) -> Mapping[str, Callable[..., Any]]:
        """The learner's functions by name.

        Raises:
            InvalidSettingError: the answer does not make the functions that it should make.
        """
        if not self.functions:
            return {self.answer: answer}
        made = answer()
        fits = isinstance(made, tuple) and len(made) == len(self.functions)
        if not (fits and all(map(callable, made))):
            raise InvalidSettingError(
                f"{self.answer}() does not return {len(self.functions)} functions.",
                f"Its last line is `return {', '.join(self.functions)}`.",
            )
        return dict(zip(self.functions, made, strict=True))

    def ask(self, functions: Functions, redis: Any, db: Any, who: str, call: Call) -> Any:
        """Make a call for real."""
        args = [a.real(redis, db, who) if isinstance(a, Argument) else a for a in call.args]
        if call.name == WAIT:
            keeper = timekeeper_here()
            assert keeper is not None
            return keeper.sleep(*args)
        handed = {"redis": redis, "db": db}
        acts = functions if call.name in functions else self.others
        return acts[call.name](*(handed[name] for name in self.takes), *args)

    def pieces(self, state: State, who: str, call: Call) -> Generator[Any, Any, Any]:
        """The model of a call, piece by piece; the generator's value is what is told."""
        args = [a.modelled(who) if isinstance(a, Argument) else a for a in call.args]
        told = getattr(self, call.name)(state, *args)
        if isinstance(told, GeneratorType):
            told = yield from told
        if told is None and call.name not in (self.functions or (self.answer,)):
            return ANYTHING
        return told

    def outcomes(self, state: State, who: str, call: Call) -> Iterator[tuple[State, Any]]:
        """How the model of a call that nobody disturbs may end: the state, and what is told.

        There is one way for each choice that the answer is free to make; where the model waits, time
        passes.
        """
        todo: list[tuple[int, ...]] = [()]
        while todo:
            picks = todo.pop()
            after = state.copy()
            pieces, choice, rest = self.pieces(after, who, call), None, list(picks)
            while True:
                try:
                    options = pieces.send(choice)
                except StopIteration as end:
                    yield after, end.value
                    break
                except Blocked as wait:
                    if wait.ms is KEPT:
                        raise
                    self.wait(after, wait.ms / 1000)
                    pieces, options, rest = self.pieces(after, who, call), None, list(picks)
                if options and not rest:
                    todo += [(*picks, place) for place in reversed(range(1, len(options)))]
                    picks, rest = (*picks, 0), [0]
                choice = options[rest.pop(0)] if options else None
