"""Two clients want one lock, kept on servers that fail: can both believe that they hold it?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labsupport.charts import Bar, Lanes, Mark, Plot, overlaps
from labsupport.errors import InvalidSettingError
from labsupport.experiments import (
    Contrast,
    Experiment,
    Finding,
    Implementation,
    Rule,
    Stage,
    choice,
    knob,
)
from labsupport.history import History, Rows
from labsupport.labs.redlock.clients import CLIENTS, DOWN, Attempt

_ROLES = ("work", "second")
_MOST_ATTEMPTS = 4
_SLOWER = 3  # how much longer the TTL is in the next attempt
_PATIENCE_SECONDS = 10.0
Spans = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TwoHolders(Experiment):
    """Ada has the lock and is about to write; a fault strikes; then Bob tries.

    The function under study is `sell(nodes, db, ttl)`: under a lock that is kept on `nodes` (a client
    for each, which waits 0.3 s for an answer) it sells a piece of product 1, of which there is one,
    and returns whether it did. It says where it is: `point("holds")` when it has the lock,
    `point("writes")` right before it writes, and `point("frees")` when it is about to free the lock.

    Args:
        fault: "failover" of a primary whose replica lags; "restart" of a third node, after two were
            away when Ada took the lock; "pause" of Ada for longer than the TTL; or "none".
        down: how many of the five nodes are killed before all.
        remedy: of a restart: "fsync" has the nodes write each command to disk before they answer;
            "delay" keeps the node away for a TTL.
        ttl_seconds: what the function is given as `ttl`; longer if the machine is too slow for it.
        seconds: how long the time axis is at the least.
        pace_seconds: a rest between two moves, so that they can be watched.
    """

    parameters: ClassVar[tuple[str, ...]] = ("nodes", "db", "ttl")

    fault: str = choice("none", among=("none", "failover", "restart", "pause"))
    remedy: str = choice("none", among=("none", "fsync", "delay"))
    down: int = knob(0, low=0, high=5)
    ttl_seconds: float = knob(10.0, low=0.1, high=60.0)
    seconds: float = knob(0.4, low=0.1, high=60.0)
    pace_seconds: float = knob(0.06, low=0.0, high=5.0)

    claims = (
        Rule(
            text="One client at a time believes that it holds the lock",
            met=("met", "holders"),
            broken="together",
            detail="{together_ms} ms together",
        ),
        Rule(
            text="The last piece is not sold twice",
            met=("met", "sold"),
            broken=lambda n: n["sold"] > 1,
            detail="{sold} sold",
        ),
        Rule(
            text="Somebody gets the lock",
            met="met",
            broken=lambda n: n["in_time"] > 0 and (n["holders"] == 0 or n["stuck"] > 0),
            detail="{holders:client|clients} had it",
            final=True,
        ),
    )
    findings = (
        Finding("Nobody gets the lock", lambda n: n["met"] > 0 and n["holders"] == 0),
        Finding(
            "The fault did not meet the clients: nothing was put to the test",
            lambda n: not n["met"],
        ),
        Finding("Two clients hold one lock, and both sell the last piece", lambda n: n["sold"] > 1),
        Finding("Two clients hold one lock; only one of them could sell", "together"),
        Finding("One holder at a time"),
    )
    contrast = Contrast(
        text="{first} sells the last piece twice, {other} does not",
        number=lambda n: max(n["sold"] - 1, 0),
        met=("met", "sold"),
        title="Pieces sold of one: {each}",
        each="{name} {sold}",
    )

    def check(self) -> None:
        others = {"none": bool(self.down), "restart": self.remedy != "none"}
        if any(given and self.fault != fault for fault, given in others.items()):
            raise InvalidSettingError(
                f"down={self.down} and remedy={self.remedy!r} do not go with {self.fault!r}.",
                "`down` is for fault='none', and a remedy for fault='restart'.",
            )

    @property
    def budget_seconds(self) -> float:
        """More where a lock has to end by itself, in two attempts at the least."""
        ends = self.fault == "pause" or self.remedy == "delay"
        return super().budget_seconds + ends * 2 * _SLOWER * self.ttl_seconds

    @property
    def conditions(self) -> str:
        if self.fault == "failover":
            return "the primary is killed while its replica lags; the replica is promoted"
        if self.fault == "pause":
            return f"five nodes, TTL {self.ttl_seconds:g} s; ada is stopped for longer"
        if self.fault == "restart":
            remedies = {
                "none": "and comes back empty",
                "fsync": "and comes back with what it wrote to disk",
                "delay": "and comes back a TTL later",
            }
            return f"five nodes; the third is killed {remedies[self.remedy]}"
        return f"five nodes, {self.down} of them killed"

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        shop = stage.shop()
        shop.execute("ALTER TABLE products ADD COLUMN claimed_by TEXT")  # for a fence, or whatever
        for attempt in range(_MOST_ATTEMPTS):
            shop.execute("UPDATE products SET stock = 1 WHERE id = :id", id=1)
            ttl = self.ttl_seconds * _SLOWER**attempt
            one = Attempt(stage, self.fault, self.remedy, self.down, ttl, self.pace_seconds)
            one.start(implementation, shop, name)
            met = one.strike() and one.in_time
            hopeless = one.refused and one.in_time  # it is not the machine that refuses Ada
            if met or hopeless or stage.cut_short or attempt + 1 == _MOST_ATTEMPTS:
                break
            one.end()
        stage.facts |= {"met": met, "in_time": one.in_time}
        stage.facts["sold"] = sum(worker.result is True for worker in one.clients)
        stage.facts["stuck"] = len(stage.finish(patience_seconds=_PATIENCE_SECONDS))

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        held = _beliefs(history)
        together = overlaps(held)
        return {
            "met": int(facts["met"]),
            "in_time": int(facts["in_time"]),
            "holders": len(held),
            "together": len(together),
            "sold": facts["sold"],
            "stuck": facts["stuck"],
            "together_ms": float((together[:, 2] - together[:, 1]).sum()) / 2e6,
        }

    def plots(self) -> tuple[Plot, ...]:
        names = [f"node {number}" for number in range(1, 6)]
        if self.fault == "failover":
            names = ["primary", "replica"]
        tokens = [
            Bar(f"{client}'s token", role, partial(_tokens, servers=len(names), who=who))
            for who, (client, role) in enumerate(zip(CLIENTS, _ROLES, strict=True))
        ]
        beliefs = [
            Bar(f"{client} holds", role, partial(_beliefs, who=(who,)))
            for who, (client, role) in enumerate(zip(CLIENTS, _ROLES, strict=True))
        ]
        down = Bar("down", "gone", partial(_tokens, servers=len(names), who=DOWN))
        both = Bar("both hold it", "alarm", lambda run: overlaps(_beliefs(run)))
        return (
            Lanes("whose token each server has", names, bars=(*tokens, down), gap="no token"),
            Lanes(
                "who believes that it has the lock",
                CLIENTS,
                bars=(*beliefs, both),
                marks=(Mark("sells", "tail", _sales),),
                gap="does not hold it",
            ),
        )


def _of(history: History, event: str) -> Rows:
    """The events of one kind in this attempt."""
    rows = history.select(event)
    return rows[rows["start_ns"] >= history.origin_ns]


def _beliefs(history: History, who: Sequence[int] = (0, 1)) -> Spans:
    """From when to when each client believes that it holds the lock: (row, start, end)."""
    begun, ended = _of(history, "holds"), _of(history, "frees")
    found = []
    for row in who:
        starts, ends = (rows["start_ns"][rows["client"] % 3 == row] for rows in (begun, ended))
        for start in starts - history.origin_ns:
            later = ends[ends - history.origin_ns >= start] - history.origin_ns
            found.append((row, start, later[0] if len(later) else history.elapsed_ns))
    return np.array(found, "i8").reshape(-1, 3)


def _tokens(history: History, servers: int, who: int) -> Spans:
    """From when to when each server has a token of that client, or is down: (row, start, end)."""
    wanted = [DOWN] if who == DOWN else np.unique(_of(history, f"token {who}")["value"])
    found = []
    for row in range(servers):
        looks = _of(history, f"node {row}")
        times = np.append(looks["start_ns"] - history.origin_ns, history.elapsed_ns)
        has = np.pad(np.isin(looks["value"], wanted).astype(int), 1)
        edges = np.flatnonzero(np.diff(has)).reshape(-1, 2)
        found += [(row, times[first], times[last]) for first, last in edges]
    return np.array(found, "i8").reshape(-1, 3)


def _sales(history: History) -> NDArray[np.int64]:
    """Who sold, and when: (row, moment)."""
    rows = _of(history, "sells")
    return np.stack([rows["client"] % 3, rows["start_ns"] - history.origin_ns], 1)
