"""The exercises of lab 01: missing rows, one load for all, and no old row in the cache."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

from labsupport.exercises import Exercise, Outcome
from labsupport.exercises.trials import Trial, put_through, require
from labsupport.experiments import ThunderingHerd
from labsupport.servers import OWNER_KEY

__all__ = ["EXERCISES"]

Answer = Callable[..., Any]
Client = Callable[[Any, Any], Any]

_KEY = "product:1"
_LOCK = "product:1:lock"
_TTL_SECONDS = 60  # only the explorer decides when it is over
_PRODUCT = "SELECT * FROM products WHERE id = :id"
_USER = "SELECT * FROM users WHERE id = :id"


def get_product_stub(redis, db, product_id):
    """Return the product's row, or None when there is no such product; key: product:{id}.

    A row is cached for at most an hour, "no such product" for at most a minute, and a hit does
    not prolong that. While it is cached, the database is not asked. No key is without a TTL.
    """
    key = f"product:{product_id}"
    cached = redis.get(key)
    if cached:
        return json.loads(cached)
    row = db.fetch_one("SELECT * FROM products WHERE id = :id", id=product_id)
    if row:
        redis.set(key, json.dumps(row))
        redis.expire(key, 3600)
    return row


def get_product_solution(redis, db, product_id):
    """Return the product's row, or None when there is no such product; key: product:{id}.

    A row is cached for at most an hour, "no such product" for at most a minute, and a hit does
    not prolong that. While it is cached, the database is not asked. No key is without a TTL.
    """
    key = f"product:{product_id}"
    cached = redis.get(key)
    if cached is not None:
        return json.loads(cached)
    row = db.fetch_one("SELECT * FROM products WHERE id = :id", id=product_id)
    redis.set(key, json.dumps(row), ex=60 if row is None else 3600)
    return row


def fetch_once_stub(redis, key, load, ttl):
    """Return the cached value, or load it; of many callers, one loads. The lock is {key}:lock.

    The value is cached for ttl seconds, None (nothing there) as well. An error in load reaches
    its caller and frees the lock. A holder may crash, or be slower than its lock: nobody waits
    for ever, and nobody frees a lock that is not theirs.
    """
    cached = redis.get(key)
    if cached is not None:
        return json.loads(cached)
    value = load()
    redis.set(key, json.dumps(value), px=int(ttl * 1000))
    return value


def fetch_once_solution(redis, key, load, ttl):
    """Return the cached value, or load it; of many callers, one loads. The lock is {key}:lock."""
    release = """
    -- KEYS: the lock; ARGV: the caller's token; returns 1 when the lock was theirs.
    return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
    """
    lock, token = f"{key}:lock", secrets.token_urlsafe()
    while (cached := redis.get(key)) is None:
        if not redis.set(lock, token, nx=True, px=10_000):
            time.sleep(0.005)
            continue
        try:
            cached = redis.get(key)  # somebody may have filled it since
            if cached is None:
                cached = json.dumps(load())
                redis.set(key, cached, px=int(ttl * 1000))
        finally:
            redis.eval(release, 1, lock, token)
        break
    return json.loads(cached)


def user_cache_stub():
    """Return get_user and update_user; user:{id} holds the row as JSON, or nothing.

    When all have finished, no old row is in the cache. No reader waits for another one: if it
    may not fill the cache, it returns the row that it read.
    """

    def get_user(redis, db, user_id):
        cached = redis.get(f"user:{user_id}")
        if cached is not None:
            return json.loads(cached)
        row = db.fetch_one("SELECT * FROM users WHERE id = :id", id=user_id)
        redis.set(f"user:{user_id}", json.dumps(row), ex=3600)
        return row

    def update_user(redis, db, user_id, name):
        db.execute("UPDATE users SET username = :name WHERE id = :id", id=user_id, name=name)
        redis.delete(f"user:{user_id}")

    return get_user, update_user


def user_cache_solution():
    """Return get_user and update_user; user:{id} holds the row as JSON, or nothing."""
    fill = """
    -- KEYS: the row, its pass; ARGV: the row, seconds, the reader's pass; returns 1 when filled.
    if redis.call('GET', KEYS[2]) ~= ARGV[3] then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
    return redis.call('DEL', KEYS[2])
    """

    def get_user(redis, db, user_id):
        key, token = f"user:{user_id}", secrets.token_urlsafe()
        cached = redis.get(key)
        if cached is not None:
            return json.loads(cached)
        redis.set(f"{key}:pass", token, ex=10)  # before the row is read; the last reader's counts
        row = db.fetch_one("SELECT * FROM users WHERE id = :id", id=user_id)
        redis.eval(fill, 2, key, f"{key}:pass", json.dumps(row), 3600, token)
        return row

    def update_user(redis, db, user_id, name):
        db.execute("UPDATE users SET username = :name WHERE id = :id", id=user_id, name=name)
        redis.delete(f"user:{user_id}", f"user:{user_id}:pass")  # and all passes are void

    return get_user, update_user


class _Counted:
    """A session that counts the statements sent through it."""

    def __init__(self, db: Any, statements: list[str]) -> None:
        self._db = db
        self._statements = statements

    def __getattr__(self, name: str) -> Any:
        if name in {"execute", "fetch_one", "fetch_all"}:
            self._statements.append(name)
        return getattr(self._db, name)


def _check_get_product(answer: Answer) -> Outcome:
    told: list[Any] = []
    statements: list[str] = []
    left: list[tuple[str, int]] = []  # key and TTL in ms, after each look-up

    def forget(redis: Any, db: Any) -> None:
        for seen in (told, statements, left):
            seen.clear()

    def warm(product: int) -> Client:
        def given(redis: Any, db: Any) -> None:
            forget(redis, db)
            answer(redis, db, product)

        return given

    def ask(product: int) -> Client:
        return lambda redis, db: told.append(answer(redis, db, product))

    def ask_thrice(product: int) -> Client:
        def client(redis: Any, db: Any) -> None:
            for _ in range(3):
                told.append(answer(redis, _Counted(db, statements), product))
                for key in _keys(redis):
                    left.append((key, redis.pttl(key)))
                    redis.pexpire(key, 5_000)

        return client

    def right(product: int, most_seconds: int) -> Client:
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
            first = {key: ttl for key, ttl in reversed(left)}
            longer = [key for key, ttl in left if ttl > 5_000 and ttl != first[key]]
            require(not longer, f"A hit prolonged the TTL of {''.join(longer[:1])}.")
            return True

        return invariant

    def right_row(product: int) -> Client:
        def invariant(redis: Any, db: Any) -> bool:
            """the row is right, and no key is without a TTL"""
            row = db.fetch_one(_PRODUCT, id=product)
            require(all(reply == row for reply in told), f"A caller was told {told!r:.60}.")
            _require_ttl(redis)
            return True

        return invariant

    return put_through(
        trial
        for product, kind, most in ((1, "a product", 3600), (0, "a product that is not there", 60))
        for trial in (
            Trial(
                situation=f"Three look-ups of {kind}",
                clients={"ada": ask_thrice(product)},
                given=forget,
                invariant=right(product, most),
            ),
            Trial(
                situation=f"A look-up of {kind} that may crash",
                clients={"ada": ask(product)},
                given=forget,
                invariant=right_row(product),
                crashes=True,
            ),
            Trial(
                situation=f"A look-up of {kind} whose key may expire",
                clients={"ada": ask(product)},
                given=warm(product),
                invariant=right_row(product),
                expires="*",
            ),
        )
    )


def _keys(redis: Any) -> list[str]:
    return sorted(key for key in redis.keys("*") if key != OWNER_KEY)


def _require_ttl(redis: Any) -> None:
    for key in _keys(redis):
        require(redis.pttl(key) >= 0, f"{key} has no TTL: it stays for ever.")


class _NoStockError(Exception):
    """Raised by a load that fails."""


def _check_fetch_once(answer: Answer) -> Outcome:
    told: dict[str, Any] = {}
    loads: list[str] = []

    def forget(redis: Any, db: Any) -> None:
        told.clear()
        loads.clear()

    def caller(name: str, product: int = 1) -> Client:
        def client(redis: Any, db: Any) -> None:
            def load() -> Any:
                loads.append(name)
                return db.fetch_one(_PRODUCT, id=product)

            told[name] = answer(redis, _KEY, load, _TTL_SECONDS)

        return client

    def failing(redis: Any, db: Any) -> None:
        def load() -> Any:
            raise _NoStockError("the database is away")

        try:
            told["ada"] = answer(redis, _KEY, load, _TTL_SECONDS)
        except _NoStockError:
            told["ada"] = _NoStockError

    def other(redis: Any, db: Any) -> None:
        """Somebody else with a lock of their own, which they keep."""
        if redis.set(_LOCK, "of somebody else", nx=True):
            redis.set(_KEY, json.dumps(db.fetch_one(_PRODUCT, id=1)), ex=_TTL_SECONDS)
            told["other"] = True

    def all_told(redis: Any, db: Any, product: int) -> None:
        row = db.fetch_one(_PRODUCT, id=product)
        for name, reply in told.items():
            require(reply == row, f"{name} was told {reply!r:.60}.")

    def one_load(product: int) -> Client:
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

    def nothing_for_ever(redis: Any, db: Any) -> bool:
        """a crash leaves nothing that stays for ever"""
        _require_ttl(redis)
        return True

    def crashed(redis: Any, db: Any) -> None:
        forget(redis, db)
        redis.set(_LOCK, "of one who crashed", ex=10)

    def survivor_told(redis: Any, db: Any) -> bool:
        """once the lock has expired, the next caller is told"""
        all_told(redis, db, 1)
        return True

    def lock_freed(redis: Any, db: Any) -> bool:
        """an error in load reaches its caller and frees the lock"""
        require(told.get("ada") is _NoStockError, f"The caller was told {told.get('ada')!r:.60}.")
        require(not redis.exists(_LOCK), f"{_LOCK} is still held.")
        return True

    def lock_kept(redis: Any, db: Any) -> bool:
        """nobody frees a lock that is not theirs"""
        return "other" not in told or redis.get(_LOCK) == "of somebody else"

    two = {"ada": caller("ada"), "bob": caller("bob")}
    nothing = {"ada": caller("ada", 0), "bob": caller("bob", 0)}
    found = put_through(
        (
            Trial(
                situation="One caller alone",
                clients={"ada": two["ada"]},
                given=forget,
                invariant=one_load(1),
            ),
            Trial(
                situation="A load that fails",
                clients={"ada": failing},
                given=forget,
                invariant=lock_freed,
            ),
            Trial(
                situation="Two callers at once",
                clients=two,
                given=forget,
                invariant=one_load(1),
                prune=True,
            ),
            Trial(
                situation="Two callers, and nothing there",
                clients=nothing,
                given=forget,
                invariant=one_load(0),
                prune=True,
            ),
            Trial(
                situation="A caller who may crash",
                clients={"ada": two["ada"]},
                given=forget,
                invariant=nothing_for_ever,
                crashes=True,
            ),
            Trial(
                situation="A caller who comes after a crash",
                clients={"bob": two["bob"]},
                given=crashed,
                invariant=survivor_told,
                expires=[_LOCK],
            ),
            Trial(
                situation="A lock that is outlived, and taken by somebody else",
                clients={"ada": two["ada"], "other": other},
                given=forget,
                invariant=lock_kept,
                expires=[_LOCK],
            ),
        )
    )
    return _under_load(answer) if found.passed else found


def _under_load(answer: Answer) -> Outcome:
    """What only time and several processes show."""
    herd = ThunderingHerd(clients=8, processes=2, seconds=0.5, ttl_seconds=0.3)
    result = herd.run(answer, live=False)
    for claim in result.verdict.claims:
        if claim.status != "holds":
            reason = f"Eight callers in two processes: {claim.status}: {claim.text!r}."
            return Outcome(False, reason, result)
    return Outcome(True, "it withstood crashes, expiries and a herd in two processes.", result)


def _check_user_cache(answer: Answer) -> Outcome:
    told: dict[str, Any] = {}
    statements: list[str] = []

    def forget(redis: Any, db: Any) -> None:
        told.clear()
        statements.clear()

    functions = answer()
    if not (isinstance(functions, tuple) and len(functions) == 2):
        return Outcome(False, "user_cache() does not return two functions: get_user, update_user.")
    get_user, update_user = functions

    def warm(redis: Any, db: Any) -> None:
        forget(redis, db)
        get_user(redis, db, 1)

    def reader(name: str) -> Client:
        def client(redis: Any, db: Any) -> None:
            told[name] = get_user(redis, db, 1)

        return client

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
        for name, reply in told.items():
            known = isinstance(reply, str) or reply in (row, row | {"username": "ada"})
            require(known, f"{name} was told {reply!r:.60}.")
        cached = redis.get("user:1")
        return cached is None or json.loads(cached) == row

    one, two = {"reader": reader("reader")}, {"second": reader("second")}
    rivals = {"first": reader("first"), **two}
    return put_through(
        (
            Trial(
                situation="One after the other",
                clients={"ada": in_sequence},
                given=forget,
                invariant=cached_and_updated,
            ),
            Trial(
                situation="A reader and a writer",
                clients={**one, "writer": writer},
                given=forget,
                invariant=fresh,
            ),
            Trial(
                situation="A reader and a writer of a cached row",
                clients={**one, "writer": writer},
                given=warm,
                invariant=fresh,
            ),
            Trial(
                situation="A reader who crashed, and one who comes after",
                clients=rivals,
                given=forget,
                invariant=fresh,
                crashes={"first"},
                prune=True,
            ),
            Trial(
                situation="A reader, a writer, and a pause longer than any TTL",
                clients={**one, "writer": writer},
                given=forget,
                invariant=fresh,
                expires="*",
            ),
            Trial(
                situation="Two readers and a writer",
                clients={**rivals, "writer": writer},
                given=forget,
                invariant=fresh,
                prune=True,
                sample=8_000,
            ),
        )
    )


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="01.1",
        title="Remember what is not there, and let nothing stay for ever",
        stub=get_product_stub,
        solution=get_product_solution,
        hints=(
            "Two things are missing: a crash between two commands leaves something behind, and "
            "one kind of product is never cached at all. Which?",
            "`SET` takes the TTL along: `ex=` or `px=`. And a missing row needs a value that "
            "`redis.get` does not confuse with an empty cache.",
            "`json.dumps(None)` is the text `null`: not None, so `cached is not None` is a hit, and "
            "`json.loads` gives None back. Set it with `ex=60`, and rows with `ex=3600`.",
        ),
        check=_check_get_product,
    ),
    Exercise(
        number="01.2",
        title="One load for all, also when it fails, crashes or finds nothing",
        stub=fetch_once_stub,
        solution=fetch_once_solution,
        hints=(
            "Start from `single_flight` above. What happens to its lock when `load` raises? And how "
            "many loads are there when `load` returns None?",
            "`try` … `finally` frees the lock after an error; a TTL frees it after a crash. After "
            "taking the lock, look into the cache again: somebody may have filled it meanwhile.",
            "Loop: `GET` key; `SET` lock token `NX PX` 10000 or sleep 5 ms and go round; then, in a "
            "`try`: `GET` again, `load()`, `SET` with `px=int(ttl * 1000)`; in `finally` the script "
            "that deletes the lock only if it holds the token.",
        ),
        check=_check_fetch_once,
    ),
    Exercise(
        number="01.3",
        title="No old row in the cache, and no reader who waits",
        stub=user_cache_stub,
        solution=user_cache_solution,
        hints=(
            "The lease closes the gap, but its readers wait for the one who has it. Must a reader "
            "that may not fill the cache wait?",
            "Before it reads the database, a reader leaves a token of its own under a second key. It "
            "may fill the cache only while that token is still there. Who removes it?",
            "Miss: `SET` pass token `EX 10` (without NX: the last reader's counts), SELECT, then one "
            "script: if pass is still my token, `SET` the row and `DEL` the pass. The writer: "
            "UPDATE, then one `DEL` of row and pass.",
        ),
        check=_check_user_cache,
    ),
)
