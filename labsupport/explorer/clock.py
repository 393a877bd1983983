"""Time in an exploration: it stands still until the adversary moves it, on every machine alike.

All clocks begin at the same moment of the year 2100, far beyond the servers' own clock: a deadline that
is sent to Redis as a moment is never reached by the machine's time, only by a move. That moment is two
seconds before the end of the year, so that every window by the clock, a minute or a day, is about to end.
"""

import functools
import itertools
import re
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["START", "Clock"]

START = 4_133_980_798
"""The first moment of each run, 2100-12-31 23:59:58 UTC, in seconds since 1970."""

_MICROSECONDS = 1_000_000
_seconds = time.time  # whatever stands in its place while clients are explored
_MOST_LOOKS = (
    500  # as often, on every machine; later a constant that lies ahead could be met by chance
)
_TICK = 0.002
_YEARS = 10 * 365 * 86_400 * _MICROSECONDS  # what lies farther from now is no moment
_NUMBER = re.compile(r"(?<![\d.])\d{10,16}(?:\.\d+)?")
_DATE = re.compile(
    r"(?<!\d)\d{4}([-/]?)\d\d\1\d\d(?:[T ]\d\d(:?)\d\d(?:\2\d\d(?:\.\d{1,6})?)?(?:[+-]\d\d:?\d\d)?)?(?!\d)"
)
_MAIL_DATE = re.compile(r"\w{3}, \d\d? \w{3} \d{4} \d\d:\d\d:\d\d(?: GMT| [+-]\d{4})")
_CLOCK_TIME = r"\d\d:\d\d:\d\d"
_OTHER_DATES = (
    (r"(?<!\d)\d{14}(?!\d)", "%Y%m%d%H%M%S"),
    (rf"\d\d/\d\d/\d{{4}} {_CLOCK_TIME}", "%d/%m/%Y %H:%M:%S"),
    (rf"\d\d/\d\d/\d{{4}} {_CLOCK_TIME}", "%m/%d/%Y %H:%M:%S"),
    (rf"\d\d\.\d\d\.\d{{4}} {_CLOCK_TIME}", "%d.%m.%Y %H:%M:%S"),
    (rf"\w{{3}} \w{{3}} [ \d]\d {_CLOCK_TIME} \d{{4}}", "%a %b %d %H:%M:%S %Y"),
)
_LIFETIME = re.compile(
    r"(?<![a-z])(?:ttl|age|for|in|life(?:time)?|lease|timeout|seconds)[\"']?\s*[:=]\s*(\d{1,6}(?:\.\d+)?)\b"
)
_MOST_LIFETIMES = 4  # beside one moment, or a few
_MOST_PACKED = 65_536  # bytes that are looked through
# near 2100: as a double, the highest byte first or last; what msgpack, struct and pickle make of it
_DOUBLE = re.compile(rb"(?=(\x41\xee.{6}))", re.DOTALL)
_DOUBLE_BACKWARDS = re.compile(rb"(?=(.{6}\xee\x41))", re.DOTALL)
_WHOLE = re.compile(
    rb"\xce(\xf6.{3})|\xcf(\x00.{7})|\x8a\x05(.{3}\xf6\x00)|\x8a\x06(.{6})|\x8a\x07(.{7})",
    re.DOTALL,
)
_PICKLED_DATE = re.compile(rb"(?=(\x08[\x34\x35].{8}))", re.DOTALL)  # of 2100 and 2101
_MINUTES = re.compile(r"(?<![\d.])\d{8}(?![\d.])")
_COUNTED = re.compile(r"(?<!\d)(?<!\d\.)(\d{4,13})(?:\.0)?(?![\d.])")
# windows last whole seconds up to an hour, minutes up to a day, half days up to a month
_LENGTHS = ((43_200, 31 * 86_400), (60, 86_400), (1, 3600))
_HOURS = (2, 3, 4, 6, 8, 12, 24)
_ROUND = (5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, *(h * 3600 for h in (1, *_HOURS)))
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
        signs = {str(int(self._begun) + later)[:7] for later in (0, 1000)}
        signs |= {str(day) for day in days} | {str(day + timedelta(1)) for day in days}
        self._signs = re.compile("|".join(signs))

    def resume(self) -> None:
        """A client's code goes on."""
        self._since = _seconds()
        self._resumed += 1

    def shows_in(self, values: Iterable[Any]) -> str:
        """What in these values the clock has shown since then; empty when nothing has."""
        if self._resumed > _MOST_LOOKS:
            return ""
        now = _seconds()
        for value in values:
            text = value if isinstance(value, str) else str(value)
            if self._signs.search(text):
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
    for found in (match[0] for match in _DATE.finditer(text)):
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
        alike: True when all draw the same of few values, and the server for all of them; otherwise each
            draws another, as far as there are so many.
        drew: the clients, and tasks, for which it has drawn, each with its place among them.
        drew_few: those that have drawn in Python, of so few values that two may draw the same.
        drew_fraction: code of one's own has called `random.random()`.
        fractions: where those fractions are, "small" or "large"; empty where they fall as they may.
        drew_once: a client drew one of very many (by numpy, say) of which no other is tried.
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
        alike: bool = False,
        fractions: str = "",
    ) -> None:
        self.skews = dict(skews or {})
        self.passing = passing
        self.any_day = any_day
        self.alike = alike
        self.drew: dict[str, int] = {}
        self.drew_few: dict[str, int] = {}
        self.drew_once = self.drew_fraction = False
        self.fractions = fractions
        self.database = False
        self.idle_ms: set[int] = set()
        self.outlasts: Callable[[str, float, float], bool] = lambda who, seconds, once: False
        self.now_us = START * _MICROSECONDS
        # whole seconds of the machine's: a deadline that was made before the exploration is not over in it
        self._base = float(int(time.monotonic()))
        self._stamps: set[int] = set()
        self._spans: set[int] = set()
        self._learned: frozenset[int] = frozenset()
        self._before: set[int] = set()
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
        self._before.clear()
        self._spans = set(self._learned)

    def shift(self, drew: dict[str, int], who: str) -> int:
        """By how much another one's draw differs from the first one's, of 2**32: half of it, a quarter ..."""
        place = drew.setdefault(who, len(drew))
        return 0 if self.alike else int(f"{place:032b}"[::-1], 2)

    def learn(self) -> None:
        """Know from the first moment on how long what lasts; a client may begin when that is over."""
        self._learned = frozenset(self._spans)

    def note(self, *values: Any) -> None:
        """Remember the moments that a command names: something may change when they come."""
        for value in values:
            text = value if isinstance(value, str) else str(value)
            found = itertools.chain(_dates(value, text), _packed(value))
            dates = ((seconds, not seconds % 1) for seconds in found)
            for number, whole in itertools.chain(_numbers(text), dates):
                for moment in self._moments(number, whole):
                    self._stamps.add(moment)
                    self._stamps.update(moment + later for later in _lifetimes(text))
                    if moment < self.now_us:
                        self._spans.add(self.now_us - moment)
            for minutes in _minutes(text):
                if 0 < minutes * 60 - self.now_us / _MICROSECONDS < 86_400:
                    self._stamps.add(minutes * 60 * _MICROSECONDS)

    def note_later(self, *values: Any) -> None:
        """Remember the moments to come that values name, as `note` does those of a command."""
        before, spans = set(self._stamps), set(self._spans)
        self.note(*values)
        later = {moment for moment in self._stamps if moment > self.now_us}
        self._stamps, self._spans = before | later, spans

    def note_windows(self, *texts: Any) -> None:
        """Remember when the windows end in whose names a moment of now stands: `limit:ada:68899679`."""
        for skew in {0.0, *self.skews.values()}:
            second = int(self.now_us / _MICROSECONDS + skew)
            for text in texts:
                for end in _window_ends(str(text), second):
                    self._stamps.add(round((end - skew) * _MICROSECONDS))

    def span(self, seconds: float) -> None:
        """Remember how long something lasts: a window, an idle time that is waited for."""
        self._spans.add(round(seconds * _MICROSECONDS))

    def watch_ends(self, *, exact: bool) -> None:
        """Remember that somebody asks how long a key has left: shortly before its end is a moment, too.

        Args:
            exact: in milliseconds; otherwise in seconds.
        """
        self._before.add(1000 if exact else _MICROSECONDS)

    def before(self, ends: Iterable[int]) -> list[int]:
        """The moments at which who asks how long a key has left is told the least that it may be."""
        return [end - left for end in ends for left in self._before]

    def ends_of(self, begun: Iterable[int]) -> list[int]:
        """When entries that were delivered at these moments may be claimed, as far as is known."""
        return [moment + ms * 1000 for moment in begun for ms in self.idle_ms]

    def next_moment(
        self,
        others: Iterable[int] = (),
        *,
        any_day: bool = False,
        asked: bool = False,
        after: int | None = None,
    ) -> int | None:
        """The next moment, in microseconds, at which anything may change; None when none is known.

        Args:
            others: moments that are known elsewhere: deadlines of keys, ends of sleeps.
            any_day: a day from now, and a little more, when none is known.
            asked: somebody has asked what time it is: also when the year ends.
            after: the next one after this; after now without it.
        """
        moments = {*others, *self._stamps}
        moments |= {stamp + span for stamp in self._stamps for span in self._spans}
        moments |= {START * _MICROSECONDS + span for span in self._spans}
        day = self.now_us + _DAY if any_day else None
        if asked and moments:  # a window may be named in any way: all end with the year
            moments.add((START + 2) * _MICROSECONDS)
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


# What one run sends, the next one sends again.
@functools.lru_cache(maxsize=4096)
def _numbers(text: str) -> tuple[tuple[float, bool], ...]:
    """What may be a moment in digits, and whether it is in whole units."""
    return tuple((float(found), "." not in found) for found in _NUMBER.findall(text))


@functools.lru_cache(maxsize=4096)
def _minutes(text: str) -> tuple[int, ...]:
    return tuple(map(int, _MINUTES.findall(text)))


@functools.lru_cache(maxsize=4096)
def _is_dated(text: str) -> bool:
    if _DATE.search(text) or _MAIL_DATE.search(text):
        return True
    return any(re.search(pattern, text) for pattern, _ in _OTHER_DATES)


@functools.lru_cache(maxsize=4096)
def _lifetimes(text: str) -> tuple[int, ...]:
    """How long what stands beside a moment lasts, in microseconds: {"at": …, "ttl": 30}."""
    found = _LIFETIME.findall(text)[:_MOST_LIFETIMES]
    return tuple(round(float(one) * _MICROSECONDS) for one in found)


def _packed(value: Any) -> tuple[float, ...]:
    """Moments in bytes, in seconds or parts of them: what struct, msgpack and pickle write."""
    if not isinstance(value, bytes | bytearray | memoryview):
        return ()
    return tuple(_in_bytes(bytes(value[:_MOST_PACKED])))


@functools.lru_cache(maxsize=1024)
def _in_bytes(packed: bytes) -> tuple[float, ...]:
    moments: list[float] = []
    for found in _WHOLE.finditer(packed):
        big, large, *little = found.groups()
        moments.append(int.from_bytes(big or large or next(filter(None, little))[::-1]))
    moments += [struct.unpack(">d", found[1])[0] for found in _DOUBLE.finditer(packed)]
    moments += [struct.unpack("<d", found[1])[0] for found in _DOUBLE_BACKWARDS.finditer(packed)]
    for found in _PICKLED_DATE.finditer(packed):
        year, month, day, *clock, high, middle, low = struct.unpack(">H8B", found[1])
        hour, minute, second = clock
        with suppress(ValueError):
            date = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
            date += timedelta(microseconds=high << 16 | middle << 8 | low)
            moments.append(date.timestamp())
    return tuple(moments)


def _dates(value: Any, text: str) -> Iterator[float]:
    """The dates that a value names, in seconds since 1970; those without a zone are in UTC."""
    if isinstance(value, dict | list | tuple):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _dates(one, str(one))
        return
    if not _is_dated(text):
        return
    for found in (match[0] for match in _DATE.finditer(text)):
        with suppress(ValueError):
            date = datetime.fromisoformat(found.replace("/", "-"))
            yield (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    for pattern, form in _OTHER_DATES:
        for found in re.findall(pattern, text):
            with suppress(ValueError):
                yield datetime.strptime(found, form).replace(tzinfo=UTC).timestamp()
    for found in _MAIL_DATE.findall(text):
        with suppress(ValueError):
            yield parsedate_to_datetime(found).timestamp()


@functools.lru_cache(maxsize=16_384)
def _window_ends(text: str, second: int) -> tuple[int, ...]:
    """When the windows by the clock end that a name tells: by their number, their first second, or a date.

    Args:
        text: the name.
        second: since 1970, now.
    """
    return tuple(_ends_named(text, second))


def _ends_named(text: str, second: int) -> Iterator[int]:
    for number in map(int, _COUNTED.findall(text)):
        yield from ((number + 1) * one for one in _lengths(number, second))
        first = number // 1000 if number > 10 * second else number
        if first <= second:
            yield from (first + one for one in _ROUND if not first % one and second - first < one)
    date = datetime.fromtimestamp(second, UTC)
    if found := re.search(date.strftime(r"%Y\D?%m(?:(\D?%d)(?:(\D?%H)(\D?%M)?)?)?"), text):
        _, hour, minute = found.groups()
        length = 60 if minute else 3600 if hour else 86_400
        yield second - second % length + length
    elif date.strftime("%H:%M") in text:
        yield second - second % 60 + 60
    if re.search(date.strftime(r"(%G\D{0,2}|[wW])%V(?!\d)"), text):
        yield second - second % 86_400 + (7 - date.weekday()) * 86_400


def _lengths(number: int, second: int) -> Iterator[int]:
    """How long windows may be of which one with this number goes on now: round ones, in seconds."""
    if number:
        for unit, most in _LENGTHS:
            length = second // number // unit * unit
            if 1 < length <= most and second // length == number:
                yield length
