"""What exercise 01.2 asks for, as a model: of many callers, one loads."""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import ALONE, WAIT, Argument, Call, Case, Contract, Functions
from labsupport.exercises.matching import A_VALUE, Raised
from labsupport.exercises.state import State
from labsupport.labs.cache_aside.contracts import DatabaseAwayError

__all__ = ["FetchOnce"]


@dataclass(frozen=True)
class _Load(Argument):
    """Notes who loads in the list loads, and returns a value.

    Args:
        value: what it returns.
        how: "fails", "is_slow", "is_slow_and_fails", or "watches" (that its lock is there).
        who: loads, in the model.
    """

    value: Any = None
    how: str = ""
    who: str = ""

    def __repr__(self) -> str:
        return f"load_that_{self.how}" if self.how else f"lambda: {self.value!r}"

    def real(self, redis: Any, db: Any, who: str) -> Callable[[], Any]:
        def load() -> Any:
            redis.rpush("loads", who)
            if "slow" in self.how:
                redis.eval(_NOTE, 2, _LOCK, _SLOW)
            if "fails" in self.how:
                raise DatabaseAwayError("the database is away")
            if self.how == "watches" and not redis.exists(_LOCK):
                redis.rpush(_FREED, f"{who} has lost {_LOCK} to another")
            return self.value

        return load

    def modelled(self, who: str) -> "_Load":
        return replace(self, who=who)


_LEFT = "the count of locks that are left in the end"
_FREED = "the list of locks that others freed"
_LOCK, _SLOW = "product:1:lock", "the lock of a slow load"

# KEYS: a lock, and where to note what it is.
_NOTE = "redis.call('COPY', KEYS[1], KEYS[2]) redis.call('PEXPIRE', KEYS[2], 10000)"

# KEYS: a lock, what it was when a slow load began. It expires, unless it is another's by now.
_OUTLIVE = """
if redis.call('EXISTS', KEYS[2]) == 1 and redis.call('DUMP', KEYS[1]) == redis.call('DUMP', KEYS[2])
then redis.call('DEL', KEYS[1]) end
"""


class FetchOnce(Contract):
    """01.2: of many callers, one loads."""

    answer = "fetch_once"
    visible = (_FREED, "product:1", "d'Arc", "loads")
    clauses: ClassVar = {
        "raised": "An error in load reaches its caller and frees the lock.",
        "told": "Return the cached value, or load it",
        "loads": "Return the cached value, or load it; of many callers, one loads.",
        "lives": "The value, which JSON can hold, is cached for ttl seconds",
        "left": "The value, which JSON can hold, is cached for ttl seconds",
        "stays": "A holder may crash, or be slower than its lock: nobody waits for ever",
        "ends": "An error in load reaches its caller and frees the lock.",
        "the list*": "nobody frees a lock that is not theirs",
        "the count*": "An error in load reaches its caller and frees the lock.",
        "at once": "Return the cached value, or load it; of many callers, one loads.",
        "crash": "A holder may crash, or be slower than its lock: nobody waits for ever",
    }
    others: ClassVar = {
        "expire": lambda redis, key: redis.delete(key),
        "outlive_the_lock": lambda redis: redis.eval(_OUTLIVE, 2, _LOCK, _SLOW),
        "count_the_locks": lambda redis, *keys: redis.exists(*(f"{key}:lock" for key in keys)),
    }
    _keys = st.sampled_from(["product:1", "product:1", "d'Arc"])
    _values: ClassVar = [{"id": 1}, None, 0, "", [], False, "null", ["é", 2.5]]
    _loads = st.one_of(
        st.builds(_Load, st.sampled_from(_values)),
        st.just(_Load(how="fails")),
    )
    _fetch = st.builds(
        lambda key, load, ttl: Call("fetch_once", (key, load, ttl)),
        _keys, _loads, st.sampled_from([60, 12.5, 7_200]),
    )  # fmt: skip
    _expire = st.builds(Call, st.just("expire"), st.tuples(_keys))
    calls = st.one_of(_fetch, _fetch, _fetch, _expire, st.just(Call(WAIT, (100,))))
    starts = st.just(State())
    rare = (  # each value, kept for a part of a second and found
        Case(
            State(),
            after=tuple(
                turn
                for value in _values
                for turn in (
                    ("ada", Call("fetch_once", ("product:1", _Load(value), 0.4))),
                    ("bob", Call("fetch_once", ("product:1", _Load("another"), 60))),
                    ("bob", Call("expire", ("product:1",))),
                )
            ),
        ),
    )

    def __init__(self) -> None:
        self._left = 0

    def sequences(self) -> Any:
        """No lock is left."""
        last = ("bob", Call("count_the_locks", ("product:1", "d'Arc")))
        return super().sequences().map(lambda case: replace(case, after=(*case.after, last)))

    def ask(self, functions: Functions, redis: Any, db: Any, who: str, call: Call) -> Any:
        told = super().ask(functions, redis, db, who, call)
        if call.name != "count_the_locks":
            return told
        self._left = told
        return None

    def write(self, start: State, redis: Any, db: Any) -> None:
        self._left = 0
        super().write(start, redis, db)

    def read(self, redis: Any, db: Any) -> State:
        state = super().read(redis, db)
        if self._left:
            state.keep(_LEFT, self._left)
        return state

    def race_calls(self) -> Any:
        fetch = st.builds(
            lambda load: Call("fetch_once", ("product:1", load, 60)),
            st.sampled_from([_Load({"id": 1}), _Load(None), _Load(how="fails")]),
        )
        return st.one_of(fetch, fetch, st.just(Call("expire", ("product:1",))))

    def races(self) -> Any:
        """At times a lock expires while its holder loads, and another takes it."""
        slow, failing, watching = (
            Call("fetch_once", ("product:1", _Load(1, how), 60))
            for how in ("is_slow", "is_slow_and_fails", "watches")
        )
        usual = super().races()
        fetch = Call("fetch_once", ("product:1", _Load({"id": 1}), 60))
        expiring = st.just(
            Case(State(), {"ada": (fetch, fetch), "bob": (Call("expire", ("product:1",)),)})
        )
        late = st.sampled_from([slow, failing]).map(
            lambda one: Case(State(), {"ada": (one,), "bob": (Call("outlive_the_lock"), watching)})
        )
        return st.one_of(usual, usual, expiring, late)

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """How a value is kept is not said; that it is there is."""
        found = state.settled(self.visible)
        kept = {key: one if key in ("loads", _FREED) else A_VALUE for key, one in found.items()}
        freed = {_FREED: kept.pop(_FREED)} if _FREED in kept else {}  # it says more than who loads
        return {**freed, **kept, _LEFT: state.get(_LEFT, 0)}

    def fetch_once(
        self, state: State, key: str, load: _Load, ttl: float
    ) -> Generator[Any, Any, Any]:
        if key in state:
            return state[key][0]
        if "slow" in load.how:
            yield
        state.list_at("loads").append(load.who)
        yield None if "slow" in load.how else ALONE
        if "fails" in load.how:
            return Raised(DatabaseAwayError)
        state.keep(key, [load.value], ttl * 1000)
        return load.value

    def expire(self, state: State, key: str) -> None:
        state.remove(key)

    def outlive_the_lock(self, state: State) -> None:
        """What is slow is so anyway."""

    def count_the_locks(self, state: State, *keys: str) -> None:
        """There is none."""
