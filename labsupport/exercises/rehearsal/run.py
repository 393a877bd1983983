"""What runs of a case have in common: what is noted, asked and drawn, and how a breach is told."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ConnectionError, TimeoutError, WatchError

from labsupport.errors import LabError
from labsupport.exercises.contract import Call, Case, Contract, Functions, filled
from labsupport.exercises.matching import Raised
from labsupport.exercises.possibilities import Fault
from labsupport.explorer.stand_ins.timekeeper import Timekeeper, timekeeper_here

__all__ = [
    "STILL",
    "Breach",
    "Notes",
    "client_of",
    "draw_anew",
    "endless_fault",
    "keeper_of",
    "now",
    "reply_to",
]


STILL: dict[str, Any] = {"passes": False, "delays": False}
"""Time passes, and a reply is late, only where a contract says so."""


@dataclass(frozen=True, slots=True)
class Breach:
    """How an answer broke its contract.

    Args:
        attack: what was tried, in a few words.
        case: the start and the calls.
        fault: what is wrong.
        done: how many of the calls afterwards were made.
        report: the explorer's, with the schedule; None when the calls came one after the other.
    """

    attack: str
    case: Case
    fault: Fault
    done: int = 0
    report: Any = None


@dataclass(slots=True)
class Notes:
    """What was noted during one run."""

    told: dict[str, list[Any]] = field(default_factory=dict)
    wrote_at: float = 0.0
    waited: str = ""  # who waited for somebody else

    def begin(self, contract: Contract, case: Case, redis: Any, db: Any, attack: str = "") -> None:
        """A run begins with the case's start."""
        draw_anew(case, attack)
        self.told = {who: [] for who in case.programs}
        self.waited = ""
        self.wrote_at = now(redis)
        contract.write(case.start, redis, db)


def client_of(
    contract: Contract, answer: Functions, case: Case, who: str, notes: Notes
) -> Callable[[Any, Any], None]:
    """One of those who meet in a case."""

    def run(redis: Any, db: Any) -> None:
        keeper = keeper_of(who, case)
        for call in case.programs[who]:
            call = filled(call, zip(case.programs[who], notes.told[who], strict=False))
            begin = keeper.monotonic()
            reply = reply_to(contract, answer, redis, db, who, call)
            if _is_no_reply(reply):
                return
            notes.told[who].append(reply)
            own = call.name in answer and call.name not in contract.patient
            if own and keeper.monotonic() > begin:
                notes.waited = who

    return run


def reply_to(
    contract: Contract, answer: Functions, redis: Any, db: Any, who: str, call: Call
) -> Any:
    """What a call returns, or what it has raised."""
    try:
        return contract.ask(answer, redis, db, who, call)
    except LabError:
        raise
    except Exception as error:
        return Raised(error)


def _is_no_reply(reply: Any) -> bool:
    """True when redis-py does not ask again, as the reply was lost to one who watches keys."""
    lost = isinstance(reply, Raised) and isinstance(reply.error, WatchError)
    return lost and isinstance(reply.error.__context__, ConnectionError | TimeoutError)


def keeper_of(who: str, case: Case) -> Timekeeper:
    """Who keeps a client's time; what it draws is not what it has drawn before a fault."""
    keeper = timekeeper_here()
    assert keeper is not None
    keeper.chance.seed(f"{who} {case.start.shown()}")
    return keeper


def draw_anew(case: Case, attack: str) -> None:
    """Have the module random draw other values than before a fault, and the same in each run."""
    random.seed(f"{attack} {case.start.shown()}")


def endless_fault(report: Any) -> Fault | None:
    """That nobody can move on, or that it goes on without end; None where it ends."""
    for finding in report.findings:
        if finding.kind == "stuck":
            told = finding.reason.removeprefix("Nobody can move on: ")
            return Fault("ends", f"It does not end: {told}")
    given_up = str(report.given_up)
    if report.exhausted or given_up.startswith(("more than", "the search stops")):
        return None
    # who changes something at each attempt may wait for an end that the explorer does not see
    return Fault("ends", f"It does not end, or changes Redis at each attempt: {given_up}")


def now(redis: Any) -> float:
    """What time it is for the server, in seconds since 1970."""
    seconds, micros = redis.time()
    return float(seconds) + float(micros) / 1e6
