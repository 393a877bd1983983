"""How answers to exercises 01.1 and 01.3 are put to the test."""

import json
from collections.abc import Callable
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import (
    Answer,
    ClientFunction,
    Trial,
    keys_of,
    put_through,
    require,
    require_ttl,
)
from labsupport.explorer.clients.stand_ins import timekeeper_here

__all__ = ["check_get_product", "check_user_cache"]

_PRODUCT = "SELECT * FROM products WHERE id = :id"
_READING = "readers"  # the names of those who have read the database
_USER = "SELECT * FROM users WHERE id = :id"


class _Counted:
    """A session that counts the statements sent through it."""

    def __init__(self, db: Any, statements: list[str]) -> None:
        self._db = db
        self._statements = statements

    def __getattr__(self, name: str) -> Any:
        if name in {"execute", "fetch_one", "fetch_all"}:
            self._statements.append(name)
        return getattr(self._db, name)


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


def check_get_product(answer: Answer) -> Outcome:
    told: list[Any] = []
    statements: list[str] = []
    left: list[tuple[str, int]] = []  # key and TTL in ms, after each look-up

    def forget(redis: Any, db: Any) -> None:
        for seen in (told, statements, left):
            seen.clear()

    def warm(product: int) -> ClientFunction:
        def given(redis: Any, db: Any) -> None:
            forget(redis, db)
            answer(redis, db, product)

        return given

    def ask(product: int) -> ClientFunction:
        return lambda redis, db: told.append(answer(redis, db, product))

    def ask_thrice(product: int) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            for _ in range(3):
                told.append(answer(redis, _Counted(db, statements), product))
                for key in keys_of(redis):
                    left.append((key, redis.pttl(key)))
                    redis.pexpire(key, 5_000)

        return client

    def right(product: int, most_seconds: int) -> ClientFunction:
        def invariant(redis: Any, db: Any) -> bool:
            """the row is right, cached with a TTL, and not asked for twice"""
            row = db.fetch_one(_PRODUCT, id=product)
            for reply in told:
                require(reply == row, f"A caller was told {reply!r:.60}.")
            for key, ttl in left:
                require(ttl >= 0, f"{key} has no TTL: it stays for ever.")
            asked = f"The database was asked {len(statements)} times for three look-ups."
            require(len(statements) <= 1, asked)
            cached = row is None or redis.exists(f"product:{product}") == 1
            require(cached, f"product:{product} is not in Redis.")
            longest = max((ttl for _, ttl in left), default=0) / 1000
            require(longest <= most_seconds, f"A key lives for {longest:.0f} seconds.")
            seen: set[str] = set()
            for key, ttl in left:
                require(key not in seen or ttl <= 5_000, f"A hit prolonged the TTL of {key}.")
                seen.add(key)
            return True

        return invariant

    def right_row(product: int) -> ClientFunction:
        def invariant(redis: Any, db: Any) -> bool:
            """the row is right, and no key is without a TTL"""
            row = db.fetch_one(_PRODUCT, id=product)
            require(all(reply == row for reply in told), f"A caller was told {told!r:.60}.")
            require_ttl(redis)
            return True

        return invariant

    return put_through(
        trial
        for product, kind, most in ((1, "a product", 3600), (0, "a product that is not there", 60))
        for trial in (
            Trial(
                f"Three look-ups of {kind}",
                {"ada": ask_thrice(product)},
                forget,
                right(product, most),
            ),
            Trial(
                f"A look-up of {kind} that may crash",
                {"ada": ask(product)},
                forget,
                right_row(product),
                crashes=True,
            ),
            Trial(
                f"A look-up of {kind} whose key may expire",
                {"ada": ask(product)},
                warm(product),
                right_row(product),
                expires="*",
            ),
        )
    )


def check_user_cache(answer: Answer) -> Outcome:
    told: dict[str, Any] = {}
    statements: list[str] = []
    waited: list[str] = []
    unfilled: list[str] = []

    def forget(redis: Any, db: Any) -> None:
        for seen in (told, statements, waited, unfilled):
            seen.clear()

    functions = answer()
    if not (isinstance(functions, tuple) and len(functions) == 2):
        return Outcome(False, "user_cache() does not return two functions: get_user, update_user.")
    get_user, update_user = functions

    def warm(redis: Any, db: Any) -> None:
        forget(redis, db)
        get_user(redis, db, 1)

    def reader(name: str) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            clock = timekeeper_here()
            assert clock is not None
            begin = clock.monotonic()
            told[name] = get_user(redis, db, 1)
            waited.extend([name] * (clock.monotonic() > begin))

        return client

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
            told[name] = get_user(redis, _Then(db, reading), 1)
            reading()
            if {"first", "second"} == told.keys() and not redis.exists("user:1"):
                unfilled.append(name)

        return client

    def filled(redis: Any, db: Any) -> bool:
        """while readers come one after the other, the row is cached all the same"""
        who = "Two readers were done, and user:1 was empty: a third one was reading."
        require(not unfilled, who)
        return fresh(redis, db)

    def writer(redis: Any, db: Any) -> None:
        update_user(redis, db, 1, "grace")

    def in_sequence(redis: Any, db: Any) -> None:
        get_user(redis, db, 1)
        told["the second look-up"] = get_user(redis, _Counted(db, statements), 1)["username"]
        update_user(redis, db, 1, "grace")
        told["a look-up after the update"] = get_user(redis, db, 1)["username"]

    def cached_and_updated(redis: Any, db: Any) -> bool:
        """a hit does not ask the database, and an update is seen by the next reader"""
        require(not statements, "The second look-up asked the database again.")
        due = {"the second look-up": "ada", "a look-up after the update": "grace"}
        for look_up, name in due.items():
            require(told[look_up] == name, f"{look_up} returned {told[look_up]!r}, not {name!r}.")
        return fresh(redis, db)

    def fresh(redis: Any, db: Any) -> bool:
        """no old row is in the cache"""
        row = db.fetch_one(_USER, id=1)
        require(not waited, f"The reader {''.join(waited[:1])!r} waited for another one.")
        for name, reply in told.items():
            known = isinstance(reply, str) or reply in (row, row | {"username": "ada"})
            require(known, f"{name} was told {reply!r:.60}.")
        cached = redis.get("user:1")
        return cached is None or json.loads(cached) == row

    one, two = {"reader": reader("reader")}, {"second": reader("second")}
    rivals = {"first": reader("first"), **two}
    return put_through(
        (
            Trial("One after the other", {"ada": in_sequence}, forget, cached_and_updated),
            Trial("A reader and a writer", {**one, "writer": writer}, forget, fresh),
            Trial("A reader and a writer of a cached row", {**one, "writer": writer}, warm, fresh),
            Trial(
                "A reader who crashed, and one who comes after",
                rivals,
                forget,
                fresh,
                crashes={"first"},
                prune=True,
            ),
            Trial(
                "Readers without a pause",
                {
                    "first": steady("first"),
                    "second": steady("second"),
                    "late": steady("late", "first", "second"),
                },
                forget,
                filled,
                sample=4,
            ),
            Trial(
                "A reader, a writer, and a pause longer than any TTL",
                {**one, "writer": writer},
                forget,
                fresh,
                expires="*",
            ),
            Trial(
                "Two readers and a writer",
                {**rivals, "writer": writer},
                forget,
                fresh,
                prune=True,
                sample=8_000,
            ),
        )
    )
