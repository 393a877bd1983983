"""Several servers, played by the explorer's one."""

import pytest
from redis.exceptions import WatchError

from labsupport import explore
from labsupport.errors import ImplementationError, InvalidSettingError, NotSteppableError
from labsupport.explorer import as_nodes

FREE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"


def test_nodes_share_no_key():
    """What one node holds the others do not, through commands and scripts."""
    seen = []

    def client(redis, db):
        one, two = as_nodes(redis, 2)
        script = one.register_script(FREE)
        seen[:] = [
            one.set("lock", "a", nx=True, px=1000),
            two.set("lock", "b", nx=True),
            one.get("lock"),
            two.exists("lock", "other"),
            script(keys=["lock"], args=["b"]),
            script(keys=["lock"], args=["b"], client=two),
            two.pttl("lock"),
            sorted(redis.keys("node*")),
        ]

    report = explore({"a": client}, invariant=lambda redis, db: True)
    assert report.exhausted
    assert seen == [True, True, "a", 1, 0, 1, -2, ["node1:lock"]]


def test_a_pipeline_to_a_node():
    """Its commands are about the node's keys; what was watched is watched there."""
    seen = []

    def client(redis, db):
        one, two = as_nodes(redis, 2)
        two.set("lock", "b")
        with one.pipeline() as pipe:
            seen.append(pipe.set("lock", "a").get("lock").execute())
            pipe.watch("lock")
            seen.append(pipe.get("lock"))
            two.set("lock", "c")  # another's, of the same name
            pipe.multi()
            pipe.delete("lock")
            seen.append(pipe.execute())
            pipe.watch("lock")
            one.set("lock", "a")
            pipe.multi()
            pipe.delete("lock")
            with pytest.raises(WatchError):
                pipe.execute()
        seen.append(sorted(redis.keys("node*")))

    report = explore({"a": client}, invariant=lambda redis, db: True)
    assert report.exhausted
    assert seen == [[True, "a"], "a", [1], ["node1:lock", "node2:lock"]]


@pytest.mark.parametrize("act", [lambda node: node.flushall(), lambda node: node.pubsub()])
def test_what_a_node_cannot_play(act):
    """A command that is not about a node's keys is refused, not sent to all of them."""
    with pytest.raises((ImplementationError, NotSteppableError), match="node of the explorer"):
        explore({"a": lambda redis, db: act(as_nodes(redis, 3)[0])}, invariant=lambda r, d: True)


@pytest.mark.parametrize("count", [0, 10])
def test_absurd_counts(count):
    """There are 1 to 9 nodes, so that no name begins with another."""
    with pytest.raises(InvalidSettingError, match="number of nodes"):
        as_nodes(None, count)


def test_every_order_of_two_elections():
    """A script on one key after another is no waiting: 32 orders, as counted by hand in a model."""

    def elect(redis, db):
        nodes = as_nodes(redis, 3)
        name = elect.names.pop()
        votes = sum(bool(node.set("lock", name, nx=True)) for node in nodes)
        if votes < 2:
            for node in nodes:
                node.eval(FREE, 1, "lock", name)

    def given(redis, db):
        elect.names = ["ada", "bob"]

    report = explore({"a": elect, "b": elect}, given=given, invariant=lambda redis, db: True)
    assert (report.interleavings, report.exhausted) == (_orders([0] * 3, [(0, 0), (0, 0)]), True)


def _orders(nodes, clients):
    """How many orders the steps have: three votes each, and three releases for who has too few."""
    total, over = 0, True
    for who, (step, votes) in enumerate(clients):
        if step == 6 or (step == 3 and votes > 1):
            continue
        over, after, others = False, list(nodes), list(clients)
        if step < 3 and not nodes[step]:
            after[step], votes = who + 1, votes + 1
        elif step >= 3 and nodes[step - 3] == who + 1:
            after[step - 3] = 0
        others[who] = (step + 1, votes)
        total += _orders(after, others)
    return 1 if over else total
