"""What labs 00 to 12 ship runs on a cluster as it is; lab 08 has servers of its own.

The functions are taken from the notebooks: their imports, definitions and constants, and nothing that
runs an experiment.
"""

import ast
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from redis.exceptions import RedisClusterException

from labsupport.database import open_shop
from labsupport.servers.cluster import start_cluster

pytestmark = pytest.mark.long

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"


@pytest.fixture(scope="module")
def cluster():
    with start_cluster() as cluster:
        yield cluster


@pytest.fixture
def redis(cluster):
    with cluster.client() as client:
        yield client
        for key in list(client.scan_iter()):
            client.delete(key)


@pytest.fixture
def db():
    with open_shop() as database:
        yield database.session()


def is_definition(node):
    """Whether it can be run without starting anything."""
    if isinstance(node, ast.Assign):
        calls = {ast.unparse(one.func) for one in ast.walk(node) if isinstance(one, ast.Call)}
        names = [ast.unparse(target) for target in node.targets]
        plain = all(name[0].isupper() or name == "metrics" for name in names)
        return calls <= {"namedtuple", "Counter"} and plain
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def taken_from(number):
    """What a lab's notebook defines."""
    (path,) = NOTEBOOKS.glob(f"{number}_*.ipynb")
    names = {"__name__": "a notebook"}
    cells = nbformat.read(path, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"][1:]  # the first installs
    for node in [node for text in code for node in ast.parse(text).body if is_definition(node)]:
        with suppress(NameError):  # it uses what a run has left
            exec(compile(ast.Module([node], []), path.name, "exec"), names)
    return SimpleNamespace(**names)


def turns(count):
    left = iter(range(count))
    return lambda: next(left, None) is not None


def test_00_counts(redis):
    lab = taken_from("00")
    assert [lab.increment(redis, "visits") for _ in range(2)] == [1, 2]


def test_01_lease(redis, db):
    lab, loads = taken_from("01"), []

    def load():
        loads.append(1)
        return {"id": 1}

    assert [lab.lease(redis, "user:1", load, 60) for _ in range(2)] == [{"id": 1}] * 2
    assert len(loads) == 1
    lab.rename_with_lease(redis, db, 1, "grace")
    lab.lease(redis, "user:1", load, 60)
    assert len(loads) == 2


def test_02_lease_and_version(redis, db):
    lab = taken_from("02")
    for get, rename in (
        (lab.get_leased, lab.around_leased),
        (lab.get_versioned, lab.write_versioned),
    ):
        get(redis, db, 2)
        rename(redis, db, 2, "grace")
        assert get(redis, db, 2)["username"] == "grace"


def test_03_stream(redis, db):
    lab = taken_from("03")
    lab.start_stream(redis, db)
    before = db.fetch_one("SELECT views FROM page_stats WHERE id = 1")["views"]
    for _ in range(3):
        lab.add_view(redis, db, 1)
    lab.flush_stream(redis, db)
    assert db.fetch_one("SELECT views FROM page_stats WHERE id = 1")["views"] == before + 3


def test_04_announced(redis, db):
    lab = taken_from("04")
    lab.get_leased(redis, db, 1)
    lab.announced(redis, db, 1, "grace")
    assert lab.get_leased(redis, db, 1)["username"] == "grace"


@pytest.mark.parametrize("name", ["server_time_log", "two_counters"])
def test_05_limits(redis, name):
    allow = getattr(taken_from("05"), name)
    admitted = [allow(redis, "calls:ada", 3, 60, time.time)[0] for _ in range(4)]
    assert list(map(bool, admitted)) == [True, True, True, False]


@pytest.mark.parametrize("name", ["token_bucket", "gcra"])
def test_06_buckets(redis, name):
    bucket = getattr(taken_from("06"), name)
    admitted = [bucket(redis, "bucket:ada", 3, 0.01, time.time)[0] for _ in range(4)]
    assert list(map(bool, admitted)) == [True, True, True, False]


@pytest.mark.parametrize("name", ["fenced_lock", "shop_lock"])
def test_07_locks(redis, name):
    lock = getattr(taken_from("07"), name)
    numbers = []
    for _ in range(2):
        with lock(redis, "lock:kettle", 10) as hold:
            numbers.append(hold.number)
            assert redis.exists("lock:kettle")
        assert not redis.exists("lock:kettle")
    assert numbers[0] < numbers[1]


def test_09_notify_and_read(redis):
    lab, handled = taken_from("09"), []
    send, _ = lab.ship(redis, ["mailer"])
    for number in range(3):
        send(f"order {number}")
    lab.read_new(redis, "{orders}", "mailer", handled.append)
    assert handled == ["order 0", "order 1", "order 2"]


@pytest.mark.parametrize("number", ["10", "11"])
def test_queues(redis, number):
    """A job that fails three times ends among the dead letters; the others are done."""
    lab, done = taken_from(number), []

    def handle(job):
        if job == "poison":
            raise ValueError(job)
        done.append(job)

    for job in ("job-1", "poison", "job-2"):
        lab.put_tagged(redis, job)
    lab.ship(redis, "ada", handle, lambda: not lab.dead_letters(redis))
    assert sorted(done) == ["job-1", "job-2"]
    assert list(lab.dead_letters(redis)) == ["poison"]


def test_12_sessions(redis):
    lab = taken_from("12")
    store = lab.Shipped(redis, 60_000, 600_000)
    first, second = store.create("ada"), store.create("ada")
    assert store.put(first, "basket", "kettle")
    third = store.log_in(first, "grace")
    assert store.get(first) is None
    assert store.get(third)["basket"] == "kettle"
    assert store.revoke_all("ada") >= 1
    assert store.get(second) is None


def test_an_early_version_is_refused(redis):
    """Lab 10's first reaper has its keys anywhere: the test does see the difference."""
    lab = taken_from("10")
    with pytest.raises(RedisClusterException, match="same key slot"):
        lab.leased(redis, "ada", print, turns(1))
