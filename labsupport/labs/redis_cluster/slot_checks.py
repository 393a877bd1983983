"""What exercise 14.1 asks for: as a model, for one server, and then on a cluster."""

from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import strategies as st
from redis.exceptions import RedisClusterException, RedisError

from labsupport.errors import ImplementationError
from labsupport.exercises import Outcome
from labsupport.exercises.contract import WAIT, Call, Case, Contract
from labsupport.exercises.state import State
from labsupport.exercises.trials import MANY
from labsupport.labs.redis_cluster.cluster_of_checks import cluster_for_commands
from labsupport.servers import start_server

__all__ = ["Reserve", "for_many"]

_PRODUCTS = ("kettle", "lamp", "chair", "d'Arc", "mug", "rug")
# whoever is a part of another, or has what a key, a list, a pattern or a script may be cut at
_USERS = (
    *("adam", "ada", "Ada", "ada ", "stock", "reserved", "kettle", "7", "07", "7.0", "é"),
    *("{ada}", "a{b}c", "}{", "%a+", "a*", "[ad]a", "d'Arc", 'the "boss"', "a\n"),
    *("p,q:r|s;t u/v-w", *"pqrstuvw"),
)
# who is another's look-alike, until the end of a name, or to a checksum
_LOOK_ALIKES = (
    *("", " ", "0", "Jos", "Jos\u00e9", "Jose\u0301", "jos\u00e9", "STRASSE", "stra\u00dfe"),
    *(f"{'Ada of the Long Name, ' * 15}{number}" for number in (1, 2)),
    *("plumless", "buckeroo", "aca", "bab"),  # the same CRC-32, and the same Adler-32
)
_TEN_YEARS = 315_360_000
_TOLD = "False when none is left, or when the user has reserved a piece of this product before."


def _asked(product: str, *users: str) -> tuple[tuple[str, Call], ...]:
    return tuple(("ada", Call("reserve", (product, user))) for user in users)


class Reserve(Contract):
    """14.1: a piece is taken once for each user, while there is one."""

    answer = "reserve"
    visible = tuple(f"stock:{{{product}}}" for product in _PRODUCTS)
    remembers = True
    clauses: ClassVar = {
        "told": _TOLD,
        "raised": _TOLD,
        "left": "Reserving takes one from it.",
        "at once": "Many users reserve at once",
        "crash": "a process may crash; then the user asks again",
    }
    others: ClassVar = {"restock": lambda redis: redis.set("stock:{kettle}", 1)}
    _calls = st.builds(
        lambda product, user: Call("reserve", (product, user)),
        st.sampled_from(["kettle", "kettle", "lamp"]),
        st.sampled_from(["ada", "bob"]),
    )
    calls = st.one_of(_calls, _calls, st.just(Call("restock")))

    @staticmethod
    def _start(kettles: int | None, lamps: int | None) -> State:
        stock = {"stock:{kettle}": kettles, "stock:{lamp}": lamps}
        return State({key: number for key, number in stock.items() if number is not None})

    starts = st.builds(_start, st.sampled_from([1, 2, 0, None, 10]), st.sampled_from([1, None]))
    always = (  # who got none may have one later
        Case(
            State({"stock:{kettle}": 0}),
            after=(*_asked("kettle", "ada"), ("bob", Call("restock")), *_asked("kettle", "ada")),
        ),
    )
    rare = (
        Case(State({"stock:{kettle}": -1}), after=_asked("kettle", "ada")),  # too many were sold
        Case(State({"stock:{lamp}": 99}), after=_asked("lamp", *_LOOK_ALIKES, *_LOOK_ALIKES)),
        Case(State({"stock:{d'Arc}": 99}), after=_asked("d'Arc", *_USERS, *_USERS)),
        Case(
            State({"stock:{kettle}": 5}),
            after=(  # a TTL may begin with any call
                *_asked("kettle", "ada", "bob", "ada"),
                ("ada", Call(WAIT, (_TEN_YEARS,))),
                *_asked("kettle", "ada"),
            ),
        ),
    )

    def race_starts(self) -> Any:
        return st.builds(self._start, st.sampled_from([1, 1, 2]), st.just(1))

    def race_calls(self) -> Any:
        return self._calls

    def crowd(self) -> Case:
        """There is enough for all."""
        others = tuple(Call("reserve", ("kettle", f"n{n}")) for n in range(36))
        one = (Call("reserve", ("kettle", "ada")),)
        return Case(self._start(100, None), {"ada": one, "bob": others})

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """No stock is as good as 0."""
        found = super().shown(state, start)
        return {key: number for key, number in found.items() if number != "0"}

    def reserve(self, state: State, product: str, user: str) -> bool:
        stock, reserved = f"stock:{{{product}}}", state.set_at(f"reserved by {product}")
        if user in reserved or state.number_at(stock) < 1:
            return False
        state[stock] = state.number_at(stock) - 1
        reserved.add(user)
        return True

    def restock(self, state: State) -> None:
        state["stock:{kettle}"] = 1


def for_many(answer: Callable[..., Any]) -> Outcome:
    """Does each of many users get a piece, and the first no second one; on a cluster, too?"""
    with start_server() as server, server.client() as redis:
        redis.set("stock:{kettle}", MANY + 1)
        told = [answer(redis, "kettle", f"user {number}") for number in (*range(MANY), 0)]
    due = [True] * MANY + [False]
    if told != due:
        call = next(n for n, (one, other) in enumerate(zip(told, due, strict=True)) if one != other)
        reason = (
            f"{MANY:,} users and stock for all, and then the first again: user {call % MANY} was told "
            f"{told[call]!r}; {due[call]} is due."
        )
        return Outcome(False, reason, told)
    return _on_cluster(answer)


def _on_cluster(answer: Callable[..., Any]) -> Outcome:
    """Let an answer reserve products of all nodes, for users of all kinds of names."""
    with cluster_for_commands() as redis:
        for product in _PRODUCTS:
            redis.set(f"stock:{{{product}}}", len(_USERS))
        for product in _PRODUCTS:
            wanted = [(user, True) for user in _USERS] + [
                (user, False) for user in (*_USERS, "eve")
            ]
            for user, due in wanted:
                try:
                    told = answer(redis, product, user)
                except (RedisError, RedisClusterException) as error:
                    wrong = f"{type(error).__name__}: {_plain(error)}"
                except Exception as error:
                    raise ImplementationError("reserve", error) from error
                else:
                    wrong = "" if told is due else f"it was {told!r}; {due} is due."
                if wrong:
                    wrong = f"On a cluster: reserve(redis, {product!r}, {user!r}): {wrong}"
                    return Outcome(False, wrong, wrong)
            if (left := redis.get(f"stock:{{{product}}}")) != "0":
                wrong = f"On a cluster: {product} is sold out, and its stock is {left!r}, not '0'."
                return Outcome(False, wrong, wrong)
    return Outcome(True, "a cluster of three primaries, too.", redis)


def _plain(error: Exception) -> str:
    """The error without what differs from run to run."""
    return str(error).partition(" script: ")[0].rstrip(".") + "."
