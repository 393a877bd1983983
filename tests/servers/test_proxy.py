"""A network between a primary and its replica that can be frozen and cut."""

import time

import pytest
from redis.exceptions import ConnectionError

from labsupport.errors import ServerUnreachableError
from labsupport.processes import process_status
from labsupport.servers import connect_client, start_server
from labsupport.servers.proxy import Proxy


def wait_until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.002)


@pytest.fixture
def pair():
    with (
        start_server() as primary,
        primary.proxy() as proxy,
        primary.replica(through=proxy) as replica,
    ):
        yield primary, proxy, replica


def test_passes_on_and_holds_up(pair):
    """What is written reaches the replica; while the proxy is paused it does not, and then it does."""
    primary, proxy, replica = pair
    with primary.client() as client, replica.client() as copy:
        client.set("a", 1)
        wait_until(lambda: copy.exists("a"), "the write never came")
        proxy.pause()
        assert proxy.status() == "stopped"
        client.set("b", 1)
        assert client.wait(1, 50) == 0
        assert not copy.exists("b")
        proxy.resume()
        wait_until(lambda: copy.exists("b"), "what was held up never came")


def test_what_was_under_way_is_lost_with_it(pair):
    """A write that was acknowledged is not there after a failover."""
    primary, proxy, replica = pair
    proxy.pause()
    with primary.client() as client:
        client.set("a", 1)
    primary.kill()
    proxy.kill()
    replica.promote()
    with replica.client() as copy:
        assert not copy.exists("a")
    assert proxy.status() == "dead"
    with pytest.raises(ServerUnreachableError):
        proxy.resume()


def test_ends_and_leaves_nothing():
    """close() may be called again, and removes the process and its directory."""
    with start_server() as server:
        proxy = server.proxy()
        pid, directory = proxy.pid, proxy.directory
        proxy.pause()
        proxy.close()
        proxy.close()
    assert process_status(pid) == "dead"
    assert not directory.exists()


def test_a_target_that_is_gone():
    """It accepts and hangs up, as a network without a server behind it."""
    import socket

    with Proxy(1) as proxy, socket.create_connection(("127.0.0.1", proxy.port)) as wire:
        assert wire.recv(1) == b""


class TestLostReply:
    def test_done_and_not_told(self):
        """The server has done the command, the client gets an error, and the next reply comes."""
        with start_server() as server, server.proxy() as proxy, server.client() as admin:
            client = connect_client(f"redis://127.0.0.1:{proxy.port}")
            client.ping()
            for times in (1, 2):
                proxy.lose_reply()
                with pytest.raises(ConnectionError):
                    client.incr("n")
                assert admin.get("n") == str(times)
                assert client.ping()

    @pytest.mark.parametrize("state", ["pause", "kill"])
    def test_cannot_be_told(self, state):
        """A proxy that is paused or dead says that it does not obey."""
        with start_server() as server, server.proxy() as proxy:
            getattr(proxy, state)()
            with pytest.raises(ServerUnreachableError, match="does not obey"):
                proxy.lose_reply()
