"""Write the notebooks as slides: pages for a browser, to present from or to hand out.

    python tools/slides.py [DIRECTORY]

They show what the notebooks hold, and what answers a question comes with the next key. To run a cell
inside a slide, present from JupyterLab (`make present`), where answers are blurred as they are without
slides. Without a directory they go to .lab/slides. reveal.js lies beside the pages, so that they ask
nothing of the net; where it is not there yet, it comes from a package.
"""

import copy
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter

__all__ = ["fetch_reveal", "main", "slides", "with_answers_later"]

ROOT = Path(__file__).resolve().parents[1]
STYLE = ROOT / "jupyter" / "rise.css"
TEMPLATES = ROOT / "jupyter" / "templates"
CARRIER = "sphinx-revealjs==3.2.1"
"""A package that carries reveal.js; nothing else of it is used, and nothing is installed."""
WIDTH, HEIGHT = 1280, 720
"""Of a slide, in pixels of CSS; reveal.js makes it as large as the window allows."""


def slides(notebook: nbformat.NotebookNode, *, title: str) -> str:
    """The page of a notebook.

    Args:
        title: what the browser's tab says.
    """
    exporter = SlidesExporter(
        template_name="slides",
        extra_template_basedirs=[str(TEMPLATES)],
        reveal_width=str(WIDTH),
        reveal_height=str(HEIGHT),
        reveal_number="c/t",
        reveal_theme="white",  # it brings its own fonts
        reveal_url_prefix="reveal.js",
    )
    resources = {"metadata": {"name": title}}
    page, _ = exporter.from_notebook_node(with_answers_later(notebook), resources)
    return page.replace("</head>", f"<style>{STYLE.read_text()}</style></head>", 1)


def with_answers_later(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook, with each answer that shares a slide with its question marked as a fragment.

    Below a question, "**Predict", that is what the first code cell puts out, and each cell after it.
    The template reads the marks.
    """
    marked = copy.deepcopy(notebook)
    asked = answered = False
    for cell in marked.cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "-")
        if kind in ("slide", "subslide"):
            asked = answered = False
        if answered:
            cell.metadata["answers"] = "cell"
        elif asked and cell.get("outputs"):
            cell.metadata["answers"] = "outputs"
            answered = True
        asked = asked or bool(re.search(r"\*\*predict", cell.source, re.IGNORECASE))
    return marked


def fetch_reveal(directory: Path) -> None:
    """Put reveal.js into a folder of that name below `directory`, unless it is there."""
    target = directory / "reveal.js"
    if target.is_dir():
        return
    with tempfile.TemporaryDirectory() as place:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--target", place, CARRIER], check=True)
        (carried,) = Path(place).glob("*/_static/revealjs")
        for name in ("dist", "plugin/notes"):
            unneeded = shutil.ignore_patterns("*.map", "*.esm.js")
            shutil.copytree(carried / name, target / name, ignore=unneeded)


def main(arguments: list[str]) -> int:
    """Write the slides; returns the exit status."""
    directory = Path(arguments[0]) if arguments else ROOT / ".lab" / "slides"
    directory.mkdir(parents=True, exist_ok=True)
    try:
        fetch_reveal(directory)
    except subprocess.CalledProcessError:
        print(f"reveal.js could not be fetched; put it into {directory / 'reveal.js'}.")
        return 1
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        target = directory / f"{path.stem}.html"
        target.write_text(slides(nbformat.read(path, as_version=4), title=path.stem))
        print(target.relative_to(ROOT) if target.is_relative_to(ROOT) else target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
