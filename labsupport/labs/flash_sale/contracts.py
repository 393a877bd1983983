"""What the exercises of lab 16 ask for, as models: a sale in one round trip, and three parts of a shop."""

from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.errors import ImplementationError
from labsupport.exercises import Outcome
from labsupport.exercises.contract import WAIT, Call, Case, Contract
from labsupport.exercises.state import Entries, State
from labsupport.labs.flash_sale.clients import tell_trips
from labsupport.labs.flash_sale.lost_reply import asked_again
from labsupport.servers import start_server

__all__ = ["Checkout", "Parts", "check_checkout", "check_reserve"]

_CUSTOMERS = st.sampled_from(["7", "7", "8", "d'Arc o"])
_ALIKE = (
    "ada@example.com",
    "Ada@example.com",
    " ada@example.com",
    "ada@example.com ",
    "ada@example.org",
    *(f"{'ada.' * 20}{number}@example.org" for number in (1, 2)),
    *("7", "07"),
)
_MINUTE_MS, _HALF_HOUR_MS = 60_000, 1_800_000
_LIMIT = 3
_ADMIT = Call("admit", ("7",))
_HAS_A_PIECE = "True for a customer who has a piece, else False."
_ADMITS = "admit is True for the first three calls of a customer in a minute."
_RESERVES = "reserve is True for a customer who has a piece, even when asked again, else False."
_SIGNS_IN = "sign_in keeps the hash session:{token}, with the field customer, for half an hour."


def _reserve(state: State, customer: str) -> bool:
    """One piece each, while there is one; who has one is told so again."""
    buyers, left = state.set_at("buyers"), state.number_at("stock")
    if customer in buyers:
        return True
    if left < 1:
        return False
    state["stock"] = left - 1
    buyers.add(customer)
    return True


def _no_stock_is_none(found: dict[str, Any]) -> dict[str, Any]:
    """What is promised of a state, where a stock of 0 is as good as none."""
    return {key: value for key, value in found.items() if (key, value) != ("stock", "0")}


def _many(call: str) -> tuple[Call, ...]:
    return tuple(Call(call, (f"n{n}",)) for n in range(36))


def _stocked(stock: int | None, buyers: list[str]) -> State:
    return State({"buyers": set(buyers)} | ({} if stock is None else {"stock": stock}))


class Checkout(Contract):
    """16.1: the piece and the order in one step, in one round trip."""

    answer = "checkout"
    visible = ("stock", "buyers", "orders")
    faults = ("crash", "lost reply", "clocks")
    clauses: ClassVar = {
        "clock": "a process may crash, and have a wrong clock",
        "told": _HAS_A_PIECE,
        "raised": _HAS_A_PIECE,
        "stock": "Take one from the number in stock, while there is one",
        "buyers": "put the customer into the set buyers",
        "orders": "add one entry with the field customer to the stream orders",
        "left": "One each: a customer of the set gets no second one, and no second entry.",
        "at once": "Customers come at once, even the same one twice",
        "crash": "a process may crash, and have a wrong clock",
        "reply that is lost": "a reply may be lost: then the customer asks again.",
    }
    calls = st.builds(lambda who: Call("checkout", (who,)), _CUSTOMERS)

    @staticmethod
    def _start(stock: int | None, buyers: list[str]) -> State:
        state = _stocked(stock, buyers)
        state["orders"] = Entries({"customer": who} for who in sorted({*buyers}))
        return state

    starts = st.builds(
        _start,
        st.sampled_from([0, 1, 1, 2, 9, None]),
        st.lists(st.sampled_from(["7", "x"]), max_size=2),
    )
    # after a great many; the first of them asks again, too; where more were sold than there were; and
    # customers who are much alike
    rare = (
        Case(
            _start(9, [f"n{n}" for n in range(10_050)]),  # more than the usual MAXLEN
            after=tuple(("ada", Call("checkout", (who,))) for who in ("7", "n0", "n10049")),
        ),
        Case(_start(-1, ["7"]), after=(("ada", Call("checkout", ("8",))),)),
        Case(_start(9, []), after=tuple(("ada", Call("checkout", (who,))) for who in _ALIKE * 2)),
    )

    def race_starts(self) -> Any:
        return st.builds(
            self._start, st.sampled_from([1, 1, 2]), st.sampled_from([[], [], ["x"], ["7"]])
        )

    def race_calls(self) -> Any:
        return st.sampled_from([Call("checkout", ("7",)), Call("checkout", ("8",))])

    def crowd(self) -> Case:
        """There is enough for all."""
        clients = {"ada": (Call("checkout", ("7",)),), "bob": _many("checkout")}
        return Case(self._start(100, []), clients)

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """In which order two come is not said, nor which other fields an entry has."""
        found = _no_stock_is_none(super().shown(state, start))
        if "orders" in found:
            found["orders"] = sorted(one.get("customer", "no customer") for one in found["orders"])
        return found

    def checkout(self, state: State, customer: str) -> bool:
        new = customer not in state.set_at("buyers")
        told = _reserve(state, customer)
        if told and new:
            state.setdefault("orders", Entries()).append({"customer": customer})
        return told


class Parts(Contract):
    """16.2: three parts of a shop, all of which must hold."""

    answer = "shop"
    functions = ("sign_in", "admit", "reserve")
    visible = ("session:*", "stock", "buyers")
    remembers = True
    faults = ("crash", "lost reply")
    clauses: ClassVar = {
        "session:*": _SIGNS_IN,
        "told": _SIGNS_IN,
        "admit tells": _ADMITS,
        "reserve tells": _RESERVES,
        "left": "It takes one from the number in stock for each customer of the set buyers.",
        "stays": "Nothing else stays for ever.",
        "at once": "Any call may crash, or be made again, or meet others.",
        "crash": "Any call may crash, or be made again, or meet others.",
        "reply that is lost": "Any call may crash, or be made again, or meet others.",
    }
    _sign_in = st.builds(
        lambda token, who: Call("sign_in", (token, who)), st.sampled_from(["t1", "t2"]), _CUSTOMERS
    )
    _admit = st.just(_ADMIT)
    _reserve = st.builds(lambda who: Call("reserve", (who,)), _CUSTOMERS)
    calls = st.one_of(_sign_in, _admit, _admit, _reserve, _reserve, st.just(Call(WAIT, (61,))))
    starts = st.builds(
        _stocked,
        st.sampled_from([0, 1, 1, 2, None]),
        st.lists(st.sampled_from(["7", "x"]), max_size=2),
    )

    # a limiter that counts a minute from the last call, and not from the first; one for all customers;
    # one whose keys are those of the shop; a session whose half hour does not begin again
    always = (
        Case(
            _stocked(1, []),
            after=(
                *(("ada", call) for _ in "12" for call in (_ADMIT, Call(WAIT, (31,)))),
                *(("ada", _ADMIT) for _ in "12"),
            ),
        ),
        Case(
            _stocked(1, []),
            after=(
                *(("ada", _ADMIT) for _ in "123"),
                *(("bob", Call("admit", (who,))) for who in ("8", "stock", "buyers")),
                ("ada", _ADMIT),
                ("ada", Call("reserve", ("7",))),
            ),
        ),
        Case(
            _stocked(1, []),
            after=(
                ("ada", Call("sign_in", ("t1", "7"))),
                ("ada", Call(WAIT, (61,))),
                ("bob", Call("sign_in", ("t1", "8"))),
                ("bob", Call("sign_in", ("T1", "9"))),
            ),
        ),
    )
    # more were sold than there were; or customers or tokens are much alike; or it is a minute, no second
    # less or more, whoever knocks meanwhile
    rare = (
        Case(_stocked(-1, ["7"]), after=(("ada", Call("reserve", ("8",))),)),
        Case(
            _stocked(9, []),
            after=tuple(
                ("ada", Call(call, (who,)))
                for call in ("admit", "admit", "admit", "reserve")
                for who in _ALIKE
            ),
        ),
        Case(
            _stocked(1, []),
            after=tuple(("ada", Call("sign_in", (token, "7"))) for token in _ALIKE),
        ),
        *(
            Case(
                _stocked(1, []),
                after=(
                    *(("ada", _ADMIT) for _ in "123"),
                    *(("ada", call) for call in (Call(WAIT, (30,)), _ADMIT)),
                    *(("ada", call) for call in (Call(WAIT, (seconds - 30,)), _ADMIT)),
                ),
            )
            for seconds in (59.5, 60.5)
        ),
    )

    def race_starts(self) -> Any:
        return st.builds(_stocked, st.sampled_from([1, 1, 2]), st.sampled_from([[], ["x"], ["7"]]))

    def race_calls(self) -> Any:
        return st.sampled_from(
            [Call("reserve", ("7",)), Call("reserve", ("8",)), _ADMIT,
             Call("sign_in", ("t1", "7"))]
        )  # fmt: skip

    def races(self) -> Any:
        """Or two who knock twice each, at one door."""
        four = st.just(Case(_stocked(1, []), dict.fromkeys(("ada", "bob"), (_ADMIT, _ADMIT))))
        return st.one_of(super().races(), four)

    def crowd(self) -> Case:
        """There is enough for all."""
        clients = {"ada": (Call("reserve", ("7",)),), "bob": _many("reserve")}
        return Case(_stocked(100, []), clients)

    def recoveries(self) -> Any:
        """Whoever asks again after a lost reply has knocked twice: that is no fault of the door's."""
        return super().recoveries().filter(lambda case: case.after[0][1].name != "admit")

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """In the stock 0 and none are the same."""
        return _no_stock_is_none(super().shown(state, start))

    def sign_in(self, state: State, token: str, customer: str) -> None:
        state.keep(f"session:{token}", {"customer": customer}, _HALF_HOUR_MS)

    def admit(self, state: State, customer: str) -> bool:
        calls = state.number_at(f"calls:{customer}") + 1
        if calls == 1:
            state.keep(f"calls:{customer}", calls, _MINUTE_MS)
        state[f"calls:{customer}"] = calls
        return calls <= _LIMIT

    def reserve(self, state: State, customer: str) -> bool:
        return _reserve(state, customer)


def check_checkout(answer: Callable[..., Any]) -> Outcome:
    """What the model does not see: the round trips, and a client that does not try again."""
    found = _in_one_trip(answer)
    return asked_again(answer, _HAS_A_PIECE.rstrip(".")) if found.passed else found


def check_reserve(answer: Callable[..., Any]) -> Outcome:
    """What the model does not see: a client that does not try again."""
    return asked_again(answer()[2], _RESERVES.rstrip("."))


def _in_one_trip(answer: Callable[..., Any]) -> Outcome:
    """Count what an answer sends to a real server, once it has been called before."""
    sent: list[str] = []
    with start_server() as server, server.client() as redis:
        tell_trips(redis, lambda: sent.append("a round trip"))
        redis.ping()
        redis.set("stock", 2)
        for customer, case in (
            ("7", ""),  # the very first call may load a script
            ("8", "buys"),
            ("7", "has a piece already"),
            ("9", "comes too late"),
        ):
            sent.clear()
            try:
                answer(redis, customer)
            except Exception as error:
                raise ImplementationError("checkout", error) from error
            if case and len(sent) > 1:
                trips = f"{len(sent)} round trips"
                reason = f"A customer who {case}: {trips}, where one is allowed."
                return Outcome(False, reason, trips)
    return Outcome(True, "one round trip for each call.", sent)
