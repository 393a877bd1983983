"""What the models of lab 01 cannot show: a herd in real processes, readers without a pause."""

from collections.abc import Callable
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import (
    Answer,
    ClientFunction,
    Trial,
    outcome_of,
    put_through,
    require,
)
from labsupport.labs.cache_aside.thundering_herd import ThunderingHerd

__all__ = ["check_steady_readers", "check_under_load"]

_HERDS = 2
_READING = "readers"  # the names of those who have read the database


def check_under_load(answer: Answer) -> Outcome:
    """What only time and several processes show; on a busy machine not at the first try."""
    herd = ThunderingHerd(clients=8, processes=2, seconds=0.5, ttl_seconds=0.3)
    for _ in range(_HERDS):
        found = outcome_of(
            herd.run(answer, live=False), "Eight callers in two processes", withstood=""
        )
        if not found.passed:
            break
    return found


class _Then:
    """A session that does something more after each statement."""

    def __init__(self, db: Any, then: Callable[[], None]) -> None:
        self._db, self._then = db, then

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._db, name)
        if name not in {"execute", "fetch_one", "fetch_all"}:
            return attribute

        def then(*args: Any, **options: Any) -> Any:
            found = attribute(*args, **options)
            self._then()
            return found

        return then


def check_steady_readers(answer: Answer) -> Outcome:
    """While readers come one after the other, the row is cached all the same."""
    get_user, _ = answer()
    told: set[str] = set()
    unfilled: list[str] = []

    def forget(redis: Any, db: Any) -> None:
        told.clear()
        unfilled.clear()

    def steady(name: str, *before: str) -> ClientFunction:
        """A reader that begins when others have read the row, and is done when a third one has."""

        def client(redis: Any, db: Any) -> None:
            def met(*names: str) -> None:
                while not {*names} <= {*redis.lrange(_READING, 0, -1)}:
                    pass

            def reading() -> None:
                redis.rpush(_READING, name)
                if not before:
                    met("late")

            met(*before)
            get_user(redis, _Then(db, reading), 1)
            reading()
            told.add(name)
            if {"first", "second"} == told and not redis.exists("user:1"):
                unfilled.append(name)

        return client

    def filled(redis: Any, db: Any) -> bool:
        """while readers come without a pause, the row is cached all the same"""
        who = "Two readers were done, and user:1 was empty: a third one was reading."
        require(not unfilled, who)
        return True

    readers = {
        "first": steady("first"),
        "second": steady("second"),
        "late": steady("late", "first", "second"),
    }
    return put_through([Trial("Readers without a pause", readers, forget, filled, sample=4)])
