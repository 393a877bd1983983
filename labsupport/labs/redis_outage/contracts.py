"""What exercises 13.1 and 13.2 ask for, as models: a visit that counts once, a lock asked for twice."""

from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import ME, WAIT, Call, Case, Contract
from labsupport.exercises.matching import Words
from labsupport.exercises.state import State

__all__ = ["CountOnce", "TakeLock"]

_LONG = "0f8c2a6e-4b1d-4c7a-9e53-7d1f0b2c4a"
_LOOK_ALIKES = (
    *(f"{_LONG}1", f"{_LONG}2", "aB", "Ab", "aB ", " aB"),
    *("7", "07", "7.0", "Jos\u00e9", "Jose\u0301", "Jos"),
)
_COUNT = "Count a visit of a page in visits:{page}, once for each visit's ID; return the count"
_DAY_MS = 86_400_000
_REMEMBERED = "what else you keep in Redis has a TTL, of a day"
_AGAIN = "A caller who got no reply calls again, with the same arguments"


def _asking(*tokens: str, name: str = "till") -> tuple[tuple[str, Call], ...]:
    """Each asks for the same lock."""
    return tuple(("ada", Call("take_lock", (name, token, 90_000))) for token in tokens)


class CountOnce(Contract):
    """13.1: a visit counts once, however often its caller has to ask."""

    answer = "count_once"
    visible = ("visits:home", "visits:homes", "visits:d'Arc")
    remembers = True
    faults = ("crash", "lost reply")
    clauses: ClassVar = {
        "told": _COUNT,
        "raised": _COUNT,
        "left": _COUNT,
        "the life of what else*": _REMEMBERED,
        "lives": "The count stays for ever",
        "stays": _REMEMBERED,
        "at once": "calls of the same visit come at once, too",
        "crash": "a caller may crash at any step",
        "reply that is lost": _AGAIN,
    }
    _pages = st.sampled_from(["home", "d'Arc"])
    calls = st.builds(Call, st.just("count_once"), st.tuples(_pages, st.sampled_from(["v1", "v2"])))
    starts = st.dictionaries(
        st.sampled_from(["visits:home", "visits:d'Arc"]), st.sampled_from([9, 41])
    ).map(State)

    rare = (  # each visit is remembered for a day of its own, however many come after it
        Case(
            State(),
            after=tuple(
                ("ada", Call("count_once", ("home", visit)))
                for visit in (*_LOOK_ALIKES, *_LOOK_ALIKES)
            ),
        ),
        Case(  # page and visit are the same letters
            State(),
            after=tuple(
                ("ada", Call("count_once", args)) for args in (("home", "s1"), ("homes", "1"))
            ),
        ),
        Case(
            State(),
            after=tuple(
                ("ada", call)
                for call in (
                    Call("count_once", ("home", "v1")),
                    Call(WAIT, (80_000,)),
                    Call("count_once", ("home", "v1")),
                    Call("count_once", ("home", "v2")),
                    Call(WAIT, (10_000,)),
                    Call("count_once", ("home", "v2")),
                )
            ),
            about=_REMEMBERED,
        ),
    )

    def race_calls(self) -> Any:
        return st.builds(
            Call, st.just("count_once"), st.tuples(st.just("home"), st.sampled_from(["v1", "v2"]))
        )

    def crowd(self) -> Case:
        """Other visits of a busy page come in between."""
        others = tuple(Call("count_once", ("home", f"v{n}")) for n in range(2, 40))
        one = (Call("count_once", ("home", "v1")),)
        return Case(State(), {"ada": one, "bob": others})

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """With how long the longest lives that is kept besides; a count of 0 and none are the same."""
        counts = {key: one for key, one in super().shown(state, start).items() if one != "0"}
        besides = state.settled(self.visible, within=False) if state.at else ()
        longest = max((state.lives[key] or 0 for key in besides), default=0)
        days = Words("a day at the most" if longest <= _DAY_MS else f"{longest / 1000:,.0f} s")
        return {**counts, "the life of what else is kept": days}

    def count_once(self, state: State, page: str, visit: str) -> int:
        counted = state.set_at("counted")
        if (known := f"{page} {visit}") not in counted:
            counted.add(known)
            state[f"visits:{page}"] = state.number_at(f"visits:{page}") + 1
        return state.number_at(f"visits:{page}")


class TakeLock(Contract):
    """13.2: whoever holds the lock is told so, also when asking again, and has the whole time anew."""

    answer = "take_lock"
    visible = ("lock:*",)
    faults = ("crash", "lost reply")
    clauses: ClassVar = {
        "told": "return True if it is yours now, else False",
        "raised": "return True if it is yours now, else False",
        "left": "A lock that is free, or that holds your token, then holds it",
        "lives": "for ms from now on; another's stays as it is, and lives as long as before",
        "at once": "Several callers do this at once, each with a token of its own",
        "crash": "each may crash at any step",
        "reply that is lost": _AGAIN,
    }
    others: ClassVar = {
        "taken_over": lambda redis: redis.set("lock:till", "cyd", px=20_000),  # it had expired
        "runs_out": lambda redis: redis.delete("lock:till"),
    }
    _ask = st.builds(
        Call,
        st.just("take_lock"),
        st.tuples(st.sampled_from(["till", "d'Arc"]), st.just(ME), st.sampled_from([30.5, 90])),
    ).map(lambda call: Call(call.name, (*call.args[:2], round(call.args[2] * 1000))))
    calls = _ask

    @staticmethod
    def _start(holder: str | None) -> State:
        state = State()
        if holder is not None:
            state.keep("lock:till", holder, 50_000)
        return state

    starts = st.builds(_start, st.sampled_from([None, "ada", "ada", "cyd", "1", ""]))
    rare = (  # one that has no TTL; locks with nearly one name; tokens that differ late, or by little
        *(Case(State({"lock:till": holder}), after=_asking("ada")) for holder in ("cyd", "ada")),
        Case(_start("cyd"), after=_asking("ada", name="till ")),
        Case(State({f"lock:{_LONG}1": "cyd"}), after=_asking("ada", name=f"{_LONG}2")),
        Case(State(), after=(("ada", Call("take_lock", ("till", ME, 900_000_000))),)),  # ten days
        Case(_start(f"{_LONG}1"), after=_asking(f"{_LONG}2")),
        Case(_start("aB"), after=_asking("a", "B", "aBc", "Ab", "aB ", " aB", "")),
        Case(_start("7"), after=_asking("07", "7.0", "0x7", "+7", " 7")),
        Case(_start("Jos\u00e9"), after=_asking("Jose\u0301", "Jos")),
    )

    def race_calls(self) -> Any:
        ask = Call("take_lock", ("till", ME, 90_000))
        return st.sampled_from([ask, ask, Call("taken_over")])

    def races(self) -> Any:
        """At times the lock that a caller has ends, or is another's by then."""
        ask = Call("take_lock", ("till", ME, 90_000))
        ends = st.sampled_from([Call("taken_over"), Call("runs_out")]).map(
            lambda other: Case(self._start("ada"), {"ada": (ask,), "bob": (other,)})
        )
        usual = super().races()
        return st.one_of(usual, usual, ends)

    def take_lock(self, state: State, name: str, token: str, ms: int) -> bool:
        if state.get(f"lock:{name}", token) != token:
            return False
        state.keep(f"lock:{name}", token, ms)
        return True

    def taken_over(self, state: State) -> None:
        state.keep("lock:till", "cyd", 20_000)

    def runs_out(self, state: State) -> None:
        state.remove("lock:till")
