"""What can happen to a server, for real: each fault begins, lasts for a `with` block, and ends."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import redis
from redis.exceptions import OutOfMemoryError, ResponseError

from labsupport.errors import InvalidSettingError, ServerUnreachableError
from labsupport.servers import Server

FAULTS = ("killed", "stopped", "busy", "full", "evicting")
"""The faults that `struck` knows."""
CONFIG = {"busy-reply-threshold": "20"}
"""A server's setting so that a busy one says so soon; Redis waits 5 s by default."""

_ENDLESS = "while true do end"
_FULL = 1  # a limit that is reached in any case; 0 would be none
_ROOM_BYTES = 1_000_000
_ENTRY = "." * 4_000
_ENTRIES_AT_ONCE = 20
_TIMES_OVER = 25  # what was there before survives with a probability of e ** -25
_SECONDS_TO_STRIKE = 30.0


@contextmanager
def struck(server: Server, fault: str) -> Iterator[None]:
    """Hurt a server for as long as the `with` block lasts; the fault is there when it begins.

    Args:
        server: a server of one's own.
        fault: "killed" (kill -9, and restarted afterwards), "stopped" (SIGSTOP: it accepts, and
            does not answer), "busy" (a script that does not end), "full" (`maxmemory` is reached),
            or "evicting" (a cache fills it, and goes on until everything old is evicted; under
            noeviction, until it is full, and stays so).

    Raises:
        InvalidSettingError: there is no such fault.
        ServerUnreachableError: the server does not do what the fault needs.
    """
    if fault not in _BEGIN_AND_END:
        raise InvalidSettingError(
            f"There is no fault {fault!r}.", f"Take one of {', '.join(map(repr, FAULTS))}."
        )
    begin, end = _BEGIN_AND_END[fault]
    begin(server)
    try:
        yield
    finally:
        end(server)


def fill(client: redis.Redis, *, evictions: int | None = None) -> int:
    """Let a cache write entries with a TTL until memory is full, and then so many more.

    Args:
        client: of a server of one's own; its `maxmemory` is set a megabyte above what is used.
        evictions: how many keys are to be evicted; default: so many that nothing old is left.

    Returns:
        how many keys were evicted; it ends sooner when the server refuses the entries.
    """
    client.config_set("maxmemory", client.info("memory")["used_memory"] + _ROOM_BYTES)
    before = client.info("stats")["evicted_keys"]
    at_once = 1
    if evictions is None:
        at_once = _ENTRIES_AT_ONCE
        evictions = _TIMES_OVER * (client.dbsize() + _ROOM_BYTES // len(_ENTRY))
    number = evicted = 0
    while evicted < evictions:
        pipe = client.pipeline(transaction=False)
        for _ in range(at_once):
            pipe.set(f"entry:{(number := number + 1)}", _ENTRY, ex=3_600)
        replies = pipe.execute(raise_on_error=False)
        evicted = client.info("stats")["evicted_keys"] - before
        if any(isinstance(reply, OutOfMemoryError) for reply in replies):
            client.config_set("maxmemory", _FULL)  # full beyond doubt, whatever its buffers take
            break
    return evicted


def _reach_limit(server: Server) -> None:
    with server.client() as admin:
        admin.config_set("maxmemory", _FULL)


def _evict(server: Server) -> None:
    with server.client() as admin:
        fill(admin)
        limit = int(admin.config_get("maxmemory")["maxmemory"])
        if limit > _FULL:  # what is written from now on stays: a run loses the same each time
            admin.config_set("maxmemory", limit + _ROOM_BYTES)


def _make_room(server: Server) -> None:
    with server.client() as admin:
        admin.config_set("maxmemory", 0)


def _run_endless_script(server: Server) -> None:
    with server.client() as client:
        connection = client.connection_pool.get_connection()
        connection.send_command("EVAL", _ENDLESS, 0)  # nobody waits for its reply
        _wait_until(server, busy=True)


def _kill_script(server: Server) -> None:
    with server.client() as admin, suppress(ResponseError):
        admin.script_kill()
    _wait_until(server, busy=False)


def _wait_until(server: Server, *, busy: bool) -> None:
    """Wait until the server refuses all commands, as a script runs for too long, or takes them."""
    deadline = time.monotonic() + _SECONDS_TO_STRIKE
    with server.client() as admin:
        while time.monotonic() < deadline:
            try:
                found = not admin.ping()
            except ResponseError as error:
                found = str(error).startswith("BUSY")
            if found is busy:
                return
            time.sleep(0.001)
    raise ServerUnreachableError(f"{server!r} does not become busy, or free.", "Run it again.")


_BEGIN_AND_END: dict[str, tuple[Callable[[Server], None], Callable[[Server], None]]] = {
    "killed": (Server.kill, Server.restart),
    "stopped": (Server.pause, Server.resume),
    "busy": (_run_endless_script, _kill_script),
    "full": (_reach_limit, _make_room),
    "evicting": (_evict, _make_room),
}
