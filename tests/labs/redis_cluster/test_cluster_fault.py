"""The experiment of lab 14: orders while a node is killed, cut off, or gives a slot away."""

from contextlib import suppress

import pytest
from redis.exceptions import RedisClusterException, RedisError

from labsupport.errors import ImplementationError, InvalidSettingError, ServerUnreachableError
from labsupport.labs.redis_cluster import ClusterFault
from labsupport.servers.cluster import start_cluster

pytestmark = pytest.mark.long


def take(redis, key, order):
    redis.rpush(key, order)
    return True


def ask_the_default_node(redis, key, order):
    redis.rpush(key, order)
    return redis.wait(1, 50) >= 1


def confirmed(redis, key, order):
    node = redis.get_redis_connection(redis.get_node_from_key(key))
    try:
        with node.pipeline(transaction=False) as pipe:
            return pipe.rpush(key, order).wait(1, 50).execute()[1] >= 1
    except RedisError:
        redis.nodes_manager.initialize()
        raise


def persistent(redis, key, order):
    """An order comes to its end only after the fault has: none at all ends while it lasts."""
    while True:
        with suppress(RedisError, RedisClusterException):
            if confirmed(redis, key, order):
                return True
            redis.nodes_manager.initialize()


def informed(redis, key, order):
    """Who asks for the slots before each order is sent to the other node by ASK, hardly ever by MOVED."""
    redis.nodes_manager.initialize()
    return confirmed(redis, key, order)


@pytest.fixture(scope="module")
def run():
    with start_cluster(network=True) as cluster:

        def perform(function=take, **knobs):
            experiment = ClusterFault(cluster=cluster, pace_seconds=0.02, **knobs)
            return experiment.run(function, live=False)

        yield perform


def statuses(result):
    return [claim.status for claim in result.verdict.claims]


class TestCrash:
    def test_acknowledged_orders_are_lost(self, run):
        """What the replica had not read is gone, and with full coverage the others refuse as well."""
        found = run()
        assert statuses(found) == ["broken", "holds", "broken"]
        assert found.figure.texts[0].get_text().endswith("acknowledged orders are lost")
        assert len(found.events.select("lost")) == found.numbers["lost"] > 0

    def test_the_default_node_knows_nothing(self, run):
        """WAIT by the cluster's client confirms what no replica has."""
        found = run(ask_the_default_node, coverage="no")
        assert statuses(found) == ["holds", "holds", "broken"]

    def test_a_promise_that_a_replica_has_heard(self, run):
        """WAIT on the node of the key: nothing that was promised is lost."""
        found = run(confirmed, coverage="no")
        assert statuses(found) == ["holds", "holds", "holds"]
        assert found.numbers["unconfirmed"] > 0


class TestPartition:
    def test_a_minority_takes_orders_that_are_lost(self, run):
        assert statuses(run(fault="partition", coverage="no")) == ["holds", "holds", "broken"]

    def test_a_promise_that_a_replica_has_heard(self, run):
        found = run(confirmed, fault="partition", coverage="no")
        assert statuses(found) == ["holds", "holds", "holds"]


@pytest.mark.parametrize("fault", ["crash", "partition"])
def test_an_order_that_outlasts_the_fault(run, fault):
    """Who tries until it is confirmed ends no order meanwhile, and yet was put to the test."""
    found = run(persistent, fault=fault, coverage="no")
    assert found.numbers["behind"] == 1
    assert statuses(found) == ["holds", "holds", "holds"]


class TestReshard:
    def test_redirections_are_followed(self, run):
        """Nothing is refused, nothing lost, and both redirections were met."""
        found = run(fault="reshard")
        assert statuses(found) == ["holds", "holds"]
        assert found.numbers["moved"] >= 2
        assert found.numbers["asked"] >= 2

    @pytest.mark.parametrize("function", [confirmed, informed])
    def test_a_client_of_one_node_is_refused(self, run, function):
        """Who does not follow redirections sees them as errors."""
        assert statuses(run(function, fault="reshard")) == ["broken", "holds"]


def test_nobody_takes_anything(run):
    """Without a promise nothing is tested: no replica is seen to take over either."""
    found = run(lambda redis, key, order: redis.rpush(key, order) < 0, fault="reshard")
    assert "holds" not in statuses(found)


def test_the_same_text_every_time(run):
    """A verdict holds no number, so that it reads the same after each run."""
    texts = {str(run(fault="reshard")) for _ in range(2)}
    assert len(texts) == 1
    assert not any(sign.isdigit() for sign in texts.pop())


def test_a_cluster_that_was_closed():
    """A panel that is used after the notebook's last cell has one of its own."""
    with start_cluster(network=True) as cluster:
        pass
    experiment = ClusterFault(cluster=cluster, fault="reshard", pace_seconds=0.02)
    result = experiment.run(take, live=False)
    assert result.numbers["taken"] > 0
    assert cluster.closed


class TestBadInput:
    @pytest.mark.parametrize("knobs", [{"fault": "fire"}, {"coverage": "maybe"}, {"seconds": 0.0}])
    def test_knobs(self, knobs):
        with pytest.raises(InvalidSettingError):
            ClusterFault(**knobs)

    def test_a_function_that_raises(self, run):
        """An error that is not Redis's is the function's own."""
        with pytest.raises(ImplementationError, match="ZeroDivisionError"):
            run(lambda redis, key, order: 1 / 0, fault="reshard")

    def test_a_cluster_without_a_network(self):
        with (
            start_cluster() as cluster,
            pytest.raises(ServerUnreachableError, match="network=True"),
        ):
            ClusterFault(cluster=cluster).run(take, live=False)
