"""The clients of `SessionLifetimes`: users, a request that is late, a login that is killed."""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis

from labsupport.servers import connect_client
from labsupport.workers import Client, breakpoint_client, point

KINDS = ("within", "idle", "old", "out")
"""What the server's clock says of a visit: within both limits, idle too long, past the absolute
timeout though not idle, after the logout. Of any other visit it cannot tell."""
HELD_BEFORE = (2, 3, 4)
"""Before which of its commands a request is held until its user has logged out."""
KILLED_BEFORE = (2, 3)
"""Before which of its commands a login is killed."""
LOGINS_EACH = 10_000

_MARGIN_MS = 20.0  # Redis counts in whole milliseconds, and a command's time is that of its start
_REST_SECONDS = 0.02

Opening = Callable[..., Any]


class _User:
    """A user's session, and what the server's clock says of it, read before and after each call."""

    def __init__(
        self, client: Client, store: Any, clock: redis.Redis, idle_ms: int, absolute_ms: int
    ) -> None:
        self._client = client
        self._store = store
        self._clock = clock
        self._limits = idle_ms, absolute_ms
        self._number = client.number * LOGINS_EACH
        self._token: Any = None
        self._out = False

    def now(self) -> float:
        """The server's time in ms."""
        seconds, micros = self._clock.time()
        return float(seconds * 1000 + micros / 1000)

    def log_in(self) -> None:
        self._number += 1
        self._out = False
        start, before = time.monotonic_ns(), self.now()
        self._token = self._store.create(f"user {self._client.number}")
        # it happened between these two moments
        self._created = self.used = (before, self.now())
        self._client.record("login", start, time.monotonic_ns(), self._number)

    def about_to_end(self) -> bool:
        """Whether the clock could not tell of a visit now if it is past the absolute timeout."""
        over = self.now() - self._limits[1]
        return self._created[0] - 2 * _MARGIN_MS < over < self._created[1] + 2 * _MARGIN_MS

    def log_out(self) -> None:
        self._store.destroy(self._token)
        self._out = True
        self._client.note("logout", self._number)

    def ask(self) -> tuple[str, bool]:
        """Come with the token and, if let in, write to the session.

        Returns:
            one of `KINDS` or "unclear", and whether the user was let in.
        """
        start, before = time.monotonic_ns(), self.now()
        let_in = bool(self._store.get(self._token))
        kind = self._kind(before, self.now())
        self._client.record(kind, start, time.monotonic_ns(), float(let_in))
        if let_in:
            self._store.put(self._token, "page", f"/{before:.0f}")
            self.used = (before, self.now())
            self._client.note("seen", self._number)
        return kind, let_in

    def _kind(self, before: float, after: float) -> str:
        if self._out:
            return "out"
        idle_ms, absolute_ms = self._limits
        least, most = before - self.used[1], after - self.used[0]
        if least > idle_ms + _MARGIN_MS:
            return "idle"
        if most < idle_ms - _MARGIN_MS:
            if before - self._created[1] > absolute_ms + _MARGIN_MS:
                return "old"
            if after - self._created[0] < absolute_ms - _MARGIN_MS:
                return "within"
        return "unclear"


def visit(
    client: Client, seconds: float, opening: Opening, url: str, idle_ms: int, absolute_ms: int
) -> None:
    """Be a user who comes back all the time, stays away or logs out: the number says which.

    It goes on for `seconds`, and until it was asked for what it is there for.
    """
    server, clock = connect_client(url), connect_client(url)
    store = opening(server, idle_ms, absolute_ms)
    user = _User(client, store, clock, idle_ms, absolute_ms)
    server.ping(), user.now()
    wanted = ("old", "idle", "out")[client.number % 3]
    often = idle_ms / 5000
    client.meet()
    closing, met = time.monotonic() + seconds, False
    client.rest(often * (client.number % 7) / 7)  # not all in one moment

    def going_on() -> bool:
        return client.running and not (met and time.monotonic() > closing)

    while going_on():
        user.log_in()
        let_in, visits = True, 0
        while let_in and going_on():
            client.rest(often)
            visits += 1
            if wanted == "idle" and visits > 2:
                long_enough = user.used[1] + idle_ms + 2 * _MARGIN_MS
                while going_on() and user.now() < long_enough:
                    client.rest(_REST_SECONDS)
            elif wanted == "out" and visits > 3:
                user.log_out()
            while wanted == "old" and going_on() and user.about_to_end():
                client.rest(_REST_SECONDS)
            kind, let_in = user.ask()
            met = met or kind == wanted
        client.rest(often)


def count_sessions(client: Client, urls: Sequence[str]) -> None:
    """Count the sessions in Redis all the time."""
    servers = [connect_client(url) for url in urls]
    client.meet()
    while client.running:
        start = time.monotonic_ns()
        there = sum(len(_sessions(server)) for server in servers)
        client.record("there", start, time.monotonic_ns(), there)
        client.rest(_REST_SECONDS)


def log_in_and_out(client: Client, aside: str, opening: Opening, url: str, *limits: int) -> None:
    """Be the process that logs users in and out, and sees what becomes of their sessions."""
    server, mailbox = connect_client(url), connect_client(aside)
    store = opening(server, *limits)
    client.meet()
    for number in itertools.count(1):
        before, start = _sessions(server), time.monotonic_ns()
        token = store.create("leaver")
        client.record("login", start, time.monotonic_ns(), -number)
        mine = _sessions(server) - before
        mailbox.set("token", token)
        point("logged in")
        store.destroy(token)
        client.note("logout", -number)
        point("logged out")
        if mine & _sessions(server):
            client.note("back", -number)
        point("looked")


def request(client: Client, aside: str, opening: Opening, url: str, *limits: int) -> None:
    """Be the process that serves a request of each, and is held before one of its commands."""
    (server, hold), mailbox = breakpoint_client(url), connect_client(aside)
    store = opening(server, *limits)
    client.meet()
    for place in itertools.cycle(HELD_BEFORE):
        point("ready")
        token = mailbox.get("token")
        hold.before(place)
        let_in = bool(store.get(token))
        if let_in:
            store.put(token, "page", "/basket")
        client.note("late", float(hold.over() and let_in))
        point("over")


def die_in_a_login(client: Client, place: int, opening: Opening, url: str, *limits: int) -> None:
    """Be the process that is killed before one of the commands of a login."""
    server, hold = breakpoint_client(url)
    store = opening(server, *limits)
    client.meet()
    point("ready")  # whoever looks which sessions are new must not find this one
    client.note("login", -100 - place)
    hold.before(place)
    store.create("victim")
    client.note("seen", -100 - place)  # it lives from now on, if it comes so far
    hold.over()


def count_without_ttl(url: str) -> int:
    """How many keys, of whatever kind, stay for ever."""
    with connect_client(url) as server:
        return sum(server.pttl(key) == -1 for key in server.scan_iter(count=1000))


def _sessions(server: redis.Redis) -> set[str]:
    return set(server.scan_iter(match="session:*", count=1000))
