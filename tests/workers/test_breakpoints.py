"""A worker can be held before any command that its code sends, however it sends it."""

from collections.abc import Iterator

import pytest

from labsupport.servers import Server, start_server
from labsupport.workers import Client, WorkerPool, breakpoint_client, point


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start_server() as server:
        yield server


def work(client: Client, url: str, place: int) -> bool:
    redis, hold = breakpoint_client(url)
    hold.before(place)
    redis.set("one", 1)
    redis.pipeline(transaction=True).set("two", 2).set("three", 3).execute()
    redis.eval("return redis.call('SET', 'four', 4)", 0)
    held = hold.over()
    redis.set("five", 5)
    point("over")
    return held


@pytest.mark.parametrize(
    ("place", "sent"),
    [
        (1, set()),
        (2, {"one"}),
        (3, {"one", "two", "three"}),
        (4, {"one", "two", "three", "four"}),
        (9, {"one", "two", "three", "four"}),
    ],
)
def test_held_before_a_command(server: Server, place: int, sent: set[str]) -> None:
    """What was sent before is there, what comes after is not; a transaction or script is one."""
    with server.client() as redis, WorkerPool() as pool:
        redis.delete("one", "two", "three", "four", "five")
        worker = pool.start(work, server.url, place, gated=True)
        worker.until("breakpoint")
        assert set(redis.scan_iter()) == sent
        assert worker.finish() == (place < 4)
        assert redis.get("five") == "5"


def test_killed_between_two_commands(server: Server) -> None:
    """A worker that is killed where it is held sends nothing more."""
    with server.client() as redis, WorkerPool() as pool:
        redis.delete("one", "two", "three", "four", "five")
        worker = pool.start(work, server.url, 2, gated=True)
        worker.until("breakpoint")
        worker.kill()
        assert set(redis.scan_iter()) == {"one"}
