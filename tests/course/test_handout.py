"""The handout for a class: the exercises alone, and nothing that gives them away."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tools.handout import handout, main

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("[0-9]*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_exercises_without_answers(path):
    """Each handout has the lab's exercises, no output, and no call that shows a solution."""
    found = handout(nbformat.read(path, as_version=4))
    text = "\n".join(cell.source for cell in found.cells)
    assert found.cells[0].source.startswith("# ")
    assert f'check("{path.name[:2]}.1"' in text
    assert "hint(" in text
    assert "solution" not in text.replace("'s own solution", "")
    assert not re.search(r"^explore\(", text, re.MULTILINE)  # a stub may call it
    code = [cell for cell in found.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    nbformat.validate(found)


@pytest.mark.long
def test_a_handout_runs_by_itself(tmp_path):
    """A handout needs no cell that it does not have: each check answers "not yet"."""
    assert main([str(tmp_path)]) == 0
    written = sorted(tmp_path.iterdir())
    assert len(written) == len(NOTEBOOKS)
    notebook = nbformat.read(written[0], as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    outputs = [str(output) for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("not yet" in output for output in outputs) == 3
