"""One attempt of `ClusterFault`: orders are taken, a fault strikes, and the cluster is whole again."""

import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from redis.crc import key_slot

from labsupport.experiments import Implementation, Stage
from labsupport.history import Rows
from labsupport.labs.redis_cluster.clients import KEYS, order_name, take_orders, watch
from labsupport.servers.cluster import PRIMARIES, Cluster

STRUCK = PRIMARIES - 1
"""The client whose orders the fault hits."""

_SOME = 5  # orders that make sure that something goes on
_PATIENCE_SECONDS = 15.0
_LAG_SECONDS = 5.0  # who heard nothing for about 15 takes nothing over


class Strike:
    """The clients, and what happens to the primary of the last one's key.

    Args:
        stage: gives the workers.
        cluster: what is hurt; it is whole at the start.
        pace: a rest between two moves, in seconds.

    Attributes:
        promoted_ms: from the fault to another primary; 0 if there was none.
        redirected: how often a node said MOVED, or ASK.
    """

    def __init__(self, stage: Stage, cluster: Cluster, pace: float) -> None:
        self._stage, self._cluster, self._pace = stage, cluster, pace
        self.promoted_ms = 0.0
        self._alone, self._followed = (0, 0), 0
        self.redirected = {"MOVED": 0, "ASK": 0}

    def start(self, take: Implementation, name: str) -> None:
        """Let each client take some orders."""
        with self._cluster.client() as redis:
            for key in list(
                redis.scan_iter("orders:*")
            ):  # with what a function keeps beside a list
                redis.delete(key)
        pool = self._stage.pool
        started = [
            pool.start(take_orders, take, self._cluster.ports, name=name) for _ in range(PRIMARIES)
        ]
        self._workers = [*started, pool.start(watch, self._cluster.urls, name="watch")]
        pool.begin()
        for client in range(PRIMARIES):
            self._until(partial(self._has_tried, client))
        self._rest()

    def end(self) -> None:
        """Make room for the next attempt."""
        for worker in self._workers:
            worker.kill()

    def crash(self) -> None:
        """The replica falls behind; then the primary is killed, and restarted by a supervisor."""
        node = self._cluster.primary_of(self._slot)
        heir = self._cluster.replica_of(node)
        self._cluster.delay_replication(node)
        alone, before = time.monotonic_ns(), self._tried()
        self._stage.wait(lambda: self._tried() >= before + _SOME, seconds=_LAG_SECONDS)
        self._rest()
        self._stage.pool.note("struck", STRUCK, node)
        self._alone = alone, time.monotonic_ns()
        self._cluster.nodes[node].kill()
        self._await_heir(heir)

    def partition(self) -> None:
        """The primary is cut off from all other nodes, and not from its clients."""
        node = self._cluster.primary_of(self._slot)
        heir = self._cluster.replica_of(node)
        self._cluster.cut_off(node)
        alone = time.monotonic_ns()
        self._stage.pool.note("struck", STRUCK, node)
        if self._await_heir(heir):
            self._alone = alone, self._followed

    def reshard(self) -> None:
        """The slot goes to another primary, and back again."""
        source = self._cluster.primary_of(self._slot)
        others = {self._cluster.primary_of(key_slot(key.encode())) for key in KEYS} - {source}
        for target in (min(others), source):
            start = self._cluster.redirections()
            self._stage.pool.note("struck", STRUCK, target)
            self._cluster.move_slot(
                self._slot,
                to=target,
                halfway=partial(self._until, partial(self._redirected, "ASK", start)),
            )
            # who reads the slots after an ASK may know where it went, and never hear MOVED
            self._until(partial(self._has_heard, start, self._tried() + _SOME))
            # all nodes know; else the next move begins where some do not
            self._cluster.heal(idle=self._stage.pool.idle)
            end = self._cluster.redirections()
            for kind in self.redirected:
                self.redirected[kind] += end[kind] - start[kind]
            self._rest()
        before = self._tried()
        self._until(lambda: self._tried() >= before + _SOME)

    @property
    def behind(self) -> int:
        """How many orders were begun when no replica heard of them, or were under way all that time."""
        tried, (start, end) = self._of("tried", STRUCK), self._alone
        begun = (start <= tried["start_ns"]) & (tried["start_ns"] < end)
        throughout = (tried["start_ns"] < start) & (end < tried["end_ns"]) & (start < end)
        return int((begun | throughout).sum())

    def kept(self, client: int) -> Counter[str]:
        """The orders that are in a client's list in the end."""
        with self._cluster.client() as redis:
            return Counter(redis.lrange(KEYS[client], 0, -1))

    def lost(self, client: int) -> list[float]:
        """The orders of a client that were acknowledged, and are not there."""
        kept = self.kept(client)
        return [n for n in self._of("taken", client)["value"] if order_name(n) not in kept]

    def _await_heir(self, heir: int) -> bool:
        """Wait until a replica is the primary, make the cluster whole, and let some orders be taken.

        Returns:
            whether a replica became the primary.
        """
        struck = time.monotonic()
        promoted = self._until(partial(self._leads, heir))
        if promoted:
            self._stage.pool.note("promoted", STRUCK, heir)
            self.promoted_ms = (time.monotonic() - struck) * 1e3
            self._rest()
        self._cluster.heal(idle=self._stage.pool.idle)
        self._stage.pool.note("healed", STRUCK)
        before = self._count("taken", STRUCK)
        self._until(lambda: self._count("taken", STRUCK) >= before + _SOME)
        return promoted

    def _leads(self, heir: int) -> bool:
        looked = time.monotonic_ns()
        if self._cluster.role(heir) == "primary":
            return True
        self._followed = looked
        return False

    @property
    def _slot(self) -> int:
        return key_slot(KEYS[STRUCK].encode())

    def _redirected(self, kind: str, start: dict[str, int]) -> bool:
        return self._cluster.redirections()[kind] > start[kind]

    def _has_heard(self, start: dict[str, int], tried: int) -> bool:
        return self._redirected("MOVED", start) or self._tried() >= tried

    def _has_tried(self, client: int) -> bool:
        return self._tried(client) >= _SOME

    def _of(self, event: str, client: int) -> Rows:
        rows = self._stage.history.select(event)
        rows = rows[rows["start_ns"] >= self._stage.history.origin_ns]
        own: Rows = rows[rows["client"] % (PRIMARIES + 1) == client]
        return own

    def _count(self, event: str, client: int) -> int:
        return len(self._of(event, client))

    def _tried(self, client: int = STRUCK) -> int:
        """How many orders of a client have come to their end, whatever it was."""
        return sum(self._count(event, client) for event in ("taken", "unconfirmed", "refused"))

    def _until(self, done: Callable[[], bool]) -> bool:
        return self._stage.wait(done, seconds=_PATIENCE_SECONDS)

    def _rest(self) -> None:
        self._stage.wait(seconds=self._pace)
