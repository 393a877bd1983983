"""Many clients read one key that expires: who asks the database, and how long do all wait?"""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labsupport.charts import Bars, Panel, Part, Quantiles
from labsupport.database import BESTSELLERS, Database
from labsupport.errors import InvalidSettingError
from labsupport.experiments.experiment import Experiment, Implementation, Numbers
from labsupport.experiments.knobs import knob
from labsupport.experiments.result import Result
from labsupport.experiments.stage import Stage
from labsupport.history import History
from labsupport.servers import connect_client
from labsupport.verdict import Claim, Status
from labsupport.workers import Client

__all__ = ["ThunderingHerd"]

_KEY = "bestsellers"
_SPAN_SECONDS = 0.05
_REST_SECONDS = 0.02  # a client's mean pause, so that p99 is that of a user and not of a loop
_LEAST_PATIENCE_SECONDS = 3.0


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

    @property
    def conditions(self) -> str:
        return f"{self.clients} clients read one key, TTL {self.ttl_seconds:g} s"

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        server, shop = stage.server(), stage.shop()
        begin = time.monotonic()
        expected = shop.fetch_all(BESTSELLERS)
        # All loads of a herd at once on one core, four times over: the machine may be busy.
        patience = max(
            _LEAST_PATIENCE_SECONDS, 4 * self.clients * (time.monotonic() - begin)
        )
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
        stage.crew.begin()
        stage.wait(seconds=self.seconds)
        stage.wait_while_alive(
            lambda: self._expiries(stage.history) or self._in_vain(stage.history),
            patience_seconds=patience,
        )
        stage.facts["unanswered"] = len(stage.finish(patience_seconds=patience))
        wrong = [answer for worker in stage.crew.workers for answer in worker.results.values()]
        stage.facts["wrong"] = next((answer for answer in wrong if answer), "")

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        requests = history.select("request")
        loads = len(history.select("load began"))
        took = (requests["end_ns"] - requests["start_ns"]) / 1e6
        p50, p99 = np.percentile(took, [50, 99]) if len(took) else (np.nan, np.nan)
        ...

    def _expiries(self, history: History) -> bool: ...
