"""Each pattern meets each fault once: what does the caller see, and what does the business lose?"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import pandas as pd
import redis
from redis.exceptions import RedisError

from labsupport.labs.redis_outage.faults import CONFIG, FAULTS, struck
from labsupport.servers import Proxy, Server, start_server
from labsupport.verdict import Claim, Verdict

LOST_REPLY = "lost reply"
"""The fault that hits a connection and not the server."""
NOTHING = "–"
"""What stands in a table where nothing went wrong."""

Connect = Callable[[str], redis.Redis]


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern as one caller uses it.

    Args:
        given: puts into Redis what is there before.
        call: what the caller does; an error of Redis makes the caller do it again when all is over.
        loss: what the business has lost, "" for nothing, from what is in Redis in the end and what
            the caller was told at last.
    """

    given: Callable[[redis.Redis], object]
    call: Callable[[redis.Redis], Any]
    loss: Callable[[redis.Redis, Any], str]


@dataclass(frozen=True, slots=True, eq=False)
class Ordeal:
    """What became of the patterns.

    Args:
        seen: what each caller saw under each fault: an error's name, or that there was none.
        lost: what the business lost under each fault.
    """

    seen: pd.DataFrame
    lost: pd.DataFrame

    @property
    def verdict(self) -> Verdict:
        """Whether nothing was lost, for each pattern."""
        return Verdict(
            Claim(
                f"{name}: nothing is lost, whatever happens to Redis",
                "holds" if (row == NOTHING).all() else "broken",
                ", ".join(sorted({*row} - {NOTHING})),
            )
            for name, row in self.lost.iterrows()
        )


def put_through(
    patterns: Mapping[str, Pattern],
    connect: Connect,
    *,
    faults: Sequence[str] = (*FAULTS, LOST_REPLY),
    config: Mapping[str, Mapping[str, str]] = {},
) -> Ordeal:
    """Let each pattern meet each fault once, on servers of its own.

    Each caller is connected when the fault begins. Under "lost reply" its next reply is swallowed
    by a proxy, after the server has done the command.

    Args:
        patterns: by name.
        connect: makes a caller's client of a URL.
        faults: see `struck`; and "lost reply".
        config: settings of the server for a fault.
    """
    columns = {
        fault: _under(fault, patterns, connect, CONFIG | dict(config.get(fault, {})))
        for fault in faults
    }
    tables = [
        pd.DataFrame({fault: [cell[at] for cell in cells] for fault, cells in columns.items()})
        for at in (0, 1)
    ]
    seen, lost = (table.set_axis(list(patterns)) for table in tables)
    return Ordeal(seen, lost)


def _under(
    fault: str, patterns: Mapping[str, Pattern], connect: Connect, config: Mapping[str, str]
) -> list[tuple[str, str]]:
    """For each pattern what was seen and what was lost under one fault."""
    with ExitStack() as stack:
        server = stack.enter_context(start_server(config=config))
        proxy = stack.enter_context(server.proxy()) if fault == LOST_REPLY else None
        url = f"redis://127.0.0.1:{proxy.port}" if proxy else server.url
        admin = stack.enter_context(server.client())
        callers = [stack.enter_context(closing(connect(url))) for _ in patterns]
        for pattern, caller in zip(patterns.values(), callers, strict=True):
            pattern.given(admin)
            caller.ping()
        told = _all_call(fault, server, proxy, list(patterns.values()), callers)
        cells = []
        for pattern, caller, first in zip(patterns.values(), callers, told, strict=True):
            last = _told(pattern, caller) if isinstance(first, RedisError) else first
            error = type(first).__name__ if isinstance(first, RedisError) else NOTHING
            cells.append((error, pattern.loss(admin, last) or NOTHING))
        return cells


def _all_call(
    fault: str,
    server: Server,
    proxy: Proxy | None,
    patterns: Sequence[Pattern],
    callers: Sequence[redis.Redis],
) -> list[Any]:
    """What each caller is told while the fault lasts."""
    if proxy is not None:
        found = []
        for pattern, caller in zip(patterns, callers, strict=True):
            proxy.lose_reply()
            found.append(_told(pattern, caller))
        return found
    with struck(server, fault), ThreadPoolExecutor(len(patterns)) as pool:
        return list(pool.map(_told, patterns, callers))


def _told(pattern: Pattern, caller: redis.Redis) -> Any:
    """What the call returns, or the error of Redis that it raises."""
    try:
        return pattern.call(caller)
    except RedisError as error:
        return error
