"""The exercises of lab 14: what breaks each stub, and other good answers."""

import pytest
from redis.exceptions import AskError, MovedError, ResponseError, WatchError

from labsupport import check
from labsupport.labs.redis_cluster.exercises import EXERCISES


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: two slots, a slot that moves, a lagging replica."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert "On a cluster: " in first.reason
    assert "same key slot" in first.reason
    assert "A slot that moves, asked at its old node: AskError" in second.reason
    assert "A replica that lags: the answer was True, not False" in third.reason


@pytest.mark.long
class TestOtherGoodAnswers:
    def test_a_field_for_each_user(self):
        """A hash, and the tag in front."""

        def reserve(redis, product, user):
            script = """
            if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
            if redis.call('HSETNX', KEYS[2], ARGV[1], 1) == 0 then return 0 end
            redis.call('DECR', KEYS[1])
            return 1
            """
            take = redis.register_script(script)
            keys = [f"stock:{{{product}}}", f"{{{product}}}:by-user"]
            return bool(take(keys=keys, args=[user]))

        found = check("14.1", reserve)
        assert found.passed, str(found)

    def test_a_key_beside_the_stock(self):
        """Who has reserved is remembered under the stock's name."""

        def reserve(redis, product, user):
            stock = f"stock:{{{product}}}"
            script = """
            local left = tonumber(redis.call('GET', KEYS[1]) or '0')
            if left <= 0 or redis.call('SADD', KEYS[2], ARGV[1]) == 0 then return 0 end
            redis.call('SET', KEYS[1], left - 1, 'KEEPTTL')
            return 1
            """
            return bool(redis.eval(script, 2, stock, f"{stock}:reserved", user))

        found = check("14.1", reserve)
        assert found.passed, str(found)

    def test_transaction_that_watches(self):
        """WATCH both keys, then MULTI: a cluster does it for keys of one slot."""

        def reserve(redis, product, user):
            stock, reserved = f"stock:{{{product}}}", f"reserved:{{{product}}}"
            with redis.pipeline(transaction=True) as pipe:
                while True:
                    pipe.watch(stock, reserved)
                    if pipe.sismember(reserved, user) or int(pipe.get(stock) or 0) < 1:
                        return False
                    pipe.multi()
                    pipe.decr(stock)
                    pipe.sadd(reserved, user)
                    try:
                        pipe.execute()
                    except WatchError:
                        continue
                    return True

        found = check("14.1", reserve)
        assert found.passed, str(found)

    def test_recursion_with_a_flag(self):
        """The redirection as a call of itself."""

        def fetch(nodes, key, client=None, asking=False):
            client = client or next(iter(nodes.values()))
            pipe = client.pipeline(transaction=False)
            if asking:
                pipe.execute_command("ASKING")
            try:
                return pipe.get(key).execute()[-1]
            except MovedError as error:
                return fetch(nodes, key, nodes[f"{error.host}:{error.port}"])
            except AskError as error:
                return fetch(nodes, key, nodes[f"{error.host}:{error.port}"], asking=True)

        found = check("14.2", fetch)
        assert found.passed, str(found)

    def test_asking_by_itself(self):
        """ASKING as a command of its own, and as many redirections as redis-py's own client follows."""

        def fetch(nodes, key):
            client, asking = next(iter(nodes.values())), False
            for _ in range(16):
                try:
                    with client.client() as one:
                        if asking:
                            one.execute_command("ASKING")
                        return one.get(key)
                except AskError as error:
                    client = nodes[f"{error.host}:{error.port}"]
                    asking = not isinstance(error, MovedError)
            raise RuntimeError(f"{key} moves faster than it can be followed")

        found = check("14.2", fetch)
        assert found.passed, str(found)

    def test_two_commands(self):
        """WAIT as a command of its own, on a connection of its own; an order that is refused is False."""

        def promise(redis, key, order):
            with redis.client() as one:
                try:
                    one.rpush(key, order)
                except ResponseError:
                    return False
                return one.wait(1, 50) > 0 or one.wait(1, 50) > 0

        found = check("14.3", promise)
        assert found.passed, str(found)
