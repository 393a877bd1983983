"""Many clients read one key that expires: who asks the database, and how long do all wait?"""

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labsupport.charts import Bars, Part, Plot, Quantiles, most_at_once
from labsupport.database import BESTSELLERS, Database
from labsupport.errors import InvalidSettingError
from labsupport.experiments import Contrast, Experiment, Finding, Implementation, Rule, Stage, knob
from labsupport.history import History
from labsupport.servers import connect_client
from labsupport.workers import Client

_KEY = "bestsellers"
_SPAN_SECONDS = 0.05
_REST_SECONDS = 0.02  # a client's mean pause, so that p99 is that of a user and not of a loop
_SECONDS_TO_SETTLE = 2.0
_MOST_IN_VAIN = (
    2  # loads of each client in a row: the value that the first had set is there by then
)


def _vain(numbers: Mapping[str, float]) -> bool:
    return numbers["loads_in_vain"] > _MOST_IN_VAIN * numbers["clients"]


@dataclass(frozen=True, kw_only=True)
class ThunderingHerd(Experiment):
    """All clients read one cached value that takes a slow query to make, and expires.

    The function under study is `get(redis, key, load, ttl)`: it returns the value of `key`, and
    calls `load()` for it when it has to; `load` runs the expensive query on that client's own
    session. The key is missing at the start, where all clients meet, and expires as they read.

    Args:
        clients: how many there are, each with connections of its own.
        seconds: how long they read; they go on until an expiry was met.
        ttl_seconds: what the function is given as `ttl`.
        processes: how many processes the clients share.
    """

    parameters: ClassVar[tuple[str, ...]] = ("redis", "key", "load", "ttl")
    patience_seconds: ClassVar[float] = 3.0  # nothing happens for so long, at the least

    clients: int = knob(40, low=2, high=400)
    seconds: float = knob(2.0, low=0.2, high=120.0, step=0.5)
    ttl_seconds: float = knob(0.5, low=0.05, high=60.0, step=0.05)
    processes: int = knob(4, low=1, high=16)

    def check(self) -> None:
        if self.ttl_seconds >= self.seconds:
            raise InvalidSettingError(
                f"ttl_seconds is {self.ttl_seconds:g} and seconds is {self.seconds:g}: the key"
                " would not expire during the run.",
                "Make seconds at least twice ttl_seconds.",
            )

    claims = (
        Rule(
            text="The key expires while the clients read it",
            met="expiry_met",
            detail="{loads:load|loads}",
        ),
        Rule(
            text="A missing key costs one database load at a time",
            met="expiry_met",
            broken=lambda n: n["most_loads_at_once"] > 1,
            detail="up to {most_loads_at_once} at once",
        ),
        Rule(
            text="Every request gets the value",
            met=lambda n: n["clients_answered"] == n["clients"],
            broken=("wrong_answers", "never_answered"),
            detail="{wrong_answers} of {requests} answers wrong,"
            " {never_answered:client|clients} without an answer",
        ),
        Rule(
            text="A missing key gets filled, so that others are answered from the cache",
            # where a load takes as long as the TTL, what was filled is gone before anybody reads it
            met=lambda n: (
                n["expiry_met"] > 0
                and n["answered_from_cache"] > 0
                and (n["loads_in_time"] > 0 or not _vain(n))
            ),
            broken=lambda n: n["loads_in_time"] > 0 and _vain(n),
            detail="up to {loads_in_vain:load|loads} before an answer from the cache",
        ),
    )
    findings = (
        Finding(
            "{never_answered} of {clients} clients never {never_answered:~gets|get} an answer",
            "never_answered",
        ),
        Finding(
            "{wrong_answers:answer is|answers are} not the value that was loaded", "wrong_answers"
        ),
        Finding(
            "The key never expired: nothing was put to the test", lambda n: not n["expiry_met"]
        ),
        Finding(
            "The cache is not filled: {loads_in_vain:load|loads} in a row, and no answer from it",
            _vain,
        ),
        Finding(
            "All {clients} clients query the database at once",
            lambda n: n["most_loads_at_once"] == n["clients"],
        ),
        Finding(
            "{most_loads_at_once} of {clients} clients query the database at once",
            lambda n: n["most_loads_at_once"] > 1,
        ),
        Finding("One load at a time, though {clients} clients want the value"),
    )
    contrast = Contrast(
        text="{other} makes at most a fifth as many loads at once as {first}",
        number="most_loads_at_once",
        times=5,
        met="expiry_met",
        title="Database loads at once: {worst} with {first}, {most} with {rest}",
    )

    @property
    def conditions(self) -> str:
        return f"{self.clients} clients read one key, TTL {self.ttl_seconds:g} s"

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        server, shop = stage.server(), stage.shop()
        begin = time.monotonic()
        expected = shop.fetch_all(BESTSELLERS)
        # All loads of a herd at once on one core, four times over: the machine may be busy.
        patience = max(self.patience_seconds, 4 * self.clients * (time.monotonic() - begin))
        stage.start(
            _read,
            implementation,
            server.url,
            shop,
            expected,
            float(self.ttl_seconds),
            clients=self.clients,
            processes=self.processes,
            name=name,
        )
        stage.pool.begin()
        stage.wait(seconds=self.seconds)
        stage.wait_while_alive(
            lambda: self._met(stage.history) or self._overdue(stage.history),
            patience_seconds=patience,
        )
        # and what the expiry has set off, so that the chart does not end in the middle of it
        stage.wait(lambda: not self._loading(stage.history), seconds=_SECONDS_TO_SETTLE)
        stage.facts["never_answered"] = len(stage.finish(patience_seconds=patience))

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        requests = history.select("request")
        began = history.select("load began")["start_ns"]
        loads = _seconds(history.select("load"))
        at_once = _under_way(history)
        took = (requests["end_ns"] - requests["start_ns"]) / 1e6
        p50, p99 = np.percentile(took, [50, 99]) if len(took) else (np.nan, np.nan)
        return {
            "requests": len(requests),
            "clients_answered": len(np.unique(requests["client"])),
            "wrong_answers": int((requests["value"] == 0).sum()),
            "never_answered": facts["never_answered"],
            "loads": len(began),
            "loads_in_vain": _in_vain(history),
            "loads_in_time": int(loads.min(initial=np.inf) * 2 < self.ttl_seconds),
            "answered_from_cache": len(history.select("from the cache")),
            "needless_loads": int((at_once > 1).sum()),
            "most_loads_at_once": int(at_once.max(initial=0)),
            "expiry_met": int(self._expiry_met(history)),
            "p50_ms": float(p50),
            "p99_ms": float(p99),
        }

    def plots(self) -> tuple[Plot, ...]:
        return (
            Bars(
                "database loads at once, per 50 ms",
                (
                    Part("needed", "work", lambda *run: np.minimum(_loads(*run), 1)),
                    Part("needless", "alarm", lambda *run: np.maximum(_loads(*run) - 1, 0)),
                ),
                noun=("load at a time", "loads at once"),
                per_seconds=_SPAN_SECONDS,
                top=self.clients,
            ),
            Quantiles(
                "latency of requests under way (ms)",
                "request",
                per_seconds=_SPAN_SECONDS,
                top_ms=3000.0,
            ),
        )

    def _met(self, history: History) -> bool:
        """Whether the key has expired, and was filled or never will be."""
        filled = len(history.select("from the cache")) > 0
        vain = _in_vain(history) > _MOST_IN_VAIN * self.clients
        return self._expiry_met(history) and (filled or vain)

    def _expiry_met(self, history: History) -> bool:
        """Whether the value was loaded again, when what was loaded first had had its time.

        An early recomputation counts, and so does a TTL that was shortened by a quarter for jitter.
        """
        began, ended = history.select("load began")["start_ns"], history.select("load")["end_ns"]
        if len(ended) == 0:
            return False
        return bool(began.max() >= ended.min() + 0.75e9 * self.ttl_seconds)

    def _overdue(self, history: History) -> bool:
        """Whether the value ought to have expired long ago."""
        loads = history.select("load")["end_ns"]
        last = int(loads.max(initial=history.origin_ns))
        long_ago = time.monotonic_ns() > last + int((3 * self.ttl_seconds + 1) * 1e9)
        return long_ago and not self._loading(history)

    def _loading(self, history: History) -> bool:
        """Whether a load is under way."""
        return len(history.select("load began")) > len(history.select("load"))


def _read(
    client: Client,
    get: Implementation,
    url: str,
    shop: Database,
    expected: list[dict[str, Any]],
    ttl: float,
) -> None:
    """Be a client: read the key again and again."""
    redis = connect_client(url)
    sessions = threading.local()  # one more if the function loads in a thread of its own
    pauses = random.Random(client.number)
    loaded = False

    def load() -> list[dict[str, Any]]:
        nonlocal loaded
        loaded = True
        if not hasattr(sessions, "mine"):
            sessions.mine = shop.session()
        session: Database = sessions.mine
        client.note("load began")
        with client.timed("load"):
            return session.fetch_all(BESTSELLERS)

    redis.ping()
    sessions.mine = shop.session()
    client.meet()
    while client.running:
        loaded = False
        start = time.monotonic_ns()
        answer = get(redis, _KEY, load, ttl)
        end = time.monotonic_ns()
        # the type first: == of an array, for one, is not a yes or no
        right = isinstance(answer, list) and answer == expected
        client.record("request", start, end, float(right))
        if not loaded:
            client.record("from the cache", start, end)
        client.rest(pauses.uniform(0, 2 * _REST_SECONDS))


def _seconds(events: NDArray[Any]) -> NDArray[np.float64]:
    seconds: NDArray[np.float64] = (events["end_ns"] - events["start_ns"]) / 1e9
    return seconds


def _under_way(history: History) -> NDArray[np.int64]:
    """For each load, in the order in which they began: how many were under way then, with it."""
    began = history.select("load began")["start_ns"]
    ended = np.sort(history.select("load")["end_ns"])
    return np.arange(1, len(began) + 1) - np.searchsorted(ended, began, side="right")


def _in_vain(history: History) -> int:
    """How many loads in a row ended, at the most, before somebody was answered without one."""
    loads = np.sort(history.select("load")["end_ns"])
    answers = np.sort(history.select("from the cache")["end_ns"])
    _, counts = np.unique(np.searchsorted(answers, loads), return_counts=True)
    return int(counts.max(initial=0))


def _loads(history: History, span_ns: int) -> NDArray[np.int64]:
    return most_at_once(
        history.select("load began")["start_ns"] - history.origin_ns,
        history.select("load")["end_ns"] - history.origin_ns,
        span_ns=span_ns,
        until_ns=history.elapsed_ns,
    )
