"""Time in an exploration: it stands still until the adversary moves it, on every machine alike.

All clocks begin at the same moment of the year 2100, far beyond the servers' own clock: a deadline that
is sent to Redis as a moment is never reached by the machine's time, only by a move.
"""

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["START", "Clock"]

START = 4_102_444_800
"""The first moment of each run, 2100-01-01 00:00 UTC, in seconds since 1970."""

_MICROSECONDS = 1_000_000
_YEARS = 10 * 365 * 86_400 * _MICROSECONDS  # what lies farther from now is no moment
_NUMBER = re.compile(r"(?<![\w.])\d{10,16}(?:\.\d+)?")


class Clock:
    """The server's clock, and by how much each client's own is ahead of it.

    Args:
        skews: seconds by client; behind when negative.

    Attributes:
        now_us: microseconds since 1970.
        passing: True when each sleep lasts until time has passed; otherwise a sleep moves its client's
            clock, unless it outlasts something.
        outlasts: says of a client whether time passes for all in a sleep of so many seconds.
    """

    def __init__(self, skews: Mapping[str, float] | None = None, *, passing: bool = False) -> None:
        self.skews = dict(skews or {})
        self.passing = passing
        self.outlasts: Callable[[str, float], bool] = lambda who, seconds: False
        self.now_us = START * _MICROSECONDS
        # whole seconds of the machine's: a deadline that was made before the exploration is not over in it
        self._base = float(int(time.monotonic()))
        self._stamps: set[int] = set()
        self._spans: set[int] = set()

    @property
    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self.now_us // 1000

    def elapsed(self) -> float:
        """Seconds since some moment before the run, as a monotonic clock counts them."""
        return self._base + (self.now_us - START * _MICROSECONDS) / 1e6

    def restart(self) -> None:
        """Back to the first moment of a run."""
        self.now_us = START * _MICROSECONDS
        self._stamps.clear()
        self._spans.clear()

    def note(self, *values: Any) -> None:
        """Remember the moments that a command names: something may change when they come."""
        for value in values:
            for text in _NUMBER.findall(value if isinstance(value, str) else str(value)):
                moment = self._moment(float(text))
                if moment is not None:
                    self._stamps.add(moment)
                    if moment < self.now_us:
                        self._spans.add(self.now_us - moment)

    def span(self, seconds: float) -> None:
        """Remember how long something lasts: a window, an idle time that is waited for."""
        self._spans.add(round(seconds * _MICROSECONDS))

    def next_moment(self, others: Iterable[int] = ()) -> int | None:
        """The next moment, in microseconds, at which anything may change; None when none is known.

        Args:
            others: moments that are known elsewhere: deadlines of keys, ends of sleeps.
        """
        moments = {*others, *self._stamps}
        moments |= {stamp + span for stamp in self._stamps for span in self._spans}
        moments |= {START * _MICROSECONDS + span for span in self._spans}
        return min((moment for moment in moments if moment > self.now_us), default=None)

    def _moment(self, number: float) -> int | None:
        """A number as microseconds since 1970, if it may be seconds, milliseconds or microseconds."""
        for factor in (_MICROSECONDS, 1000, 1):
            moment = round(number * factor)
            if abs(moment - self.now_us) < _YEARS:
                return moment
        return None
