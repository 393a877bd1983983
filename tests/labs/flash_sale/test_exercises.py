"""The exercises of lab 16: what breaks each stub, and other good answers."""

import pytest
from redis.exceptions import WatchError

from labsupport import check
from labsupport.labs.flash_sale import FlashSale
from labsupport.labs.flash_sale.exercises import EXERCISES, shop_solution, shop_stub
from tests.labs.flash_sale.parts import FINAL
from tests.labs.flash_sale.zoo import LEFT, ORDER, SEEN, TAKE


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub breaks where its exercise is about: a crash in the gap, and asking again too late."""
    first, second = (check(one.number, one.stub) for one in EXERCISES)
    assert "A client that crashes" in first.reason
    assert "crashes before XADD" in str(first)
    assert "was given False; True is due" in second.reason
    assert "even when asked again" in second.reason
    assert "admit" not in second.reason  # one fault, one sentence


@pytest.mark.parametrize(("maker", "expected"), [(shop_stub, "broken"), (shop_solution, "holds")])
def test_the_storm_sees_the_bug(maker, expected):
    """The shop of 16.2 holds all claims but one, and mended it holds them all."""
    sign_in, admit, reserve = maker()
    shop = FINAL.but(sessions=sign_in, door=admit, stock=reserve)
    sale = FlashSale(customers=120, stock=36, pace_seconds=0.0)
    found = sale.run(shop, live=False, name="handed over")
    statuses = [claim.status for claim in found.verdict.claims]
    assert statuses == ["holds"] * 4 + [expected] + ["holds"] * 3


@pytest.mark.long
class TestOneRoundTrip:
    def test_registered_script(self):
        """EVALSHA, and the set decides who is new."""

        def checkout(redis, customer):
            script = f"""
            if redis.call('SADD', KEYS[2], ARGV[1]) == 0 then return 1 end
            if redis.call('DECR', KEYS[1]) < 0 then
              redis.call('INCR', KEYS[1])
              redis.call('SREM', KEYS[2], ARGV[1])
              return 0
            end
            {ORDER}
            return 1
            """
            sell = redis.register_script(script)
            return sell(keys=["stock", "buyers", "orders"], args=[customer]) == 1

        found = check("16.1", checkout)
        assert found.passed, str(found)

    def test_entry_with_more_fields(self):
        """The entry has the field customer, and may have others."""

        def checkout(redis, customer):
            script = """
            if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 1 end
            if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then return 0 end
            local left, at = redis.call('DECR', KEYS[1]), redis.call('TIME')[1]
            redis.call('SADD', KEYS[2], ARGV[1])
            redis.call('XADD', KEYS[3], '*', 'customer', ARGV[1], 'left', left, 'at', at)
            return 1
            """
            return redis.eval(script, 3, "stock", "buyers", "orders", customer) == 1

        found = check("16.1", checkout)
        assert found.passed, str(found)

    def test_pipeline_around_a_script(self):
        """One packet, whatever is in it."""

        def checkout(redis, customer):
            with redis.pipeline(transaction=False) as pipe:
                script = f"{SEEN}{LEFT}{TAKE}{ORDER}return 1"
                pipe.eval(script, 3, "stock", "buyers", "orders", customer)
                return bool(pipe.execute()[0])

        found = check("16.1", checkout)
        assert found.passed, str(found)

    def test_two_scripts_in_a_transaction(self):
        """The second one asks whether the first one has sold."""

        def checkout(redis, customer):
            new = f"{SEEN}{LEFT}{TAKE}{ORDER}return 1"
            told = "return redis.call('SISMEMBER', KEYS[1], ARGV[1])"
            with redis.pipeline() as pipe:
                pipe.eval(new, 3, "stock", "buyers", "orders", customer)
                return pipe.eval(told, 1, "buyers", customer).execute()[1] == 1

        found = check("16.1", checkout)
        assert found.passed, str(found)


@pytest.mark.long
class TestOneBug:
    def test_transactions_and_a_watch(self):
        """No script at all."""

        def shop():
            def sign_in(redis, token, customer):
                with redis.pipeline() as pipe:
                    key = f"session:{token}"
                    pipe.hset(key, mapping={"customer": customer}).expire(key, 1800).execute()

            def admit(redis, customer):
                key = f"calls:{customer}"
                with redis.pipeline() as pipe:
                    return pipe.set(key, 0, ex=60, nx=True).incr(key).execute()[1] <= 3

            def reserve(redis, customer):
                with redis.pipeline() as pipe:
                    while True:
                        try:
                            pipe.watch("stock", "buyers")
                            left = int(pipe.get("stock") or 0)  # first: a "no" must be no older
                            if pipe.sismember("buyers", customer):
                                return True
                            if left < 1:
                                return False
                            pipe.multi()
                            pipe.decr("stock").sadd("buyers", customer).execute()
                        except WatchError:
                            continue
                        return True

            return sign_in, admit, reserve

        found = check("16.2", shop)
        assert found.passed, str(found)

    def test_the_set_decides(self):
        """SADD tells who is new, and is taken back when nothing is left."""

        def shop():
            sign_in, admit, _ = shop_stub()

            def reserve(redis, customer):
                script = """
                if redis.call('SADD', KEYS[2], ARGV[1]) == 0 then return 1 end
                if tonumber(redis.call('GET', KEYS[1]) or 0) > 0 then
                  return redis.call('DECR', KEYS[1]) >= 0 and 1
                end
                redis.call('SREM', KEYS[2], ARGV[1])
                return 0
                """
                return redis.eval(script, 2, "stock", "buyers", customer) == 1

            return sign_in, admit, reserve

        found = check("16.2", shop)
        assert found.passed, str(found)

    def test_a_stock_that_goes_back_to_nothing(self):
        """Taken first and put back: where there was no stock, a 0 is left."""

        def shop():
            sign_in, admit, _ = shop_solution()

            def reserve(redis, customer):
                script = """
                if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 1 end
                if redis.call('DECR', KEYS[1]) < 0 then
                  redis.call('INCR', KEYS[1])
                  return 0
                end
                return redis.call('SADD', KEYS[2], ARGV[1])
                """
                return redis.eval(script, 2, "stock", "buyers", customer) == 1

            return sign_in, admit, reserve

        found = check("16.2", shop)
        assert found.passed, str(found)

    def test_a_log_at_the_door(self):
        """A sorted set of moments, by the server's clock: a window that slides."""

        def shop():
            sign_in, _, reserve = shop_solution()

            def admit(redis, customer):
                script = """
                local now = redis.call('TIME')
                local us = now[1] * 1000000 + now[2]
                redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', us - 60000000)
                if redis.call('ZCARD', KEYS[1]) >= 3 then return 0 end
                local name = us .. '-' .. redis.call('ZCARD', KEYS[1])
                redis.call('ZADD', KEYS[1], us, name)
                redis.call('EXPIRE', KEYS[1], 60)
                return 1
                """
                return redis.eval(script, 1, f"calls:{customer}") == 1

            return sign_in, admit, reserve

        found = check("16.2", shop)
        assert found.passed, str(found)
