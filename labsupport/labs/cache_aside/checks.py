"""What the models of lab 01 cannot show: a load that takes long, a herd in real processes, steady readers."""

import time
from collections.abc import Callable
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.matching import Raised
from labsupport.exercises.trials import (
    Answer,
    ClientFunction,
    Trial,
    outcome_of,
    put_through,
    require,
)
from labsupport.exploration import explore
from labsupport.labs.cache_aside.thundering_herd import ThunderingHerd

__all__ = ["PatientHerd", "check_steady_readers", "check_under_load"]

_HERDS = 2
_KEY, _LOCK = "product:1", "product:1:lock"
_ONE_LOADS = "Return the cached value, or load it; of many callers, one loads"
_LONG_SECONDS = 3.0
_READING = "readers"  # the names of those who have read the database


class PatientHerd(ThunderingHerd):
    """Whoever waits for a lock may sleep for as long as it lives: that is not for ever."""

    patience_seconds = 12.0


def check_under_load(answer: Answer) -> Outcome:
    """What only time and several processes show; on a busy machine not at the first try."""
    if gave_up := _gives_up(answer):
        reason = f"A load that takes long: {gave_up}. The contract: “{_ONE_LOADS}”."
        return Outcome(False, reason, "A load that takes long")
    herd = PatientHerd(clients=8, processes=2, seconds=0.5, ttl_seconds=0.3)
    for _ in range(_HERDS):
        found = outcome_of(
            herd.run(answer, live=False), "Eight callers in two processes", withstood=""
        )
        if not found.passed:
            break
    return found


def _gives_up(answer: Answer) -> str:
    """What one who waits does while another loads, whose lock lives for longer; "" when it waits."""
    loading: list[str] = []
    early: list[str] = []

    def forget(redis: Any, db: Any) -> None:
        loading.clear()
        early.clear()

    def note(what: str) -> None:
        if loading and not early:
            early.append(f"bob {what} while ada still loaded, and {_LOCK} was hers")

    def ada(redis: Any, db: Any) -> None:
        def load() -> int:
            seconds = max(redis.pttl(_LOCK), 0) / 2000  # half of what is left
            loading.append("ada")
            time.sleep(min(seconds, _LONG_SECONDS))
            loading.clear()
            return 1

        answer(redis, _KEY, load, 60)

    def bob(redis: Any, db: Any) -> None:
        try:
            told = answer(redis, _KEY, lambda: note("called load, too,"), 60)
        except Exception as error:
            told = Raised(error)
        note(f"was given {told!r}")

    explore(
        {"ada": ada, "bob": bob}, given=forget, invariant=lambda *_: False,
        passes=True, delays=False, max_runs=1, stop="first",  # one order is enough
    )  # fmt: skip
    return "".join(early)


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
