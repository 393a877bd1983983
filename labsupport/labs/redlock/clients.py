"""An attempt of `TwoHolders`: servers, Ada, Bob, who polls the servers, and the faults."""

import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis

from labsupport.database import Database
from labsupport.errors import WorkerError
from labsupport.experiments import Implementation, Stage
from labsupport.servers import Server, connect_client
from labsupport.workers import Client, Worker, point

CLIENTS = ("ada", "bob")
FREE, DOWN = 0, -1

_LIMITS = {"socket_timeout": 0.3, "socket_connect_timeout": 0.3}  # little, of a TTL of ten seconds
_LOOK_SECONDS = 0.002
_LONGEST_TTL = 90.0
_IN_TIME = 0.8  # of a TTL: what a decision may take, and the lock still be good for a while
# Returns the token of the only lock on a server, or nil. KEYS: none; ARGV: none.
_TOKEN = "local key = redis.call('RANDOMKEY') return key and redis.call('GET', key)"


class Attempt:
    """One attempt: Ada takes the lock and is about to write; the fault strikes; Bob tries.

    Args:
        stage: gives the servers and the workers.
        fault: what happens.
        remedy: what was done against it.
        down: how many nodes are killed before all.
        ttl: of the lock, in seconds.
        pace: a rest between two moves, in seconds.

    Attributes:
        in_time: whether both came to their decision well before a lock would have ended: what is
            decided later is the machine's doing.
    """

    def __init__(
        self, stage: Stage, fault: str, remedy: str, down: int, ttl: float, pace: float
    ) -> None:
        self._stage, self._fault, self._remedy = stage, fault, remedy
        self._down, self._ttl, self._pace = down, ttl, pace
        self.in_time = True
        if fault == "failover":
            primary = stage.server()
            self.proxy = stage.own(primary.proxy())
            self.servers = [primary, stage.own(primary.replica(through=self.proxy))]
        else:
            config = {"appendonly": "yes", "appendfsync": "always"} if remedy == "fsync" else {}
            self.servers = [stage.server(config=config) for _ in range(5)]

    def start(self, sell: Implementation, shop: Database, name: str) -> None:
        """Start Ada and Bob, who wait for their turn, and a process that polls the servers."""
        pool, urls = self._stage.pool, [server.url for server in self.servers]
        self.clients = [
            # after a failover Bob is told where the primary is now
            pool.start(
                _act,
                who,
                sell,
                urls[who : who + 1] if self._fault == "failover" else urls,
                shop,
                self._ttl,
                gated=True,
                name=name,
            )
            for who in range(len(CLIENTS))
        ]
        self._poller = pool.start(_poll, urls)
        self.ada, self.bob = self.clients
        pool.begin()
        self._rest()

    def end(self) -> None:
        """Make room for the next attempt."""
        for worker in (*self.clients, self._poller):
            worker.kill()
        for server in self.servers:
            server.close()

    def strike(self) -> bool:
        """Let it happen; returns whether it hit what the two want: see each fault."""
        happen: Callable[[], bool] = getattr(self, f"_{self._fault}")
        return happen()

    def _none(self) -> bool:
        """Hits when the nodes are down, and Bob has tried while Ada had the lock or was refused."""
        self._kill(*self.servers[5 - self._down :])
        self._lead_ada()
        return self._turns()

    def _failover(self) -> bool:
        """Hits when the replica knows nothing of the lock, and Bob asks it."""
        primary, replica = self.servers
        self.proxy.pause()
        self._lead_ada()
        self._kill(primary)
        self.proxy.kill()
        replica.promote()
        lost = not _holds(replica)
        self._turns()
        return lost

    def _restart(self) -> bool:
        """Hits when Ada has the lock, and still has it when Bob has tried."""
        third, *absent = self.servers[2:]
        self._kill(*absent)
        self._lead_ada()
        for server in absent:
            server.restart()
        crash = time.monotonic()
        self._kill(third)
        late = self._remedy == "delay"
        if not late:
            third.restart()
            self._rest()
        met = self._turns() and not self.refused
        if late:
            self._stage.wait(seconds=crash + self._ttl - time.monotonic())
            third.restart()
            self._rest()
        return met

    def _pause(self) -> bool:
        """Hits when Ada's lock has expired, and Bob has come as far as his write."""
        self._lead_ada()
        if self.refused:
            return False
        self.ada.pause()
        expired = self._stage.wait(lambda: not any(map(_holds, self.servers)), seconds=_LONGEST_TTL)
        bob_writes = self._lead_bob()
        self.ada.resume()
        self.ada.finish()
        return expired and bob_writes

    def _lead_ada(self) -> None:
        """Let Ada go on until she is about to write, or is refused."""
        self.refused = not self._decides(self.ada)
        self._rest()

    def _lead_bob(self) -> bool:
        """Let Bob try, and rest before he writes; whether he got so far."""
        writes = self._decides(self.bob)
        if writes:
            self._rest()
        self.bob.finish()
        self._rest()
        return writes

    def _decides(self, worker: Worker) -> bool:
        """Let a client go on until it is about to write, or has given up; False for that."""
        start = time.monotonic()
        writes = _reach(worker, "writes")
        if time.monotonic() - start > _IN_TIME * self._ttl:
            self.in_time = False
        return writes

    def _turns(self) -> bool:
        """Bob tries, and then Ada writes; whether her lock was still there when he was done."""
        self._lead_bob()
        kept = self.refused or any(_holds(server) for server in self.servers if server.alive)
        self.ada.finish()
        self._rest()
        return kept

    def _kill(self, *servers: Server) -> None:
        for server in servers:
            server.kill()
        self._rest()

    def _rest(self) -> None:
        self._stage.wait(seconds=self._pace)


class _Voter(redis.Redis):
    """A client of one node that notes each token it offers, so that the chart knows whose it is."""

    def __init__(self, client: Client, who: int, url: str) -> None:
        super().__init__(connection_pool=connect_client(url, **_LIMITS).connection_pool)
        self._client, self._event = client, f"token {who}"

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == "SET":
            self._client.note(self._event, zlib.crc32(str(args[2]).encode()))
        return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]


def _act(
    client: Client, who: int, sell: Implementation, urls: list[str], shop: Database, ttl: float
) -> bool:
    """Be Ada or Bob."""
    nodes = [_Voter(client, who, url) for url in urls]
    for node in nodes:
        with suppress(redis.RedisError):
            node.ping()
    client.meet()
    point("ready")
    sold = sell(nodes, shop.session(), ttl) is True
    if sold:
        client.note("sells")
    return sold


def _poll(client: Client, urls: list[str]) -> None:
    """Look at each server all the time: whose token it has, if it is there."""
    nodes = [connect_client(url, **_LIMITS) for url in urls]
    client.meet()
    while client.running:
        for place, node in enumerate(nodes):
            try:
                token = node.eval(_TOKEN, 0)
                state = zlib.crc32(str(token).encode()) if token else FREE
            except redis.RedisError:
                state = DOWN
            client.note(f"node {place}", state)
        client.rest(_LOOK_SECONDS)


def _holds(server: Server) -> bool:
    """Whether a server has a lock."""
    with server.client() as client:
        return bool(client.dbsize() and client.eval(_TOKEN, 0))


def _reach(worker: Worker, name: str) -> bool:
    """Let a worker go on up to a point; False when it returned without coming there."""
    try:
        worker.until(name)
    except WorkerError:
        if not worker.done:
            raise
        return False
    return True
