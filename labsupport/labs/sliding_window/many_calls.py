"""What answers of lab 05 make of a limit of more than a thousand, on a real server."""

import time
from collections.abc import Callable
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer
from labsupport.servers import start_server

__all__ = ["allow_all_many", "allow_many", "limiter_many"]

_LIMIT, _WINDOW = 1_200, 3_600


def allow_many(answer: Answer) -> Outcome:
    """Is each of many calls admitted, and the next one refused?"""
    return _many(lambda redis, now: answer(redis, "limit:7", _LIMIT, _WINDOW, now))


def limiter_many(answer: Answer) -> Outcome:
    """The same, by the server's clock."""
    return _many(lambda redis, now: answer(redis, "limit:7", _LIMIT, _WINDOW, time.time))


def allow_all_many(answer: Answer) -> Outcome:
    """The same, under a limit that is never reached, too."""
    limits = [(_LIMIT, _WINDOW), (10 * _LIMIT, 2 * _WINDOW)]
    return _many(lambda redis, now: answer(redis, "limit:7", limits, now))


def _many(call: Callable[[Any, float], Any]) -> Outcome:
    with start_server() as server, server.client() as redis:
        begin = time.time()
        for number in range(_LIMIT + 1):
            told = tuple(call(redis, begin + number / 1_000))[:2]
            due = number < _LIMIT, max(0, _LIMIT - 1 - number)
            if told != due:
                reason = (
                    f"{_LIMIT:,} calls an hour: of call {number + 1:,}, allowed and remaining were "
                    f"{told}; {due} is due."
                )
                return Outcome(False, reason, told)
    return Outcome(True, "many calls were admitted, and no more than the limit.", told)
