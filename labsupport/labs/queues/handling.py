"""What an answer is handed to handle a job with, in the contracts of both queues."""

from typing import Any

from labsupport.exercises.contract import Argument

__all__ = ["Handle", "PrinterAwayError"]


class PrinterAwayError(Exception):
    """Raised by a job that fails."""


class Handle(Argument):
    """Handles a job: notes it in the list done, or fails."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    def __repr__(self) -> str:
        return "handle_that_fails" if self.fails else "handle"

    def real(self, redis: Any, db: Any, who: str) -> Any:
        def handle(job: str) -> None:
            if self.fails:
                raise PrinterAwayError("the printer is away")
            redis.rpush("done", job)

        return handle
