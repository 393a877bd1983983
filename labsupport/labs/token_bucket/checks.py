"""How answers to the exercises of lab 06 are put to the test."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import (
    Answer,
    ClientFunction,
    Trial,
    keys_of,
    nothing_for_ever,
    put_through,
    require,
    require_ttl,
)
from labsupport.labs.limiters.checks import (
    ALONE,
    START,
    in_sequence,
    reply_of,
    together,
)

__all__ = ["check_reserve", "check_take", "check_take_many"]

_KEY = "bucket:7"
_SLOW = 0.001  # tokens a second: as good as none, as long as an exploration takes


class _Bucket:
    """What is due, by the definition of the bucket."""

    def __init__(self, capacity: int, rate: float) -> None:
        self._capacity, self._rate = capacity, rate
        self._tokens, self._at = float(capacity), -math.inf

    def call(self, now: float) -> tuple[bool, int, float]:
        gained = max(0.0, now - self._at) * self._rate
        self._tokens = min(self._capacity, self._tokens + gained)
        self._at = max(self._at, now)
        if self._tokens < 1:
            return False, 0, (1 - self._tokens) / self._rate
        self._tokens -= 1
        return True, math.floor(self._tokens), 0.0


def check_take(answer: Answer) -> Outcome:
    told: list[bool] = []

    def alone(rate: float, moments: Sequence[float]) -> Trial:
        def ask(redis: Any, now: float) -> Any:
            return answer(redis, _KEY, 3, rate, now)

        situation = f"{ALONE}, {rate:g} tokens a second"
        return in_sequence(ask, lambda: _Bucket(3, rate), moments, situation=situation)

    def drain(redis: Any, db: Any) -> None:
        for _ in range(90):
            answer(redis, _KEY, 100, 1 / 60, START)

    def kept_until_full(redis: Any, db: Any) -> bool:
        """the key expires when the bucket would be full again"""
        ttl = max((redis.pttl(key) / 1000 for key in keys_of(redis)), default=0.0)
        shown = f"It takes 5,400 s to be full; the key lives for {ttl:,.0f} s."
        require(5_300 < ttl <= 5_460, shown)
        return True

    def caller(ahead: float) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            for _ in range(3):
                reply = answer(redis, _KEY, 2, 1 / 60, START + ahead)
                told.append(reply_of("A caller", reply)[0])

        return client

    def no_more_than_due(redis: Any, db: Any) -> bool:
        """two clocks a minute apart make at most the tokens of a minute"""
        shown = f"{sum(told)} got in, with 2 in the bucket and 1 a minute."
        require(2 <= sum(told) <= 3, shown)
        return True

    def at_once(capacity: int) -> Callable[[str, Any], Any]:
        return lambda name, redis: answer(redis, _KEY, capacity, _SLOW, START)

    steps = [0.437 * number for number in range(40)]
    return put_through(
        (
            *(alone(rate, [*steps, 100.1, 100.2, 100.3, 100.4]) for rate in (0.75, 1.5, 1.9)),
            Trial("A slow bucket, nearly empty", {"ada": drain}, None, kept_until_full),
            *together(at_once(1), 1),
            *together(at_once(2), 2)[:1],
            Trial(
                "Two callers, one a minute ahead",
                {"ada": caller(60.0), "bob": caller(0.0)},
                lambda redis, db: told.clear(),
                no_more_than_due,
                prune=True,
            ),
        )
    )


def check_take_many(answer: Answer) -> Outcome:
    told: dict[str, Any] = {}

    def forget(redis: Any, db: Any) -> None:
        told.clear()

    def take(redis: Any, cost: int, rate: float = _SLOW) -> tuple[bool, int, float]:
        return reply_of(f"Who took {cost}", answer(redis, _KEY, 5, rate, cost))

    def caller(name: str, cost: int, ahead: float = 0.0, rate: float = _SLOW) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            redis.actor.sleep(ahead)  # its own clock is ahead by so much
            told[name] = take(redis, cost, rate)

        return client

    def in_turn(redis: Any, db: Any) -> None:
        due = [(3, True, 2, 0), (3, False, 2, 1000), (2, True, 0, 0), (6, False, 0, math.inf)]
        for cost, admitted, left, wait in due:
            reply = take(redis, cost)
            soon = reply[2] == wait or abs(reply[2] - wait) < 60
            if reply[:2] != (admitted, left) or not soon:
                told["wrong"] = (
                    f"Who took {cost} was told {reply}; {(admitted, left, wait)} is due."
                )
                return

    def as_due(redis: Any, db: Any) -> bool:
        """each is told what is due"""
        require("wrong" not in told, told.get("wrong", ""))
        return True

    def waits_as_told(redis: Any, db: Any) -> None:
        wait = 0.0
        for _ in range(100):  # a slow machine may find the bucket full again and again
            allowed, _, wait = take(redis, 5, 50.0)
            if not allowed:
                break
        redis.wiring.clock.now_us += round((min(wait, 0.2) + 0.001) * 1e6)  # so long it waits
        told["after"] = take(redis, 5, 50.0)

    def admitted_after(redis: Any, db: Any) -> bool:
        """who waits as told is admitted"""
        require(told["after"][0], "Who waited as told, or 0.2 s, was refused again.")
        return True

    def one_of_the_threes(redis: Any, db: Any) -> bool:
        """all or nothing: of 5 tokens, one takes 3, and 2 are left for who takes 2"""
        threes = [name for name in ("ada", "bob") if told[name][0]]
        require(len(threes) == 1, f"{' and '.join(threes) or 'Nobody'} took 3 of 5.")
        two = told["cyd"][0] if "cyd" in told else take(redis, 2)[0]
        require(two, "Two tokens were left, and who wanted them was refused.")
        return True

    def all_or_none(redis: Any, db: Any) -> bool:
        """a crash takes all tokens or none, and no key stays for ever"""
        require_ttl(redis)
        left = take(redis, 6)[1]
        require(left in (2, 5), f"After a crash while taking 3 of 5, {left} are left.")
        return True

    def none_made(redis: Any, db: Any) -> bool:
        """a caller's clock makes no tokens"""
        inside = [name for name, reply in told.items() if reply[0]]
        require(len(inside) == 1, f"{' and '.join(inside)} took 5 each, of 5.")
        return True

    threes = {"ada": caller("ada", 3), "bob": caller("bob", 3)}
    clocks = {"ada": caller("ada", 5, 0, 0.1), "bob": caller("bob", 5, 60, 0.1)}
    return put_through(
        (
            Trial(ALONE, {"ada": in_turn}, forget, as_due),
            Trial(
                "A caller who may crash", {"ada": threes["ada"]}, forget, all_or_none, crashes=True
            ),
            Trial(
                "Two callers, three tokens each",
                threes,
                forget,
                one_of_the_threes,
                prune=True,
                sample=200,
            ),
            Trial(
                "Three callers of three, three and two",
                {**threes, "cyd": caller("cyd", 2)},
                forget,
                one_of_the_threes,
                prune=True,
                sample=200,
            ),
            Trial("Two callers, one clock a minute ahead", clocks, forget, none_made, prune=True),
            Trial("A caller who waits as told", {"ada": waits_as_told}, forget, admitted_after),
        )
    )


def check_reserve(answer: Answer) -> Outcome:
    told: dict[str, Any] = {}
    moments = (0, 0, 0, 0, 0.25, 0.25, 1.5, 9, 9, 9, 9, 9.5, 300, 300)

    def forget(redis: Any, db: Any) -> None:
        told.clear()

    def in_turn(redis: Any, db: Any) -> None:
        turn = 0.0
        for number, moment in enumerate(moments, 1):
            free = max(turn, moment) - moment
            due = free if free <= 1 else None
            reply = answer(redis, _KEY, 2, 1, START + moment)
            who = f"Call {number}, at {moment:g} s, was told {reply!r}; {due!r} is due."
            same = reply is None or due is None or abs(reply - due) < 0.001
            if (reply is None) != (due is None) or not same:
                told["wrong"] = who
                return
            turn = turn if due is None else moment + free + 0.5

    def as_due(redis: Any, db: Any) -> bool:
        """each caller is given the next turn, or none"""
        require("wrong" not in told, told.get("wrong", ""))
        return True

    def caller(name: str) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            told[name] = answer(redis, _KEY, 2, 1, START)

        return client

    def turns(*due: float | None) -> ClientFunction:
        def invariant(redis: Any, db: Any) -> bool:
            """each turn is given to one caller, and none is left out"""
            shown = " and ".join(f"{name} {reply!r}" for name, reply in told.items())
            given = sorted(reply for reply in told.values() if reply is not None)
            wanted = [turn for turn in due if turn is not None]
            same = len(given) == len(wanted)
            same = same and all(abs(a - b) < 0.001 for a, b in zip(given, wanted, strict=True))
            require(same, f"The turns in seconds from now: {shown}.")
            return True

        return invariant

    def asked(redis: Any, db: Any) -> None:
        forget(redis, db)
        for _ in range(2):
            answer(redis, _KEY, 2, 1, START)

    def kept(redis: Any, db: Any) -> bool:
        """the key lives until the last turn that was given"""
        ttl = max((redis.pttl(key) / 1000 for key in keys_of(redis)), default=0.0)
        require(ttl > 5_000, f"A turn is 6,000 s away; the key lives for {ttl:,.0f} s.")
        return True

    def far_ahead(redis: Any, db: Any) -> None:
        for _ in range(101):
            answer(redis, _KEY, 1 / 60, 10_000, START)

    three = {name: caller(name) for name in ("ada", "bob", "cyd")}
    two = {name: three[name] for name in ("ada", "bob")}
    return put_through(
        (
            Trial(ALONE, {"ada": in_turn}, forget, as_due),
            Trial("Two callers at once", two, forget, turns(0, 0.5)),
            Trial("Two callers, one turn left", two, asked, turns(1)),
            Trial("Three callers at once", three, forget, turns(0, 0.5, 1), prune=True, sample=200),
            Trial(
                "A caller who may crash",
                {"ada": two["ada"]},
                forget,
                nothing_for_ever,
                crashes=True,
            ),
            Trial("A hundred turns a minute apart", {"ada": far_ahead}, None, kept),
        )
    )
