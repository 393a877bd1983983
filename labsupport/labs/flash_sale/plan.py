"""What is laid down before a sale begins: who comes when, and which fault is for which part."""

import random

from labsupport.labs.flash_sale.shop import PARTS

__all__ = ["FAULTS", "PART_OF", "Plan", "plan_of"]

FAULTS = (
    "an eviction", "a crowd at the door", "a stopped process", "a lost reply",
    "a killed clerk", "killed bookers", "a mailer away", "a restart",
)  # fmt: skip
_PARTS_HIT = ("catalogue", "door", "stock", "stock", "sessions", "orders", "mail", "data")
PART_OF = {f: PARTS.index(part) for f, part in zip(FAULTS, _PARTS_HIT, strict=True)}
"""The row of the part that a fault is for."""

Plan = list[list[list[tuple[int, int]]]]


def plan_of(customers: int, stock: int, clients: int, seed: int) -> Plan:
    """For each client and burst the customers who come, and how often each knocks.

    Two small bursts leave some of the stock; the third one wants more than there is.
    """
    draw = random.Random(seed)
    everybody = [(1_000_001 + n, draw.choice((1, 1, 1, 2, 5))) for n in range(customers)]
    early = stock // 3
    bursts = everybody[:early], everybody[early : 2 * early], everybody[2 * early :]
    return [[list(burst[place::clients]) for burst in bursts] for place in range(clients)]
