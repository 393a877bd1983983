"""Run notebooks from the top in a fresh kernel, and save what a reader on the web should see.

    python tools/notebooks.py [NOTEBOOK …]

Without arguments: every notebook of the course, one after the other, because the charts that they
save are measurements. A notebook that fails keeps its old content; the exit status then is 1.
"""

import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image
from traitlets.config import Config

__all__ = ["clean", "main", "problems", "run"]

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "herd.png"
SECONDS = 120
"""A cell that takes longer than this has hung."""

_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
_WIDGETS = "application/vnd.jupyter.widget-view+json"
_KEPT = ("jupyter", "slideshow", "tags")  # jupyter: whether a cell is folded


def run(path: Path) -> nbformat.NotebookNode:
    """The notebook as one run from the top in a new kernel leaves it, cleaned.

    Raises:
        CellExecutionError: a cell raised and is not tagged raises-exception.
        TimeoutError: a cell hung.
        RuntimeError: the kernel did not start, or it died.
    """
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)
    # In /tmp, because a socket's path may be no longer than some 100 characters.
    with tempfile.TemporaryDirectory(prefix="lab-", dir="/tmp") as directory:
        # Not the reader's own progress: what hint() shows depends on it.
        os.environ["LAB_PROGRESS"] = str(Path(directory, "progress.json"))
        NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            record_timing=False,
            store_widget_state=False,
            coalesce_streams=True,
            config=Config({"KernelManager": {"transport": "ipc", "ip": f"{directory}/kernel"}}),
            resources={"metadata": {"path": str(path.parent)}},
        ).execute()
    clean(notebook)
    return notebook


def clean(notebook: nbformat.NotebookNode) -> None:
    """Remove what differs from machine to machine, and what needs a kernel to be seen."""
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    )
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in _KEPT if key in cell.metadata}
        )
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop(_WIDGETS, None)
            if "image/png" in data:
                data["image/png"] = _packed(data["image/png"])
        if "outputs" in cell:
            cell.outputs = [one for one in cell.outputs if one.get("data", True)]


def _packed(picture: str) -> str:
    """The same picture in fewer bytes: it was drawn in haste, and is kept for long."""
    small = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(picture))).save(small, "png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def problems(notebook: nbformat.NotebookNode) -> list[str]:
    """What a reader, or the comparison in CI, would trip over in an executed notebook."""
    found = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"execution counts are not 1..{len(code)}: {counts}")
    for number, cell in enumerate(code, 1):
        tagged = "raises-exception" in cell.metadata.get("tags", [])
        raised = [one.ename for one in cell.outputs if one.output_type == "error"]
        if tagged and not raised:
            found.append(f"In[{number}] is tagged raises-exception, and raised nothing")
        if raised and not tagged:
            found.append(f"In[{number}] holds the error {raised[0]}")
        for output in cell.outputs:
            if output.get("name") == "stderr":
                found.append(f"In[{number}] wrote to stderr: {_first_line(output.text)}")
            if _WIDGETS in output.get("data", {}):
                found.append(f"In[{number}] holds a widget, which is not seen without a kernel")
            place = _machine_path(output)
            if place:
                found.append(f"In[{number}] shows a path of this machine: {place}")
    return found


def main(arguments: list[str]) -> int:
    """Run and save the notebooks; returns the exit status."""
    paths = [Path(name).resolve() for name in arguments]
    failed = False
    for path in paths or sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        try:
            notebook = run(path)
            found = problems(notebook)
        except CellExecutionError as error:
            found = [str(error)]
        except (RuntimeError, OSError, ValueError) as error:  # not there, or not a notebook, too
            found = [f"{type(error).__name__}: {error}"]
        print(f"{'✗' if found else '✓'} {path.name}", *found, sep="\n    ", flush=True)
        if found:
            failed = True
        else:
            _save(notebook, path)
            _save_picture(notebook)
    return int(failed)


def _save(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write beside it and rename: a reader never finds half a notebook."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    nbformat.write(notebook, unfinished)
    unfinished.replace(path)


def _save_picture(notebook: nbformat.NotebookNode) -> None:
    """The README shows the picture of the cell that is tagged for it."""
    for cell in notebook.cells:
        if "readme-picture" not in cell.metadata.get("tags", []):
            continue
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                PICTURE.parent.mkdir(exist_ok=True)
                PICTURE.write_bytes(base64.b64decode(output.data["image/png"]))


def _machine_path(output: Any) -> str | None:
    texts = [output.get("text", ""), *output.get("traceback", [])]
    texts += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    places = {str(ROOT), str(Path.home()), tempfile.gettempdir(), "/home", "/Users", "/tmp"}
    pattern = "|".join(re.escape(place) + r"/[\w.]" for place in sorted(places) if place != "/")
    found = re.search(rf"({pattern})[^\s'\"]*", "\n".join(map(str, texts)))
    return found and found.group()


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
