"""The settings of an experiment: dataclass fields that know their range."""

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from labsupport.errors import CallError, InvalidSettingError


def knob(default: float, *, low: float, high: float, step: float | None = None) -> Any:
    """A field of an `Experiment` that can be set within a range, also by a slider.

    Args:
        default: its value if none is given; a whole number if only whole numbers will do.
        low: the least that it can be.
        high: the most.
        step: of a slider; default: 1, or a hundredth of the range.
    """
    if step is None:
        step = 1 if isinstance(default, int) else (high - low) / 100
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "step": step})


def choice(default: str, *, among: Sequence[str]) -> Any:
    """A field of an `Experiment` that is one of a few words, also by a list to choose from.

    Args:
        default: its value if none is given.
        among: all that it can be, in the order in which they are offered.
    """
    return dataclasses.field(default=default, metadata={"choices": tuple(among)})


def require_knobs(experiment: type, args: Sequence[Any], knobs: Mapping[str, Any]) -> None:
    """Refuse what an experiment is not made with, before it is made.

    Raises:
        CallError: a value without a name, a name that is no knob of this experiment, or something
            without which it cannot be made is not there.
    """
    name = experiment.__name__
    fields = {one.name: one for one in dataclasses.fields(experiment) if one.init}
    unknown = next((knob for knob in knobs if knob not in fields), None)
    needed = [key for key, one in fields.items() if one.default is dataclasses.MISSING]
    if not args and unknown is None:
        if missing := [key for key in needed if key not in knobs]:
            usage = ", ".join(f"{key}={key}" for key in needed)
            raise CallError(
                f"{name}() was not given {' and '.join(missing)}.", f"For example {name}({usage})."
            )
        return
    if args:
        problem = f"{name}() was given {args[0]!r} without saying which knob it is."
    else:
        problem = f"{name}() has no knob {unknown!r}."
    close = difflib.get_close_matches(unknown or "", fields, 1)
    like = fields[close[0]] if close else next(iter(fields.values()))
    value = like.name if like.name in needed else repr(like.default)
    raise CallError(
        problem,
        f"Its knobs are {', '.join(fields)}; for example {name}({like.name}={value}).",
    )


def check_knobs(experiment: Any) -> None:
    """Check the knobs of an experiment.

    Raises:
        InvalidSettingError: one is of the wrong type, outside its range, or not among its choices.
    """
    for field in dataclasses.fields(experiment):
        choices = field.metadata.get("choices", ())
        if choices and getattr(experiment, field.name) not in choices:
            raise InvalidSettingError(
                f"{field.name} is {getattr(experiment, field.name)!r}; it must be one of"
                f" {', '.join(map(repr, choices))}.",
                f"For example {type(experiment).__name__}({field.name}={field.default!r}).",
            )
        if "low" not in field.metadata:
            continue
        value, low, high = (
            getattr(experiment, field.name),
            field.metadata["low"],
            field.metadata["high"],
        )
        whole = isinstance(field.default, int)
        right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not right or not math.isfinite(value) or not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            name = type(experiment).__name__
            raise InvalidSettingError(
                f"{field.name} is {value!r}; it must be {kind} from {low:g} to {high:g}.",
                f"For example {name}({field.name}={field.default!r}).",
            )
