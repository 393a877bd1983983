"""Clients read through a cache whose server goes away and comes back: who waits, and for what?"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import redis
from numpy.typing import NDArray
from redis.connection import UnixDomainSocketConnection, parse_url

from labsupport.charts import Bars, Part, Plot, Quantiles, count_per_span
from labsupport.database import Database
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
from labsupport.history import History
from labsupport.labs.redis_outage.faults import CONFIG, struck
from labsupport.workers import Client

_KEY = "page:bestsellers"
_OLD, _NEW, _LOADED = "cached before", "cached afterwards", "loaded"
_PATIENCE_SECONDS = 5.0
_AS_BEFORE = 0.9  # of the pages that the rate before the fault would have given
_FEW = 15  # requests of a client, below which its first ones would decide
_NEVER = np.iinfo("i8").max


@dataclass(frozen=True, kw_only=True)
class Outage(Experiment):
    """Clients ask for one page, a hundred times a second each; the page is cached in Redis.

    Under study is `service(connect, load)`. Each client calls it once; it returns `page(key)`,
    which returns the page. `connect(**options)` makes a client of the cache's server as
    `redis.Redis(**options)` does, with all of redis-py's own defaults; `load(key)` makes the page
    from the database. In the middle of the run the server goes away; when it is back, a new page is
    in the cache.

    Args:
        clients: how many there are, each with a service of its own.
        seconds: how long they ask.
        away_seconds: how long Redis is away.
        pace_seconds: a client's time from one request to the next.
        fault: "stopped" (SIGSTOP), "killed" (kill -9) or "busy" (a script that does not end).
        processes: how many processes the clients share.
    """

    parameters: ClassVar[tuple[str, ...]] = ("connect", "load")

    clients: int = knob(6, low=2, high=60)
    seconds: float = knob(1.6, low=0.6, high=60.0, step=0.2)
    away_seconds: float = knob(1.0, low=0.2, high=50.0, step=0.1)
    pace_seconds: float = knob(0.01, low=0.005, high=0.5, step=0.005)
    fault: str = choice("stopped", among=("stopped", "killed", "busy"))
    processes: int = knob(3, low=1, high=8)

    def check(self) -> None:
        if self.away_seconds > self.seconds - 0.4:
            raise InvalidSettingError(
                f"away_seconds is {self.away_seconds:g} and seconds is {self.seconds:g}.",
                "Leave at least 0.4 s of the run with Redis there.",
            )

    claims = (
        Rule(
            text="No caller is given an error",
            met="all_struck",
            broken="errors",
            detail="{errors} of {requests} requests",
        ),
        Rule(
            text="No caller waits until Redis is back",
            met="all_struck",
            broken="stuck",
            detail="{stuck:caller|callers}",
        ),
        Rule(
            text="Most requests are served without asking Redis while it is down",
            met="all_struck",
            broken=lambda n: n["stuck"] > 0 or 2 * n["knocks"] > n["touched"],
            detail="{knocks:attempt|attempts} to connect, {touched:request|requests}",
        ),
        Rule(
            text="Redis is used again once it is back",
            met="all_struck",
            broken=lambda n: n["back_in_use"] < n["clients"],
            detail="by {back_in_use} of {clients} clients",
        ),
    )
    findings = (
        Finding("Nobody met the fault: nothing was put to the test", lambda n: not n["all_struck"]),
        Finding("{stuck:caller waits|callers wait} until Redis is back", "stuck"),
        Finding("{errors:request ends|requests end} in an error", "errors"),
        Finding(
            "While Redis is down a request takes {wait_ms:ms},"
            " and {served} of {due} pages {served:~is|are} served",
            lambda n: 2 * n["knocks"] > n["touched"],
        ),
        Finding(
            "Redis is back, and not all clients use it", lambda n: n["back_in_use"] < n["clients"]
        ),
        Finding(
            "While Redis is down, pages are served as before",
            lambda n: n["served"] >= _AS_BEFORE * n["due"],
        ),
        Finding(
            "While Redis is down, {served:page is|pages are} served where {due} {due:~is|are} due"
        ),
    )
    contrast = Contrast(
        text="With {other} a request takes at most a third as long as with {first}",
        number="wait_ms",
        met="all_struck",
        times=3,
        title="A request while Redis is down: {each}",
        each="{name} {wait_ms:ms}",
    )

    @property
    def conditions(self) -> str:
        return f"{self.clients} clients; Redis is {self.fault} for {self.away_seconds:g} s"

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        server, shop = stage.server(config=CONFIG), stage.shop()
        with server.client() as admin:
            admin.set(_KEY, _OLD)
        stage.start(
            _ask,
            implementation,
            parse_url(server.url)["path"],
            shop,
            self.pace_seconds,
            clients=self.clients,
            processes=self.processes,
            name=name,
        )
        stage.pool.begin()
        stage.wait(lambda: self._have(stage.history, "before"), seconds=_PATIENCE_SECONDS)
        stage.wait(seconds=(self.seconds - self.away_seconds) / 2)
        with struck(server, self.fault):
            stage.pool.note("away", 0)
            stage.wait(seconds=self.away_seconds)
            # on a slow machine a little longer, as long as somebody is served at all
            stage.wait(lambda: _fewest_served(stage.history) >= _FEW, seconds=2 * self.away_seconds)
            stage.pool.note("back", 0)
        with server.client() as admin:

            def used_again() -> bool:
                admin.set(_KEY, _NEW)  # whoever found the key missing may have filled it
                return self._have(stage.history, "afterwards")

            stage.wait(used_again, seconds=_PATIENCE_SECONDS)
        stage.wait(seconds=self.seconds - stage.history.elapsed_ns / 1e9)
        stage.finish(patience_seconds=_PATIENCE_SECONDS)

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        away, back = _outage(history)
        requests, errors = history.select("request"), history.select("error")
        begun, ended = requests["start_ns"], requests["end_ns"]
        touched = requests[(ended > away) & (begun < back)]
        served = int(((ended > away) & (ended <= back)).sum())
        served -= int(((errors["end_ns"] > away) & (errors["end_ns"] <= back)).sum())
        knocks = history.select("connect")["end_ns"]
        took = (touched["end_ns"] - touched["start_ns"]) / 1e6
        before = int((ended <= away).sum()) / max(away - int(begun.min(initial=away)), 1)
        return {
            "requests": len(requests),
            "errors": len(errors),
            "all_struck": int(len(np.unique(touched["client"])) == self.clients),
            "touched": len(touched),
            "knocks": int(((knocks > away) & (knocks <= back)).sum()),
            "stuck": int(((begun < (away + back) // 2) & (ended > back)).sum()),
            "served": served,
            "due": before * (back - away),
            "wait_ms": float(took.mean()) if len(took) else 0.0,
            "p99_ms": float(np.percentile(took, 99)) if len(took) else 0.0,
            "loads": int((history.select("load")["start_ns"] >= away).sum()),
            "back_in_use": len(np.unique(history.select("afterwards")["client"])),
        }

    def plots(self) -> tuple[Plot, ...]:
        parts = (
            Part("from the cache", "work", lambda *run: _per_span("cached", *run)),
            Part("from the database", "waiting", lambda *run: _per_span("loaded", *run)),
            Part("errors", "alarm", lambda *run: _per_span("error", *run)),
        )
        pages = Bars("answers per 50 ms", parts, noun=("per 50 ms", "per 50 ms"))
        took = Quantiles("latency of requests under way (ms)", "request", top_ms=3000.0)
        return (took, pages)

    def _have(self, history: History, event: str) -> bool:
        return len(np.unique(history.select(event)["client"])) == self.clients


def _ask(
    client: Client, service: Implementation, path: str, shop: Database, pace_seconds: float
) -> None:
    """Be a client: ask for the page at an even pace, or as soon as the last answer is there."""

    class NotedConnection(UnixDomainSocketConnection):
        def _connect(self):  # type: ignore[no-untyped-def]
            client.note("connect")
            return super()._connect()  # type: ignore[no-untyped-call]

    def connect(**options: Any) -> redis.Redis:
        given: dict[str, Any] = {"decode_responses": True, "unix_socket_path": path}
        made = redis.Redis(**(given | options))
        made.connection_pool.connection_class = NotedConnection
        return made

    session = shop.session()

    def load(key: str) -> str:
        with client.timed("load"):
            session.fetch_one("SELECT name FROM products WHERE id = :id", id=1)
        return _LOADED

    page = service(connect, load)
    client.meet()
    due = time.monotonic()
    while client.running:
        start = time.monotonic_ns()
        try:
            answer = page(_KEY)
        except redis.RedisError:
            answer = "error"
        end = time.monotonic_ns()
        client.record("request", start, end)
        event = {_OLD: "before", _NEW: "afterwards", _LOADED: "loaded"}.get(answer, "error")
        client.record(event, start, end)
        due = max(due + pace_seconds, time.monotonic())  # what was missed is not made up for
        client.rest(max(0.0, due - time.monotonic()))


def _fewest_served(history: History) -> int:
    """How many requests the client with the fewest has ended since Redis is away, if it has any."""
    requests = history.select("request")
    served = requests[requests["end_ns"] > _outage(history)[0]]
    counts = np.unique(served["client"], return_counts=True)[1]
    return int(counts.min(initial=_NEVER))


def _outage(history: History) -> tuple[int, int]:
    """When Redis went away, and when it came back."""
    away, back = (int(history.select(e)["end_ns"].min(initial=_NEVER)) for e in ("away", "back"))
    return away, back


def _per_span(kind: str, history: History, span_ns: int) -> NDArray[np.int64]:
    events = ("before", "afterwards") if kind == "cached" else (kind,)
    times = np.concatenate([history.select(event)["end_ns"] for event in events])
    return count_per_span(times - history.origin_ns, span_ns=span_ns, until_ns=history.elapsed_ns)
