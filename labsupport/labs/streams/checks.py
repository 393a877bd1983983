"""How answers to the exercises of lab 11 are put to the test."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, ClientFunction, Trial, put_through, require
from labsupport.labs.queues.job_queue import JobQueue

__all__ = ["check_consume", "check_take"]


_NEVER_MS = 3_600_000
_MOST = 3


class _PrinterAwayError(Exception):
    """Raised by a job that fails."""


def _put(*jobs: str, group: bool = False) -> ClientFunction:
    def given(redis: Any, db: Any) -> None:
        for job in jobs:
            redis.xadd("jobs", {"job": job})
        if group:
            redis.xgroup_create("jobs", "mailers", id="0", mkstream=True)

    return given


def _done(redis: Any) -> str:
    return ", ".join(redis.lrange("done", 0, -1)) or "none"


def _pending(redis: Any) -> int:
    return int(redis.xpending("jobs", "mailers")["pending"])


def check_consume(answer: Answer) -> Outcome:
    def consumer(me: str, times: int = 1, min_idle: int = _NEVER_MS) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            for _ in range(times):
                told = answer(redis, me, lambda job: redis.rpush("done", job), min_idle)
                redis.rpush("told", str(told))

        return client

    def failing(redis: Any, db: Any) -> None:
        def handle(job: str) -> None:
            raise _PrinterAwayError("the printer is away")

        with suppress(_PrinterAwayError):
            answer(redis, "ada", handle, _NEVER_MS)
            redis.set("swallowed", 1)

    def in_order(redis: Any, db: Any) -> bool:
        """the jobs that were there before the group are handled, in order, and acknowledged"""
        done = redis.lrange("done", 0, -1)
        require(done == ["job-1", "job-2"], f"These were handled: {_done(redis)}.")
        told = redis.lrange("told", 0, -1)
        require(told == ["job-1", "job-2", "None"], f"It returned {', '.join(told)}.")
        require(_pending(redis) == 0, f"{_pending(redis)} entries are still pending.")
        return True

    def each_once(redis: Any, db: Any) -> bool:
        """each job is handled once"""
        done = sorted(redis.lrange("done", 0, -1))
        require(done == ["job-1", "job-2"], f"These were handled: {_done(redis)}.")
        return True

    def come_back(redis: Any, db: Any) -> bool:
        """a job that failed, or whose consumer was killed, is handled by the next consumer"""
        require(not redis.exists("swallowed"), "The error did not reach the caller.")
        redis.xadd("jobs", {"job": "last"})  # so that nobody waits for a job
        for _ in range(4):
            if "last" in redis.lrange("done", 0, -1):
                break
            answer(redis, "carol", lambda job: redis.rpush("done", job), 0)
        for job in ("job-1", "last"):
            require(job in redis.lrange("done", 0, -1), f"{job} is never handled.")
        require(_pending(redis) == 0, f"{_pending(redis)} entries are still pending.")
        return True

    def left_alone(redis: Any, db: Any) -> bool:
        """a job that another consumer has had for less than min_idle is left alone"""
        require(_done(redis) == "job-2", f"These were handled: {_done(redis)}.")
        return True

    def taken(redis: Any, db: Any) -> None:
        _put("job-1", "job-2", group=True)(redis, db)
        redis.xreadgroup("mailers", "bob", {"jobs": ">"}, count=1)

    two = {"ada": consumer("ada"), "bob": consumer("bob")}
    jobs = _put("job-1", "job-2")
    return put_through(
        (
            Trial("Two jobs, put before the group", {"ada": consumer("ada", 3)}, jobs, in_order),
            Trial("A job that fails", {"ada": failing}, _put("job-1"), come_back),
            Trial("Two consumers that begin at once", two, jobs, each_once, prune=True),
            Trial("A job that another one has", {"ada": consumer("ada")}, taken, left_alone),
            Trial(
                "A consumer that may be killed",
                {"ada": consumer("ada")},
                _put("job-1"),
                come_back,
                crashes=True,
            ),
        )
    )


def check_take(answer: Answer) -> Outcome:
    def delivered(times: int) -> ClientFunction:
        def given(redis: Any, db: Any) -> None:
            _put("job-1", group=True)(redis, db)
            redis.xreadgroup("mailers", "old", {"jobs": ">"}, count=1)
            for _ in range(times - 1):
                redis.xautoclaim("jobs", "mailers", "old", 0)

        return given

    def taker(min_idle: int) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            told = answer(redis, "ada", min_idle)
            redis.rpush("told", "None" if told is None else str(told[1]))

        return client

    def dead(redis: Any) -> list[str]:
        return [fields.get("job", "?") for _, fields in redis.xrange("dead")]

    def told(redis: Any) -> list[str]:
        return list(redis.lrange("told", 0, -1))

    def handed_out(redis: Any, db: Any) -> bool:
        """a job that was delivered less than three times is handed out"""
        require(told(redis) == ["job-1"], f"The answer was {', '.join(told(redis))}.")
        require(not dead(redis), "It is among the dead letters.")
        require(_pending(redis) == 1, "It is not pending any more.")
        return True

    def not_yet(redis: Any, db: Any) -> bool:
        """a job that was delivered a moment ago is left to its consumer"""
        require(told(redis) == ["None"], f"The answer was {', '.join(told(redis))}.")
        return True

    def given_up(redis: Any, db: Any) -> bool:
        """a job that was delivered three times goes to dead once, and is acknowledged"""
        require(set(told(redis)) == {"None"}, f"The answers were {', '.join(told(redis))}.")
        require(dead(redis) == ["job-1"], f"dead holds {', '.join(dead(redis)) or 'nothing'}.")
        require(_pending(redis) == 0, "It is still pending.")
        return True

    def not_lost(redis: Any, db: Any) -> bool:
        """after a kill, the next one puts the job into dead, once"""
        for _ in range(2):
            answer(redis, "carol", 0)
        require(dead(redis) == ["job-1"], f"dead holds {', '.join(dead(redis)) or 'nothing'}.")
        require(_pending(redis) == 0, "It is still pending.")
        return True

    one, two = {"ada": taker(0)}, {"ada": taker(0), "bob": taker(0)}
    found = put_through(
        (
            Trial("A second delivery", one, delivered(1), handed_out),
            Trial("A third delivery", one, delivered(2), handed_out),
            Trial("A job that is not idle", {"ada": taker(_NEVER_MS)}, delivered(1), not_yet),
            Trial("A fourth delivery", one, delivered(3), given_up),
            Trial("A fourth delivery, and a kill", one, delivered(3), not_lost, crashes=True),
            Trial("A fourth delivery, found by two", two, delivered(3), given_up, prune=True),
        )
    )
    return _in_processes(answer) if found.passed else found


def _in_processes(answer: Answer) -> Outcome:
    """What only real workers show: the answer as the taker of a queue whose workers are killed."""

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
