"""Real nodes between which a slot moves at every step, which a whole cluster does too seldom."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from typing import Any, NamedTuple

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import UnixDomainSocketConnection
from redis.crc import key_slot
from redis.exceptions import ConnectionError, ResponseError
from redis.retry import Retry

from labsupport.errors import ImplementationError
from labsupport.servers import Server, start_server

__all__ = ["SharedPool", "follows"]

# As the nodes know one another: the first is not the least, two share a host, and two a port.
# They never meet, so whatever one of them is told of the slot stays.
_NODES = ("127.0.0.2:7001", "127.0.0.1:7002", "127.0.0.2:7002", "127.0.0.1:7001")
_NO_BUS, _DAY_MS, _SECONDS_TO_BE_READY = 1, "86400000", 30.0
_KEY = "orders:{lima}"
_SLOT = key_slot(_KEY.encode())
_WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
_GONE = "Connection reset by peer"
_ERRORS = (_WRONG_TYPE, _GONE)
_MOVED_IS_ASK = " In redis-py a MovedError is an AskError, too: look for MovedError first."
_NOTHING = ("DEL", _KEY)
_WRITES: Mapping[Any, tuple[str, ...]] = {
    None: _NOTHING,
    _GONE: _NOTHING,
    _WRONG_TYPE: ("RPUSH", _KEY, "lima"),
}


_MOST_CONNECTIONS = 6


class SharedPool(ConnectionPool):
    """A pool that other threads use, too: whoever asks gets another connection than the times before.

    They need theirs: who never gives one back is told so after a few calls, as on any busy machine.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(max_connections=_MOST_CONNECTIONS, **options)

    def get_connection(self, *args: Any, **options: Any) -> Any:
        *later, longest_free = (super(SharedPool, self).get_connection() for _ in range(3))
        for connection in reversed(later):  # the pool hands out first what came back last
            self.release(connection)
        return longest_free


class _Stop(NamedTuple):
    """One node of a route: where it sends whom it is asked by, or what it says at the end.

    Attributes:
        node: the node.
        asks: whether it was an ASK that led to it.
        sends: "ASK" or "MOVED"; "" at the end.
        says: the node to go to; at the end the value, None if there is none, or the error.
        before: the node of the stop before it; "" at the first one.
    """

    node: str
    asks: bool
    sends: str
    says: Any
    before: str


def _route(text: str, end: Any) -> tuple[_Stop, ...]:
    """The stops of "0 ASK 1 MOVED 0", whose last one says `end`."""
    nodes = [_NODES[int(node)] for node in text.split()[::2]]
    kinds = text.split()[1::2]
    rows = zip(nodes, ["", *kinds], [*kinds, ""], [*nodes[1:], end], ["", *nodes], strict=False)
    return tuple(_Stop(node, led == "ASK", sends, says, to) for node, led, sends, says, to in rows)


_ROUTES: Mapping[str, tuple[_Stop, ...]] = {
    "A move that is called off": _route("0 ASK 1 MOVED 0", "lima"),
    "A move that begins again": _route("0 ASK 1 MOVED 0 ASK 1", "lima"),
    "MOVED to a node that imports the slot": _route("0 ASK 1 MOVED 2 ASK 3", "lima"),
    "ASK after ASK": _route("0 MOVED 1 ASK 2 ASK 3 MOVED 0", "lima"),
    "A key that is not there": _route("0 MOVED 1 ASK 2", None),
    "An empty value": _route("0 MOVED 3 MOVED 2", ""),
    "Many redirections": _route("0 MOVED 1 ASK 2 MOVED " * 4 + "3", "lima"),
    "An error that is no redirection": _route("0 MOVED 1", _WRONG_TYPE),
    "A node that hangs up": _route("0 ASK 1", _GONE),
    "A first node that hangs up": _route("0", _GONE),
    "The first node again": _route("0", "lima"),  # whatever was said before
}


def follows(fetch: Callable[..., Any]) -> str:
    """What is wrong with an answer that is led along each route; "" if nothing is."""
    with ExitStack() as opened:
        walk = _Walk(opened)
        for situation, route in _ROUTES.items():
            walk.begin(route)
            walk.go(fetch)
            if wrong := walk.fault or walk.unfinished:
                return f"{situation}: {walk.told}{wrong}"
    return ""


class _AstrayError(BaseException):
    """Ends an answer that has left its route."""


class _Walk:
    """A route, and how far along it an answer has come."""

    fault = ""

    def __init__(self, opened: ExitStack) -> None:
        servers = _servers()
        admins = [opened.enter_context(server.client()) for server in servers]
        self._admins = dict(zip(_NODES, admins, strict=True))
        self._names = {
            node: admin.execute_command("CLUSTER MYID") for node, admin in self._admins.items()
        }
        self.nodes = {
            node: opened.enter_context(self._client(node, server))
            for node, server in zip(_NODES, servers, strict=True)
        }

    def _client(self, node: str, server: Server) -> Redis:
        options: dict[str, Any] = {"decode_responses": True, "retry": Retry(NoBackoff(), 0)}
        path = server.directory / "redis.sock"
        pool = SharedPool(connection_class=_Led, walk=self, node=node, path=str(path), **options)
        return Redis(connection_pool=pool)

    def begin(self, route: Sequence[_Stop]) -> None:
        self._route, self._done = route, 0

    def go(self, fetch: Callable[..., Any]) -> None:
        """Let an answer go the route."""
        end = self._route[-1].says
        try:
            told = fetch(dict(self.nodes), _KEY)
        except _AstrayError:
            pass
        except Exception as error:
            if end not in _ERRORS or end not in str(error):
                self._blame(f"{ImplementationError('fetch', error).problem}.")
        else:
            if end in _ERRORS:
                self._blame(f"it returned {told!r}; the error is due.")
            elif told != end or type(told) is not type(end):
                self._blame(f"it returned {told!r}; {end!r} is due.")

    @property
    def told(self) -> str:
        """What the nodes have said so far."""
        said = [
            f"{stop.node} said {f'{stop.sends} {stop.says}' if stop.sends else repr(stop.says)}"
            for stop in self._route[: self._done][-3:]
        ]
        return "; ".join(said) + "; then " * bool(said)

    @property
    def hangs_up(self) -> bool:
        """Whether the node that was asked goes away, and says nothing."""
        return self._done == len(self._route) and self._route[-1].says == _GONE

    @property
    def unfinished(self) -> str:
        """What an answer has left out."""
        left = self._route[self._done :]
        return f"{left[0].node} was not asked." if left else ""

    def _blame(self, fault: str) -> None:
        self.fault = self.fault or fault

    def stray(self, fault: str) -> None:
        self._blame(fault)
        raise _AstrayError

    def arrive(self, node: str, *, asking: bool) -> None:
        """A GET is about to reach a node: the slot moves so that the node says what is due."""
        if self._done == len(self._route):
            self.stray(f"{node} was asked once more.")
        stop = self._route[self._done]
        if (node, asking) != (stop.node, stop.asks):
            got, wanted = (
                f"{name} {'after' if flag else 'without'} ASKING on its connection"
                for name, flag in ((node, asking), (stop.node, stop.asks))
            )
            led = self._route[self._done - 1].sends if self._done else ""
            trap = _MOVED_IS_ASK if asking and led == "MOVED" else ""
            self.stray(f"GET went to {got}; {wanted} is due.{trap}")
        self._done += 1
        self._prepare(stop)

    def _prepare(self, stop: _Stop) -> None:
        set_slot, names = ("CLUSTER", "SETSLOT", str(_SLOT)), self._names
        steps = [(*set_slot, "NODE", names[stop.node]), (*set_slot, "STABLE"), ("DEL", _KEY)]
        if stop.sends == "ASK":
            steps.append((*set_slot, "MIGRATING", names[stop.says]))
        elif stop.sends == "MOVED":
            steps.append((*set_slot, "NODE", names[stop.says]))
        else:
            if stop.asks:
                steps.append((*set_slot, "NODE", names[stop.before]))
                steps += [(*set_slot, "IMPORTING", names[stop.before]), ("ASKING",)]
            steps.append(_WRITES.get(stop.says, ("SET", _KEY, str(stop.says))))
        with self._admins[stop.node].pipeline(transaction=False) as pipe:
            for step in steps:
                pipe.execute_command(*step)
            pipe.execute()


class _Led(UnixDomainSocketConnection):
    """A connection to a node, before each of whose GETs the slot moves."""

    def __init__(self, *, walk: _Walk, node: str, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._walk, self._node, self._asking = walk, node, False

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        words = iter(b"".join(command).decode().split("\r\n")[:-1])
        for count in words:  # "*2", "$3", "GET", and so on
            name, *args = [(next(words), next(words))[1] for _ in range(int(count[1:]))]
            self._meet(name.upper(), args)
        if self._walk.hangs_up:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise ConnectionError(_GONE)
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]

    def _meet(self, name: str, args: Sequence[str]) -> None:
        asking, self._asking = self._asking, name == "ASKING"
        if [name, *args] == ["GET", _KEY]:
            self._walk.arrive(self._node, asking=asking)
        elif name not in {"ASKING", "HELLO", "CLIENT"}:  # the last two: it connects
            self._walk.stray(f"{' '.join([name, *args])} was sent, and GET {_KEY} is enough.")


@functools.cache
def _servers() -> list[Server]:
    """Four nodes that know of one another, and share the slots; they end with the kernel."""
    with ExitStack() as started:
        config = {"cluster-enabled": "yes", "cluster-node-timeout": _DAY_MS}
        servers = [started.enter_context(start_server(tcp=True, config=config)) for _ in _NODES]
        names = [_told(server, "CLUSTER MYID") for server in servers]
        edges = [16_384 * part // len(_NODES) for part in range(len(_NODES) + 1)]
        for server, mine in zip(servers, names, strict=True):
            server.kill()
            lines = [
                f"{name} {node}@{_NO_BUS} {'myself,' * (name == mine)}master - 0 0 {epoch} "
                f"connected {first}-{end - 1}\n"
                for epoch, (name, node, (first, end)) in enumerate(
                    zip(names, _NODES, pairwise(edges), strict=True), 1
                )
            ]
            known = "".join([*lines, f"vars currentEpoch {len(_NODES)} lastVoteEpoch 0\n"])
            (server.directory / "nodes.conf").write_text(known)
            server.restart()
        _wait_until_ready(servers)
        started.pop_all()
        return servers


def _wait_until_ready(servers: Sequence[Server]) -> None:
    over = time.monotonic() + _SECONDS_TO_BE_READY
    while {_told(server, "CLUSTER INFO")["cluster_state"] for server in servers} != {"ok"}:
        if time.monotonic() > over:
            raise ResponseError("CLUSTERDOWN")
        time.sleep(0.02)


def _told(server: Server, command: str) -> Any:
    with server.client() as admin:
        return admin.execute_command(command)
