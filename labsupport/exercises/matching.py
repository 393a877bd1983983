"""Whether what an answer gave is what is due: value and type, and values that only it can know."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labsupport.errors import ImplementationError

__all__ = [
    "ANYTHING",
    "A_VALUE",
    "Between",
    "Fresh",
    "Names",
    "Raised",
    "Rising",
    "Skipped",
    "Words",
    "listed",
    "lives_as",
    "same",
    "typed",
]

_CLOSE = 1e-6
_ROUNDING_MS = 5
_MOST_LISTED = 6


@dataclass(frozen=True, slots=True)
class Between:
    """A number from `low` to `high`; with `kind`, of that type."""

    low: float
    high: float
    kind: type | None = None

    def __str__(self) -> str:
        if self.low == self.high or self.high - self.low < 0.01:  # infinite, or a rounding apart
            return f"{(self.low + self.high) / 2:.9g}"
        return f"from {self.low:g} to {self.high:g}"

    __repr__ = __str__


class _Anything:
    def __repr__(self) -> str:
        return "anything"

    def __deepcopy__(self, memo: Any) -> "_Anything":
        return self


ANYTHING = _Anything()
"""A value, or a life, of which nothing is promised."""


class Words(str):
    """A text that is shown as it is: words about a value, not the value."""

    def __repr__(self) -> str:
        return str(self)


A_VALUE = Words("a value")
"""Stands for what is there, where nothing is promised of it but that."""


class Fresh(str):
    """Stands for a text (or bytes, or an int) that the answer makes up, and that is always the same."""

    def __repr__(self) -> str:
        return f"a new {self}"


class Rising(int):
    """Stands for an int that the answer draws: the first, the second and so on, each greater."""

    def __repr__(self) -> str:
        if self == 1:
            return "an int above 0"
        return "an int above the one before" if self == 2 else f"an int above all {self - 1} before"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Raised:
    """What a call raised instead of returning something; in a model, the error's type."""

    error: BaseException | type[BaseException]

    @property
    def kind(self) -> type[BaseException]:
        """The type of the error."""
        return self.error if isinstance(self.error, type) else type(self.error)

    def __repr__(self) -> str:
        if isinstance(self.error, type):
            return f"a {self.error.__name__} that reaches the caller"
        text = ImplementationError("it", self.error).problem.removeprefix("it raised ")
        return f"an error ({text})"


class Skipped:
    """What is told by a call whose reply was lost: nothing is known of it."""

    def __repr__(self) -> str:
        return "no reply"


Names = dict[Any, Any]
"""For each text and number that the answer made up, what it stands for."""


def same(got: Any, due: Any, names: Names | None = None, *, stored: bool = False) -> bool:
    """True when `got` is of the type and the value that is due.

    Args:
        got: what the answer gave.
        due: what the model gave, which may hold `Between`, `ANYTHING`, `Fresh` and `Rising`.
        names: what the answer made up before; new texts and numbers are added.
        stored: True when it is from Redis, where numbers are text.
    """
    if due is ANYTHING or isinstance(got, Skipped):
        return not isinstance(got, Raised)
    if isinstance(due, Between):
        number = isinstance(got, int | float) and not isinstance(got, bool)
        fits = due.kind is None or type(got) is due.kind
        return number and fits and due.low - _CLOSE <= got <= due.high + _CLOSE
    if isinstance(due, Fresh):
        if isinstance(got, bool) or not isinstance(got, str | bytes | int) or names is None:
            return False
        got = got.decode(errors="replace") if isinstance(got, bytes) else str(got)
        known = names.get(got)
        if known is None and due not in names.values():
            names[got] = known = str(due)
        return known == due or (stored and got == due)  # the state has been renamed already
    if isinstance(due, Rising):
        return names is not None and _rises(
            int(got) if stored and _is_int(got) else got, due, names
        )
    if isinstance(due, Raised):
        return isinstance(got, Raised) and issubclass(got.kind, due.kind)
    if got.__class__ is not due.__class__:  # and not type(): a reply's set has one of its own
        return False
    if isinstance(due, float):
        return math.isclose(got, due, rel_tol=_CLOSE, abs_tol=_CLOSE)
    if isinstance(due, list | tuple):
        return len(got) == len(due) and all(
            same(one, other, names, stored=stored) for one, other in zip(got, due, strict=True)
        )
    if isinstance(due, dict):
        return got.keys() == due.keys() and all(
            same(got[key], due[key], names, stored=stored) for key in due
        )
    return bool(got == due)


def _is_int(text: Any) -> bool:
    return isinstance(text, str) and text.isascii() and text.isdigit()


def _rises(got: Any, due: Rising, names: Names) -> bool:
    """True when a number is in its place among those that were drawn; they are added."""
    if type(got) is not int or got <= 0:
        return False
    drawn = {number: place for number, place in names.items() if isinstance(place, Rising)}
    if got not in drawn and all(
        place != due and (got > number) is (due > place) for number, place in drawn.items()
    ):
        names[got] = drawn[got] = due
    return drawn.get(got) == due


def lives_as(got: Any, due: Any, elapsed_ms: float) -> bool:
    """True when a key's remaining ms are those that are due, `elapsed_ms` or less ago."""
    if due is ANYTHING:
        return True
    if got is None or due is None:
        return got is due
    low, high = (due.low, due.high) if isinstance(due, Between) else (due, due)
    return bool(low - elapsed_ms - _ROUNDING_MS <= got <= high + _ROUNDING_MS)


def typed(got: Any, due: Any) -> tuple[str, str]:
    """Both in words, with their types where these differ."""
    shown, wanted = repr(got), repr(due)
    plain = not isinstance(due, Between | Raised | Fresh | Rising) and due is not ANYTHING
    if plain and got.__class__ is not due.__class__ and not isinstance(got, Raised):
        kinds = [type(one).__name__ for one in (got, due)]
        shown, wanted = (
            text if one is None else f"{text} ({kind})"
            for text, kind, one in zip((shown, wanted), kinds, (got, due), strict=True)
        )
    return shown, wanted


def listed(texts: Sequence[str], then: str = ", ") -> str:
    """Texts in a row; of many, the first two and the last."""
    if len(texts) > _MOST_LISTED:
        texts = [*texts[:2], f"… ({len(texts)} in all)", texts[-1]]
    return then.join(texts)
