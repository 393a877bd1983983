"""What an exercise of lab 11 asks for, as a model: an effect that happens once."""

from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import WAIT, Call, Case, Contract
from labsupport.exercises.state import State

__all__ = ["Credit"]


class Credit(Contract):
    """11.3: each entry counts once."""

    answer = "credit"
    visible = ("balance:ada", "balance:d'Arc")  # a mark may be called balance:ada:1-0
    remembers = True
    faults = ("crash", "stall")
    clauses: ClassVar = {
        "told": "Add amount to the number in balance:{account}, once for each entry; return the balance.",
        "stays": "no key but the balances stays for ever",
        "lives": "no key but the balances stays for ever",
        "at once": "perhaps while the first one still works on it",
        "crash": "It counts once, no matter who is killed when.",
    }
    _credit = st.builds(
        lambda entry, account, amount: Call("credit", (entry, account, amount)),
        st.sampled_from(["1-0", "1-1", "11-0"]),
        st.sampled_from(["ada", "ada", "d'Arc"]),
        st.sampled_from([5, 30, -2, 0]),
    )
    calls = st.one_of(_credit, _credit, _credit, st.just(Call(WAIT, (43_000,))))  # twice: no day
    starts = st.dictionaries(
        st.sampled_from(["balance:ada", "balance:d'Arc"]), st.sampled_from([9, 70])
    ).map(State)

    always = (
        Case(State(), after=(("ada", Call("credit", ("1-0", "ada", 5))),) * 2),
        Case(  # the balance is that of now
            State(),
            after=tuple(
                ("ada", Call("credit", (entry, "ada", amount)))
                for entry, amount in (("1-0", 5), ("1-1", 30), ("1-0", 5))
            ),
        ),
        Case(  # what is remembered of an entry lasts for a day from that entry on
            State(),
            after=tuple(
                ("ada", call)
                for call in (
                    Call("credit", ("1-0", "ada", 5)),
                    Call(WAIT, (80_000,)),
                    Call("credit", ("1-1", "ada", 5)),
                    Call(WAIT, (43_000,)),
                    Call("credit", ("1-1", "ada", 5)),
                )
            ),
            about="What is remembered of an entry may be forgotten after a day",
        ),
    )

    rare = (
        Case(  # entries that are alike are not the same
            State(),
            after=tuple(
                ("ada", Call("credit", (entry, "ada", amount)))
                for entry, amount in (("1-1", 5), ("1-10", 30), ("11-0", 9))
            ),
        ),
    )

    def sequences(self) -> Any:
        """An entry always has the same account and amount."""
        return super().sequences().map(_consistent)

    def race_calls(self) -> Any:
        return st.sampled_from(
            [Call("credit", ("1-0", "ada", 5)), Call("credit", ("1-1", "ada", 30))]
        )

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """A balance of 0 and none are the same."""
        return {k: v for k, v in state.settled(self.visible).items() if v != "0"}

    def credit(self, state: State, entry: str, account: str, amount: int) -> int:
        if entry not in state.set_at("credited"):
            state.set_at("credited").add(entry)
            state[f"balance:{account}"] = state.number_at(f"balance:{account}") + amount
        return state.number_at(f"balance:{account}")


def _consistent(case: Any) -> Any:
    seen: dict[str, Call] = {}
    after = tuple((who, seen.setdefault(str(call.args[:1]), call)) for who, call in case.after)
    return type(case)(case.start, case.programs, after)
