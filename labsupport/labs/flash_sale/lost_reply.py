"""A reply that is lost where the client does not repeat the command: the customer asks again."""

from collections.abc import Callable
from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry

from labsupport.errors import LabError
from labsupport.exercises import Outcome
from labsupport.exploration import explore

__all__ = ["asked_again"]

_SITUATION = "A reply that is lost, and no second attempt of the client"
_MOST_RUNS = 200  # of a long answer


def asked_again(buy: Callable[..., Any], clause: str) -> Outcome:
    """Lose each reply of an answer once; whoever gets the error asks again.

    Args:
        buy: called with (redis, customer), returns whether the customer has a piece.
        clause: the sentence that says so.
    """
    for stock, due in ((1, True), (0, False)):
        report, told = _told(buy, stock, due)
        if report.violations:
            reason = report.reason if told is due else f"ada was told {told!r}; {due} is due."
            return Outcome(False, f"{_SITUATION}: {reason} The contract: “{clause}”.", report)
    return Outcome(True, "it can be asked again.", report)


def _told(buy: Callable[..., Any], stock: int, due: bool) -> tuple[Any, Any]:
    """The report, and what the customer was told last."""
    last: list[Any] = [due]

    def customer(redis: Any, db: Any) -> Any:
        redis.set_retry(Retry(NoBackoff(), 0))
        try:
            return buy(redis, "7")
        except LabError:
            raise
        except Exception:  # redis-py's, or what the answer makes of it
            return buy(redis, "7")

    def is_told(redis: Any, db: Any, told: dict[str, Any]) -> bool:
        """A customer is told whether there is a piece, also when asking again"""
        last[:] = [told["ada"]]
        return told["ada"] is due

    report = explore(
        {"ada": customer},
        given=lambda redis, db: redis.set("stock", stock),
        invariant=is_told,
        loses=True, passes=False, delays=False, stop="first", max_runs=_MOST_RUNS,
    )  # fmt: skip
    return report, last[0]
