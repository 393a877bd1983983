"""How answers to the exercises of lab 10 are put to the test."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, ClientFunction, Trial, put_through, require
from labsupport.labs.queues.job_queue import JobQueue

__all__ = ["check_reap", "check_release_due", "check_work_once"]


_HOUR_MS = 3_600_000


class _PrinterAwayError(Exception):
    """Raised by a job that fails."""


def _put(*jobs: str) -> ClientFunction:
    def given(redis: Any, db: Any) -> None:
        for job in jobs:
            redis.lpush("jobs", job)

    return given


def check_work_once(answer: Answer) -> Outcome:
    def worker(me: str, times: int = 1) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            for _ in range(times):
                answer(redis, me, lambda job: redis.rpush("done", job))

        return client

    def failing(redis: Any, db: Any) -> None:
        def handle(job: str) -> None:
            raise _PrinterAwayError("the printer is away")

        with suppress(_PrinterAwayError):
            answer(redis, "ada", handle)
            redis.set("swallowed", 1)

    def places(redis: Any, *names: str) -> list[str]:
        return sorted(job for name in names for job in redis.lrange(name, 0, -1))

    def in_order(redis: Any, db: Any) -> bool:
        """the oldest job comes first, and a job that was handled is in no list"""
        done = redis.lrange("done", 0, -1)
        require(done == ["job-1", "job-2"], f"These were handled: {', '.join(done) or 'none'}.")
        left = places(redis, "jobs", "jobs:ada")
        require(not left, f"{' and '.join(left)} is still in a list.")
        return True

    def each_once(redis: Any, db: Any) -> bool:
        """each job is handled once"""
        done = places(redis, "done")
        require(done == ["job-1", "job-2"], f"These were handled: {', '.join(done) or 'none'}.")
        return True

    def in_sight(redis: Any, db: Any) -> bool:
        """a job that failed is still there, and its error reaches the caller"""
        left = places(redis, "jobs", "jobs:ada")
        require(
            left == ["job-1"], f"After the error, the lists hold {', '.join(left) or 'nothing'}."
        )
        require(not redis.exists("swallowed"), "The error did not reach the caller.")
        return True

    def later(me: str) -> ClientFunction:
        def invariant(redis: Any, db: Any) -> bool:
            """after a kill, the next worker of that name gets every job done"""
            redis.lpush("jobs", "last")  # so that nobody waits for a job
            for _ in range(4):
                if "last" in redis.lrange("done", 0, -1):
                    break
                answer(redis, me, lambda job: redis.rpush("done", job))
            done = redis.lrange("done", 0, -1)
            for job in ("job-1", "job-2"):
                require(job in done, f"{job} is never handled.")
            require("last" in done, "The worker does not come to the last job.")
            left = places(redis, "jobs", f"jobs:{me}")
            require(not left, f"{' and '.join(left)} is in a list, and was handled.")
            return True

        return invariant

    def nothing(redis: Any, db: Any) -> bool:
        """without a job the answer is None"""
        require(redis.get("told") == "None", f"It returned {redis.get('told')}.")
        return True

    def alone(redis: Any, db: Any) -> None:
        redis.set("told", repr(answer(redis, "ada", lambda job: None)))

    two = {"ada": worker("ada"), "bob": worker("bob")}
    jobs = _put("job-1", "job-2")
    return put_through(
        (
            Trial("Two jobs, one after the other", {"ada": worker("ada", 2)}, jobs, in_order),
            Trial("No job", {"ada": alone}, None, nothing),
            Trial("A job that fails", {"ada": failing}, _put("job-1"), in_sight),
            Trial("Two workers at once", two, jobs, each_once, prune=True),
            Trial(
                "A worker that may be killed",
                {"ada": worker("ada")},
                jobs,
                later("ada"),
                crashes=True,
            ),
        )
    )


def check_reap(answer: Answer) -> Outcome:
    def left_by_the_dead(attempts: int) -> ClientFunction:
        def given(redis: Any, db: Any) -> None:
            redis.sadd("workers", "ada", "bob")
            redis.set("lease:bob", 1, ex=60)
            redis.lpush("jobs:ada", "job-1")
            redis.lpush("jobs:bob", "job-2")
            if attempts:
                redis.hset("attempts", "job-1", attempts)

        return given

    def reaper(redis: Any, db: Any) -> None:
        redis.rpush("told", str(answer(redis)))

    def state(redis: Any) -> dict[str, list[str]]:
        return {name: redis.lrange(name, 0, -1) for name in ("jobs", "jobs:ada", "dead")}

    def moved(attempts: int, to: str) -> ClientFunction:
        def invariant(redis: Any, db: Any) -> bool:
            kept = redis.lrange("jobs:bob", 0, -1)
            require(kept == ["job-2"], "A job was taken from a worker who has a lease.")
            found = state(redis)
            for name, jobs in found.items():
                wanted = ["job-1"] * (name == to)
                require(jobs == wanted, f"{name} holds {', '.join(jobs) or 'nothing'}.")
            count = redis.hget("attempts", "job-1")
            fits = to == "dead" or count == str(attempts + 1)
            require(fits, f"attempts says {count} for job-1, not {attempts + 1}.")
            told = sum(int(number) for number in redis.lrange("told", 0, -1) if number.isdigit())
            require(told == 1, f"One job was found, and the answers say {told}.")
            return True

        invariant.__doc__ = f"a job with {attempts} attempts goes to {to}, once"
        return invariant

    def in_one_place(attempts: int, to: str) -> ClientFunction:
        def invariant(redis: Any, db: Any) -> bool:
            """the job is in exactly one list, and the next reaper does the rest"""
            found = [job for jobs in state(redis).values() for job in jobs]
            require(found == ["job-1"], f"job-1 is in {found.count('job-1') or 'no'} list(s).")
            answer(redis)
            there = state(redis)[to]
            require(there == ["job-1"], f"After one more reaper, {to} holds {there or 'nothing'}.")
            return True

        return invariant

    def trials(attempts: int, to: str, kind: str) -> tuple[Trial, ...]:
        given = left_by_the_dead(attempts)
        one, two = {"reaper": reaper}, {"reaper": reaper, "second": reaper}
        return (
            Trial(f"{kind}", one, given, moved(attempts, to)),
            Trial(f"{kind}, and a reaper that may be killed", one, given, in_one_place(attempts, to),
                  crashes=True),
            Trial(f"{kind}, and two reapers", two, given, moved(attempts, to), prune=True),
        )  # fmt: skip

    found = put_through(
        (
            *trials(0, "jobs", "A first attempt"),
            *trials(1, "jobs", "A second attempt"),
            *trials(2, "dead", "A third attempt"),
        )
    )
    return _in_processes(answer) if found.passed else found


def _in_processes(answer: Answer) -> Outcome:
    """What only real workers show: the answer as the reaper of a queue whose workers are killed."""

    def work(redis: Any, me: str, handle: Answer, running: Callable[[], bool]) -> None:
        redis.sadd("workers", me)
        while running():
            answer(redis)
            redis.set(f"lease:{me}", 1, px=100)
            job = redis.lmove("jobs", f"jobs:{me}", "RIGHT", "LEFT")
            if job is None:
                time.sleep(0.005)
                continue
            try:
                handle(job)
            except Exception:
                redis.delete(f"lease:{me}")
            else:
                redis.lrem(f"jobs:{me}", 1, job)

    queue = JobQueue(
        put=lambda redis, job: redis.lpush("jobs", job),
        effect=lambda redis, job: redis.hsetnx("vouchers", job, 1),
        workers=2,
        jobs=30,
        kills=2,
        failing=1,
        wild=0,
        seconds=0.2,
    )
    result = queue.run(work, live=False)
    for claim in result.verdict.claims:
        if claim.status != "holds":
            reason = f"Two workers that are killed: {claim.status}: {claim.text!r}."
            return Outcome(False, reason, result)
    return Outcome(True, "it withstood kills, rivals and a queue of real workers.", result)


def check_release_due(answer: Answer) -> Outcome:
    def given(redis: Any, db: Any) -> None:
        seconds, _ = redis.time()
        redis.zadd("later", {"due": seconds * 1000 - 5, "in an hour": seconds * 1000 + _HOUR_MS})

    def release(redis: Any, db: Any) -> None:
        redis.rpush("told", str(answer(redis)))

    def with_a_fast_clock(redis: Any, db: Any) -> None:
        redis.actor.sleep(2 * 3600)  # moves this client's clock, and nothing else
        release(redis, db)

    def state(redis: Any) -> tuple[list[str], list[str]]:
        return redis.lrange("jobs", 0, -1), redis.zrange("later", 0, -1)

    def moved(redis: Any, db: Any) -> bool:
        """what is due is moved once, and the other job stays"""
        jobs, later = state(redis)
        require(later == ["in an hour"], f"later holds {', '.join(later) or 'nothing'}.")
        require(jobs == ["due"], f"jobs holds {', '.join(jobs) or 'nothing'}.")
        told = redis.lrange("told", 0, -1)
        total = sum(int(number) for number in told if number.isdigit())
        require(total == 1, f"One job was moved, and the answers say {' and '.join(told)}.")
        return True

    def in_one_place(redis: Any, db: Any) -> bool:
        """a job is in exactly one of the two, and the next call moves it"""
        jobs, later = state(redis)
        places = (jobs + later).count("due")
        require(places == 1, f"The job that is due is in {places} places.")
        answer(redis)
        require("due" in state(redis)[0], "The next call does not move it.")
        return True

    one, two = {"mover": release}, {"mover": release, "second": release}
    return put_through(
        (
            Trial("One job is due, another is not", one, given, moved),
            Trial("A caller whose clock is fast", {"mover": with_a_fast_clock}, given, moved),
            Trial("A caller that may be killed", one, given, in_one_place, crashes=True),
            Trial("Two callers at once", two, given, moved, prune=True),
        )
    )
