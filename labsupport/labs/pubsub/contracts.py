"""What exercises 09.1 and 09.2 ask for, as models: a copy that follows, one e-mail for all."""

from collections.abc import Generator
from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import WAIT, Argument, Call, Case, Contract, Functions
from labsupport.exercises.matching import ANYTHING
from labsupport.exercises.state import State

__all__ = ["Confirm", "Follow"]

# The publisher. KEYS: stock, version, what is on its way; ARGV: product, change.
_PUBLISH = """
redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2])
return redis.call('RPUSH', KEYS[3], redis.call('INCR', KEYS[2]) .. '|' .. ARGV[1] .. '|' .. ARGV[2])
"""


class _Message(Argument):
    """The next message that is on its way."""

    def __repr__(self) -> str:
        return "version, stock, message"


class _Confirmation(Argument):
    """The subscription was confirmed."""

    def __repr__(self) -> str:
        return "version, stock, None"


class _Counted:
    """A client that counts how often it is used."""

    def __init__(self, redis: Any) -> None:
        self.commands = 0
        self._redis = redis

    def __getattr__(self, name: str) -> Any:
        self.commands += 1
        return getattr(self._redis, name)


_HEAR, _CONFIRMED = Call("follow", (_Message(),)), Call("follow", (_Confirmation(),))


class Follow(Contract):
    """09.1: a subscriber's copy is right, and notices what it has missed.

    What is on its way is a list: it keeps the order of the messages, and some never come.
    """

    answer = "follow"
    visible = ("version", "stock")
    faults = ()
    clauses: ClassVar = {
        "told": "The copy is always the stock as it was at its version, which is never below that of "
        "the message. Redis is asked only if something was missed.",
        "at once": "The copy is always the stock as it was at its version",
        "left": "The publisher changes the hash stock",
    }
    others: ClassVar = {
        "publish": lambda redis, *change: redis.eval(
            _PUBLISH, 3, "stock", "version", "on its way", *change
        ),
        "lose": lambda redis: redis.lpop("on its way"),
    }
    _products = st.sampled_from(["kettle", "kettle", "teapot", "d'Arc", "0"])
    _change = st.tuples(_products, st.sampled_from([-1, 2, -3, 5, 12, 0]))
    calls = st.one_of(
        st.just(_HEAR),
        st.just(_HEAR),
        st.just(_CONFIRMED),
        st.builds(Call, st.just("publish"), _change),
        st.just(Call("lose")),
    )

    def __init__(self) -> None:
        self._copy: tuple[int, dict[str, int]] = 0, {}

    @staticmethod
    def _start(first: int, at: int, changes: list[tuple[tuple[str, int], bool]]) -> State:
        """The copy has one version, Redis another, and some messages are on their way."""
        stock: dict[str, int] = {"kettle": 10} if first else {}
        copy = first, dict(stock)
        coming = []
        for number, ((product, change), comes) in enumerate(changes, first + 1):
            stock[product] = stock.get(product, 0) + change
            coming += [f"{number}|{product}|{change}"] * comes
            if number <= first + at:
                copy = number, dict(stock)
        now = first + len(changes)
        return State({"version": now, "stock": stock, "on its way": coming, "the copy": copy})

    rare = (  # nothing was published yet
        Case(
            State({"the copy": (0, {}), "on its way": []}),
            after=tuple(
                ("ada", call)
                for call in (_CONFIRMED, Call("publish", ("kettle", 5)), _HEAR, _CONFIRMED)
            ),
        ),
        Case(  # more products than one page of a scan
            State(
                {
                    "version": 9,
                    "stock": {f"product {number}": number for number in range(2_500)},
                    "the copy": (8, {}),
                    "on its way": [],
                }
            ),
            after=(("ada", _CONFIRMED),),
        ),
        Case(  # more pieces than a float can count
            State(
                {
                    "version": 9,
                    "stock": {"grains": 2**53 + 1},
                    "the copy": (8, {}),
                    "on its way": [],
                }
            ),
            after=(("ada", _CONFIRMED),),
        ),
    )
    starts = st.builds(
        _start,
        st.sampled_from([0, 8, 41]),
        st.sampled_from([0, 0, 1, 3]),
        st.lists(st.tuples(_change, st.sampled_from([True, True, False])), max_size=4),
    )

    def sequences(self) -> Any:
        turns = st.tuples(st.just("ada"), self.calls)
        return st.builds(
            Case, self.starts, after=st.lists(turns, min_size=1, max_size=5).map(tuple)
        )

    def races(self) -> Any:
        """The publisher goes on while a gap is closed, or the first copy is made."""
        hears = st.sampled_from([(_HEAR, _HEAR), (_CONFIRMED, _HEAR), (_CONFIRMED,)])
        publishes = st.lists(
            st.builds(Call, st.just("publish"), self._change), min_size=1, max_size=2
        )
        missed = st.lists(self._change, min_size=1, max_size=2).map(
            lambda changes: [(one, n + 1 == len(changes)) for n, one in enumerate(changes)]
        )
        start = st.builds(self._start, st.sampled_from([0, 8]), st.just(0), missed)
        return st.builds(
            lambda start, hears, publishes: Case(start, {"ada": hears, "bob": tuple(publishes)}),
            start, hears, publishes,
        )  # fmt: skip

    def crowd(self) -> Case:
        """A change comes again and again while the first copy is made."""
        start = self._start(8, 0, [(("kettle", 2), False)])
        return Case(start, {"ada": (_CONFIRMED,), "bob": (Call("publish", ("kettle", 5)),)})

    def write(self, start: State, redis: Any, db: Any) -> None:
        self._copy = start["the copy"]
        State({key: one for key, one in start.items() if key != "the copy"}).write(redis)

    def ask(self, functions: Functions, redis: Any, db: Any, who: str, call: Call) -> Any:
        if call.name != "follow":
            return super().ask(functions, redis, db, who, call)
        message = None
        if call == _HEAR:
            text = redis.lpop("on its way")
            if text is None:
                return "no message"
            number, product, change = text.split("|")
            message = int(number), product, int(change)
        else:
            redis.delete("on its way")  # what was sent before does not reach a new subscription
        version, stock = self._copy
        asked = _Counted(redis)
        told = functions["follow"](asked, version, dict(stock), message)
        if isinstance(told, tuple) and len(told) == 2 and isinstance(told[1], dict):
            self._copy = told[0], dict(told[1])
        in_vain = asked.commands and message is not None and message[0] <= version + 1
        return "an answer for which Redis was asked in vain" if in_vain else told

    def follow(self, state: State, message: Any) -> Generator[Any, Any, Any]:
        if isinstance(message, _Message):
            if not state["on its way"]:
                return "no message"
            text, product, change = state["on its way"].pop(0).split("|")
            number, (version, stock) = int(text), state["the copy"]
            if number <= version:
                return version, dict(stock)
            if number == version + 1:
                state["the copy"] = (
                    number, {**stock, product: stock.get(product, 0) + int(change)},
                )  # fmt: skip
                return state["the copy"]
        else:
            state["on its way"] = []
        yield  # others may come before Redis is asked
        state["the copy"] = int(state.get("version", 0)), dict(state.hash_at("stock"))
        return state["the copy"]

    def publish(self, state: State, product: str, change: int) -> None:
        version, stock = int(state.get("version", 0)) + 1, state.hash_at("stock")
        state["version"] = version
        stock[product] = stock.get(product, 0) + change
        state["on its way"].append(f"{version}|{product}|{change}")

    def lose(self, state: State) -> None:
        del state["on its way"][:1]


class Confirm(Contract):
    """09.2: one e-mail for an order, whoever calls."""

    answer = "confirm"
    visible = ("emails",)
    faults = ("crash", "pause")
    clients = ("ada", "bob", "cyd")
    clauses: ClassVar = {
        "left": "Queue one confirmation of `order`: one entry of the stream emails, with the field "
        '"order".',
        "lives": "when another one then calls, there is exactly one entry for the order",
        "at once": "it is called several times for one order, even at once",
        "pause": "it is called several times for one order, even at once",
        "crash": "A caller may crash at any step; when another one then calls, there is exactly one "
        "entry for the order.",
    }
    _orders = st.sampled_from(["42", "42", "7", "142", "0", "d'Arc 1"])
    _confirm = st.builds(Call, st.just("confirm"), st.tuples(_orders))
    calls = st.one_of(_confirm, _confirm, _confirm, st.just(Call(WAIT, (8_640_000,))))
    starts = st.just(State())
    others: ClassVar = {
        "others_order": lambda redis, count: redis.eval(
            "for n = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'order', 'n' .. n) end",
            1, "emails", count,
        ),
    }  # fmt: skip
    _one = Call("confirm", ("42",))
    rare = (  # however many wait to be sent
        Case(
            State(),
            after=tuple(
                ("ada", call)
                for call in (
                    _one,
                    Call("others_order", (1_500,)),
                    _one,
                    Call("confirm", ("7",)),
                )
            ),
        ),
    )

    def races(self) -> Any:
        """Two or three callers for one order; or one of them for another order."""
        one, other = (Call("confirm", (order,)) for order in ("42", "7"))
        meetings = [(one, one), (one, other), (other, one), (one, one, one)]
        return st.sampled_from(meetings).map(
            lambda calls: Case(
                State(), {who: (c,) for who, c in zip(self.clients, calls, strict=False)}
            )
        )

    def crowd(self) -> Case:
        """Others confirm other orders meanwhile."""
        others = tuple(Call("confirm", (f"n{number}",)) for number in range(36))
        return Case(State(), {"ada": (self._one,), "bob": others})

    def fault_races(self) -> Any:
        return self.races().filter(lambda case: len(case.programs) == 2)

    def race_calls(self) -> Any:
        return st.just(Call("confirm", ("42",)))

    def write(self, start: State, redis: Any, db: Any) -> None:
        State({k: v for k, v in start.items() if k != "emails"}, start.lives).write(redis)
        for entry, fields in start.get("emails", ()):
            redis.xadd("emails", fields, id=entry)

    def read(self, redis: Any, db: Any) -> State:
        state = State.read(redis)
        if "emails" in state:
            state["emails"] = [[*entry] for entry in redis.xrange("emails")]
        return state

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """The orders that have an entry; at what place is not said."""
        orders = [fields.get("order", "no order") for _, fields in state.get("emails", ())]
        return {"the orders in emails": sorted(orders)}

    def others_order(self, state: State, count: int) -> None:
        state.list_at("emails").extend([0, {"order": f"n{n}"}] for n in range(1, count + 1))

    def confirm(self, state: State, order: str) -> Any:
        entries = state.list_at("emails")
        if [0, {"order": order}] not in entries:
            entries.append([0, {"order": order}])
        return ANYTHING
