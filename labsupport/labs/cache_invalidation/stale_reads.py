"""Services with a cache each: who serves an old row after an update, and for how long?"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from labsupport.charts import Bar, Lanes, Mark, Plot
from labsupport.experiments import Contrast, Experiment, Finding, Implementation, Rule, Stage, knob
from labsupport.history import History
from labsupport.labs.cache_invalidation.row_services import serve, write
from labsupport.labs.cache_invalidation.staleness import (
    ENOUGH_READS,
    cut_spans,
    is_late,
    reads_of,
    stale_reads,
    stale_spans,
    update_points,
)
from labsupport.servers import Server
from labsupport.workers import Worker

_READS_BETWEEN = 15  # so that one sees in the chart what comes after what
_MOST_ROUNDS = 5
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class StaleReads(Experiment):
    """Services in processes of their own read one row again and again, while a writer changes it.

    The function under study is `service(connect, db, ttl)`: it is called once in each process and
    returns two functions, `get(user_id)` and `update(user_id, name)`. `connect` makes a client of
    the run's Redis, with the options that it is given; `ttl`, in seconds, is how long a service may
    trust a copy of its own.

    A round is two updates. Of the first, all can hear. During the second, the last service is
    stopped (SIGSTOP) and its connections are killed (CLIENT KILL); then it goes on (SIGCONT). The
    round is repeated if that took so long that its copy was too old in any case.

    Args:
        services: how many there are.
        ttl_seconds: what the function is given as `ttl`.
        seconds: how long they read; they go on until an old row has had its time.
    """

    parameters: ClassVar[tuple[str, ...]] = ("connect", "db", "ttl")

    services: int = knob(3, low=2, high=12)
    ttl_seconds: float = knob(1.0, low=0.2, high=10.0, step=0.1)
    seconds: float = knob(1.2, low=0.2, high=30.0, step=0.1)

    claims = (
        Rule(
            text="An update reaches every service that is connected",
            met="told_met",
            broken=("not_told", "stuck"),
            detail="{not_told:time|times} it did not",
            final=True,
        ),
        Rule(
            text="A service that was cut off learns of the update when it is back",
            met="cut_met",
            broken="late_after_cut",
            detail="up to {longest_stale_seconds:.3f} s",
        ),
        Rule(
            text="No old row is served for longer than twice the local TTL",
            met="ttl_met",
            broken=("overdue_reads", "stuck"),
            detail="up to {longest_stale_seconds:.3f} s",
            final=True,
        ),
    )
    findings = (
        Finding("{stuck} of {services} services never {stuck:~answers|answer}", "stuck"),
        Finding("The old row stays: the shared cache gives it back", "overdue_reads"),
        Finding(
            "Connected services serve the old row, for up to {longest_stale_seconds:s}",
            "not_told",
        ),
        Finding(
            "Cut off for a moment, service {services} is stale for {longest_stale_seconds:s}",
            "late_after_cut",
        ),
        Finding("The cut met no copy: nothing was put to the test", lambda n: not n["cut_met"]),
        Finding(
            lambda n: (
                "No service serves an old row for longer than"
                f" {max(1000 * n['longest_stale_seconds'], 1):.0f} ms"
            )
        ),
    )
    contrast = Contrast(
        text="After a cut {first} goes on with the old row, {other} does not",
        number="late_after_cut",
        met="cut_met",
        title="Longest time with an old row: {each}",
        each="{name} {longest_stale_seconds:s}",
    )

    @property
    def conditions(self) -> str:
        return f"{self.services} services read one row, local TTL {self.ttl_seconds:g} s"

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        server, shop = stage.server(tcp=True), stage.shop()
        given = (implementation, server.url, shop, float(self.ttl_seconds))
        services = [
            stage.pool.start(serve, *given, f"service-{row}", name=name)
            for row in range(1, self.services + 1)
        ]
        writer = stage.pool.start(write, *given, gated=True, name=name)
        stage.pool.begin()
        rounds: list[dict[str, int]] = []
        while not rounds or self._open(stage.history, rounds):
            # in haste when it was too slow the first time
            rest = 0 if rounds else _READS_BETWEEN
            rounds.append(self._round(stage, server, services[-1], writer, rest))
        latest = stage.history.select("update")["value"].max()
        over = time.monotonic_ns() + int(2e9 * self.ttl_seconds)

        def had_its_time() -> bool:
            """Whether all have the latest row, or have read when no copy may be that old."""
            reads = [reads_of(stage.history, row)[-1] for row in range(1, self.services + 1)]
            return all(one["value"] >= latest or one["start_ns"] > over for one in reads)

        seconds = 0.0 if rounds[-1]["stuck"] else 2 * self.ttl_seconds + _PATIENCE_SECONDS
        stage.facts["had_its_time"] = stage.wait(had_its_time, seconds=seconds)
        stage.wait(seconds=self.seconds - stage.history.elapsed_ns / 1e9)
        stage.pool.stop()
        writer.finish()
        stage.facts["rounds"] = rounds
        stage.facts["stuck"] = len(stage.finish(patience_seconds=_PATIENCE_SECONDS))

    def _round(
        self, stage: Stage, server: Server, last: Worker, writer: Worker, rest: int
    ) -> dict[str, int]:
        """An update that all can hear of, and one that the last service cannot."""
        everyone, stuck = range(1, self.services + 1), False

        def settle(rows: Sequence[int], since_ns: int, value: float, more: int) -> None:
            """Wait until services have a row and read it some more, or have read often enough."""

            def settled(row: int) -> bool:
                reads = reads_of(stage.history, row, since_ns)
                return len(reads) >= ENOUGH_READS or int((reads["value"] >= value).sum()) > more

            nonlocal stuck
            seconds = 0.0 if stuck else _PATIENCE_SECONDS
            stuck = not stage.wait(lambda: all(map(settled, rows)), seconds=seconds)

        settle(everyone, 0, 1.0, rest)
        told = _update(stage, writer)
        settle(everyone, told["end_ns"], told["value"], rest)
        last.pause()
        killed = server.disconnect(f"service-{self.services}")
        missed = _update(stage, writer)
        settle(everyone[:-1], missed["end_ns"], missed["value"], rest)
        last.resume()
        resumed = time.monotonic_ns()
        settle(everyone, resumed, missed["value"], ENOUGH_READS)
        return {"killed": killed, "resumed_ns": resumed, "stuck": int(stuck)}

    def _open(self, history: History, rounds: Sequence[Mapping[str, int]]) -> bool:
        """Whether one more round may put to the test what the last one did not."""
        last, missed = rounds[-1], history.select("update")[-1]
        done = len(rounds) == _MOST_ROUNDS or last["stuck"] or self._met(history, last)
        return not done and not is_late(history, self.services, last["resumed_ns"], missed)

    def _met(self, history: History, one: Mapping[str, int]) -> bool:
        """Whether the copy that was cut off from the news was good for all the reads that count."""
        reads, missed = reads_of(history, self.services), history.select("update")[-1]
        before = reads[reads["start_ns"] < missed["start_ns"]]
        after = reads_of(history, self.services, one["resumed_ns"])[:ENOUGH_READS]
        if not one["killed"] or len(before) == 0 or len(after) < ENOUGH_READS:
            return False
        # at the earliest, as it is no older than the first read that returned it
        got = before["start_ns"][before["value"] == before["value"][-1]][0]
        return bool(after["start_ns"][-1] - got < 1e9 * self.ttl_seconds)

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        told, missed = history.select("update")[-2:]
        since = {row: int(missed["end_ns"]) for row in range(1, self.services + 1)}
        since[self.services] = facts["rounds"][-1]["resumed_ns"]
        late = [is_late(history, row, start, missed) for row, start in since.items()]
        reads = history.select("read")
        stale = stale_spans(history)
        lengths = (stale[:, 2] - stale[:, 1]) / 1e9
        read_both = [
            (mine["end_ns"] < told["start_ns"]).any() and (mine["start_ns"] > told["end_ns"]).any()
            for mine in (reads_of(history, row) for row in since)
        ]
        return {
            "told_met": int(all(read_both)),
            "ttl_met": int(facts["had_its_time"]),
            "reads": len(reads),
            "updates": len(history.select("update")),
            "stale_reads": int(stale_reads(history, reads).sum()),
            "not_told": sum(late[:-1])
            + sum(is_late(history, row, told["end_ns"], told) for row in since),
            "cut_met": int(self._met(history, facts["rounds"][-1])),
            "late_after_cut": int(late[-1]),
            "overdue_reads": int(stale_reads(history, reads, after=2 * self.ttl_seconds).sum()),
            "stuck": facts["stuck"],
            "longest_stale_seconds": float(lengths.max(initial=0.0)),
        }

    def plots(self) -> tuple[Plot, ...]:
        rows = ["writer", *(f"service {row}" for row in range(1, self.services + 1))]
        return (
            Lanes(
                "which row each service serves",
                rows,
                bars=(
                    Bar("new row", "good", lambda history: stale_spans(history, stale=False)),
                    Bar("old row", "alarm", lambda history: stale_spans(history)),
                    Bar("cut off", "gone", lambda history: cut_spans(history, self.services)),
                ),
                marks=(Mark("update", "work", update_points),),
            ),
        )


def _update(stage: Stage, writer: Worker) -> Any:
    """Let the writer make one update; its row in the history."""
    writer.until("before an update")
    writer.until("after an update")
    stage.history.read()
    return stage.history.select("update")[-1]
