"""Whether a learner's function takes the parameters that it will be given."""

import inspect
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from labsupport.errors import InvalidSettingError


def check_parameters(
    function: Any, parameters: Sequence[str], *, given_to: str, name: str, form: str
) -> None:
    """Refuse what cannot be called with these parameters, before anything is started.

    Args:
        function: what the learner gave.
        parameters: what it will be called with, by position.
        given_to: the call in which it was given, e.g. "run".
        name: what the function is called in messages.
        form: how its definition begins, e.g. "(redis, key)".

    Raises:
        InvalidSettingError: it is no function, or one of other parameters.
    """
    if not callable(function):
        raise InvalidSettingError(
            f"{given_to} was given {type(function).__name__}, not a function.",
            f"Pass the function itself, without calling it; its form is {form}.",
        )
    with suppress(ValueError):  # a builtin without a signature
        try:
            inspect.signature(function).bind(*parameters)
        except TypeError:
            raise InvalidSettingError(
                f"{name} does not take {', '.join(parameters)}.", f"Give it the form {form}."
            ) from None
