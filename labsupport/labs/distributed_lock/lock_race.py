"""Processes sell under a lock; some are stopped, slow or killed while they hold it: who is alone?"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labsupport.charts import Bar, Lanes, Line, Lines, Mark, Plot, overlaps
from labsupport.errors import InvalidSettingError
from labsupport.experiments import Contrast, Experiment, Finding, Implementation, Rule, Stage, knob
from labsupport.history import History
from labsupport.labs.distributed_lock.clients import buy
from labsupport.labs.distributed_lock.faults import ADA, DAN, EVE, Faults, StarvedError
from labsupport.labs.distributed_lock.holds import (
    held_spans,
    holds_of,
    shared,
    stopped_holders,
    wait_spans,
)

_NAMES = ("Ada", "Bob", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hana")
_CLIENTS = EVE + 1  # where each fault is forced
_STOCK = 100_000_000  # more than any run sells
_LONG_SECONDS = 600.0  # the TTL of those who are not to outlive it
_PATIENCE_SECONDS = 5.0
_MOST_CHANCE = 16  # times as long as asked for, until a stop has hit a holder
_LEDGER = Rule(
    text="What was sold has left the stock",
    met=("hit_a_holder", "sold"),
    broken="sold_twice",
    detail="{sold} sold, {left_the_stock} left the stock",
)
_TURN = Rule(
    text="Everyone who waits gets a turn",
    met="hit_a_holder",
    broken="waiting_for_ever",
    detail="{waiting_for_ever} {waiting_for_ever:~waits|wait} for ever",
    final=True,
)
_BY_CHANCE = (
    Rule(
        text="A holder is alone",
        met="hit_a_holder",
        broken="shared_holds",
        detail="{shared_holds} of {holds} were shared; {hit_a_holder:stop|stops} hit a holder",
    ),
    _TURN,  # whether a sale is lost is chance: it takes a stop between a read and its write
)
_FORCED = (
    Rule(
        text="A holder that takes longer than the TTL is alone",
        met="slow_met",
        broken="slow_shared",
    ),
    Rule(
        text="A holder that is stopped for longer than the TTL is alone",
        met="stopped_met",
        broken="stopped_shared",
    ),
    Rule(text="A lock is freed only by its holder", met="kept_met", broken="kept_shared"),
    Rule(
        text="The lock of a killed holder becomes free",
        met="killed_met",
        broken=lambda n: n["killed_met"] > 0 and not n["free_again"],
    ),
    _TURN,
    _LEDGER,
)


@dataclass(frozen=True, kw_only=True)
class LockRace(Experiment):
    """Clients, each a process, buy kettles under a lock that is theirs for a time.

    The function under study is `lock(redis, name, ttl)`: a context manager that waits until it has
    the lock, and gives `sell` what it yields. An error at its end says that the lock was lost.

    Each fault is forced once: Ada is stopped (SIGSTOP) between her read and her write, until Redis
    says that her lock has expired; she works for longer than its TTL; Dan is killed (SIGKILL) as
    soon as the lock is in Redis. With `chaos` nothing is forced: one client after the other is
    stopped at any moment, for as long as chance says, until a stop has hit a holder.

    Args:
        sell: `sell(db, fence)`, the resource that the lock protects: reads the stock of product 1,
            writes it, and returns True if it sold one.
        chaos: let chance decide.
        seconds: how long chance decides; otherwise it takes as long as it takes.
        clients: how many there are then.
        ttl_seconds: of the lock.
    """

    parameters: ClassVar[tuple[str, ...]] = ("redis", "name", "ttl")

    sell: Callable[..., Any]
    chaos: bool = False
    seconds: float = knob(0.8, low=0.2, high=60.0, step=0.2)
    clients: int = knob(4, low=2, high=8)
    ttl_seconds: float = knob(0.15, low=0.05, high=2.0, step=0.05)

    def check(self) -> None:
        if not callable(self.sell):
            raise InvalidSettingError(
                f"sell is {type(self.sell).__name__}, not a function.",
                "Give the function that sells one kettle: LockRace(sell=sell), with sell(db, fence).",
            )

    contrast = Contrast(
        text="{first} sells what has not left the stock, {other} does not",
        number=lambda n: abs(n["sold_twice"]),
        met=("forced", "hit_a_holder", "sold"),  # by chance a sale is lost or not
        title="Sold, but still in stock: {each}",
        each="{name} {sold_twice}",
    )

    @property
    def claims(self) -> Sequence[Rule]:
        return _BY_CHANCE if self.chaos else _FORCED

    @property
    def findings(self) -> Sequence[Finding]:
        by_chance = (
            "{stops:random stop|random stops}; {shared_holds} of {holds} holds shared,"
            " {sold_twice} sold twice"
        )
        if self.chaos:
            return (Finding(by_chance),)
        return (
            Finding(
                "Dan was killed: nobody gets the lock any more",
                lambda n: n["killed_met"] > 0 and not n["free_again"],
            ),
            Finding(
                f"{{waiting_for_ever}} of {_CLIENTS} {{waiting_for_ever:~waits|wait}} for ever",
                "waiting_for_ever",
            ),
            Finding("Ada frees Bob's lock, so that Cleo joins him", "kept_shared"),
            Finding(
                "{sold} {sold:~is|are} sold,"
                " {left_the_stock} {left_the_stock:~leaves|leave} the stock",
                "sold_twice",
            ),
            Finding(
                "Two believe that they hold the lock, and no kettle is sold twice", "shared_holds"
            ),
            Finding("One at a time: {sold} {sold:~is|are} sold, and as many leave the stock"),
        )

    @property
    def conditions(self) -> str:
        ttl = f"TTL {self.ttl_seconds * 1000:.0f} ms"
        if self.chaos:
            return f"{self.clients} processes, stopped at random for half to three times the {ttl}"
        return f"Ada is stopped, then slow; Dan is killed; {ttl}"

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        server, turns, shop = stage.server(), stage.server(), stage.shop()
        shop.execute("UPDATE products SET stock = :stock WHERE id = 1", stock=_STOCK)
        task = implementation, self.sell, (server.url, turns.url), shop
        if self.chaos:
            for _ in range(self.clients):
                stage.pool.start(buy, *task, [self.ttl_seconds], None, name=name)
            stage.pool.begin()
            self._stop_at_random(stage)
            stage.facts["waiting"] = len(stage.finish(patience_seconds=_PATIENCE_SECONDS))
        else:
            longer = [self.ttl_seconds * factor for factor in (1, 4, 16)]
            ttls = {ADA: [self.ttl_seconds, *longer], DAN: [self.ttl_seconds]}
            for who in range(_CLIENTS):
                step = "step" if who == DAN else "read"
                mine = ttls.get(who, [_LONG_SECONDS])
                stage.pool.start(buy, *task, mine, step, gated=True, name=name)
            stage.pool.begin()
            self._force(stage, Faults(stage, server), longer)
        row = shop.fetch_one("SELECT stock FROM products WHERE id = 1") or {}
        stage.facts["left"] = row["stock"]

    def _force(self, stage: Stage, faults: Faults, longer: Sequence[float]) -> None:
        """Each fault once, at the moment that matters."""
        with suppress(StarvedError):  # who still waits is counted
            faults.stop(self.ttl_seconds)
            faults.keep_waiting(longer)
            faults.kill(self.ttl_seconds)
        stage.facts["waiting"] = len(faults.end())
        stage.facts["holds"] = faults.holds
        stage.facts["freed"] = faults.freed

    def _stop_at_random(self, stage: Stage) -> None:
        chance, ttl = random.Random(), self.ttl_seconds
        end = time.monotonic() + self.seconds
        last = end + (_MOST_CHANCE - 1) * self.seconds

        def going_on() -> bool:
            now = time.monotonic()
            missed = now < last and not stopped_holders(stage.history, ttl)
            return (now < end or missed) and not stage.cut_short

        while going_on():
            who = chance.randrange(self.clients)
            worker = stage.pool.workers[who]
            worker.pause()
            stage.pool.note("stopped", who)
            stage.wait(seconds=chance.uniform(0.5, 3) * ttl)
            stage.pool.note("resumed", who)
            worker.resume()
            stage.wait(seconds=chance.uniform(0, 0.5) * ttl)

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        holds = holds_of(history)
        not_alone = shared(holds)
        met = facts.get("holds", {})
        freed = facts.get("freed")
        sold = len(history.select("sold"))
        hit = stopped_holders(history, self.ttl_seconds) if self.chaos else int("stopped" in met)
        numbers = {
            "forced": int(not self.chaos),
            "hit_a_holder": hit,
            "holds": len(holds),
            "shared_holds": len(not_alone),
            "stops": len(history.select("stopped")),
            "sold": sold,
            "left_the_stock": _STOCK - facts["left"],
            "sold_twice": sold - (_STOCK - facts["left"]),
            "told_that_it_was_lost": len(history.select("told")),
            "waiting_for_ever": facts["waiting"],
            "killed_met": int(freed is not None),
            "free_again": int(bool(freed)),
        }
        for fault in ("stopped", "slow", "kept"):
            numbers[f"{fault}_met"] = int(fault in met)
            numbers[f"{fault}_shared"] = int(met.get(fault) in not_alone)
        return numbers

    def plots(self) -> tuple[Plot, ...]:
        names = _NAMES[: self.clients if self.chaos else _CLIENTS]
        bars = (
            Bar("waits", "waiting", wait_spans),
            Bar("holds the lock", "work", held_spans),
            Bar("not alone", "alarm", lambda history: overlaps(held_spans(history))),
        )
        marks = (
            Mark("is stopped", "gone", _marks("stopped")),
            Mark("goes on", "good", _marks("resumed")),
            Mark("is killed", "tail", _marks("killed")),
        )
        lines = (Line("sold", "limit", _sold), Line("left the stock", "work", _left))
        return (
            Lanes(
                "who believes that the lock is theirs",
                names,
                bars=bars,
                marks=marks,
                gap="neither waits nor holds",
            ),
            Lines("kettles", lines, gap=("sold", "left the stock", "alarm", "still in stock")),
        )


def _marks(event: str) -> Callable[[History], NDArray[np.int64]]:
    def points(history: History) -> NDArray[np.int64]:
        rows = history.select(event)
        return np.column_stack([rows["client"], rows["start_ns"] - history.origin_ns])

    return points


def _sold(history: History) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    times = history.select("sold")["start_ns"] - history.origin_ns
    return times, np.arange(1.0, len(times) + 1)


def _left(history: History) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rows = history.select("stock")
    return rows["start_ns"] - history.origin_ns, _STOCK - rows["value"]
