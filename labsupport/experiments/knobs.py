"""The settings of an experiment: dataclass fields that know their range."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from labsupport.errors import InvalidSettingError


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
