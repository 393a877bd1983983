"""SQLAlchemy engines on PostgreSQL are stepped: statements, commits, and waits for a row's lock."""

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from labsupport import explore
from labsupport.errors import NotSteppableError


class Base(DeclarativeBase):
    pass


class Stock(Base):
    __tablename__ = "stock"
    id: Mapped[int] = mapped_column(primary_key=True)
    pieces: Mapped[int]


@pytest.fixture
def engine(postgresql):
    made = sa.create_engine(postgresql.replace("postgresql:", "postgresql+psycopg:"))
    Base.metadata.drop_all(made)
    Base.metadata.create_all(made)
    yield made
    Base.metadata.drop_all(made)
    made.dispose()


@pytest.fixture
def shop(engine):
    """`given` and the invariant."""

    def given(redis, db):
        with Session(engine) as session:
            session.query(Stock).delete()
            session.add_all([Stock(id=1, pieces=10), Stock(id=2, pieces=10)])
            session.commit()

    def sold(redis, db):
        with Session(engine) as session:
            return session.get(Stock, 1).pieces == 8

    return given, sold


def always(redis, db):
    return True


def test_a_lost_update_is_found(engine, shop):
    """Each statement and each commit is a step; one that waits for a lock is not taken."""
    given, sold = shop

    def sell(redis, db):
        with Session(engine) as session:
            stock = session.get(Stock, 1)
            stock.pieces -= 1
            session.commit()

    report = explore({"a": sell, "b": sell}, given=given, invariant=sold)
    assert report.violations > 0
    assert report.exhausted
    assert "UPDATE stock SET pieces=9 WHERE stock.id = 1" in report.schedule
    assert "COMMIT" in report.schedule


def test_a_row_lock_mends_it(engine, shop):
    """SELECT … FOR UPDATE: the second waits until the first has committed, in every order."""
    given, sold = shop

    def sell(redis, db):
        with Session(engine) as session:
            session.get(Stock, 1, with_for_update=True).pieces -= 1
            session.commit()

    report = explore({"a": sell, "b": sell}, given=given, invariant=sold)
    assert (report.interleavings, report.violations, report.exhausted) == (2, 0, True)


def test_a_crash_rolls_back(engine, shop):
    """What a client has begun is undone, and its locks are free."""
    given, _ = shop

    def moves(redis, db):
        with Session(engine) as session:
            session.execute(sa.update(Stock).where(Stock.id == 1).values(pieces=9))
            session.execute(sa.update(Stock).where(Stock.id == 2).values(pieces=11))
            session.commit()

    def whole(redis, db):
        with Session(engine) as session:
            return session.scalar(sa.select(sa.func.sum(Stock.pieces))) == 20

    report = explore({"a": moves, "b": moves}, given=given, invariant=whole, crashes="a")
    assert (report.violations, report.exhausted) == (0, True)


def test_a_deadlock_is_found(engine, shop):
    """Two transactions that take two rows in opposite orders wait for each other."""
    given, _ = shop

    def takes(*ids):
        def client(redis, db):
            with Session(engine) as session:
                for number in ids:
                    session.get(Stock, number, with_for_update=True)
                session.commit()

        return client

    report = explore({"a": takes(1, 2), "b": takes(2, 1)}, given=given, invariant=always)
    assert report.findings[0].kind == "stuck"
    assert "FOR UPDATE" in report.findings[0].reason


def test_savepoints_of_ones_own(engine, shop):
    """begin_nested works beside the explorer's own savepoint, and an error stays in it."""
    given, _ = shop

    def client(redis, db):
        with Session(engine) as session:
            try:
                with session.begin_nested():
                    session.execute(sa.insert(Stock).values(id=1, pieces=1))
            except sa.exc.IntegrityError:
                session.execute(sa.update(Stock).where(Stock.id == 1).values(pieces=8))
            session.commit()

    report = explore({"a": client}, given=given, invariant=shop[1])
    assert (report.interleavings, report.violations) == (1, 0)


def test_connections_wait_as_before(engine, shop):
    """An engine's connections keep the patience that they had."""
    given, _ = shop
    explore({"a": lambda r, d: given(r, d)}, given=given, invariant=always)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SHOW lock_timeout")).scalar() == "0"


def test_psycopg_by_itself_is_refused(postgresql):
    """A connection that no engine knows is refused by name, also one that was open before."""
    import psycopg

    def client(redis, db):
        redis.ping()
        with psycopg.connect(postgresql) as connection:
            connection.execute("SELECT 1")

    with psycopg.connect(postgresql) as before:
        for escape in (client, lambda r, d: before.execute("SELECT 1")):
            with pytest.raises(NotSteppableError, match="uses psycopg by itself"):
                explore({"a": escape}, invariant=always)


def test_the_first_connection_is_a_clients(postgresql):
    """What SQLAlchemy asks the server on its engine's first connection is no step, and is not refused."""
    engine = sa.create_engine(postgresql.replace("postgresql:", "postgresql+psycopg:"))

    def client(redis, db):
        with engine.connect() as connection:
            redis.set("one", connection.execute(sa.text("SELECT 1")).scalar())

    report = explore({"a": client}, invariant=lambda redis, db: redis.get("one") == "1")
    report.check()
    assert report.interleavings == 1
    engine.dispose()


@pytest.mark.parametrize(
    ("statement", "exhausted"),
    [
        (
            "UPDATE stock SET pieces = 0 WHERE id = "
            "(SELECT id FROM stock WHERE pieces > 0 ORDER BY id LIMIT 1) RETURNING id",
            False,
        ),
        ("SELECT id FROM stock WHERE pieces > 0 ORDER BY id LIMIT 1 FOR UPDATE", False),
        (
            "UPDATE stock SET pieces = 0 FROM stock AS other "
            "WHERE stock.id = 1 AND other.id = 2 AND other.pieces > 0",
            False,
        ),
        ("UPDATE stock SET pieces = pieces - 1 WHERE id = 1", True),
        ("SELECT pieces FROM stock WHERE id = 1 FOR UPDATE", True),
    ],
)
def test_a_view_that_is_too_new_is_no_answer(engine, shop, statement, exhausted):
    """What waits for a lock goes by what was there when it began, if it looks at more than the row."""

    def client(redis, db):
        with Session(engine) as session:
            session.execute(sa.text(statement))
            session.commit()

    given, _ = shop
    report = explore({"a": client, "b": client}, given=given, invariant=lambda r, d: True)
    assert report.exhausted == exhausted
    assert report.verdict.status == ("holds" if exhausted else "not exercised")
