"""The exercises of lab 15: two tests that tell right from wrong, and a sale that no lock can keep."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code=attr-defined

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from labsupport.exercises import Exercise
from labsupport.exploration import explore
from labsupport.labs.own_code.checks import check_limit_test, check_price_test, check_sell
from labsupport.labs.own_code.shop import Order, Product, restock

__all__ = ["EXERCISES"]


def test_prices_stub(shop):
    """Fail, with an AssertionError, for every shop whose prices may stay old; pass for the others.

    shop has the coroutine functions price(product) and reprice(product, cents), and its engine;
    restock(shop.engine) writes product 1 at 100. Readers and changes come at once, even two
    changes; a reader may have come before. When all have finished, the next reader must be
    told what the table says. Each `explore` may run 2,000 orders: three clients have more.
    """

    async def up_to_date(redis, db):
        async with AsyncSession(shop.engine) as session:
            return await shop.price(1) == (await session.get_one(Product, 1)).price

    explore(
        {
            "reader": lambda redis, db: shop.price(1),
            "writer": lambda redis, db: shop.reprice(1, 90),
        },
        invariant=up_to_date,
        given=lambda redis, db: restock(shop.engine),
    ).check()


def test_prices_solution(shop):
    """Fail, with an AssertionError, for every shop whose prices may stay old; pass for the others."""

    async def up_to_date(redis, db):
        async with AsyncSession(shop.engine) as session:
            return await shop.price(1) == (await session.get_one(Product, 1)).price

    def writer(cents):
        return lambda redis, db: shop.reprice(1, cents)

    async def nothing_cached(redis, db):
        await restock(shop.engine)

    async def price_cached(redis, db):
        await restock(shop.engine)
        await shop.price(1)

    reader = {"reader": lambda redis, db: shop.price(1)}
    for others, given in ((reader, nothing_cached), ({"other": writer(80)}, price_cached)):
        explore({"writer": writer(90), **others}, invariant=up_to_date, given=given).check()


def test_limit_stub(shop):
    """Fail, with an AssertionError, for every shop whose limit may fail; pass for the others.

    shop.admit(customer) is a coroutine function: True for the first two calls of a customer in a
    minute, whoever calls at once, else False; when the minute is over, for two more. What it keeps in
    Redis ends by itself, wherever a process crashes: nobody is locked out for ever.
    """
    explore(
        {name: lambda redis, db: shop.admit("ada") for name in ("a", "b", "c")},
        invariant=lambda redis, db, told: sum(told.values()) <= 2,
    ).check()


def test_limit_solution(shop):
    """Fail, with an AssertionError, for every shop whose limit may fail; pass for the others."""

    def two_are_let_in(redis, db, told):
        return sum(told.values()) == 2

    def all_ends(redis, db):
        return all(0 <= redis.ttl(key) <= 60 for key in redis.keys("*"))

    async def one_by_one(redis, db):
        return [await shop.admit(customer) for customer in ("ada", "ada", "ada", "bob")]

    def each_has_two(redis, db, told):
        return told["a"] == [True, True, False, True]

    async def half_a_minute_later(redis, db):
        await shop.admit("ada")
        for key in await redis.keys("*"):
            await redis.expire(key, 30)
        await shop.admit("ada")

    def ends_when_it_would_have(redis, db):
        return all(redis.ttl(key) <= 30 for key in redis.keys("*"))

    three = {name: lambda redis, db: shop.admit("ada") for name in ("a", "b", "c")}
    explore(three, invariant=two_are_let_in).check()
    explore({"a": three["a"]}, invariant=all_ends, crashes=True).check()
    explore({"a": one_by_one}, invariant=each_has_two).check()
    explore({"a": half_a_minute_later}, invariant=ends_when_it_would_have).check()


async def sell_stub(engine, redis, product, customer):
    """Take one piece from products and write an order for the customer: both, or neither.

    Return True, or False if none is left. engine is SQLAlchemy's, asynchronous, and redis is
    redis.asyncio's. Many processes sell at once; each may pause for any time, or crash, and the next
    customer is served all the same.
    """
    async with redis.lock(f"lock:{product}", timeout=5), AsyncSession(engine) as session:
        found = await session.get_one(Product, product)
        if found.stock < 1:
            return False
        found.stock -= 1
        session.add(Order(product_id=product, customer=customer))
        await session.commit()
    return True


async def sell_solution(engine, redis, product, customer):
    """Take one piece from products and write an order for the customer: both, or neither."""
    one_less = (
        sa.update(Product)
        .where(Product.id == product, Product.stock > 0)
        .values(stock=Product.stock - 1)
    )
    async with AsyncSession(engine) as session:
        if (await session.execute(one_less)).rowcount == 0:
            return False
        session.add(Order(product_id=product, customer=customer))
        await session.commit()
    return True


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="15.1",
        title="A test for prices",
        stub=test_prices_stub,
        solution=test_prices_solution,
        hints=(
            "Which of the shops above can this test not tell from a right one? It has one writer.",
            "Two writers at once are another race. It needs no reader, but it may matter "
            "whether a price is in the cache.",
            "Call `explore` twice in the test: a writer with a reader, and a writer with another writer "
            "who asks for another price, once a reader was there (in `given`). Three clients at once "
            "would have too many orders.",
        ),
        check=check_price_test,
    ),
    Exercise(
        number="15.2",
        title="A test for a limit",
        stub=test_limit_stub,
        solution=test_limit_solution,
        hints=(
            "At most two is safe. Is a limit that lets nobody in a good one?",
            "And what does a process that crashes half-way leave behind? `crashes=True` asks that, and "
            "the invariant has to look for it.",
            "Four explorations: of three calls exactly two are let in; after one call with crashes, "
            "`0 <= redis.ttl(key) <= 60` for every key; one client who calls for ada three times and "
            "for bob once; and one who calls again when every key has 30 s left, and then none has more.",
        ),
        check=check_limit_test,
    ),
    Exercise(
        number="15.3",
        title="Sell what is there",
        stub=sell_stub,
        solution=sell_solution,
        hints=(
            "The lock ends after 5 seconds, whatever its owner does. Who would have to notice?",
            "The table can: it sees every writer. Let the statement that takes the piece say under "
            "which condition, and look at how many rows it has changed.",
            "`UPDATE products SET stock = stock - 1 WHERE id = … AND stock > 0`; if `rowcount` is 0, "
            "nothing is left. The order goes into the same transaction. The lock may go.",
        ),
        check=check_sell,
    ),
)
