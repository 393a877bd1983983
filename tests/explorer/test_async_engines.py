"""Asynchronous SQLAlchemy engines are stepped like synchronous ones: statement by statement, task by task."""

import asyncio
import gc

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from labsupport import explore


class Base(DeclarativeBase):
    pass


class Stock(Base):
    __tablename__ = "stock"
    id: Mapped[int] = mapped_column(primary_key=True)
    left: Mapped[int]


@pytest.fixture(params=["sqlite", "postgresql"])
def engines(request, tmp_path):
    """The asynchronous engine, and a synchronous one on the same data."""
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"
        sync = sa.create_engine(url.replace("+aiosqlite", ""))
    else:
        server = request.getfixturevalue("postgresql")
        url = server.replace("postgresql:", "postgresql+psycopg:")
        sync = sa.create_engine(url)
    Base.metadata.create_all(sync)
    made = create_async_engine(url)
    yield made, sync
    asyncio.run(made.dispose())
    Base.metadata.drop_all(sync)
    sync.dispose()


def shop(engine, *, lock=False):
    """How many were sold of the one that is there: given, the clients' function, the invariant."""

    async def given(redis, db):
        async with AsyncSession(engine) as session:
            await session.execute(sa.delete(Stock))
            session.add(Stock(id=1, left=1))
            await session.commit()

    async def buy(redis, db):
        async with AsyncSession(engine) as session:
            query = sa.select(Stock).where(Stock.id == 1)
            found = (await session.scalars(query.with_for_update() if lock else query)).one()
            if found.left <= 0:
                return
            found.left -= 1
            await session.commit()
            await redis.incr("sold")

    async def never_more_than_there_were(redis, db):
        return int(await redis.get("sold") or 0) <= 1

    return given, buy, never_more_than_there_were


def test_a_lost_update_is_found(engines):
    """Two read that one is left, and both sell it; the same race as in synchronous code."""
    engine, sync = engines
    given, buy, invariant = shop(engine)
    report = explore({"ada": buy, "bob": buy}, given=given, invariant=invariant)
    assert "COMMIT" in report.schedule
    assert report.schedule.count("UPDATE stock") == 2

    def plain_given(redis, db):
        with Session(sync) as session:
            session.execute(sa.delete(Stock))
            session.add(Stock(id=1, left=1))
            session.commit()

    def plain_buy(redis, db):
        with Session(sync) as session:
            found = session.scalars(sa.select(Stock).where(Stock.id == 1)).one()
            if found.left <= 0:
                return
            found.left -= 1
            session.commit()
            redis.incr("sold")

    plain = explore(
        {"ada": plain_buy, "bob": plain_buy},
        given=plain_given,
        invariant=lambda redis, db: int(redis.get("sold") or 0) <= 1,
    )
    assert (report.interleavings, report.violations) == (plain.interleavings, plain.violations)


def test_a_row_lock_mends_it(engines):
    engine, _ = engines
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no row locks")
    given, buy, invariant = shop(engine, lock=True)
    explore({"ada": buy, "bob": buy}, given=given, invariant=invariant).check()


def test_a_crash_rolls_back(engines):
    """What a client that crashed had not committed is not there, and its lock is free."""
    engine, _ = engines
    given, buy, _ = shop(engine)

    async def left_and_sold(redis):
        async with AsyncSession(engine) as session:
            left = (await session.get_one(Stock, 1)).left
        return left, int(await redis.get("sold") or 0)

    async def never_sold_and_there(redis, db):
        return await left_and_sold(redis) != (1, 1)

    async def what_is_gone_was_counted(redis, db):
        return sum(await left_and_sold(redis)) == 1

    one, options = {"ada": buy}, {"given": given, "crashes": True}
    explore(one, **options, invariant=never_sold_and_there).check()
    report = explore(one, **options, invariant=what_is_gone_was_counted)
    assert report.findings[0].schedule[-1].move == "crash"
    assert report.violations == 1  # after the commit; before it, the crash undoes all


@pytest.mark.long
def test_what_is_abandoned_says_nothing(engines):
    """Code that awaits in its `finally`, and a client that crashed in it: closed to the last coroutine."""
    engine, _ = engines
    given, _, invariant = shop(engine)

    async def buy(redis, db):
        async with redis.lock("lock", timeout=5), AsyncSession(engine) as session:
            found = await session.get_one(Stock, 1)
            found.left -= 1
            await session.commit()

    explore(
        {"ada": buy, "bob": buy}, given=given, invariant=invariant, crashes=["ada"], max_runs=40
    )
    gc.collect()  # pytest fails where a coroutine complains


def test_tasks_of_one_client_interleave(engines):
    engine, _ = engines
    given, buy, invariant = shop(engine)

    async def twice(redis, db):
        await asyncio.gather(buy(redis, db), buy(redis, db))

    report = explore({"ada": twice}, given=given, invariant=invariant, stop="first")
    assert "task 2" in report.schedule


def test_a_replay_reads_no_rows(engines):
    """The rows of the code's own engine are its own; the database that is handed out is another."""
    engine, _ = engines
    given, buy, invariant = shop(engine)
    report = explore({"ada": buy, "bob": buy}, given=given, invariant=invariant, stop="first")
    moments = [(moment.redis, moment.tables) for moment in report.replay()]
    assert moments[-1] == ({"sold": "2"}, {})


def test_core(engines):
    """Statements without the ORM, one with many parameters, and a result that is read piece by piece."""
    engine, _ = engines

    async def client(redis, db):
        async with engine.begin() as connection:
            rows = [{"id": number, "left": 1} for number in (1, 2, 3)]
            await connection.execute(sa.delete(Stock))
            await connection.execute(sa.insert(Stock), rows)
            found = [row.id async for row in await connection.stream(sa.select(Stock.id))]
            await redis.rpush("found", *sorted(found))

    async def all_three(redis, db):
        return await redis.lrange("found", 0, -1) == ["1", "2", "3"]

    explore({"ada": client}, invariant=all_three).check()


def test_the_engine_works_as_before(engines):
    """What an exploration has left in the pool serves code outside, too."""
    engine, _ = engines
    given, buy, invariant = shop(engine)
    explore({"ada": buy}, given=given, invariant=invariant).check()

    async def left():
        async with AsyncSession(engine) as session:
            return (await session.get_one(Stock, 1)).left

    assert asyncio.run(left()) == 0


def test_a_connection_from_before(engines):
    """Another stands for it while clients are explored; afterwards it is in its pool as it was."""
    engine, _ = engines
    given, buy, invariant = shop(engine)

    async def before_and_after():
        async with engine.connect() as connection:
            before = (await connection.get_raw_connection()).dbapi_connection
        explore({"ada": buy}, given=given, invariant=invariant).check()
        async with engine.connect() as connection:
            await connection.execute(sa.text("SELECT 1"))
            assert (await connection.get_raw_connection()).dbapi_connection is before
        await engine.dispose()

    asyncio.run(before_and_after())
