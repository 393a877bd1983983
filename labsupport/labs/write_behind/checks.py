"""What an answer to 03.2 makes of one crash after the other: what they leave adds up."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, require
from labsupport.exploration import explore
from labsupport.explorer.operations import Move

__all__ = ["flush_after_crashes"]

_CRASHES = 6
_MOST_STEPS = 40
_VISITOR = "visitor"
_FLUSHERS = [f"flusher {number}" for number in range(1, _CRASHES + 1)]


def flush_after_crashes(answer: Answer) -> Outcome:
    """Each of many flushers finds a new view, and crashes at the same step; three calls, at once or late."""

    server: list[Any] = []

    def given(redis: Any, db: Any) -> None:
        server[:] = [redis]
        db.execute("CREATE TABLE flushes (batch TEXT PRIMARY KEY)")
        db.execute("UPDATE page_stats SET views = 0 WHERE id = 1")

    def visits(redis: Any, db: Any) -> None:
        for _ in _FLUSHERS:
            redis.hincrby("deltas", 1, 1)
        redis.hget("deltas", 1)

    def added(redis: Any, db: Any) -> bool:
        """all is done when three calls in a row have returned"""
        for _ in range(3):
            answer(redis, db)
        views = db.fetch_one("SELECT views FROM page_stats WHERE id = 1")["views"]
        require(views == _CRASHES, f"Of {_CRASHES} views the database has {views}.")
        return True

    clients = {_VISITOR: visits, **dict.fromkeys(_FLUSHERS, answer)}
    report = explore(
        clients, given=given, invariant=added,
        crashes=_FLUSHERS, expires="*", passes=False, max_runs=1,
    )  # fmt: skip
    assert report.anew is not None
    for steps in range(1, _MOST_STEPS):
        left: list[str] = []  # what does not stay, once all have crashed
        for later in ("", " each, and what has a TTL is gone"):
            if later and not left:
                continue
            rerun = report.anew(_crashing(steps, server, left, lapse=bool(later)))
            if rerun.finding is not None and rerun.finding.kind == "broken":
                crash = f"{_CRASHES} flushers, one after the other, crash after {steps} steps"
                shown = replace(report, findings=(rerun.finding,))
                reason = f"{crash}{later or ' each'}: {rerun.finding.reason}"
                return Outcome(False, reason, shown)
        if all(move.kind != "crash" for move in rerun.moves):  # it has ended before
            break
    return Outcome(True, "many crashes were mended by three calls.", report)


def _crashing(steps: int, server: list[Any], left: list[str], *, lapse: bool) -> Iterator[Move]:
    """The moves; `left` takes the keys that have a TTL in the end."""
    for flusher in _FLUSHERS:
        yield Move("step", _VISITOR)
        yield from [Move("step", flusher)] * steps
        yield Move("crash", flusher)
    (redis,) = server
    left[:] = [key for key in sorted(redis.keys()) if redis.pttl(key) > 0]
    if lapse:
        yield from [Move("expire", key) for key in left]
        yield Move("step", _VISITOR)  # for time to pass somebody must be there
