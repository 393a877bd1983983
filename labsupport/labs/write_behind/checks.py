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
    """Each of many flushers finds a new view, and crashes at the same step; then three calls."""

    def given(redis: Any, db: Any) -> None:
        db.execute("CREATE TABLE flushes (batch TEXT PRIMARY KEY)")
        db.execute("UPDATE page_stats SET views = 0 WHERE id = 1")

    def visits(redis: Any, db: Any) -> None:
        for _ in _FLUSHERS:
            redis.hincrby("deltas", 1, 1)

    def added(redis: Any, db: Any) -> bool:
        """all is done when three calls in a row have returned"""
        for _ in range(3):
            answer(redis, db)
        views = db.fetch_one("SELECT views FROM page_stats WHERE id = 1")["views"]
        require(views == _CRASHES, f"Of {_CRASHES} views the database has {views}.")
        return True

    clients = {_VISITOR: visits, **dict.fromkeys(_FLUSHERS, answer)}
    report = explore(
        clients, given=given, invariant=added, crashes=_FLUSHERS, passes=False, max_runs=1
    )
    assert report.anew is not None
    for steps in range(1, _MOST_STEPS):
        rerun = report.anew(_crashing(steps))
        if rerun.finding is not None and rerun.finding.kind == "broken":
            reason = f"{_CRASHES} flushers, one after the other, crash after {steps} steps each: "
            shown = replace(report, findings=(rerun.finding,))
            return Outcome(False, reason + rerun.finding.reason, shown)
        if all(move.kind != "crash" for move in rerun.moves):  # it has ended before
            break
    return Outcome(True, "many crashes were mended by three calls.", report)


def _crashing(steps: int) -> Iterator[Move]:
    for flusher in _FLUSHERS:
        yield Move("step", _VISITOR)
        yield from [Move("step", flusher)] * steps
        yield Move("crash", flusher)
