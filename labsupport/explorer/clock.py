"""Time in an exploration: it stands still until the adversary moves it, on every machine alike.

All clocks begin at the same moment of the year 2100, far beyond the servers' own clock: a deadline that
is sent to Redis as a moment is never reached by the machine's time, only by a move.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["START", "Clock"]

START = 4_102_444_800
"""The first moment of each run, 2100-01-01 00:00 UTC, in seconds since 1970."""

_MICROSECONDS = 1_000_000
_seconds = time.time  # whatever stands in its place while clients are explored
_MOST_LOOKS = (
    500  # as often, on every machine; later a constant that lies ahead could be met by chance
)
_TICK = 0.002
_YEARS = 10 * 365 * 86_400 * _MICROSECONDS  # what lies farther from now is no moment
_NUMBER = re.compile(r"(?<![\d.])\d{10,16}(?:\.\d+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:[+-]\d\d:\d\d)?)?")
# a day, an hour, a minute and a second: another date, and another time on every clock that shows one
_DAY = 90_061 * _MICROSECONDS


class Machine:
    """The machine's own clock: what shows it in an exploration has read a clock that nobody holds.

    The explorer's clocks stand in another century. What is sent is compared with the moments between
    which the client ran: a constant that was made before the exploration is not one of them.
    """

    def __init__(self) -> None:
        self._begun = _seconds()
        self._since = self._begun
        days = {
            datetime.fromtimestamp(self._begun + hours * 3600, UTC).date() for hours in (-14, 14)
        }
        self._resumed = 0
        # what a moment of this quarter of an hour begins with, in digits and as a date
        self._signs = {str(int(self._begun) + later)[:7] for later in (0, 1000)}
        self._signs |= {str(day) for day in days} | {str(day + timedelta(1)) for day in days}

    def resume(self) -> None:
        """A client's code goes on."""
        self._since = _seconds()
        self._resumed += 1

    def shows_in(self, values: Iterable[Any]) -> str:
        """What in these values the clock has shown since then; empty when nothing has."""
        now = _seconds()
        if self._resumed > _MOST_LOOKS:
            return ""
        for value in values:
            text = value if isinstance(value, str) else str(value)
            if any(sign in text for sign in self._signs):
                for found, moment in _moments(text):
                    if max(self._since - _TICK, self._begun) < moment <= now:
                        return found
        return ""


def _moments(text: str) -> Iterator[tuple[str, float]]:
    """What may be a moment, finer than seconds, and the seconds since 1970."""
    for found in _NUMBER.findall(text):
        for factor in (1, 1e3, 1e6):
            if float(found) / factor % 1:
                yield found, float(found) / factor
    for found in _DATE.findall(text):
        for moment in _dates(found, found):
            if moment % 1:
                yield found, moment
                for quarter in range(-56, 57):  # a local time
                    yield found, moment + quarter * 900


class Clock:
    """The server's clock, and by how much each client's own is ahead of it.

    Args:
        skews: seconds by client; behind when negative.

    Attributes:
        now_us: microseconds since 1970.
        passing: True when each sleep lasts until time has passed; otherwise a sleep moves its client's
            clock, unless it outlasts something.
        any_day: True when time also passes where no moment is known at which anything changes.
        machine: the clock that decides nothing.
        database: True when a statement asked the database, where time does not pass with the others.
        idle_ms: how long, in any run, somebody has waited for another's entry to be idle.
        outlasts: says of a client whether time passes for all when it has slept for so many seconds, the
            last of them at once.
    """

    def __init__(
        self,
        skews: Mapping[str, float] | None = None,
        *,
        passing: bool = False,
        any_day: bool = False,
    ) -> None:
        self.skews = dict(skews or {})
        self.passing = passing
        self.any_day = any_day
        self.database = False
        self.idle_ms: set[int] = set()
        self.outlasts: Callable[[str, float, float], bool] = lambda who, seconds, once: False
        self.now_us = START * _MICROSECONDS
        # whole seconds of the machine's: a deadline that was made before the exploration is not over in it
        self._base = float(int(time.monotonic()))
        self._stamps: set[int] = set()
        self._spans: set[int] = set()
        self._learned: frozenset[int] = frozenset()
        self.machine = Machine()

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
        self._spans = set(self._learned)

    def learn(self) -> None:
        """Know from the first moment on how long what lasts; a client may begin when that is over."""
        self._learned = frozenset(self._spans)

    def note(self, *values: Any) -> None:
        """Remember the moments that a command names: something may change when they come."""
        for value in values:
            text = value if isinstance(value, str) else str(value)
            numbers = [(float(found), "." not in found) for found in _NUMBER.findall(text)]
            dates = [(seconds, not seconds % 1) for seconds in _dates(value, text)]
            for number, whole in numbers + dates:
                for moment in self._moments(number, whole):
                    self._stamps.add(moment)
                    if moment < self.now_us:
                        self._spans.add(self.now_us - moment)

    def span(self, seconds: float) -> None:
        """Remember how long something lasts: a window, an idle time that is waited for."""
        self._spans.add(round(seconds * _MICROSECONDS))

    def ends_of(self, begun: Iterable[int]) -> list[int]:
        """When entries that were delivered at these moments may be claimed, as far as is known."""
        return [moment + ms * 1000 for moment in begun for ms in self.idle_ms]

    def next_moment(
        self, others: Iterable[int] = (), *, any_day: bool = False, after: int | None = None
    ) -> int | None:
        """The next moment, in microseconds, at which anything may change; None when none is known.

        Args:
            others: moments that are known elsewhere: deadlines of keys, ends of sleeps.
            any_day: a day from now, and a little more, when none is known.
            after: the next one after this; after now without it.
        """
        moments = {*others, *self._stamps}
        moments |= {stamp + span for stamp in self._stamps for span in self._spans}
        moments |= {START * _MICROSECONDS + span for span in self._spans}
        day = self.now_us + _DAY if any_day else None
        since = self.now_us if after is None else after
        return min((moment for moment in moments if moment > since), default=day)

    def _moments(self, number: float, whole: bool) -> Iterator[int]:
        """A number as microseconds since 1970, if it may be seconds, milliseconds or microseconds.

        After whole seconds or milliseconds to come the next one, too: only then they are over for code
        that counts so.
        """
        for factor in (_MICROSECONDS, 1000, 1):
            moment = round(number * factor)
            if abs(moment - self.now_us) < _YEARS:
                yield moment
                if factor > 1 and whole and moment > self.now_us:
                    yield moment + factor
                return


def _dates(value: Any, text: str) -> Iterator[float]:
    """The dates that a value names, in seconds since 1970; without a zone they are in UTC."""
    if isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _dates(one, str(one))
        return
    for found in _DATE.findall(text):
        with suppress(ValueError):
            date = datetime.fromisoformat(found)
            yield (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
