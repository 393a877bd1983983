"""Orders are taken on all nodes of a cluster while one of them fails: what is refused, what is lost?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labsupport.charts import Bar, Bars, Lanes, Mark, Part, Plot, count_per_span
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
from labsupport.labs.redis_cluster.clients import GONE, PRIMARY, REPLICA
from labsupport.labs.redis_cluster.strike import STRUCK, Strike
from labsupport.servers.cluster import PRIMARIES, Cluster, start_cluster

__all__ = ["ClusterFault"]

_MOST_ATTEMPTS = 3
_PATIENCE_SECONDS = 5.0
_SPAN_SECONDS = 0.05
_MOST_PER_SPAN = 8  # orders of a client, at its pace
Times = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ClusterFault(Experiment):
    """Three clients take orders, each for a list on another primary; a fault strikes the last one's.

    The function under study is `take(redis, key, order)`: it puts the order, a text such as
    "order-17", at the end of the list, and returns whether it is taken: True is a promise. `redis` is
    a `RedisCluster` that never tries twice by itself. An error is a refusal.

    Args:
        cluster: which one is hurt, and made whole again; without one, or once it is closed, one of
            the run's own.
        fault: "crash": the primary is killed while its replica is behind, and restarted once the
            replica has taken over; "partition": it is cut off from the other nodes, and not from its
            clients; "reshard": its slot goes to another primary and back.
        coverage: `cluster-require-full-coverage`: whether all nodes refuse while one slot is not
            served.
        seconds: how long the time axis is at the least.
        pace_seconds: a rest between two moves, so that they can be watched.
    """

    parameters: ClassVar[tuple[str, ...]] = ("redis", "key", "order")

    cluster: Cluster | None = None
    fault: str = choice("crash", among=("crash", "partition", "reshard"))
    coverage: str = choice("yes", among=("yes", "no"))
    seconds: float = knob(3.0, low=0.2, high=60.0, step=0.1)
    pace_seconds: float = knob(0.1, low=0.0, high=5.0)

    contrast = Contrast(
        text="{first} loses acknowledged orders, {other} does not",
        number="lost",
        met=("behind", "taken"),
        title="Acknowledged orders that are lost: {each}",
    )

    @property
    def claims(self) -> Sequence[Rule]:
        met = ("asked", "taken") if self.fault == "reshard" else ("behind", "taken")
        lost = Rule(
            text="No acknowledged order is lost",
            met=met,
            broken="lost",
            detail="{lost} of {taken}",
            final=True,
        )
        if self.fault == "reshard":
            refused = Rule(
                text="No order is refused while the slot moves",
                met=("moved", *met),
                broken="refused",
                detail="{refused} refused; MOVED {moved:time|times}, ASK {asked:time|times}",
            )
            return refused, lost
        others = Rule(
            text="The other nodes go on taking orders",
            met="promoted",
            broken="refused_elsewhere",
            detail="{refused_elsewhere} refused",
        )
        served = Rule(
            text="A replica takes over",
            met="struck",
            broken=lambda n: not n["promoted"] or not n["taken_after"],
            detail="after {promotion_ms} ms",
            final=True,
        )
        return others, served, lost

    findings = (
        Finding("{lost:acknowledged order is|acknowledged orders are} lost", "lost"),
        Finding("The slot moves, and {refused:order is|orders are} refused", ("asked", "refused")),
        Finding("The slot moves there and back, and no order is lost", "asked"),
        Finding("A replica takes over after {promotion_ms} ms; no order is lost", "promoted"),
        Finding("Nothing was put to the test"),
    )

    @property
    def conditions(self) -> str:
        if self.fault == "reshard":
            return "three primaries, three clients; a slot moves to another node and back"
        what = "is killed while its replica lags" if self.fault == "crash" else "is cut off"
        return f"three primaries, three clients; one primary {what}; full coverage: {self.coverage}"

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        cluster = self.cluster
        if cluster is None or cluster.closed:
            cluster = stage.own(start_cluster(network=True, idle=stage.pool.idle))
        for attempt in range(_MOST_ATTEMPTS):
            cluster.heal(idle=stage.pool.idle)
            cluster.set_config(cluster_require_full_coverage=self.coverage)
            one = Strike(stage, cluster, self.pace_seconds)
            one.start(implementation, name)
            getattr(one, self.fault)()
            met = one.behind or min(one.redirected.values())
            if met or stage.cut_short or attempt + 1 == _MOST_ATTEMPTS:
                break
            one.end()
        stage.finish(patience_seconds=_PATIENCE_SECONDS)
        cluster.heal(idle=stage.pool.idle)
        for client in range(PRIMARIES):
            for number in one.lost(client):
                stage.pool.note("lost", client, number)
        stage.history.read()
        stage.facts |= {"behind": one.behind, "promotion_ms": one.promoted_ms}
        stage.facts |= {kind.lower(): count for kind, count in one.redirected.items()}

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        refused = _of(history, "refused")
        elsewhere = refused["client"] % (PRIMARIES + 1) != STRUCK
        promoted, taken = _of(history, "promoted"), _of(history, "taken")
        mine = taken[taken["client"] % (PRIMARIES + 1) == STRUCK]
        after = promoted["start_ns"].max(initial=0)
        return {
            "taken": len(taken),
            "unconfirmed": len(_of(history, "unconfirmed")),
            "refused": len(refused),
            "refused_elsewhere": int(elsewhere.sum()),
            "lost": len(history.select("lost")),
            "struck": len(_of(history, "struck")),
            "behind": facts["behind"],
            "promoted": len(promoted),
            "promotion_ms": facts["promotion_ms"],
            "taken_after": int((mine["start_ns"] > after).sum()),
            "moved": facts["moved"],
            "asked": facts["ask"],
        }

    def plots(self) -> tuple[Plot, ...]:
        nodes = [f"node {number}" for number in range(1, 2 * PRIMARIES + 1)]
        lanes = Lanes(
            "what each node is",
            nodes,
            bars=[
                Bar("primary", "good", partial(_roles, role=PRIMARY)),
                Bar("replica", "waiting", partial(_roles, role=REPLICA)),
                Bar("dead or cut off", "gone", partial(_out, fault=self.fault)),
            ],
            marks=[
                Mark("the slot comes", "tail", _strikes)
                if self.fault == "reshard"
                else Mark("the fault", "alarm", _strikes)
            ],
        )
        mine = "orders in that slot" if self.fault == "reshard" else "the struck node's orders"
        others = "other orders" if self.fault == "reshard" else "the other two nodes' orders"
        return lanes, self._bars(mine, [STRUCK]), self._bars(others, [0, 1])

    def _bars(self, noun: str, clients: Sequence[int]) -> Bars:
        parts = [
            Part("taken", "good", partial(_orders, clients=clients, kept=True)),
            Part("lost", "alarm", partial(_orders, clients=clients, kept=False)),
            Part("not taken", "waiting", partial(_refusals, clients=clients)),
        ]
        return Bars(
            f"{noun} per 50 ms",
            parts,
            noun=("per 50 ms", "per 50 ms"),
            per_seconds=_SPAN_SECONDS,
        )


def _of(history: History, event: str) -> Rows:
    """The events of one kind in this attempt."""
    rows = history.select(event)
    return rows[rows["start_ns"] >= history.origin_ns]


def _per_span(history: History, rows: Rows, clients: Sequence[int], span_ns: int) -> Times:
    rows = rows[np.isin(rows["client"] % (PRIMARIES + 1), clients)]
    times = rows["end_ns"] - history.origin_ns
    return count_per_span(times, span_ns=span_ns, until_ns=history.elapsed_ns)


def _orders(history: History, span_ns: int, clients: Sequence[int], *, kept: bool) -> Times:
    """The orders that were taken in each span, and are there in the end, or are not."""
    taken, lost = _of(history, "taken"), history.select("lost")
    away = np.zeros(len(taken), bool)
    for client in clients:
        mine = taken["client"] % (PRIMARIES + 1) == client
        away |= mine & np.isin(taken["value"], lost["value"][lost["client"] == client])
    return _per_span(history, taken[away != kept], clients, span_ns)


def _refusals(history: History, span_ns: int, clients: Sequence[int]) -> Times:
    rows = np.concatenate([_of(history, event) for event in ("refused", "unconfirmed")])
    return _per_span(history, rows, clients, span_ns)


def _roles(history: History, role: int) -> Times:
    """From when to when each node took itself for that: (row, start, end)."""
    found = []
    for node in range(2 * PRIMARIES):
        looks = _of(history, f"node {node}")
        times = np.append(looks["start_ns"] - history.origin_ns, history.elapsed_ns)
        edges = np.flatnonzero(np.diff(np.pad((looks["value"] == role).astype(int), 1)))
        found += [(node, times[first], times[last]) for first, last in edges.reshape(-1, 2)]
    return np.array(found, "i8").reshape(-1, 3)


def _out(history: History, fault: str) -> Times:
    """From when to when a node was dead, or cut off: (row, start, end)."""
    if fault != "partition":
        return _roles(history, GONE)
    struck, healed = _of(history, "struck"), _of(history, "healed")
    ends = [*(healed["start_ns"] - history.origin_ns), history.elapsed_ns]
    rows = [(int(row["value"]), row["start_ns"] - history.origin_ns, ends[0]) for row in struck]
    return np.array(rows, "i8").reshape(-1, 3)


def _strikes(history: History) -> Times:
    """Where and when the fault struck: (row, moment)."""
    rows = _of(history, "struck")
    return np.stack([rows["value"].astype("i8"), rows["start_ns"] - history.origin_ns], 1)
