"""Noticing a client that goes round a loop in vain, so that a retry is not tried for ever."""

import dis
import functools
import itertools
import operator
import random
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from inspect import CO_OPTIMIZED
from types import CellType, CodeType, FrameType, FunctionType, GeneratorType, ModuleType
from typing import Any, Protocol

from labsupport.explorer.operations import Operation

__all__ = ["Loops", "counting", "forget_shown"]

_OF_STEPS = frozenset({"asyncio", "labsupport", "redis", "sqlalchemy"})  # they count their own work
_SHOWS = frozenset({"eval", "exec", "locals", "vars"})  # to code that calls these it is its own
_MOST_COUNTED = 1e6  # more is a moment, or was drawn

# commands to the same key in vain, after which another argument is another attempt; or twice as many as
# the first order had
_MANY, _MANY_AT_FIRST = 40, 200

# Who asks for one after the other goes through them, and waits for none.
_OF_MEMBERS = frozenset(
    {"GETBIT", "LINDEX", "LREM", "SADD", "SETBIT", "SISMEMBER", "SMISMEMBER", "SREM", "XACK"}
    | {"HDEL", "HEXISTS", "HGET", "HMGET", "HSETNX", "HSTRLEN", "XDEL"}
    | {"ZADD", "ZMSCORE", "ZRANK", "ZREM", "ZREVRANK", "ZSCORE"}
)


# `id` raises an audit event each time, and to those the explorer listens.
_identity = object.__hash__


class Looper(Protocol):
    """Who may repeat its steps.

    Attributes:
        looks: how often it has drawn by chance, looked at a clock, and slept.
        waits_for: what it repeats for ever, in the first order.
        asked_at_first: how often it has asked for what in the first order.
        at_first: this is the first order.
        counted: what the client counts whenever it begins again, by the place; None while nobody asks.
    """

    looks: tuple[int, int, int]
    waits_for: set[Any]
    asked_at_first: Counter[Any]
    at_first: bool
    counted: dict[int, list[Any]] | None


class Loops:
    """The steps that one client took in one run, and whether it repeats them in vain.

    Args:
        who: the client.
        no_op: tells of a step that was taken whether it changed nothing.
        outermost: the code at the bottom of the client's stack.
        state: what is in Redis, as a digest.
    """

    def __init__(
        self,
        who: Looper,
        no_op: Callable[[Operation], bool],
        outermost: CodeType,
        state: Callable[[], str],
    ) -> None:
        self._who = who
        self._no_op = no_op
        self._state = state
        self._cycles: dict[int, tuple[int, str]] = {}  # by site: after how many steps, the state
        self._outermost = outermost
        self._taken: list[Operation] = []
        self._words: set[str] = set()
        self._vain: Counter[Any] = Counter()  # how often what was asked for in vain

    def spins(self, coming: Operation, last: Operation | None, alone: int) -> bool:
        """True when the client went twice round a loop in vain, and begins again.

        Args:
            coming: the step that it is about to take; it is told its site when it is a repetition.
            last: the one before.
            alone: how many steps it took since anything else has moved.
        """
        taken, who = self._taken, self._who
        coming.looks = who.looks
        if last is not None and not (taken and taken[-1] is last):
            taken.append(last)
            self._words.add(last.word)
            self._vain[last.target] += last.refused
            who.asked_at_first[last.target] += who.at_first
        if coming.word not in self._words:  # most steps are no repetition: a quick way out
            return False
        if sum(map(len, coming.commands)) > 2:  # it may also draw with `random`
            coming.looks = who.looks[0] + _drawn(), *who.looks[1:]
        target = coming.target
        few = self._vain[target] < _MANY or coming.word in _OF_MEMBERS or self._goes_through(coming)
        repeats = Operation.repeats if few else Operation.retries
        length = next((i for i, step in enumerate(reversed(taken), 1) if repeats(coming, step)), 0)
        if not length:
            return False
        coming.site = self._site()
        if who.counted is not None:
            who.counted.setdefault(coming.site, []).append(tuple(self._counts()))
        latest, before = taken[-length:], taken[-2 * length : -length]
        repeated = (
            alone >= length
            and latest[0].site == coming.site
            and len(before) == length
            and all(map(repeats, latest, before))
        )
        return (
            repeated
            and not coming.lets_go
            and not all(map(_of_others, latest, before))
            and (
                all(map(self._no_op, latest + before))
                or self._circles(coming, latest, before, alone)
            )
        )

    def _goes_through(self, coming: Operation) -> bool:
        """True when it goes through many things, and waits for none of them.

        It did not sleep in between, and came to the end in the first order.
        """
        before = next((one for one in reversed(self._taken) if coming.same_target(one)), None)
        target, who = coming.target, self._who
        if before is None or before.looks[2] != coming.looks[2] or target in who.waits_for:
            return False
        if who.at_first and self._vain[target] >= _MANY_AT_FIRST:
            who.waits_for.add(target)
        return who.at_first or self._vain[target] < 2 * who.asked_at_first[target]

    def _circles(
        self, coming: Operation, latest: list[Operation], before: list[Operation], alone: int
    ) -> bool:
        """True when one more time round the loop has left Redis as it was: INCR, too many, DECR."""
        if any(step.kind != "redis" for step in latest):
            return False
        if not all(map(Operation.answered_alike, latest, before)):
            return False
        known = self._cycles.get(coming.site)
        state = self._state()
        self._cycles[coming.site] = alone, state
        return known == (alone - len(latest), state)

    def repeated(self, coming: Operation) -> bool:
        """True when the client has sent the same command to the same key before, or the same script."""
        if coming.word not in self._words:
            return False
        return any(coming.same_target(step) for step in self._taken)

    def _site(self) -> int:
        """Where in the client's code the step stands: each frame's code and instruction."""
        frame: FrameType | None = sys._getframe(2)
        at: list[int] = []
        while frame is not None and (code := frame.f_code) is not self._outermost:
            at += _identity(code), frame.f_lasti
            frame = frame.f_back
        return hash(tuple(at))

    def _frames(self) -> Iterator[FrameType]:
        frame: FrameType | None = sys._getframe(4)
        while frame is not None and frame.f_code is not self._outermost:
            yield frame
            frame = frame.f_back

    def _counts(self) -> Iterator[Any]:
        """Numbers and sizes in the variables of the client's code, by which a loop may come to its end."""
        own = [
            frame
            for frame in self._frames()
            if str(frame.f_globals.get("__name__")).partition(".")[0] not in _OF_STEPS
        ]
        around = {_loop_around(frame.f_code, frame.f_lasti) for frame in own} - {""}
        if around == {"for"}:  # what it goes through is not seen, and has an end
            yield object()
        for frame in own:
            used = {name: frame.f_globals.get(name) for name in frame.f_code.co_names}
            yield from (_sizes(one) for one in (*_locals(frame), *used.values()))


def _drawn() -> int:
    """Another number once something was drawn with `random`: of its 624 words, few change each time."""
    _, words, gauss = random.getstate()
    return hash((words[0], words[1], words[-1], gauss))


def counting(counted: Mapping[int, Sequence[Any]]) -> bool:
    """Whether what a client counts has not come round again at any place: its loop may have an end."""
    return any(len(seen) > 1 and seen[-1] not in seen[:-1] for seen in counted.values())


def forget_shown(frame: FrameType, shown: Mapping[str, Any]) -> None:
    """Up to Python 3.12 a frame keeps what it has shown (`f_locals`), after its names hold another."""
    code = frame.f_code
    if code.co_flags & CO_OPTIMIZED and type(shown) is dict and not _SHOWS & {*code.co_names}:
        shown.clear()


def _locals(frame: FrameType) -> tuple[Any, ...]:
    shown = frame.f_locals
    held = tuple(shown.values())
    forget_shown(frame, shown)
    return held


def _kept(cell: CellType) -> Any:
    with suppress(ValueError):  # it holds nothing yet
        return _sizes(cell.cell_contents, 0)
    return None


def _sizes(thing: Any, depth: int = 2) -> Any:
    """A small number, how much is in a container or left of an iterator; of what is within; else None."""
    kind = type(thing)
    if kind in (int, float):
        return thing if abs(thing) < _MOST_COUNTED else None
    if kind in (list, dict, set, deque):
        return len(thing)
    if kind is itertools.count:
        return repr(thing)
    if kind.__module__ == "builtins" and hasattr(kind, "__length_hint__"):  # an iterator
        return operator.length_hint(thing)
    if kind is GeneratorType:
        frame = thing.gi_frame
        return tuple(_sizes(one, 0) for one in (_locals(frame) if frame is not None else ()))
    if kind is FunctionType:
        return tuple(map(_kept, thing.__closure__ or ()))
    inside = None
    if depth and not _is_code(thing):
        with suppress(Exception):  # what is made when it is needed may not be there yet
            inside = thing.__dict__
    if type(inside) is not dict:
        return None
    return tuple(_sizes(one, depth - 1) for one in list(inside.values()))


@functools.lru_cache(maxsize=4096)
def _loop_around(code: CodeType, at: int) -> str:
    """Whether a place in code is in the body of a `while`, or else of a `for`; empty if in none."""
    jumps = [
        one
        for one in dis.get_instructions(code)
        if one.opcode in dis.hasjrel or one.opcode in dis.hasjabs
    ]
    iterating = {one.offset: one.argval for one in jumps if one.opname == "FOR_ITER"}
    back = [(one.argval, one.offset) for one in jumps if one.argval <= one.offset]
    if any(first <= at <= last for first, last in back if first not in iterating):
        return "while"
    return "for" if any(first < at < end for first, end in iterating.items()) else ""


def _is_code(thing: Any) -> bool:
    kind = type(thing)
    module = str(kind.__module__).partition(".")[0]
    return issubclass(kind, FunctionType | ModuleType | type) or module in _OF_STEPS


def _of_others(step: Operation, before: Operation) -> bool:
    """Whether it asks for another member than before: no loop of such steps waits for one of them."""
    return step.word in _OF_MEMBERS and step.commands[0][:3] != before.commands[0][:3]
