"""What the exercises of lab 00 ask for, as models: a count, a transfer, a sale."""

from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import ME, Call, Case, Contract
from labsupport.exercises.matching import ANYTHING
from labsupport.exercises.state import State

__all__ = ["Buy", "CountVisit", "MoveCredit"]

_ANY_TIME = "each may pause for any time, or crash"
_ALIKE = ("ada", "Ada", " ada\n", *(f"{'/ada' * 70}/{n}" for n in (1, 2)))


def _without_zeros(found: dict[str, Any]) -> dict[str, Any]:
    """A number that is 0 and one that is not there are the same."""
    return {key: value for key, value in found.items() if value != "0"}


class CountVisit(Contract):
    """00.1: every visit counts, and has a number of its own."""

    answer = "count_visit"
    visible = ("visits:*",)
    faults = ("crash", "pause")
    clients = ("ada", "bob", "cyd")
    clauses: ClassVar = {
        "told": "return its number: 1 for the first visitor",
        "left": "Count one visit in visits:{page}",
        "lives": "The count stays for ever",
        "at once": "Visitors come at once",
        "crash": _ANY_TIME,
        "pause": _ANY_TIME,
    }
    _pages = st.sampled_from(["home", "d'Arc", "0", 7])
    calls = st.builds(Call, st.just("count_visit"), st.tuples(_pages))
    starts = st.dictionaries(
        st.sampled_from(["visits:home", "visits:0", "visits:7"]), st.sampled_from([9, 41, 99])
    ).map(State)
    rare = (  # what a float still holds, and 14 digits don't; and pages that are much alike
        Case(State({"visits:home": 2**53 - 2}), after=(("ada", Call("count_visit", ("home",))),)),
        Case(State(), after=tuple(("ada", Call("count_visit", (page,))) for page in _ALIKE)),
    )

    def race_starts(self) -> Any:
        return st.sampled_from([State(), State({"visits:home": 9})])

    def race_calls(self) -> Any:
        return st.just(Call("count_visit", ("home",)))

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """A visitor who has crashed may leave a count of 0."""
        return _without_zeros(state.settled(self.visible))

    def count_visit(self, state: State, page: Any) -> int:
        number = state.number_at(f"visits:{page}") + 1
        state[f"visits:{page}"] = number
        return number


class MoveCredit(Contract):
    """00.2: no cent is lost or made."""

    answer = "move_credit"
    visible = ("credit:*",)
    faults = ("crash", "pause")
    clients = ("ada", "bob", "cyd")
    clauses: ClassVar = {
        "left": "Move cents from credit:{giver} to credit:{receiver}",
        "lives": "No credit expires",
        "at once": "Transfers come at once",
        "crash": _ANY_TIME,
        "pause": _ANY_TIME,
    }
    _names = st.sampled_from(["ada", "bob", "cyd"])
    calls = st.builds(
        Call, st.just("move_credit"), st.tuples(_names, _names, st.sampled_from([1, 200, 1500]))
    )
    starts = st.fixed_dictionaries(
        {"credit:ada": st.sampled_from([1000, 99])},
        optional={"credit:bob": st.sampled_from([500, 0])},
    ).map(State)

    rare = (  # what a float still holds to the cent, and 14 digits don't
        Case(
            State({"credit:ada": 9_007_199_254_740_931, "credit:bob": 100_000_000_000_000}),
            after=(("ada", Call("move_credit", ("ada", "bob", 1))),),
        ),
        Case(  # and who is much alike; and much at once
            State({}),
            after=tuple(("ada", Call("move_credit", ("bob", who, 10**10))) for who in _ALIKE),
        ),
    )

    def shown(self, state: State, start: State) -> dict[str, Any]:
        return _without_zeros(state.settled(self.visible))

    def move_credit(self, state: State, giver: str, receiver: str, cents: int) -> Any:
        state[f"credit:{giver}"] = state.number_at(f"credit:{giver}") - cents
        state[f"credit:{receiver}"] = state.number_at(f"credit:{receiver}") + cents
        return ANYTHING


class Buy(Contract):
    """00.3: each piece has one buyer, and each reply is true."""

    answer = "buy"
    visible = ("stock:*", "buyers:*")
    faults = ("crash", "pause")
    clients = ("ada", "bob", "cyd")
    clauses: ClassVar = {
        "told": "Return True, or False when there is none left; then nothing changes.",
        "left": "Take one from stock:{product} and add the customer to the list buyers:{product}. "
        "Return True, or False when there is none left; then nothing changes.",
        "lives": "Stock and buyers stay for ever",
        "at once": "customers come at once",
        "crash": _ANY_TIME,
        "pause": _ANY_TIME,
    }
    _products = st.sampled_from([7, "tea"])
    calls = st.builds(
        Call, st.just("buy"), st.tuples(_products, st.sampled_from([ME, "0", "d'Arc", '"x"']))
    )
    starts = st.fixed_dictionaries(
        {},
        optional={
            "stock:7": st.sampled_from([0, 1, 2, 10]),
            "stock:tea": st.sampled_from([1, 0]),
            "buyers:7": st.sampled_from([["zoe"], ["ada"]]),
        },
    ).map(State)

    def race_starts(self) -> Any:
        """There is one, or enough for two, or for all."""
        return st.sampled_from([1, 2, 10]).map(lambda stock: State({"stock:7": stock}))

    rare = (  # after a great many; where the stub has sold what was not there; and who is much alike
        Case(
            State({"stock:7": 10, "buyers:7": [f"n{n}" for n in range(10_050)]}),
            after=(("ada", Call("buy", (7, ME))),),
        ),
        Case(State({"stock:7": -1}), after=(("ada", Call("buy", (7, ME))),)),
        Case(State({"stock:7": 9}), after=tuple(("ada", Call("buy", (7, who))) for who in _ALIKE)),
    )

    def race_calls(self) -> Any:
        return st.just(Call("buy", (7, ME)))

    def crowd(self) -> Case:
        """There is enough for all."""
        one = (Call("buy", (7, ME)),)
        return Case(State({"stock:7": 1_000}), {"ada": one, "bob": one})

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """At which end a customer is added is not said."""
        found = state.settled(self.visible)
        return {key: sorted(v) if isinstance(v, list) else v for key, v in found.items()}

    def buy(self, state: State, product: Any, customer: str) -> bool:
        if state.number_at(f"stock:{product}") < 1:
            return False
        state[f"stock:{product}"] = state.number_at(f"stock:{product}") - 1
        state.list_at(f"buyers:{product}").append(customer)
        return True
