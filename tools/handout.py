"""Write the exercises of each lab as notebooks for a class: no outputs, no way to the solutions.

    python tools/handout.py [DIRECTORY]

Each has the lab's card, the cell that opens it, and its exercises; without a directory they go to
.lab/handout. They run beside the course's own notebooks, with the same packages.
"""

import re
import sys
from pathlib import Path

import nbformat

__all__ = ["handout", "main"]

ROOT = Path(__file__).resolve().parents[1]
_PARTS = ("Open the lab", "Exercises")


def handout(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Leave in a notebook the card, the parts of `_PARTS`, and the cell that closes the lab."""
    kept, inside = [], True  # the card comes before the first heading
    for cell in notebook.cells:
        heading = re.match(r"##? (.*)", cell.source)
        if cell.cell_type == "markdown" and heading:
            inside = heading.group(0).startswith("# ") or heading.group(1) in _PARTS
        if inside or cell.source.strip() == "lab.close()":
            kept.append(cell)
    for cell in kept:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            lines = cell.source.splitlines()
            cell.source = "\n".join(line for line in lines if not line.startswith("# solution("))
            cell.source = re.sub(r", solution$", "", cell.source, flags=re.MULTILINE)
    notebook.cells = kept
    return notebook


def main(arguments: list[str]) -> int:
    """Write the handouts; returns the exit status."""
    directory = Path(arguments[0]) if arguments else ROOT / ".lab" / "handout"
    directory.mkdir(parents=True, exist_ok=True)
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        target = directory / f"{path.stem}_exercises.ipynb"
        nbformat.write(handout(nbformat.read(path, as_version=4)), target)
        print(target.relative_to(ROOT) if target.is_relative_to(ROOT) else target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
