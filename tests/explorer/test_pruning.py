"""Pruning loses nothing: where it cannot be seen what a step touches, no order is left out."""

import argparse
import builtins
import collections.abc
import contextlib
import contextvars
import dataclasses
import datetime
import decimal
import enum
import functools
import importlib
import logging
import mimetypes
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import types
import typing
import weakref

import pytest
import redis as redis_py
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from labsupport import explore
from labsupport.explorer.clients import namespaces
from labsupport.explorer.commands.scripts import names_its_keys
from labsupport.explorer.memory.sharing import shared_names
from labsupport.explorer.operations import EVERYTHING, sql_effects

STATEMENTS = [
    "SELECT stock FROM products WHERE id = 1",
    "SELECT p.stock FROM users u, products p WHERE p.id = 1 AND u.id = 1",
    "SELECT stock FROM main.products WHERE id = 1",
    'SELECT stock FROM "products" WHERE id = 1',
    "SELECT stock FROM [products] p JOIN users u ON u.id = p.id WHERE p.id = 1",
    "SELECT stock FROM users u CROSS JOIN (products) p WHERE p.id = 1 AND u.id = 1",
    "WITH x AS (SELECT * FROM Products WHERE id = 1) SELECT stock FROM x",
]


@pytest.mark.parametrize("sql", STATEMENTS)
def test_tables_however_they_are_named(sql):
    """A statement reads each table that it mentions."""

    def reads(redis, db):
        return db.fetch_one(sql)["stock"]

    report = explore(
        {
            "reader": reads,
            "writer": lambda r, d: d.execute("UPDATE products SET stock = 77 WHERE id = 1"),
        },
        invariant=lambda redis, db, told: told["reader"] != 77,
        prune=True,
    )
    assert report.violations == 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nextval('orders')",
        "SELECT * FROM products FOR UPDATE",
        "DROP TABLE products",
        "LOCK TABLE products",
        "DO $$ UPDATE products SET stock = 1 $$",
        "SELECT E'it\\'s', stock FROM products",
    ],
)
def test_a_statement_that_may_do_anything(sql):
    assert sql_effects(sql) is EVERYTHING


def test_statements_on_different_tables_commute():
    """Also when their columns have the same names, and one tells what the other's table is called."""
    one = sql_effects("UPDATE products SET stock = 1, name = 'users' WHERE id = 1")
    other = sql_effects("INSERT INTO main.\"users\" (id, name) VALUES (1, 'Ada')")
    assert not one.conflicts(other)
    assert not other.conflicts(sql_effects("SELECT count(*) FROM products WHERE id = 1 -- users"))
    assert other.conflicts(sql_effects("SELECT name FROM users"))


@pytest.mark.parametrize(
    ("reads", "old", "new", "stale"),
    [
        (lambda r: r.sort("l", by="nosort", get="w_*"), "1", "2", ["2"]),
        (lambda r: len(r.sort("l", by="w_*", get="w_*")), "1", "x", 0),
        (lambda r: r.eval("return redis.call('GET', 'w_1')", 1, "k"), "1", "2", "2"),
        (lambda r: r.eval_ro("return redis.call('GET', 'w_' .. ARGV[1])", 0, 1), "1", "2", "2"),
    ],
    ids=["get", "by", "a script", "one that only reads"],
)
def test_commands_that_touch_more_than_they_name(reads, old, new, stale):
    def given(redis, db):
        redis.rpush("l", "1")
        redis.set("w_1", old)

    def writes(redis, db):
        redis.set("w_1", new)

    def reader(redis, db):
        try:
            return reads(redis)
        except Exception:  # a weight that is no number
            return 0

    report = explore(
        {"reader": reader, "writer": writes},
        given=given,
        invariant=lambda redis, db, told: told["reader"] != stale,
        prune=True,
    )
    assert report.violations == 1


@pytest.mark.parametrize(
    ("store", "looks"),
    [
        (lambda redis: redis.sinterstore("s", "s", "none"), lambda redis: redis.exists("s")),
        (lambda redis: redis.zunionstore("z", ["z", "s"]), lambda redis: redis.zcard("z")),
        (lambda redis: redis.bitop("NOT", "b", "b"), lambda redis: redis.getbit("b", 0)),
        (lambda redis: redis.sort("l", store="l"), lambda redis: redis.lindex("l", 0)),
    ],
    ids=["set", "sorted set", "bits", "list"],
)
def test_a_key_that_is_read_and_stored_to(store, looks):
    """The server names it twice; who looks at it depends on the step."""

    def given(redis, db):
        redis.sadd("s", "one")
        redis.zadd("z", {"two": 1})
        redis.setbit("b", 0, 1)
        redis.rpush("l", 2, 1)
        before.append(looks(redis))

    before: list[object] = []
    report = explore(
        {"stores": lambda redis, db: store(redis), "looks": lambda redis, db: looks(redis)},
        given=given,
        invariant=lambda redis, db, told: told["looks"] == before[0],
        prune=True,
    )
    assert report.violations == 1


@pytest.mark.parametrize(
    ("text", "clear"),
    [
        ("if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end", 1),
        ("local a, b = KEYS[1], KEYS[2] return redis.call('GET', b)", 1),
        ("for _, key in ipairs(KEYS) do redis.call('INCR', key) end", 1),
        ("-- redis.call('GET', 'x')\nredis.call('RPUSH', KEYS[1], redis.call('INCR', KEYS[2]))", 1),
        ("return 1", 1),
        ("return redis.call('XINFO', 'GROUPS', KEYS[1])", 1),
        ("return redis.call('GET', KEYS[1] .. ':x')", 0),
        ("redis.call('RENAME', KEYS[1], ARGV[1])", 0),
        ("local k = KEYS[1] k = 'x' return redis.call('GET', k)", 0),
        ("local k = KEYS[1] for _, k in ipairs(ARGV) do redis.call('GET', k) end", 0),
        ("local a, b = KEYS[1], ARGV[1] return redis.call('GET', b)", 0),
        ("KEYS[1] = 'x' return redis.call('GET', KEYS[1])", 0),
        ("local call = redis.call return call('GET', 'x')", 0),
        ("return redis['call']('GET', 'x')", 0),
        ("local k = KEYS[1] .. ':' .. ARGV[1] return redis.call('INCR', k)", 0),
        ("local k = KEYS[1]\n or 'x' return redis.call('INCR', k)", 0),
        ("local a, b = KEYS[1], KEYS[2] .. 'x' return redis.call('GET', b)", 0),
        ("local k = KEYS[1] k, t[#t + 1] = ARGV[1], 2 return redis.call('GET', k)", 0),
        ("KEYS[1], t[#t + 1] = ARGV[1], 2 return redis.call('GET', KEYS[1])", 0),
        ("local a, b = KEYS[1], KEYS[2] local n = redis.call('GET', b) return n", 1),
        ("table.insert( KEYS, 'x') return redis.call('GET', KEYS[2])", 0),
        ("local k = KEYS k[1] = 'x' return redis.call('GET', KEYS[1])", 0),
        ("local s = 'a--b' redis.call('SET', ARGV[1], s) return redis.call('GET', KEYS[1])", 0),
        ("local s = [[ -- ]] redis.call('SET', ARGV[1], s) return 1", 0),
        ("return redis.call('SET', KEYS[1], 'a, (b) -- KEYS') --[[ KEYS = {} ]]", 1),
        ("local k = KEYS[1];local n = redis.call('GET', k)\nreturn #KEYS", 1),
    ],
)
def test_scripts_whose_keys_can_be_seen(text, clear):
    assert names_its_keys(text) is bool(clear)


@pytest.mark.parametrize("key", ["n", b"n", memoryview(b"n")], ids=["text", "bytes", "a view"])
def test_a_key_that_is_watched_in_bytes(key):
    """It is the key that another names in text."""

    def guarded(redis, db):
        with redis.pipeline() as pipe:
            pipe.watch(key)
            pipe.multi()
            pipe.incr("done")
            pipe.execute()

    report = explore(
        {"ada": guarded, "bob": lambda redis, db: redis.incr("n")},
        invariant=lambda redis, db: True,
        prune=True,
    )
    assert report.findings[0].kind == "raised"


class Registry:
    __kept__ = {}  # noqa: RUF012


class Kept:
    value = None

    def __init__(self):
        self.mine = 1

    def tell(self, redis):
        redis.get("page")
        told = LOCAL.get("v")
        redis.get("page 2")
        return told


def function():
    pass


@functools.cache
def cached():
    return LOCAL.get("v")


@dataclasses.dataclass(frozen=True)
class Frozen:
    held: dict


class Member(enum.Enum):
    ONE = {}  # noqa: RUF012


class Meta(type):
    value = None


class OfMeta(metaclass=Meta):
    pass


NUMBER = None
LOCAL = {}
TUPLE = ({},)
FROZEN = Frozen({})
SPACE = types.SimpleNamespace(value=None)
PROXY = types.MappingProxyType(LOCAL)
VARIABLE = contextvars.ContextVar("VARIABLE", default=LOCAL)
FILE = pathlib.Path(tempfile.mkdtemp(), "value")
DIRECTORY = str(FILE.with_name("lock"))
MODULE = types.ModuleType("own_state")
MODULE.value = function.value = None


def set_number(value):
    global NUMBER
    NUMBER = value


def set_cached(value):
    cached.cache_clear()
    LOCAL["v"] = value


def set_environment(value):
    os.environ.pop("LABSUPPORT_V", None)
    if value:
        os.environ["LABSUPPORT_V"] = str(value)


def set_file(value):
    FILE.write_text(str(value or ""))


def make_directory(value):
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(DIRECTORY)
    if value:
        os.mkdir(DIRECTORY)


def set_builtin(value):
    builtins.labsupport_v = value


def set_by_name(value):
    globals()["NUMBER"] = value


def a_variable():
    variable = None

    def set_variable(value):
        nonlocal variable
        variable = value

    return lambda: variable, set_variable


mimetypes.MimeTypes.labsupport_v = {}  # type: ignore[attr-defined]
MEMORY = {
    "a global name": (lambda: NUMBER, set_number),
    "a variable of an outer function": a_variable(),
    "a class": (lambda: Kept.value, lambda value: setattr(Kept, "value", value)),
    "what a class keeps for itself": (
        lambda: Registry.__kept__.get("v"),
        lambda value: Registry.__kept__.update(v=value),
    ),
    "a library's module": (lambda: getattr(builtins, "labsupport_v", None), set_builtin),
    "a library's module, by setattr": (
        lambda: getattr(argparse, "labsupport_v", None),
        lambda value: setattr(argparse, "labsupport_v", value),
    ),
    "a library's module, by its dict": (
        lambda: getattr(builtins, "labsupport_v", None),
        lambda value: builtins.__dict__.update(labsupport_v=value),
    ),
    "a container in a library's module": (
        lambda: mimetypes.types_map.get(".labsupport_v"),
        lambda value: mimetypes.types_map.update({".labsupport_v": value}),
    ),
    "a container in a library's class": (
        lambda: mimetypes.MimeTypes.labsupport_v.get("v"),
        lambda value: mimetypes.MimeTypes.labsupport_v.update(v=value),
    ),
    "a library's class": (
        lambda: getattr(argparse.Action, "labsupport_v", None),
        lambda value: setattr(argparse.Action, "labsupport_v", value),
    ),
    "a function": (lambda: function.value, lambda value: setattr(function, "value", value)),
    "a module": (lambda: MODULE.value, lambda value: setattr(MODULE, "value", value)),
    "a cache": (cached, set_cached),
    "what a tuple holds": (lambda: TUPLE[0].get("v"), lambda value: TUPLE[0].update(v=value)),
    "what a frozen dataclass holds": (
        lambda: FROZEN.held.get("v"),
        lambda value: FROZEN.held.update(v=value),
    ),
    "what a member of an enum holds": (
        lambda: Member.ONE.value.get("v"),
        lambda value: Member.ONE.value.update(v=value),
    ),
    "a namespace": (lambda: SPACE.value, lambda value: setattr(SPACE, "value", value)),
    "a view of a dict": (lambda: PROXY.get("v"), set_cached),
    "what a context variable holds": (lambda: VARIABLE.get().get("v"), set_cached),
    "a metaclass": (lambda: OfMeta.value, lambda value: setattr(Meta, "value", value)),
    "a file": (lambda: FILE.read_text() or None, set_file),
    "a directory": (lambda: os.path.exists(DIRECTORY) or None, make_directory),
    "a directory, as a path": (lambda: FILE.with_name("lock").is_dir() or None, make_directory),
    "a global name, by globals()": (lambda: NUMBER, set_by_name),
    "a global name, from outside": (
        lambda: NUMBER,
        lambda value: setattr(sys.modules[__name__], "NUMBER", value),
    ),
    "the environment, by getenv": (lambda: os.getenv("LABSUPPORT_V"), set_environment),
    "an attribute of a library's object": (
        lambda: getattr(LOG, "value", None),
        lambda value: setattr(LOG, "value", value),
    ),
    "the environment": (lambda: os.environ.get("LABSUPPORT_V"), set_environment),
    "what a method uses": (None, set_cached),
}


class Pair(tuple):
    """One that has attributes, too."""


PAIR, CONTEXT, SLOT = Pair(), decimal.Context(), {}
PAIR.value = 0
STORE, PROXIED = SLOT.__setitem__, Kept()
WEAKLY = weakref.proxy(PROXIED)
TABLE = sa.Table("table", sa.MetaData(), info={})
PARTIAL = functools.partial(dict, value=0)


@dataclasses.dataclass(frozen=True)
class Fixed:
    value: int = 0


FIXED = Fixed()


def defaults(value=0):
    return value


class Numbered:
    number = 0

    def __new__(cls, number):
        Numbered.number = number
        return super().__new__(cls)


def set_by_space():
    cell.__globals__["NUMBER"] = 1


def set_defaults():
    defaults.__defaults__ = (1,)


def cell(value):
    return lambda: value


CELL = cell(0)
HIDDEN = {
    "a frozen object": (lambda: object.__setattr__(FIXED, "value", 1), lambda: FIXED.value),
    "a tuple": (lambda: setattr(PAIR, "value", 1), lambda: PAIR.value),
    "a context of decimal's": (lambda: setattr(CONTEXT, "prec", 5), lambda: CONTEXT.prec),
    "a method of a dict": (lambda: STORE("v", 1), lambda: SLOT["v"]),
    "a weak proxy": (lambda: setattr(WEAKLY, "value", 1), lambda: PROXIED.value),
    "a table's notes": (lambda: TABLE.info.update(v=1), lambda: TABLE.info["v"]),
    "a logger's level": (lambda: LOG.setLevel(10), lambda: LOG.level),
    "a partial function": (lambda: PARTIAL.keywords.update(value=1), lambda: PARTIAL()),
    "a class, in __new__": (lambda: Numbered(1), lambda: Numbered.number),
    "a global name, by its space": (set_by_space, lambda: NUMBER),
    "defaults": (set_defaults, lambda: defaults()),
    "a cell": (lambda: CELL.__closure__[0].__setattr__("cell_contents", 1), lambda: CELL()),
}


def test_a_module_that_goes_by_another_name(monkeypatch):
    """Its code is not found by its name: what is set on it is seen all the same."""

    def client(redis, db):
        for module in (collections.abc,):
            module.latest = redis.incr("n")
        return collections.abc.latest

    monkeypatch.setattr(collections.abc, "latest", 0, raising=False)
    assert shared_names({"ada": client, "bob": client}) == ["collections.abc"]


@pytest.mark.parametrize(("put", "get"), HIDDEN.values(), ids=HIDDEN)
def test_memory_that_hides(put, get):
    """In what else never changes, or where it is not looked for: one client sets it, another asks."""
    assert shared_names({"ada": lambda redis, db: put(), "bob": lambda redis, db: get()})


@pytest.mark.parametrize("where", MEMORY)
def test_memory_that_clients_share(where):
    """However it is shared, it is seen: then nothing is pruned, and the report says so."""
    get, put = MEMORY[where]

    def reader(redis, db):
        redis.get("page")
        found = get()
        redis.get("page 2")
        return found

    def writer(redis, db):
        redis.set("a", 1)
        put(2)
        redis.set("b", 1)

    try:
        report = explore(
            {"reader": reader if get else lambda r, d: Kept().tell(r), "writer": writer},
            given=lambda redis, db: put(None),
            invariant=lambda redis, db, told: told["reader"] is None,
            prune=True,
        )
    finally:
        put(None)
    assert report.violations > 0
    assert "Not pruned: the clients share" in str(report)


class Mine:
    def __init__(self):
        self.mine = 1


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass(frozen=True)
class Settings:
    prefix: str = "page"


class Lease(typing.NamedTuple):
    token: str
    number: int = 0


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "row"
    id: Mapped[int] = mapped_column(primary_key=True)


SETTINGS, DAY, PATTERN = Settings(), datetime.timedelta(days=1), re.compile("x")
LOG, CLIENT, ENGINE = logging.getLogger("x"), redis_py.Redis(), sa.create_engine("sqlite://")


def test_what_clients_may_share():
    """Constants, and objects that keep nothing of their own, are no reason not to prune."""

    def client(key):
        def run(redis, db):
            row = Row(id=1)
            row.id = len(PATTERN.findall(key)) + DAY.days
            LOG.debug(ENGINE.name + Lease(key).token)
            kept = Mine()
            kept.mine = Colour.RED.value
            CLIENT.set(SETTINGS.prefix + key, row.id + kept.mine)

        return run

    report = explore({"a": client("x"), "b": client("y")}, invariant=lambda r, d: True, prune=True)
    assert report.pruned
    assert report.interleavings == 1


def test_an_entry_is_handed_out_once():
    """The server says that XREADGROUP reads; but it depends on who asks first what is left."""

    def takes(name):
        return lambda redis, db: bool(redis.xreadgroup("g", name, {"s": ">"}, count=1))

    def given(redis, db):
        redis.xadd("s", {"a": 1})
        redis.xgroup_create("s", "g", "0")

    report = explore(
        {"a": takes("a"), "b": takes("b")},
        given=given,
        invariant=lambda redis, db, told: told["a"],
        prune=True,
    )
    assert report.violations == 1


def test_a_statement_without_a_table_may_stand_for_anything():
    """What a client does besides, a wrapper's doing for one, is put between its own steps by such a one."""

    def reads(redis, db):
        db.fetch_one("SELECT 'and looks it up' AS told")
        seen.append(redis.get("n"))

    def given(redis, db):
        seen.clear()

    seen = []
    clients = {"a": reads, "b": lambda redis, db: redis.set("n", 1)}
    effects = sql_effects("SELECT 'and looks it up' AS told")
    assert effects.everything
    report = explore(clients, given=given, invariant=lambda redis, db: True, prune=True)
    assert report.interleavings == 3


def test_an_attribute_that_given_makes_is_shared_memory():
    """It is seen after the first order, though that breaks: all have read it before anybody took a step."""

    def counts(redis, db):
        before = counts.calls
        redis.incr("n")
        counts.calls = before + 1

    report = explore(
        {"ada": counts, "bob": counts},
        given=lambda redis, db: setattr(counts, "calls", 0),
        invariant=lambda redis, db: counts.calls == 2,
        prune=True,
    )
    assert report.verdict.status == "broken"
    assert not report.serial


@pytest.mark.parametrize(
    ("told", "own"),
    [
        ({"direct_url.json": '{"url": "file:///shop", "dir_info": {}}'}, True),
        ({"direct_url.json": '{"url": "file:///feedstock"}', "INSTALLER": "conda\n"}, False),
        ({"direct_url.json": '{"url": "file:///wheels/x.whl", "archive_info": {}}'}, False),
        ({}, False),  # a library, from an index
    ],
)
def test_the_applications_own_package_is_no_library(told, own, tmp_path, monkeypatch):
    """Also once `pip install .` has put it among the libraries (PEP 610)."""
    (tmp_path / "acme_cache.py").write_text("NAMES = {}\ndef names():\n    return NAMES\n")
    info = tmp_path / "acme_cache-1.0.dist-info"
    info.mkdir()
    for name, text in {"METADATA": "Name: acme-cache\nVersion: 1.0\n", **told}.items():
        (info / name).write_text(text)
    (info / "RECORD").write_text("acme_cache.py,,\nacme_cache-1.0.dist-info/METADATA,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(namespaces, "_SITE", (*namespaces._SITE, str(tmp_path)))
    monkeypatch.setattr(namespaces, "_INSTALLED", (*namespaces._INSTALLED, str(tmp_path)))
    namespaces._from_a_folder.cache_clear()
    acme_cache = importlib.import_module("acme_cache")
    try:
        clients = {"ada": lambda r, d: acme_cache.names(), "bob": lambda r, d: acme_cache.names()}
        assert shared_names(clients) == (["NAMES"] if own else [])
    finally:
        del sys.modules["acme_cache"]
        namespaces._from_a_folder.cache_clear()


def test_a_library_beside_those_of_python(tmp_path):
    """What `pip install --user` puts elsewhere, or a .pth file names, is a library, too."""
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "acme_cache.py").touch()
    code = "import acme_cache; from labsupport.explorer.clients.namespaces import installed as i; "
    told = subprocess.run(
        [sys.executable, "-c", code + "print(i('acme_cache'))"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "True\n"


def test_an_attribute_without_a_name():
    """`getattr(request, "user", "")`: the text stands beside one that may be a name."""
    box = types.SimpleNamespace(user="ada")

    def client(redis, db):
        return getattr(box, "user", "")

    assert shared_names({"ada": client, "bob": client}) == ["box"]


def test_memory_of_a_module_however_it_is_named():
    """By a name of the function that encloses the client, or as an attribute of a package."""
    package, module = types.ModuleType("acme"), types.ModuleType("acme.names")
    package.names, module.NAMES, module.of = module, {}, package

    def by_name(redis, db):
        return module.NAMES

    def by_path(redis, db):
        return package.names.of.names.NAMES

    assert shared_names({"ada": by_name, "bob": by_path}) == ["NAMES"]


def keeps(redis, db):
    return keeps.cache


keeps.cache = {}  # type: ignore[attr-defined]
SHARED: dict[str, int] = {}
ONE, OTHER = {"at": SHARED}, [SHARED]


class Slotted:
    __slots__ = "held"

    def __init__(self, held):
        self.held = held


class Private:
    __slots__ = ("__held",)

    def __init__(self, held):
        self.__held = held


class Elsewhere:
    """Keeps what is set on it somewhere else."""

    def __get__(self, owner, kind=None):
        return SHARED

    def __set__(self, owner, value):
        SHARED["it"] = value


class Described:
    it = Elsewhere()


FIRST, SECOND = Slotted(SHARED), Private(SHARED)
# a library's object that keeps what to call: a task, a command, a signal
TASK = argparse.Namespace(run=lambda: SHARED)
SIGNAL = argparse.Namespace(receivers={"a": weakref.ref(keeps)})
DESCRIBED = Described()


@pytest.mark.parametrize(
    ("ada", "bob"),
    [
        (keeps, lambda redis, db: keeps(redis, db)),
        (lambda redis, db: ONE, lambda redis, db: OTHER),
        (lambda redis, db: FIRST, lambda redis, db: SECOND),
        (
            lambda redis, db: getattr(sys.modules[__name__], "SHARED"),  # noqa: B009
            lambda redis, db: SHARED,
        ),
        (
            lambda redis, db: importlib.import_module(__name__).SHARED,
            lambda redis, db: SHARED,
        ),
        (lambda redis, db: TASK.run(), lambda redis, db: SHARED),
        (lambda redis, db: SIGNAL.receivers, keeps),
        (lambda redis, db: DESCRIBED.it, lambda redis, db: SHARED),
    ],
    ids=[
        "an attribute of a function",
        "two containers",
        "slots",
        "getattr",
        "import_module",
        "a library's object",
        "a weak reference",
        "a descriptor",
    ],
)
def test_memory_that_two_reach_in_their_own_ways(ada, bob):
    assert shared_names({"ada": ada, "bob": bob})


def test_modules_that_import_one_another_are_looked_at_once():
    modules = [types.ModuleType(f"m{n}") for n in range(12)]
    for module in modules:
        vars(module).update({one.__name__: one for one in modules}, NAMES={})
    code = f"def client(redis, db): return [{', '.join(f'm{n}.NAMES' for n in range(12))}]"
    space = {one.__name__: one for one in modules}
    exec(code, space)
    assert shared_names({"ada": space["client"], "bob": space["client"]}) == ["NAMES"]


@pytest.mark.parametrize("options", [{"prune": True, "delays": False}, {"delays": True}])
def test_memory_that_given_makes(options):
    """What the clients share is asked for again after the first order: only then it is there."""
    made = types.SimpleNamespace()

    def given(redis, db):
        nonlocal made
        made = types.SimpleNamespace(last="")

    def client(name):
        def sets(redis, db):
            redis.get(name)
            made.last = name

        return sets

    report = explore(
        {"ada": client("ada"), "bob": client("bob")},
        given=given,
        invariant=lambda redis, db: made.last == "bob",
        **options,
    )
    assert report.violations, report


def test_functions_of_one_factory_are_two():
    """A library calls both: what the second one encloses is shared, though their code is the same."""
    shared: list[str] = []

    def receiver(kept):
        def receives(redis, name):
            redis.get(name)
            kept.append(name)

        return receives

    def client(name):
        signal = argparse.Namespace(sends=[[[[[receiver([])]]]], [[[[receiver(shared)]]]]])

        def sends(redis, db):
            for [[[[receives]]]] in signal.sends:
                receives(redis, name)

        return sends

    report = explore(
        {"ada": client("ada"), "bob": client("bob")},
        given=lambda redis, db: shared.clear(),
        invariant=lambda redis, db: shared != ["bob", "ada"],
        prune=True,
        delays=False,
    )
    assert report.violations, report
