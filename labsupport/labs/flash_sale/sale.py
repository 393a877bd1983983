"""A shop sells its stock in a storm: what is sold, lost, doubled, let in too often, or left for ever?"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labsupport.charts import Bar, Lanes, Line, Lines, Mark, Plot
from labsupport.errors import InvalidSettingError
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
from labsupport.labs.flash_sale.clients import LIMIT
from labsupport.labs.flash_sale.shop import PARTS
from labsupport.labs.flash_sale.storm import FAULTS, Storm, plan_of

_HURT = {  # the numbers that break a claim about a part
    "sessions": ("for_ever", "strangers"),
    "catalogue": ("needless_loads", "wrong_pages"),
    "door": ("too_many", "too_few", "locked_out"),
    "stock": ("oversold", "gone"),
    "orders": ("lost", "doubled"),
    "mail": ("unheard",),
}


_WORDS = (
    ("for_ever", "session for ever", "sessions for ever"),
    ("strangers", "customer unknown", "customers unknown"),
    ("needless_loads", "needless load", "needless loads"),
    ("wrong_pages", "wrong page", "wrong pages"),
    ("too_many", "let in too often", "let in too often"),
    ("too_few", "let in too seldom", "let in too seldom"),
    ("locked_out", "locked out", "locked out"),
    ("oversold", "sold too many", "sold too many"),
    ("gone", "gone unsold", "gone unsold"),
    ("lost", "order lost", "orders lost"),
    ("doubled", "order doubled", "orders doubled"),
    ("unheard", "buyer unheard", "buyers unheard"),
)


def _faults(numbers: Numbers) -> str:
    """What went wrong, in the order of the parts."""
    found = [f"{{{n}}} {one if numbers[n] == 1 else many}" for n, one, many in _WORDS if numbers[n]]
    return "Sold {sold} of {stock}: " + ", ".join(found)


@dataclass(frozen=True, kw_only=True)
class FlashSale(Experiment):
    """Customers come in three bursts for a stock that is too small, and each part meets its fault.

    Under study is a `Shop`, or any function that returns the functions of a part by its name. The
    plan of who comes when is drawn from `seed`, the same for all shops. A crew of five customers, two
    workers and the mailer are held at the steps that matter. There the lab deletes the cached
    page, lets five processes knock at once, stops two for the length of the sale, loses replies, and
    kills.

    Args:
        customers: how many come; at least twice the stock.
        stock: how many pieces there are.
        seed: of the plan.
        without: a fault that is left out.
        pace_seconds: a rest between two moves, so that they can be watched.
        seconds: how long the time axis is at the least.
        clients: how many customers come at the same time.
        processes: how many processes the crowd shares.
    """

    parameters: ClassVar[tuple[str, ...]] = ("part",)

    customers: int = knob(300, low=60, high=5000, step=20)
    stock: int = knob(90, low=24, high=1000, step=6)
    seed: int = knob(16, low=0, high=999)
    without: str = choice("nothing", among=("nothing", *FAULTS))
    pace_seconds: float = knob(0.1, low=0.0, high=3.0, step=0.05)
    seconds: float = knob(3.0, low=1.0, high=60.0, step=0.5)
    clients: int = knob(12, low=3, high=60)
    processes: int = knob(3, low=1, high=8)

    def check(self) -> None:
        if self.customers < 2 * self.stock:
            raise InvalidSettingError(
                f"customers is {self.customers} and stock is {self.stock}: not all would be sold.",
                "Make customers at least twice the stock.",
            )

    claims = (
        Rule(
            text="Every session ends by itself",
            met=FAULTS[4],
            broken=_HURT["sessions"],
            detail="{for_ever} do not; {strangers} customers unknown",
        ),
        Rule(
            text="An eviction costs one load",
            met=FAULTS[0],
            broken=_HURT["catalogue"],
            detail="{loads} loads, {wrong_pages} wrong pages",
        ),
        Rule(
            text="The door keeps its limit, and locks out nobody",
            met=FAULTS[1],
            broken=_HURT["door"],
            detail="{bot_in} let in, {locked_out} locked out",
        ),
        Rule(
            text="No more is sold than there is",
            met=FAULTS[2],
            broken="oversold",
            detail="{taken} of {stock}",
        ),
        Rule(
            text="A lost reply costs no piece",
            met=FAULTS[3],
            broken="gone",
            detail="{taken} taken, {sold} sold",
        ),
        Rule(
            text="Every order is booked once",
            met=FAULTS[5],
            broken=_HURT["orders"],
            detail="{lost} lost, {doubled} doubled",
            final=True,
        ),
        Rule(
            text="Every buyer hears of it",
            met=FAULTS[6],
            broken="unheard",
            detail="{unheard} do not",
            final=True,
        ),
    )
    findings = (
        Finding(_faults, lambda n: n["wrong"] > 0),
        Finding("The whole stock is sold, and each order booked once", lambda n: n["held"] > 0),
        Finding("Nothing was put to the test"),
    )
    contrast = Contrast(
        text="{first} breaks claims, {other} breaks none",
        number="wrong",
        met=lambda n: n["sold"] > 0,
        title="Claims broken: {each}",
    )

    @property
    def conditions(self) -> str:
        left = "" if self.without == "nothing" else f", without {self.without}"
        return f"{self.customers} customers, {self.stock} pieces{left}"

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        server = stage.server()
        with server.client() as admin:
            admin.set("stock", self.stock)
            storm = Storm(stage, server, self.without, self.pace_seconds)
            plan = plan_of(self.customers, self.stock, self.clients, self.seed)
            storm.open(implementation, plan, self.processes, name)
            storm.evict()
            storm.crowd_the_door()
            storm.stop()
            storm.lose_replies()
            storm.kill_clerks()
            storm.kill_bookers()
            storm.stop_the_mail()
            storm.burst(1)
            storm.mail_again()
            storm.burst(2)
            storm.go_on()
            storm.ask_again()
            rows = storm.end()
            ttls = {key: admin.pttl(key) for key in admin.scan_iter(count=1000)}
            stage.facts |= {
                "booked": Counter(rows),
                "for_ever": [key for key, ms in ttls.items() if ms == -1],
                "left": int(admin.get("stock") or 0),
                "met": storm.met,
            }
        numbers = self.measure(stage.history, stage.facts)
        for row, part in enumerate(PARTS):
            if any(numbers[name] for name in _HURT[part]):
                stage.pool.note("broken", row, row)
        stage.pool.note("counted", 0)
        stage.history.read()

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        sold, booked = set(_of(history, "sold").tolist()), facts["booked"]
        struck = history.select("struck")
        evicted, later = (
            int(struck["start_ns"][struck["client"] == n].min(initial=np.iinfo("i8").max))
            for n in (0, 1)
        )
        loads = history.select("load")["start_ns"]
        endless = facts["for_ever"]
        bot_in, taken = len(_of(history, "bot in")), self.stock - facts["left"]
        found: dict[str, float] = {fault: int(fault in facts["met"]) for fault in FAULTS}
        found |= {
            "offered": len(_of(history, "known")) + len(_of(history, "stranger")),
            "let_in": len(_of(history, "let in")),
            "sold": len(sold),
            "taken": taken,
            "for_ever": sum(key.startswith("session:") for key in endless),
            "strangers": len(_of(history, "stranger")),
            "loads": int(((loads > evicted) & (loads < later)).sum()),
            "wrong_pages": int((_of(history, "served") == 0).sum()),
            "bot_in": bot_in,
            "limit": LIMIT,
            "locked_out": sum(key.startswith("calls:") for key in endless),
            "oversold": max(0, max(taken, len(sold)) - self.stock),
            "gone": max(0, taken - len(sold)),
            "lost": len(sold - booked.keys()),
            "doubled": sum(count > 1 for count in booked.values()),
            "unheard": len(sold - set(_of(history, "mailed").tolist())),
            "trips_per_sale": float(np.median(_of(history, "trips"))) if sold else 0.0,
        }
        knocked = found["a crowd at the door"]
        found["needless_loads"] = max(0, found["loads"] - 1)
        found["too_many"] = max(0, bot_in - LIMIT) * knocked
        found["too_few"] = max(0, LIMIT - bot_in) * knocked
        statuses = [claim.status for claim in self.judge(found)]
        return found | {"held": statuses.count("holds"), "wrong": statuses.count("broken")}

    def plots(self) -> tuple[Plot, ...]:
        lines = [
            Line("come", "tail", partial(_so_far, events=("known", "stranger"))),
            Line("sold", "good", partial(_so_far, events=("sold",))),
            Line("booked", "median", partial(_so_far, events=("booked",))),
        ]
        gap = "sold", "booked", "waiting"
        customers = Lines("customers so far", lines, top=self.customers, gap=gap)
        lanes = Lanes(
            "the parts of the shop",
            PARTS,
            bars=[
                Bar("under its fault", "waiting", partial(_spans, which="struck")),
                Bar("holds", "good", partial(_spans, which="holds")),
                Bar("broken", "alarm", partial(_spans, which="broken")),
            ],
            marks=[Mark("the fault", "tail", _strikes)],
            gap="not struck yet",
        )
        return customers, lanes


def _of(history: History, event: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = history.select(event)["value"]
    return values


def _so_far(
    history: History, events: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    times = np.sort(np.concatenate([history.select(event)["start_ns"] for event in events]))
    return times - history.origin_ns, np.arange(1.0, len(times) + 1)


def _struck(history: History) -> dict[int, int]:
    """When each part was struck first, in ns since the start."""
    found: dict[int, int] = {}
    for row in history.select("struck"):
        found.setdefault(int(row["value"]), int(row["start_ns"]) - history.origin_ns)
    return found


def _spans(history: History, which: str) -> NDArray[np.int64]:
    struck, now = _struck(history), history.elapsed_ns
    broken = set(history.select("broken")["client"].tolist())
    counted = len(history.select("counted")) > 0

    def state(row: int) -> str:
        if not counted:
            return "struck"
        return "broken" if row in broken else "holds"

    found = [(row, at, now) for row, at in struck.items() if state(row) == which]
    return np.array(found, "i8").reshape(-1, 3)


def _strikes(history: History) -> NDArray[np.int64]:
    struck = history.select("struck")
    times = struck["start_ns"] - history.origin_ns
    return np.stack([struck["value"].astype("i8"), times], 1)
