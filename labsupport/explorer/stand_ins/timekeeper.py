"""Whose time and chance counts where code is running."""

import random
from typing import Any, Protocol

from greenlet import getcurrent

__all__ = ["Timekeeper", "timekeeper_here"]


class Timekeeper(Protocol):
    """Whose time and chance it is."""

    @property
    def chance(self) -> random.Random:
        """What is drawn from."""

    def time(self, *, asked: bool = True) -> float:
        """Seconds since 1970; not `asked`: no answer depends on it."""

    def monotonic(self, *, asked: bool = False) -> float:
        """Seconds since some moment; `asked` for by code that may decide by it."""

    def sleep(self, seconds: float) -> None:
        """Sleep without taking time."""


def timekeeper_here() -> Timekeeper | None:
    """Whose clock counts here; None outside of all explored functions."""
    here: Any = getcurrent()
    while here is not None:
        keeper: Timekeeper | None = getattr(here, "timekeeper", None)
        if keeper is not None:
            return keeper
        here = here.parent
    return None
