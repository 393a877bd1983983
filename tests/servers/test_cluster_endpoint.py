"""A cluster of one's own: the lab takes it when it is empty, and leaves it so."""

import subprocess
import sys
import time

import pytest
from redis.cluster import RedisCluster

from labsupport.errors import ForeignKeysError, InvalidSettingError, ServerUnreachableError
from labsupport.labs.redis_cluster.exercises import EXERCISES
from labsupport.servers import OWNER_KEY, connect_client, start_server
from labsupport.servers.cluster import PRIMARIES, ClusterEndpoint, open_cluster, start_cluster

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def theirs():
    """Somebody's cluster, in which no node is given up, however late it is."""
    with start_cluster(config={"cluster-node-timeout": "60000"}) as cluster:
        yield cluster


@pytest.fixture
def url(theirs):
    """The address of one of its nodes; the cluster is empty."""
    yield f"redis://127.0.0.1:{theirs.ports[1]}"
    for node in theirs.nodes[:PRIMARIES]:
        with node.client() as client:
            for key in client.keys("*"):
                client.delete(key)


def sizes(cluster):
    found = []
    for node in cluster.nodes[:PRIMARIES]:
        with node.client() as client:
            found.append(client.dbsize())
    return found


def test_keys_of_all_nodes_go(theirs, url):
    """What the lab wrote is removed from each node, and the mark with it."""
    with open_cluster(url) as endpoint, endpoint.client() as redis:
        for number in range(100):
            redis.set(f"key:{number}", number)
        assert redis.exists(OWNER_KEY)
        assert sum(sizes(theirs)) == 101
        assert min(sizes(theirs)) > 0
        with pytest.raises(ForeignKeysError, match="is another lab's"):
            open_cluster(url)
    assert sizes(theirs) == [0, 0, 0]


@pytest.mark.parametrize("key", ["a", "b", "c", "d"])  # in several nodes' slots
def test_foreign_keys_stay(theirs, url, key):
    """A cluster with a key on any node is refused, and nothing in it changes."""
    with theirs.client() as redis:
        redis.set(key, "theirs")
        with pytest.raises(ForeignKeysError, match=r"did not write\.\nName an empty"):
            open_cluster(url)
        assert redis.get(key) == "theirs"
        assert sum(sizes(theirs)) == 1


def test_two_labs_never_meet(theirs, url):
    """Who has it has it, also for another kernel; when that one is killed, its keys go."""
    hold = f"""
import sys
from labsupport.servers.cluster import open_cluster
endpoint = open_cluster({url!r})
with endpoint.client() as redis:
    for number in range(20):
        redis.set(f"key:{{number}}", 1)
print("here", flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", hold]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "here\n"
        with pytest.raises(ForeignKeysError, match=r"is another lab's\.\nName an empty"):
            open_cluster(url)
        assert sum(sizes(theirs)) == 21
        other.kill()
    deadline = time.monotonic() + 30
    while True:  # until its node knows
        try:
            endpoint = open_cluster(url)
            break
        except ForeignKeysError:
            assert time.monotonic() < deadline
    with endpoint:
        assert sum(sizes(theirs)) == 1
    assert sizes(theirs) == [0, 0, 0]


def test_what_another_has_taken_is_left(theirs, url):
    """close() removes nothing when the mark is no longer the lab's."""
    endpoint = open_cluster(url)
    with theirs.client() as redis:
        redis.set(OWNER_KEY, "somebody")
        redis.set("theirs", 1)
        endpoint.close()
        assert redis.get("theirs") == "1"


def test_a_single_server():
    """The error says that it is no cluster, and what to do."""
    with (
        start_server(tcp=True) as server,
        pytest.raises(InvalidSettingError, match=r"no cluster\.\n.*REDIS_CLUSTER_URL"),
    ):
        open_cluster(f"redis://127.0.0.1:{server._port}")


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("cluster.example:6379", InvalidSettingError),
        ("redis://127.0.0.1:1", ServerUnreachableError),
    ],
)
def test_what_is_no_address(url, error):
    """It names the variable."""
    with pytest.raises(error, match="REDIS_CLUSTER_URL"):
        open_cluster(url)


@pytest.mark.long
def test_the_exercise_runs_there(theirs, url, monkeypatch):
    """14.1 is put to the test on the cluster that the variable names, and leaves nothing."""
    monkeypatch.setenv("REDIS_CLUSTER_URL", url)
    seen = []

    def reserve(redis, product, user):
        if isinstance(redis, RedisCluster):
            seen.append(sum(sizes(theirs)))
        return EXERCISES[0].solution(redis, product, user)

    assert EXERCISES[0].check(reserve).passed
    assert max(seen) > 1
    assert sizes(theirs) == [0, 0, 0]


def test_without_the_variable(monkeypatch):
    """It is a cluster of the lab's own."""
    monkeypatch.delenv("REDIS_CLUSTER_URL", raising=False)
    with open_cluster() as cluster:
        assert not isinstance(cluster, ClusterEndpoint)
        assert connect_client(cluster.urls[0]).ping()
