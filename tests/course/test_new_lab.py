"""`make new`: a lab that is laid out passes the tests as it is."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (".ci", ".devcontainer", ".github", "binder", "docs", "data", "jupyter", "labsupport")
FOLDERS += ("notebooks", "tests", "tools")
TESTS = (
    "tests/labs/bloom_filter/test_known_answers.py::TestStubs",
    "tests/labs/bloom_filter/test_known_answers.py::TestSolutions",
    "tests/exercises/test_every_lab.py",
    "tests/course/test_house.py",
    "tests/course/test_rooms.py",
)


@pytest.fixture
def checkout(tmp_path):
    """A copy of the checkout."""
    cache = shutil.ignore_patterns("__pycache__")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tmp_path / "checkout" / name, ignore=cache)
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".git":
            shutil.copy(path, tmp_path / "checkout")
    return tmp_path / "checkout"


def python(checkout, *arguments):
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def plan(checkout, title):
    """Put a planned lab below the last one of README's table; its number."""
    readme = checkout / "README.md"
    lines = readme.read_text().splitlines(keepends=True)
    last = max(at for at, line in enumerate(lines) if re.match(r"\| \[?\d\d ", line))
    number = f"{int(lines[last].strip('| [')[:2]) + 1:02}"
    lines.insert(last + 1, f"| {number} {title} | something | planned |\n")
    readme.write_text("".join(lines))
    return number


def test_a_new_lab_passes_as_it_is(checkout):
    """A planned one keeps its number; folder, tests, notebook and both tables know it."""
    number = plan(checkout, "Bloom filter")
    plan(checkout, "Something later")
    laid = python(checkout, "tools/new_lab.py", "bloom_filter", "Bloom filter")
    assert laid.returncode == 0, laid.stdout + laid.stderr
    assert f"{number} Bloom filter" in laid.stdout
    assert (checkout / "notebooks" / f"{number}_bloom_filter.ipynb").exists()
    tested = python(checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
    assert tested.returncode == 0, tested.stdout
    again = python(checkout, "tools/new_lab.py", "bloom_filter")
    assert again.returncode == 1
    assert "already" in again.stderr


def test_refuses_what_is_no_name(checkout):
    """Without a name, or with one that cannot be a folder, nothing is laid out."""
    for name in ([], ["Bloom"], ["../x"]):
        found = python(checkout, "tools/new_lab.py", *name)
        assert found.returncode == 1
        assert "make new LAB=" in found.stderr
    colon = python(checkout, "tools/new_lab.py", "shop_window", "Late: a shop window")
    assert colon.returncode == 1
    assert not (checkout / "labsupport" / "labs" / "shop_window").exists()
