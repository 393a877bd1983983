"""Whose time and chance count for `given` and the invariant."""

import random
from collections.abc import Callable

from labsupport.explorer.clock import Clock

__all__ = ["Host"]


class Host:
    """Keeps time and chance for `given` and the invariant, which are no clients.

    Args:
        clock: of the exploration.

    Attributes:
        advance: lets time pass up to a moment, in microseconds, once all clients have ended.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.advance: Callable[[int], None] | None = None
        self._chance: random.Random | None = None

    def restart(self) -> None:
        """The same draws in each run."""
        self._chance = None

    @property
    def chance(self) -> random.Random:
        """What is drawn from."""
        if self._chance is None:
            self._chance = random.Random(0)
        return self._chance

    def time(self, *, asked: bool = True) -> float:
        """Seconds since 1970."""
        return self.clock.now_us / 1e6

    def monotonic(self, *, asked: bool = False) -> float:
        """Seconds since some moment."""
        return self.clock.elapsed()

    def sleep(self, seconds: float) -> None:
        """Let time pass for all; before a run, when nobody has begun, it takes none."""
        if self.advance is not None and seconds > 0:
            self.advance(self.clock.now_us + round(seconds * 1e6))
