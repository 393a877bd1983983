"""What it costs to write into the cache as well: latency, and memory for rows that nobody reads."""

import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labsupport.charts import Line, Lines, Plot, Quantiles
from labsupport.database import Database
from labsupport.experiments.experiment import Experiment, Implementation, Numbers
from labsupport.experiments.knobs import knob
from labsupport.experiments.result import Result
from labsupport.experiments.stage import Stage
from labsupport.history import History
from labsupport.servers import OWNER_KEY, connect_client
from labsupport.verdict import Claim, status_of
from labsupport.workers import Client

__all__ = ["WriteCost"]

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
            "cached_bytes": cached,
            "never_read_bytes": cached - used,
            "stuck": facts["stuck"],
            "p50_ms": float(p50),
            "p99_ms": float(p99),
        }

    def judge(self, numbers: Numbers) -> Sequence[Claim]:
        met = bool(numbers["all_written"]) and numbers["views"] == self.views
        return (
            Claim(
                "Every row is written while the reader follows the page views",
                status_of(met, broken=numbers["stuck"] > 0),
                f"{numbers['writes']:,.0f} writes, {numbers['views']:,.0f} views",
            ),
            Claim(
                "No memory is spent on rows that nobody reads",
                status_of(met, broken=numbers["never_read_bytes"] != 0),
                f"{numbers['never_read_bytes']:,.0f} of {numbers['cached_bytes']:,.0f} bytes",
            ),
        )

    def find(self, name: str, numbers: Numbers) -> str:
        if numbers["stuck"]:
            return "The writer never came back"
        if numbers["never_read_bytes"]:
            share = 100 * numbers["never_read_bytes"] / numbers["cached_bytes"]
            return f"{share:.0f} % of the memory is for rows that nobody reads"
        if numbers["cached_bytes"]:
            return f"Only what is read is cached: {numbers['cached_bytes'] / 1000:,.0f} kB"
        return "Nothing is cached in the end"

    def plots(self) -> Sequence[Plot]:
        return (
            Quantiles("latency of a write (ms)", "write", bottom_ms=0.01, top_ms=10.0),
            Lines(
                "kB in the cache",
                (
                    Line("cached", "limit", lambda history: _kilobytes(history, "cached")),
                    Line("was read", "good", lambda history: _kilobytes(history, "used")),
                ),
                top=100.0,
                gap=("cached", "was read", "alarm"),
            ),
        )

    def contrast(self, results: Sequence[Result]) -> tuple[str, Sequence[Claim]]:
        first, *others = results
        claims = []
        for other in others:
            met = first.numbers["all_written"] and other.numbers["all_written"]
            better = first.numbers["never_read_bytes"] > 0 == other.numbers["never_read_bytes"]
            text = f"{first.name} caches rows that nobody reads, {other.name} none"
            claims.append(
                Claim(text, ("holds" if better else "broken") if met else "not exercised")
            )
        kilobytes = [one.numbers["never_read_bytes"] / 1000 for one in results]
        rest = others[0].name if len(others) == 1 else f"the other {len(others)}"
        most = max(kilobytes[1:])
        return (
            f"For nobody: {kilobytes[0]:,.0f} kB with {first.name}, {most:,.0f} with {rest}",
            claims,
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
