"""Nodes that say what a script says, for what a real cluster does too seldom to be asked about."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from redis import ConnectionPool, Redis
from redis._parsers.base import BaseParser
from redis.connection import UnixDomainSocketConnection

from labsupport.errors import ImplementationError

__all__ = ["SharedPool", "follows"]

# the first is not the least; two share a host, and two a port
_NODES = ("10.0.0.2:7001", "10.0.0.1:7002", "10.0.0.2:7002", "10.0.0.1:7001")
_KEY = "orders:{lima}"
_WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


class SharedPool(ConnectionPool):
    """A pool that other threads use, too: whoever asks gets another connection than the times before."""

    def get_connection(self, *args: Any, **options: Any) -> Any:
        *later, longest_free = (super(SharedPool, self).get_connection() for _ in range(3))
        for connection in reversed(later):  # the pool hands out first what came back last
            self.release(connection)
        return longest_free


class _Stop(NamedTuple):
    """One node of a route, and what it says: ASK or MOVED to the next one, or the end."""

    node: str
    says: Any


def _route(text: str, end: Any) -> tuple[_Stop, ...]:
    """The stops of "0 ASK 1 MOVED 0", whose last one says `end`."""
    nodes, kinds = text.split()[::2], text.split()[1::2]
    names = [_NODES[int(node)] for node in nodes]
    hops = [f"{kind} 866 {after}" for kind, (_, after) in zip(kinds, pairwise(names), strict=True)]
    return tuple(_Stop(name, says) for name, says in zip(names, [*hops, end], strict=True))


_ROUTES: Mapping[str, tuple[_Stop, ...]] = {
    "A move that is called off": _route("0 ASK 1 MOVED 0", "lima"),
    "A move that begins again": _route("0 ASK 1 MOVED 0 ASK 1", "lima"),
    "MOVED to a node that imports the slot": _route("0 ASK 1 MOVED 2 ASK 3", "lima"),
    "ASK after ASK": _route("0 MOVED 1 ASK 2 ASK 3 MOVED 0", "lima"),
    "A key that is not there": _route("0 MOVED 1 ASK 2", None),
    "An empty value": _route("0 MOVED 3 MOVED 2", ""),
    "Many redirections": _route("0 MOVED 1 ASK 2 MOVED " * 4 + "3", "lima"),
    "An error that is no redirection": _route("0 MOVED 1", _WRONG_TYPE),
    "The first node again": _route("0", "lima"),  # whatever was said before
}


def follows(fetch: Callable[..., Any]) -> str:
    """What is wrong with an answer that is led along each route; "" if nothing is."""
    script = _Script()
    nodes = {name: script.client(name) for name in _NODES}
    for situation, route in _ROUTES.items():
        script.begin(route)
        end = route[-1].says
        try:
            told = fetch(nodes, _KEY)
        except _AstrayError:
            told = None
        except Exception as error:
            if end is not _WRONG_TYPE or _WRONG_TYPE not in str(error):
                script.blame(f"{ImplementationError('fetch', error).problem}.")
        else:
            if end is _WRONG_TYPE:
                script.blame(f"it returned {told!r}; the error is due.")
            elif told != end or type(told) is not type(end):
                script.blame(f"it returned {told!r}; {end!r} is due.")
        if script.fault or script.unfinished:
            return f"{situation}: {script.told()}{script.fault or script.unfinished}"
    return ""


class _AstrayError(BaseException):
    """Ends an answer that has left its route."""


class _Script:
    """A route, and how far along it an answer has come."""

    fault = ""

    def begin(self, route: Sequence[_Stop]) -> None:
        self._route, self._done = route, 0

    def client(self, node: str) -> Redis:
        pool = SharedPool(connection_class=_Scripted, script=self, node=node)
        return Redis(connection_pool=pool)

    def told(self) -> str:
        """What the nodes have said so far."""
        said = [f"{stop.node} said {stop.says}" for stop in self._route[: self._done][-3:]]
        return "; ".join(said).replace(" 866", "") + "; then " * bool(said)

    @property
    def unfinished(self) -> str:
        left = self._route[self._done :]
        return f"{left[0].node} was not asked." if left else ""

    def blame(self, fault: str) -> None:
        self.fault = self.fault or fault

    def stray(self, fault: str) -> None:
        self.blame(fault)
        raise _AstrayError

    def get(self, node: str, *, asking: bool) -> Any:
        """What a node says to GET, on a connection that has said ASKING just before, or not."""
        if self._done == len(self._route):
            self.stray(f"{node} was asked once more.")
        due, says = self._route[self._done]
        asks = self._done > 0 and str(self._route[self._done - 1].says).startswith("ASK")
        if (node, asking) != (due, asks):
            got, wanted = (
                f"{name} {'after' if flag else 'without'} ASKING on its connection"
                for name, flag in ((node, asking), (due, asks))
            )
            self.stray(f"GET went to {got}; {wanted} is due.")
        self._done += 1
        return says


class _Scripted(UnixDomainSocketConnection):
    """A connection to no server: the script answers."""

    def __init__(self, *, script: _Script, node: str, **options: Any) -> None:
        super().__init__(path="", decode_responses=True, **options)  # type: ignore[no-untyped-call]
        self._script, self._node = script, node
        self._asking, self._replies = False, list[Any]()

    def connect(self) -> None:
        pass

    def can_read(self, timeout: float = 0) -> bool:
        return bool(self._replies)

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        words = iter(b"".join(command).decode().split("\r\n")[:-1])
        for count in words:  # "*2", "$3", "GET", and so on
            parts = [(next(words), next(words))[1] for _ in range(int(count[1:]))]
            self._replies.append(self._reply(*parts))

    def _reply(self, name: str, *args: str) -> Any:
        asking, self._asking = self._asking, name.upper() == "ASKING"
        if self._asking:
            return "OK"
        if [name.upper(), *args] != ["GET", _KEY]:
            self._script.stray(f"{' '.join([name, *args])} was sent, and GET {_KEY} is enough.")
        return self._script.get(self._node, asking=asking)

    def read_response(self, *args: Any, **options: Any) -> Any:
        reply = self._replies.pop(0)
        if str(reply).startswith(("ASK ", "MOVED ", "WRONGTYPE")):
            raise BaseParser.parse_error(reply)  # as redis-py makes it of a real node's
        return reply
