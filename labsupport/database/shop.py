"""A private copy of the shop for each lab, made from `data/`."""

import contextlib
import csv
import hashlib
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from labsupport.database.postgresql import PostgreSQL, name_copy
from labsupport.database.session import Database
from labsupport.errors import DatabaseUnreachableError, LabError
from labsupport.processes import PrivateDirectory, writing_to

_ROOT = Path(__file__).resolve().parents[2]  # the checkout, or where the wheel is installed
_PACKAGED = Path("labsupport", "data")  # only a wheel has it, see pyproject.toml

# Column types that mean the same in both databases; the first column is the key, and it counts
# by itself when an INSERT leaves it out.
TABLES = {
    "users": "username TEXT NOT NULL, email TEXT NOT NULL, country TEXT NOT NULL,"
    " created_at TEXT NOT NULL, version INTEGER NOT NULL DEFAULT 1",
    "products": "name TEXT NOT NULL, price_cents INTEGER NOT NULL, stock INTEGER NOT NULL,"
    " fence INTEGER NOT NULL DEFAULT 0",
    "orders": "user_id INTEGER NOT NULL, product_id INTEGER NOT NULL, quantity INTEGER NOT NULL,"
    " price_cents INTEGER NOT NULL, created_at TEXT NOT NULL",
    "page_views": "product_id INTEGER NOT NULL, user_id INTEGER NOT NULL, viewed_at TEXT NOT NULL",
    "page_stats": "views INTEGER NOT NULL DEFAULT 0",
}
"""The shop's tables and their columns, but for the key `id`; `data/README.md` describes them."""

BESTSELLERS = """
SELECT p.id, p.name, SUM(o.quantity * o.price_cents) AS revenue_cents,
       COUNT(DISTINCT o.user_id) AS buyers
FROM orders o JOIN products p ON p.id = o.product_id
GROUP BY p.id, p.name
ORDER BY revenue_cents DESC, p.id
LIMIT 10
""".strip()
"""An expensive query: the ten products with the most revenue; it reads every order."""


def open_shop(url: str | None = None) -> Database:
    """Open a private copy of the shop; it is removed when the session is closed.

    Args:
        url: "postgresql://user:password@host/name" for a schema of its own there; default: the
            variable DATABASE_URL, and without that, or with "", an SQLite file of its own.

    Raises:
        DatabaseUnreachableError: the URL cannot be opened.
        LabError: the shop's data is not there.
    """
    url = os.environ.get("DATABASE_URL", "") if url is None else url
    data = _find_data()
    if not url:
        return _open_sqlite(data)
    return _open_postgresql(_parse(url), data)


def _open_sqlite(data: Path) -> Database:
    directory = PrivateDirectory()
    path = directory.path / "shop.sqlite"
    try:
        directory.make()
        with writing_to(directory.path):
            shutil.copyfile(_template(data), path)
        database = Database(str(URL.create("sqlite", database=str(path))))
    except BaseException:
        directory.remove()
        raise
    connection = database.connection

    def remove() -> None:
        connection.close()
        directory.remove()

    database.own(remove)
    return database


def _open_postgresql(url: URL, data: Path) -> Database:
    database = Database(name_copy(url))
    connection = database.connection
    assert isinstance(connection, PostgreSQL)

    def remove() -> None:
        with contextlib.suppress(LabError):  # the server is gone, or locked: a later lab removes it
            connection.remove()
        connection.close()

    database.own(remove)
    try:
        connection.create(TABLES, data)
    except BaseException:
        database.close()
        raise
    return database


def _template(data: Path) -> Path:
    """The loaded database file that copies are taken from; made once for each content of `data`."""
    digest = hashlib.blake2b(repr(TABLES).encode(), digest_size=8)
    for table in TABLES:
        digest.update((data / f"{table}.csv").read_bytes())
    path = _cache() / f"shop-{digest.hexdigest()}.sqlite"
    if not path.exists():
        # A name of its own, then a rename: kernels that start at once do not see half a file.
        unfinished = path.with_suffix(f".{os.getpid()}.part")
        with writing_to(path):
            try:
                _load(unfinished, data)
                os.replace(unfinished, path)
            except sqlite3.OperationalError as error:  # a full disk, as it is told by SQLite
                raise OSError(str(error)) from error
            finally:
                unfinished.unlink(missing_ok=True)
    return path


def _load(path: Path, data: Path) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("BEGIN")
        for table, columns in TABLES.items():
            connection.execute(f"CREATE TABLE {table}(id INTEGER PRIMARY KEY, {columns})")
            with (data / f"{table}.csv").open(newline="", encoding="utf-8") as file:
                rows = csv.reader(file)
                names = next(rows)
                marks = ", ".join("?" * len(names))
                connection.executemany(
                    f"INSERT INTO {table}({', '.join(names)}) VALUES ({marks})", rows
                )
        connection.execute("COMMIT")
        # Readers and a writer at once, as behind a web site; the mode is kept in the file.
        connection.execute("PRAGMA journal_mode = WAL")


def _cache() -> Path:
    """Where the template is kept: in the checkout, or in a directory of this user alone."""
    here = _ROOT / ".lab"
    elsewhere = Path(tempfile.gettempdir()) / f"labsupport-{os.getuid()}"
    installed = (_ROOT / _PACKAGED).is_dir()
    for directory in (elsewhere,) if installed else (here, elsewhere):
        with contextlib.suppress(OSError):
            directory.mkdir(mode=0o700, exist_ok=True)
            if directory.stat().st_uid == os.getuid() and os.access(directory, os.W_OK):
                return directory
    raise LabError(
        f"{elsewhere} cannot be written{'' if installed else f', and neither can {here}'}.",
        "Make it writable, or set TMPDIR to a directory that is.",
    )


def _find_data() -> Path:
    """The shop's data: in the package, as a wheel installs it, or beside it, as in a checkout."""
    packaged = _ROOT / _PACKAGED
    data = packaged if packaged.is_dir() else _ROOT / "data"
    missing = [table for table in TABLES if not (data / f"{table}.csv").is_file()]
    if missing:
        raise LabError(
            f"The shop's data is not there: {data} has no {missing[0]}.csv.",
            "Reinstall the package; in a checkout `python data/make_data.py` makes the files.",
        )
    return data


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # its message may repeat the URL, password and all
        raise DatabaseUnreachableError(
            "DATABASE_URL cannot be read as a URL.",
            "Write it as postgresql://user:password@host:5432/name, special characters as %40 etc.,"
            " or unset it to use SQLite.",
        ) from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise DatabaseUnreachableError(
            f"DATABASE_URL is for {parsed.get_backend_name()}, which the labs do not use.",
            "Give a postgresql:// URL, or unset it to use an SQLite file of the lab's own.",
        )
    return parsed.set(drivername="postgresql+psycopg")
