"""How answers to exercise 08.2 are put to the test when Bob takes a lock while Ada frees it."""

import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from multiprocessing.connection import wait
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import unquote, urlsplit

from labsupport.errors import WorkerError
from labsupport.exercises.trials import Answer
from labsupport.servers import Server
from labsupport.workers import Client, WorkerPool, point

__all__ = ["GAVE_UP", "KEY", "TOOK_AWAY", "while_it_frees"]

KEY = "lock:kettle"
GAVE_UP = "take returned None, though a majority is alive."
TOOK_AWAY = "free took away a lock that has another token."
_TTL = 60.0  # only Bob decides when it is over
_BOB = "the token of bob"
_BYTES = 1 << 16
_MOST_COMMANDS = 9  # WATCH and what belongs to it, or a client that connects first
_PATIENCE_SECONDS = 15.0
_TRIES = 5


class _Way(ThreadingTCPServer):
    """The way to a server, on which Bob comes before a command: the lock has ended, and he takes it.

    Args:
        server: where it leads.

    Attributes:
        at: before which command he comes; 0 for none.
        cuts: whether the connection breaks then, instead of passing the command on.
        asked: how many commands were to pass since `at` was set.
    """

    daemon_threads, block_on_close = True, False

    def __init__(self, server: Server) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.path = unquote(urlsplit(server.url).path)
        self.url = f"redis://127.0.0.1:{self.server_address[1]}/0"
        self._bob = server.client()
        self._lock = Lock()
        self.at, self.cuts, self.asked = 0, False, 0
        self._thread = Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def begin(self, at: int, *, cuts: bool) -> None:
        with self._lock:
            self.at, self.cuts, self.asked = at, cuts, 0

    def passes(self) -> bool:
        """Whether a command passes, before which Bob may come."""
        with self._lock:
            self.asked += 1
            if self.asked != self.at:
                return True
            self._bob.pexpire(KEY, 0)
            self._bob.set(KEY, _BOB, px=round(_TTL * 1000))
            return not self.cuts

    def end(self) -> bool:
        """Whether Bob has what he took, or did not come; then nobody has the lock."""
        with self._lock:
            came = 0 < self.at <= self.asked
            self.at = 0
        has = self._bob.get(KEY)
        self._bob.delete(KEY)
        return has == _BOB or not came

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        self._bob.close()


class _Passing(BaseRequestHandler):
    """One connection: a client waits for each reply, so what comes at once is one command."""

    def handle(self) -> None:
        way: Any = self.server
        ada = self.request
        with suppress(OSError), socket.socket(socket.AF_UNIX) as redis:
            redis.connect(way.path)
            while True:
                ready: Any = wait([ada, redis])
                for source in ready:
                    data = source.recv(_BYTES)
                    if not data or (source is ada and not way.passes()):
                        return
                    (redis if source is ada else ada).sendall(data)


def while_it_frees(pool: WorkerPool, answer: Answer, servers: Sequence[Server], cut: int) -> str:
    """What is wrong with an answer whose lock Bob takes before the first command of free, or the next.

    Args:
        pool: starts Ada.
        answer: the learner's function.
        servers: where the lock is.
        cut: how many of them break the connection when he has come; 0 for none, and he comes to all.
    """
    with ExitStack() as closing:
        ways = [_Way(server) for server in servers]
        for way in ways:
            closing.callback(way.close)
        ada = pool.start(_takes_and_frees, answer, [way.url for way in ways], gated=True)
        for at in range(1, _MOST_COMMANDS + 1):
            try:
                ada.until("took")
            except WorkerError:
                return GAVE_UP
            met = ways[: cut or None]
            for way in met:
                way.begin(at, cuts=cut > 0)
            try:
                ada.until("freed", seconds=_PATIENCE_SECONDS)
            except WorkerError:
                return f"free did not come back within {_PATIENCE_SECONDS:g} s."
            kept = [way.end() for way in ways]  # all of them, so that nobody has the lock
            if not all(kept):
                return TOOK_AWAY
            if all(way.asked < at for way in met):
                break
    return ""


def _takes_and_frees(client: Client, answer: Answer, urls: list[str]) -> None:
    take, free = answer(urls)
    # a busy machine can be why it has no majority at once: a way is slower than a server
    while (token := next(filter(None, (take(KEY, _TTL) for _ in range(_TRIES))), None)) is not None:
        point("took")
        free(KEY, token)
        point("freed")
