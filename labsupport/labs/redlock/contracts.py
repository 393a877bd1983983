"""What the exercises of lab 08 ask for, as models: a majority of votes, a change that counts."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import (
    Argument,
    Call,
    Case,
    Contract,
    Functions,
    Given,
    Programs,
)
from labsupport.exercises.matching import ANYTHING, Between, Fresh
from labsupport.exercises.state import KEPT, State
from labsupport.labs.redlock.slow_nodes import nodes_of

__all__ = ["ChangeStock", "Majority"]

_KEY = "lock:kettle"
_ROUNDING_SECONDS = 0.002
_BOBS_FOUR = State(
    {f"node{n}:{_KEY}": "bob's" for n in range(1, 5)},
    {f"node{n}:{_KEY}": 50_000 for n in range(1, 5)},
)


@dataclass(frozen=True, slots=True)
class _Nodes(Argument):
    """So many nodes, each of which takes a while to answer."""

    count: int
    seconds: float = 0.0

    def real(self, redis: Any, db: Any, who: str) -> Any:
        return nodes_of(redis, self.count, self.seconds)

    def modelled(self, who: str) -> Any:
        return self

    def __repr__(self) -> str:
        slow = f", each of which takes {self.seconds:g} s" if self.seconds else ""
        return f"[{self.count} {'node' if self.count == 1 else 'nodes'}{slow}]"


class Majority(Contract):
    """08.1, one call after the other: votes, validity, and whose lock is freed."""

    answer = "majority"
    functions = ("acquire", "release")
    takes = ()
    visible = ("node*",)
    place = "On the nodes"
    faults = ()
    clauses: ClassVar = {
        "told": "returns (token, validity), no two tokens alike; validity is the ttl less the time "
        "that passed and, for drift, less 1 % of it and 2 ms. Without a majority, or validity, it "
        "returns None",
        "left": "Without a majority, or validity, it returns None and none of its votes stay. A crash "
        "leaves no key without a TTL. release frees each node whose lock is still the caller's.",
        "lives": "ttl is in seconds",
    }
    _counts = st.integers(1, 5)
    _keys = st.sampled_from([_KEY, _KEY, _KEY, "lock:d'Arc"])
    _ttls = st.sampled_from([10, 60, 2.5, 0.75, 3600])
    _tokens = st.sampled_from([Given("acquire", "token")] * 3 + ["bob's", "nobody's"])
    calls = st.one_of(
        st.builds(
            lambda count, key, ttl: Call("acquire", (_Nodes(count), key, ttl)),
            _counts, _keys, _ttls,
        ),
        st.builds(
            lambda count, key, token: Call("release", (_Nodes(count), key, token)),
            _counts, _keys, _tokens,
        ),
    )  # fmt: skip
    starts = st.sets(st.integers(1, 5)).map(
        lambda held: State(
            {f"node{n}:{_KEY}": "bob's" for n in held}, {f"node{n}:{_KEY}": 50_000 for n in held}
        )
    )

    # many nodes; or they are slow: their time is no longer there, or all of it is over
    rare = tuple(
        Case(start, after=(("ada", Call("acquire", (_Nodes(count, seconds), _KEY, ttl))),))
        for start, count, seconds, ttl in (
            (State(), 3, 1.0, 10),
            (State(), 3, 4.0, 10),
            (State(), 3, 3.3, 10),  # the votes are still there, and good for nothing
            (State({f"node2:{_KEY}": "bob's"}, {f"node2:{_KEY}": 50_000}), 4, 0.5, 2.5),
            (State(), 5, 0.5, 2.5),
            (_BOBS_FOUR, 7, 0.0, 10),  # three are no majority of seven
        )
    ) + tuple(  # more votes than a majority, or none of the first node: each one is freed
        Case(
            start,
            after=(
                ("ada", Call("acquire", (_Nodes(count), _KEY, 60))),
                ("ada", Call("release", (_Nodes(count), _KEY, Given("acquire", "token")))),
            ),
        )
        for start, count in (
            (State(), 5),
            (State({f"node1:{_KEY}": "bob's"}, {f"node1:{_KEY}": 50_000}), 3),
        )
    )

    def races(self) -> Any:
        """What several do at once is put to trials of their own."""
        return st.just(Case(State(), {"ada": (Call("acquire", (_Nodes(3), _KEY, 10)),)}))

    def ask(self, functions: Functions, redis: Any, db: Any, who: str, call: Call) -> Any:
        if call.name == "release":
            call = Call(call.name, (*call.args[:2], _token_of(call.args[2])))
        return super().ask(functions, redis, db, who, call)

    def acquire(self, state: State, nodes: _Nodes, key: str, ttl: float) -> Any:
        names = [f"node{n}:{key}" for n in range(1, nodes.count + 1)]
        free = [name for name in names if name not in state]
        passed = nodes.count * nodes.seconds
        validity = ttl - passed - 0.01 * ttl - _ROUNDING_SECONDS
        if 2 * len(free) <= nodes.count or validity <= 0:
            return None
        state["tokens"] = state.number_at("tokens") + 1
        token = Fresh(f"token {state['tokens']}")
        for name in free:
            state.keep(name, token, Between((ttl - passed) * 1000, ttl * 1000))
        return token, Between(validity - _ROUNDING_SECONDS, validity)

    def release(self, state: State, nodes: _Nodes, key: str, token: Any) -> Any:
        for n in range(1, nodes.count + 1):
            if state.get(f"node{n}:{key}") == _token_of(token):
                state.remove(f"node{n}:{key}")
        return ANYTHING


def _token_of(given: Any) -> Any:
    """The token of what acquire has given."""
    return given[0] if isinstance(given, tuple) and given else given


@dataclass(frozen=True, slots=True)
class _Compute(Argument):
    """What becomes of a stock."""

    times: int
    plus: int
    least: int | None = None

    def __call__(self, stock: int) -> int:
        new = stock * self.times + self.plus
        return new if self.least is None else max(self.least, new)

    def real(self, redis: Any, db: Any, who: str) -> Any:
        return self.__call__

    def modelled(self, who: str) -> Any:
        return self

    def __repr__(self) -> str:
        what = f"stock * {self.times}" if self.times > 1 else "stock"
        if not self.times:
            return f"lambda stock: {self.plus}"
        sign = "+" if self.plus > 0 else "-"
        new = f"{what} {sign} {abs(self.plus)}" if self.plus else what
        return f"lambda stock: {new if self.least is None else f'max({self.least}, {new})'}"


_ONE, _TWO, _THREE = "Kc7hQ2xV9mTa", "Kc7hQ2xV9mTA", "Xc7hQ2xV9mTa"  # a letter makes another token
_OTHER = "the new stock of product 2"
_SOLD, _FILLED, _EMPTIED = _Compute(1, -1), _Compute(1, 5), _Compute(1, -60, least=0)


class ChangeStock(Contract):
    """08.3: of two holders at the same moment, neither overwrites what the other was told."""

    answer = "change_stock"
    takes = ("db",)
    place = "In the row of product 1"
    visible = ("stock", _OTHER)
    faults = ("crash",)
    effort = 0.25
    clauses: ClassVar = {
        "told": "Set the stock of product 1 to compute(stock); return True if it was written, else "
        "False.",
        "left": "Set the stock of product 1 to compute(stock)",
        "at once": "each True is a change that no other overwrites",
        "crash": "A caller who is alone is never refused, whatever others left behind.",
    }
    # tokens are random: the later one may be smaller, or greater
    _tokens = st.sampled_from([_ONE, _TWO, "Zz9", "10", "9"])
    _changes = st.sampled_from(
        [_SOLD, _SOLD, _FILLED, _Compute(1, 0), _Compute(2, 0), _Compute(0, 7)]
    )
    calls = st.builds(Call, st.just("change_stock"), st.tuples(_tokens, _changes))
    starts = st.builds(
        lambda stock, by: State({"stock": stock, "claimed_by": by}),
        st.sampled_from([89, 1, 0, 1_000_000]), st.sampled_from([None, None, "Zz9", _ONE, ""]),
    )  # fmt: skip

    def races(self) -> Any:
        """Two or three holders, each with a token of its own; now and then one comes twice."""
        one, two, three = (
            Call("change_stock", (token, change))
            for token, change in ((_ONE, _SOLD), (_TWO, _FILLED), (_THREE, _SOLD))
        )
        meetings: list[Programs] = [
            {"ada": (one,), "bob": (two,)},
            {"ada": (two,), "bob": (one,)},
            {"ada": (one,), "bob": (three,)},
            {"ada": (one, one), "bob": (two,)},
            {"ada": (one,), "bob": (two,), "cyd": (three,)},
            # what each adds is not what it sets; and a token that another one begins with
            {
                who: (Call("change_stock", (by, _EMPTIED)),)
                for who, by in (("ada", "a1"), ("bob", "a12"))
            },
        ]
        return st.builds(Case, self.starts, st.sampled_from(meetings))

    def recoveries(self) -> Any:
        """Who comes after a crash is alone."""
        one, two = (Call("change_stock", (token, _SOLD)) for token in (_ONE, _TWO))
        after = ("bob", two), ("ada", one), ("bob", two)
        return st.builds(lambda start: Case(start, {"ada": (one,)}, after), self.starts)

    def fault_races(self) -> Any:
        return self.races().filter(lambda case: len(case.programs) < 3)

    def write(self, start: State, redis: Any, db: Any) -> None:
        db.execute("ALTER TABLE products ADD COLUMN claimed_by TEXT")
        sql = "UPDATE products SET stock = :stock, claimed_by = :claimed_by WHERE id = 1"
        db.execute(sql, stock=start["stock"], claimed_by=start["claimed_by"])
        db.execute("UPDATE products SET stock = 7 WHERE id = 2")

    def read(self, redis: Any, db: Any) -> State:
        state = State.read(redis)
        state.update(db.fetch_one("SELECT stock, claimed_by FROM products WHERE id = 1"))
        (other,) = db.fetch_all("SELECT stock FROM products WHERE id = 2")
        if other["stock"] != 7:
            state[_OTHER] = other["stock"]
        state.lives |= dict.fromkeys(state, KEPT)
        return state

    def change_stock(
        self, state: State, token: str, compute: _Compute
    ) -> Generator[Any, Any, bool]:
        """Who meets somebody may be refused: who began, or ended, while it was at work."""
        begun, ended = state.number_at("begun") + 1, state.number_at("ended")
        state["begun"] = begun
        yield
        met = state["begun"] > begun or state.number_at("ended") > ended
        written = yield [True, False] if met else [True]
        if written:
            state["stock"] = compute(state["stock"])
        state["ended"] = state.number_at("ended") + 1
        return bool(written)
