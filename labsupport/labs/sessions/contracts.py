"""What the exercises of lab 12 ask for, as models: a visit, and a new name at login."""

from collections.abc import Generator
from contextlib import suppress
from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import ALONE, WAIT, Call, Case, Contract, Functions
from labsupport.exercises.matching import ANYTHING
from labsupport.exercises.state import State

__all__ = ["Rotate", "Visit"]

_EIGHT_HOURS_MS = 28_800_000
_ALIKE = ("a", "A", " a\n", *(f"{'7f' * 40}-{number}" for number in (1, 2)))
_DAYS_MS = 300_000_000


class Visit(Contract):
    """12.1: a visit counts and prolongs, up to the end."""

    answer = "visit"
    visible = ("session:*",)
    faults = ("crash", "clocks")
    clauses: ClassVar = {
        "told": "Return the session's fields and prolong it, or None when it is over",
        "lives": "It lives for idle_ms from now on, and never beyond the server's time in its field "
        "`ends` (ms).",
        "left": "The field `visits` counts the visits, including this one: none is lost.",
        "stays": "every key has a TTL",
        "clock": "the server's time",
        "at once": "Visits and a logout come at once",
        "crash": "and may crash",
    }
    others: ClassVar = {"log_out": lambda redis, name: redis.delete(f"session:{name}")}
    _ends = st.sampled_from([20_000, 100_000, 3_600_000, -5_000])
    _fields = st.fixed_dictionaries(
        {"user": st.sampled_from(["7", "", "d'Arc é"])},
        optional={"visits": st.sampled_from(["1", "9", "41"])},
    )
    _session = st.tuples(_fields, _ends, st.sampled_from([15_000, 90_000]))
    _visit = st.builds(
        lambda name, idle_ms: Call("visit", (name, idle_ms)),
        st.sampled_from(["a", "a", "b"]),
        st.sampled_from([30_000, 61_500, 900_000]),
    )
    calls = st.one_of(
        _visit,
        _visit,
        st.builds(Call, st.just("log_out"), st.tuples(st.sampled_from(["a", "b"]))),
        st.builds(Call, st.just(WAIT), st.tuples(st.sampled_from([10.5, 47, 200]))),
    )

    def __init__(self) -> None:
        self._now_ms = 0

    @staticmethod
    def _start(sessions: Any) -> State:
        state = State()
        for name, (fields, ends, ms) in sessions.items():
            state.keep(f"session:{name}", {**fields, "ends": ends}, ms)
        return state

    starts = st.dictionaries(st.sampled_from(["a", "b"]), _session, max_size=2).map(_start)
    rare = (
        Case(  # whatever fields it has
            _start({"a": ({"user": "7", "cart": " 3"}, 3_600_000, 15_000)}),
            after=(("ada", Call("visit", ("a", 30_000))),),
        ),
        *(  # now is not a whole second, and the end is sooner than idle_ms, or not
            Case(start, after=(("ada", Call(WAIT, (10.9,))), ("ada", Call("visit", ("a", 30_000)))))
            for start in (
                _start({"a": ({"user": "7"}, 20_000, 15_000)}),
                _start({"a": ({"user": "7"}, 100_000, 15_000)}),
            )
        ),
        Case(  # for days; and sessions that are much alike
            _start({name: ({"user": "7"}, 2 * _DAYS_MS, 15_000) for name in _ALIKE}),
            after=tuple(("ada", Call("visit", (name, _DAYS_MS))) for name in _ALIKE),
        ),
    )

    def race_starts(self) -> Any:
        session = st.tuples(self._fields, st.sampled_from([3_600_000]), st.just(15_000))
        return st.fixed_dictionaries({"a": session}).map(self._start)

    def race_calls(self) -> Any:
        return st.sampled_from(
            [Call("visit", ("a", 60_000)), Call("visit", ("a", 60_000)), Call("log_out", ("a",))]
        )

    def write(self, start: State, redis: Any, db: Any) -> None:
        """The model's ends are in ms from the start."""
        seconds, micros = redis.time()
        self._now_ms = seconds * 1000 + micros // 1000
        state = start.copy()
        for fields in state.values():
            if "ends" in fields:
                fields["ends"] = self._now_ms + int(fields["ends"])
        state.write(redis)

    def read(self, redis: Any, db: Any) -> State:
        state = State.read(redis)
        for key, fields in state.items():
            if key.startswith("session:") and isinstance(fields, dict):
                self._from_start(fields)
        return state

    def _from_start(self, fields: dict[str, Any]) -> None:
        with suppress(KeyError, ValueError):
            fields["ends"] = str(int(fields["ends"]) - self._now_ms)

    def ask(self, functions: Functions, redis: Any, db: Any, who: str, call: Call) -> Any:
        told = super().ask(functions, redis, db, who, call)
        if type(told) is dict:
            told = dict(told)
            self._from_start(told)
        return told

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """A session that is over may still be there, until its TTL ends."""
        now = state.at * 1000 - self._now_ms if state.at else state.get("clock", 0)
        found = state.settled(self.visible)
        return {
            key: fields
            for key, fields in found.items()
            if not (isinstance(fields, dict) and int(fields.get("ends", now + 1)) <= now)
        }

    def wait(self, state: State, seconds: float) -> None:
        super().wait(state, seconds)
        state["clock"] = state.get("clock", 0) + seconds * 1000

    def visit(self, state: State, session: str, idle_ms: int) -> Generator[Any, Any, Any]:
        """Only a crash may come between the count and the new TTL."""
        key, now = f"session:{session}", state.get("clock", 0)
        if key not in state or int(state[key]["ends"]) <= now:
            state.lives[key] = ANYTHING
            return None
        fields = state[key]
        fields["visits"] = str(int(fields.get("visits", 0)) + 1)
        yield ALONE
        state.lives[key] = min(idle_ms, int(fields["ends"]) - now)
        return {name: str(value) for name, value in fields.items()}

    def log_out(self, state: State, session: str) -> None:
        state.remove(f"session:{session}")


class Rotate(Contract):
    """12.2: a session goes on under a new name, and its user's set knows it."""

    answer = "rotate"
    visible = ("session:*", "sessions:*")
    clauses: ClassVar = {
        "told": "return True, or False if it was over",
        "session:*": "Afterwards `old` is void, and `new` has its fields, its TTL and the field `user`.",
        "sessions:*": "The set sessions:{user} names each session that has that user, and lives for "
        "eight hours from now.",
        "stays": "every key has a TTL",
        "at once": "Logins, visits and a logout come at once",
        "crash": "All this holds even after a crash at any step",
    }
    others: ClassVar = {
        "log_out": lambda redis, name: redis.delete(f"session:{name}"),
        "visit": lambda redis, name: redis.eval(
            "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end"
            " return redis.call('HINCRBY', KEYS[1], 'n', 1)",
            1,
            f"session:{name}",
        ),
    }
    _users = st.sampled_from(["7", "d'Arc"])
    calls = st.one_of(
        st.builds(
            lambda user, old, new: Call("rotate", (user, old, new)),
            _users,
            st.sampled_from(["a", "a", "b"]),
            st.sampled_from(["x", "y"]),
        ),
        st.builds(
            lambda user, old, new: Call("rotate", (user, old, new)),
            _users,
            st.sampled_from(["a", "x"]),
            st.just("z"),
        ),
        st.builds(
            Call, st.sampled_from(["visit", "log_out"]), st.tuples(st.sampled_from(["a", "x"]))
        ),
        st.just(Call(WAIT, (20,))),
    )

    @staticmethod
    def _start(sessions: Any, logged_in: Any) -> State:
        state = State()
        for user, ms in logged_in.items():
            name = f"there-{user}"
            state.keep(f"session:{name}", {"user": user}, 180_000)
            state.keep(f"sessions:{user}", {name}, ms)
        for name, (fields, ms) in sessions.items():
            state.keep(f"session:{name}", fields, ms)
            if user := fields.get("user"):  # logged in already
                state.lives.setdefault(f"sessions:{user}", 60_000_000)
                state.set_at(f"sessions:{user}").add(name)
        return state

    _session = st.tuples(
        st.fixed_dictionaries(
            {"cart": st.sampled_from(["1", ""])},
            optional={"n": st.just("9"), "user": st.sampled_from(["7", "9"])},
        ),
        st.sampled_from([15_000, 90_400, 50_000_000]),
    )
    _logged_in = st.dictionaries(_users, st.sampled_from([170_000, 60_000_000]), max_size=2)
    starts = st.builds(
        _start, st.dictionaries(st.sampled_from(["a", "b"]), _session, max_size=2), _logged_in
    )

    rare = (  # sessions and users that are much alike
        Case(
            _start({name: ({"cart": "1"}, 90_400) for name in _ALIKE}, {}),
            after=tuple(("ada", Call("rotate", (one, one, f"{one}: new"))) for one in _ALIKE),
        ),
    )

    def race_starts(self) -> Any:
        a, b = ({name: self._session} for name in "ab")
        sessions = st.fixed_dictionaries(a, optional=b)
        return st.builds(self._start, sessions, self._logged_in)

    def races(self) -> Any:
        one = Call("rotate", ("7", "a", "x"))
        others = [Call("rotate", ("7", "a", "y")), Call("visit", ("a",)), Call("log_out", ("a",))]
        return st.builds(
            lambda start, other: Case(start, {"ada": (one,), "bob": (other,)}),
            self.race_starts(),
            st.sampled_from(
                [*others, Call("rotate", ("d'Arc", "a", "y")), Call("rotate", ("7", "b", "y"))]
            ),
        )

    def recoveries(self) -> Any:
        one = Call("rotate", ("7", "a", "x"))
        again = (("ada", one), ("bob", Call("rotate", ("7", "a", "y"))))
        return self.race_starts().map(lambda start: Case(start, {"ada": (one,)}, again))

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """The set may name sessions that are no more."""
        found = state.settled(self.visible)
        for key, names in [*found.items()]:
            if key.startswith("sessions:") and isinstance(names, set):
                live = {name for name in names if f"session:{name}" in state}
                found[key] = live or {name for name in names if name in state}  # the keys of some
                if not found[key]:
                    del found[key]
        return found

    def rotate(self, state: State, user: str, old: str, new: str) -> bool:
        key = f"session:{old}"
        if key not in state:
            state.lives[f"sessions:{user}"] = ANYTHING  # the set may name what is no more
            return False
        fields, ms = state[key], state.lives[key]
        state.remove(key)
        state.keep(f"session:{new}", {**fields, "user": user}, ms)
        state.set_at(f"sessions:{user}").add(new)
        state.lives[f"sessions:{user}"] = _EIGHT_HOURS_MS
        return True

    def visit(self, state: State, name: str) -> int:
        if f"session:{name}" not in state:
            return 0
        fields = state[f"session:{name}"]
        fields["n"] = str(int(fields.get("n", 0)) + 1)
        return int(fields["n"])

    def log_out(self, state: State, name: str) -> None:
        state.remove(f"session:{name}")
