"""One publisher, and subscribers that come late, die, lose their connection, or fall behind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labsupport.charts import Bar, Lanes, Mark, Plot
from labsupport.errors import InvalidSettingError
from labsupport.experiments import (
    Contrast,
    Experiment,
    Finding,
    Implementation,
    Result,
    Rule,
    Stage,
    knob,
)
from labsupport.history import History
from labsupport.labs.pubsub.clients import (
    BLOCK_BYTES,
    BUFFER_BYTES,
    PATIENCE_SECONDS,
    SUBSCRIBERS,
    Messaging,
    counts_of,
    in_rows,
    kept_for,
    probe,
    publish,
)
from labsupport.servers import Server
from labsupport.workers import Worker

_TOGETHER_NS = 40_000_000  # receipts no further apart are drawn as one bar
_FAULTS = {
    "steady": "without a fault",
    "killed": "that is killed and restarted",
    "cut": "that is cut off",
    "slow": "that is too slow",
    "late": "that comes late",
}
_STRUCK = ("killed", "cut", "slow")


@dataclass(frozen=True, kw_only=True)
class LostMessages(Experiment):
    """One process sends messages to five subscribers, each in a process of its own.

    What is under study is `transport(redis, names)`: it returns two functions, `send(message)`,
    which sends a text to all subscribers, and `receive(me, handle)`, which calls `handle(message)`
    with each text, in the order in which they were sent, for as long as it lives. Each process
    calls `transport` with its own `redis`; an error of the connection ends `receive`, which is then
    called again, as the supervisor of a service does.

    `killed` dies with the last message of the first part handled, and not yet acknowledged; `cut`
    is stopped and its connections are closed (CLIENT KILL); `slow` is stopped while more is sent
    than the server keeps for it; `late` starts after the first part.

    Args:
        messages: how many are sent in all.
        missed: how many of them while the others are away.
        seconds: how long the sending takes.
        retries: how often redis-py may connect anew without a word; its own default is 10.
    """

    parameters: ClassVar[tuple[str, ...]] = ("redis", "names")
    subscribers: ClassVar[tuple[str, ...]] = SUBSCRIBERS

    messages: int = knob(1000, low=200, high=20_000, step=100)
    missed: int = knob(300, low=50, high=5_000, step=50)
    seconds: float = knob(1.0, low=0.1, high=60.0, step=0.1)
    retries: int = knob(0, low=0, high=10)

    def check(self) -> None:
        if self.missed > self.messages // 2:
            raise InvalidSettingError(
                f"missed is {self.missed} of {self.messages} messages.",
                "Make messages at least twice missed.",
            )

    claims = (
        *(
            Rule(
                text=f"A subscriber {fault} receives every message",
                met=("over", f"{who}_met"),
                broken=f"{who}_lost",
                detail=f"{{{who}_lost}} of {{sent}} lost",
                final=True,
            )
            for who, fault in _FAULTS.items()
        ),
        Rule(
            text="Nobody misses messages without an error",
            met=("over", "cut_met", "slow_met"),
            broken=lambda n: any(n[f"{who}_lost"] and not n[f"{who}_error"] for who in _STRUCK[1:]),
            detail="errors: cut {cut_error}, slow {slow_error}",
            final=True,
        ),
        Rule(
            text="Nobody handles a message twice",
            met=("over", "killed_met"),
            broken="twice",
            detail="{twice}",
        ),
    )
    findings = (
        Finding(
            "Messages do not arrive at all: nothing was put to the test", lambda n: not n["over"]
        ),
        Finding("{lost:message|messages} lost, by {losing} of {subscribers} subscribers", "lost"),
        Finding("Nothing is lost; {twice} handled twice", "twice"),
        Finding("Nothing is lost"),
    )
    contrast = Contrast(
        text="{first} loses messages, {other} loses none",
        number="lost",
        met=("over", *(f"{who}_met" for who in _STRUCK)),
        title="Lost: {each}",
    )

    @property
    def conditions(self) -> str:
        return (
            f"{self.messages:,} messages, {self.missed:,} of them while three subscribers are away"
        )

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        server = stage.server(config={"client-output-buffer-limit": f"pubsub {BUFFER_BYTES} 0 0"})
        first = (self.messages - self.missed) * 4 // 7
        run = Messaging(stage, server, implementation, name, self.retries)
        prober = run.start(probe, gated=True)
        publisher = run.start(publish, first, self.missed, self.messages, self.seconds, gated=True)
        subscribers = {
            who: run.subscribe(who, hold_at=first if who == "killed" else 0)
            for who in ("steady", "killed", "cut", "slow")
        }
        stage.pool.begin()
        stage.facts["met"] = {}
        if run.all_hear(prober, subscribers):
            publisher.until("strike")
            self._strike(stage, server, run, prober, subscribers)
            publisher.until("part sent")
            while not len(stage.history.select("back")):
                run.received_so_far("steady", "late")
                publisher.until("part sent")
            # Valkey 9.1 keeps a message of 16 kB once for all, and does not count it: no cut, no fault
            most = 0 if server.product.name == "Valkey" else BLOCK_BYTES
            stage.facts["met"]["slow"] = kept_for("slow", server) <= most
            subscribers["killed"] = run.subscribe("killed", later=True)
            subscribers["cut"].resume()
            subscribers["slow"].resume()
            run.all_hear(prober, subscribers)
            publisher.finish(seconds=self.seconds + 30)
            stage.facts["over"] = run.all_hear(prober, subscribers)
        for worker in stage.pool.workers:
            worker.kill()
        stage.finish(patience_seconds=PATIENCE_SECONDS)

    def _strike(
        self,
        stage: Stage,
        server: Server,
        run: Messaging,
        prober: Worker,
        subscribers: dict[str, Worker],
    ) -> None:
        """Kill one, cut one off, stop one, and let one more come."""
        met = stage.facts["met"]
        met["killed"] = stage.wait(
            lambda: len(stage.history.select("held")) > 0, seconds=PATIENCE_SECONDS
        )
        subscribers["late"] = run.subscribe("late", later=True)
        run.all_hear(prober, subscribers.keys() - {"killed"})
        subscribers["killed"].kill()
        subscribers["cut"].pause()
        met["cut"] = server.disconnect("cut")
        subscribers["slow"].pause()

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        counts = counts_of(history, self.messages)
        numbers: dict[str, float] = {"sent": len(history.select("sent"))}
        for who, times in zip(SUBSCRIBERS, counts, strict=True):
            numbers[f"{who}_lost"] = int((times == 0).sum())
            numbers[f"{who}_twice"] = int((times > 1).sum())
        for what in ("connected", "error"):
            rows = in_rows(history, what)
            back = history.select("back")["end_ns"].min(initial=np.iinfo("i8").max)
            for who in _STRUCK[1:]:
                of = (rows["row"] == SUBSCRIBERS.index(who)) & (rows["at_ns"] >= back)
                numbers[f"{who}_{what}"] = int(of.sum())
        met = {"steady": 1, "late": 1} | facts["met"]
        numbers |= {f"{who}_met": int(met.get(who, 0) > 0) for who in SUBSCRIBERS}
        return numbers | {
            "subscribers": len(SUBSCRIBERS),
            "over": int(facts.get("over", False)),
            "lost": int((counts == 0).sum()),
            "losing": int((counts == 0).any(axis=1).sum()),
            "twice": int((counts > 1).sum()),
        }

    def plots(self) -> tuple[Plot, ...]:
        return (
            Lanes(
                "what each subscriber received, and what it lost",
                SUBSCRIBERS,
                bars=(
                    Bar("away", "gone", _away),
                    Bar("receives", "work", _received),
                    Bar("loses", "alarm", _lost),
                ),
                marks=(
                    Mark("error", "waiting", lambda history: _points(history, "error")),
                    Mark("twice", "second", _repeated),
                ),
                gap="nothing is sent",
            ),
        )

    def count(self, result: Result) -> pd.DataFrame:
        """What each subscriber was sent, received, lost and received again, as a table."""
        counts = counts_of(result.events, self.messages)
        table = {
            who: {
                "sent": int(result.numbers["sent"]),
                "received": int(times.sum()),
                "lost": int((times == 0).sum()),
                "twice": int((times > 1).sum()),
            }
            for who, times in zip(SUBSCRIBERS, counts, strict=True)
        }
        return pd.DataFrame(table).T


def _points(history: History, event: str) -> NDArray[np.int64]:
    rows = in_rows(history, event)
    return np.column_stack([rows["row"], rows["at_ns"] - history.origin_ns])


def _away(history: History) -> NDArray[np.int64]:
    strike, back = (
        int(history.select(event)["end_ns"].min(initial=history.origin_ns + history.elapsed_ns))
        - history.origin_ns
        for event in ("strike", "back")
    )
    late = (SUBSCRIBERS.index("late"), 0, strike)
    struck = [(SUBSCRIBERS.index(who), strike, back) for who in _STRUCK]
    return np.array([late, *struck], "i8")


def _received(history: History) -> NDArray[np.int64]:
    rows, spans = in_rows(history, "received"), []
    for row in range(len(SUBSCRIBERS)):
        at = rows["at_ns"][rows["row"] == row] - history.origin_ns
        for run in np.split(at, np.flatnonzero(np.diff(at) > _TOGETHER_NS) + 1):
            spans += [(row, run[0], run[-1])] if len(run) else []
    return np.array(spans, "i8").reshape(-1, 3)


def _lost(history: History) -> NDArray[np.int64]:
    """When the messages were sent that a subscriber lost: a later one has reached it, or nobody."""
    sent = history.select("sent")
    rows, spans = in_rows(history, "received"), []
    began, ended = sent["start_ns"] - history.origin_ns, sent["end_ns"] - history.origin_ns
    for row in range(len(SUBSCRIBERS)):
        got = rows["value"][rows["row"] == row]
        missing = ~np.isin(sent["value"], got) & (sent["value"] < got.max(initial=0))
        edges = np.flatnonzero(np.diff(np.pad(missing.astype(int), 1))).reshape(-1, 2)
        spans += [(row, began[first], ended[after - 1]) for first, after in edges]
    return np.array(spans, "i8").reshape(-1, 3)


def _repeated(history: History) -> NDArray[np.int64]:
    rows = in_rows(history, "received")
    keys = rows["row"] * 1_000_000 + rows["value"].astype("i8")
    again = np.ones(len(rows), bool)
    again[np.unique(keys, return_index=True)[1]] = False
    return np.column_stack([rows["row"], rows["at_ns"] - history.origin_ns])[again]
