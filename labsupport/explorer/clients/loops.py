"""Noticing a client that goes round a loop in vain, so that a retry is not tried for ever."""

import sys
from collections import Counter
from collections.abc import Callable
from types import CodeType

from labsupport.explorer.operations import Operation

__all__ = ["Loops"]

_MANY = 40  # commands to the same key in vain, after which another argument is another attempt

# Who asks for one after the other goes through them, and waits for none.
_OF_MEMBERS = frozenset(
    {"GETBIT", "LINDEX", "LREM", "SADD", "SETBIT", "SISMEMBER", "SMISMEMBER", "SREM", "XACK"}
    | {"HDEL", "HEXISTS", "HGET", "HMGET", "HSETNX", "HSTRLEN", "XDEL"}
    | {"ZADD", "ZMSCORE", "ZRANK", "ZREM", "ZREVRANK", "ZSCORE"}
)


class Loops:
    """The steps that one client took in one run, and whether it repeats them in vain.

    Args:
        no_op: tells of a step that was taken whether it changed nothing.
        outermost: the code at the bottom of the client's stack.
        state: what is in Redis, as a digest.
    """

    def __init__(
        self,
        no_op: Callable[[Operation], bool],
        outermost: CodeType,
        state: Callable[[], str],
    ) -> None:
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
        taken = self._taken
        if last is not None and not (taken and taken[-1] is last):
            taken.append(last)
            self._words.add(last.word)
            self._vain[repr(last.target)] += last.refused
        if coming.word not in self._words:  # most steps are no repetition: a quick way out
            return False
        few = self._vain[repr(coming.target)] < _MANY or coming.word in _OF_MEMBERS
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
            and (
                all(map(self._no_op, latest + before))
                or self._circles(coming, latest, before, alone)
            )
        )

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
