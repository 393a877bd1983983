"""The clients of `LockRace`: what each does, and where it can be stopped."""

import itertools
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import redis

from labsupport.database import Database
from labsupport.errors import InvalidSettingError
from labsupport.servers import connect_client
from labsupport.workers import Client, point

LOCK = "lock:kettle"
"""The name of the lock."""

_STOCK = "SELECT stock FROM products WHERE id = 1"
_REST_SECONDS = 0.002
_SALES_BY_CHANCE = 100  # under one lock, so that a stop at random may well hit its holder


class _Asking(redis.Redis):
    """A client that tells of each command that was answered."""

    answered: Callable[[], object] = int

    def __init__(self, url: str) -> None:
        super().__init__(connection_pool=connect_client(url).connection_pool)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        reply = super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        self.answered()
        return reply


class _Reading:
    """What a session calls in place of each statement: it tells, once, that rows were given."""

    def __init__(self) -> None:
        self.given: Callable[[], object] | None = None

    def __call__(
        self, sql: str, params: dict[str, Any], inside: bool, run: Callable[[], Any]
    ) -> Any:
        result = run()
        if result is not None and result.columns and self.given is not None:
            given, self.given = self.given, None
            given()
        return result


def buy(
    client: Client,
    lock: Callable[..., Any],
    sell: Callable[..., Any],
    urls: tuple[str, str],
    shop: Database,
    ttls: Sequence[float],
    step: str | None,
) -> None:
    """Be a client: buy one kettle after the other under the lock.

    Args:
        client: the worker's.
        lock: the function under study.
        sell: the resource.
        urls: of the lock's Redis, and of the one in which all turns are counted.
        shop: a session on the shop.
        ttls: of the lock, from sale to sale; the last one for all that follow.
        step: a point's name: "read" after what was read first, "step" also after each answer of
            Redis; None runs freely, and sells some kettles under each lock.
    """
    server = connect_client(urls[0]) if step is None else _Asking(urls[0])
    turns, stock, reading = connect_client(urls[1]), shop.session(), _Reading()
    db = shop.session(around=reading)
    server.ping()
    turns.ping()
    if isinstance(server, _Asking):
        asked = partial(client.note, "asked")
        server.answered = partial(point, step) if step == "step" else asked
    rests = random.Random(client.number)
    client.meet()
    point("door")  # so that all can be brought to the first "next"
    for ttl in itertools.chain(ttls, itertools.repeat(ttls[-1])):
        point("next")
        if not client.running:
            return
        reading.given = partial(point, step or "read")
        held = partial(lock, server, LOCK, ttl)
        sales = _SALES_BY_CHANCE if step is None else 1
        sold = _buy(client, turns, stock, held, partial(sell, db), sales)
        if sold and reading.given is not None:
            raise InvalidSettingError(
                "`sell` reads nothing: there is no moment between a read and a write to stop it in.",
                "A sale in one statement needs no lock; here it reads the stock, then writes it.",
            )
        if step is None:
            client.rest(rests.uniform(0, 2 * _REST_SECONDS))


def _buy(
    client: Client,
    turns: redis.Redis,
    stock: Database,
    lock: Callable[[], Any],
    sell: Callable[[Any], Any],
    sales: int,
) -> bool:
    """Buy so many kettles under the lock; whether the last one was sold."""
    left = sold = False
    client.note("asks")
    try:
        with lock() as fence:
            _take_turn(client, turns, "in")
            for _ in range(sales):
                sold = bool(sell(fence))
                if sold:
                    client.note("sold")
            client.note("stock", (stock.fetch_one(_STOCK) or {})["stock"])
            _take_turn(client, turns, "out")
            left = True
    except Exception:
        if not left:
            raise
        client.note("told")  # by the lock, at its end, that it was lost
    return sold


def _take_turn(client: Client, turns: redis.Redis, event: str) -> None:
    """Record an event with its turn; it begins before the turn is counted, for a stop may come in."""
    start = time.monotonic_ns()
    turn = float(turns.incr("turns"))
    client.record(event, start, time.monotonic_ns(), turn)
