"""What the models of labs 05 and 06 share: moments, and how exact a reply must be."""

from collections.abc import Sequence

from labsupport.exercises.contract import WAIT, Call
from labsupport.exercises.matching import Between

__all__ = ["NO_WAIT", "START", "in_time", "near"]

START = 1_800_000_000.0 + 2**-14
"""A moment in seconds since 1970, as a caller's clock would show it; fourteen digits do not hold it."""
NO_WAIT = Between(0, 0)
_HAIR_SECONDS = 2e-5  # more than a double loses, less than a text of fourteen digits does


def near(seconds: float) -> Between:
    """This time, as exactly as a double can say it."""
    return Between(seconds - _HAIR_SECONDS, seconds + _HAIR_SECONDS)


def in_time(
    moments: list[tuple[float, Call]], *, latest: float = 0.0
) -> tuple[tuple[str, Call], ...]:
    """Calls at their moments; the server's time passes with them.

    Args:
        moments: seconds since the first moment, and the call; a caller's clock may be behind.
        latest: the moment of what was called before.
    """
    turns = []
    for seconds, call in moments:
        if seconds > latest:
            turns.append(("ada", Call(WAIT, (seconds - latest,))))
            latest = seconds
        turns.append(("ada", call))
    return tuple(turns)
