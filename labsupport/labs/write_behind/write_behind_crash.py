"""Page views are acknowledged in Redis and persisted later: what does a kill -9 take?"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from labsupport.charts import Plot
from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.experiments import (
    Contrast,
    Experiment,
    Finding,
    Implementation,
    Numbers,
    Rule,
    Stage,
    choice,
    knob,
)
from labsupport.history import History
from labsupport.labs.write_behind.page_viewers import (
    PAGE,
    PERMITS,
    Place,
    flush,
    poll_counts,
    visit,
)
from labsupport.labs.write_behind.view_counts import Backlog, Counts, largest_backlog, latest
from labsupport.servers import Server
from labsupport.workers import Worker

_OUTAGE_SECONDS, _PATIENCE_SECONDS = 0.12, 8.0
_LEAST_BEFORE, _LEAST_AFTER, _LEAST_BACKLOG = 400, 200, 50
_MOST_BACKLOG, _NO_LIMIT = 150, 10**9
_IN_STEP = 0.8  # the share of the views that the flusher has persisted before it is held up
_SHARE_AFTER = 0.6  # of the views before the kill: a count that starts again must not catch up
_HUNDRED, _TAIL = 100, 50
_AOF = {"no": "No AOF", "everysec": "AOF every second", "always": "AOF always"}


def _killed_under_load(numbers: Numbers) -> bool:
    before = numbers["acknowledged_before_the_kill"]
    return before >= _LEAST_BEFORE and numbers["acknowledged"] - before >= _LEAST_AFTER


@dataclass(frozen=True, kw_only=True)
class WriteBehindCrash(Experiment):
    """Visitors view a page; half-way the Redis that counts them is killed with -9, and restarted.

    The function under study takes nothing and returns the functions of the pattern by name.
    `view(redis, db, page)` counts a view; when it returns, the view is acknowledged.
    `tell(redis, db, page)` returns the count that visitors are shown. If the pattern has them,
    `start(redis, db)` is called at the start and after each restart of Redis, and `flush(redis, db)`
    persists what there is and returns how much; a process of its own repeats it. That one is held
    up for a moment (SIGSTOP) before the kill, so that there is a backlog. What counts as persisted
    is `page_stats.views` in the database, which starts at 0.

    Args:
        persistence: no append-only file (AOF), one that is synced every second, or always.
        processes: how many processes view the page.
        seconds: how long; they go on until there was enough on both sides of the kill.
    """

    parameters: ClassVar[tuple[str, ...]] = ()

    persistence: str = choice("no", among=("no", "everysec", "always"))
    processes: int = knob(3, low=1, high=16)
    seconds: float = knob(1.2, low=0.2, high=60.0, step=0.2)

    contrast = Contrast(
        text="{other} loses at most half as large a share of its views as {first}",
        number=lambda n: n["lost"] / max(n["acknowledged"], 1),
        times=2,
        met=_killed_under_load,
        title="Views lost: {each}",
        each="{name} {lost}",
    )

    @property
    def claims(self) -> Sequence[Rule]:
        # kill -9 spares what the operating system was given, synced or not
        at_stake = "recovery_seen" if self.persistence != "everysec" else "lost_by_the_kill"
        return (
            Rule(
                text="Redis is killed while views are counted, and restarted",
                met=_killed_under_load,
            ),
            Rule(
                text="Every acknowledged view survives the restart",
                met=lambda n: _killed_under_load(n) and n[at_stake] > 0,
                broken="lost_by_the_kill",
                detail="{recovered} of {acknowledged_before_the_kill} are recovered",
            ),
            Rule(
                text="Every acknowledged view is in the database in the end",
                met=lambda n: _killed_under_load(n) and n[at_stake] > 0,
                broken=("lost", "stuck"),
                detail="{persisted} for {acknowledged}",
                final=True,
            ),
            Rule(
                text="No view is counted twice",
                met=lambda n: _killed_under_load(n) and n["persisted"] > 0,
                broken="counted_twice",
            ),
            Rule(
                text="The count in the database never goes back",
                met=lambda n: _killed_under_load(n) and n["persisted"] > 0,
                broken="went_back_by",
                detail="by {went_back_by}",
            ),
        )

    @property
    def findings(self) -> Sequence[Finding]:
        aof = _AOF[self.persistence]
        the_kill = f"{aof}: the kill takes {{who}} {{acknowledged_before_the_kill}} views"
        all_of, some_of = (
            the_kill.replace("{who}", who) for who in ("all", "{lost_by_the_kill} of")
        )
        return (
            Finding(f"{aof}: {{stuck}} of the processes never came back", "stuck"),
            Finding(f"{all_of}, and the count falls", ("all_lost_by_the_kill", "went_back_by")),
            Finding(all_of, "all_lost_by_the_kill"),
            Finding(f"{some_of}, and the count falls", ("lost_by_the_kill", "went_back_by")),
            Finding(some_of, "lost_by_the_kill"),
            Finding(
                f"{aof}: {{lost}} of {{acknowledged}} views {{lost:~is|are}} never persisted",
                "lost",
            ),
            Finding(f"{aof}: {{counted_twice:view is|views are}} counted twice", "counted_twice"),
            Finding(f"{aof}: all {{acknowledged}} views reach the database"),
        )

    @property
    def conditions(self) -> str:
        several = "process views" if self.processes == 1 else "processes view"
        return f"{self.processes} {several} a page; Redis is killed with -9 and restarted"

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        functions = _functions(implementation, name)
        policy = {"appendonly": "yes", "appendfsync": self.persistence}
        server = stage.server(config=policy if self.persistence != "no" else {"appendonly": "no"})
        permits = stage.server()
        shop, pool = stage.shop(), stage.pool
        shop.execute("UPDATE page_stats SET views = 0 WHERE id = :page", page=PAGE)
        place = Place(implementation, server.url, shop, permits.url)
        stage.start(visit, place, clients=self.processes, processes=self.processes, name=name)
        visitors = list(pool.workers)
        flusher = pool.start(flush, place, name=name) if "flush" in functions else None
        pool.start(poll_counts, place, name=name)
        with permits.client() as allowed:
            allowed.set(PERMITS, _NO_LIMIT)
            pool.begin()
            self._count_before(stage, flusher, allowed)
            self._strike(stage, server, visitors, flusher)
            # a count that starts again must not catch up, however late the lab is to look
            allowed.set(PERMITS, int(_SHARE_AFTER * stage.facts["before"]))
            self._count_after(stage)
        _end(stage, visitors)
        # not at a round number, at which a flush by the hundred happens to have lost nothing
        few = (_TAIL - len(stage.history.select("view"))) % _HUNDRED
        _end(stage, [pool.start(visit, place, few, name=name)])
        _end(stage, [flusher] if flusher else [])
        stage.finish(patience_seconds=_PATIENCE_SECONDS)

    def _count_before(self, stage: Stage, flusher: Worker | None, allowed: Any) -> None:
        """Let them count until there is enough to lose; then let a backlog grow, of a known size."""
        enough, history = time.monotonic() + 0.5 * self.seconds, stage.history

        def counted() -> bool:
            views = len(history.select("view"))
            return time.monotonic() > enough and views >= _LEAST_BEFORE

        def in_step() -> bool:
            return latest(history, "persisted") >= _IN_STEP * len(history.select("view"))

        stage.wait(counted, seconds=0.5 * self.seconds + _PATIENCE_SECONDS)
        if flusher is not None:
            # on a busy machine the flusher is behind, and what is to be lost would be any share
            allowed.set(PERMITS, 0)
            stage.wait(in_step, seconds=_PATIENCE_SECONDS)
            flusher.pause()
            history.read()
            # what the flusher had read before, it will persist when it goes on
            behind = len(history.select("view")) + _LEAST_BACKLOG
            allowed.set(PERMITS, _MOST_BACKLOG)
            stage.wait(lambda: len(history.select("view")) >= behind, seconds=_PATIENCE_SECONDS)

    def _strike(
        self, stage: Stage, server: Server, visitors: list[Worker], flusher: Worker | None
    ) -> None:
        """Kill the server under load, restart it, and see what is left before anybody adds to it."""
        server.kill()
        for worker in visitors:
            worker.pause()
        if flusher is not None:
            flusher.resume()
        stage.wait(seconds=_OUTAGE_SECONDS)
        stage.facts["before"] = len(stage.history.select("view"))
        seen = len(stage.history.select("shown"))
        server.restart()

        def settled() -> bool:
            shown = stage.history.select("shown")["value"][seen:]
            return len(shown) >= 3 and len(set(shown[-3:])) == 1

        if stage.wait(settled, seconds=_PATIENCE_SECONDS):
            stage.facts["recovered"] = latest(stage.history, "shown")
        for worker in visitors:
            worker.resume()

    def _count_after(self, stage: Stage) -> None:
        enough, before = time.monotonic() + 0.45 * self.seconds, stage.facts["before"]

        def over() -> bool:
            after = len(stage.history.select("view")) - before
            late = time.monotonic() > enough or after >= _SHARE_AFTER * before
            return late and bool(after >= _LEAST_AFTER)

        stage.wait(over, seconds=0.5 * self.seconds + _PATIENCE_SECONDS)

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        views, before = len(history.select("view")), facts["before"]
        recovered, persisted = facts.get("recovered", np.nan), history.select("persisted")["value"]
        last = latest(history, "persisted")
        taken = 0.0 if np.isnan(recovered) else max(before - recovered, 0.0)
        return {
            "acknowledged": views,
            "acknowledged_before_the_kill": before,
            "recovered": recovered,
            "recovery_seen": int(not np.isnan(recovered)),
            "lost_by_the_kill": taken,
            "all_lost_by_the_kill": int(taken == before > 0),
            "unanswered": len(history.select("unanswered")),
            "persisted": last,
            "lost": max(views - last, 0.0),
            "counted_twice": max(last - views - len(history.select("unanswered")), 0.0),
            "went_back_by": float(np.max(-np.diff(persisted), initial=0.0)) + 0.0,
            "largest_backlog": largest_backlog(history),
            "stuck": facts["stuck"],
        }

    def plots(self) -> tuple[Plot, ...]:
        return Counts(), Backlog()


def _functions(implementation: Implementation, name: str) -> Mapping[str, Callable[..., Any]]:
    try:
        functions = implementation()
    except Exception as error:
        raise ImplementationError(name, error) from error
    known = {"start", "view", "tell", "flush"}
    if not isinstance(functions, dict) or not {"view", "tell"} <= functions.keys() <= known:
        raise InvalidSettingError(
            f"{name} does not return the functions of a pattern by name.",
            'Return {"view": …, "tell": …}, and with them "start" and "flush" if there are any.',
        )
    return functions


def _end(stage: Stage, workers: Sequence[Worker]) -> None:
    """Let workers end, and kill those that do not."""
    for worker in workers:
        worker.send("stop")
    stage.wait_while_alive(
        lambda: all(worker.done for worker in workers), patience_seconds=_PATIENCE_SECONDS
    )
    for worker in workers:
        stage.facts["stuck"] = stage.facts.get("stuck", 0) + (not worker.done)
        worker.kill()
