"""Noticing a client that goes round a loop in vain, so that a retry is not tried for ever."""

import random
import sys
from collections import Counter
from collections.abc import Callable
from types import CodeType
from typing import Protocol

from labsupport.explorer.operations import Operation

__all__ = ["Loops"]

# commands to the same key in vain, after which another argument is another attempt; or twice as many as
# the first order had
_MANY, _MANY_AT_FIRST = 40, 200

# Who asks for one after the other goes through them, and waits for none.
_OF_MEMBERS = frozenset(
    {"GETBIT", "LINDEX", "LREM", "SADD", "SETBIT", "SISMEMBER", "SMISMEMBER", "SREM", "XACK"}
    | {"HDEL", "HEXISTS", "HGET", "HMGET", "HSETNX", "HSTRLEN", "XDEL"}
    | {"ZADD", "ZMSCORE", "ZRANK", "ZREM", "ZREVRANK", "ZSCORE"}
)


class Looper(Protocol):
    """Who may repeat its steps.

    Attributes:
        looks: how often it has drawn by chance, looked at a clock, and slept.
        waits_for: what it repeats for ever, in the first order.
        asked_at_first: how often it has asked for what in the first order.
        at_first: this is the first order.
    """

    looks: tuple[int, int, int]
    waits_for: set[str]
    asked_at_first: Counter[str]
    at_first: bool


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
        self._vain: Counter[str] = Counter()  # how often what was asked for in vain

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
            self._vain[repr(last.target)] += last.refused
            who.asked_at_first[repr(last.target)] += who.at_first
        if coming.word not in self._words:  # most steps are no repetition: a quick way out
            return False
        if sum(map(len, coming.commands)) > 2:  # it may also draw with `random`
            coming.looks = who.looks[0] + hash(random.getstate()), *who.looks[1:]
        target = repr(coming.target)
        few = self._vain[target] < _MANY or coming.word in _OF_MEMBERS or self._goes_through(coming)
        repeats = Operation.repeats if few else Operation.retries
        length = next((i for i, step in enumerate(reversed(taken), 1) if repeats(coming, step)), 0)
        if not length:
            return False
        coming.site = self._site()
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
        target, who = repr(coming.target), self._who
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
        frame = sys._getframe(3)
        places = []
        while frame is not None and frame.f_code is not self._outermost:
            places.append((id(frame.f_code), frame.f_lasti))
            frame = frame.f_back  # type: ignore[assignment]
        return hash(tuple(places))


def _of_others(step: Operation, before: Operation) -> bool:
    """Whether it asks for another member than before: no loop of such steps waits for one of them."""
    return step.word in _OF_MEMBERS and step.commands[0][:3] != before.commands[0][:3]
