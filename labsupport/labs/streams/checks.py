"""What only real workers, or very many jobs, show of an answer to an exercise of lab 11."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, each_counts_once
from labsupport.labs.queues.job_queue import JobQueue
from labsupport.servers import start_server

__all__ = ["consume_of_many", "credit_of_many", "take_really"]

_MOST = 3
_MANY = 2_500
_MANY_DEAD = 10_200  # MAXLEN ~ 10000 leaves less
_MINUTE, _MIN_IDLE, _HOUR = 60_000, 600_000, 3_600_000  # ms


def consume_of_many(answer: Answer) -> Outcome:
    """Does it find the one that has been pending for long behind many that have not?"""
    handled: list[str] = []
    return _of_many(lambda redis: answer(redis, "ada", handled.append, _MIN_IDLE), "late")


def credit_of_many(answer: Answer) -> Outcome:
    """Does each of many entries count, and count once?"""
    return each_counts_once(lambda redis, number: answer(redis, f"{number}-0", "ada", 1))


def take_really(answer: Answer) -> Outcome:
    """The same, and then among workers that are killed."""
    found = _of_many(lambda redis: answer(redis, "ada", _MIN_IDLE), (f"{_MANY}-0", "late"))
    if found.passed:
        found = _beside_many_dead(answer)
    return _take_in_processes(answer) if found.passed else found


def _beside_many_dead(answer: Answer) -> Outcome:
    """Is one more put into dead, and does none of many leave it?"""
    with start_server() as server, server.client() as redis:
        with redis.pipeline() as pipe:
            for number in range(_MANY_DEAD):
                pipe.xadd("dead", {"job": f"{number}"})
            pipe.xadd("jobs", {"job": "a"}, id="1-0")
            pipe.xgroup_create("jobs", "mailers", id="0")
            pipe.xreadgroup("mailers", "old", {"jobs": ">"})
            pipe.xclaim("jobs", "mailers", "old", 0, ["1-0"], idle=_HOUR, retrycount=_MOST)
            pipe.execute()
        with suppress(Exception):  # what is left tells
            answer(redis, "ada", _MIN_IDLE)
        left = redis.xlen("dead")
    due = _MANY_DEAD + 1
    reason = f"One more for the {_MANY_DEAD:,} in dead: afterwards it has {left:,}; {due:,} is due."
    return Outcome(left == due, reason, left)


def _of_many(call: Callable[[Any], Any], due: Any) -> Outcome:
    with start_server() as server, server.client() as redis:
        with redis.pipeline() as pipe:
            for number in range(1, _MANY + 1):
                pipe.xadd("jobs", {"job": "late" if number == _MANY else "n"}, id=f"{number}-0")
            pipe.xgroup_create("jobs", "mailers", id="0")
            pipe.xreadgroup("mailers", "old", {"jobs": ">"})
            others = [f"{number}-0" for number in range(1, _MANY)]
            pipe.xclaim("jobs", "mailers", "old", 0, others, idle=_MINUTE)
            pipe.xclaim("jobs", "mailers", "old", 0, [f"{_MANY}-0"], idle=_HOUR)
            pipe.xadd("jobs", {"job": "new"})
            pipe.execute()
        try:
            told = call(redis)
        except Exception as error:
            told = error
        left = redis.xlen("jobs")
    told = tuple(told) if isinstance(told, list) else told
    reason = (
        f"{_MANY - 1:,} jobs pending for a minute, one for an hour behind them, min_idle 10 min: "
    )
    if told == due and left < _MANY:  # what was handled may be deleted
        return Outcome(False, f"{reason}afterwards jobs has {left:,} entries; jobs are lost.", left)
    return Outcome(told == due, f"{reason}the caller was given {told!r}; {due!r} is due.", told)


def _take_in_processes(answer: Answer) -> Outcome:
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
