"""Wrong answers to the exercises of lab 15, and what each must be refused for."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from labsupport import explore
from labsupport.labs.own_code.exercises import test_limit_solution
from labsupport.labs.own_code.shop import Order, Product, restock
from tests.exercises.zoo import Zoo

ZOO = Zoo()
wrong = ZOO.wrong


# 15.1


def reader(shop):
    return lambda redis, db: shop.price(1)


def writer(shop, cents=90):
    return lambda redis, db: shop.reprice(1, cents)


def stocked(shop):
    return lambda redis, db: restock(shop.engine)


def up_to_date(shop):
    async def same(redis, db):
        async with AsyncSession(shop.engine) as session:
            return await shop.price(1) == (await session.get_one(Product, 1)).price

    return same


@wrong("15.1", because="deletes the cached price before it writes the row")
def looks_at_nothing(shop):
    explore(
        {"reader": reader(shop), "writer": writer(shop)},
        given=stocked(shop),
        invariant=lambda redis, db: True,
    ).check()


@wrong("15.1", because="passes for a shop that is wrong")
def does_not_check(shop):
    explore(
        {"reader": reader(shop), "writer": writer(shop)},
        given=stocked(shop),
        invariant=up_to_date(shop),
    )


@wrong("15.1", because="fails for a shop that is right. A change leaves a mark")
def knows_what_is_in_the_cache(shop):
    async def same(redis, db):
        return await redis.get("price:1") in (None, "90")

    explore(
        {"reader": reader(shop), "writer": writer(shop)}, given=stocked(shop), invariant=same
    ).check()


@wrong("15.1", because="deletes the cached price before it writes the row")
def has_writers_alone(shop):
    explore(
        {"writer": writer(shop), "other": writer(shop, 80)},
        given=stocked(shop),
        invariant=up_to_date(shop),
    ).check()


@wrong("15.1", because="fails for a shop that is right")
def wants_the_new_price_at_once(shop):
    explore(
        {"reader": reader(shop), "writer": writer(shop)},
        given=stocked(shop),
        invariant=lambda redis, db, told: told["reader"] == 90,
    ).check()


@wrong("15.1", because="deletes the cached price before it writes the row")
def goes_one_after_the_other(shop):
    async def all_of_it(redis, db):
        await shop.price(1)
        await shop.reprice(1, 90)
        assert await shop.price(1) == 90

    explore({"ada": all_of_it}, given=stocked(shop), invariant=up_to_date(shop)).check()


@wrong("15.1", because="of two changes at once")
def lets_two_change_to_the_same(shop):
    for others in ({"reader": reader(shop)}, {"other": writer(shop)}):
        explore(
            {"writer": writer(shop), **others}, given=stocked(shop), invariant=up_to_date(shop)
        ).check()


@wrong("15.1", because="It fails for a shop that is right")
def fails_always(shop):
    raise AssertionError("It is wrong.")


# 15.2


def calls(shop, names="abc"):
    return {name: lambda redis, db: shop.admit("ada") for name in names}


def two(redis, db, told):
    return sum(told.values()) == 2


def all_ends(redis, db):
    return all(redis.ttl(key) >= 0 for key in redis.keys("*"))


@wrong("15.2", because="It looks how many there were")
def asks_for_crashes_alone(shop):
    explore(calls(shop, "a"), invariant=all_ends, crashes=True).check()


@wrong("15.2", because="It counts, and then sets the end")
def asks_for_two_alone(shop):
    explore(calls(shop), invariant=two).check()


@wrong("15.2", because="It counts, and then sets the end")
def knows_no_crash(shop):
    explore(calls(shop), invariant=two).check()
    explore(calls(shop, "a"), invariant=all_ends).check()


@wrong("15.2", because="fails for a shop that is right")
def wants_a_counter_after_a_crash(shop):
    explore(calls(shop), invariant=two).check()
    explore(
        calls(shop, "a"), invariant=lambda redis, db: redis.ttl("calls:ada") > 0, crashes=True
    ).check()


@wrong("15.2", because="It looks how many there were")
def calls_one_after_the_other(shop):
    async def three(redis, db):
        return [await shop.admit("ada") for _ in range(3)]

    explore(
        {"a": three}, invariant=lambda redis, db, told: told["a"] == [True, True, False]
    ).check()
    explore(calls(shop, "a"), invariant=all_ends, crashes=True).check()


@wrong("15.2", because="It admits nobody")
def is_content_with_none(shop):
    explore(calls(shop), invariant=lambda redis, db, told: sum(told.values()) <= 2).check()
    explore(calls(shop, "a"), invariant=all_ends, crashes=True).check()


@wrong("15.2", because="All customers share one counter")
def knows_one_customer(shop):
    explore(calls(shop), invariant=two).check()
    explore(calls(shop, "a"), invariant=all_ends, crashes=True).check()


@wrong("15.2", because="Its minute has sixty minutes")
def does_not_wait(shop):
    async def both(redis, db):
        return [await shop.admit(name) for name in ("ada", "ada", "bob")]

    explore(calls(shop), invariant=two).check()
    explore(calls(shop, "a"), invariant=all_ends, crashes=True).check()
    explore({"a": both}, invariant=lambda redis, db, told: all(told["a"])).check()


# 15.3


@wrong("15.3", situation="Two at once", because="The stock was 1 and is 0 now; orders written: 2")
async def without_a_lock(engine, redis, product, customer):
    async with AsyncSession(engine) as session:
        found = await session.get_one(Product, product)
        if found.stock < 1:
            return False
        found.stock -= 1
        session.add(Order(product_id=product, customer=customer))
        await session.commit()
    return True


@wrong("15.3", situation="A crash", because="Nobody can move on")
async def a_lock_for_ever(engine, redis, product, customer):
    async with redis.lock(f"lock:{product}"), AsyncSession(engine) as session:
        found = await session.get_one(Product, product)
        if found.stock < 1:
            return False
        found.stock -= 1
        session.add(Order(product_id=product, customer=customer))
        await session.commit()
    return True


def one_less(product):
    found = sa.update(Product).where(Product.id == product, Product.stock > 0)
    return found.values(stock=Product.stock - 1)


@wrong("15.3", situation="A crash", because="The stock was 1 and is 0 now; orders written: 0")
async def in_two_transactions(engine, redis, product, customer):
    async with AsyncSession(engine) as session:
        if (await session.execute(one_less(product))).rowcount == 0:
            return False
        await session.commit()
        session.add(Order(product_id=product, customer=customer))
        await session.commit()
    return True


@wrong("15.3", situation="One after the other", because="now; orders written: 3")
async def looks_at_no_count(engine, redis, product, customer):
    async with AsyncSession(engine) as session:
        await session.execute(one_less(product))
        session.add(Order(product_id=product, customer=customer))
        await session.commit()
    return True


@wrong("15.3", situation="One after the other", because="was told True", sequential=True)
async def does_not_commit(engine, redis, product, customer):
    async with AsyncSession(engine) as session:
        if (await session.execute(one_less(product))).rowcount == 0:
            return False
        session.add(Order(product_id=product, customer=customer))
    return True


@wrong("15.3", situation="One after the other", because="The reply is None", sequential=True)
async def tells_nobody(engine, redis, product, customer):
    async with AsyncSession(engine) as session:
        if (await session.execute(one_less(product))).rowcount:
            session.add(Order(product_id=product, customer=customer))
        await session.commit()


@wrong("15.3", situation="One after the other", because="The reply is None", sequential=True)
async def tells_nobody_that_there_is_none(engine, redis, product, customer):
    async with AsyncSession(engine) as session:
        if (await session.execute(one_less(product))).rowcount:
            session.add(Order(product_id=product, customer=customer))
            await session.commit()
            return True
    return None


@wrong("15.3", situation="One after the other", because="Another product was sold", sequential=True)
async def takes_from_all(engine, redis, product, customer):
    taken = sa.update(Product).where(Product.stock > 0).values(stock=Product.stock - 1)
    async with AsyncSession(engine) as session:
        if (await session.execute(taken)).rowcount == 0:
            return False
        session.add(Order(product_id=product, customer=customer))
        await session.commit()
    return True


@wrong("15.3", situation="One after the other", because="The reply is 1", sequential=True)
async def tells_a_number(engine, redis, product, customer):
    async with AsyncSession(engine) as session:
        count = (await session.execute(one_less(product))).rowcount
        if count:
            session.add(Order(product_id=product, customer=customer))
            await session.commit()
    return count


@wrong("15.3", because="told False, and")
async def tries_the_lock_once(engine, redis, product, customer):
    lock = redis.lock(f"lock:{product}", timeout=5)
    if not await lock.acquire(blocking=False):
        return False
    async with AsyncSession(engine) as session:
        taken = (await session.execute(one_less(product))).rowcount == 1
        if taken:
            session.add(Order(product_id=product, customer=customer))
            await session.commit()
    await lock.release()
    return taken


def changed(shop, invariant, given=None):
    """A reader and a change, then two changes once a reader was there."""

    async def warm(redis, db):
        await restock(shop.engine)
        await shop.price(1)

    for others, start in (
        ({"reader": reader(shop)}, stocked(shop)),
        ({"other": writer(shop, 80)}, given or warm),
    ):
        explore({"writer": writer(shop), **others}, given=start, invariant=invariant).check()


@wrong("15.1", because="where a price is there")
def begins_with_an_empty_cache(shop):
    changed(shop, up_to_date(shop), given=stocked(shop))


@wrong("15.1", because="is told the old price once more")
def looks_at_the_second_reader(shop):
    async def later(redis, db):
        await shop.price(1)
        return await up_to_date(shop)(redis, db)

    changed(shop, later)


@wrong("15.1", because="its key has another name")
def knows_the_key(shop):
    async def same(redis, db):
        if not str(await redis.get("price:1")).isdigit():
            return True
        return await up_to_date(shop)(redis, db)

    changed(shop, same)


@wrong("15.2", because="sets the end, under another name")
def knows_the_counter(shop):
    explore(calls(shop), invariant=two).check()
    explore(
        calls(shop, "a"), invariant=lambda redis, db: redis.ttl("calls:ada") != -1, crashes=True
    ).check()


@wrong("15.2", because="finds another one counting is refused")
def lets_fewer_in_at_once(shop):
    async def one_by_one(redis, db):
        return [await shop.admit(name) for name in ("ada", "ada", "ada", "bob")]

    def ends(redis, db):
        return all(0 <= redis.ttl(key) <= 60 for key in redis.keys("*"))

    explore(calls(shop), invariant=lambda redis, db, told: sum(told.values()) <= 2).check()
    explore(calls(shop, "a"), invariant=ends, crashes=True).check()
    explore(
        {"a": one_by_one}, invariant=lambda redis, db, told: told["a"] == [True, True, False, True]
    ).check()


@wrong("15.3", situation="Overtaken at each UPDATE", because="told False, and 10 of 13")
async def compares_three_times(engine, redis, product, customer):
    for _ in range(3):
        async with AsyncSession(engine) as session:
            seen = await session.scalar(sa.select(Product.stock).where(Product.id == product))
            await session.rollback()
            if seen < 1:
                return False
            same = sa.update(Product).where(Product.id == product, Product.stock == seen)
            if (await session.execute(same.values(stock=seen - 1))).rowcount:
                session.add(Order(product_id=product, customer=customer))
                await session.commit()
                return True
    return False


@wrong("15.1", because="a reader who was slow fills in the old")
def begins_with_a_cached_price(shop):
    async def warm(redis, db):
        await restock(shop.engine)
        await shop.price(1)

    async def twice(redis, db):
        await shop.reprice(1, 90)
        await shop.reprice(1, 80)

    for one, other in ((twice, reader(shop)), (writer(shop), writer(shop, 80))):
        explore({"one": one, "other": other}, given=warm, invariant=up_to_date(shop)).check()


@wrong("15.2", because="that is an error, and no finding")
def looks_before_it_begins(shop):
    async def used_up(redis, db):
        assert [await shop.admit("ada") for _ in range(3)] == [True, True, False]

    explore(calls(shop), invariant=lambda redis, db, told: sum(told.values()) <= 2).check()
    explore(calls(shop, "a"), invariant=all_ends, crashes=True).check()
    explore(calls(shop, "a"), given=used_up, invariant=lambda redis, db: True).check()


@wrong("15.3", situation="One after the other", because="Another product was sold", sequential=True)
async def writes_the_usual_order(engine, redis, product, customer):
    async with AsyncSession(engine) as session:
        if (await session.execute(one_less(product))).rowcount == 0:
            return False
        session.add(Order(product_id=1, customer=customer))
        await session.commit()
    return True


@wrong("15.2", because="Each call begins the minute anew")
def does_not_go_on_asking(shop):
    async def a_minute_later(redis, db):
        said = [await shop.admit(name) for name in ("ada", "ada", "ada", "bob")]
        for key in await redis.keys("*"):
            await redis.delete(key)
        return [*said, await shop.admit("ada")]

    def ends(redis, db):
        return all(0 <= redis.ttl(key) <= 60 for key in redis.keys("*"))

    explore(calls(shop), invariant=two).check()
    explore(calls(shop, "a"), invariant=ends, crashes=True).check()
    right = [True, True, False, True, True]
    explore({"a": a_minute_later}, invariant=lambda redis, db, told: told["a"] == right).check()


@wrong("15.3", situation="One after the other", because="d'Arc  was told True", sequential=True)
async def customers_in_small_letters(engine, redis, product, customer):
    async with engine.begin() as connection:
        taken = (await connection.execute(one_less(product))).rowcount == 1
        if taken:
            order = {"product_id": product, "customer": customer.lower()}
            await connection.execute(sa.insert(Order).values(order))
    return taken


@wrong("15.2", because="fails for a shop that is right")
def knows_the_name_of_the_counter(shop):
    async def counts(redis, db):
        return await redis.keys("*") == ["calls:ada"]

    test_limit_solution(shop)
    explore(calls(shop, "a"), invariant=counts).check()


@wrong("15.3", situation="One after the other", because="d'Arc  was told True", sequential=True)
async def customers_without_their_blanks(engine, redis, product, customer):
    async with engine.begin() as connection:
        taken = (await connection.execute(one_less(product))).rowcount == 1
        if taken:
            order = {"product_id": product, "customer": customer.strip()}
            await connection.execute(sa.insert(Order).values(order))
    return taken
