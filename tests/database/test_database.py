"""The shop behind the cache: one contract, on SQLite and on PostgreSQL."""

import contextlib
import gc
import itertools
import json
import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labsupport.database import BESTSELLERS, Database, open_shop, shop
from labsupport.errors import (
    ConstraintError,
    DatabaseBusyError,
    DatabaseUnreachableError,
    InvalidSettingError,
    LabError,
    StatementError,
)

SHOP = ["orders", "page_stats", "page_views", "products", "users"]
GET = "SELECT * FROM users WHERE id = :id"
RENAME = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id"


def until(done: Callable[[], object], *, seconds: float = 20) -> None:
    """Wait for a state; fail when it does not come."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "the state did not come"
        time.sleep(0.01)


def ask(url: str, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a statement, past the lab."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="session")
def small_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose shop has fewer orders and views, so that a copy is quickly made."""
    repository = tmp_path_factory.mktemp("repository")
    (repository / "data").mkdir()
    kept = {"orders": 2_100, "page_views": 100}
    for table in SHOP:
        with (shop._ROOT / "data" / f"{table}.csv").open() as file:
            lines = itertools.islice(file, 1 + kept.get(table, 1_000))
            (repository / "data" / f"{table}.csv").write_text("".join(lines))
    return repository


@pytest.fixture
def small(small_repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `open_shop` load the smaller shop."""
    monkeypatch.setattr(shop, "_ROOT", small_repository)


@pytest.fixture
def db(backend: str, small: None) -> Iterator[Database]:
    """A private copy of the smaller shop."""
    with open_shop() as database:
        assert database.backend == backend
        yield database


@pytest.fixture
def sqlite_db(small: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A private copy of the smaller shop in SQLite, for what only SQLite has."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with open_shop() as database:
        yield database


def everything(db: Database) -> dict[str, Any]:
    """All tables, their columns and all their rows."""
    if db.backend == "sqlite":
        names = db.fetch_all(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'labsupport%'"
        )
    else:
        names = db.fetch_all(
            "SELECT table_name AS name FROM information_schema.tables"
            " WHERE table_schema = current_schema()"
        )
    found = {}
    for name in sorted(row["name"] for row in names):
        columns, rows, _ = db._statement(f'SELECT * FROM "{name}"', {})
        found[name] = [columns, *sorted(map(repr, rows))]
    return found


class TestStatements:
    """execute, fetch_one, fetch_all."""

    def test_rows_are_dicts_by_column(self, db: Database) -> None:
        """fetch_one gives the first row as a dict, or None."""
        user = db.fetch_one(GET, id=1)
        assert user == {
            "id": 1,
            "username": "ada",
            "email": "ada@example.com",
            "country": user and user["country"],
            "created_at": user and user["created_at"],
            "version": 1,
        }
        assert db.fetch_one(GET, id=0) is None
        assert db.fetch_all(GET, id=0) == []
        rows = db.fetch_all("SELECT id FROM users WHERE id <= :n ORDER BY id", n=3)
        assert rows == [{"id": 1}, {"id": 2}, {"id": 3}]

    def test_execute_counts_the_rows_that_it_changed(self, db: Database) -> None:
        """0 when nothing matches, as a compare-and-set needs; 0 for DDL."""
        assert db.execute(RENAME, id=1, name="grace") == 1
        assert db.execute("UPDATE users SET version = 9 WHERE id <= 10") == 10
        assert db.execute("DELETE FROM users WHERE id = 0") == 0
        assert db.execute("CREATE TABLE t (id INTEGER)") == 0
        assert db.execute("INSERT INTO t(id) VALUES (1), (2)") == 2

    def test_each_statement_commits_by_itself(self, db: Database) -> None:
        """Another session sees a change at once."""
        db.execute(RENAME, id=1, name="grace")
        with db.session() as other:
            assert other.fetch_one(GET, id=1) == db.fetch_one(GET, id=1)

    def test_returning_gives_rows(self, db: Database) -> None:
        """A changing statement may return rows, and a plain one returns none."""
        row = db.fetch_one("UPDATE users SET version = 5 WHERE id = 1 RETURNING version")
        assert row == {"version": 5}
        assert db.execute("DELETE FROM users WHERE id < 4 RETURNING id") == 3
        assert db.fetch_one("DELETE FROM users WHERE id = 4") is None

    def test_ids_count_on_when_left_out(self, db: Database) -> None:
        """An INSERT without an id gets the next one."""
        sql = "INSERT INTO page_views(product_id, user_id, viewed_at) VALUES (1, 1, 'now') RETURNING id"
        assert db.fetch_one(sql) == {"id": 101}
        assert db.fetch_one(sql) == {"id": 102}

    def test_rows_can_be_cached_as_json(self, db: Database) -> None:
        """Each value of a row is a number, a text or None; the same on both databases."""
        for table in SHOP:
            row = db.fetch_one(f"SELECT * FROM {table} WHERE id = 1")
            assert row is not None
            assert json.loads(json.dumps(row)) == row
        row = db.fetch_one(
            "SELECT COUNT(*) AS n, SUM(price_cents) AS total, AVG(version) AS mean,"
            " MAX(username) AS name, NULL AS empty, 1.5 AS x, 7 % 4 AS rest"
            " FROM users JOIN products ON users.id = products.id WHERE email LIKE 'a%'"
        )
        assert row is not None
        assert {name: type(value) for name, value in row.items()} == {
            "n": int, "total": int, "mean": float, "name": str, "empty": type(None),
            "x": float, "rest": int,
        }  # fmt: skip

    def test_times_are_text(self, postgresql: str, small: None) -> None:
        """What only PostgreSQL has comes as text or number, too."""
        with open_shop(postgresql) as db:
            row = db.fetch_one(
                "SELECT now() AS a, CAST('2025-01-02' AS date) AS b, interval '1 day' AS c,"
                " gen_random_uuid() AS d, SUM(CAST(2 AS bigint)) AS e, -1.50 AS f"
            )
        assert row is not None
        assert [type(value) for value in row.values()] == [str, str, str, str, int, float]
        assert (row["b"], row["e"], row["f"]) == ("2025-01-02", 2, -1.5)

    @pytest.mark.parametrize("value", ["O'Hara; --", "Zoë 🙂", "", None, 0, -(2**62), 0.1, True])
    def test_parameters_are_values_not_text(self, db: Database, value: object) -> None:
        """Any text, number or None passes unchanged."""
        kind = "TEXT" if isinstance(value, str) or value is None else "DOUBLE PRECISION"
        kind = "BOOLEAN" if value is True else "BIGINT" if type(value) is int else kind
        db.execute(f"CREATE TABLE t (v {kind})")
        db.execute("INSERT INTO t VALUES (:v)", v=value)
        assert db.fetch_one("SELECT v FROM t") == {"v": value}

    def test_bestsellers_are_the_same_everywhere(
        self, backend: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The expensive query gives the same ten rows on both databases, json and all."""
        with open_shop() as db:
            rows = db.fetch_all(BESTSELLERS)
        monkeypatch.delenv("DATABASE_URL", raising=False)
        with open_shop() as db:
            assert json.loads(json.dumps(rows)) == db.fetch_all(BESTSELLERS)
        assert len(rows) == 10
        assert rows[0]["revenue_cents"] > rows[9]["revenue_cents"] > 0

    def test_bestsellers_are_expensive_in_sqlite(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The aggregate takes over a thousand times the machine's steps of a lookup."""
        monkeypatch.delenv("DATABASE_URL", raising=False)

        def steps(db: Database, sql: str, **params: object) -> int:
            count = 0

            def tick() -> int:
                nonlocal count
                count += 1
                return 0

            driver = db.connection._driver  # type: ignore[attr-defined]
            driver.set_progress_handler(tick, 1)
            db.fetch_all(sql, **params)
            driver.set_progress_handler(None, 1)
            return count

        with open_shop() as db:
            assert steps(db, BESTSELLERS) > 1_000 * steps(db, GET, id=1)

    def test_bestsellers_are_expensive_in_postgresql(self, postgresql: str) -> None:
        """The planner, too, puts the aggregate at over fifty times a lookup."""

        def cost(copy: Database, sql: str) -> float:
            row = copy.fetch_one(f"EXPLAIN (FORMAT JSON) {sql}")
            assert row is not None
            return float(row["QUERY PLAN"][0]["Plan"]["Total Cost"])

        with open_shop(postgresql) as copy:
            assert cost(copy, BESTSELLERS) > 50 * cost(copy, "SELECT * FROM users WHERE id = 1")


class TestWrongStatements:
    """What a learner may mistype."""

    @pytest.mark.parametrize(
        ("sql", "params", "said"),
        [
            (GET, {}, "needs :id"),
            (GET, {"id": 1, "x": 2}, "has no :x"),
            (GET, {"x": 2}, "needs :id and has no :x"),
            (GET, {"id": [1]}, ":id .* is a list"),
            (GET, {"id": b"1"}, ":id .* is a bytes"),
            ("SELEC 1", {}, "SELEC 1.*syntax error"),
            ("SELECT * FROM nowhere", {}, "nowhere"),
            ("  ", {}, "empty"),
            ("-- nothing", {}, "empty"),
            ("BEGIN", {}, "BEGIN"),
            ("/* x */ commit;", {}, "COMMIT"),
        ],
    )
    def test_the_error_names_the_statement(
        self, db: Database, sql: str, params: dict[str, Any], said: str
    ) -> None:
        """Wrong SQL or parameters give a short error with a remedy, and the session goes on."""
        with pytest.raises(StatementError, match=said) as caught:
            db.fetch_one(sql, **params)
        assert len(str(caught.value).splitlines()) == 2
        assert len(str(caught.value)) < 300
        assert db.fetch_one(GET, id=1)

    def test_a_long_statement_is_cut_in_the_message(self, db: Database) -> None:
        """The message holds the statement's beginning, on one line."""
        with pytest.raises(StatementError, match=r"«SELECT 1, 1.*…»") as caught:
            db.fetch_one("SELECT 1, \n" + "1, " * 500 + "nothing")
        assert len(caught.value.problem) < 300

    def test_a_broken_constraint_has_its_own_error(self, db: Database) -> None:
        """A second row with the same key is refused; nothing is changed."""
        with pytest.raises(ConstraintError, match="page_stats"):
            db.execute("INSERT INTO page_stats(id, views) VALUES (500, 1), (1, 1)")
        assert db.fetch_one("SELECT * FROM page_stats WHERE id = 500") is None

    def test_a_closed_session_says_so(self, db: Database) -> None:
        """A statement on a closed session gives a clear error; closing twice is allowed."""
        other = db.session()
        other.close()
        other.close()
        with pytest.raises(DatabaseUnreachableError, match="closed"):
            other.fetch_one(GET, id=1)
        with pytest.raises(DatabaseUnreachableError, match="closed"), other.transaction():
            other.fetch_one(GET, id=1)


class TestTransactions:
    """transaction(), and two sessions at once."""

    def test_it_commits_at_the_end(self, db: Database) -> None:
        """Others see nothing before the end of the block and all of it after."""
        with db.session() as other:
            with db.transaction():
                assert not db.in_transaction  # BEGIN goes with the first statement
                db.execute(RENAME, id=1, name="grace")
                assert db.in_transaction
                assert (db.fetch_one(GET, id=1) or {})["username"] == "grace"
                assert (other.fetch_one(GET, id=1) or {})["username"] == "ada"
            assert not db.in_transaction
            assert (other.fetch_one(GET, id=1) or {})["username"] == "grace"

    def test_it_rolls_back_when_the_block_raises(self, db: Database) -> None:
        """Also on KeyboardInterrupt, which is how a learner stops a cell."""
        for error in (ValueError, KeyboardInterrupt):
            with pytest.raises(error), db.transaction():  # noqa: PT012
                db.execute(RENAME, id=1, name="grace")
                raise error
            assert (db.fetch_one(GET, id=1) or {})["username"] == "ada"

    def test_nested_ones_are_refused(self, db: Database) -> None:
        """A transaction in a transaction is an error, and the outer one is rolled back."""
        with pytest.raises(InvalidSettingError, match="inside another"), db.transaction():  # noqa: PT012
            db.execute(RENAME, id=1, name="grace")
            with db.transaction():
                pass
        assert (db.fetch_one(GET, id=1) or {})["username"] == "ada"
        with db.transaction():
            db.execute(RENAME, id=1, name="grace")

    def test_closing_a_session_rolls_back(self, db: Database) -> None:
        """A client that is gone leaves neither changes nor locks."""
        other = db.session()
        block = other.transaction()
        block.__enter__()
        other.execute(RENAME, id=1, name="grace")
        other.close()
        assert db.execute(RENAME, id=1, name="hedy") == 1
        assert (db.fetch_one(GET, id=1) or {})["version"] == 2

    @pytest.mark.parametrize("busy_seconds", [0, 0.05])
    def test_a_lock_that_is_not_free_is_busy(self, db: Database, busy_seconds: float) -> None:
        """The transaction stays usable: the same statement succeeds when the lock is free."""
        with db.session(busy_seconds=busy_seconds) as other, other.transaction():
            with db.transaction():
                db.execute(RENAME, id=1, name="grace")
                for _ in range(3):
                    with pytest.raises(DatabaseBusyError, match=r"UPDATE users|BEGIN"):
                        other.execute(RENAME, id=1, name="hedy")
            assert other.execute(RENAME, id=1, name="hedy") == 1
        assert (db.fetch_one(GET, id=1) or {})["version"] == 3

    def test_a_lone_statement_can_be_busy_too(self, db: Database) -> None:
        """Outside a transaction a write meets the lock as well; a read never does."""
        with db.session(busy_seconds=0) as other, db.transaction():
            db.execute(RENAME, id=1, name="grace")
            with pytest.raises(DatabaseBusyError):
                other.execute(RENAME, id=1, name="hedy")
            assert other.fetch_one(GET, id=1)

    def test_read_and_write_is_one_step_to_others_on_sqlite(self, sqlite_db: Database) -> None:
        """A transaction waits at its first statement, also a read, so what it has read holds."""
        db = sqlite_db
        with db.session(busy_seconds=0) as other, other.transaction():
            with db.transaction():
                user = db.fetch_one(GET, id=1)
                with pytest.raises(DatabaseBusyError):
                    other.fetch_one(GET, id=1)
                db.execute(RENAME, id=1, name="grace")
            assert user != other.fetch_one(GET, id=1)
            assert other.execute(RENAME, id=1, name="hedy") == 1

    def test_a_failed_statement_does_not_commit_in_silence(
        self, postgresql: str, small: None
    ) -> None:
        """PostgreSQL rolls back a transaction with an error in it; the block's end says so."""
        with open_shop(postgresql) as db:
            with pytest.raises(StatementError, match="rolled back"), db.transaction():  # noqa: PT012
                db.execute(RENAME, id=1, name="grace")
                with pytest.raises(StatementError):
                    db.execute("SELEC 1")
            assert (db.fetch_one(GET, id=1) or {})["username"] == "ada"

    def test_an_interrupt_at_any_moment_leaves_no_lock(self, sqlite_db: Database) -> None:
        """Wherever a learner's Interrupt arrives, the session's next statement is on its own."""
        interrupts = itertools.count()

        def interrupt(*_: object) -> None:
            next(interrupts)
            raise KeyboardInterrupt

        db = sqlite_db
        db.snapshot()
        gc.collect()
        gc.disable()  # an interrupt that comes within a __del__ of another test's garbage is lost
        earlier = signal.signal(signal.SIGALRM, interrupt)
        try:
            for at in range(100):
                with contextlib.suppress(KeyboardInterrupt):
                    signal.setitimer(signal.ITIMER_REAL, 0.000_2 + at * 0.000_02)
                    for _ in range(5_000):  # it does not come this far, unless one gets lost
                        with db.transaction():
                            db.execute(RENAME, id=1, name="grace")
                            db.execute(RENAME, id=2, name="hedy")
                        db.restore()
                signal.setitimer(signal.ITIMER_REAL, 0)
                db.execute("UPDATE users SET version = 9 WHERE id = 3")
                with db.session(busy_seconds=0) as other:
                    assert other.execute("UPDATE users SET version = 9 WHERE id = 3") == 1
                db.restore()
                versions = db.fetch_all("SELECT version FROM users WHERE id < 4")
                assert versions == [{"version": 1}] * 3
        finally:
            signal.signal(signal.SIGALRM, earlier)
            gc.enable()
        assert next(interrupts) > 50

    def test_whatever_is_around_sees_each_step(self, db: Database) -> None:
        """What a session is made with is called in place of each statement, commit and rollback, once."""
        steps: list[tuple[str, bool]] = []

        def around(sql: str, params: dict[str, Any], inside: bool, run: Callable[[], Any]) -> Any:
            steps.append((sql.split()[0], inside))
            return run()

        with db.session(busy_seconds=0, around=around) as watched:
            watched.fetch_one(GET, id=1)
            with watched.transaction():
                watched.execute(RENAME, id=1, name="grace")
            with watched.transaction():
                pass  # nothing begun, nothing to commit
            with contextlib.suppress(KeyError), watched.transaction():
                watched.execute(RENAME, id=1, name="hedy")
                raise KeyError
        within = ["UPDATE", "COMMIT", "UPDATE", "ROLLBACK"]
        assert steps == [("SELECT", False), *((word, True) for word in within)]


ID = "id INTEGER PRIMARY KEY"
CHANGES: dict[str, Callable[[Database], object]] = {
    "nothing": lambda db: db.fetch_all("SELECT id FROM users"),
    "insert": lambda db: db.execute("INSERT INTO page_stats(id, views) VALUES (900, 1), (901, 2)"),
    "insert without an id": lambda db: db.execute(
        "INSERT INTO page_views(product_id, user_id, viewed_at) VALUES (1, 1, 'now')"
    ),
    "update": lambda db: db.execute(
        "UPDATE users SET username = 'it''s', version = 7 WHERE id < 5"
    ),
    "update of the key": lambda db: db.execute("UPDATE users SET id = id + 5000 WHERE id > 990"),
    "delete": lambda db: db.execute("DELETE FROM products WHERE id IN (1, 7)"),
    "upsert": lambda db: db.execute(
        "INSERT INTO page_stats(id, views) VALUES (1, 1), (777, 1)"
        " ON CONFLICT (id) DO UPDATE SET views = page_stats.views + 1"
    ),
    "the same row many times": lambda db: [
        db.execute("DELETE FROM users WHERE id = 1"),
        db.execute("INSERT INTO users VALUES (1, 'a', 'b', 'c', 'd', 0)"),
        db.execute("UPDATE users SET version = version + 1 WHERE id = 1"),
        db.execute("UPDATE users SET id = 3000 WHERE id = 1"),
        db.execute("INSERT INTO users VALUES (1, 'a', 'b', 'c', 'd', 0)"),
    ],
    "many rows": lambda db: db.execute("UPDATE orders SET quantity = quantity + 1"),
    "all rows": lambda db: db.execute("DELETE FROM page_views"),
    "create": lambda db: db.execute("CREATE TABLE locks (name TEXT PRIMARY KEY)"),
    "alter": lambda db: [
        db.execute("ALTER TABLE users ADD COLUMN age INTEGER"),
        db.execute("UPDATE users SET age = 36 WHERE id = 1"),
    ],
    "drop": lambda db: [db.execute("DROP TABLE page_stats"), db.execute("DROP TABLE odd")],
    "rename": lambda db: db.execute("ALTER TABLE users RENAME TO people"),
    "index and update": lambda db: [
        db.execute("CREATE INDEX by_name ON users(username)"),
        db.execute(RENAME, id=1, name="grace"),
    ],
    "a table with an index, a view, and rows": lambda db: [
        db.execute("CREATE TABLE batches (name TEXT PRIMARY KEY, n INTEGER UNIQUE)"),
        db.execute("CREATE INDEX by_number ON batches(n)"),
        db.execute("CREATE VIEW few AS SELECT * FROM batches WHERE n < 5"),
        db.execute("INSERT INTO batches VALUES ('a', 1)"),
        db.execute(RENAME, id=1, name="grace"),
    ],
    "the same table anew": lambda db: [
        db.execute("DROP TABLE odd"),
        db.execute('CREATE TABLE odd ("Or der" TEXT, n INTEGER, x DOUBLE PRECISION)'),
    ],
    "a table of the learner": lambda db: [
        db.execute("DELETE FROM odd WHERE \"Or der\" = 'x'"),
        db.execute("UPDATE odd SET n = n + 1"),
        db.execute("INSERT INTO odd VALUES (NULL, NULL, 1e300)"),
    ],
}


class TestSnapshots:
    """snapshot(), restore(), forget()."""

    @pytest.fixture
    def db(self, db: Database) -> Database:
        """The shop with a table of the learner's: no key, equal rows, names with spaces."""
        db.execute('CREATE TABLE odd ("Or der" TEXT, n INTEGER, x DOUBLE PRECISION)')
        db.execute("INSERT INTO odd VALUES ('x', 1, 0.1), ('x', 1, 0.1), ('O''Hara', 2, 2.5)")
        return db

    @pytest.mark.parametrize("change", CHANGES)
    def test_restore_takes_any_change_back(self, db: Database, change: str) -> None:
        """All tables and rows are as they were, whichever session changed them; repeatedly."""
        before = everything(db)
        db.snapshot()
        with db.session() as other:
            for session in (db, other, db):
                CHANGES[change](session)
                assert (everything(db) == before) == (change == "nothing")
                db.restore()
                assert everything(db) == before
        next_id = (
            "INSERT INTO page_views(product_id, user_id, viewed_at) VALUES (1, 1, '') RETURNING id"
        )
        assert db.fetch_one(next_id) == {"id": 101}

    @pytest.mark.parametrize("change", ["insert", "update of the key", "the same row many times"])
    def test_rows_are_taken_back_one_by_one(self, sqlite_db: Database, change: str) -> None:
        """Where only rows changed, SQLite's pages are not written back, which would be slow."""
        sqlite_db.snapshot()
        version = sqlite_db.fetch_one("PRAGMA schema_version")  # writing pages back raises it
        CHANGES[change](sqlite_db)
        sqlite_db.restore()
        assert sqlite_db.fetch_one("PRAGMA schema_version") == version
        sqlite_db.execute("CREATE TABLE t (id INTEGER)")
        sqlite_db.restore()
        assert sqlite_db.fetch_one("PRAGMA schema_version") != version

    def test_all_changes_one_after_another(self, db: Database) -> None:
        """One snapshot serves for any sequence of changes."""
        before = everything(db)
        db.snapshot()
        for change in CHANGES.values():
            change(db)
            db.restore()
        assert everything(db) == before

    def test_what_was_rolled_back_leaves_no_trace(self, db: Database) -> None:
        """Nor does the counter of ids, which PostgreSQL does not roll back."""
        db.snapshot()
        sql = (
            "INSERT INTO page_views(product_id, user_id, viewed_at) VALUES (1, 1, '') RETURNING id"
        )
        with contextlib.suppress(KeyError), db.transaction():
            db.execute(sql)
            raise KeyError
        db.restore()
        assert db.fetch_one(sql) == {"id": 101}

    def test_a_later_snapshot_replaces_the_earlier(self, db: Database) -> None:
        """restore goes back to the latest one."""
        db.snapshot()
        db.execute(RENAME, id=1, name="grace")
        db.snapshot()
        db.execute(RENAME, id=1, name="hedy")
        db.restore()
        assert (db.fetch_one(GET, id=1) or {})["username"] == "grace"

    def test_forget_keeps_the_state_and_leaves_nothing_behind(self, db: Database) -> None:
        """Writes stay, and the triggers and the log are gone."""
        db.snapshot()
        db.execute(RENAME, id=1, name="grace")
        db.forget()
        assert (db.fetch_one(GET, id=1) or {})["username"] == "grace"
        if db.backend == "sqlite":
            left = db.fetch_all("SELECT name FROM sqlite_master WHERE name LIKE 'labsupport%'")
        else:
            left = db.fetch_all("SELECT 1 FROM pg_trigger WHERE tgname LIKE 'labsupport%'")
        assert left == []
        with pytest.raises(InvalidSettingError, match="no snapshot"):
            db.restore()

    def test_misuse_is_refused(self, db: Database) -> None:
        """Without a snapshot, or inside a transaction, there is a clear error."""
        with pytest.raises(InvalidSettingError, match="no snapshot"):
            db.restore()
        db.snapshot()
        for action in (db.snapshot, db.restore, db.forget):
            with pytest.raises(InvalidSettingError, match="inside a transaction"), db.transaction():
                action()

    def test_restore_meets_a_transaction(self, backend: str, small: None) -> None:
        """A session that still holds locks makes restore busy, and it works once that has ended."""
        with open_shop() as copy, copy.session(busy_seconds=0) as db, copy.session() as other:
            db.snapshot()
            with other.transaction():
                other.execute(RENAME, id=1, name="grace")
                if backend == "sqlite":
                    with pytest.raises(DatabaseBusyError):
                        db.restore()
            db.restore()
            assert (db.fetch_one(GET, id=1) or {})["username"] == "ada"

    @pytest.mark.parametrize(
        "ddl",
        [
            "CREATE TABLE t (name TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID",
            "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, n INTEGER)",
            "CREATE TABLE t (name TEXT UNIQUE, n INTEGER, m INTEGER GENERATED ALWAYS AS (n + 1))",
        ],
    )
    def test_tables_that_only_sqlite_has(self, sqlite_db: Database, ddl: str) -> None:
        """Tables without a rowid, with a counter, with computed columns: all are restored."""
        db = sqlite_db
        db.execute(ddl)
        db.execute("INSERT INTO t(name, n) VALUES ('a', 1), ('b', 2), ('c', :c)", c="x\0y")
        before = everything(db)
        db.snapshot()
        for _ in range(2):
            db.execute("INSERT INTO t(name, n) VALUES ('d', 3)")
            db.execute("INSERT OR REPLACE INTO t(name, n) VALUES ('a', 4)")
            db.execute("UPDATE t SET n = 0")
            db.execute("DELETE FROM t WHERE name = 'b'")
            assert everything(db) != before
            db.restore()
            assert everything(db) == before

    def test_a_learners_trigger_does_not_run_in_the_replay(self, sqlite_db: Database) -> None:
        """A table that a trigger fills is restored as well."""
        db = sqlite_db
        db.execute("CREATE TABLE log (id INTEGER)")
        db.execute(
            "CREATE TRIGGER t AFTER UPDATE ON users BEGIN INSERT INTO log VALUES (NEW.id); END"
        )
        before = everything(db)
        db.snapshot()
        db.execute(RENAME, id=1, name="grace")
        assert everything(db) != before
        db.restore()
        assert everything(db) == before

    def test_replace_is_taken_back(self, sqlite_db: Database) -> None:
        """INSERT OR REPLACE deletes a row without saying so; it comes back."""
        before = everything(sqlite_db)
        sqlite_db.snapshot()
        with sqlite_db.session() as other:
            other.execute("INSERT OR REPLACE INTO page_stats(id, views) VALUES (1, 0)")
        sqlite_db.restore()
        assert everything(sqlite_db) == before

    def test_truncate_is_taken_back(self, postgresql: str, small: None) -> None:
        """TRUNCATE fires no row trigger; it is noticed all the same."""
        with open_shop(postgresql) as db:
            before = everything(db)
            db.snapshot()
            db.execute("TRUNCATE users, page_stats")
            db.restore()
            assert everything(db) == before

    def test_what_cannot_be_made_anew_is_said(self, postgresql: str, small: None) -> None:
        """A view of the learner's would be lost when the schema is built anew: an error, no loss."""
        with open_shop(postgresql) as db:
            db.execute("CREATE VIEW names AS SELECT username FROM users")
            db.snapshot()
            db.execute(RENAME, id=1, name="grace")
            db.restore()
            assert (db.fetch_one(GET, id=1) or {})["username"] == "ada"
            db.execute("CREATE TABLE t (id INTEGER)")
            with pytest.raises(LabError, match="names"):
                db.restore()
            assert db.fetch_one("SELECT * FROM names")


class TestPrivateCopies:
    """open_shop() and close()."""

    def test_two_labs_never_meet(self, db: Database) -> None:
        """What one lab writes, another does not see."""
        with open_shop() as other:
            db.execute(RENAME, id=1, name="grace")
            assert (other.fetch_one(GET, id=1) or {})["username"] == "ada"

    def test_a_session_reaches_another_process_as_its_address(self, db: Database) -> None:
        """Pickled and loaded, it is a new session on the same data, which does not own them."""
        other = pickle.loads(pickle.dumps(db))
        db.execute(RENAME, id=1, name="grace")
        assert other.fetch_one(GET, id=1) == db.fetch_one(GET, id=1)
        other.close()
        assert db.fetch_one(GET, id=1)

    def test_its_description_and_repr_hold_no_secret(self, db: Database) -> None:
        """They name the database, and neither a path's random part nor a password."""
        assert db.description in repr(db)
        assert ("SQLite" if db.backend == "sqlite" else "PostgreSQL at") in db.description
        assert "labsupport_" not in db.description

    def test_the_file_goes_with_the_lab(self, sqlite_db: Database) -> None:
        """close() removes the directory, also while another session is open."""
        directory = directory_of(sqlite_db)
        assert directory.stat().st_mode & 0o777 == 0o700
        with sqlite_db.session():
            sqlite_db.close()
            assert not directory.exists()
        with pytest.raises(DatabaseUnreachableError, match="open the lab again"):
            sqlite_db.session()
        assert not directory.exists()

    @pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), 9)"])
    def test_no_file_outlives_its_process(self, end: str) -> None:
        """Whether the process returns or is killed with -9."""
        script = f"import os\n{OPEN}\nprint(db.url, flush=True)\n{end}"
        url = run_python(script).stdout.strip()
        until(lambda: not Path(url.removeprefix("sqlite:///")).parent.exists())

    def test_a_forked_child_leaves_the_data(self) -> None:
        """A child's end does not take its parent's data away."""
        script = (
            f"import os, sys\n{OPEN}\npid = os.fork()\nif pid == 0:\n    sys.exit()\n"
            "os.waitpid(pid, 0)\nprint(db.session().fetch_one('SELECT 1 AS one'))"
        )
        assert run_python(script).stdout == "{'one': 1}\n"

    def test_a_forgotten_lab_is_removed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A database that is no longer referred to goes without close()."""
        monkeypatch.delenv("DATABASE_URL", raising=False)
        database = open_shop()
        directory = directory_of(database)
        del database
        assert not directory.exists()

    @pytest.mark.long
    def test_kernels_that_start_at_once(self, tmp_path: Path) -> None:
        """Three processes with an empty cache all get the whole shop, and leave one template."""
        script = (
            "from pathlib import Path\nfrom labsupport.database import open_shop, shop\n"
            f"shop._cache = lambda: Path({str(tmp_path)!r})\n"
            "with open_shop() as db:\n    print(len(db.fetch_all('SELECT id FROM orders')))"
        )
        started = [start_python(script) for _ in range(3)]
        assert [process.communicate()[0] for process in started] == ["30000\n"] * 3
        assert [path.suffix for path in tmp_path.iterdir()] == [".sqlite"]

    def test_changed_data_makes_a_new_template(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The template belongs to the content of data/, not to its date."""
        monkeypatch.delenv("DATABASE_URL", raising=False)
        shutil.copytree(shop._ROOT / "data", tmp_path / "data")
        monkeypatch.setattr(shop, "_ROOT", tmp_path)
        open_shop().close()
        users = tmp_path / "data" / "users.csv"
        users.write_text(users.read_text().replace(",ada,", ",eve,"))
        with open_shop() as db:
            assert (db.fetch_one(GET, id=1) or {})["username"] == "eve"
        assert len(list((tmp_path / ".lab").glob("shop-*.sqlite"))) == 2

    def test_a_read_only_checkout(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a place beside the data, the template is kept in the user's temporary directory."""
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        (tmp_path / "repository").write_text("a file, in which no directory can be made")
        monkeypatch.setattr(shop, "_ROOT", tmp_path / "repository")
        cache = shop._cache()
        assert cache.parent == tmp_path
        assert cache.stat().st_mode & 0o777 == 0o700

    def test_no_data_is_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the files there is an error that says how to make them."""
        monkeypatch.setattr(shop, "_ROOT", tmp_path)
        with pytest.raises(LabError, match=r"has no users\.csv\.\n.*make_data\.py"):
            open_shop()


class TestUnreachable:
    """DATABASE_URL that cannot be opened."""

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("postgresql://me:s3cr3t%21@127.0.0.1:1/shop", "me@127.0.0.1:1/shop.*refused"),
            ("postgres://me:s3cr3t%21@127.0.0.1:1/shop", "refused"),
            ("postgresql+psycopg://me:s3cr3t%21@127.0.0.1:1/shop", "refused"),
            ("postgresql://me@127.0.0.1:1/shop?password=s3cr3t%21", "refused"),
            ("postgresql://me:s3cr3t%21@/shop?host=/nonexistent", "No such file"),
            ("postgresql://me:s3cr3t%21@127.0.0.1:1/shop?s3cr3t!=1", "does not let the lab in"),
            ("postgresql://me:s3cr3t!@127.0.0.1:port/shop", "cannot be read as a URL"),
            ("mysql://me:s3cr3t%21@127.0.0.1/shop", "is for mysql"),
            ("sqlite:///shop.sqlite", "is for sqlite"),
            ("s3cr3t!", "cannot be read as a URL"),
        ],
    )
    def test_the_error_is_short_and_holds_no_password(
        self, url: str, said: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One line for what failed, one for the remedy; the password in neither, nor in a traceback."""
        monkeypatch.setenv("DATABASE_URL", url)
        with pytest.raises(DatabaseUnreachableError, match=said) as caught:
            open_shop()
        shown = "".join(traceback.format_exception(caught.value))
        assert "s3cr3t" not in shown.replace(f'"{url}"', "")
        assert "unset it to use" in caught.value.remedy
        assert len(str(caught.value).splitlines()) == 2

    def test_a_wrong_password(self, postgresql: str, small: None) -> None:
        """The server's refusal is shown, without the password."""
        ask(postgresql, "CREATE ROLE locked LOGIN PASSWORD 'right'")
        url = postgresql.replace("postgres@", "locked:s3cr3t@")
        with pytest.raises(DatabaseUnreachableError, match="password authentication failed") as it:
            open_shop(url)
        assert "s3cr3t" not in str(it.value)

    def test_a_role_that_may_not_create_schemas(self, postgresql: str, small: None) -> None:
        """The error names the right that is missing, and the password stays out of sight."""
        ask(postgresql, "CREATE ROLE guest LOGIN PASSWORD 's3cr3t'")
        with pytest.raises(DatabaseUnreachableError, match=r"permission denied.*\n.*GRANT CREATE"):
            open_shop(postgresql.replace("postgres@", "guest:s3cr3t@"))

    def test_no_driver(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without psycopg the error says how to install it."""
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(DatabaseUnreachableError, match="psycopg is not installed"):
            open_shop("postgresql://127.0.0.1:1/another")

    def test_the_server_goes_away(self, postgresql: str, small: None) -> None:
        """A connection that the server ended gives a clear error, and the lab can still be closed."""
        db = open_shop(postgresql)
        ask(postgresql, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name LIKE 'labsupport%'")  # fmt: skip
        with pytest.raises(DatabaseUnreachableError, match="closed"):
            db.fetch_one(GET, id=1)
        with pytest.raises(DatabaseUnreachableError), db.transaction():
            db.execute(RENAME, id=1, name="grace")
        db.close()


class TestYourPostgreSQL:
    """A server that others use, too."""

    @pytest.fixture
    def schemas(self, postgresql: str, small: None) -> Callable[[], set[str]]:
        """Asks which schemas there are; those of the lab are gone at the start."""
        open_shop(postgresql).close()

        def ask_schemas() -> set[str]:
            sql = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'"
            return {name for (name,) in ask(postgresql, sql)}

        return ask_schemas

    def test_a_schema_of_its_own_that_goes(
        self, postgresql: str, schemas: Callable[[], set[str]]
    ) -> None:
        """close() leaves the database as it was, also with a snapshot and another session open."""
        before = schemas()
        db = open_shop(postgresql)
        db.snapshot()
        other = db.session()
        with pytest.raises(DatabaseUnreachableError), other.transaction():  # noqa: PT012
            other.execute(RENAME, id=1, name="grace")
            assert len(schemas() - before) == 2
            db.close()
            assert schemas() == before
            other.fetch_one(GET, id=1)

    def test_what_a_killed_kernel_left_is_removed_by_the_next(
        self, postgresql: str, schemas: Callable[[], set[str]]
    ) -> None:
        """A dead lab's schemas go; those of a living lab, and what looks alike, stay."""
        before = schemas()
        ask(postgresql, "CREATE SCHEMA labsupport_0123456789abcde")  # not marked as a lab's
        script = f"import os\n{OPEN}\ndb.snapshot()\nos.kill(os.getpid(), 9)"
        living = open_shop(postgresql)
        mine = schemas() - before
        run_python(script, DATABASE_URL=postgresql)
        assert len(schemas() - before - mine) == 2
        gone = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'labsupport%' LIMIT 1 OFFSET 1"
        until(lambda: not ask(postgresql, gone))
        with open_shop(postgresql):
            assert len(schemas() - before - mine) == 1
        assert schemas() - before == mine
        assert living.fetch_one(GET, id=1)
        living.close()
        ask(postgresql, "DROP SCHEMA labsupport_0123456789abcde")


OPEN = "from labsupport.database import open_shop\ndb = open_shop()"


def directory_of(database: Database) -> Path:
    """Where a database's file is."""
    return Path(database.url.removeprefix("sqlite:///")).parent


def start_python(script: str, **variables: str) -> "subprocess.Popen[str]":
    """Start a process of its own, as a kernel is."""
    environment = {k: v for k, v in os.environ.items() if k != "DATABASE_URL"} | variables
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def run_python(script: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a process of its own to its end."""
    process = start_python(script, **variables)
    out, err = process.communicate()
    return subprocess.CompletedProcess([], process.returncode, out, err)


def test_a_lookup_reads_wal_and_writes_do_not_block_it(sqlite_db: Database) -> None:
    """The private copy is in WAL mode: readers and one writer at once."""
    with contextlib.closing(sqlite3.connect(directory_of(sqlite_db) / "shop.sqlite")) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
