"""The exercises of lab 15: what breaks each stub, and other good answers."""

import asyncio

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from labsupport import check, explore
from labsupport.errors import InvalidSettingError
from labsupport.labs.own_code.exercises import EXERCISES
from labsupport.labs.own_code.shop import Order, Product, restock


@pytest.mark.long  # the notebooks show it, and are checked in any case
def test_what_breaks_each_stub():
    """Each stub fails where its exercise is about: two writers, a crash, a lock that is over."""
    first, second, third = (check(one.number, one.stub) for one in EXERCISES)
    assert "It passes for a shop that is wrong. It writes the row and then the cache" in str(first)
    assert "It passes for a shop that is wrong. It counts, and then sets the end" in str(second)
    assert "Two at once: The stock was 1 and is 0 now; orders written: 2" in str(third)
    assert "lock:1 expires" in str(third)


@pytest.mark.long
class TestOtherGoodAnswers:
    def test_a_test_that_collects(self):
        """Prices that are told afterwards, by reports that are looked at together."""

        def test_prices(shop):
            async def told_afterwards(redis, db):
                price = await shop.price(1)
                async with AsyncSession(shop.engine) as session:
                    row = await session.scalar(sa.select(Product.price).where(Product.id == 1))
                return price == row

            async def change(cents):
                await shop.reprice(1, cents)

            async def warm(redis, db):
                await restock(shop.engine, price=70)
                await shop.price(1)

            cold = lambda redis, db: restock(shop.engine, price=70)  # noqa: E731
            reports = [
                explore(
                    {"a": lambda r, d: change(1), "b": other},
                    given=given,
                    invariant=told_afterwards,
                )
                for given in (cold, warm)
                for other in (lambda r, d: change(2), lambda r, d: shop.price(1))
            ]
            assert [report.violations for report in reports] == [0] * 4

        found = check("15.1", test_prices)
        assert found.passed, str(found)

    def test_a_limit_asked_in_one(self):
        """Two callers at once after a first one, and keys that are looked at with TTL in the same go."""

        def test_limit(shop):
            async def right(redis, db, told):
                ends = [await redis.pttl(key) for key in await redis.keys()]
                return -1 not in ends and sorted(told.values()) in ([], [True], [True, False])

            async def one(redis, db):
                return await shop.admit("bob")

            def twice(name):
                async def given(redis, db):
                    await shop.admit(name)
                    await shop.admit(name)

                return given

            async def goes_on_asking(redis, db):
                for _ in range(2):
                    assert not await shop.admit("bob")
                    await asyncio.sleep(31)
                return await shop.admit("bob")

            explore(
                {"a": one, "b": one},
                given=one,
                invariant=lambda r, d, told: right_count(told),
            ).check()
            explore({"a": one, "b": one}, invariant=lambda r, d, told: all(told.values())).check()
            for client, before in ((one, "eve"), (goes_on_asking, "bob")):
                explore(
                    {"a": client},
                    given=twice(before),
                    invariant=lambda r, d, told: told["a"] is True,
                ).check()
            explore({"a": one}, invariant=right, crashes=True).check()

        def right_count(told):
            return sorted(told.values()) == [False, True]

        found = check("15.2", test_limit)
        assert found.passed, str(found)

    def test_a_sale_that_compares(self):
        """Optimistic: the row must be as it was read, else once more; and a lock beside it does no harm."""

        async def sell(engine, redis, product, customer):
            async with AsyncSession(engine) as session:
                while True:
                    seen = await session.scalar(
                        sa.select(Product.stock).where(Product.id == product)
                    )
                    if seen < 1:
                        return False
                    same = sa.update(Product).where(Product.id == product, Product.stock == seen)
                    if (await session.execute(same.values(stock=seen - 1))).rowcount:
                        break
                    await session.rollback()
                session.add(Order(product_id=product, customer=customer))
                await session.commit()
            return True

        found = check("15.3", sell)
        assert found.passed, str(found)

    def test_a_sale_that_returns(self):
        """RETURNING in place of the count, and a lock that only spares the database."""

        async def sell(engine, redis, product, customer):
            taken = sa.update(Product).where(Product.id == product, Product.stock >= 1)
            async with redis.lock(f"lock:{product}", timeout=1), engine.begin() as connection:
                text = taken.values(stock=Product.stock - 1).returning(Product.stock)
                if (await connection.execute(text)).first() is None:
                    return False
                order = {"product_id": product, "customer": customer}
                await connection.execute(sa.insert(Order), [order])
            return True

        found = check("15.3", sell)
        assert found.passed, str(found)


def test_a_coroutine_is_no_test():
    async def test_prices(shop):
        await shop.price(1)

    with pytest.raises(InvalidSettingError, match="Write a plain function"):
        check("15.1", test_prices)
    found = check("15.1", lambda shop: test_prices(shop))
    assert "Write a plain function" in found.reason


def test_a_plain_function_is_no_sale():
    found = check("15.3", lambda engine, redis, product, customer: True)
    assert "async def" in found.reason
