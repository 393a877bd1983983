"""Time in a case: it passes when the case says so, and nobody has to wait for it."""

from typing import ClassVar

import pytest
from hypothesis import strategies as st

from labsupport.exercises.contract import WAIT, Call, Contract
from labsupport.exercises.judge import judged_by
from labsupport.exercises.state import State


class Once(Contract):
    """A visitor is new once a minute."""

    answer = "is_new"
    visible = ()
    remembers = True
    clauses: ClassVar = {"told": "new once a minute", "stays": "stays", "waits": "waits"}
    calls = st.one_of(st.just(Call("is_new")), st.just(Call(WAIT, (31,))))
    starts = st.just(State())

    def race_calls(self):
        return st.just(Call("is_new"))

    def is_new(self, state: State) -> bool:
        new = "seen" not in state
        if new:
            state.keep("seen", "1", 60_000)
        return new


@pytest.mark.long
def test_a_minute_is_a_minute():
    """The model forgets when the key expires."""
    found = judged_by(Once())(lambda redis: bool(redis.set("visitor", 1, nx=True, ex=60)))
    assert found.passed, found.reason


def test_forgets_too_early():
    """The smallest case has the wait in it."""
    found = judged_by(Once())(lambda redis: bool(redis.set("visitor", 1, nx=True, ex=30)))
    assert not found.passed
    assert "wait(31)" in str(found)


@pytest.mark.long
def test_nobody_waits():
    """Where a clause forbids to wait for somebody else, a lock is found out by the clock."""
    import time

    def is_new(redis):
        while not redis.set("lock", 1, nx=True, px=100):
            time.sleep(0.01)
        new = bool(redis.set("visitor", 1, nx=True, ex=60))
        redis.delete("lock")
        return new

    found = judged_by(Once())(is_new)
    assert "waited for somebody else" in found.reason
