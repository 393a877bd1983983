"""How answers to exercise 09.2, one e-mail for an order, are put to the test with many orders."""

import random
import time

from labsupport.exercises import Outcome
from labsupport.exercises.trials import MANY, Answer
from labsupport.servers import start_server

__all__ = ["check_many_orders"]

_LARGEST = 10**9
_SECONDS = 4.0  # of the processor; whoever looks through the whole stream each time is right, too
_ALIKE = (
    *("42", "042", "4.2e1", " 42", "42\n", "a-42", "A-42"),
    *(f"2026-11-29/{n}" for n in (1, 2, 12)),
)


def check_many_orders(answer: Answer) -> Outcome:
    """Does each of many orders have its entry, though others are much like it?"""
    numbers = random.Random(9).sample(range(_LARGEST), MANY)
    orders: list[str] = []
    with start_server() as server, server.client() as redis:
        end = time.process_time() + _SECONDS
        for order in (*_ALIKE, *map(str, numbers)):
            answer(redis, order)
            orders.append(order)
            if time.process_time() > end:
                break
        queued = [fields.get("order") for _, fields in redis.xrange("emails")]
    there = set(queued)
    missing = [order for order in orders if order not in there]
    if missing or len(queued) != len(orders):
        none = f"; order {missing[0]} has none" if missing else ""
        reason = (
            f"{len(orders):,} orders, one after the other: {len(queued):,} are in emails{none}."
        )
        return Outcome(False, reason, queued)
    return Outcome(True, "each of many orders has one entry.", len(queued))
