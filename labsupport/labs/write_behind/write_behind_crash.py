"""Page views are acknowledged in Redis and persisted later: what does a kill -9 take?"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from labsupport.charts import Plot
from labsupport.errors import ImplementationError, InvalidSettingError
from labsupport.experiments.experiment import Experiment, Implementation, Numbers
from labsupport.experiments.knobs import choice, knob
from labsupport.experiments.result import Result
from labsupport.experiments.stage import Stage
from labsupport.history import History
from labsupport.labs.write_behind.page_viewers import PAGE, flush, visit, watch
from labsupport.labs.write_behind.view_counts import Backlog, Counts, largest_backlog, latest
from labsupport.servers import Server
from labsupport.verdict import Claim, status_of
from labsupport.workers import Worker

__all__ = ["WriteBehindCrash"]

_OUTAGE_SECONDS, _PATIENCE_SECONDS = 0.12, 8.0
_LEAST_BEFORE, _LEAST_AFTER, _LEAST_BACKLOG = 400, 200, 50
_IN_STEP = 0.8  # the share of the views that the flusher has persisted before it is held up
_SHARE_AFTER = 0.6  # of the views before the kill: a count that starts again must not catch up
_HUNDRED, _TAIL = 100, 50
_AOF = {"no": "No AOF", "everysec": "AOF every second", "always": "AOF always"}


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

    @property
    def conditions(self) -> str:
        several = "process views" if self.processes == 1 else "processes view"
        return f"{self.processes} {several} a page; Redis is killed with -9 and restarted"

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        functions = _functions(implementation, name)
        policy = {"appendonly": "yes", "appendfsync": self.persistence}
        server = stage.server(config=policy if self.persistence != "no" else {"appendonly": "no"})
        shop, pool = stage.shop(), stage.pool
        shop.execute("UPDATE page_stats SET views = 0 WHERE id = :page", page=PAGE)
        place = (implementation, server.url, shop)
        stage.start(visit, *place, clients=self.processes, processes=self.processes, name=name)
        visitors = list(pool.workers)
        flusher = pool.start(flush, *place, name=name) if "flush" in functions else None
        pool.start(watch, *place, name=name)
        pool.begin()
        self._count_before(stage, flusher)
        self._strike(stage, server, visitors, flusher)
        self._count_after(stage)
        _end(stage, visitors)
        # not at a round number, at which a flush by the hundred happens to have lost nothing
        few = (_TAIL - len(stage.history.select("view"))) % _HUNDRED
        _end(stage, [pool.start(visit, *place, few, name=name)])
        _end(stage, [flusher] if flusher else [])
        stage.finish(patience_seconds=_PATIENCE_SECONDS)

    def _count_before(self, stage: Stage, flusher: Worker | None) -> None:
        """Let them count until there is enough to lose; then let a backlog grow."""
        enough, history = time.monotonic() + 0.5 * self.seconds, stage.history

        def ready() -> bool:
            views = len(history.select("view"))
            late = time.monotonic() > enough and views >= _LEAST_BEFORE
            share = _IN_STEP if flusher else 0.0
            return bool(late and latest(history, "persisted") >= share * views)

        stage.wait(ready, seconds=0.5 * self.seconds + _PATIENCE_SECONDS)
        if flusher is not None:
            flusher.pause()
            history.read()
            # what it had read before, it will persist when it goes on
            behind = len(history.select("view")) + _LEAST_BACKLOG
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
        return {
            "acknowledged": views,
            "acknowledged_before_the_kill": before,
            "recovered": recovered,
            "lost_by_the_kill": max(before - recovered, 0.0),
            "unanswered": len(history.select("unanswered")),
            "persisted": latest(history, "persisted"),
            "lost": max(views - latest(history, "persisted"), 0.0),
            "went_back_by": float(np.max(-np.diff(persisted), initial=0.0)) + 0.0,
            "largest_backlog": largest_backlog(history),
            "stuck": facts["stuck"],
        }

    def judge(self, numbers: Numbers) -> Sequence[Claim]:
        views, before = numbers["acknowledged"], numbers["acknowledged_before_the_kill"]
        met = before >= _LEAST_BEFORE and views - before >= _LEAST_AFTER
        told = met and not np.isnan(numbers["recovered"])
        doubled = numbers["persisted"] > views + numbers["unanswered"]
        incomplete = numbers["lost"] > 0 or numbers["stuck"] > 0
        return (
            Claim("Redis is killed while views are counted, and restarted", status_of(met)),
            Claim(
                "Every acknowledged view survives the restart",
                status_of(told, broken=numbers["lost_by_the_kill"] > 0),
                f"{numbers['recovered']:,.0f} of {before:,.0f} are recovered",
            ),
            Claim(
                "Every acknowledged view is in the database in the end",
                status_of(met, broken=incomplete),
                f"{numbers['persisted']:,.0f} for {views:,.0f}",
            ),
            Claim("No view is counted twice", status_of(met, broken=doubled)),
            Claim(
                "The count in the database never goes back",
                status_of(met, broken=numbers["went_back_by"] > 0),
                f"by {numbers['went_back_by']:,.0f}",
            ),
        )

    def find(self, name: str, numbers: Numbers) -> str:
        views, taken = numbers["acknowledged"], numbers["lost_by_the_kill"]
        before = numbers["acknowledged_before_the_kill"]
        if numbers["stuck"]:
            found = f"{numbers['stuck']:.0f} of the processes never came back"
        elif taken:
            who = "all" if taken == before else f"{taken:,.0f} of"
            back = ", and the count falls" * (numbers["went_back_by"] > 0)
            found = f"the kill takes {who} {before:,.0f} views{back}"
        elif numbers["lost"]:
            found = f"{numbers['lost']:,.0f} of {views:,.0f} views are never persisted"
        elif numbers["persisted"] > views + numbers["unanswered"]:
            found = f"{numbers['persisted'] - views:,.0f} views are counted twice"
        else:
            found = f"all {views:,.0f} views reach the database"
        return f"{_AOF[self.persistence]}: {found}"

    def plots(self) -> Sequence[Plot]:
        return Counts(), Backlog()

    def contrast(self, results: Sequence[Result]) -> tuple[str, Sequence[Claim]]:
        first, *others = results
        claims = []
        for other in others:
            runs = (first.numbers, other.numbers)
            met = all(one["acknowledged_before_the_kill"] >= _LEAST_BEFORE for one in runs)
            share, less = (one["lost"] / max(one["acknowledged"], 1) for one in runs)
            text = f"{other.name} loses at most half as large a share of its views as {first.name}"
            claims.append(Claim(text, status_of(met, broken=not 0 < share >= 2 * less)))
        lost = [f"{one.numbers['lost']:,.0f}" for one in results]
        return f"Views lost, from the top: {', '.join(lost[:-1])} and {lost[-1]}", claims


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
