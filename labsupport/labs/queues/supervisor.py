"""Who kills the workers of `JobQueue`, hires others, and knows when all is over."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from labsupport.experiments import Stage
from labsupport.history import History
from labsupport.labs.queues.clients import work
from labsupport.labs.queues.states import jobs_of
from labsupport.servers import connect_client
from labsupport.workers import Worker

_PATIENCE_SECONDS = 0.7  # several leases: who finds nothing for so long finds nothing any more
_LOOKS = 3  # that each worker must have made in that time


class Supervisor:
    """Kills workers at their appointed jobs, and at any moment; hires others; knows when all is over.

    Args:
        stage: where the workers are.
        task: what a worker is given first: the function under study, the effect of a job, the url.
        name: of the function under study.
        fates: what is in store for which job.
        workers: how many work at a time.
        jobs: how many there are in all.
        wild: how many workers are killed at any moment.
        attempts: how often a job may be tried.

    Attributes:
        killed: the clients that were killed.
    """

    def __init__(
        self,
        stage: Stage,
        task: tuple[Any, ...],
        name: str,
        fates: Mapping[int, str],
        *,
        workers: int,
        jobs: int,
        wild: int,
        attempts: int,
    ) -> None:
        self.killed: set[int] = set()
        self._stage, self._task, self._name = stage, task, name
        self._url = task[-1]
        self._fates, self._jobs, self._attempts = fates, jobs, attempts
        self._slots: dict[int, Worker] = {}
        self._seen = 0
        self._quiet_since = time.monotonic_ns()
        # when all appointed kills are over, so that none of them is missed
        self._wild = (np.linspace(0.78, 0.85, wild) * jobs).astype(int).tolist()
        self._poison = [number for number, fate in fates.items() if fate == "poison"]
        doomed = len(fates) - len(self._poison) + wild
        self._most = 2 * (workers + doomed + len(self._poison) * (attempts + 3))
        for slot in range(workers):
            self._hire(slot)

    def _hire(self, slot: int) -> None:
        before, now = self._slots.get(slot), time.monotonic_ns()
        predecessor = -1 if before is None else before.clients[0]
        given = *self._task, self._fates, slot, predecessor, now
        worker = self._stage.pool.start(work, *given, name=self._name)
        self._slots[slot] = worker
        if before is not None:
            worker.send("begin")

    def over(self) -> bool:
        """Do what is due; True when every job has come to its end, or none will any more."""
        history, now = self._stage.history, time.monotonic_ns()
        signs = len(history) - len(history.select("looked"))
        if signs != self._seen:
            self._seen, self._quiet_since = signs, now
        doomed = set(history.select("doomed")["client"].tolist())
        handled = jobs_of(history, "handled")
        at_any_moment = [mark for mark in self._wild if mark <= len(handled)]
        for slot, worker in list(self._slots.items()):
            client = worker.clients[0]
            if at_any_moment and worker.up and client not in doomed:
                self._wild.remove(at_any_moment.pop())
                self._kill(slot)
            elif client in doomed and client not in self.killed:
                self._kill(slot)
            elif worker.done and client not in self.killed:
                self._replace(slot)
        return self._complete(history, handled) or self._hopeless(history, now)

    def _kill(self, slot: int) -> None:
        worker = self._slots[slot]
        worker.kill()
        self.killed.add(worker.clients[0])
        self._replace(slot)

    def _replace(self, slot: int) -> None:
        if len(self._stage.pool.workers) < self._most:
            self._hire(slot)

    def _complete(self, history: History, handled: list[int]) -> bool:
        """Every job was done, once more if it was killed after its effect, or was given up."""
        given_up = set(jobs_of(history, "dead"))
        if len(history.select("put")) < self._jobs:
            return False
        counts = np.bincount(handled, minlength=self._jobs)
        return all(
            counts[number] >= 1 + (self._fates.get(number) == "after") or number in given_up
            for number in range(self._jobs)
        )

    def _hopeless(self, history: History, now: int) -> bool:
        """Nothing has happened for long, though all have looked; or a job kills one after the other."""
        begun = jobs_of(history, "begun")
        if any(begun.count(number) > self._attempts + 1 for number in self._poison):
            return True
        quiet = now - self._quiet_since
        if quiet < _PATIENCE_SECONDS * 1e9:
            return False
        looked = history.select("looked")
        looked = looked[looked["start_ns"] > self._quiet_since]
        counts = np.bincount(looked["client"], minlength=1)
        alive = [worker.clients[0] for worker in self._slots.values() if not worker.done]
        silent = [client for client in alive if client >= len(counts) or counts[client] < _LOOKS]
        # who is silent waits at the server for a job, or the machine has not come to it yet
        return not silent or (
            quiet > 5 * _PATIENCE_SECONDS * 1e9 and self._waiting() >= len(silent)
        )

    def _waiting(self) -> int:
        """How many wait at the server, in a command that blocks."""
        with connect_client(self._url) as redis:
            return int(redis.info("clients")["blocked_clients"])
