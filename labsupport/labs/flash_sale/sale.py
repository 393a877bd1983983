"""A shop sells its stock in a storm: what is sold, lost, doubled, let in too often, or left for ever?"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labsupport.charts import Plot
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
from labsupport.labs.flash_sale.board import board
from labsupport.labs.flash_sale.clients import LIMIT
from labsupport.labs.flash_sale.plan import FAULTS, plan_of
from labsupport.labs.flash_sale.shop import PARTS
from labsupport.labs.flash_sale.storm import CREW, Storm

_HURT = {  # the numbers that break a claim about a part
    "sessions": ("for_ever", "strangers"),
    "catalogue": ("needless_loads", "wrong_pages", "unserved"),
    "door": ("too_many", "too_few", "locked_out"),
    "stock": ("oversold", "left_over"),
    "replies": ("gone",),
    "orders": ("lost", "doubled"),
    "mail": ("unheard",),
    "data": ("forgotten",),
}
_AT_LAST = ("catalogue", "door", "stock", "replies", "orders", "mail")
_WORST = 3  # faults in a title
_MORE_SECONDS = 80.0  # a dozen processes take their time on a busy machine

_WORDS = (
    ("for_ever", "session for ever", "sessions for ever"),
    ("strangers", "customer unknown", "customers unknown"),
    ("needless_loads", "needless load", "needless loads"),
    ("wrong_pages", "wrong page", "wrong pages"),
    ("unserved", "reader without a page", "readers without a page"),
    ("too_many", "let in too often", "let in too often"),
    ("too_few", "let in too seldom", "let in too seldom"),
    ("locked_out", "locked out", "locked out"),
    ("oversold", "sold too many", "sold too many"),
    ("left_over", "left over", "left over"),
    ("gone", "gone unsold", "gone unsold"),
    ("lost", "order lost", "orders lost"),
    ("doubled", "order doubled", "orders doubled"),
    ("unheard", "buyer not told", "buyers not told"),
    ("forgotten", "key forgotten", "keys forgotten"),
)


def _faults(numbers: Numbers) -> str:
    """How many claims are broken, and the most frequent of what went wrong."""
    found = [(numbers[name], one, more) for name, one, more in _WORDS if numbers[name]]
    worst = sorted(found, key=lambda one: -one[0])[:_WORST]
    told = [f"{count:,.0f} {one if count == 1 else more}" for count, one, more in worst]
    return f"{{wrong}} of {len(_HURT)} claims {{wrong:~is|are}} broken: {', '.join(told)}"


@dataclass(frozen=True, kw_only=True)
class FlashSale(Experiment):
    """Customers come in three bursts for a stock that is too small, and each part meets its fault.

    Under study is a `Shop`, or any function that returns the functions of a part by its name. The
    plan of who comes when is drawn from `seed`, the same for all shops. A crew of five customers, two
    workers and the mailer are held at the steps that matter. There the lab kills Redis and starts it
    again, deletes the cached page, lets five processes knock at once, stops two for the length of the
    sale, loses replies, and kills. An order is lost when all workers look around for a second, and none
    takes it up.

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
    pace_seconds: float = knob(0.05, low=0.0, high=3.0, step=0.05)
    seconds: float = knob(3.0, low=1.0, high=60.0, step=0.5)
    clients: int = knob(12, low=3, high=60)
    processes: int = knob(3, low=1, high=8)

    @property
    def budget_seconds(self) -> float:
        return self.seconds + _MORE_SECONDS

    def check(self) -> None:
        if self.customers < 2 * self.stock:
            raise InvalidSettingError(
                f"customers is {self.customers} and stock is {self.stock}: not all would be sold.",
                "Make customers at least twice the stock.",
            )

    claims = tuple(
        Rule(text=text, met=fault, broken=_HURT[part], detail=detail, final=part in _AT_LAST)
        for text, fault, part, detail in (
            ("Every session ends by itself", "a killed clerk", "sessions",
             "{for_ever} do not; {strangers:customer|customers} unknown"),
            ("An eviction costs one load", "an eviction", "catalogue",
             "{loads:load|loads}, {wrong_pages:wrong page|wrong pages}"),
            ("The door keeps its limit, and locks out nobody", "a crowd at the door", "door",
             "{bot_in} let in, {locked_out} locked out"),
            ("The whole stock is sold, and no more", "a stopped process", "stock",
             "{taken} of {stock}"),
            ("A lost reply costs no piece", "a lost reply", "replies",
             "{taken} taken, {sold} sold"),
            ("Every order is booked once", "killed bookers", "orders",
             "{lost} lost, {doubled} doubled"),
            ("Every buyer hears of it", "a mailer away", "mail", "{unheard} do not"),
            ("A restart forgets nothing", "a restart", "data", "{forgotten:key|keys} forgotten"),
        )
    )  # fmt: skip
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
        server = stage.server(config=implementation("data")[0])
        with server.client() as admin:
            admin.set("stock", self.stock)
        storm = Storm(stage, server, self.without, self.pace_seconds)
        plan = plan_of(self.customers, self.stock, self.clients, self.seed)
        storm.open(implementation, plan, self.processes, name)
        storm.kill_bookers()
        storm.restart(self.stock)
        storm.hire()
        storm.evict()
        storm.crowd_the_door()
        storm.stop()
        storm.lose_replies()
        storm.kill_clerks()
        storm.stop_the_mail()
        storm.burst(1)
        storm.mail_again()
        storm.burst(2)
        storm.go_on()
        storm.ask_again()
        rows = storm.end()
        with server.client() as admin:
            ttls = {key: admin.pttl(key) for key in admin.scan_iter(count=1000)}
            stage.facts |= {
                "booked": Counter(rows),
                "for_ever": [key for key, ms in ttls.items() if ms == -1],
                "left": int(admin.get("stock") or 0),
                "met": storm.met,
                "forgotten": storm.forgotten,
            }
        numbers = self.measure(stage.history, stage.facts)
        for row, part in enumerate(PARTS):
            hurt = _HURT[part] + (_HURT["replies"] if part == "stock" else ())
            if any(numbers[name] for name in hurt):
                stage.pool.note("broken", row, row)
        stage.pool.note("counted", 0)
        stage.history.read()

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        sold, booked = set(_of(history, "sold").tolist()), facts["booked"]
        endless, trips = facts["for_ever"], _of(history, "trips")
        bot_in, taken = len(_of(history, "bot in")), self.stock - facts["left"]
        found: dict[str, float] = {fault: int(fault in facts["met"]) for fault in FAULTS}
        found |= {
            "offered": len(_of(history, "known")) + len(_of(history, "stranger")),
            "knocks": len(_of(history, "let in")) + len(_of(history, "refused")),
            "let_in": len(_of(history, "let in")),
            "sold": len(sold),
            "taken": taken,
            "for_ever": sum(key.startswith("session:") for key in endless),
            "strangers": len(_of(history, "stranger")),
            "loads": _loads_between(history, "an eviction", "a crowd at the door"),
            "wrong_pages": int((_of(history, "served") == 0).sum()),
            "unserved": max(
                0, len(CREW) - int((history.select("served")["client"] >= self.clients).sum())
            ),
            "bot_in": bot_in,
            "limit": LIMIT,
            "locked_out": sum(key.startswith("calls:") for key in endless),
            "oversold": max(0, max(taken, len(sold)) - self.stock),
            "left_over": max(0, self.stock - taken),
            "gone": max(0, taken - len(sold)),
            "lost": len(sold - booked.keys()),
            "doubled": sum(count > 1 for count in booked.values()),
            "forgotten": facts["forgotten"],
            "unheard": len(sold - set(_of(history, "mailed").tolist())),
            "trips_per_sale": float(np.median(trips)) if len(trips) else 0.0,
        }
        knocked = found["a crowd at the door"]
        each = np.unique(_of(history, "let in"), return_counts=True)[1]
        found["needless_loads"] = max(0, found["loads"] - 1)
        found["too_many"] = max(0, bot_in - LIMIT, int(each.max(initial=0)) - LIMIT)
        found["too_few"] = max(0, LIMIT - bot_in) * knocked
        statuses = [claim.status for claim in self.judge(found)]
        return found | {"held": statuses.count("holds"), "wrong": statuses.count("broken")}

    def plots(self) -> tuple[Plot, ...]:
        return board(self.customers)


def _loads_between(history: History, first: str, later: str) -> int:
    """How many loads there were after the first fault had struck and before the later one did."""
    loads, struck = history.select("load")["start_ns"], history.select("struck")
    begin, end = (
        struck["start_ns"][struck["client"] == FAULTS.index(fault)].min(initial=np.iinfo("i8").max)
        for fault in (first, later)
    )
    return int(((loads > begin) & (loads < end)).sum())


def _of(history: History, event: str) -> NDArray[np.float64]:
    values: NDArray[np.float64] = history.select(event)["value"]
    return values
