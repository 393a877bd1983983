"""What only real workers show of an answer to 11.2."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer
from labsupport.labs.queues.job_queue import JobQueue

__all__ = ["take_in_processes"]

_MOST = 3


def take_in_processes(answer: Answer) -> Outcome:
    """The answer as the taker of a queue whose workers are killed."""

    def work(redis: Any, me: str, handle: Answer, running: Callable[[], bool]) -> None:
        with suppress(Exception):  # it is there
            redis.xgroup_create("jobs", "mailers", id="0", mkstream=True)
        while running():
            taken = answer(redis, me, 100)
            if taken is None:
                reply = redis.xreadgroup("mailers", me, {"jobs": ">"}, count=1, block=20)
                if not reply:
                    continue
                entry, fields = reply[0][1][0]
                taken = entry, fields["job"]
            with suppress(Exception):  # it stays pending
                handle(taken[1])
                redis.xack("jobs", "mailers", taken[0])

    queue = JobQueue(
        put=lambda redis, job: redis.xadd("jobs", {"job": job}),
        effect=lambda redis, job: redis.hsetnx("vouchers", job, 1),
        workers=2,
        jobs=30,
        kills=2,
        failing=1,
        wild=0,
        attempts=_MOST,
        seconds=0.2,
    )
    result = queue.run(work, live=False)
    for claim in result.verdict.claims:
        if claim.status != "holds":
            reason = f"Two workers that are killed: {claim.status}: {claim.text!r}."
            return Outcome(False, reason, result)
    return Outcome(True, "it withstood kills, rivals and a queue of real workers.", result)
