"""REDIS_URL: somebody's server, on which a lab takes one empty database and leaves nothing."""

import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
import traceback

import pytest
import redis
from redis.cache import CacheConfig

import labsupport
from labsupport.errors import (
    BeyondDatabaseError,
    ForeignKeysError,
    InvalidSettingError,
    NotOnThisServerError,
    ServerTooOldError,
    ServerUnreachableError,
)
from labsupport.servers import (
    OWNER_KEY,
    check_server,
    connect_client,
    connection,
    open_redis,
    start_server,
)
from labsupport.servers.connection import check_url, database_of, redacted, with_database

# without the rest of the package, which takes seconds to import and is not needed
ONLY_SERVERS = "import sys, types; package = types.ModuleType('labsupport')\n"
ONLY_SERVERS += f"package.__path__ = {labsupport.__path__!r}\n"
ONLY_SERVERS += "sys.modules['labsupport'] = package\n"
SECRET = "s3cr:et@/#?%"
QUOTED = "s3cr%3Aet%40%2F%23%3F%25"


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    """The reader's own REDIS_URL is not a subject of these tests."""
    monkeypatch.delenv("REDIS_URL", raising=False)


@pytest.fixture
def server():
    """Somebody's server, with a port and no password."""
    with start_server(tcp=True) as server:
        yield server


@pytest.fixture
def base(server):
    """Its URL, without the number of a database."""
    return server.url.removesuffix("/0")


@pytest.fixture
def locked():
    """A server with a password full of characters that mean something in a URL."""
    with start_server(tcp=True, config={"requirepass": SECRET}) as server:
        yield server


def keyspace(server):
    with server.client() as client:
        return {name: found["keys"] for name, found in client.info("keyspace").items()}


def wait_until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.002)


def fill(url, **values):
    with connect_client(url) as client:
        for name, value in values.items():
            client.set(name, value)


def dump(url):
    with connect_client(url, decode_responses=False, protocol=2) as client:
        return {name: client.dump(name) for name in client.scan_iter("*")}


class TestEmbedded:
    def test_unset(self):
        """Without REDIS_URL the lab has a server of its own, until it is closed."""
        endpoint = open_redis()
        with endpoint.client() as client:
            assert client.set("name", "ada")
            pid = client.info("server")["process_id"]
        assert "the lab's own" in endpoint.description
        endpoint.close()
        endpoint.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    def test_blank(self, monkeypatch):
        """An empty variable is an unset one."""
        monkeypatch.setenv("REDIS_URL", " ")
        with open_redis() as endpoint:
            assert "the lab's own" in endpoint.description


class TestClaims:
    def test_the_variable(self, server, base, monkeypatch):
        """REDIS_URL is used when no URL is given; the first empty database is 1."""
        monkeypatch.setenv("REDIS_URL", base)
        with open_redis() as endpoint:
            assert endpoint.url == f"{base}/1"
            assert endpoint.description == f"{server.product} at {base}/1"

    def test_close_leaves_nothing(self, server, base):
        """No key, whatever its name or type, no mark, and no connection."""
        fill(f"{base}/0", theirs=1)
        with open_redis(base) as endpoint, endpoint.client() as client:
            client.set(b"\xff\xfe", 1)
            client.set("", 1)
            client.xadd("stream", {"a": 1})
            with client.pipeline() as pipeline:
                for number in range(3_000):
                    pipeline.sadd(f"set:{number}", 1)
                pipeline.execute()
        assert keyspace(server) == {"db0": 1}
        with server.client() as client:
            wait_until(lambda: len(client.client_list()) == 1, "a connection is left")

    def test_two_never_meet(self, server, base):
        """Each endpoint has a database of its own, and closing one leaves the other alone."""
        with open_redis(base) as one, one.client() as mine:
            mine.set("name", "ada")
            with open_redis(base) as two, two.client() as yours:
                assert one.url != two.url
                assert yours.get("name") is None
            assert mine.get("name") == "ada"
            assert mine.get(OWNER_KEY)

    def test_many_at_once(self, base):
        """Claims that race get different databases, as many as there are, and one gets an error."""
        found, errors = [], []
        gate = threading.Barrier(17)

        def claim():
            gate.wait()
            try:
                found.append(open_redis(base))
            except ForeignKeysError as error:
                errors.append(error)

        threads = [threading.Thread(target=claim) for _ in range(17)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(database_of(endpoint.url) for endpoint in found) == list(range(16))
        assert len(errors) == 1
        assert "Every database" in errors[0].problem
        for endpoint in found:
            endpoint.close()

    def test_a_second_one_of_this_process(self, base):
        """With a number, the lab gets that database and the explorer of the same kernel another."""
        with open_redis(f"{base}/3") as lab, open_redis(f"{base}/3") as explorer:
            assert lab.url == f"{base}/3"
            assert explorer.url == f"{base}/1"

    def test_a_dead_owners_leftovers(self, server, base):
        """After kill -9 of its kernel, a lab's keys are removed by the next; the living keep theirs."""
        dead = ONLY_SERVERS + "import sys; from labsupport.servers import open_redis\n"
        dead += "endpoint = open_redis(sys.argv[1]); endpoint.client().set('left', 1)\n"
        dead += "print(endpoint.url, flush=True); input()"
        command = [sys.executable, "-c", dead, base]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            url = child.stdout.readline().strip()
            assert url == f"{base}/1"
            with open_redis(base) as living:
                assert living.url == f"{base}/2"
                with pytest.raises(
                    ForeignKeysError, match=r"another lab's\.\n.*/3, which is empty"
                ):
                    open_redis(url)
            child.send_signal(signal.SIGSTOP)
            with open_redis(base) as living:
                assert living.url == f"{base}/2"  # a frozen kernel is not a dead one
            child.kill()
        assert keyspace(server) == {"db1": 2}
        with server.client() as client:
            wait_until(lambda: len(client.client_list()) == 1, "the dead owner is still connected")
        with open_redis(base) as heir, heir.client() as client:
            assert heir.url == url
            assert client.keys() == [OWNER_KEY]
        assert keyspace(server) == {}

    def test_a_lost_connection_is_no_death(self, server, base):
        """When the server drops the owner's connection, it comes back."""
        with open_redis(base) as endpoint, server.client() as admin:
            with endpoint.client() as client:
                channel = f"labsupport:{client.get(OWNER_KEY)}"
            (before,) = admin.client_list(_type="pubsub")

            def back():
                return [c["id"] for c in admin.client_list(_type="pubsub")] not in (
                    [],
                    [before["id"]],
                )

            assert admin.client_kill_filter(_type="pubsub") == 1
            wait_until(back, "the owner did not come back")
            assert admin.execute_command("PUBSUB", "SHARDNUMSUB", channel) == [channel, 1]
            with open_redis(base) as other:
                assert other.url != endpoint.url

    def test_a_restarted_server(self, server, base):
        """A server that lost the mark gets it back."""
        with open_redis(base) as endpoint, server.client() as admin:
            server.kill()
            server.restart()
            with endpoint.client() as client:
                wait_until(lambda: client.exists(OWNER_KEY), "the mark did not come back")
            assert admin.ping()
        assert keyspace(server) == {}

    def test_the_reader_does_not_see_the_owner(self, base):
        """Neither PUBSUB CHANNELS nor NUMPAT tells of the lab's own subscription."""
        with open_redis(base) as endpoint, endpoint.client() as client:
            assert client.pubsub_channels() == []
            assert client.pubsub_numpat() == 0

    def test_what_another_has_taken_is_left(self, server, base):
        """close() removes nothing from a database whose mark is no longer the lab's."""
        fill(f"{base}/0", theirs=1)
        endpoint = open_redis(base)
        fill(endpoint.url, **{OWNER_KEY: "somebody", "theirs": "1"})
        endpoint.close()
        assert keyspace(server) == {"db0": 1, "db1": 2}

    def test_a_server_that_is_gone_at_the_end(self, server, base):
        """close() is no error when there is nothing to clean any more."""
        endpoint = open_redis(base)
        server.kill()
        endpoint.close()

    def test_a_forked_child_cleans_nothing(self, base):
        """A child that ends without ever having opened the lab leaves it open."""
        code = ONLY_SERVERS + "import os, sys; from labsupport.servers import open_redis\n"
        code += "endpoint = open_redis(sys.argv[1]); client = endpoint.client()\n"
        code += "own = open_redis(); mine = own.client()\n"
        code += "pid = os.fork()\n"
        code += "if pid == 0: sys.exit(0)\n"
        code += "os.waitpid(pid, 0)\n"
        code += "assert client.exists('labsupport:owner') and mine.ping(); print('ok')"
        command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, base]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr, done.returncode) == ("ok\n", "", 0)


class TestForeignKeys:
    def test_a_numbered_database(self, base):
        """It is refused, unchanged, and the URL of an empty one is named."""
        fill(f"{base}/0", a="1", b="2")
        fill(f"{base}/1", c="3")
        before = dump(f"{base}/0"), dump(f"{base}/1")
        with pytest.raises(ForeignKeysError) as caught:
            open_redis(f"{base}/0")
        assert "Database 0" in caught.value.problem
        assert caught.value.remedy == f"Set REDIS_URL={base}/2, which is empty."
        assert (dump(f"{base}/0"), dump(f"{base}/1")) == before
        with open_redis(f"{base}/2") as endpoint:
            assert endpoint.url == f"{base}/2"

    def test_without_a_number_they_are_passed_over(self, base):
        """Foreign keys are in the way of nobody who lets the lab choose."""
        fill(f"{base}/1", c="3")
        before = dump(f"{base}/1")
        with open_redis(base) as endpoint:
            assert endpoint.url == f"{base}/2"
        assert dump(f"{base}/1") == before

    def test_zero_comes_last(self):
        """Database 0 is taken when no other is free; with foreign keys everywhere, none is."""
        with start_server(tcp=True, config={"databases": "2"}) as server:
            base = server.url.removesuffix("/0")
            fill(f"{base}/1", c="3")
            with open_redis(base) as endpoint:
                assert endpoint.url == f"{base}/0"
            fill(f"{base}/0", c="3")
            with pytest.raises(ForeignKeysError, match="Every database"):
                open_redis(base)
            with pytest.raises(ForeignKeysError, match="Start another Redis"):
                open_redis(f"{base}/1")
            assert keyspace(server) == {"db0": 1, "db1": 1}

    def test_a_foreign_key_of_the_marks_name(self, base):
        """A key that is called like the mark but is none is foreign."""
        with connect_client(f"{base}/1") as client:
            client.rpush(OWNER_KEY, "a list")
        with pytest.raises(ForeignKeysError):
            open_redis(f"{base}/1")

    def test_no_such_database(self, base):
        """The error names the number."""
        with pytest.raises(InvalidSettingError, match="no database 99"):
            open_redis(f"{base}/99")


class TestPasswords:
    def test_a_password_that_works(self, locked):
        """The lab opens, and nothing that can be shown holds the password."""
        url = locked.url.removesuffix("/0")
        assert QUOTED in url
        with open_redis(url) as endpoint, endpoint.client() as client:
            client.set("name", "ada")
            shown = f"{endpoint!r} {endpoint.description} {client!r} {locked!r}"
            assert "s3cr" not in shown
            assert ":***@" in endpoint.description
        assert keyspace(locked) == {}

    def test_a_free_database_is_named_without_it(self, locked):
        """The remedy has *** where the password goes."""
        fill(locked.url, theirs=1)
        with pytest.raises(ForeignKeysError, match=r":\*\*\*@127.*/1, which is empty, with your"):
            open_redis(locked.url)

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ((QUOTED, "wr0ng"), "refuses the user or password"),
            ((f":{QUOTED}@", "ada:wr0ng@"), "refuses the user or password"),
            ((f":{QUOTED}@", ""), "asks for a password"),
        ],
    )
    def test_a_wrong_one(self, locked, change, problem):
        """The error says which, and never repeats what was given."""
        with pytest.raises(ServerUnreachableError, match=problem) as caught:
            open_redis(locked.url.replace(*change))
        said = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
        assert "s3cr" not in said
        assert "wr0ng" not in said

    def test_a_unix_socket(self, locked):
        """A password in the options of a socket's URL is not shown either."""
        url = locked._socket_url
        with open_redis(url.replace("?db=0&", "?")) as endpoint:
            assert database_of(endpoint.url) == 1
            assert "s3cr" not in endpoint.description
            assert endpoint.client().ping()
        with pytest.raises(ServerUnreachableError) as caught:
            open_redis(url.replace(QUOTED, "wr0ng"))
        assert "wr0ng" not in str(caught.value)

    def test_a_user_without_info(self, server, base):
        """HELLO tells the version to a user who may not run INFO."""
        with server.client() as admin:
            admin.execute_command(
                "ACL", "SETUSER", "ada", "on", ">pw", "~*", "&*", "+@all", "-info"
            )
        with open_redis(base.replace("//", "//ada:pw@")) as endpoint:
            assert server.version in endpoint.description

    def test_a_user_without_rights(self, server, base):
        """What is missing is named."""
        with server.client() as admin:
            admin.execute_command("ACL", "SETUSER", "ada", "on", ">pw", "~*", "+@all")
            admin.execute_command("ACL", "SETUSER", "ada", "resetchannels")
        with pytest.raises(ServerUnreachableError, match="does not let this user") as caught:
            open_redis(base.replace("//", "//ada:pw@"))
        assert "&*" in caught.value.remedy


class TestUnreachable:
    def test_nobody_listens(self, server, base):
        """The error names the address and the remedy."""
        server.close()
        with pytest.raises(ServerUnreachableError, match="unset REDIS_URL") as caught:
            open_redis(base)
        assert base in caught.value.problem

    def test_no_such_host(self):
        """A name that cannot be resolved."""
        with pytest.raises(ServerUnreachableError, match=r"redis://redis\.invalid:6379/1"):
            open_redis("redis://redis.invalid:6379/1")

    def test_no_such_socket(self, tmp_path):
        """A socket that is not there."""
        with pytest.raises(ServerUnreachableError, match="missing"):
            open_redis(f"unix://{tmp_path}/missing")

    def test_one_that_hangs(self, server, base):
        """A server that accepts and never answers."""
        server.pause()
        with pytest.raises(ServerUnreachableError, match=f"No Redis answers at {base}"):
            open_redis(f"{base}?socket_timeout=0.1")

    def test_a_replica(self, server):
        """A replica takes no writes."""
        with server.replica() as replica, pytest.raises(ServerUnreachableError, match="a replica"):
            open_redis(replica.url)

    @pytest.mark.parametrize(
        "url",
        [
            "localhost:6379",
            "http://localhost:6379",
            "redis://:pa#s3cret@localhost:6379/0",
            "redis://:12#s3cret@localhost:6379/0",
            "redis://:12/s3cret@localhost:6379/0",
            "redis://:12?s3cret@localhost:6379/0",
            "redis://:12?a=s3cret@localhost:6379/0",
            "redis://:pa/s3cret@localhost:6379",
            "redis://[s3cret",
            "redis://localhost:s3cret",
            "redis://localhost:99999",
            "redis://localhost:0",
            "redis://localhost/one",
            "redis://localhost/1/2",
            "redis://localhost?db=s3cret",
            "redis://localhost?socket_timeout=s3cret",
            "unix://",
        ],
    )
    def test_no_address(self, url):
        """A malformed URL is not repeated: it may hold half of a password."""
        with pytest.raises(InvalidSettingError, match="REDIS_URL is not the address") as caught:
            open_redis(url)
        assert "s3cret" not in "".join(traceback.format_exception(caught.value))

    def test_an_unknown_option(self, base):
        """Options are those of redis-py."""
        with pytest.raises(InvalidSettingError, match="option") as caught:
            open_redis(f"{base}?colour=s3cret")
        assert "s3cret" not in str(caught.value)


VALKEY = "server_name:valkey\r\nredis_version:7.2.4\r\nvalkey_version:9.1.2\r\n"


class Answers(socketserver.StreamRequestHandler):
    """Answers what a client says when it connects, as the server's `said` tells."""

    def handle(self):
        while line := self.rfile.readline():
            words = []
            for _ in range(int(line[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size + 2)[:-2].decode())
            self.wfile.write(self.server.said if words[0] in ("INFO", "HELLO") else b"+OK\r\n")


@pytest.fixture
def responder(request):
    """The URL of something that is not a Redis of today: a socket that answers one text."""

    class Loopback(socketserver.ThreadingTCPServer):
        daemon_threads = True
        said = request.param

    with Loopback(("127.0.0.1", 0), Answers) as loopback:
        thread = threading.Thread(target=loopback.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"redis://127.0.0.1:{loopback.server_address[1]}"
        loopback.shutdown()
        thread.join()


def bulk(text):
    return f"${len(text)}\r\n{text}\r\n".encode()


class TestStrangers:
    @pytest.mark.parametrize(
        "responder", [bulk("# Server\r\nredis_version:6.2.14\r\n")], indirect=True
    )
    def test_an_old_server(self, responder):
        """There is no old server here; this answers INFO as one does."""
        with pytest.raises(ServerTooOldError, match=r"version 6\.2\.14; the labs need 7\.0"):
            open_redis(responder)

    @pytest.mark.parametrize(
        "responder",
        [b"HTTP/1.1 400 Bad Request\r\n\r\n", bulk("hello"), b"-ERR unknown command\r\n", b""],
        indirect=True,
    )
    def test_no_redis(self, responder):
        """Something else listens at that port."""
        with pytest.raises(ServerUnreachableError, match=responder):
            open_redis(f"{responder}?socket_timeout=0.2")

    @pytest.mark.parametrize(
        "responder", [bulk("# Server\r\nredis_version:255.255.255\r\n")], indirect=True
    )
    def test_an_unreleased_server(self, responder):
        """A build from the development branch is new enough."""
        assert str(check_server(responder)) == "Redis 255.255.255"

    @pytest.mark.parametrize("responder", [bulk(VALKEY)], indirect=True)
    def test_valkey(self, responder):
        """It is called by its own name and version, not by those of the Redis it stands in for."""
        assert str(check_server(responder)) == "Valkey 9.1.2"

    @pytest.mark.parametrize("responder", [bulk(VALKEY)], indirect=True)
    def test_no_copies_from_valkey(self, responder):
        """redis-py keeps no copies for it; what to do is said when the client is made."""
        connect_client(responder).close()
        with pytest.raises(
            NotOnThisServerError, match=r"server is Valkey 9\.1\.2\.\nTake such a Redis"
        ):
            connect_client(responder, protocol=3, cache_config=CacheConfig())


class TestTls:
    """The wheel's server speaks no TLS: a process in front of it does."""

    @pytest.fixture
    def secure(self, locked, tls):
        with tls(locked.directory / "redis.sock") as found:
            yield found

    def test_it_works(self, locked, secure):
        """rediss:// with a password and a certificate of one's own: claimed, used, left clean."""
        port, certificate = secure
        url = f"rediss://:{QUOTED}@127.0.0.1:{port}?ssl_ca_certs={certificate}"
        with open_redis(url) as endpoint, endpoint.client() as client:
            client.set("name", "ada")
            assert keyspace(locked) == {"db1": 2}
            expected = f"{locked.product} at rediss://:***@127.0.0.1:{port}/1"
            assert endpoint.description == expected
        assert keyspace(locked) == {}

    def test_an_unknown_certificate(self, secure):
        """A certificate that nobody vouches for is refused, and said so."""
        with pytest.raises(ServerUnreachableError, match="certificate verify failed"):
            open_redis(f"rediss://:{QUOTED}@127.0.0.1:{secure[0]}")

    def test_plain_to_tls_and_tls_to_plain(self, locked, secure):
        """The wrong scheme is an error, not a hang, and the remedy names the right one."""
        with pytest.raises(ServerUnreachableError, match="rediss://"):
            open_redis(f"redis://127.0.0.1:{secure[0]}?socket_timeout=0.5")
        # nobody waits for as long as a slow server may take: it answers in plain
        with pytest.raises(ServerUnreachableError, match="not speak TLS") as found:
            open_redis(locked.url.replace("redis://", "rediss://"))
        assert found.value.remedy == "Write redis:// instead of rediss:// in REDIS_URL."

    def test_a_slow_one(self, locked, secure, monkeypatch):
        """Who takes longer than the moment after which TLS is doubted is still waited for."""
        port, certificate = secure
        monkeypatch.setattr(connection, "_SECONDS_TO_DOUBT", 1e-6)
        url = f"rediss://:{QUOTED}@127.0.0.1:{port}?ssl_ca_certs={certificate}"
        with open_redis(url) as endpoint:
            assert endpoint.description.startswith(str(locked.product))


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "number", "shown"),
        [
            ("redis://h", None, "redis://h"),
            ("redis://h:1/", None, "redis://h:1"),
            ("redis://h:1/2", 2, "redis://h:1/2"),
            ("redis://h:1/2?db=3", 3, "redis://h:1/3"),
            ("redis://ada@h", None, "redis://ada@h"),
            ("redis://ada:pw@h:1/2", 2, "redis://ada:***@h:1/2"),
            ("rediss://:pw@[::1]:1?ssl_ca_certs=x", None, "rediss://:***@[::1]:1"),
            ("redis://h?password=pw", None, "redis://h"),
            ("unix:///a/b.sock", None, "unix:///a/b.sock"),
            ("unix:///a/b.sock?db=4&password=pw", 4, "unix:///a/b.sock?db=4"),
        ],
    )
    def test_parts(self, url, number, shown):
        """The number that is in force, and what may be shown."""
        check_url(url)
        assert database_of(url) == number
        assert redacted(url) == shown

    @pytest.mark.parametrize(
        "url",
        [
            "redis://:p%2Fw@h:1/2?db=3&ssl_ca_certs=a%20b",
            "redis://h",
            "unix:///a%20b/c.sock?password=p%26w",
        ],
    )
    def test_another_database(self, url):
        """Only the number changes, as redis-py reads it."""
        before, after = (redis.connection.parse_url(u) for u in (url, with_database(url, 7)))
        assert after == before | {"db": 7}


BEYOND = [
    "FLUSHALL", "SWAPDB 0 1", "MOVE n 1", "SELECT 1", "COPY n m DB 1", "CONFIG SET maxmemory 1",
    "CONFIG REWRITE", "SHUTDOWN NOSAVE", "DEBUG SLEEP 0", "REPLICAOF NO ONE", "FAILOVER", "SAVE",
    "BGSAVE", "MONITOR", "SCRIPT FLUSH", "FUNCTION FLUSH", "CLIENT PAUSE 1", "CLIENT KILL TYPE normal",
    "ACL SETUSER x",
    "ACL LIST", "SLOWLOG RESET", "LATENCY RESET", "MEMORY PURGE", "MODULE LOAD x", "CLUSTER RESET",
]  # fmt: skip
BEYOND_IN_A_SCRIPT = ["return redis.call('FLUSHALL')", 'return redis.pcall( "swapdb", 0, 1)']


class TestBounds:
    """On a server of yours a lab's clients stay in their database, whatever rights the user has."""

    @pytest.fixture
    def lab(self, base, monkeypatch):
        with connect_client(f"{base}/1") as theirs:
            theirs.set("theirs", "kept")
        monkeypatch.setenv("REDIS_URL", base)
        with open_redis() as endpoint, endpoint.client() as client:
            yield client
        monkeypatch.delenv("REDIS_URL")
        with connect_client(f"{base}/1") as theirs:
            assert theirs.get("theirs") == "kept"

    @pytest.mark.parametrize("command", BEYOND)
    @pytest.mark.parametrize("way", ["plain", "whole", "pipeline", "transaction"])
    def test_refused_before_it_is_sent(self, lab, command, way):
        parts = command.split()

        def send():
            if way == "plain":
                lab.execute_command(*parts)
            elif way == "whole":  # as redis-py itself writes many
                lab.execute_command(" ".join(parts[:2]), *parts[2:])
            else:
                pipe = lab.pipeline(transaction=way == "transaction")
                pipe.set("n", 1).execute_command(*parts)
                pipe.execute()

        with pytest.raises(BeyondDatabaseError, match=parts[0]):
            send()
        lab.ping()
        assert not lab.exists("n")

    @pytest.mark.parametrize("text", BEYOND_IN_A_SCRIPT)
    def test_in_a_script(self, lab, text):
        library = f"#!lua name=x\nredis.register_function('f', function() {text} end)"
        for send in (
            lambda: lab.eval(text, 0),
            lambda: lab.script_load(text),
            lambda: lab.register_script(text)(),
            lambda: lab.function_load(library, replace=True),
        ):
            with pytest.raises(BeyondDatabaseError, match="reaches beyond"):
                send()

    def test_what_stays_within(self, lab):
        """Names that only look like such commands, and a copy within the database."""
        lab.set("FLUSHALL", "SELECT 1")
        lab.copy("FLUSHALL", "DB")
        assert lab.eval("return redis.call('GET', KEYS[1])", 1, "DB") == "SELECT 1"
        assert lab.config_get("maxmemory")
        assert lab.client_id()
        assert lab.acl_whoami() == "default"

    @pytest.mark.parametrize(
        "url", ["redis://h:99999999", "redis://:secret@h:x", "redis://[", "nonsense"]
    )
    def test_a_variable_that_is_no_address(self, monkeypatch, url):
        """Whoever asks for it is told; a server of the lab's own doesn't mind."""
        monkeypatch.setenv("REDIS_URL", url)
        with start_server() as own, own.client() as client:
            assert client.ping()
        with pytest.raises(InvalidSettingError):
            open_redis()

    def test_a_server_of_the_labs_own(self, lab):
        """Beside it, a server of the lab's own may be hurt as before."""
        with start_server() as own, own.client() as client:
            client.flushall()
            client.config_set("maxmemory", 0)
