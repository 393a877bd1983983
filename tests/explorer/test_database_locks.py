"""What a database refuses at once is refused; what it makes wait is waited for."""

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from labsupport import explore
from labsupport.errors import DatabaseBusyError


@pytest.fixture
def sqlite(tmp_path):
    """Makes an engine on a table of one row."""

    def make(**options):
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'a.db'}", connect_args=options)
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)")
        made.append(engine)
        return engine

    made = []
    yield make
    for engine in made:
        engine.dispose()


class TestPolling:
    """A statement of one's own engine says whether it changed anything; a COMMIT frees its locks."""

    def test_as_often_as_it_changes_something(self, sqlite):
        engine = sqlite()

        def adds(redis, db):
            for _ in range(10):
                with engine.begin() as connection:
                    connection.exec_driver_sql("UPDATE t SET n = n + 1")

        def looks(redis, db):
            with engine.connect() as connection:
                return connection.exec_driver_sql("SELECT n FROM t").scalar()

        report = explore(
            {"a": adds, "b": looks},
            given=fills(engine, "t"),
            invariant=lambda redis, db, told: told["b"] != 4,
        )
        assert (report.interleavings, report.violations) == (21, 2)

    def test_by_a_statement_that_finds_nothing(self, sqlite):
        engine = sqlite()
        take = "UPDATE t SET n = 2 WHERE id = (SELECT id FROM t WHERE n = 1 LIMIT 1) RETURNING id"

        def works(redis, db):
            with engine.connect() as connection:
                while True:
                    found = connection.exec_driver_sql(take).fetchall()
                    connection.commit()
                    if found:
                        return redis.rpush("did", found[0][0])

        def adds(redis, db):
            with engine.begin() as connection:
                connection.exec_driver_sql("INSERT INTO t VALUES (2, 1)")

        report = explore(
            {"a": works, "b": adds},
            given=fills(engine, "t"),
            invariant=lambda redis, db: redis.lrange("did", 0, -1) == ["2"],
        )
        assert (report.violations, report.exhausted) == (0, True)


@pytest.fixture
def stock(postgresql):
    """An engine on PostgreSQL, with a table of one row."""
    engine = sa.create_engine(postgresql.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE stock(id INTEGER PRIMARY KEY, n INTEGER)")
    yield engine
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE stock")
    engine.dispose()


def fills(engine, table):
    def given(redis, db):
        with engine.begin() as connection:
            connection.exec_driver_sql(f"DELETE FROM {table}")
            connection.exec_driver_sql(f"INSERT INTO {table} VALUES (1, 0)")

    return given


def counts(engine, *before, table="t"):
    """A client that adds one, and says whether it was refused."""

    def count(redis, db):
        try:
            with engine.begin() as connection:
                for sql in before:
                    connection.exec_driver_sql(sql)
                connection.exec_driver_sql(f"UPDATE {table} SET n = n + 1 WHERE id = 1")
                redis.incr("done")
        except OperationalError:
            return "refused"
        return "done"

    return count


def nobody_is_refused(redis, db, told):
    """Nobody is refused"""
    return "refused" not in told.values()


class TestSqlite:
    @pytest.mark.parametrize(
        ("level", "seen"), [("AUTOCOMMIT", {0, 1, 3}), ("SERIALIZABLE", {0, 3})]
    )
    def test_many_rows_at_once(self, sqlite, level, seen):
        """Outside of a transaction each row of an executemany is committed on its own."""
        engine = sqlite().execution_options(isolation_level=level)
        add, found = sa.text("UPDATE t SET n = n + :more"), set()

        def adds(redis, db):
            with engine.connect() as connection:
                count = connection.execute(add, [{"more": 1}, {"more": 2}]).rowcount
                if level != "AUTOCOMMIT":
                    connection.commit()
            return count

        def looks(redis, db):
            with engine.connect() as connection:
                found.add(connection.exec_driver_sql("SELECT n FROM t").scalar())

        explore(
            {"a": adds, "b": looks},
            given=fills(engine, "t"),
            invariant=lambda redis, db, told: told["a"] == 2,
        ).check()
        assert found == seen

    @pytest.mark.parametrize(("seconds", "refused"), [(0, True), (5, False)])
    def test_a_timeout_of_none(self, sqlite, seconds, refused):
        """timeout=0 is refused at once; the usual five seconds are waited for."""
        engine = sqlite(timeout=seconds)
        report = explore(
            {"a": counts(engine), "b": counts(engine)},
            given=fills(engine, "t"),
            invariant=nobody_is_refused,
        )
        assert report.exhausted
        assert bool(report.violations) is refused

    def test_a_read_that_becomes_a_write(self, sqlite):
        """In a deferred transaction SQLite refuses it at once, as to wait would be a deadlock."""
        engine = sqlite()

        @sa.event.listens_for(engine, "connect")
        def connects(connection, record):
            connection.isolation_level = None

        @sa.event.listens_for(engine, "begin")
        def begins(connection):
            connection.exec_driver_sql("BEGIN")

        engine.dispose()
        client = counts(engine, "SELECT n FROM t")
        report = explore(
            {"a": client, "b": client}, given=fills(engine, "t"), invariant=nobody_is_refused
        )
        assert {finding.kind for finding in report.findings} == {"broken"}

    def test_a_commit_waits_for_a_reader(self, sqlite):
        """It is taken when the reader has ended, and is no error."""
        engine = sqlite()

        def reads(redis, db):
            with engine.connect() as connection:
                connection.exec_driver_sql("BEGIN")
                connection.exec_driver_sql("SELECT n FROM t").all()
                redis.ping()

        report = explore(
            {"reader": reads, "writer": counts(engine)},
            given=fills(engine, "t"),
            invariant=nobody_is_refused,
        )
        report.check()
        assert report.interleavings > 1


class TestPostgresql:
    @pytest.mark.parametrize(
        ("before", "refused"),
        [
            (["SELECT n FROM stock WHERE id = 1 FOR UPDATE NOWAIT"], True),
            (["SET LOCAL lock_timeout = '5s'"], True),
            (["SELECT set_config('lock_timeout', '5s', true)"], True),
            (["SELECT n FROM stock WHERE id = 1 FOR UPDATE"], False),
            (["SET LOCAL lock_timeout = '5s'", "SET LOCAL lock_timeout = 0"], False),
        ],
        ids=lambda value: value[0][:20] if isinstance(value, list) else "",
    )
    def test_what_is_refused_and_what_waits(self, stock, before, refused):
        report = explore(
            {"a": counts(stock, table="stock"), "b": counts(stock, *before, table="stock")},
            given=fills(stock, "stock"),
            invariant=nobody_is_refused,
        )
        assert report.exhausted
        assert bool(report.violations) is refused

    def test_a_retry_after_a_refusal(self, stock):
        """A loop that tries NOWAIT again waits until the holder has moved."""
        nowait = counts(stock, "SELECT n FROM stock WHERE id = 1 FOR UPDATE NOWAIT", table="stock")

        def insists(redis, db):
            while nowait(redis, db) == "refused":
                pass

        report = explore(
            {"a": counts(stock, table="stock"), "b": insists},
            given=fills(stock, "stock"),
            invariant=lambda redis, db: redis.get("done") == "2",
        )
        report.check()

    def test_in_a_session_of_the_explorer(self, postgresql, monkeypatch):
        """The db that a function is handed refuses NOWAIT, too."""
        monkeypatch.setenv("DATABASE_URL", postgresql)
        from labsupport.exploration.testbed import close_testbed

        close_testbed()

        def holds(redis, db):
            with db.transaction():
                db.execute("UPDATE products SET stock = 1 WHERE id = 1")
                redis.ping()

        def asks(redis, db):
            with db.transaction():
                db.fetch_one("SELECT stock FROM products WHERE id = 1 FOR UPDATE NOWAIT")

        try:
            report = explore(
                {"a": holds, "b": asks}, invariant=lambda redis, db: True, stop="first"
            )
        finally:
            close_testbed()
        assert "DatabaseBusyError" in report.findings[0].reason
        assert DatabaseBusyError.__name__ in str(report)
