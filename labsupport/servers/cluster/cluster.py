"""The lab's own Redis Cluster: real nodes that it joins, cuts off, and makes whole again."""

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Literal

from redis import Redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisError

from labsupport.errors import ServerUnreachableError
from labsupport.processes import Closing, undisturbed
from labsupport.servers.cluster.client import connect_cluster
from labsupport.servers.cluster.network import Network
from labsupport.servers.connection import connect_client
from labsupport.servers.embedded import Server

SLOTS = 16_384
"""How many hash slots a cluster has."""
PRIMARIES = 3
"""How many of the nodes begin as primaries; node n + 3 begins as the replica of node n."""

Role = Literal["primary", "replica", "gone"]

_SECONDS_TO_BE_READY = 30.0
_SECONDS_TO_SAY = 2.0  # what a paused node does not
_NODE_TIMEOUT_MS = 500  # short, so that a failover takes two seconds; the default is 15,000


class Cluster(Closing):
    """Three primaries with a replica each, six nodes in all; use `start_cluster`.

    It ends with `close()`, with the `with` block, when nothing refers to it or to a client of it any
    more, and in any case with the kernel.

    Attributes:
        nodes: the servers; each can be paused, killed and restarted.
        network: what all links go through; None if there is none between them.
        ports: of 127.0.0.1, where clients find the nodes.
    """

    network: Network | None = None

    def __init__(
        self, *, network: bool, config: Mapping[str, str], idle: Callable[[], object] | None
    ) -> None:
        settings = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": str(_NODE_TIMEOUT_MS),
        }
        with ExitStack() as started:
            self.nodes = [
                started.enter_context(Server(tcp=True, config=settings | dict(config)))
                for _ in range(2 * PRIMARIES)
            ]
            if network:
                targets = [(node._port, node._bus_port) for node in self.nodes]
                self.network = started.enter_context(Network(targets))
                self._announce(self.network)
            self.ports = [port for port, _ in self._addresses]
            self._admins = [started.enter_context(_admin(node)) for node in self.nodes]
            self._join(idle)
            self._end = weakref.finalize(self, started.pop_all().close)

    def client(self, **options: Any) -> RedisCluster:
        """A new client, see `connect_cluster`."""
        client = connect_cluster(self.ports, **options)
        # whoever has a client has the cluster
        client.labsupport_cluster = self  # type: ignore[attr-defined]
        return client

    def close(self) -> None:
        """End all nodes at once; may be called again."""
        with undisturbed():
            self._end()

    @property
    def closed(self) -> bool:
        """Whether its nodes were ended."""
        return not self._end.alive

    @property
    def urls(self) -> list[str]:
        """The addresses of the nodes themselves, past the network."""
        return [node._socket_url for node in self.nodes]

    def roles(self) -> list[Role]:
        """What each node says that it is; "gone" if it says nothing."""
        return [self.role(node) for node in range(len(self.nodes))]

    def role(self, node: int) -> Role:
        """What a node says that it is; see `roles`."""
        try:
            told = self._admins[node].info("replication")["role"]
        except RedisError:
            return "gone"
        return "primary" if told == "master" else "replica"

    def slots(self) -> list[tuple[int, int, int]]:
        """First slot, last slot and primary of each range, as a node that is well sees it.

        Raises:
            ServerUnreachableError: no node sees all slots served.
        """
        for admin in self._admins:
            with suppress(RedisError):
                found = sorted(
                    (first, last, self.ports.index(port)) for first, last, port in _ranges(admin)
                )
                if sum(last - first + 1 for first, last, _ in found) == SLOTS:
                    return found
        raise ServerUnreachableError("Not all slots are served.", "heal() the cluster.")

    def primary_of(self, slot: int) -> int:
        """The node that has a slot; see `slots`."""
        return next(node for first, last, node in self.slots() if first <= slot <= last)

    def replica_of(self, primary: int) -> int:
        """The node that replicates a primary.

        Raises:
            ServerUnreachableError: there is none.
        """
        for node, admin in enumerate(self._admins):
            with suppress(RedisError):
                told = admin.info("replication")
                if told["role"] == "slave" and told["master_port"] == self.ports[primary]:
                    return node
        raise ServerUnreachableError(f"Node {primary} has no replica.", "heal() the cluster.")

    def delay_replication(self, node: int) -> None:
        """Hold what a primary sends to its replicas, from now on; they take it for slow."""
        self._links.hold(node, replication=True)

    def cut_off(self, node: int) -> None:
        """Hold all links between a node and the others; clients still reach it."""
        self._links.hold(node, bus=True, replication=True)

    def heal(self, *, idle: Callable[[], object] | None = None) -> None:
        """Release all links, resume and restart nodes, and wait until each primary has its replica.

        Args:
            idle: called all the time meanwhile; what it raises ends the wait.

        Raises:
            ServerUnreachableError: it took too long.
        """
        if self.network:
            self.network.release()
        for node in self.nodes:
            if not node.alive:
                node.restart()
            elif node.status() == "stopped":
                node.resume()
        self._wait(self._whole, idle)

    def set_config(self, **config: str) -> None:
        """CONFIG SET on each node, with _ for -; a restart keeps it."""
        for node, admin in zip(self.nodes, self._admins, strict=True):
            for name, value in config.items():
                node._config[name.replace("_", "-")] = value
                admin.config_set(name.replace("_", "-"), value)

    def move_slot(self, slot: int, *, to: int, halfway: Callable[[], object]) -> None:
        """Give a slot and its keys to another primary, in the steps of the specification.

        Args:
            slot: its number.
            to: the node that gets it.
            halfway: called when its keys have moved, and it has not yet.
        """
        source = self.primary_of(slot)
        here, there = self._admins[source], self._admins[to]
        names = [one.execute_command("CLUSTER MYID") for one in (here, there)]
        there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[0])
        here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[1])
        # to its own port: the link that a test holds is no part of this
        address = "127.0.0.1", self.nodes[to]._port
        while keys := here.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            here.execute_command("MIGRATE", *address, "", 0, 5000, "KEYS", *keys)
        halfway()
        self.give_slot(slot, source=source, to=to)

    def give_slot(self, slot: int, *, source: int, to: int) -> None:
        """End the move of a slot whose keys are where it goes; see `move_slot`."""
        name = self._admins[to].execute_command("CLUSTER MYID")
        for node in (to, source):
            self._admins[node].execute_command("CLUSTER SETSLOT", slot, "NODE", name)

    def redirections(self) -> dict[str, int]:
        """How many times the nodes have answered "MOVED" and "ASK" since they were started."""
        found = {"MOVED": 0, "ASK": 0}
        for admin in self._admins:
            with suppress(RedisError):
                told = admin.info("errorstats")
                for kind in found:
                    found[kind] += int(told.get(f"errorstat_{kind}", {}).get("count", 0))
        return found

    def __repr__(self) -> str:
        return f"<{self.nodes[0].product} Cluster of the lab, {len(self.nodes)} nodes>"

    @property
    def _links(self) -> Network:
        if self.network is None:
            raise ServerUnreachableError(
                "The links of this cluster cannot be held.", "start_cluster(network=True)"
            )
        return self.network

    @property
    def _addresses(self) -> list[tuple[int, int]]:
        """The port and the bus port of each node, as the others know them."""
        if self.network:
            return self.network.ports
        return [(node._port, node._bus_port) for node in self.nodes]

    def _announce(self, network: Network) -> None:
        """Let each node tell the others to reach it through the network, also after a restart."""
        for node, (port, bus) in zip(self.nodes, network.ports, strict=True):
            told = {"cluster-announce-port": str(port), "cluster-announce-bus-port": str(bus)}
            node._config |= {"cluster-announce-ip": "127.0.0.1"} | told
            with node._admin() as admin:
                for name, value in ({"cluster-announce-ip": "127.0.0.1"} | told).items():
                    admin.config_set(name, value)

    def _join(self, idle: Callable[[], object] | None) -> None:
        """Give the primaries their slots, let all nodes meet, and give each primary its replica."""
        edges = [SLOTS * part // PRIMARIES for part in range(PRIMARIES + 1)]
        for number, admin in enumerate(self._admins):
            admin.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            if number < PRIMARIES:
                last = edges[number + 1] - 1
                admin.execute_command("CLUSTER ADDSLOTSRANGE", edges[number], last)
            # each with each: gossip would take seconds to tell all of all
            for port, bus in self._addresses[:number]:
                admin.execute_command("CLUSTER MEET", "127.0.0.1", port, bus)
        waiting = dict(enumerate(self._admins[:PRIMARIES], start=PRIMARIES))
        names = {n: one.execute_command("CLUSTER MYID") for n, one in waiting.items()}

        def replicated() -> bool:
            for replica in list(waiting):
                with suppress(RedisError):  # it has not met its primary yet
                    self._admins[replica].execute_command("CLUSTER REPLICATE", names[replica])
                    del waiting[replica]
            return not waiting

        self._wait(replicated, idle)
        self._wait(self._whole, idle)

    def _whole(self) -> bool:
        """All nodes say that all is well, name the same primaries, and each has its replica."""
        roles, views = [], set()
        for admin in self._admins:
            try:
                told, link = admin.execute_command("CLUSTER INFO"), admin.info("replication")
                views.add(tuple(sorted(_ranges(admin))))
            except RedisError:
                return False
            sizes = int(told["cluster_known_nodes"]), int(told["cluster_size"])
            if told["cluster_state"] != "ok" or sizes != (len(self.nodes), PRIMARIES):
                return False
            follows = link.get("master_link_status") == "up"
            if link["role"] == "slave" and not follows:
                return False
            roles.append(link["role"])
        return roles.count("master") == PRIMARIES and len(views) == 1

    def _wait(self, done: Callable[[], bool], idle: Callable[[], object] | None) -> None:
        deadline = time.monotonic() + _SECONDS_TO_BE_READY
        while not done():
            if idle is not None:
                idle()
            if time.monotonic() > deadline:
                raise ServerUnreachableError(f"{self!r} is not ready.", "Run the cell again.")
            time.sleep(0.01)


def start_cluster(
    *,
    network: bool = False,
    config: Mapping[str, str] | None = None,
    idle: Callable[[], object] | None = None,
) -> Cluster:
    """Start a Redis Cluster of the lab's own: three primaries and their replicas, ready for use.

    Args:
        network: put a `Network` between the nodes, which can hold their links.
        config: settings of each node, as in redis.conf.
        idle: called all the time meanwhile; what it raises ends what was started.

    Raises:
        ServerNotFoundError: there is no redis-server to start.
        InvalidSettingError: it refuses the configuration.
        ServerUnreachableError: the nodes did not come together in time.
    """
    return Cluster(network=network, config=config or {}, idle=idle)


def _admin(node: Server) -> Redis:
    """A client that asks a node on its socket, past the network."""
    return connect_client(node._socket_url, socket_timeout=_SECONDS_TO_SAY)


def _ranges(admin: Redis) -> Sequence[tuple[int, int, int]]:
    """First slot, last slot, and the port of their primary, of those that are well."""
    found = []
    for name, node in admin.cluster("nodes").items():
        if "master" not in node["flags"] or "fail" in node["flags"].split(","):
            continue
        port = int(name.rpartition(":")[2])
        found += [(int(one[0]), int(one[-1]), port) for one in node["slots"]]
    return found
