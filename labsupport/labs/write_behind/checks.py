"""What an answer to 03.2 makes of very many pages, and of one crash after the other."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from labsupport.database import open_shop
from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, elsewhere, require
from labsupport.exploration import explore
from labsupport.explorer.operations import Move
from labsupport.servers import start_server

__all__ = ["flush_of_many"]

_PAGES = 1_500  # more than a page of HSCAN

_CRASHES = 6
_MOST_STEPS = 40
_VISITOR = "visitor"
_FLUSHERS = [f"flusher {number}" for number in range(1, _CRASHES + 1)]


def flush_of_many(answer: Answer) -> Outcome:
    """Does it add the views of many pages in three calls; in two processes; and when some have crashed?"""
    other = elsewhere(answer)
    with start_server() as server, server.client() as redis, open_shop("") as db:
        db.execute("CREATE TABLE flushes (batch TEXT PRIMARY KEY)")
        db.execute("DELETE FROM page_stats")
        with db.transaction():
            for page in range(1, _PAGES + 1):
                db.execute("INSERT INTO page_stats (id, views) VALUES (:page, 2)", page=page)
        redis.hset("deltas", mapping=dict.fromkeys(range(1, _PAGES + 1), 1))
        try:
            for _ in range(3):
                answer(redis, db)
        except Exception as error:
            reason = f"{_PAGES:,} pages, and three calls: the caller was given an error ({error})."
            return Outcome(False, reason, error)
        found = db.fetch_one("SELECT COUNT(*) AS pages FROM page_stats WHERE views = 3")
        redis.hset("deltas", "1", 10)
        for _ in range(3):
            other(redis, db)
        row = db.fetch_one("SELECT views FROM page_stats WHERE id = 1")
    if (added := found["pages"] if found else 0) != _PAGES:
        reason = f"{_PAGES:,} pages, and three calls: the view of {added:,} was added once."
        return Outcome(False, reason, added)
    if row != {"views": 13}:
        reason = "Two processes, one after the other: what the second took was not added once."
        return Outcome(False, reason, row)
    return _after_crashes(answer)


def _after_crashes(answer: Answer) -> Outcome:
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
            rerun = report.anew(_crashing(steps, server, left, lapse=bool(later)), looks=False)
            if rerun.finding is not None and rerun.finding.kind == "broken":
                after = "1 step" if steps == 1 else f"{steps} steps"
                crash = f"{_CRASHES} flushers, one after the other, crash after {after}"
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
