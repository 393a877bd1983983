"""What an answer is handed to handle a job with, in the contracts of both queues."""

from typing import Any

from labsupport.exercises.contract import Argument

__all__ = ["Handle", "PrinterAwayError"]


class PrinterAwayError(OSError, ValueError, KeyError, TypeError, RuntimeError):
    """Raised by a job that fails; no kind of it is the answer's own to catch."""


class Handle(Argument):
    """Handles a job: notes it in the list done, or fails, with an error of its own or of Redis.

    It fails once: whoever tries again, instead of telling the caller, gets a job that was handled.
    """

    def __init__(self, *, fails: bool = False, error: type[Exception] = PrinterAwayError) -> None:
        self.fails = fails
        self.error = error

    def __repr__(self) -> str:
        if self.fails and self.error is not PrinterAwayError:
            return f"handle_that_raises_{self.error.__name__}"
        return "handle_that_fails" if self.fails else "handle"

    def real(self, redis: Any, db: Any, who: str) -> Any:
        fails = self.fails

        def handle(job: str) -> None:
            nonlocal fails
            if fails:
                fails = False
                raise self.error("the printer is away")
            redis.rpush("done", job)

        return handle
