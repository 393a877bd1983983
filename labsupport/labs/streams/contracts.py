"""What an exercise of lab 11 asks for, as a model: an effect that happens once."""

import math
from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import Call, Contract
from labsupport.exercises.matching import Between
from labsupport.exercises.state import KEPT, State

__all__ = ["Credit"]

_DAY_SECONDS = 86_400
_SLACK_SECONDS = 100  # for a busy machine


# Lets six hours pass for all keys that have a TTL. KEYS: none.
_SIX_HOURS = """
for _, key in ipairs(redis.call('KEYS', '*')) do
  local ms = redis.call('PTTL', key)
  if ms > 0 then redis.call('PEXPIRE', key, math.max(1000, ms - 21600000)) end
end
"""
_SIX_HOURS_SECONDS = 21_600


class Credit(Contract):
    """11.3: each entry counts once."""

    answer = "credit"
    visible = ("balance:*",)
    remembers = True
    clauses: ClassVar = {
        "told": "Add amount to the number in balance:{account}, once for each entry; return the balance.",
        "stays": "no key but the balances stays for ever",
        "lives": "no key but the balances stays for ever",
        "how long an entry is remembered, in s": "What is remembered of an entry may be forgotten "
        "after a day",
        "at once": "perhaps while the first one still works on it",
        "crash": "It counts once, whoever is killed at whatever moment.",
    }
    others: ClassVar = {"six_hours_pass": lambda redis: redis.eval(_SIX_HOURS, 0)}
    _credit = st.builds(
        lambda entry, account, amount: Call("credit", (entry, account, amount)),
        st.sampled_from(["1-0", "1-1", "11-0"]),
        st.sampled_from(["ada", "ada", "d'Arc"]),
        st.sampled_from([5, 30, -2, 0]),
    )
    calls = st.one_of(_credit, _credit, _credit, st.just(Call("six_hours_pass")))
    starts = st.dictionaries(
        st.sampled_from(["balance:ada", "balance:d'Arc"]), st.sampled_from([9, 70])
    ).map(State)

    def sequences(self) -> Any:
        """An entry always has the same account and amount."""
        return super().sequences().map(_consistent)

    def race_calls(self) -> Any:
        return st.sampled_from(
            [Call("credit", ("1-0", "ada", 5)), Call("credit", ("1-1", "ada", 30))]
        )

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """A balance of 0 and none are the same."""
        found = {k: v for k, v in state.settled(self.visible).items() if v != "0"}
        least = "how long an entry is remembered, in s"
        if not state.at:
            found[least] = Between(max(0, state.get("remembered", 0) - _SLACK_SECONDS), math.inf)
            return found
        others = state.settled(self.visible, within=False)
        lives = [state.lives[key] for key in others]
        found[least] = max(
            (math.inf if ms is KEPT else math.ceil(ms / 1000) for ms in lives), default=0
        )
        return found

    def credit(self, state: State, entry: str, account: str, amount: int) -> int:
        if entry not in state.set_at("credited"):
            state.set_at("credited").add(entry)
            state["remembered"] = _DAY_SECONDS
            state[f"balance:{account}"] = state.number_at(f"balance:{account}") + amount
        return state.number_at(f"balance:{account}")

    def six_hours_pass(self, state: State) -> None:
        """At most three times: an entry is not yet forgotten."""
        state["remembered"] = state.get("remembered", 0) - _SIX_HOURS_SECONDS


def _consistent(case: Any) -> Any:
    seen: dict[str, Call] = {}
    after = tuple((who, seen.setdefault(str(call.args[:1]), call)) for who, call in case.after)
    return type(case)(case.start, case.programs, after)
