"""What exercise 12.3 asks for, as a model: signing in while an account changes."""

from collections.abc import Generator
from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import WAIT, Call, Case, Contract
from labsupport.exercises.matching import ANYTHING
from labsupport.exercises.state import State

__all__ = ["Accounts"]

_HOUR_MS = 3_600_000
_ADA, _NEW, _BOB, _ALAN = (
    "ada@example.com",
    "ada@new.example",
    "bob@example.com",
    "alan@example.com",
)


class Accounts(Contract):
    """12.3: who came by a link to an old address does not stay."""

    answer = "accounts"
    functions = ("sign_in", "change_email")
    takes = ("redis", "db")
    visible = ("session:*", "emails")
    remembers = True
    effort = 0.6
    faults = ("crash", "stall")
    too_late: ClassVar = {"sign_in": False}
    clauses: ClassVar = {
        "told": "sign_in returns True, and session:{session} holds the user's id for an hour, if email "
        "is the user's; else False. The user is there; while change_email is under way, or after a "
        "minute, anybody may be told False.",
        "lives": "session:{session} holds the user's id for an hour",
        "emails": "change_email sets the email",
        "session:*": "session:{session} holds the user's id for an hour, if email is the user's; else "
        "False. The user is there; while change_email is under way, or after a minute, anybody may be "
        "told False. change_email sets the email, then ends the user's sessions",
        "at once": "Once both are done, or sign_in has crashed, no session exists that began with "
        "another address.",
        "crash": "Once both are done, or sign_in has crashed, no session exists that began with "
        "another address.",
    }
    starts = st.just(State({"emails": {"1": _ADA, "2": _ALAN}}))
    _sign_in = st.builds(
        lambda who: Call("sign_in", (*who, "session")),
        st.sampled_from([(1, _ADA), (1, _ADA), (1, _NEW), (1, _BOB), (2, _ALAN)]),
    )
    _change = st.builds(
        Call, st.just("change_email"), st.sampled_from([(1, _NEW), (1, _NEW), (1, _ADA), (2, _NEW)])
    )
    calls = st.one_of(_sign_in, _sign_in, _change, st.just(Call(WAIT, (1_801,))))
    rare = (
        *(  # an address that is like the user's is another
            Case(
                State({"emails": {"1": _ADA, "2": _ALAN}}),
                after=(("ada", Call("sign_in", (1, email, "s1"))),),
            )
            for email in (_ADA.capitalize(), f"{_ADA} ")
        ),
        Case(  # who signs in again has an hour again
            State({"emails": {"1": _ADA, "2": _ALAN}}),
            after=tuple(
                ("ada", call)
                for call in (
                    Call("sign_in", (1, _ADA, "s1")),
                    Call(WAIT, (1_801,)),
                    Call("sign_in", (1, _ADA, "s1")),
                )
            ),
        ),
    )

    def sequences(self) -> Any:
        """Each session has a name of its own; now and then the second is older than the first."""
        right, wait = Call("sign_in", (1, _ADA, "")), Call(WAIT, (1_801,))
        late = [right, wait, right, wait, Call("change_email", (1, _NEW))]
        some = st.lists(self.calls, min_size=1, max_size=7)
        cases = st.integers(0, 9).flatmap(lambda n: some if n else st.just(late))
        return st.builds(lambda start, calls: Case(start, after=_named(calls)), self.starts, cases)

    def races(self) -> Any:
        change = Call("change_email", (1, _NEW))
        before = st.sampled_from([(), (Call("sign_in", (1, _ADA, "before")),)])
        email, other = (
            st.sampled_from([_ADA, _ADA, _NEW]),
            st.just(Call("sign_in", (1, _ADA, "eve"))),
        )
        back = (Call("sign_in", (1, _NEW, "ada")),), (change, Call("change_email", (1, _ADA)))
        back_again = self.starts.map(
            lambda start: Case(start, dict(zip(("ada", "bob"), back, strict=True)))
        )
        once = st.builds(
            lambda start, email, first, more: Case(
                start,
                {
                    "ada": (Call("sign_in", (1, email, "ada")),),
                    "bob": (*first, change),
                    **({"eve": (more,)} if more else {}),
                },
            ),
            self.starts, email, before, st.one_of(st.none(), st.none(), other),
        )  # fmt: skip
        return st.one_of(once, once, back_again)

    def recoveries(self) -> Any:
        """A sign-in that crashes, and the address changes."""
        one, again = (Call("sign_in", (1, _ADA, name)) for name in ("ada", "bob"))
        after = ("bob", again), ("bob", Call("change_email", (1, _NEW))), ("ada", one)
        return self.starts.map(lambda start: Case(start, {"ada": (one,)}, after))

    def write(self, start: State, redis: Any, db: Any) -> None:
        """The addresses are in the database, unless a crash has left others."""
        State({key: one for key, one in start.items() if key != "emails"}, start.lives).write(redis)

    def read(self, redis: Any, db: Any) -> State:
        state = State.read(redis)
        rows = db.fetch_all("SELECT id, email FROM users WHERE id <= 2 ORDER BY id")
        state.keep("emails", {str(row["id"]): row["email"] for row in rows})
        return state

    def sign_in(self, state: State, user_id: int, email: str, session: str) -> bool:
        if state["emails"][str(user_id)] != email:
            return False
        state.keep(f"session:{session}", str(user_id), _HOUR_MS)
        return True

    def change_email(self, state: State, user_id: int, email: str) -> Generator[Any, Any, Any]:
        state["emails"][str(user_id)] = email
        yield
        for key in [key for key in state if key.startswith("session:")]:
            if state[key] == str(user_id):
                state.remove(key)
        return ANYTHING


def _named(calls: list[Call]) -> tuple[tuple[str, Call], ...]:
    return tuple(
        ("ada", Call(one.name, (*one.args[:2], f"s{n}")) if one.name == "sign_in" else one)
        for n, one in enumerate(calls, 1)
    )
