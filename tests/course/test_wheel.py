"""The wheel, and the notebooks' first cell: all that a bare, hosted notebook needs.

Such a place is made here: an interpreter that sees the packages of this one, but no labsupport and no
checkout, and whose pip knows the wheel and nothing else.
"""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest

from labsupport.database.shop import TABLES

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "00_start_here.ipynb"
RUN = """
import sys, nbformat
from nbclient import NotebookClient
from traitlets.config import Config

notebook = nbformat.read(sys.argv[1], as_version=4)
settings = Config({"KernelManager": {"transport": "ipc", "ip": sys.argv[2]}})
NotebookClient(notebook, timeout=60, kernel_name="python3", config=settings).execute()
nbformat.write(notebook, sys.argv[1])
"""
PROBE = """
import labsupport, pathlib
print(labsupport.__file__, *pathlib.Path().rglob("*"), sep="\\n")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the checkout without asking anybody."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = directory.iterdir()
    return built


@pytest.fixture
def bare(tmp_path):
    """An interpreter with the packages of this one, without labsupport."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for one in Path(sysconfig.get_path("purelib")).iterdir():
        if "redis_patterns_lab" not in one.name:
            (packages / one.name).symlink_to(one)
    venv.create(tmp_path / "bare", symlinks=True)
    (site,) = (tmp_path / "bare" / "lib").glob("python*/site-packages")
    (site / "packages.pth").write_text(f"{packages}\n")
    return tmp_path / "bare" / "bin" / "python"


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


def test_first_cell_is_enough_for_a_bare_notebook(wheel, bare, tmp_path):
    """Far from the checkout the first cell installs the wheel, and the lab runs on it, with its workers."""
    place = tmp_path / "empty"
    place.mkdir()
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    live = next(place for place, source in enumerate(sources) if ".run(" in source)
    sources = [*sources[: live + 1], PROBE]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)))
    copy = tmp_path / "notebook.ipynb"
    nbformat.write(notebook, copy)
    offered = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent)}
    ours = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    others = {key: value for key, value in os.environ.items() if key not in ours}
    ran = subprocess.run(
        [bare, "-c", RUN, copy, f"{os.environ['JUPYTER_RUNTIME_DIR']}/bare"],
        cwd=place,
        env=others | offered,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    *_, probe = nbformat.read(copy, as_version=4).cells
    file, *left = probe.outputs[0].text.split()
    assert Path(file).is_relative_to(bare.parents[1])
    assert left == []
