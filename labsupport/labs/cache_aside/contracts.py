"""What exercises 01.1 and 01.3 ask for, as models: what is not there is cached, too; no old row."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import strategies as st
from redis.exceptions import RedisError

from labsupport.exercises.contract import WAIT, Argument, Call, Case, Functions
from labsupport.exercises.matching import A_VALUE, ANYTHING, Between, Raised
from labsupport.exercises.state import State
from labsupport.labs.caches.rows import Rows

__all__ = ["DatabaseAwayError", "GetProduct", "UserCache"]

_LONG_SECONDS = 100_000_000
_ASKED = "the count of calls that asked the database"


class _Asked:
    """A session that tells when it was asked for the first time."""

    def __init__(self, db: Any, tell: Callable[[], None]) -> None:
        self._db, self._tell = db, tell
        self._told = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._db, name)
        if name not in {"execute", "fetch_one", "fetch_all"}:
            return found

        def ask(*args: Any, **options: Any) -> Any:
            rows = found(*args, **options)
            if not self._told:
                self._told = True
                self._tell()
            return rows

        return ask


class DatabaseAwayError(OSError, ValueError, KeyError, TypeError, RuntimeError, RedisError):
    """Raised by a database that does not answer; no kind of it is the answer's own to catch."""


class _Away:
    """A session of a database that does not answer."""

    def __init__(self, db: Any) -> None:
        self._db = db

    def __getattr__(self, name: str) -> Any:
        if name in {"execute", "fetch_one", "fetch_all"}:
            raise DatabaseAwayError("the database is away")
        return getattr(self._db, name)


@dataclass(frozen=True)
class _WhileAway(Argument):
    """The id of a row that is asked for while the database is away."""

    number: int

    def real(self, redis: Any, db: Any, who: str) -> int:
        return self.number

    def __repr__(self) -> str:
        return f"{self.number} while the database is away"


class _Asking(Rows):
    """Counts the calls that asked the database, where the start says so."""

    counted: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self._asked: int | None = None

    def ask(self, functions: Functions, redis: Any, db: Any, who: str, call: Call) -> Any:
        def count() -> None:
            if self._asked is not None and call.name == self.counted:
                self._asked += 1

        away = any(isinstance(one, _WhileAway) for one in call.args)
        return super().ask(functions, redis, _Asked(_Away(db) if away else db, count), who, call)

    def write(self, start: State, redis: Any, db: Any) -> None:
        super().write(start, redis, db)
        self._asked = start.get(_ASKED)

    def read(self, redis: Any, db: Any) -> State:
        state = super().read(redis, db)
        if self._asked is not None:
            state.keep(_ASKED, self._asked)
        return state


_ROW_MS = Between(1_800_000, 3_600_000)
_NOTHING_MS = Between(30_000, 60_000)
_ROW = {"name": "", "price_cents": 0}
_ADD = """
INSERT INTO products (id, name, price_cents, stock, fence) VALUES (:id, '', 0, 89, 0)
ON CONFLICT (id) DO NOTHING
"""
_NONE: dict[int, None] = dict.fromkeys(range(40, 70))


class GetProduct(_Asking):
    """01.1: what is not there is cached, too, and nothing stays for ever."""

    answer = counted = "get_product"
    table = "products"
    visible = ("product:[0-9]", "product:[0-9][0-9]", "products", _ASKED)
    clauses: ClassVar = {
        "told": "Return the product's row, or None when there is no such product.",
        "product:*": 'product:{id} keeps a row for half an hour to an hour, and "no such product" for '
        "half a minute to a minute. A hit does not prolong that",
        "the count*": "while it is kept, the database is not asked",
        "stays": "Every key has a TTL.",
        "at once": "Callers come at once, and may crash.",
        "crash": "Callers come at once, and may crash.",
    }
    others: ClassVar = {
        "reprice": lambda redis, db, number: db.execute(
            "UPDATE products SET price_cents = 1 WHERE id = :id", id=number
        ),
        "remove": lambda redis, db, number: db.execute(
            "DELETE FROM products WHERE id = :id", id=number
        ),
        "add": lambda redis, db, number: db.execute(_ADD, id=number),
        "expire": lambda redis, db, number: redis.delete(f"product:{number}"),
        "nearly_expire": lambda redis, db, number: (
            redis.pexpire(f"product:{number}", 5_000) and None
        ),
    }
    _numbers = st.sampled_from([1, 1, 7, 0])
    _get = st.builds(Call, st.just("get_product"), st.tuples(_numbers))
    _other = st.builds(Call, st.sampled_from(["reprice", "remove", "expire"]), st.tuples(_numbers))
    _wait = st.builds(Call, st.just(WAIT), st.tuples(st.sampled_from([9, 27, 70, 1790, 3700])))
    _row = st.builds(
        lambda name, cents: {"name": name, "price_cents": cents},
        st.sampled_from(["Brass Kettle", "d'Arc é", ""]),
        st.sampled_from([2495, 0]),
    )
    starts = st.builds(
        lambda one, other: State({"products": {1: one, 7: other, 0: None}, _ASKED: 0}),
        _row,
        st.one_of(_row, st.none()),
    )

    always = tuple(  # a hit when little is left
        Case(
            State({"products": {1: _ROW, 7: None, 0: None}, _ASKED: 0}),
            after=tuple(
                ("ada", call)
                for call in (
                    Call("get_product", (number,)),
                    Call(WAIT, (seconds,)),
                    Call("get_product", (number,)),
                )
            ),
        )
        for number, seconds in ((1, 1790), (0, 27))
    )
    rare = (
        # a database that does not answer has not said that there is none
        Case(
            State({"products": {1: _ROW}, _ASKED: 0}),
            after=tuple(
                ("ada", Call("get_product", (number,)))
                for number in (_WhileAway(1), 1, _WhileAway(1))
            ),
        ),
        # many rows, as how long each is kept may be drawn; and many hits when little is left
        Case(
            State({"products": dict.fromkeys(range(10, 40), _ROW) | _NONE, _ASKED: 0}),
            after=tuple(("ada", Call("get_product", (number,))) for number in range(10, 70)),
        ),
        *(
            Case(
                State({"products": {number: row}, _ASKED: 0}),
                after=(
                    ("ada", Call("get_product", (number,))),
                    ("ada", Call("nearly_expire", (number,))),
                    *(("ada", Call("get_product", (number,))),) * 30,
                ),
            )
            for number, row in ((1, _ROW), (0, None))
        ),
    )

    def sequences(self) -> Any:
        """It is never open whether a key is still there."""
        some = st.lists(
            st.one_of(self._get, self._get, self._other, self._wait), min_size=1, max_size=6
        )
        turns = some.filter(_clear).map(lambda calls: tuple(("ada", call) for call in calls))
        return st.builds(Case, self.starts, after=turns)

    def races(self) -> Any:
        """At times what one has kept itself expires; or the other keeps that there is no row now, or one."""
        get, expire, remove = (Call(name, (1,)) for name in ("get_product", "expire", "remove"))
        none, add = Call("get_product", (0,)), Call("add", (0,))
        programs = st.sampled_from(
            [
                {"ada": (get, get), "bob": (expire,)},
                {"ada": (get,), "bob": (remove, get, get)},
                {"ada": (none,), "bob": (add, none, none)},
            ]
        )
        usual = super().races()
        return st.one_of(usual, usual, st.builds(Case, self.starts, programs))

    def race_calls(self) -> Any:
        number = st.sampled_from([(1,), (1,), (0,)])
        names = st.sampled_from(["get_product", "get_product", "expire", "reprice"])
        return st.builds(Call, names, number)

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """How it is kept is not said; that it is there is."""
        kept = dict.fromkeys(state.settled(self.visible[:2]), A_VALUE)
        return {**kept, _ASKED: state[_ASKED], "the table products": state["products"]}

    def get_product(self, state: State, asked: int | _WhileAway) -> Generator[Any, Any, Any]:
        number = asked.number if isinstance(asked, _WhileAway) else asked
        key = f"product:{number}"
        if key in state:
            return state[key][0]
        if isinstance(asked, _WhileAway):
            return (yield [Raised(DatabaseAwayError), Raised(Exception)])
        yield
        state[_ASKED] += 1
        row = self.row(state, number)
        yield
        if key in state:  # another was faster: it may stay, and be what is returned
            way = yield ("put mine", "leave it", "return it")
            if way != "put mine":
                return row if way == "leave it" else state[key][0]
        state.keep(key, [row], _NOTHING_MS if row is None else _ROW_MS)
        return row

    def reprice(self, state: State, number: int) -> None:
        if state["products"][number]:
            state["products"][number]["price_cents"] = 1

    def remove(self, state: State, number: int) -> None:
        state["products"][number] = None

    def add(self, state: State, number: int) -> None:
        if state["products"][number] is None:
            state["products"][number] = dict(_ROW)

    def expire(self, state: State, number: int) -> None:
        state.remove(f"product:{number}")

    def nearly_expire(self, state: State, number: int) -> None:
        if f"product:{number}" in state:
            state.lives[f"product:{number}"] = 5_000


def _clear(calls: list[Call]) -> bool:
    """True when no waits in a row end where a row, or a None, may be kept or not."""
    spans = [0]
    for call in calls:
        if call.name == WAIT:
            spans = [span + call.args[0] for span in spans] + [0]
            if any(30 <= span <= 60 or 1_800 <= span <= 3_600 for span in spans):
                return False
    return True


class UserCache(_Asking):
    """01.3: no old row in the cache, and nobody waits."""

    answer = "user_cache"
    functions = ("get_user", "update_user")
    counted = "get_user"
    cached = ("user:[0-9]",)
    visible = ("users", _ASKED)
    faults = ("crash", "pause")
    patient = ("update_user",)
    clauses: ClassVar = {
        "told": "get_user returns the row; on a hit it does not ask the database.",
        "the count*": "on a hit it does not ask the database",
        "user:*": "user:{id} holds the row as JSON, or nothing",
        "waits": "No reader waits for another one: if it may not fill the cache, it returns the row "
        "that it read.",
        "at once": "When all have finished, no old row is in the cache",
        "crash": "a reader may crash, or pause for any time",
        "pause": "a reader may crash, or pause for any time",
    }
    _numbers = st.sampled_from([1, 1, 2])
    _get = st.builds(Call, st.just("get_user"), st.tuples(_numbers))
    _update = st.builds(
        Call,
        st.just("update_user"),
        st.tuples(_numbers, st.sampled_from(["grace", "d'Arc é", "", "0"])),
    )
    calls = st.one_of(_get, _get, _update)

    @staticmethod
    def _start(one: str, other: str, warm: bool, asked: bool) -> State:
        rows = {1: {"username": one, "version": 1}, 2: {"username": other, "version": 9}}
        state = State({"users": rows})
        if warm:
            state.keep("user:1", UserCache().row(state, 1), 3_600_000)
        if asked:
            state[_ASKED] = 0
        return state

    _names = st.sampled_from(["ada", "alan", "é"])
    starts = st.builds(_start, _names, _names, st.booleans(), st.just(True))

    def race_starts(self) -> Any:
        return st.builds(
            self._start, st.just("ada"), st.just("alan"), st.booleans(), st.just(False)
        )

    def races(self) -> Any:
        get, update = Call("get_user", (1,)), Call("update_user", (1, "grace"))
        programs = st.sampled_from(
            [
                {"ada": (get,), "bob": (update,)},
                {"ada": (get,), "bob": (get,)},
                {"ada": (get,), "bob": (update, get)},
                {"ada": (get,), "bob": (update,), "cyd": (get,)},
                {"ada": (get,), "bob": (update,), "cyd": (Call("update_user", (1, "joan")),)},
            ]
        )
        return st.builds(Case, self.race_starts(), programs)

    def recoveries(self) -> Any:
        """Others come at once; or when all that has a TTL is over, and the row is kept again."""
        get, update = Call("get_user", (1,)), Call("update_user", (1, "grace"))
        after = ("ada", get), ("bob", update), ("bob", get)
        late = ("bob", Call(WAIT, (_LONG_SECONDS,))), ("bob", get), ("bob", get)
        at_once = self.race_starts().map(lambda start: Case(start, {"ada": (get,)}, after))
        much_later = self.starts.map(lambda start: Case(start, {"ada": (get,)}, late))
        return st.one_of(at_once, at_once, much_later)

    def wait(self, state: State, seconds: float) -> None:
        """Whether a row is still there is not said."""
        for key in state.settled(self.cached):
            state.remove(key)
            state.set_at("perhaps kept").add(key)

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """What is cached is the row; whether it is, is not said of clients at once."""
        asked = {_ASKED: state[_ASKED]} if _ASKED in state else {}
        return {**self.others_than(state), **asked, "the table users": state["users"]}

    def get_user(self, state: State, number: int) -> Generator[Any, Any, Any]:
        key = f"user:{number}"
        # of clients at once: it may have expired, or was never kept
        if key in state and (_ASKED in state or (yield [True, False])):
            return state[key]
        yield
        if _ASKED in state:
            least = key not in state.set_at("perhaps kept")
            asked = state[_ASKED]
            low, high = (asked.low, asked.high) if isinstance(asked, Between) else (asked, asked)
            state[_ASKED] = Between(low + least, high + 1)
            state.set_at("perhaps kept").discard(key)
        row = self.row(state, number)
        yield
        if row == self.row(state, number):
            state.keep(key, row, ANYTHING)
        return row

    def update_user(self, state: State, number: int, name: str) -> Generator[Any, Any, Any]:
        counted = yield (0, 1)  # whether a rename counts in version is not said
        state["users"][number]["username"] = name
        state["users"][number]["version"] += counted
        yield
        state.remove(f"user:{number}")
        state.set_at("perhaps kept").add(f"user:{number}")
        return ANYTHING
