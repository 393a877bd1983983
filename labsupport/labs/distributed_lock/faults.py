"""How the clients of `LockRace` are stopped, kept waiting and killed."""

from collections.abc import Callable, Sequence

import numpy as np

from labsupport.errors import WorkerError
from labsupport.experiments import Stage
from labsupport.labs.distributed_lock.clients import LOCK
from labsupport.servers import Server
from labsupport.workers import Worker

ADA, BOB, CLEO, DAN, EVE = range(5)

_PATIENCE_SECONDS = 20.0
_ASKS = 4  # whoever has asked so often, and is not in, was refused


class StarvedError(Exception):
    """A client waits for ever, though the lock ought to be free."""


class Faults:
    """What is done to five clients, who are held at their points.

    Args:
        stage: the pool's workers are the clients.
        server: the lock's Redis; nobody else uses it.

    Attributes:
        holds: for each fault that hit somebody, the hold that tells: its client, and which of its
            holds.
        freed: whether the lock was had again after its holder was killed; None before.
    """

    def __init__(self, stage: Stage, server: Server) -> None:
        self._stage = stage
        self._redis = server.client()
        self.holds: dict[str, tuple[int, int]] = {}
        self.freed: bool | None = None
        for worker in stage.pool.workers:
            self._reach(worker, "next")

    def stop(self, ttl: float) -> None:
        """Ada is stopped for longer than her TTL, and frees her lock while Bob has his."""
        ada, bob, cleo = self._workers(ADA, BOB, CLEO)
        self._reach(ada, "read")
        ada.pause()
        self._stage.pool.note("stopped", ADA)
        for_ever = self._for_ever()
        bob.go()
        if for_ever:
            self._wait(lambda: self._inside(BOB), seconds=2 * ttl)
        elif self._wait(lambda: not self._expiring(within=ttl)):
            self._enter(bob)
        if for_ever or self._inside(BOB):
            self.holds["stopped"] = self._hold(ADA)
        had_by_two = self._inside(BOB)
        self._wait(lambda: False, seconds=ttl / 2)  # for the chart only: long enough to be seen
        self._stage.pool.note("resumed", ADA)
        ada.resume()
        self._reach(ada, "next")
        self._enter(bob)
        cleo.go()
        came = self._wait(lambda: self._inside(CLEO) or self._refused(CLEO))
        if came and had_by_two:  # else Ada has freed nothing but her own
            self.holds["kept"] = CLEO, 0
        if self._inside(CLEO):
            self._wait(lambda: False, seconds=ttl / 2)  # for the chart only
        self._reach(bob, "next")
        self._enter(cleo)
        self._reach(cleo, "next")

    def keep_waiting(self, ttls: Sequence[float]) -> None:
        """Ada works for longer than her TTL; where that is renewed, she is given twice the TTL.

        On a busy machine a renewal can come too late. Then she tries again with the next TTL; where
        even that was too short, nothing was put to the test.
        """
        ada, bob = self._workers(ADA, BOB)
        for ttl in ttls:
            self._reach(ada, "read")
            self.holds["slow"] = self._hold(ADA)
            asked = self._asked(ADA)
            if not self._outlast(ttl, bob):
                del self.holds["slow"]
            late = self._inside(BOB) and self._asked(ADA) > asked
            self._wait(lambda: False, seconds=ttl / 2)  # for the chart only
            self._reach(ada, "next")
            self._enter(bob)
            self._reach(bob, "next")
            if not late:
                return
        if self._longest_silence(ADA) > ttls[-1]:
            self.holds.pop("slow", None)

    def kill(self, ttl: float) -> None:
        """Dan is killed as soon as the lock is his, and Eve wants it."""
        dan, eve = self._workers(DAN, EVE)
        while not (self._redis.exists(LOCK) or self._inside(DAN)):
            self._reach(dan, "step")
        dan.kill()
        self._stage.pool.note("killed", DAN)
        for_ever = self._for_ever()
        eve.go()
        patience = 2 * ttl if for_ever else _PATIENCE_SECONDS
        self._wait(lambda: self._inside(EVE), seconds=patience)
        self.freed = self._inside(EVE)
        if not self.freed and not self._redis.exists(LOCK):
            self.freed = None  # the lock is free, and Eve too slow
        if self.freed:
            self._reach(eve, "next")

    def end(self) -> list[int]:
        """Let go whoever has come to the end of a sale, and kill the others.

        Returns:
            the clients that were waiting.
        """
        self._redis.close()
        left = [who for who in range(len(self._stage.pool.workers)) if self._waiting(who)]
        self._stage.pool.stop()
        for worker in self._stage.pool.workers:
            if worker.clients[0] in left:
                worker.kill()
            worker.go()
        self._stage.finish(patience_seconds=_PATIENCE_SECONDS)
        return left

    def _outlast(self, ttl: float, bob: Worker) -> bool:
        """Wait until Bob is in, or Ada has kept the lock for twice its TTL; False for neither."""
        for_ever, enough = self._for_ever(), self._now() + 2 * ttl
        bob.go()

        def over() -> bool:
            kept = for_ever or self._expiring(within=ttl)  # Bob's would last for longer
            return self._inside(BOB) or (kept and self._now() > enough)

        return self._wait(over)

    def _reach(self, worker: Worker, name: str) -> None:
        """Let one go on up to a point."""
        try:
            worker.until(name, seconds=_PATIENCE_SECONDS)
        except WorkerError:
            if worker.killed or worker.status() != "running":
                raise
            if not self._redis.exists(LOCK):  # nobody keeps them from it but the machine
                self._stage.cut_short = True
            raise StarvedError from None

    def _longest_silence(self, who: int) -> float:
        """The longest time in seconds between two answers that a client had from Redis."""
        asked = self._stage.history.select("asked")
        times = asked["start_ns"][asked["client"] == who]
        return float(np.diff(times).max(initial=0)) / 1e9

    def _enter(self, worker: Worker) -> None:
        """Wait until one who was told to go is in; `until` would send one on who is."""
        if not self._inside(worker.clients[0]):
            self._reach(worker, "read")

    def _workers(self, *who: int) -> list[Worker]:
        return [self._stage.pool.workers[one] for one in who]

    def _wait(self, condition: Callable[[], bool], *, seconds: float = _PATIENCE_SECONDS) -> bool:
        return self._stage.wait(condition, seconds=seconds)

    def _count(self, event: str, who: int) -> int:
        self._stage.history.read()
        return int((self._stage.history.select(event)["client"] == who).sum())

    def _inside(self, who: int) -> bool:
        """Whether a client believes that the lock is theirs."""
        return self._count("in", who) > self._count("out", who)

    def _waiting(self, who: int) -> bool:
        """Whether a client has begun a sale and not ended it."""
        alive = not self._stage.pool.workers[who].killed
        return alive and self._count("asks", who) > self._count("out", who)

    def _hold(self, who: int) -> tuple[int, int]:
        return who, self._count("in", who) - 1

    def _asked(self, who: int) -> int:
        return self._count("asked", who)

    def _refused(self, who: int) -> bool:
        """Whether a client has asked in vain, or waits in a blocking command."""
        asked = self._asked(who)
        blocked = self._redis.info("clients")["blocked_clients"]
        return asked >= _ASKS or (asked > 0 and blocked > 0)

    def _now(self) -> float:
        seconds, microseconds = self._redis.time()
        return float(seconds + microseconds / 1e6)

    def _for_ever(self) -> bool:
        """Whether the lock has no TTL; to be asked when nobody is just taking it."""
        return bool(self._redis.pttl(LOCK) == -1)

    def _expiring(self, *, within: float) -> bool:
        """Whether a key expires, at the latest after so many seconds."""
        left = [self._redis.pttl(key) for key in self._redis.keys("*")]
        return any(0 <= one <= within * 1000 for one in left)
