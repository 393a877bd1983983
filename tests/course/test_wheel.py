"""What an installation brings: the wheel, the notebooks' first cell, the explorer alone.

Such places are made here, without the net: interpreters that see packages of this one, but neither
labsupport nor the checkout.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

from labsupport.database.shop import TABLES

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "00_start_here.ipynb"
RUN = """
import sys, nbformat
from nbclient import NotebookClient
from traitlets.config import Config

notebook = nbformat.read(sys.argv[1], as_version=4)
settings = Config({"KernelManager": {"transport": "ipc", "ip": sys.argv[2]}})
NotebookClient(notebook, timeout=600, kernel_name="python3", config=settings).execute()
nbformat.write(notebook, sys.argv[1])
"""
PROBE = """
import labsupport, pathlib
print(labsupport.__file__, *pathlib.Path().rglob("*"), sep="\\n")
"""
LOST_UPDATE = """
from labsupport import explore

def count(redis, db):
    redis.set("n", int(redis.get("n") or 0) + 1)

def rename(redis, db):
    db.execute("UPDATE users SET username = 'grace' WHERE id = 1")
    redis.delete("user:1")

found = explore(
    {"ada": count, "bob": count}, invariant=lambda redis, db: redis.get("n") == "2"
)
print(found, found._repr_mimebundle_()["text/plain"])
print(explore({"ada": rename}, invariant=lambda redis, db: False))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the checkout without asking anybody."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = directory.iterdir()
    return built


def _interpreter(place, packages):
    """An interpreter that sees those files and folders as its packages."""
    seen = place / "packages"
    seen.mkdir()
    for one in packages:
        (seen / one.name).symlink_to(one)
    venv.create(place / "bare", symlinks=True)
    (site,) = (place / "bare" / "lib").glob("python*/site-packages")
    (site / "packages.pth").write_text(f"{seen}\n")
    return place / "bare" / "bin" / "python"


def _environment(**more):
    ours = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "REDIS_URL", "DATABASE_URL"}
    return {key: value for key, value in os.environ.items() if key not in ours} | more


@pytest.fixture
def bare(tmp_path):
    """An interpreter with the packages of this one, without labsupport."""
    packages = Path(sysconfig.get_path("purelib")).iterdir()
    return _interpreter(tmp_path, [one for one in packages if "redis_patterns_lab" not in one.name])


def test_wheel_has_the_package_and_the_data(wheel):
    """Each module and each table is in it once, and nothing else of the checkout."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        for table in TABLES:
            data = (ROOT / "data" / f"{table}.csv").read_bytes()
            assert archive.read(f"labsupport/data/{table}.csv") == data
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "labsupport").rglob("*.py")}
    tables = {f"labsupport/data/{table}.csv" for table in TABLES}
    assert sorted(names) == sorted(modules | tables | {"labsupport/py.typed"})


def _run(notebook, place, python, **more):
    """Run a notebook in a folder, and return its code cells as they are then."""
    path = place / "notebook.ipynb"
    nbformat.write(notebook, path)
    ran = subprocess.run(
        [python, "-c", RUN, path, f"{os.environ['JUPYTER_RUNTIME_DIR']}/{place.parent.name}"],
        cwd=place,
        env=_environment(**more),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return nbformat.read(path, as_version=4).cells


def _code(path):
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if "outputs" in cell]


def _notebook(sources):
    return nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)))


def test_first_cell_installs_from_the_checkout(bare, tmp_path):
    """In a checkout it brings labsupport from there, and the lab runs on it, with its workers."""
    checkout = tmp_path / "checkout"
    cache = shutil.ignore_patterns("__pycache__")  # other tests may be writing there
    for name in ("labsupport", "data"):
        shutil.copytree(ROOT / name, checkout / name, ignore=cache)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout / name)
    (checkout / "notebooks").mkdir()
    sources = _code(NOTEBOOK)
    live = next(place for place, source in enumerate(sources) if ".run(" in source)
    offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}  # pip reads 0 as "no isolation"
    notebook = _notebook([*sources[: live + 1], PROBE])
    *_, probe = _run(notebook, checkout / "notebooks", bare, **offline)
    file, *left = probe.outputs[0].text.split()
    assert Path(file).is_relative_to(bare.parents[1])
    assert left == ["notebook.ipynb"]


def test_first_cell_says_how_elsewhere(bare, tmp_path):
    """Where there is no checkout it asks no index for anything, and says in one line what to do."""
    place = tmp_path / "somewhere" / "else"
    place.mkdir(parents=True)
    (first,) = _run(_notebook(_code(NOTEBOOK)[:1]), place, bare, PIP_INDEX_URL="http://127.0.0.1:1")
    (said,) = first.outputs
    assert said.name == "stdout"
    assert said.text.count("\n") == 1
    assert "get the whole course" in said.text


def _brought_by(requirements, extras=()):
    """The distributions that an installation of those brings, by name."""
    found = {}
    for one in map(Requirement, requirements):
        if one.marker and not any(one.marker.evaluate({"extra": name}) for name in ("", *extras)):
            continue
        distribution = found[one.name] = metadata.distribution(one.name)
        found |= _brought_by(distribution.requires or (), one.extras)
    return found


def test_the_explorer_needs_no_more_than_the_base(wheel, tmp_path):
    """What `pip install redis-patterns-lab` brings finds a lost update, on the lab's own servers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    distributions = _brought_by(project["dependencies"])
    assert len(distributions) < 10
    packages = {
        Path(one.locate_file(file.parts[0]))
        for one in distributions.values()
        for file in one.files
        if file.parts[0] not in ("..", "__pycache__")
    }
    python = _interpreter(tmp_path, sorted(packages))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "packages")
    ran = subprocess.run(
        [python, "-c", LOST_UPDATE],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "6 interleavings, 4 break the invariant" in ran.stdout
    assert "UPDATE" in ran.stdout
