"""The processes behind the experiment on lost messages, and what they record."""

import itertools
import time
from collections.abc import Collection
from typing import Any

import numpy as np
import redis
from numpy.typing import NDArray
from redis.backoff import ExponentialWithJitterBackoff
from redis.connection import UnixDomainSocketConnection
from redis.retry import Retry

from labsupport.experiments import Implementation, Stage
from labsupport.history import History
from labsupport.servers import Server, connect_client
from labsupport.workers import Client, Worker, point

SUBSCRIBERS = ("steady", "killed", "cut", "slow", "late")
"""Their names, each after its fault."""
BUFFER_BYTES = 262_144
"""What the server keeps for a subscriber that does not read."""
BLOCK_BYTES = 24_000
"""More than the one block in which Redis keeps a short rest, once it has shrunk the buffer before it."""
PATIENCE_SECONDS = 10.0
"""How long to wait for what always comes, unless the function under study breaks it."""

_SENT_MEANWHILE_BYTES = 1_600_000  # more than that and the sockets of any system hold
_NEXT_PROBE_SECONDS = 0.1


class Messaging:
    """The processes of a run, and what the conductor sees of them."""

    def __init__(
        self, stage: Stage, server: Server, implementation: Implementation, name: str, retries: int
    ) -> None:
        self._stage = stage
        self._what = implementation, server.url, name, retries
        self._probes = 0

    def start(self, function: Any, *args: Any, gated: bool) -> Worker:
        implementation, url, name, retries = self._what
        return self._stage.pool.start(
            function, implementation, url, retries, *args, gated=gated, name=name
        )

    def subscribe(self, who: str, *, hold_at: int = 0, later: bool = False) -> Worker:
        return self.start(subscribe, who, hold_at, later, gated=hold_at > 0)

    def all_hear(self, prober: Worker, who: Collection[str]) -> bool:
        """Send probes until each of these has received one that was sent after this call.

        Messages keep their order, so that all that was sent before has then been received, or
        never will be.
        """
        wanted, first = {SUBSCRIBERS.index(one) for one in who}, self._probes + 1
        deadline = time.monotonic() + PATIENCE_SECONDS

        def heard() -> bool:
            rows = in_rows(self._stage.history, "probe")
            return wanted <= set(rows["row"][rows["value"] >= first].tolist())

        while time.monotonic() < deadline and not self._stage.cut_short:
            prober.until("probed")
            self._probes += 1
            if self._stage.wait(heard, seconds=_NEXT_PROBE_SECONDS):
                return True
        return False

    def received_so_far(self, *who: str) -> None:
        """Wait until these have what was sent: nobody but `slow` is to overflow."""
        sent = float(self._stage.history.select("sent")["value"].max(initial=0))

        def received() -> bool:
            rows = in_rows(self._stage.history, "received")
            last = rows["row"][rows["value"] == sent]
            return {SUBSCRIBERS.index(one) for one in who} <= set(last.tolist())

        self._stage.wait(received, seconds=PATIENCE_SECONDS)


def kept_for(who: str, server: Server) -> int:
    """The bytes that the server keeps for a subscriber who does not read them."""
    with server.client() as admin:
        return sum(int(one["omem"]) for one in admin.client_list() if one["name"] == who)


def _client(url: str, retries: int, name: str) -> redis.Redis:
    """A client with redis-py's own time limit for a reply, which retries as it does, if at all."""
    retry = Retry(ExponentialWithJitterBackoff(base=0.01, cap=1), retries)
    return connect_client(url, retry=retry, socket_timeout=5, client_name=name)


def publish(
    client: Client,
    transport: Implementation,
    url: str,
    retries: int,
    first: int,
    missed: int,
    messages: int,
    seconds: float,
) -> None:
    """Be the publisher: send the messages, and stop where the conductor has something to do."""
    send, _ = transport(_client(url, retries, "publisher"), SUBSCRIBERS)
    large = _SENT_MEANWHILE_BYTES // missed
    part = max(1, BUFFER_BYTES // 2 // large)
    client.meet()
    point("ready")
    due = time.monotonic()
    for number in range(1, messages + 1):
        meanwhile = first < number <= first + missed
        start = time.monotonic_ns()
        send(f"{number} " + "." * (large if meanwhile else 100))
        client.record("sent", start, time.monotonic_ns(), number)
        due = max(due + seconds / messages, time.monotonic() - 0.01)  # it was held, or is late
        client.rest(max(0.0, due - time.monotonic()))
        if number == first:
            point("strike")
        elif number == first + missed:
            client.note("back")
            point("part sent")
        elif meanwhile and (number - first) % part == 0:
            point("part sent")


def probe(client: Client, transport: Implementation, url: str, retries: int) -> None:
    """Send a message that does not count whenever the conductor wants to know who hears it."""
    send, _ = transport(_client(url, retries, "prober"), SUBSCRIBERS)
    client.meet()
    for number in itertools.count(1):
        send(f"probe {number}")
        point("probed")


def subscribe(
    client: Client,
    transport: Implementation,
    url: str,
    retries: int,
    who: str,
    hold_at: int,
    later: bool,
) -> None:
    """Be a subscriber: receive until the end, whatever happens to the connection."""

    class NotedConnection(UnixDomainSocketConnection):
        def _connect(self):  # type: ignore[no-untyped-def]
            client.note("connected")
            return super()._connect()  # type: ignore[no-untyped-call]

    def handle(message: str) -> None:
        if not isinstance(message, str):
            raise TypeError(f"handle was given {message!r:.50}, not the text that was sent")
        word, _, rest = message.partition(" ")
        if word == "probe":
            client.note("probe", int(rest))
            return
        client.note("received", int(word))
        if int(word) == hold_at:
            point("held")  # for ever: it is killed here, before it can acknowledge

    redis_ = _client(url, retries, who)
    redis_.connection_pool.connection_class = NotedConnection
    _, receive = transport(redis_, SUBSCRIBERS)
    client.note("subscriber", SUBSCRIBERS.index(who))
    if not later:
        client.meet()
    while True:
        try:
            receive(who, handle)
        except redis.ConnectionError:
            client.note("error")
        client.rest(0.001)


_IN_ROWS = np.dtype([("row", "i8"), ("at_ns", "i8"), ("value", "f8")])


def in_rows(history: History, event: str) -> NDArray[np.void]:
    """Events with the row of their subscriber, in the order of time."""
    who = history.select("subscriber")
    row = np.full(int(who["client"].max(initial=0)) + 1, -1)
    row[who["client"]] = who["value"]
    found = history.select(event)
    found = found[found["client"] < len(row)]
    rows = np.empty(len(found), _IN_ROWS)
    rows["row"], rows["value"] = row[found["client"]], found["value"]
    rows["at_ns"] = found["end_ns"]
    return rows


def counts_of(history: History, messages: int) -> NDArray[np.int64]:
    """How often each subscriber received each message that was sent."""
    rows = in_rows(history, "received")
    counts = np.zeros((len(SUBSCRIBERS), messages + 1), "i8")
    np.add.at(counts, (rows["row"], rows["value"].astype("i8")), 1)
    return counts[:, history.select("sent")["value"].astype("i8")]
