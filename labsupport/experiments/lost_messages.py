"""One publisher, and subscribers that come late, die, lose their connection, or fall behind."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import redis
from numpy.typing import NDArray
from redis.backoff import ExponentialWithJitterBackoff
from redis.connection import UnixDomainSocketConnection
from redis.retry import Retry

from labsupport.charts import Bar, Lanes, Mark, Panel
from labsupport.errors import InvalidSettingError
from labsupport.experiments.experiment import Experiment, Implementation, Numbers
from labsupport.experiments.knobs import knob
from labsupport.experiments.result import Result
from labsupport.experiments.stage import Stage
from labsupport.history import History
from labsupport.servers import Server, connect_client
from labsupport.verdict import Claim, Status
from labsupport.workers import Client, Worker, point

__all__ = ["LostMessages"]

_BUFFER_BYTES = 262_144  # what the server keeps for a subscriber that does not read
_SENT_MEANWHILE_BYTES = 1_600_000  # more than that and the sockets of any system hold
_PATIENCE_SECONDS = 10.0
_NEXT_PROBE_SECONDS = 0.1
_TOGETHER_NS = 40_000_000  # receipts no further apart are drawn as one bar
_FAULTS = {
    "steady": "without a fault",
    "killed": "that is killed and restarted",
    "cut": "that is cut off",
    "slow": "that is too slow",
    "late": "that comes late",
}
_SUBSCRIBERS = tuple(_FAULTS)
_STRUCK = ("killed", "cut", "slow")


@dataclass(frozen=True, kw_only=True)
class LostMessages(Experiment):
    """One process sends messages to five subscribers, each in a process of its own.

    What is under study is `transport(redis, names)`: it returns two functions, `send(message)`,
    which sends a text to all subscribers, and `receive(me, handle)`, which calls `handle(message)`
    with each text, in the order in which they were sent, for as long as it lives. Each process
    calls `transport` with its own `redis`; an error of the connection ends `receive`, which is then
    called again, as the supervisor of a service does.

    `killed` dies with the last message of the first part handled, and not yet acknowledged; `cut`
    is stopped and its connections are closed (CLIENT KILL); `slow` is stopped while more is sent
    than the server keeps for it; `late` starts after the first part.

    Args:
        messages: how many are sent in all.
        missed: how many of them while the others are away.
        seconds: how long the sending takes.
        retries: how often redis-py may connect anew without a word; its own default is 10.
    """

    parameters: ClassVar[tuple[str, ...]] = ("redis", "names")
    subscribers: ClassVar[tuple[str, ...]] = _SUBSCRIBERS

    messages: int = knob(1000, low=200, high=20_000, step=100)
    missed: int = knob(300, low=50, high=5_000, step=50)
    seconds: float = knob(1.0, low=0.1, high=60.0, step=0.1)
    retries: int = knob(0, low=0, high=10)

    def check(self) -> None:
        if self.missed > self.messages // 2:
            raise InvalidSettingError(
                f"missed is {self.missed} of {self.messages} messages.",
                "Make messages at least twice missed.",
            )

    @property
    def conditions(self) -> str:
        return (
            f"{self.messages:,} messages, {self.missed:,} of them while three subscribers are away"
        )

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        server = stage.server(config={"client-output-buffer-limit": f"pubsub {_BUFFER_BYTES} 0 0"})
        first = (self.messages - self.missed) * 4 // 7
        scene = _Scene(stage, server, implementation, name, self.retries)
        prober = scene.start(_probe, gated=True)
        publisher = scene.start(
            _publish, first, self.missed, self.messages, self.seconds, gated=True
        )
        workers = {
            who: scene.subscribe(who, hold_at=first if who == "killed" else 0)
            for who in ("steady", "killed", "cut", "slow")
        }
        stage.crew.begin()
        if scene.all_hear(prober, workers):
            publisher.until("strike")
            stage.wait(lambda: len(stage.history.select("held")) > 0, seconds=_PATIENCE_SECONDS)
            workers["late"] = scene.subscribe("late", later=True)
            scene.all_hear(prober, workers.keys() - {"killed"})
            workers["killed"].kill()
            workers["cut"].pause()
            stage.facts["cut"] = scene.cut("cut")
            workers["slow"].pause()
            publisher.until("part sent")
            while not len(stage.history.select("back")):
                scene.received_so_far("steady", "late")
                publisher.until("part sent")
            workers["killed"] = scene.subscribe("killed", later=True)
            workers["cut"].resume()
            workers["slow"].resume()
            scene.all_hear(prober, workers)
            publisher.finish(seconds=self.seconds + 30)
            stage.facts["over"] = scene.all_hear(prober, workers)
        for worker in stage.crew.workers:
            worker.kill()
        stage.finish(patience_seconds=_PATIENCE_SECONDS)

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        counts = _counts(history, self.messages)
        numbers: dict[str, float] = {"sent": len(history.select("sent"))}
        for who, times in zip(_SUBSCRIBERS, counts, strict=True):
            numbers[f"{who}_lost"] = int((times == 0).sum())
            numbers[f"{who}_twice"] = int((times > 1).sum())
        for what in ("connected", "error"):
            rows = _in_rows(history, what)
            back = history.select("back")["end_ns"].min(initial=np.iinfo("i8").max)
            for who in _STRUCK[1:]:
                of = (rows["row"] == _SUBSCRIBERS.index(who)) & (rows["at_ns"] >= back)
                numbers[f"{who}_{what}"] = int(of.sum())
        numbers["exercised"] = int(facts.get("cut", 0) > 0 and facts.get("over", False))
        return numbers

    def judge(self, numbers: Numbers) -> Sequence[Claim]:
        met = bool(numbers["exercised"])
        lost = {who: numbers[f"{who}_lost"] for who in _SUBSCRIBERS}
        twice = sum(numbers[f"{who}_twice"] for who in _SUBSCRIBERS)
        silent = [who for who in _STRUCK[1:] if lost[who] and not numbers[f"{who}_error"]]
        return (
            *(
                Claim(
                    f"A subscriber {fault} receives every message",
                    _status(met, broken=lost[who] > 0),
                    f"{lost[who]:,.0f} of {numbers['sent']:,.0f} lost",
                )
                for who, fault in _FAULTS.items()
            ),
            Claim(
                "Nobody misses messages without an error",
                _status(met, broken=bool(silent)),
                f"no error at {' and '.join(silent)}" if silent else "",
            ),
            Claim(
                "Nobody handles a message twice", _status(met, broken=twice > 0), f"{twice:,.0f}"
            ),
        )

    def find(self, name: str, numbers: Numbers) -> str:
        losing = [who for who in _SUBSCRIBERS if numbers[f"{who}_lost"]]
        if not numbers["exercised"]:
            return "Messages do not arrive at all: nothing was put to the test"
        if losing:
            total = sum(numbers[f"{who}_lost"] for who in losing)
            return (
                f"{total:,.0f} messages lost, by {len(losing)} of {len(_SUBSCRIBERS)} subscribers"
            )
        twice = sum(numbers[f"{who}_twice"] for who in _SUBSCRIBERS)
        return f"Nothing is lost; {twice:,.0f} handled twice" if twice else "Nothing is lost"

    def panels(self) -> Sequence[Panel]:
        return (
            Lanes(
                "what each subscriber received, and what it lost",
                _SUBSCRIBERS,
                bars=(
                    Bar("away", "gone", _away),
                    Bar("receives", "work", _received),
                    Bar("loses", "alarm", _lost),
                ),
                marks=(
                    Mark("error", "waiting", lambda history: _points(history, "error")),
                    Mark("twice", "second", _repeated),
                ),
            ),
        )

    def contrast(self, results: Sequence[Result]) -> tuple[str, Sequence[Claim]]:
        first, *others = results
        before, claims = _total_lost(first), []
        for other in others:
            met = all(result.numbers["exercised"] for result in (first, other))
            better = before > 0 and _total_lost(other) == 0
            text = f"{first.name} loses messages, {other.name} loses none"
            claims.append(Claim(text, _status(met, broken=not better)))
        lost = ", ".join(f"{result.name} {_total_lost(result):,.0f}" for result in results)
        return f"Lost: {lost}", claims

    def count(self, result: Result) -> pd.DataFrame:
        """What each subscriber was sent, received, lost and received again, as a table."""
        counts = _counts(result.events, self.messages)
        table = {
            who: {
                "sent": int(result.numbers["sent"]),
                "received": int(times.sum()),
                "lost": int((times == 0).sum()),
                "twice": int((times > 1).sum()),
            }
            for who, times in zip(_SUBSCRIBERS, counts, strict=True)
        }
        return pd.DataFrame(table).T


class _Scene:
    """The processes of a run, and what the conductor sees of them."""

    def __init__(
        self, stage: Stage, server: Server, implementation: Implementation, name: str, retries: int
    ) -> None:
        self._stage = stage
        self._server = server
        self._what = implementation, server.url, name, retries
        self._probes = 0

    def start(self, function: Any, *args: Any, gated: bool) -> Worker:
        implementation, url, name, retries = self._what
        return self._stage.crew.start(
            function, implementation, url, retries, *args, gated=gated, name=name
        )

    def subscribe(self, who: str, *, hold_at: int = 0, later: bool = False) -> Worker:
        return self.start(_subscribe, who, hold_at, later, gated=hold_at > 0)

    def all_hear(self, prober: Worker, who: Any) -> bool:
        """Send probes until each of these has received one that was sent after this call.

        Messages keep their order, so that all that was sent before has then been received, or
        never will be.
        """
        wanted, first = {_SUBSCRIBERS.index(one) for one in who}, self._probes + 1
        deadline = time.monotonic() + _PATIENCE_SECONDS

        def heard() -> bool:
            rows = _in_rows(self._stage.history, "probe")
            return wanted <= set(rows["row"][rows["value"] >= first].tolist())

        while time.monotonic() < deadline:
            prober.until("probed")
            self._probes += 1
            if self._stage.wait(heard, seconds=_NEXT_PROBE_SECONDS):
                return True
        return False

    def received_so_far(self, *who: str) -> None:
        """Wait until these have what was sent: nobody but `slow` is to overflow."""
        sent = float(self._stage.history.select("sent")["value"].max(initial=0))

        def received() -> bool:
            rows = _in_rows(self._stage.history, "received")
            last = rows["row"][rows["value"] == sent]
            return {_SUBSCRIBERS.index(one) for one in who} <= set(last.tolist())

        self._stage.wait(received, seconds=_PATIENCE_SECONDS)

    def cut(self, who: str) -> int:
        """CLIENT KILL all connections of a subscriber; returns how many there were."""
        with self._server.client() as admin:
            found = [entry["id"] for entry in admin.client_list() if entry["name"] == who]
            return sum(int(admin.client_kill_filter(_id=number)) for number in found)


def _client(url: str, retries: int, name: str) -> redis.Redis:
    """A client that retries like redis-py's own default, if at all."""
    retry = Retry(ExponentialWithJitterBackoff(base=0.01, cap=1), retries)
    return connect_client(url, retry=retry, socket_timeout=None, client_name=name)


def _publish(
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
    send, _ = transport(_client(url, retries, "publisher"), _SUBSCRIBERS)
    large = _SENT_MEANWHILE_BYTES // missed
    part = max(1, _BUFFER_BYTES // 2 // large)
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


def _probe(client: Client, transport: Implementation, url: str, retries: int) -> None:
    """Send a message that does not count whenever the conductor wants to know who hears it."""
    send, _ = transport(_client(url, retries, "prober"), _SUBSCRIBERS)
    client.meet()
    for number in itertools.count(1):
        send(f"probe {number}")
        point("probed")


def _subscribe(
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
    _, receive = transport(redis_, _SUBSCRIBERS)
    client.note("subscriber", _SUBSCRIBERS.index(who))
    if not later:
        client.meet()
    while True:
        try:
            receive(who, handle)
        except redis.ConnectionError:
            client.note("error")
        client.rest(0.001)


_IN_ROWS = np.dtype([("row", "i8"), ("at_ns", "i8"), ("value", "f8")])


def _in_rows(history: History, event: str) -> NDArray[np.void]:
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


def _counts(history: History, messages: int) -> NDArray[np.int64]:
    """How often each subscriber received each message that was sent."""
    rows = _in_rows(history, "received")
    counts = np.zeros((len(_SUBSCRIBERS), messages + 1), "i8")
    np.add.at(counts, (rows["row"], rows["value"].astype("i8")), 1)
    return counts[:, history.select("sent")["value"].astype("i8")]


def _total_lost(result: Result) -> float:
    return sum(result.numbers[f"{who}_lost"] for who in _SUBSCRIBERS)


def _points(history: History, event: str) -> NDArray[np.int64]:
    rows = _in_rows(history, event)
    return np.column_stack([rows["row"], rows["at_ns"] - history.origin_ns])


def _away(history: History) -> NDArray[np.int64]:
    strike, back = (
        int(history.select(event)["end_ns"].min(initial=history.origin_ns + history.elapsed_ns))
        - history.origin_ns
        for event in ("strike", "back")
    )
    late = (_SUBSCRIBERS.index("late"), 0, strike)
    struck = [(_SUBSCRIBERS.index(who), strike, back) for who in _STRUCK]
    return np.array([late, *struck], "i8")


def _received(history: History) -> NDArray[np.int64]:
    rows, spans = _in_rows(history, "received"), []
    for row in range(len(_SUBSCRIBERS)):
        at = rows["at_ns"][rows["row"] == row] - history.origin_ns
        for run in np.split(at, np.flatnonzero(np.diff(at) > _TOGETHER_NS) + 1):
            spans += [(row, run[0], run[-1])] if len(run) else []
    return np.array(spans, "i8").reshape(-1, 3)


def _lost(history: History) -> NDArray[np.int64]:
    """When the messages were sent that a subscriber lost: a later one has reached it, or nobody."""
    sent = history.select("sent")
    rows, spans = _in_rows(history, "received"), []
    began, ended = sent["start_ns"] - history.origin_ns, sent["end_ns"] - history.origin_ns
    for row in range(len(_SUBSCRIBERS)):
        got = rows["value"][rows["row"] == row]
        missing = ~np.isin(sent["value"], got) & (sent["value"] < got.max(initial=0))
        edges = np.flatnonzero(np.diff(np.pad(missing.astype(int), 1))).reshape(-1, 2)
        spans += [(row, began[first], ended[after - 1]) for first, after in edges]
    return np.array(spans, "i8").reshape(-1, 3)


def _repeated(history: History) -> NDArray[np.int64]:
    rows = _in_rows(history, "received")
    keys = rows["row"] * 1_000_000 + rows["value"].astype("i8")
    again = np.ones(len(rows), bool)
    again[np.unique(keys, return_index=True)[1]] = False
    return np.column_stack([rows["row"], rows["at_ns"] - history.origin_ns])[again]


def _status(met: bool, *, broken: bool) -> Status:
    if broken:
        return "broken"
    return "holds" if met else "not exercised"
