"""How answers to exercise 01.2 are put to the test: of many callers, one loads."""

import json
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import (
    Answer,
    ClientFunction,
    Trial,
    nothing_for_ever,
    outcome_of,
    put_through,
    require,
)
from labsupport.labs.cache_aside.thundering_herd import ThunderingHerd

__all__ = ["check_fetch_once"]

_KEY = "product:1"
_LOCK = "product:1:lock"
_HERDS = 3
_TTL_SECONDS = 60  # only the explorer decides when it is over
_PRODUCT = "SELECT * FROM products WHERE id = :id"


class _DatabaseAwayError(Exception):
    """Raised by a load that fails."""


def check_fetch_once(answer: Answer) -> Outcome:
    told: dict[str, Any] = {}
    loads: list[str] = []

    def forget(redis: Any, db: Any) -> None:
        told.clear()
        loads.clear()

    def caller(name: str, product: int = 1) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            def load() -> Any:
                loads.append(name)
                return db.fetch_one(_PRODUCT, id=product)

            told[name] = answer(redis, _KEY, load, _TTL_SECONDS)

        return client

    def failing(redis: Any, db: Any) -> None:
        def load() -> Any:
            raise _DatabaseAwayError("the database is away")

        try:
            told["ada"] = answer(redis, _KEY, load, _TTL_SECONDS)
        except _DatabaseAwayError:
            told["ada"] = _DatabaseAwayError

    def other(redis: Any, db: Any) -> None:
        """Somebody else, whose lock does not expire, and is there until they free it."""
        if redis.set(_LOCK, "of somebody else", nx=True):
            redis.set(_KEY, json.dumps(db.fetch_one(_PRODUCT, id=1)), ex=_TTL_SECONDS)
            told["other"] = redis.get(_LOCK)
            redis.delete(_LOCK)

    def all_told(redis: Any, db: Any, product: int) -> None:
        row = db.fetch_one(_PRODUCT, id=product)
        for name, reply in told.items():
            require(reply == row, f"{name} was told {reply!r:.60}.")

    def one_load(product: int) -> ClientFunction:
        def invariant(redis: Any, db: Any) -> bool:
            """one caller loads, and all are told"""
            all_told(redis, db, product)
            require(len(loads) == 1, f"There were {len(loads)} loads, by {' and '.join(loads)}.")
            ttl = redis.pttl(_KEY)
            fits = 0 < ttl <= _TTL_SECONDS * 1000
            require(fits, f"With ttl={_TTL_SECONDS}, {_KEY} has a TTL of {ttl} ms.")
            require(not redis.exists(_LOCK), f"{_LOCK} is still held.")
            return True

        return invariant

    def crashed(redis: Any, db: Any) -> None:
        forget(redis, db)
        redis.set(_LOCK, "of one who crashed", ex=10)

    def survivor_told(redis: Any, db: Any) -> bool:
        """once the lock has expired, the next caller is told"""
        all_told(redis, db, 1)
        return True

    def lock_freed(redis: Any, db: Any) -> bool:
        """an error in load reaches its caller and frees the lock"""
        require(
            told.get("ada") is _DatabaseAwayError, f"The caller was told {told.get('ada')!r:.60}."
        )
        require(not redis.exists(_LOCK), f"{_LOCK} is still held.")
        return True

    def lock_kept(redis: Any, db: Any) -> bool:
        """nobody frees a lock that is not theirs"""
        return bool(told.get("other", "of somebody else") == "of somebody else")

    two = {"ada": caller("ada"), "bob": caller("bob")}
    nothing = {"ada": caller("ada", 0), "bob": caller("bob", 0)}
    found = put_through(
        (
            Trial("One caller alone", {"ada": two["ada"]}, forget, one_load(1)),
            Trial("A load that fails", {"ada": failing}, forget, lock_freed),
            Trial("Two callers at once", two, forget, one_load(1), prune=True),
            Trial("Two callers, and nothing there", nothing, forget, one_load(0), prune=True),
            Trial(
                "A caller who may crash",
                {"ada": two["ada"]},
                forget,
                nothing_for_ever,
                crashes=True,
            ),
            Trial(
                "A caller who comes after a crash",
                {"bob": two["bob"]},
                crashed,
                survivor_told,
                expires=[_LOCK],
            ),
            Trial(
                "A lock that is outlived, and taken by somebody else",
                {"ada": two["ada"], "other": other},
                forget,
                lock_kept,
                expires=[_LOCK],
            ),
        )
    )
    return _under_load(answer) if found.passed else found


def _under_load(answer: Answer) -> Outcome:
    """What only time and several processes show; on a busy machine not at the first try."""
    herd = ThunderingHerd(clients=8, processes=2, seconds=0.5, ttl_seconds=0.3)
    withstood = "it withstood crashes, expiries and a herd in two processes."
    for _ in range(_HERDS):
        result = herd.run(answer, live=False)
        found = outcome_of(result, "Eight callers in two processes", withstood=withstood)
        if not found.passed:
            break
    return found
