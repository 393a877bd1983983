"""What it costs to write into the cache as well: latency, and memory for rows that nobody reads."""

import json
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labsupport.charts import Line, Lines, Plot, Quantiles
from labsupport.database import Database
from labsupport.experiments import Contrast, Experiment, Finding, Implementation, Rule, Stage, knob
from labsupport.history import History
from labsupport.servers import OWNER_KEY, connect_client
from labsupport.workers import Client

_VIEWS_PER_LOOK = 50  # so often the memory is looked at
_REST_SECONDS = 0.0005  # between two writes, and between two views
_PATIENCE_SECONDS = 10.0
_USER = "SELECT * FROM users WHERE id = :id"


@dataclass(frozen=True, kw_only=True)
class WriteCost(Experiment):
    """A writer changes one user after the other; a reader looks up those who come to the shop.

    The function under study is `update(redis, db, user_id, name)`: it changes a row, and does with
    the key `user:{user_id}` what it thinks right. The reader looks users up in the order of the
    shop's page views, which follow Zipf's law: in the cache first, else in the database, and then
    it fills the cache.

    Args:
        views: how many page views the reader follows.
        seconds: how long the writer writes; it goes on until each row was written and read once.
    """

    parameters: ClassVar[tuple[str, ...]] = ("redis", "db", "user_id", "name")

    views: int = knob(1000, low=50, high=20_000, step=50)
    seconds: float = knob(1.0, low=0.2, high=30.0, step=0.1)

    claims = (
        Rule(
            text="Every row is written while the reader follows the page views",
            met=("all_written", "all_followed"),
            broken="stuck",
            detail="{writes:write|writes}, {views:view|views}",
            final=True,
        ),
        Rule(
            text="No memory is spent on rows that nobody reads",
            met=("all_written", "all_followed", "rows_nobody_reads"),
            broken="never_read_bytes",
            detail="{never_read_bytes} of {cached_bytes} bytes",
        ),
    )
    findings = (
        Finding("The writer never came back", "stuck"),
        Finding(
            "{never_read_percent} % of the memory is for rows that nobody reads", "never_read_bytes"
        ),
        Finding("Only what is read is cached", "cached_bytes"),
        Finding("Nothing is cached in the end"),
    )
    contrast = Contrast(
        text="{first} caches rows that nobody reads, {other} none",
        number=lambda n: n["never_read_bytes"] / 1000,
        met=("all_written", "all_followed"),
        title="For nobody: {worst} kB with {first}, {most} with {rest}",
    )

    @property
    def conditions(self) -> str:
        return f"one writer changes every user, one reader follows {self.views:,} page views"

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        server, shop = stage.server(), stage.shop()
        trace = shop.fetch_all("SELECT user_id FROM page_views ORDER BY id LIMIT :n", n=self.views)
        users = [row["id"] for row in shop.fetch_all("SELECT id FROM users ORDER BY id")]
        random.Random(len(users)).shuffle(users)
        stage.pool.start(_write, implementation, server.url, shop, users, name=name)
        reader = stage.pool.start(
            _follow, server.url, shop, [row["user_id"] for row in trace], name="the reader"
        )
        stage.facts["users"] = len(users)
        stage.pool.begin()
        stage.wait(seconds=self.seconds)
        stage.wait_while_alive(
            lambda: reader.done and len(stage.history.select("write")) >= len(users),
            patience_seconds=_PATIENCE_SECONDS,
        )
        stage.facts["stuck"] = len(stage.finish(patience_seconds=_PATIENCE_SECONDS))
        with server.client() as redis:
            read = {row["user_id"] for row in trace}
            stage.facts["read"] = len(read)
            stage.facts["in_the_end"] = _look(redis, read)

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        writes = history.select("write")
        took = (writes["end_ns"] - writes["start_ns"]) / 1e6
        p50, p99 = np.percentile(took, [50, 99]) if len(took) else (np.nan, np.nan)
        cached, used = facts["in_the_end"]
        return {
            "writes": len(writes),
            "rows_written": len(np.unique(writes["value"])),
            "views": len(history.select("view")),
            "all_written": int(len(np.unique(writes["value"])) == facts["users"]),
            "rows_nobody_reads": facts["users"] - facts["read"],
            "all_followed": int(len(history.select("view")) == self.views),
            "cached_bytes": cached,
            "never_read_bytes": cached - used,
            "never_read_percent": 100 * (cached - used) / max(cached, 1),
            "stuck": facts["stuck"],
            "p50_ms": float(p50),
            "p99_ms": float(p99),
        }

    def plots(self) -> tuple[Plot, ...]:
        return (
            Quantiles("latency of a write (ms)", "write", bottom_ms=0.01, top_ms=10.0),
            Lines(
                "kB in the cache",
                (
                    Line("cached", "limit", lambda history: _kilobytes(history, "cached")),
                    Line("was read", "good", lambda history: _kilobytes(history, "used")),
                ),
                top=100.0,
                gap=("cached", "was read", "alarm", "not read"),
            ),
        )


def _write(
    client: Client, update: Implementation, url: str, shop: Database, users: list[int]
) -> None:
    """Be the writer: change one user after the other."""
    redis = connect_client(url)
    redis.ping()
    client.meet()
    rounds = 0
    while client.running:
        rounds += 1
        for user in users:
            if not client.running:
                return
            start = time.monotonic_ns()
            update(redis, shop, user, f"name {rounds}")
            client.record("write", start, time.monotonic_ns(), user)
            client.rest(_REST_SECONDS)


def _follow(client: Client, url: str, shop: Database, trace: list[int]) -> None:
    """Be the reader: look up those who come, and look now and then at the memory."""
    redis, read = connect_client(url), set[int]()
    client.meet()
    for place, user in enumerate(trace, 1):
        if not client.running:
            return
        with client.timed("view"):
            if redis.get(f"user:{user}") is None:
                redis.set(f"user:{user}", json.dumps(shop.fetch_one(_USER, id=user)), ex=3600)
        read.add(user)
        if place % _VIEWS_PER_LOOK == 0:
            cached, used = _look(redis, read)
            client.note("cached", cached)
            client.note("used", used)
        client.rest(_REST_SECONDS)


def _look(redis: Any, read: set[int]) -> tuple[int, int]:
    """The bytes of all keys, and of those that have to do with a user who was looked up."""
    keys = sorted(key for key in redis.scan_iter(count=1000) if key != OWNER_KEY)
    pipe = redis.pipeline(transaction=False)
    for key in keys:
        pipe.memory_usage(key)
    cached = used = 0
    for key, size in zip(keys, pipe.execute(), strict=True):
        numbers = map(int, re.findall(r"\d+", key))
        cached += size or 0  # it may be gone by now
        used += (size or 0) * any(number in read for number in numbers)
    return cached, used


def _kilobytes(history: History, event: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rows = history.select(event)
    return rows["end_ns"] - history.origin_ns, rows["value"] / 1000
