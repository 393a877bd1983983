"""A real cluster of six nodes: it comes together, fails over, is cut, and is made whole again."""

import gc
import socket
import time
from pathlib import Path

import pytest
from redis.exceptions import ClusterDownError, MovedError, RedisClusterException, RedisError

from labsupport.errors import InvalidSettingError, NotOnThisServerError, ServerUnreachableError
from labsupport.processes import process_status
from labsupport.servers.cluster import SLOTS, published_between, start_cluster
from labsupport.servers.cluster.bus import _require_count
from labsupport.servers.product import Product

pytestmark = pytest.mark.long


def wait_until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


@pytest.fixture(scope="module")
def shared():
    with start_cluster(network=True) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared):
    """The cluster that the tests share, made whole by each; no node is given up, however late it is."""
    shared.heal()
    shared.set_config(cluster_node_timeout="60000")
    shared.heal()
    return shared


def in_haste(cluster):
    """From now on a node that says nothing for half a second is given up."""
    cluster.set_config(cluster_node_timeout="500")


@pytest.fixture
def key(cluster):
    """A key, with its primary and replica."""
    with cluster.client() as redis:
        redis.delete("key")
        primary = cluster.primary_of(redis.keyslot("key"))
    return "key", primary, cluster.replica_of(primary)


def has(cluster, node, key):
    with cluster.nodes[node].client() as client:
        client.execute_command("READONLY")
        return bool(client.exists(key))


def refuses(node, key):
    try:
        node.get(key)
    except ClusterDownError:
        return True
    return False


def test_is_ready_when_it_is_there(cluster):
    """All slots are served by three primaries, each with a replica, and any key can be written."""
    assert sorted(cluster.roles()) == ["primary"] * 3 + ["replica"] * 3
    parts = cluster.slots()
    assert sum(last - first + 1 for first, last, _ in parts) == SLOTS
    assert len({cluster.replica_of(node) for _, _, node in parts}) == 3
    with cluster.client() as redis:
        for number in range(50):
            redis.set(f"key:{number}", number)
        assert [redis.get(f"key:{number}") for number in range(50)] == [str(n) for n in range(50)]
        assert redis.delete(*(f"key:{number}" for number in range(50))) == 50


def test_nothing_is_left():
    """After its end there is no process, no directory, and nobody listens on its ports."""
    with start_cluster(network=True) as cluster:
        owned = [*cluster.nodes, cluster.network]
        pids = [one.pid for one in owned]
        directories = [node.directory for node in cluster.nodes]
        ports = cluster.ports
        assert all(directory.stat().st_mode & 0o777 == 0o700 for directory in directories)
        cluster.nodes[4].pause()
    assert {process_status(pid) for pid in pids} == {"dead"}
    assert not any(Path(directory).exists() for directory in directories)
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    cluster.close()  # once more does no harm


class EnoughError(Exception):
    """What Stop of a panel raises."""


def enough():
    raise EnoughError


def test_who_waits_for_a_cluster_can_be_stopped(cluster, key):
    """While it comes together, and while it is made whole."""
    with pytest.raises(EnoughError):
        start_cluster(idle=enough)
    cluster.nodes[key[1]].kill()
    with pytest.raises(EnoughError):
        cluster.heal(idle=enough)


def test_a_replica_takes_over_and_lost_what_it_had_not_read(cluster, key):
    """A write that is held on its way is acknowledged, and gone after the failover."""
    name, primary, replica = key
    cluster.delay_replication(primary)
    with cluster.client() as redis:
        assert redis.set(name, "late")
    in_haste(cluster)
    cluster.nodes[primary].kill()
    assert cluster.role(primary) == "gone"
    wait_until(lambda: cluster.role(replica) == "primary", "nobody took over")
    cluster.heal()
    assert cluster.role(primary) == "replica"
    with cluster.client() as redis:
        assert redis.get(name) is None


def test_without_a_hold_nothing_is_lost(cluster, key):
    """A write that a replica has confirmed survives a kill -9."""
    name, primary, replica = key
    with cluster.nodes[primary].client() as client:
        client.set(name, "kept")
        assert client.wait(1, 10_000) == 1
    in_haste(cluster)
    cluster.nodes[primary].kill()
    wait_until(lambda: cluster.role(replica) == "primary", "nobody took over")
    cluster.heal()
    with cluster.client() as redis:
        assert redis.get(name) == "kept"


def test_one_that_is_cut_off_takes_writes_for_a_while(cluster, key):
    """Two primaries; the one that is alone refuses in the end, and throws away what it took."""
    name, primary, replica = key
    with cluster.nodes[primary].client() as alone:
        cluster.cut_off(primary)
        assert alone.set(name, "alone")
        assert not has(cluster, replica, name)
        in_haste(cluster)
        wait_until(lambda: cluster.role(replica) == "primary", "nobody took over")
        assert cluster.role(primary) == "primary"
        wait_until(lambda: refuses(alone, name), "it goes on alone")
        cluster.heal()
        assert cluster.role(primary) == "replica"
        with pytest.raises(MovedError):
            alone.get(name)
    with cluster.client() as redis:
        assert redis.get(name) is None


def test_a_slot_moves_with_its_keys(cluster, key):
    """Halfway there is ASK, afterwards MOVED; the key is read all the time."""
    name, primary, _ = key
    target = next(node for _, _, node in cluster.slots() if node != primary)
    with cluster.client() as redis:
        redis.set(name, "here")
        slot, seen = redis.keyslot(name), []
        before = cluster.redirections()
        cluster.move_slot(slot, to=target, halfway=lambda: seen.append(redis.get(name)))
        assert [*seen, redis.get(name)] == ["here", "here"]
        after = cluster.redirections()
        assert (after["ASK"] - before["ASK"], after["MOVED"] - before["MOVED"]) == (1, 1)
        assert cluster.primary_of(slot) == target
        cluster.move_slot(slot, to=primary, halfway=lambda: None)
        assert redis.get(name) == "here"


def test_a_paused_node_is_resumed(cluster):
    """`heal` wakes it up; meanwhile it says nothing."""
    replica = cluster.roles().index("replica")
    cluster.nodes[replica].pause()
    assert cluster.role(replica) == "gone"
    cluster.heal()
    assert cluster.role(replica) == "replica"


def test_settings_survive_a_restart(cluster):
    """What was set on all nodes is set again after a kill."""
    cluster.set_config(cluster_require_full_coverage="no")
    replica = cluster.roles().index("replica")
    cluster.nodes[replica].kill()
    cluster.heal()
    with cluster.nodes[replica].client() as client:
        found = client.config_get("cluster-require-full-coverage")
    assert found == {"cluster-require-full-coverage": "no"}
    cluster.set_config(cluster_require_full_coverage="yes")


def test_the_bus_is_weighed(cluster):
    """What the nodes say to each other goes through the network."""
    before = cluster.network.bus_bytes()
    wait_until(lambda: cluster.network.bus_bytes() > before, "the nodes are silent")


def test_a_client_keeps_it():
    """It ends when nothing refers to it or to its clients any more."""
    client = start_cluster().client()
    assert client.set("a", 1)
    pids = [node.pid for node in client.labsupport_cluster.nodes]
    client.close()
    del client
    gc.collect()  # a cluster client refers to itself
    wait_until(lambda: {process_status(pid) for pid in pids} == {"dead"}, "it is still there")


class TestBadInput:
    def test_links_that_cannot_be_held(self):
        with (
            start_cluster() as cluster,
            pytest.raises(ServerUnreachableError, match="network=True"),
        ):
            cluster.cut_off(0)

    def test_a_setting_that_redis_refuses(self):
        with pytest.raises(InvalidSettingError):
            start_cluster(config={"cluster-node-timeout": "soon"})

    def test_a_network_that_is_gone(self):
        with start_cluster(network=True) as cluster:
            cluster.network.kill()
            with pytest.raises(ServerUnreachableError, match="does not obey"):
                cluster.cut_off(0)
            with pytest.raises((RedisError, RedisClusterException)), cluster.client() as redis:
                redis.get("a")


def test_what_is_published_is_counted(cluster):
    """PUBLISH goes to all nodes, SPUBLISH to the slot's replica."""
    clients = [node.client() for node in cluster.nodes]
    home, sent = cluster.nodes[cluster.primary_of(cluster.client().keyslot("news"))].client(), []
    for publish in (home.publish, home.spublish):
        try:
            before = published_between(clients)
        except NotOnThisServerError as error:
            pytest.skip(error.problem)
        publish("news", "told")
        sent.append(published_between(clients) - before)
    assert sent == [5, 1]


def test_what_is_not_counted_is_not_told_as_none():
    """A Valkey that counts neither is refused by name."""
    for product in (
        Product("Valkey", "8.0.2"),
        Product("Valkey", "9.1.0"),
        Product("Redis", "8.0.1"),
    ):
        _require_count(product)
    with pytest.raises(NotOnThisServerError, match=r"Valkey 8\.0\.1 doesn't count"):
        _require_count(Product("Valkey", "8.0.1"))
