"""Whether an answer is the function that its cell defines now: not when the cell has failed since."""

import inspect
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from labsupport.errors import InvalidSettingError

__all__ = ["require_current"]


def require_current(answer: Callable[..., Any]) -> None:
    """Refuse a function that was defined before its cell was run for the last time.

    Args:
        answer: the learner's function; what was defined outside of a notebook is always current.

    Raises:
        InvalidSettingError: the cell that defines it was run again, and has failed.
    """
    name = getattr(answer, "__name__", "")
    cells = [cell for cell in _cells() if re.search(rf"^(?:def|class) {name}\b", cell, re.M)]
    if not cells or not name.isidentifier():
        return
    with suppress(OSError, TypeError):
        code = inspect.unwrap(answer)
        lines = inspect.getsource(code).strip().splitlines()
        if any(line.strip() not in cells[-1] for line in lines):
            raise InvalidSettingError(
                f"The cell that defines {name} has failed; {name} is still the one of before.",
                "Mend the error below that cell, run it again, and then this one.",
            )


def _cells() -> Sequence[str]:
    """The cells that were run, the newest at the end; none outside of IPython."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    return [] if shell is None else list(shell.user_ns.get("In", []))
