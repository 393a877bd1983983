"""How answers to the exercises of lab 02 are put to the test."""

import json
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import (
    Answer,
    ClientFunction,
    Trial,
    put_through,
    require,
    require_ttl,
)

__all__ = ["check_put_fenced", "check_put_newer", "check_rename_user"]

_KEY = "user:1"
_TTL_SECONDS = 60  # only the explorer decides when it is over
_USER = "SELECT * FROM users WHERE id = :id"
_RENAME = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id RETURNING *"
_LOCKS = ("*lock*", "*mutex*")


def _cached(redis: Any) -> Any:
    text = redis.get(_KEY)
    return None if text is None else json.loads(text)


def _name(row: Any) -> str:
    return repr(row.get("username")) if isinstance(row, dict) else repr(row)


def check_rename_user(answer: Answer) -> Outcome:
    told: dict[str, Any] = {}

    def cold(redis: Any, db: Any) -> None:
        told.clear()

    def warm(redis: Any, db: Any) -> None:
        told.clear()
        redis.set(_KEY, json.dumps(db.fetch_one(_USER, id=1)), ex=3600)
        redis.set("user:2", json.dumps(db.fetch_one(_USER, id=2)), ex=3600)

    def writer(name: str, user: int = 1) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            told[name] = answer(redis, db, user, name)

        return client

    def nobody(redis: Any, db: Any) -> bool:
        """a user that is not there is None, and nothing is cached"""
        require(told == {"grace": None}, f"The writer was told {told['grace']!r:.60}.")
        return not redis.exists("user:0")

    def true(redis: Any, db: Any) -> bool:
        """the cache holds the row of the database, or nothing"""
        row, cached = db.fetch_one(_USER, id=1), _cached(redis)
        version, writers = row["version"], len(told)
        require(row["username"] in told, f"The name in the database is {row['username']!r}.")
        require(version == 1 + writers, f"{writers} change(s) made version 1 to {version}.")
        for name, reply in told.items():
            right = isinstance(reply, dict) and reply.keys() == row.keys()
            require(right and reply["username"] == name, f"{name} was told {reply!r:.60}.")
        said = f"The cache has {_name(cached)}, the database {_name(row)}."
        require(cached is None or cached == row, said)
        require_ttl(redis)
        return True

    def others_stay(redis: Any, db: Any) -> bool:
        """the cache holds the row of the database or nothing, and other users' rows are left alone"""
        require(bool(redis.exists("user:2")), "user:2, whom nobody has changed, is gone.")
        return true(redis, db)

    def had(redis: Any, db: Any) -> bool:
        """after a crash the cache holds no row that the database has not had"""
        row, cached = db.fetch_one(_USER, id=1), _cached(redis)
        old = row | {"username": "ada", "version": 1}
        said = f"The cache has {_name(cached)}, the database {_name(row)}."
        require(cached in (None, row, old), said)
        require_ttl(redis)
        return True

    both = {"grace": writer("grace"), "alan": writer("alan")}
    one = {"grace": both["grace"]}
    return put_through(
        (
            Trial("One writer alone", one, cold, true),
            Trial("One writer of a cached row", one, warm, others_stay),
            Trial("A user that is not there", {"grace": writer("grace", 0)}, cold, nobody),
            Trial("Two writers", both, cold, true),
            Trial("Two writers of a cached row", both, warm, true),
            Trial("A writer who may crash", one, warm, had, crashes=True),
            Trial(
                "Two writers, slower than any lock", both, warm, true, expires=_LOCKS, prune=True
            ),
        )
    )


def check_put_newer(answer: Answer) -> Outcome:
    told: dict[int, Any] = {}

    def given(version: int | None) -> ClientFunction:
        def prepare(redis: Any, db: Any) -> None:
            told.clear()
            if version is not None:
                redis.set(_KEY, json.dumps(_row(version)), ex=5)

        return prepare

    def writer(version: int) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            told[version] = answer(redis, _KEY, _row(version), _TTL_SECONDS)

        return client

    def kept(there: int | None) -> ClientFunction:
        def invariant(redis: Any, db: Any) -> bool:
            """the newest row is cached, for its TTL, and its writer was told so"""
            newest = max([*told, there or 0])
            cached, ttl = _cached(redis), redis.pttl(_KEY)
            require(
                cached == _row(newest), f"Of version {newest} and others, {_of(cached)} is left."
            )
            for version, reply in told.items():
                require(type(reply) is bool, f"The writer of version {version} was told {reply!r}.")
            if newest in told:
                require(told[newest], f"The writer of version {newest} was told False.")
                fits = 5_000 < ttl <= 1000 * _TTL_SECONDS
                require(fits, f"With ttl={_TTL_SECONDS}, {_KEY} has a TTL of {ttl} ms.")
            else:
                require(0 < ttl <= 5_000, f"A row that was refused made the TTL {ttl} ms.")
                require(not any(told.values()), "A writer of an older row was told True.")
            return True

        return invariant

    def never_older(redis: Any, db: Any) -> bool:
        """after a crash the key is as it was, or as it is to be"""
        cached, due = _cached(redis), (_row(10), _row(11))
        require(cached in due, f"Where version 10 was, {_of(cached)} is left.")
        require_ttl(redis)
        return True

    def calm(redis: Any, db: Any) -> bool:
        """a row that expires meanwhile is no error, and no key is without a TTL"""
        require_ttl(redis)
        return True

    alone = ((None, 9), (9, 10), (10, 9), (10, 10))
    both = {"ada": writer(10), "bob": writer(9)}
    return put_through(
        (
            *(
                Trial(f"Version {new} where {old} is", {"ada": writer(new)}, given(old), kept(old))
                for old, new in alone
            ),
            Trial("Versions 10 and 9 at once", both, given(None), kept(None)),
            Trial("Versions 10 and 9 at once where 8 is", both, given(8), kept(8)),
            Trial(
                "A crash with version 9 where 10 is",
                {"bob": both["bob"]},
                given(10),
                never_older,
                crashes=True,
            ),
            Trial(
                "A crash with version 11 where 10 is",
                {"bob": writer(11)},
                given(10),
                never_older,
                crashes=True,
            ),
            Trial("A row that may expire", both, given(8), calm, expires=_KEY, prune=True),
            Trial(
                "Versions 10 and 9, slower than any lock",
                both,
                given(8),
                kept(8),
                expires=_LOCKS,
                prune=True,
            ),
        )
    )


def _row(version: int) -> dict[str, Any]:
    return {"id": 1, "username": f"name {version}", "version": version}


def _of(row: Any) -> str:
    return f"version {row.get('version')}" if isinstance(row, dict) else "nothing"


def check_put_fenced(answer: Answer) -> Outcome:
    told: list[Any] = []

    def given(redis: Any, db: Any) -> None:
        told.clear()

    def put(redis: Any, row: Any) -> None:
        told.append(answer(redis, 1, row))

    def reader(redis: Any, db: Any) -> None:
        if redis.get(_KEY) is None:
            put(redis, db.fetch_one(_USER, id=1))

    def writer(name: str) -> ClientFunction:
        return lambda redis, db: put(redis, db.fetch_one(_RENAME, id=1, name=name))

    def ten_times(redis: Any, db: Any) -> None:
        for place in range(10):
            writer(f"name {place}")(redis, db)

    def true(redis: Any, db: Any) -> bool:
        """the cache holds the row of the database, or nothing"""
        row, cached = db.fetch_one(_USER, id=1), _cached(redis)
        require(all(type(reply) is bool for reply in told), f"A caller was told {told!r:.60}.")
        said = f"The cache has {_name(cached)}, the database {_name(row)}."
        require(cached is None or cached == row, said)
        for key in sorted(redis.keys("user:1*")):
            ms = redis.pttl(key)
            if ms == -2:  # it has just expired
                continue
            seconds = ms / 1000
            require(ms != -1, f"{key} has no TTL: it stays for ever.")
            if key == _KEY:
                require(seconds <= 3600, f"The row lives for {seconds:.0f} seconds.")
            else:
                require(seconds > 82_800, f"{key} lives for {seconds:.0f} seconds, not for a day.")
        return True

    def there(redis: Any, db: Any) -> bool:
        """the newest row is cached"""
        require(all(told), f"The callers were told {told!r:.80}.")
        require(_cached(redis) is not None, "Nothing is cached.")
        return true(redis, db)

    def whole(redis: Any, db: Any) -> bool:
        """no key is without a TTL"""
        require_ttl(redis)
        return True

    def expired(redis: Any, db: Any) -> None:
        given(redis, db)
        writer("grace")(redis, db)
        redis.pexpire(_KEY, 0)

    one, both = {"writer": writer("grace")}, {"ada": writer("grace"), "bob": writer("alan")}
    mixed = {"reader": reader, **one}
    return put_through(
        (
            Trial("One writer alone", one, given, there),
            Trial("Ten changes, one after the other", {"ada": ten_times}, given, there),
            Trial("A reader after the row has expired", {"reader": reader}, expired, there),
            Trial("Two writers", both, given, true),
            Trial("A reader and a writer", mixed, given, true),
            Trial("A writer, and a row that may expire", one, given, true, expires=_KEY),
            Trial(
                "A reader, a writer, and a row that may expire", mixed, given, true, expires=_KEY
            ),
            Trial("Two writers, and a row that may expire", both, given, true, expires=_KEY),
            Trial("A reader, and a writer who may crash", mixed, given, whole, crashes=["writer"]),
        )
    )
