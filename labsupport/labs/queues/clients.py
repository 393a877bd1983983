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
    worker = _Worker(client, effect, url, fates)
    redis = connect_client(url)
    client.meet()
    client.note("hired", slot)
    if predecessor >= 0:
        client.record("killed", killed_ns, killed_ns, predecessor)
    try:
        function(redis, f"worker-{client.number}", worker.handle, worker.running)
    except _JobFailedError:
        if client.running:
            client.note("ended")


class _Worker:
    """What a worker's function is called with, and what becomes of its jobs."""

    def __init__(
        self, client: Client, effect: Function, url: str, fates: Mapping[int, str]
    ) -> None:
        self._client = client
        self._effect = effect
        self._fates = fates
        self._own = connect_client(url)
        self._notes = connect_client(with_database(url, 1))  # out of sight of the queue
        self._looked = 0

    def running(self) -> bool:
        """Whether to go on; that it was asked is a sign of life."""
        now = time.monotonic_ns()
        if now - self._looked > _SIGN_SECONDS * 1e9:
            self._looked = now
            self._client.note("looked")
        return self._client.running

    def handle(self, job: str) -> None:
        """Do a job, unless its fate is another."""
        number = _number(job)
        start = time.monotonic_ns()
        self._client.note("begun", number)
        hashlib.pbkdf2_hmac("sha256", job.encode(), b"shop", _ROUNDS)
        fate = self._fates.get(number, "")
        first = fate != "" and self._notes.incr(job) == 1
        if fate == "poison" or (fate == "before" and first):
            self._be_killed(number)
        if fate == "fails" and first:
            self._client.note("failed", number)
            raise _JobFailedError("the printer is away")
        self._effect(self._own, job)
        self._client.record("handled", start, time.monotonic_ns(), number)
        if fate == "after" and first:
            self._be_killed(number)

    def _be_killed(self, number: int) -> None:
        self._client.note("doomed", number)
        while self._client.running:
            self._client.rest(60.0)
        raise _JobFailedError("the run is over")


def _number(job: str) -> int:
    return int(job.rpartition("-")[2])
