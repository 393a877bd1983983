"""The processes of `JobQueue`: one that puts jobs, one that sees what is given up, and the workers."""

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from labsupport.experiments import Implementation
from labsupport.servers import connect_client, with_database
from labsupport.workers import Client

Function = Callable[..., Any]

_ROUNDS = 4_000  # of the hash that is a job's work: a millisecond or two
_EARLY = 0.1  # the share of the jobs that are put before there is a worker
_SIGN_SECONDS = 0.01


class _JobFailedError(Exception):
    """What a job raises."""


def job_name(number: int) -> str:
    """A job as it is put into the queue."""
    return f"job-{number:03d}"


def produce(client: Client, put: Function, url: str, jobs: int, seconds: float) -> None:
    """Put some jobs before anybody works, and the others one by one."""
    redis = connect_client(url)
    early = max(1, int(_EARLY * jobs))
    for number in range(jobs):
        if number == early:
            client.meet()
        elif number > early:
            client.rest(seconds / jobs)
        client.note("put", number)
        put(redis, job_name(number))


def collect_dead_letters(client: Client, dead: Function, url: str) -> None:
    """See what is given up."""
    redis = connect_client(url)
    known: set[str] = set()
    client.meet()
    while client.running:
        for job in set(dead(redis)) - known:
            known.add(job)
            client.note("dead", _number(job))
        client.rest(0.02)


def work(
    client: Client,
    function: Implementation,
    effect: Function,
    url: str,
    fates: Mapping[int, str],
    slot: int,
    predecessor: int,
    killed_ns: int,
) -> None:
    """Be a worker."""
    redis, own = connect_client(url), connect_client(url)
    notes = connect_client(with_database(url, 1))  # out of sight of the queue
    looked = 0

    def running() -> bool:
        nonlocal looked
        now = time.monotonic_ns()
        if now - looked > _SIGN_SECONDS * 1e9:
            looked = now
            client.note("looked")
        return client.running

    def be_killed(number: int) -> None:
        client.note("doomed", number)
        while client.running:
            client.rest(60.0)
        raise _JobFailedError("the run is over")

    def handle(job: str) -> None:
        number = _number(job)
        start = time.monotonic_ns()
        client.note("begun", number)
        hashlib.pbkdf2_hmac("sha256", job.encode(), b"shop", _ROUNDS)
        fate = fates.get(number, "")
        first = fate != "" and notes.incr(job) == 1
        if fate == "poison" or (fate == "before" and first):
            be_killed(number)
        if fate == "fails" and first:
            client.note("failed", number)
            raise _JobFailedError("the printer is away")
        effect(own, job)
        client.record("handled", start, time.monotonic_ns(), number)
        if fate == "after" and first:
            be_killed(number)

    client.meet()
    client.note("hired", slot)
    if predecessor >= 0:
        client.record("killed", killed_ns, killed_ns, predecessor)
    try:
        function(redis, f"worker-{client.number}", handle, running)
    except _JobFailedError:
        if client.running:
            client.note("ended")


def _number(job: str) -> int:
    return int(job.rpartition("-")[2])
