"""The exercises of lab 08: what breaks each stub, and other good answers."""

import secrets
import time
from contextlib import suppress

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from labsupport import check
from labsupport.labs.redlock import dead_servers_checks
from labsupport.labs.redlock.exercises import EXERCISES
from tests.exercises.zoo import schedule


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: two winners, a server that hangs, two holders."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert first.reason.startswith("One call after the other")
    assert "9.898) (tuple); None is due" in first.reason  # one vote is no majority
    assert second.reason.startswith("Two of five servers hang: take did not come back")
    assert schedule(third) == "SELECT SELECT UPDATE UPDATE"


def test_what_an_answer_raises_is_its_own(monkeypatch):
    """An error of a function that it has returned refuses it; one of the check's stays one."""

    def lock_on(urls):
        def take(key, ttl):
            raise ValueError(f"no lock of {ttl:g} s")

        return take, lambda key, token: None

    monkeypatch.setattr(dead_servers_checks, "_on_servers", lambda one, _: one([])[0]("a", 2))
    found = check("08.2", lock_on)
    assert found.reason.startswith("the answer raised ValueError: no lock of 2 s at line")
    monkeypatch.setattr(dead_servers_checks, "_on_servers", lambda *_: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        check("08.2", EXERCISES[1].solution)


@pytest.mark.long
class TestOtherGoodAnswers:
    def test_votes_by_a_script_and_another_clock(self):
        """However a vote is asked for, the time that it took counts."""
        vote = "return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') and 1 or 0"
        free = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"

        def majority():
            def acquire(nodes, key, ttl):
                token, begun = secrets.token_hex(20), time.perf_counter()
                votes = [node.eval(vote, 1, key, token, round(ttl * 1000)) for node in nodes]
                left = ttl - (time.perf_counter() - begun) - (ttl / 100 + 0.002)
                if sum(votes) > len(nodes) // 2 and left > 0:
                    return token, left
                release(nodes, key, token)
                return None

            def release(nodes, key, token):
                for node in nodes:
                    node.eval(free, 1, key, token)

            return acquire, release

        found = check("08.1", majority)
        assert found.passed, str(found)

    def test_nodes_in_a_random_order_and_a_stop_at_the_first_hopeless_vote(self):
        """Which node is asked first does not matter, nor that all are asked when it is lost."""
        free = """
        if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
        return redis.call('DEL', KEYS[1])
        """

        def majority():
            def acquire(nodes, key, ttl):
                token, begun = secrets.token_hex(20), time.time()
                needed, lost = len(nodes) // 2 + 1, 0
                for node in reversed(nodes):
                    lost += not node.set(key, token, px=round(ttl * 1000), nx=True)
                    if len(nodes) - lost < needed:
                        break
                left = ttl - (time.time() - begun) - (ttl / 100 + 0.002)
                if len(nodes) - lost >= needed and left > 0:
                    return (token, left)
                release(nodes, key, token)
                return None

            def release(nodes, key, token):
                for node in nodes:
                    node.register_script(free)(keys=[key], args=[token])

            return acquire, release

        found = check("08.1", majority)
        assert found.passed, str(found)

    def test_transaction_of_a_node(self):
        """A node has redis-py's transaction(), which watches and tries again by itself."""
        acquire = EXERCISES[0].solution()[0]

        def majority():
            def release(nodes, key, token):
                def free(pipe):
                    mine = pipe.get(key) == token
                    pipe.multi()
                    if mine:
                        pipe.delete(key)

                for node in nodes:
                    node.transaction(free, key)

            return acquire, release

        found = check("08.1", majority)
        assert found.passed, str(found)

    def test_all_servers_at_the_same_time(self):
        """Threads that ask all servers at once wait only for the slowest."""
        from concurrent.futures import ThreadPoolExecutor

        free = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"

        def lock_on(urls):
            limits = {"socket_timeout": 0.1, "socket_connect_timeout": 0.1}
            retry = Retry(NoBackoff(), 0)
            nodes = [redis.Redis.from_url(url, retry=retry, **limits) for url in urls]
            pool = ThreadPoolExecutor(len(nodes))

            def everywhere(command):
                def ask(node):
                    with suppress(redis.RedisError):
                        return command(node)

                return list(pool.map(ask, nodes))

            def take(key, ttl):
                token, start = secrets.token_hex(), time.monotonic()
                px = int(ttl * 1000)
                votes = everywhere(lambda node: node.set(key, token, nx=True, px=px))
                in_time = time.monotonic() - start < 0.99 * ttl - 0.002
                if 2 * sum(map(bool, votes)) > len(nodes) and in_time:
                    return token
                free_all(key, token)
                return None

            def free_all(key, token):
                everywhere(lambda node: node.eval(free, 1, key, token))

            return take, free_all

        found = check("08.2", lock_on)
        assert found.passed, str(found)

    def test_watch_before_the_delete(self):
        """Who watches the key, compares and deletes deletes nothing that has changed since."""

        def lock_on(urls):
            limits = {"socket_timeout": 0.05, "socket_connect_timeout": 0.05}
            once = {"retry": Retry(NoBackoff(), 0), "decode_responses": True}

            def each(command):
                votes = 0
                for url in urls:  # with a new connection each time
                    with (
                        suppress(redis.RedisError),
                        redis.Redis.from_url(url, **limits, **once) as node,
                    ):
                        votes += bool(command(node))
                return votes

            def take(key, ttl):
                token, start, px = secrets.token_hex(), time.monotonic(), int(ttl * 1000)
                votes = each(lambda node: node.set(key, token, nx=True, px=px))
                if votes > len(urls) // 2 and time.monotonic() - start < 0.99 * ttl - 0.002:
                    return token
                return free(key, token)

            def free(key, token):
                def compare(pipe):
                    if pipe.get(key) == token:
                        pipe.multi()
                        pipe.delete(key)

                each(lambda node: node.transaction(compare, key))

            return take, free

        found = check("08.2", lock_on)
        assert found.passed, str(found)

    def test_compare_with_what_was_read(self):
        """The old value is as good a condition, when the new one depends on nothing else."""

        def change_stock(db, token, compute):
            old = db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"]
            update = "UPDATE products SET stock = :new WHERE id = 1 AND stock = :old"
            return db.execute(update, new=compute(old), old=old) == 1

        found = check("08.3", change_stock)
        assert found.passed, str(found)

    def test_claim_and_read_in_one_statement(self):
        """RETURNING gives the stock together with the claim."""

        def change_stock(db, token, compute):
            claim = "UPDATE products SET claimed_by = :by WHERE id = 1 RETURNING stock"
            stock = db.fetch_one(claim, by=token)["stock"]
            update = "UPDATE products SET stock = :new WHERE id = 1 AND claimed_by = :by"
            return db.execute(update, new=compute(stock), by=token) == 1

        found = check("08.3", change_stock)
        assert found.passed, str(found)
