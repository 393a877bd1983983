"""What exercises 13.1 and 13.2 ask for, as models: a visit that counts once, a lock asked for twice."""

from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import ME, Call, Contract
from labsupport.exercises.state import State

__all__ = ["CountOnce", "TryLock"]

_AGAIN = "Who got no reply calls again, with the same arguments"


class CountOnce(Contract):
    """13.1: a visit counts once, however often its caller has to ask."""

    answer = "count_once"
    visible = ("visits:home", "visits:d'Arc")
    remembers = True
    faults = ("crash", "lost reply")
    clauses: ClassVar = {
        "told": "return the count",
        "left": "Count a visit of a page in visits:{page}, once for each visit's ID",
        "lives": "The count stays for ever",
        "stays": "what else you keep in Redis has a TTL, of a day",
        "at once": "calls of the same visit come at once, too",
        "crash": "a caller may crash at any step",
        "reply that is lost": _AGAIN,
    }
    _pages = st.sampled_from(["home", "d'Arc"])
    calls = st.builds(Call, st.just("count_once"), st.tuples(_pages, st.sampled_from(["v1", "v2"])))
    starts = st.dictionaries(
        st.sampled_from(["visits:home", "visits:d'Arc"]), st.sampled_from([9, 41])
    ).map(State)

    def race_calls(self) -> Any:
        return st.builds(
            Call, st.just("count_once"), st.tuples(st.just("home"), st.sampled_from(["v1", "v2"]))
        )

    def count_once(self, state: State, page: str, visit: str) -> int:
        counted = state.set_at("counted")
        if (known := f"{page} {visit}") not in counted:
            counted.add(known)
            state[f"visits:{page}"] = state.number_at(f"visits:{page}") + 1
        return state.number_at(f"visits:{page}")


class TryLock(Contract):
    """13.2: who holds the lock is told so, also when asking again."""

    answer = "try_lock"
    visible = ("lock:*",)
    faults = ("crash", "lost reply")
    clauses: ClassVar = {
        "told": "return True if lock:{name} holds your token afterwards, else False",
        "left": "It is taken only if it is free; then it holds the token",
        "lives": "and lives for ms. A lock that is held, yours too, lives no longer and no shorter",
        "at once": "Several callers do this at once, each with a token of its own",
        "crash": "each may crash at any step",
        "reply that is lost": _AGAIN,
    }
    _tokens = st.sampled_from(["t-ada", "t-bob"])
    calls = st.builds(
        Call,
        st.just("try_lock"),
        st.tuples(st.sampled_from(["till", "d'Arc"]), _tokens, st.sampled_from([30_000, 90_000])),
    )

    @staticmethod
    def _start(holder: str | None) -> State:
        state = State()
        if holder is not None:
            state.keep("lock:till", holder, 50_000)
        return state

    starts = st.builds(_start, st.sampled_from([None, None, "t-ada", "t-cyd", "1", ""]))

    def race_calls(self) -> Any:
        return st.just(Call("try_lock", ("till", ME, 30_000)))

    def try_lock(self, state: State, name: str, token: str, ms: int) -> bool:
        if f"lock:{name}" not in state:
            state.keep(f"lock:{name}", token, ms)
        return bool(state[f"lock:{name}"] == token)
