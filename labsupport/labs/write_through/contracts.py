"""What the exercises of lab 02 ask for, as models: two writers, the newer row, a fence that lasts."""

import json
from collections.abc import Generator
from contextlib import suppress
from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import WAIT, Call, Case, Contract, Functions
from labsupport.exercises.matching import A_VALUE, ANYTHING, Between, Words
from labsupport.exercises.state import State
from labsupport.explorer.clients.actor import actor_here
from labsupport.labs.caches.rows import Rows

__all__ = ["PutFenced", "PutNewer", "RenameUser"]

_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_NO_ROWS = ("[^u]*", "*[^0-9]")  # locks and the like: all keys but user:{id}


class RenameUser(Rows):
    """02.1: the cache has what the database has, or nothing."""

    answer = "rename_user"
    cached = ("user:[0-9]", "user:10")
    visible = ("user:[0-9]", "user:10", "users")
    faults = ("crash", "pause")
    lapses = _NO_ROWS
    clauses: ClassVar = {
        "told": "return the row, or None if there is no such user",
        "the table users": "Rename a user, count it in version",
        "lives": "Readers keep rows as JSON in user:{id}, for an hour.",
        "stays": "Every key has a TTL.",
        "user:*,*": "other users' rows are left alone",
        "user:*": "When all writers have finished, that key holds the row of the database, or nothing",
        "at once": "When all writers have finished, that key holds the row of the database, or nothing",
        "crash": "A crash may leave the row as it was, but never one that the database has not had.",
        "pause": "Writers come at once, and may pause for any time.",
    }
    _names = st.sampled_from(["grace", "alan", "", "d'Arc é"])
    _numbers = st.sampled_from([1, 1, 2, 0])
    _rename = st.builds(Call, st.just("rename_user"), st.tuples(_numbers, _names))
    calls = st.one_of(
        _rename, _rename, st.builds(Call, st.just("look_up"), st.tuples(st.sampled_from([1, 2])))
    )

    @staticmethod
    def _start(version: int, *cached: Any) -> State:
        rows = {1: {"username": "ada", "version": version}, 2: {"username": "é", "version": 9}}
        ten = {"username": "zoe", "version": 1}
        state = State({"users": {**rows, 10: ten, 0: None}})
        for number, ms in zip((1, 2, 10), cached, strict=True):
            if ms:
                state.keep(f"user:{number}", RenameUser().row(state, number), ms)
        return state

    rare = (  # a name may be any text
        Case(_start(1, 0, 0, 0), after=(("ada", Call("rename_user", (1, " Grace\n"))),)),
        Case(_start(1, 0, 0, 0), after=(("ada", Call("rename_user", (1, "grace." * 60))),)),
    )
    _lives = st.sampled_from([0, _HOUR_MS, 40_000])
    starts = st.builds(_start, st.sampled_from([1, 9, 99]), _lives, _lives, _lives)
    others: ClassVar = {"expire": lambda redis, db, number: redis.delete(f"user:{number}")}

    def ask(self, functions: Functions, redis: Any, db: Any, who: str, call: Call) -> Any:
        """A reader takes one step: the gap between its query and its SET is another lab's affair."""
        if call.name != "look_up":
            return super().ask(functions, redis, db, who, call)
        (number,) = call.args
        db.fetch_one(f"SELECT 'a reader looks up user {number}, and caches the row'")
        here = actor_here()
        assert here is not None
        with here.trusting():
            redis, db = self.direct
            row = db.fetch_one("SELECT * FROM users WHERE id = :id", id=number)
            return redis.set(f"user:{number}", json.dumps(row), ex=3600, nx=True)

    def race_starts(self) -> Any:
        """The row that they meet at is cached, or not."""
        return st.sampled_from([0, _HOUR_MS]).map(lambda ms: self._start(1, ms, 0, 0))

    def race_calls(self) -> Any:
        rename = st.builds(
            Call, st.just("rename_user"), st.tuples(st.just(1), st.sampled_from(["grace", "alan"]))
        )
        other = st.sampled_from([Call("look_up", (1,)), Call("rename_user", (2, "joan"))])
        return st.one_of(rename, rename, other)

    def races(self) -> Any:
        """At times what the other has put there expires, or a reader comes before another writer."""
        one, other, expire = (
            Call("rename_user", (1, "grace")),
            Call("rename_user", (1, "alan")),
            Call("expire", (1,)),
        )
        expiring = st.just({"ada": (one,), "bob": (other, expire)})
        looking = st.just({"ada": (one,), "bob": (Call("look_up", (1,)), other)})
        nothing = st.just(self._start(1, 0, 0, 0))
        some = st.builds(Case, self.race_starts(), expiring), st.builds(Case, nothing, looking)
        usual = super().races()
        return st.one_of(usual, usual, usual, *some)

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """Rows that nobody has changed stay; the others are there, or not."""
        touched = state.get("touched by writers", ())
        there = {
            f"{key}, which nobody has changed,": ANYTHING
            if key in touched
            else Words("a row" if key in state else "nothing")
            for key in (f"user:{number}" for number in state["users"])
        }
        return {"the table users": state["users"], **self.others_than(state), **there}

    def rename_user(self, state: State, number: int, name: str) -> Generator[Any, Any, Any]:
        key = f"user:{number}"
        state.set_at("touched by writers").add(key)
        state.lives[key] = Between(0, _HOUR_MS)
        yield
        columns = state["users"][number]
        if columns is None:
            return None
        state["users"][number] = {"username": name, "version": columns["version"] + 1}
        told = self.row(state, number)
        yield
        if (yield [False, True]):  # whether the row of the database is put back
            state.keep(key, self.row(state, number), Between(0, _HOUR_MS))
        else:
            state.pop(key, None)
        return told

    def look_up(self, state: State, number: int) -> None:
        key = f"user:{number}"
        if key not in state:
            state.keep(key, self.row(state, number), Between(0, _HOUR_MS))

    def expire(self, state: State, number: int) -> None:
        state.remove(f"user:{number}")
        state.set_at("touched by writers").add(f"user:{number}")


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """Rows as what their JSON says."""
    for key, value in found.items():
        with suppress(ValueError, TypeError):
            found[key] = json.loads(value)
    return found


def _row(version: int, **more: Any) -> dict[str, Any]:
    return {"id": 1, "username": f"name {version}", "version": version, **more}


_VERSIONS = st.sampled_from([9, 10, 99, 100, 1, 0, 10**14, 10**14 + 1])
_ROWS = st.builds(
    lambda version, more: _row(version, **more),
    _VERSIONS,
    st.sampled_from(
        [{}, {"tags": []}, {"cents": 10**15, "email": None}, {"share": 0.1, "note": "d'Arc é"}]
    ),
)


# versions that count microseconds: Lua's tostring keeps 14 digits
_IN_MICROSECONDS = [_row(1_764_000_000_000_000 + n) for n in (4, 2, 6)]
# a newer one may have one digit more, or one bit
_WITH_MORE_DIGITS = [
    [_row(number - 1), _row(number), _row(number - 1)]
    for number in (*(10**n for n in range(1, 16)), 2**31, 2**32, 2**53 - 1)
]
# what is in a row may have a version of its own, which its text has first
_WITH_PARTS = [
    {"id": 1, "note": '"version": 99', "part": {"version": 99 - n}, "version": n} for n in (3, 4, 2)
]


class PutNewer(Contract):
    """02.2: the newer row stays."""

    answer = "put_newer"
    visible = ("user:1", "user:2")
    faults = ("crash", "pause", "stall")
    lapses = _NO_ROWS
    clauses: ClassVar = {
        "told": "Return True if it was kept, else False.",
        "left": "Keep a row as JSON in key for ttl seconds, unless a newer one is there.",
        "lives": "Keep a row as JSON in key for ttl seconds, unless a newer one is there.",
        "stays": "A crash leaves a key as it was, or as it is to be, and no other key for ever.",
        "at once": "Writers come at once, and may pause for any time.",
        "crash": "A crash leaves a key as it was, or as it is to be, and no other key for ever.",
        "pause": "Writers come at once, and may pause for any time.",
    }
    others: ClassVar = {
        "expire": lambda redis, key: redis.delete(key),
        "look_up": lambda redis, key: json.loads(redis.get(key) or "null"),
    }
    _keys = st.sampled_from(["user:1", "user:1", "user:2"])
    _put = st.builds(
        lambda key, row, ttl: Call("put_newer", (key, row, ttl)),
        _keys, _ROWS, st.sampled_from([30, 60, 7_200]),
    )  # fmt: skip
    calls = st.one_of(
        _put, _put, _put, st.builds(Call, st.sampled_from(["expire", "look_up"]), st.tuples(_keys))
    )

    @staticmethod
    def _start(row: dict[str, Any] | None, ms: int) -> State:
        state = State()
        if row is not None:
            state.keep("user:1", json.dumps(row), ms)
        return state

    starts = st.builds(_start, st.one_of(st.none(), _ROWS), st.sampled_from([5_000, 4_000_000]))
    rare = tuple(
        Case(State(), after=tuple(("ada", Call("put_newer", ("user:1", row, ttl))) for row in rows))
        for ttl, rows in (
            *((60, rows) for rows in (_IN_MICROSECONDS, _WITH_PARTS, *_WITH_MORE_DIGITS)),
            (900_000, [_row(1)]),  # ten days
        )
    )

    def race_starts(self) -> Any:
        rows = st.sampled_from([None, _row(8), _row(10)])
        return st.builds(self._start, rows, st.just(4_000_000))

    def race_calls(self) -> Any:
        put = st.sampled_from([10, 9, 11]).map(
            lambda version: Call("put_newer", ("user:1", _row(version), 60))
        )
        other = st.sampled_from(["expire", "look_up"]).map(lambda name: Call(name, ("user:1",)))
        return st.one_of(put, put, other)

    def fault_races(self) -> Any:
        """At times the older row comes from one who has looked before the newer one was there."""
        older, newer = (Call("put_newer", ("user:1", _row(version), 60)) for version in (9, 11))
        late = Case(State(), {"ada": (older,), "bob": (newer,)})
        return st.one_of(st.just(late), self.races())

    def shown(self, state: State, start: State) -> dict[str, Any]:
        return _plain(state.settled(self.visible))

    def put_newer(self, state: State, key: str, row: dict[str, Any], ttl: int) -> bool:
        if key in state and json.loads(state[key])["version"] > row["version"]:
            return False
        state.keep(key, json.dumps(row), ttl * 1000)
        return True

    def expire(self, state: State, key: str) -> None:
        state.remove(key)

    def look_up(self, state: State, key: str) -> Any:
        return json.loads(state[key]) if key in state else ANYTHING


class PutFenced(Contract):
    """02.3: what was there is known for longer than the row."""

    answer = "put_fenced"
    visible = ("user:[0-9]", "user:[0-9]:version")
    clauses: ClassVar = {
        "told": "Keep a row in user:{id} for an hour, unless a newer one is or was there; return "
        "whether it was kept.",
        "user:?": "Keep a row in user:{id} for an hour, unless a newer one is or was there; return "
        "whether it was kept.",
        "user:?:version": "lives for a day from the newest row on",
        "stays": "What you remember for that goes under user:{id}:version",
        "at once": "Callers come at once, and may crash.",
        "crash": "Callers come at once, and may crash.",
    }
    others: ClassVar = {"expire": lambda redis, number: redis.delete(f"user:{number}")}
    _numbers = st.sampled_from([1, 1, 1, 2])
    _put = st.builds(lambda n, row: Call("put_fenced", (n, row)), _numbers, _ROWS)
    calls = st.one_of(
        _put,
        _put,
        _put,
        st.builds(Call, st.just("expire"), st.tuples(_numbers)),
        st.builds(Call, st.just(WAIT), st.tuples(st.sampled_from([20, 3_700, 50_000]))),
    )
    starts = st.just(State())
    rare = (
        Case(
            State(),
            after=tuple(
                ("ada", call)
                for row in _IN_MICROSECONDS
                for call in (Call("put_fenced", (1, row)), Call("expire", (1,)))
            ),
        ),
        *(
            Case(State(), after=tuple(("ada", Call("put_fenced", (1, row))) for row in rows))
            for rows in (_IN_MICROSECONDS, _WITH_PARTS, *_WITH_MORE_DIGITS)
        ),
    )

    def sequences(self) -> Any:
        """At times the row has expired, or an older one is refused twice."""
        ten, nine = (Call("put_fenced", (1, _row(version))) for version in (10, 9))
        some = [ten, Call("expire", (1,)), nine], [ten, Call(WAIT, (20,)), nine, nine]
        late = st.sampled_from([tuple(("ada", call) for call in calls) for calls in some])
        usual, rare = super().sequences(), late.map(lambda after: Case(State(), after=after))
        return st.sampled_from(range(8)).flatmap(lambda n: usual if n else rare)

    _busy = State({"user:3": json.dumps(_row(3))}, {"user:3": 40_000})

    def race_starts(self) -> Any:
        return st.just(self._busy)

    def race_calls(self) -> Any:
        put = st.sampled_from([10, 9, 11]).map(lambda n: Call("put_fenced", (1, _row(n))))
        return st.one_of(put, put, st.just(Call("expire", (1,))))

    def races(self) -> Any:
        """One has put a row before, or the other sees it expire."""
        old, expire = Call("put_fenced", (1, _row(8))), Call("expire", (1,))
        before = st.sampled_from([(), (), (old,)])
        between = st.sampled_from([(), (), (expire,)])
        return st.builds(
            lambda before, one, between, other: Case(
                self._busy, {"ada": (*before, one), "bob": (*between, other)}
            ),
            before, self.fault_calls(), between, self.race_calls(),
        )  # fmt: skip

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """How a version is remembered is not said; where is looked at once the calls are right."""
        rows = _plain(state.settled(("user:[0-9]",)))
        fences = state.settled(("user:[0-9]:version",)) if start else ()
        return {**rows, **dict.fromkeys(fences, A_VALUE)}

    def put_fenced(self, state: State, number: int, row: dict[str, Any]) -> bool:
        key, fence = f"user:{number}", f"user:{number}:version"
        if state.number_at(fence) > row["version"]:
            return False
        state.keep(fence, row["version"], _DAY_MS)
        state.keep(key, json.dumps(row), _HOUR_MS)
        return True

    def expire(self, state: State, number: int) -> None:
        state.remove(f"user:{number}")
