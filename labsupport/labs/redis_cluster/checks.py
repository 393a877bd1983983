"""How answers to exercises 14.2 and 14.3 are put to the test: a slot that moves, a replica that lags."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, ClassVar
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import UnixDomainSocketConnection
from redis.crc import key_slot
from redis.exceptions import MaxConnectionsError, RedisError
from redis.retry import Retry

from labsupport.errors import ImplementationError, WorkerError
from labsupport.exercises import Outcome
from labsupport.exercises.matching import listed
from labsupport.exercises.trials import Answer
from labsupport.labs.redis_cluster.clients import KEYS
from labsupport.labs.redis_cluster.cluster_of_checks import checks_cluster
from labsupport.labs.redis_cluster.routed_nodes import SharedPool, follows
from labsupport.servers import connect_client, start_server
from labsupport.servers.cluster import Cluster
from labsupport.workers import Client, WorkerPool, point

__all__ = ["check_fetch", "check_promise"]

_MOST_SECONDS = 5.0  # ten times what is granted: a machine may be busy
_TRIES = 20
_MOST_TRIES = 300  # until WAIT says once that both replicas have an order
_MISSING, _EMPTY = "basket:{cairo}", "note:{cairo}"
_VALUE = " the value of {}\n"  # it comes as it is
_MOST_REQUESTS = 20
_DUE = frozenset({"GET", "ASKING", "HELLO", "CLIENT"})  # the last two: a client that connects
_NAME = re.compile(rb"\*\d+\r\n\$\d+\r\n(\w+)\r\n")  # of each command, as it goes over the wire


def check_fetch(answer: Answer) -> Outcome:
    cluster = checks_cluster()
    slot = key_slot(KEYS[-1].encode())
    owner, other, third = (cluster.primary_of(key_slot(key.encode())) for key in reversed(KEYS))
    with cluster.client() as redis:
        for key in KEYS:
            redis.set(key, _VALUE.format(key))
        redis.set(_EMPTY, "")
    tried: list[str] = []

    def ask(situation: str, first: Sequence[int], most: int, **options: Any) -> None:
        if not tried:
            wrong = _ask(answer, cluster, first, most, **options)
            tried.extend([f"{situation}: {wrong}"] if wrong else [])

    def move(to: int, halfway: Callable[[], object] = lambda: None) -> None:
        cluster.move_slot(slot, to=to, halfway=halfway)
        cluster.heal()

    def moving() -> None:
        ask("A slot that moves, asked at its old node", [owner], 1)
        ask("A slot that moves, asked at another node", [other], 2)

    def moves_on() -> None:
        """The slot arrives, and moves on, between the ASK and what follows it."""
        cluster.give_slot(slot, source=owner, to=third)
        cluster.heal()  # all nodes know; else two of them may take the same epoch
        move(other)

    def moving_on() -> None:
        situation = "A slot that has moved on, since the ASK"
        ask(situation, [owner], 2, keys=KEYS[-1:], between=moves_on)
        if cluster.primary_of(slot) == other:
            move(third)

    ask("A settled cluster", [owner, other, third], 1)
    move(third, moving)
    ask("A slot that has moved", [owner, third], 1)
    move(owner)
    if not tried:
        move(third, moving_on)
        move(owner)
    if wrong := tried[0] if tried else follows(answer):
        return Outcome(False, wrong, wrong)
    return Outcome(True, "it found all keys, before a slot moved, meanwhile, and afterwards.")


class _TooManyError(Exception):
    """Ends an answer that goes on asking."""


class _Counted(UnixDomainSocketConnection):
    """A connection of an answer's client, each of whose requests counts."""

    counting: ClassVar[bool] = False
    requests: ClassVar[int] = 0
    sent: ClassVar[list[str]] = []
    between: ClassVar[Callable[[], object] | None] = None

    def send_packed_command(self, command: Any, *args: Any, **options: Any) -> None:
        if _Counted.counting:
            _Counted.requests += 1
            _Counted.sent += [name.decode() for name in _NAME.findall(b"".join(command))]
        if _Counted.requests == 2 and (change := _Counted.between) is not None:
            _Counted.between = None
            change()
        if _Counted.requests > _MOST_REQUESTS:
            raise _TooManyError
        super().send_packed_command(command, *args, **options)  # type: ignore[no-untyped-call]


def _ask(
    answer: Answer,
    cluster: Cluster,
    first: Sequence[int],
    most: int,
    *,
    keys: Sequence[str] = (*KEYS, _EMPTY, _MISSING),
    between: Callable[[], object] | None = None,
) -> str:
    """What is wrong with an answer that begins at one of these nodes; "" if nothing is.

    Args:
        answer: the learner's.
        cluster: whose nodes it asks.
        first: which it asks first, in turn.
        most: how many redirections are due.
        keys: which it asks for.
        between: done before its second request.
    """
    ports = dict(enumerate(cluster.ports))
    for start in first:
        order = [start, *(node for node in ports if node != start)]
        nodes = {f"127.0.0.1:{ports[node]}": _counted(cluster.urls[node]) for node in order}
        for key in keys:
            for client in nodes.values():
                client.ping()  # so that it is connected
            wanted = {_MISSING: None, _EMPTY: ""}.get(key, _VALUE.format(key))
            before = cluster.redirections()
            _Counted.counting, _Counted.requests, _Counted.between = True, 0, between
            _Counted.sent = []
            try:
                told = answer(nodes, key)
            except _TooManyError:
                return f"more than {_MOST_REQUESTS} requests for {key}."
            except Exception as error:
                return f"{type(error).__name__} was raised for {key}."
            finally:
                _Counted.counting, _Counted.requests, _Counted.between = False, 0, None
            redirected = {kind: n - before[kind] for kind, n in cluster.redirections().items()}
            if told != wanted or type(told) is not type(wanted):
                return f"{key} is {told!r}, not {wanted!r}."
            if sum(redirected.values()) > most:
                return f"more than {most} redirection{'s' * (most > 1)} for {key}."
            if others := [name for name in _Counted.sent if name.upper() not in _DUE]:
                return f"{others[0].upper()} was sent for {key}, and a GET is enough."
            if sum(name.upper() == "ASKING" for name in _Counted.sent) > sum(redirected.values()):
                return f"ASKING was sent for {key} where no node had said where to go."
    return ""


def _counted(url: str) -> Redis:
    path = urlsplit(url).path
    pool = SharedPool(
        connection_class=_Counted, path=path, decode_responses=True, retry=Retry(NoBackoff(), 0)
    )
    return Redis(connection_pool=pool)


def check_promise(answer: Answer) -> Outcome:
    with start_server() as primary, start_server() as alone, WorkerPool() as pool:
        with primary.client() as admin:
            admin.config_set("slowlog-log-slower-than", 0)  # all commands
            admin.config_set("slowlog-max-len", 10_000)
            admin.rpush("orders", *_EARLIER)
        with (
            primary.proxy() as proxy,
            primary.proxy() as other,
            primary.replica(through=proxy),
            primary.replica(through=other),
        ):
            other.pause()  # one of two is enough
            worker = pool.start(
                _be_told, answer, primary.url, alone.url, gated=True, name="promise"
            )
            try:
                worker.until("two", seconds=_TRIES * _MOST_SECONDS)
                other.resume()
                worker.until("lag", seconds=2 * _TRIES * _MOST_SECONDS)
                for link in (proxy, other):
                    link.pause()
                with primary.client() as admin:
                    admin.slowlog_reset()
                told = worker.finish(seconds=_MOST_SECONDS)
            except ImplementationError as error:
                cause = error.__cause__ or error
                wrong = f"A replica that keeps up: {type(cause).__name__} was raised."
                return Outcome(False, wrong, wrong)
            except WorkerError:
                wrong = (
                    "A replica that lags: promise did not come back in half a second, nor in five."
                )
                return Outcome(False, wrong, wrong)
        with primary.client() as redis:
            there = redis.lrange("orders", 0, -1)
            wrong = _broken_promise(told, there) or _waited_wrongly(redis)
    return Outcome(not wrong, wrong or "it promised only what a replica had.", wrong or told)


_REFUSALS = 6  # so many connections are in the pool
_WAITS_MS = (70, 130)  # 100 ms, by one WAIT or several
_EARLIER = tuple(f"earlier-{number}" for number in range(1_200))


def _order(number: int) -> str:
    """An order that is a text as any other."""
    return f" Order {number},\td'Arc \u00e9\n"


def _be_told(client: Client, answer: Answer, primary: str, alone: str) -> dict[str, Any]:
    """Take orders while a replica keeps up, then while it lags, then where there is none."""
    redis, told = _shared(primary), []
    for number in range(_TRIES):  # a busy machine may need more than 100 ms for one
        told.append(answer(redis, "orders", _order(number)))
        if told[-1] is True:
            break
    with connect_client(primary).client() as own:
        own.set("note", "no list")
        own.wait(1, int(_MOST_SECONDS * 1000))  # what came before is confirmed: it is no excuse
    refused = None
    for _ in range(_REFUSALS):
        try:
            refused = refused or answer(redis, "note", "order-0")
        except MaxConnectionsError:
            raise
        except RedisError:
            continue
    point("two")
    both = _both_keep_up(answer, primary, len(told))
    point("lag")
    late = answer(redis, "orders", _order(len(told) + len(both)))
    lonely = _shared(alone)
    twice = [answer(lonely, "new orders", "order-0") for _ in range(2)]
    there = lonely.lrange("new orders", 0, -1)
    return {
        "well": told,
        "refused": refused,
        "both": both,
        "late": late,
        "alone": twice,
        "list": there,
    }


def _both_keep_up(answer: Answer, primary: str, first: int) -> list[tuple[Any, int]]:
    """What it tells of orders that two replicas may confirm, and the most that WAIT said each time."""
    redis, told = _shared(primary), []
    with connect_client(primary).client() as own:
        own.incr("note of both")
        own.wait(2, int(_MOST_SECONDS * 1000))
    with _busy(primary):
        for number in range(first, first + _MOST_TRIES):
            _Hearing.most = 0
            told.append((answer(redis, "orders", _order(number)), _Hearing.most))
            heard = [confirmed for _, confirmed in told]
            if max(heard) > 1 or (number >= first + _TRIES and not any(heard)):
                break
    return told


# Some milliseconds long; meanwhile what two replicas say arrives, and is read together.
_BUSY = "local n = 0 for i = 1, 300000 do n = n + i % 7 end return n"


@contextmanager
def _busy(url: str) -> Iterator[None]:
    """Let the server have something to compute at any time: always two are waiting for it."""
    done = Event()

    def compute() -> None:
        with connect_client(url).client() as own:
            while not done.is_set():
                own.eval(_BUSY, 0)

    several = [Thread(target=compute) for _ in range(2)]
    for one in several:
        one.start()
    try:
        yield
    finally:
        done.set()
        for one in several:
            one.join()


class _Hearing(UnixDomainSocketConnection):
    """A connection of an answer's client, which hears what WAIT says."""

    most: ClassVar[int] = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)  # type: ignore[no-untyped-call]
        self._sent: list[bytes] = []

    def send_packed_command(self, command: Any, *args: Any, **options: Any) -> None:
        packed = command if isinstance(command, list) else [command]
        self._sent += [name.upper() for name in _NAME.findall(b"".join(packed))]
        super().send_packed_command(command, *args, **options)  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **options: Any) -> Any:
        name = self._sent.pop(0) if self._sent else b""
        said = super().read_response(*args, **options)
        if name == b"WAIT" and isinstance(said, int):
            _Hearing.most = max(_Hearing.most, said)
        return said


def _shared(url: str) -> Redis:
    """A client that other threads use, too."""
    pool = SharedPool(
        connection_class=_Hearing, **connect_client(url).connection_pool.connection_kwargs
    )
    return Redis(connection_pool=pool)


def _broken_promise(told: dict[str, Any], there: list[str]) -> str:
    """What is wrong with what was told; "" if nothing is."""
    if told["well"][-1] is not True:
        return f"A replica that keeps up: the answer was {told['well'][-1]!r}, not True."
    if told["refused"] is True:
        return "A key that holds no list: the answer was True, and the order is nowhere."
    for one, confirmed in told["both"]:
        if confirmed and one is not True:
            return f"Two replicas that keep up: WAIT said {confirmed}, and the answer was {one!r}."
    if told["late"] is not False:
        return f"A replica that lags: the answer was {told['late']!r}, not False."
    for one in told["alone"]:
        if one is not False:
            return f"No replica: the answer was {one!r}, not False."
    count = len(told["well"]) + len(told["both"]) + 1
    orders = [*_EARLIER, *map(_order, range(count))]
    if there != orders:
        return f"A replica that lags: the list holds {listed(list(map(repr, there))) or 'nothing'}."
    if len(told["list"]) != 2:
        return f"The same order twice: the list holds {', '.join(told['list']) or 'nothing'}."
    return ""


def _waited_wrongly(redis: Any) -> str:
    """Whether the replica that lags was given its 100 ms; "" if it was."""
    entries = (entry["command"] for entry in redis.slowlog_get(10_000))
    sent = [(text.decode() if isinstance(text, bytes) else text).split() for text in entries]
    waited = sum(int(words[2]) for words in sent if words[0].upper() == "WAIT")
    low, high = _WAITS_MS
    return "" if low <= waited <= high else f"A replica that lags: it had {waited} ms, not 100."
