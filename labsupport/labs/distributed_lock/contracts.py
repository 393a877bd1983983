"""What the exercises of lab 07 ask for, as models: a holder's lock, its number, a guarded sale."""

from collections.abc import Generator
from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import (
    WAIT,
    Blocked,
    Call,
    Case,
    Contract,
    Given,
    Programs,
    filled,
)
from labsupport.exercises.matching import Fresh, Rising
from labsupport.exercises.state import KEPT, State

__all__ = ["NumberedLock", "OwnLock", "SellOnce"]

_LOCK, _OTHER = "lock:kettle", "lock:d'Arc"
_TTLS = st.sampled_from([60, 60, 0.5, 7, 1.25])  # seconds


def _wait_until_free(state: State, name: str) -> None:
    if name in state:
        raise Blocked(name, state.lives.get(name, KEPT))


class _Lock(Contract):
    """A lock for which its takers wait."""

    faults = ("crash", "pause")
    starts = st.just(State())

    def wait(self, state: State, seconds: float) -> None:
        super().wait(state, seconds)
        state["waits"] = state.number_at("waits") + 1

    def quick(self, case: Case) -> bool:
        """True when nobody waits in a case of calls one after the other: a long wait costs time."""
        state = case.start.copy()
        told: dict[str, list[tuple[Call, Any]]] = {}
        for who, call in case.after:
            before = told.setdefault(who, [])
            state, reply = next(self.outcomes(state, who, filled(call, before)))
            before.append((call, reply))
        return "waits" not in state


class OwnLock(_Lock):
    """07.1: only its holder can free or renew a lock."""

    answer = "own_lock"
    functions = ("take", "renew", "free")
    visible = (_LOCK, _OTHER)  # what else there is goes away
    _OWNED = (
        "both return True, or False when it is no longer the caller's: then they change nothing."
    )
    clauses: ClassVar = {
        "told": "take waits until the lock is free, and returns a token that nobody else ever has.",
        "renew": f"renew gives the lock ttl seconds from now, free frees it; {_OWNED}",
        "free": f"free frees it; {_OWNED}",
        "left": "the lock is the key `name`",
        "lives": "lives for ttl seconds",
        "stays": "A crash leaves nothing that stays for ever.",
        "ends": "take waits until the lock is free",
        "at once": "take waits until the lock is free, and returns a token that nobody else ever has",
        "crash": "A crash leaves nothing that stays for ever.",
        "pause": "False when it is no longer the caller's: then they change nothing",
    }
    # Bob has the lock by a program of his own, and for as long as he likes.
    others: ClassVar = {
        "bob_takes": lambda redis: redis.set(_LOCK, "bob's", nx=True) is True,
        "bob_frees": lambda redis: redis.eval(
            "return redis.call('GET', KEYS[1]) == \"bob's\" and redis.call('PTTL', KEYS[1]) == -1 "
            "and redis.call('DEL', KEYS[1]) or 0",
            1,
            _LOCK,
        ),
    }
    _token, _first = Given("take", "token"), Given("take", "first_token", 0)
    _names = st.sampled_from([_LOCK, _LOCK, _LOCK, _OTHER])
    _tokens = st.sampled_from([_token, _token, _token, _first, "zoe's", "nobody's", "1"])
    _take = st.builds(Call, st.just("take"), st.tuples(_names, _TTLS))
    _renew = st.builds(Call, st.just("renew"), st.tuples(_names, _tokens, _TTLS))
    _free = st.builds(Call, st.just("free"), st.tuples(_names, _tokens))
    calls = st.one_of(_take, _renew, _renew, _free)
    starts = st.sampled_from([{}, {}, {_LOCK: "zoe's"}, {_LOCK: "1"}]).map(
        lambda held: State(held, dict.fromkeys(held, 50_000))
    )
    rare = (  # for days; and a hundred days later
        Case(
            State(),
            after=tuple(
                ("ada", call)
                for call in (
                    Call("take", (_LOCK, 700_000)),
                    Call("renew", (_LOCK, _token, 900_000)),
                )
            ),
        ),
        Case(
            State(),
            after=tuple(
                ("ada", call)
                for call in (
                    Call("take", (_LOCK, 60)),
                    Call(WAIT, (8_640_000,)),
                    Call("take", (_LOCK, 60)),
                    Call("free", (_LOCK, _first)),
                )
            ),
        ),
    )

    def sequences(self) -> Any:
        """Now and then a holder comes too late, or just in time; and once somebody waits."""
        late = st.builds(
            lambda ttl, renewed, seconds, call: Case(
                State(),
                after=(
                    ("ada", Call("take", (_LOCK, ttl))),
                    ("ada", Call("renew", (_LOCK, self._token, renewed))),
                    ("ada", Call(WAIT, (seconds,))),
                    ("ada", call),
                    ("bob", Call("renew", (_LOCK, "nobody's", 60))),
                ),
            ),
            _TTLS,
            _TTLS,
            st.sampled_from([0.375, 3, 61]),
            self.calls.filter(lambda call: call.name != "take"),
        )
        waits = st.sampled_from([50_000, 750]).map(lambda ms: self._waiting("zoe's", ms))
        quick = super().sequences().filter(self.quick)
        return st.integers(0, 9).flatmap(lambda n: (waits, late, late, late, quick)[min(n, 4)])

    def _waiting(self, holder: str, ms: int) -> Case:
        """Ada takes a lock that is held: the short wait in real time, the long one as it may."""
        wait = [] if ms > 10_000 else [("ada", Call(WAIT, (0.25,)))]
        return Case(
            State({_LOCK: holder}, {_LOCK: ms}), after=(*wait, ("ada", Call("take", (_LOCK, 7))))
        )

    def races(self) -> Any:
        """Two in turn; and one who comes too late, when Bob has the lock."""
        take, free = Call("take", (_LOCK, 60)), Call("free", (_LOCK, self._token))
        renew = Call("renew", (_LOCK, self._token, 60))
        bob = (Call("bob_takes"), Call("bob_frees"))
        meetings: list[Programs] = [
            {"ada": (take, free), "bob": bob},
            {"ada": (take, renew), "bob": bob},
            {"ada": (take, free), "bob": (take, free)},
            {"ada": (take, renew, free), "bob": (take, free)},
        ]
        return st.sampled_from(meetings).map(lambda programs: Case(State(), programs))

    def fault_races(self) -> Any:
        """Nobody waits for what the dead have left."""
        return self.races().filter(lambda case: case.programs["bob"][0].name == "bob_takes")

    def recoveries(self) -> Any:
        """A holder crashes; when the time is over, the lock is there for the next."""
        take, free = Call("take", (_LOCK, 60)), Call("free", (_LOCK, self._token))
        program = (take, Call("renew", (_LOCK, self._token, 30)), free)
        after = (("bob", Call(WAIT, (61,))), ("bob", take), ("bob", free), ("ada", take))
        return st.sampled_from([program, (take, free)]).map(
            lambda calls: Case(State(), {"ada": calls}, after)
        )

    def take(self, state: State, name: str, ttl: float) -> Fresh:
        _wait_until_free(state, name)
        state["tokens"] = state.number_at("tokens") + 1
        state.keep(name, Fresh(f"token {state['tokens']}"), ttl * 1000)
        return Fresh(state[name])

    def renew(self, state: State, name: str, token: str, ttl: float) -> bool:
        if state.get(name) != token:
            return False
        state.lives[name] = ttl * 1000
        return True

    def free(self, state: State, name: str, token: str) -> bool:
        if state.get(name) != token:
            return False
        state.remove(name)
        return True

    def bob_takes(self, state: State) -> bool:
        if _LOCK in state:
            return False
        state.keep(_LOCK, "bob's")
        return True

    def bob_frees(self, state: State) -> int:
        return int(self.free(state, _LOCK, "bob's"))


# What a holder does. KEYS: the lock, the list of those who came; ARGV: the number. Done: notes
# the number and frees the lock, if it has the number. Keep: the lock stays for ever, if it has it.
_DONE = """
redis.call('RPUSH', KEYS[2], ARGV[1])
return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0
"""
_KEEP = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PERSIST', KEYS[1]) or 0"


class _InOrder(list[Any]):
    """The numbers of the holders, for the learner."""

    def __repr__(self) -> str:
        return ", then ".join(str(one) for one in self)


class NumberedLock(_Lock):
    """07.2: each holder's number is greater than all before."""

    answer = "numbered_lock"
    effort = 0.25
    visible = ("lock:kettle", "came")
    clauses: ClassVar = {
        "told": "return its number, an int above 0",
        "left": "While the lock is held, its key holds the number.",
        "lives": "take it for ttl seconds",
        "ends": "Wait for the lock `name`",
        "at once": "Each number is greater than all that were handed out before it.",
        "pause": "Each number is greater than all that were handed out before it.",
        "crash": "A crash leaves no lock that stays for ever.",
    }
    others: ClassVar = {
        "done": lambda redis, number: redis.eval(_DONE, 2, _LOCK, "came", number),
        "keep": lambda redis, number: redis.eval(_KEEP, 1, _LOCK, number),
    }
    _number = Given("numbered_lock", "number")
    _take = Call("numbered_lock", (_LOCK, 60))
    _done, _keep = Call("done", (_number,)), Call("keep", (_number,))
    calls = st.one_of(
        st.builds(Call, st.just("numbered_lock"), st.tuples(st.just(_LOCK), _TTLS)),
        st.just(_done),
    )

    def sequences(self) -> Any:
        """Now and then a dozen holders, one after a hundred days, or one that has to wait."""
        many = (("ada", self._take), ("ada", self._done)) * 12
        late = *many[:4], ("ada", Call(WAIT, (8_640_000,))), *many[:1]
        short = Call("numbered_lock", (_LOCK, 0.75))
        waits = ("ada", short), ("ada", Call(WAIT, (0.25,))), ("bob", self._take)
        lasts = many[::2][:2]
        some = st.sampled_from([Case(State(), after=calls) for calls in (many, late, waits, lasts)])
        quick = super().sequences().filter(self.quick)
        return st.integers(0, 9).flatmap(lambda n: quick if n else some)

    def races(self) -> Any:
        turn, kept = (self._take, self._done), (self._take, self._keep, self._done)
        meetings: list[Programs] = [{"ada": turn, "bob": turn}, {"ada": turn, "bob": kept}]
        return st.sampled_from(meetings).map(lambda programs: Case(State(), programs))

    def fault_races(self) -> Any:
        """Ada may be late, and Bob is not: nothing but he ends his lock."""
        kept = (self._take, self._keep, self._done)
        return st.just(Case(State(), {"ada": (self._take,), "bob": kept}))

    def recoveries(self) -> Any:
        after = (Call(WAIT, (61,)), self._take, self._done, self._take)
        return st.just(
            Case(State(), {"ada": (self._take,)}, tuple(("bob", call) for call in after))
        )

    def numbered_lock(self, state: State, name: str, ttl: float) -> Rising:
        _wait_until_free(state, name)
        state["numbers"] = state.number_at("numbers") + 1
        state.keep(name, Rising(state["numbers"]), ttl * 1000)
        return Rising(state["numbers"])

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """Who came, in words."""
        found = super().shown(state, start)
        if "came" in found:
            found["the list of the holders' numbers, in their order,"] = _InOrder(found.pop("came"))
        return found

    def done(self, state: State, number: Any) -> int:
        state.list_at("came").append(number)
        if state.get(_LOCK) != number:
            return 0
        state.remove(_LOCK)
        return 1

    def keep(self, state: State, number: Any) -> int:
        if state.get(_LOCK) != number or state.lives.get(_LOCK) is KEPT:
            return 0
        state.lives[_LOCK] = KEPT
        return 1


_PRODUCT_2, _ITS_ROW = "the row of product 2", {"stock": 5, "fence": 9}


class SellOnce(Contract):
    """07.3: whoever was overtaken sells nothing."""

    answer = "sell_once"
    takes = ("db",)
    place = "In the row of product 1"
    visible = ("stock",)
    faults = ()
    clauses: ClassVar = {
        "told": "A number below one that came before it sells nothing, an equal one may. Any other "
        "that is not overtaken sells.",
        "left": "Each piece that is sold leaves the stock, and none is sold that is not there.",
        "at once": "Each piece that is sold leaves the stock, and none is sold that is not there. A "
        "number below one that came before it sells nothing, an equal one may.",
    }
    _numbers = st.sampled_from([1, 2, 3, 7, 9, 10, 41, 100])
    calls = st.builds(Call, st.just("sell_once"), st.tuples(_numbers))
    starts = st.sampled_from([3, 1, 0, 20]).map(lambda stock: State({"stock": stock, "fence": 0}))
    _meetings = (  # each client's numbers
        ((1,), (2,)),
        ((7,), (7,)),
        ((7, 7), (7,)),
        ((1,), (3, 2)),
        ((9,), (100, 10)),
        ((1, 3), (2,)),
        ((1,), (2,), (3,)),
        ((10,), (10,), (9,)),
    )

    def sequences(self) -> Any:
        """No number comes twice: whether the second one sells is not said."""
        return st.builds(
            lambda start, numbers: Case(
                start, after=tuple(("ada", Call("sell_once", (n,))) for n in numbers)
            ),
            self.starts,
            st.lists(self._numbers, min_size=1, max_size=5, unique=True),
        )

    def races(self) -> Any:
        """Two or three; now and then somebody comes again, with a number of before."""
        programs = st.sampled_from(self._meetings).map(
            lambda each: {
                who: tuple(Call("sell_once", (number,)) for number in numbers)
                for who, numbers in zip(("ada", "bob", "cyd"), each, strict=False)
            }
        )
        return st.builds(Case, self.starts, programs)

    def crowd(self) -> Case:
        """Many sell who come late, with lower numbers: none overtakes Ada, and there is enough."""
        late = tuple(Call("sell_once", (number,)) for number in range(1, 19))
        start = State({"stock": 50, "fence": 0})
        return Case(start, {"ada": (Call("sell_once", (100,)),), "bob": late})

    def write(self, start: State, redis: Any, db: Any) -> None:
        """Product 2 has one of the numbers; its row is somebody else's."""
        sql = "UPDATE products SET stock = :stock, fence = :fence WHERE id = :id"
        db.execute(sql, stock=start["stock"], fence=start["fence"], id=1)
        db.execute(sql, **_ITS_ROW, id=2)

    def read(self, redis: Any, db: Any) -> State:
        state = State.read(redis)
        mine, other = db.fetch_all("SELECT stock, fence FROM products WHERE id <= 2 ORDER BY id")
        state.update({**mine, _PRODUCT_2: other})
        state.lives |= dict.fromkeys(("stock", "fence", _PRODUCT_2), KEPT)
        return state

    def shown(self, state: State, start: State) -> dict[str, Any]:
        return {**super().shown(state, start), _PRODUCT_2: state.get(_PRODUCT_2, _ITS_ROW)}

    def sell_once(self, state: State, fence: int) -> Generator[Any, Any, bool]:
        """An equal number may sell or not, and who is overtaken inside may not any more."""
        if fence < state["fence"]:
            return False
        comes = yield [True, False] if fence == state["fence"] else [True]
        if not comes:
            return False
        state["fence"] = fence
        yield
        if state["stock"] == 0 or fence < state["fence"]:
            return False
        state["stock"] -= 1
        return True
