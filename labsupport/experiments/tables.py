"""What an experiment says of its runs, as tables: claims, findings, and a comparison."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from labsupport.charts.style import FIXED, duration
from labsupport.verdict import Claim, status_of

if TYPE_CHECKING:
    from labsupport.experiments.result import Result

Numbers: TypeAlias = Mapping[str, float]
"""What was measured, with the unit in each name."""
Condition: TypeAlias = str | tuple[str, ...] | Callable[[Numbers], bool]
"""Names of numbers, which are asked whether they are other than 0; or a function of all numbers."""
Text: TypeAlias = str | Callable[[Numbers], str]
"""A template; `{lost}` is that number without decimals, `{lost:job|jobs}` the number with the word that
goes with it, `{lost:~is|are}` that word alone, `{wait_ms:ms}` and `{stale_seconds:s}` the time in the
unit in which people say it. Or what chooses one."""


_MILLISECONDS = {"ms": 1.0, "s": 1000.0}


class _Shown(float):
    """A number in a template: whole, with commas, unless the template says otherwise."""

    def __format__(self, form: str) -> str:
        one, either, more = form.removeprefix("~").partition("|")
        if either:
            word = one if float(f"{self:.0f}") == 1 else more
            return word if form.startswith("~") else f"{self} {word}"
        if form in _MILLISECONDS:
            return duration(_MILLISECONDS[form] * self)
        return super().__format__(form or ",.0f").replace("-", "−")


@dataclass(frozen=True, slots=True)
class _Words:
    """What a template may name."""

    numbers: Numbers
    words: Mapping[str, str]

    def __getitem__(self, name: str) -> object:
        return self.words[name] if name in self.words else _Shown(self.numbers[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How a claim is judged.

    Args:
        text: the claim; it holds no measured number.
        met: whether the fault hit what the claim is about; of several names, all must be.
        broken: what refutes the claim, whether the fault was met or not; of several names, any.
        detail: the evidence, a template.
        final: whether only a run that came to its own end can be judged: a job that lies there
            when the time is up may have been the next one.
    """

    text: str
    met: Condition
    broken: Condition | None = None
    detail: str = ""
    final: bool = False

    def judge(self, numbers: Numbers) -> Claim:
        """What the numbers of a run say."""
        open_ended = self.final and numbers.get("cut_short", 0) > 0
        met = not open_ended and all(_asked(self.met, numbers))
        broken = not open_ended and self.broken is not None and any(_asked(self.broken, numbers))
        return Claim(self.text, status_of(met, broken=broken), fill(self.detail, numbers))


@dataclass(frozen=True, slots=True)
class Finding:
    """What the title of a chart may say; the first of a table that applies is taken.

    Args:
        text: the finding.
        when: what must have been measured; of several names, all must be.
    """

    text: Text
    when: Condition = ()

    def applies(self, numbers: Numbers) -> bool:
        """Whether it is true of a run."""
        return all(_asked(self.when, numbers))

    def say(self, numbers: Numbers) -> str:
        """The finding with its numbers."""
        return fill(self.text if isinstance(self.text, str) else self.text(numbers), numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """How runs compare with the first of them, which is the one to beat.

    Args:
        text: the claim of each other run, with `{first}` and `{other}`.
        number: what is compared, and the less the better; NaN where a run cannot tell.
        met: whether the fault hit a run; it must have hit both.
        times: how many times more the first has; by default the other must have none at all.
        title: the figure's, chosen by the first run's numbers. It knows `{each}`, and for two or
            more of the same sort `{first}`, `{worst}` (its number), `{most}` and `{rest}`.
        each: what `{each}` lists; it knows `{name}`, `{number}` and what was measured.
    """

    text: str
    number: str | Callable[[Numbers], float]
    met: Condition
    title: Text
    each: Text = "{name} {number}"
    times: float = math.inf

    def compare(self, results: "Sequence[Result]") -> tuple[str, list[Claim]]:
        """The finding of a comparison, and a claim for each result but the first."""
        first, *others = results
        claims = [self._judge(first, other) for other in others]
        results = [one for one in results if not one.lacking]
        if len(results) < 2:
            return "Nothing to compare: this server allows no run of the others", claims
        first, *others = results
        chosen, each = (
            text if isinstance(text, str) else text(first.numbers)
            for text in (self.title, self.each)
        )
        each = each.replace("{name} ", "{name}" + FIXED)  # no line ends between these two
        parts = [
            fill(each, one.numbers | {"number": self._number(one)}, name=one.name)
            for one in results
        ]
        title = fill(
            chosen,
            {
                "worst": self._number(first),
                "most": max(map(self._number, others)),
            },
            each=enumerated(parts),
            first=first.name,
            rest=others[0].name if len(others) == 1 else f"the other {len(others)}",
        )
        return title, claims

    def _judge(self, first: "Result", other: "Result") -> Claim:
        text = self.text.format(first=first.name, other=other.name)
        if lacking := first.lacking or other.lacking:
            return Claim(text, "not exercised", lacking)
        worse, better = self._number(first), self._number(other)
        met = all(all(_asked(self.met, one.numbers)) for one in (first, other))
        met = met and not math.isnan(worse) and not math.isnan(better)
        holds = worse > 0 and better <= worse / self.times
        return Claim(
            text,
            status_of(met, broken=met and not holds),
            f"{_Shown(better):,.4g} against {_Shown(worse):,.4g}",
        )

    def _number(self, result: "Result") -> float:
        if isinstance(self.number, str):
            return result.numbers[self.number]
        return self.number(result.numbers)


def fill(template: str, numbers: Numbers, **words: str) -> str:
    """A template with its numbers and words.

    Args:
        template: see `Text`.
        numbers: what was measured.
        words: what else it may name.
    """
    return template.format_map(_Words(numbers, words))


def enumerated(parts: Sequence[str]) -> str:
    """Parts one after the other, told apart also where one of them has a comma, as a name may."""
    return ("; " if any(", " in part for part in parts) else ", ").join(parts)


def _asked(condition: Condition, numbers: Numbers) -> Sequence[bool]:
    """The answers to a condition, one for each of its names."""
    if callable(condition):
        return [condition(numbers)]
    names = (condition,) if isinstance(condition, str) else condition
    return [numbers[name] != 0 for name in names]
