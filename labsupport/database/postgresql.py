"""One connection to a schema of the lab's own in your PostgreSQL."""

import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.pool import NullPool

from labsupport.database.postgresql_errors import explain, explain_refusal
from labsupport.database.postgresql_undo import SETTLED, Undo
from labsupport.database.statements import ResultSet, bind
from labsupport.errors import (
    DatabaseUnreachableError,
    LabError,
    StatementError,
)

_MARK = "labsupport: a private copy of the shop"
_SCHEMA = re.compile(r"labsupport_[0-9a-f]{15}")
_RETRIED_BELOW_SECONDS = 1.0
_AS_TEXT = ("date", "interval", "time", "timetz", "timestamp", "timestamptz", "uuid")


class PostgreSQL:
    """A connection; `Database` says what goes through it.

    A session that waits less than a second for a lock is one that means to try the same statement
    again: it has a savepoint before each statement, since an error would end its transaction.

    Args:
        url: what `name_copy` returned.
        busy_seconds: how long a statement waits for a lock.
    """

    def __init__(self, url: str, busy_seconds: float) -> None:
        self._schema = _schema(url)
        try:
            engine = _engine(url, busy_seconds)
            self._pooled = engine.raw_connection()
        except ModuleNotFoundError:
            raise DatabaseUnreachableError(
                "DATABASE_URL is for PostgreSQL, whose driver psycopg is not installed.",
                "Run `pip install 'psycopg[binary]'`, or unset DATABASE_URL to use SQLite.",
            ) from None
        except Exception as error:
            raise explain_refusal(url, error) from None
        self._dialect = engine.dialect
        driver: Any = self._pooled.driver_connection
        driver.prepare_threshold = None  # a prepared plan would not survive ALTER TABLE
        _give_plain_values(driver)
        self._driver = driver
        self._savepoints = busy_seconds < _RETRIED_BELOW_SECONDS
        self.undo = Undo(self.plain, self._schema)

    def run(self, sql: str, params: dict[str, Any], *, inside: bool) -> ResultSet:
        """Run one statement and take all its rows."""
        text = bind(sql, params, self._dialect)
        if not inside:
            self.rollback()  # of what an interrupt, in the midst of BEGIN or ROLLBACK, has left
        savepoint = inside and self._savepoints
        if savepoint:
            self.plain("SAVEPOINT labsupport")
        try:
            return ResultSet.of(self._driver.execute(text, params))
        except self._driver_error as error:
            if savepoint and not self._lost:
                self.plain("ROLLBACK TO labsupport")
            raise explain(error, sql, self._lost) from error

    def plain(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement of the lab's own; its rows."""
        try:
            cursor = self._driver.execute(sql)
            return cursor.fetchall() if cursor.description else []
        except self._driver_error as error:
            raise explain(error, sql, self._lost) from error

    def begin(self) -> None:
        """Begin a transaction."""
        self.rollback()
        self.plain("BEGIN")

    def commit(self) -> None:
        """Commit.

        Raises:
            StatementError: a statement failed, so that PostgreSQL only lets it roll back.
        """
        failed = self._driver.info.transaction_status.name == "INERROR"
        self.plain("COMMIT")
        if failed:
            raise StatementError(
                "The transaction was rolled back, since a statement in it had failed.",
                "Let the error leave the `with db.transaction():` block, and begin again.",
            )

    def rollback(self) -> None:
        """Roll back, if there is something to."""
        if self._driver.pgconn.transaction_status:  # 0 is idle
            self.plain("ROLLBACK")

    def close(self) -> None:
        """Close the connection; an open transaction is rolled back."""
        self._pooled.close()

    def create(self, tables: Mapping[str, str], data: Path) -> None:
        """Make the schema and load the shop into it.

        A lock on the schema's number, held as long as this connection, says that it is in use; what
        a killed kernel left behind has no such lock and is removed here.
        """
        for (name,) in self.plain(
            "SELECT nspname FROM pg_namespace WHERE pg_get_userbyid(nspowner) = current_user"
            f" AND obj_description(oid, 'pg_namespace') = '{_MARK}'"
        ):
            if _SCHEMA.fullmatch(name) and self._lock(name):
                with suppress(LabError):  # it is only rubbish
                    self._drop(name)
                self.plain(f"SELECT pg_advisory_unlock({_number(name)})")
        self._lock(self._schema)
        try:
            self.plain("BEGIN")
            self.plain(f"CREATE SCHEMA {self._schema}")
            self.plain(f"COMMENT ON SCHEMA {self._schema} IS '{_MARK}'")
            for table, columns in tables.items():
                self._load(table, columns, data / f"{table}.csv")
            self.plain("COMMIT")
        except LabError as error:
            raise DatabaseUnreachableError(
                f"The shop cannot be loaded: {error.problem}",
                "DATABASE_URL needs a role that may create schemas:"
                " GRANT CREATE ON DATABASE … TO …, or unset it to use SQLite.",
            ) from None

    def remove(self) -> None:
        """Drop the schema and end its other sessions."""
        self.rollback()
        self.plain(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE application_name = '{self._schema}' AND pid <> pg_backend_pid()"
        )
        self._drop(self._schema)

    @property
    def _driver_error(self) -> type[Exception]:
        error: type[Exception] = self._dialect.loaded_dbapi.Error
        return error

    @property
    def _lost(self) -> bool:
        """True when the connection is closed, or an interrupt left it in the midst of an answer."""
        return bool(self._driver.closed or self._driver.pgconn.transaction_status == 1)

    def _load(self, table: str, columns: str, path: Path) -> None:
        content = path.read_bytes()
        names = content[: content.index(b"\n")].decode()
        self.plain(
            f"CREATE TABLE {table}("
            f"id INTEGER GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, {columns}) {SETTLED}"
        )
        cursor = self._driver.cursor()
        with cursor.copy(f"COPY {table}({names}) FROM STDIN (FORMAT csv, HEADER)") as copy:
            copy.write(content)
        self.plain(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))")

    def _lock(self, schema: str) -> bool:
        return bool(self.plain(f"SELECT pg_try_advisory_lock({_number(schema)})")[0][0])

    def _drop(self, schema: str) -> None:
        # The copy first: while the schema is there, the next lab finds what is left of both.
        self.plain(f"DROP SCHEMA IF EXISTS {schema}_saved CASCADE")
        self.plain(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


def name_copy(url: URL) -> str:
    """The URL of a schema that is not there yet, in the database of `url`."""
    schema = f"labsupport_{secrets.token_hex(8)[:15]}"
    options = f"{url.query.get('options', '')} -csearch_path={schema}".strip()
    copy = url.update_query_dict({"options": options})
    return copy.render_as_string(hide_password=False)


@lru_cache(maxsize=16)
def _engine(url: str, busy_seconds: float) -> Engine:
    parsed = make_url(url)
    # 0 would mean: wait for ever.
    limit = f"-clock_timeout={max(round(busy_seconds * 1000), 1)}"
    settings = {
        "application_name": _schema(url),
        "autocommit": True,
        "options": f"{parsed.query.get('options', '')} {limit}",
    }
    if "connect_timeout" not in parsed.query:
        settings["connect_timeout"] = 5
    return create_engine(
        parsed, poolclass=NullPool, pool_reset_on_return=None, connect_args=settings
    )


def _schema(url: str) -> str:
    found = _SCHEMA.search(str(make_url(url).query.get("options", "")))
    if found is None:
        raise DatabaseUnreachableError(
            "This URL does not name a copy of the shop.", "Use `open_shop(url)` to make one."
        )
    return found[0]


def _number(schema: str) -> int:
    return int(schema.removeprefix("labsupport_"), 16)


def _give_plain_values(driver: Any) -> None:
    """Let rows hold only what `json.dumps` accepts, the same as from SQLite."""
    from psycopg.adapt import Loader
    from psycopg.types.string import TextLoader

    class NumberLoader(Loader):
        def load(self, data: Any) -> int | float:
            text = bytes(data).decode()
            return int(text) if text.lstrip("-").isdigit() else float(text)

    driver.adapters.register_loader("numeric", NumberLoader)
    for kind in _AS_TEXT:
        driver.adapters.register_loader(kind, TextLoader)
