"""Who calls in `Limit`: clients who share a key, and one who is alone and waits as told."""

import math
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labsupport.errors import InvalidSettingError
from labsupport.experiments import Implementation
from labsupport.servers import connect_client
from labsupport.workers import Client

GRACE_SECONDS = 0.001
"""How much longer one waits than one was told: no two clocks tick alike."""

_FORM = "Return (allowed, remaining, retry_after): True or False, a whole number, and seconds."


def call(
    client: Client,
    allow: Implementation,
    url: str,
    limit: int,
    per: float,
    calls: tuple[NDArray[np.float64], NDArray[np.float64]],
    clients: int,
    skew: float,
) -> None:
    """Be a client: make each `clients`-th call of the plan."""
    redis = connect_client(url)
    moments, due = calls
    number = client.number

    def clock() -> float:
        return time.time() + skew

    redis.ping()
    client.meet()
    begin = time.monotonic()
    while True:
        cycles, rest = divmod(number, due[-1])
        at = begin + cycles * moments[-1] + float(np.interp(rest, due, moments))
        client.rest(max(0.0, at - time.monotonic()))
        if not client.running:
            return
        start = time.monotonic_ns()
        allowed, remaining, retry_after = _ask(allow, redis, "user:1", limit, per, clock)
        value = remaining if allowed else retry_after
        client.record("admitted" if allowed else "refused", start, time.monotonic_ns(), value)
        number += clients


def wait_as_told(
    client: Client, allow: Implementation, url: str, limit: int, per: float, longest: float
) -> None:
    """Be somebody who is alone with a key, and waits as told."""
    redis = connect_client(url)
    redis.ping()
    client.meet()
    waited = False
    while client.running:
        start = time.monotonic_ns()
        allowed, _, told = _ask(allow, redis, "user:2", limit, per, time.time)
        if waited:
            client.record("came back", start, time.monotonic_ns(), float(allowed))
        if not allowed:
            client.note("told to wait", told)
        # also if it is not limited at all, it leaves some room for the others
        client.rest(GRACE_SECONDS + (0.0 if allowed else min(told, longest)))
        waited = not allowed and client.running


def _ask(function: Implementation, *args: Any) -> tuple[bool, float, float]:
    answer = function(*args)
    try:
        allowed, remaining, retry_after = answer
        told = float(remaining), float(retry_after or 0)
        if isinstance(allowed, bool | int) and math.isfinite(told[0]) and told[1] >= 0:
            return bool(allowed), *told
    except (TypeError, ValueError):
        pass
    raise InvalidSettingError(f"The function returned {answer!r:.60}.", _FORM)
