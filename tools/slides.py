"""Write the notebooks as slides: pages for a browser, to present from or to hand out.

    python tools/slides.py [DIRECTORY]

They show what the notebooks hold; a picture that would get small below its code has a slide of its
own, its verdict stands where it leaves the picture larger, and what answers a question comes with the
next key. To run a cell inside a slide, present from JupyterLab (`make present`), where answers are
hidden as they are without slides. Without a directory they go to .lab/slides. reveal.js lies beside
the pages, so that they ask nothing of the net; where it is not there yet, it comes from a package.
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

__all__ = ["export", "fetch_reveal", "main", "slides", "with_answers_later", "with_large_pictures"]

ROOT = Path(__file__).resolve().parents[1]
STYLE = ROOT / "jupyter" / "rise.css"
TEMPLATES = ROOT / "jupyter" / "templates"
CARRIER = "sphinx-revealjs==3.2.1"
"""A package that carries reveal.js; nothing else of it is used, and nothing is installed."""
WIDTH, HEIGHT = 1280, 720
"""Of a slide, in pixels of CSS; reveal.js makes it as large as the window allows."""

_BEGINS = ("slide", "subslide")
_ROOM, _ACROSS = HEIGHT - 40, WIDTH - 80  # within the padding of `STYLE`
_SHARE = 0.8  # of its own size a picture has at the least, or it gets a slide of its own
_BESIDE, _MANY_BESIDE, _CLAIM = 304, 424, 29  # a verdict beside a picture; a claim below
_MANY = 5  # claims
_LITTLE = 60  # without so few pixels of text it would be hardly larger
_CODE_LINE, _TEXT_LINE, _LETTERS, _BETWEEN = 21, 31, 105, 16  # pixels; letters in a line


def slides(notebook: nbformat.NotebookNode, *, title: str) -> str:
    """The page of a notebook, to be read without a kernel.

    Args:
        title: what the browser's tab says.
    """
    return export(with_answers_later(with_large_pictures(notebook)), title=title)


def export(notebook: nbformat.NotebookNode, *, title: str) -> str:
    """The page of a notebook, slide by slide as its cells say."""
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
    made, _ = exporter.from_notebook_node(notebook, resources)
    return made.replace("</head>", f"<style>{STYLE.read_text()}</style></head>", 1)


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


def with_large_pictures(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook, where a picture that its own code would make small begins a slide without it."""
    made = copy.deepcopy(notebook)
    cells: list[nbformat.NotebookNode] = []
    for slide in _slides_of(made.cells):
        text = sum(map(_text_height, slide[: _end(slide)]))
        alone = text <= _LITTLE and sum(len(_pictures(cell)) for cell in slide) == 1
        small = not alone and _share(slide)[0] < _SHARE
        for cell in slide:
            cells += _apart(cell) if small and _pictures(cell) else [cell]
    for slide in _slides_of(cells):
        end = _end(slide)
        if _share(slide)[0] < _SHARE and end < len(slide):  # what is said of it comes behind it
            slide[end].metadata["slideshow"] = nbformat.from_dict({"slide_type": "subslide"})
    for slide in _slides_of(cells):
        tag = "beside" if _share(slide)[1] else "below"
        for cell in filter(_pictures, slide):
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), tag]
    made.cells = cells
    return made


def _slides_of(cells: list[nbformat.NotebookNode]) -> list[list[nbformat.NotebookNode]]:
    found: list[list[nbformat.NotebookNode]] = []
    for cell in cells:
        if not found or cell.metadata.get("slideshow", {}).get("slide_type") in _BEGINS:
            found.append([])
        found[-1].append(cell)
    return found


def _end(slide: list[nbformat.NotebookNode]) -> int:
    """Where the last of its cells with a picture ends."""
    return max((place for place, cell in enumerate(slide, 1) if _pictures(cell)), default=0)


def _share(slide: list[nbformat.NotebookNode]) -> tuple[float, bool]:
    """How large its pictures get, of their own size, and whether that is with their verdict beside them."""
    pictures = [picture for cell in slide for picture in _pictures(cell)]
    if not pictures:
        return 1.0, False
    wide, high = max(wide for wide, _ in pictures), sum(high for _, high in pictures)
    room, claims = _ROOM - sum(map(_text_height, slide)), sum(map(_claims, slide))
    below = min(1.0, _ACROSS / wide, (room - _CLAIM * claims) / high)
    aside = _MANY_BESIDE if claims >= _MANY else _BESIDE
    beside = min(1.0, (_ACROSS - aside) / wide, room / high)
    return max(below, beside), beside > below


def _text_height(cell: nbformat.NotebookNode) -> int:
    """About how many pixels its source takes, and what it prints."""
    lines = cell.source.splitlines()
    if cell.cell_type == "code":
        hidden = cell.metadata.get("transient", {}).get("remove_source")
        lines = [] if hidden else lines
        printed = "".join(one.get("text", "") for one in cell.get("outputs", []))
        return _BETWEEN * (not hidden) + _CODE_LINE * (len(lines) + len(printed.splitlines()))
    return _BETWEEN + _TEXT_LINE * sum(1 + len(line) // _LETTERS for line in lines if line)


def _pictures(cell: nbformat.NotebookNode) -> list[tuple[int, int]]:
    """Width and height of each."""
    looks = [one.get("metadata", {}).get("image/png", {}) for one in cell.get("outputs", [])]
    return [(look["width"], look["height"]) for look in looks if "height" in look]


def _claims(cell: nbformat.NotebookNode) -> int:
    pages = [one.get("data", {}).get("text/html", "") for one in cell.get("outputs", [])]
    return sum(page.count("</span></div>") for page in pages if page.startswith("<div"))


def _apart(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The cell without its pictures, and what each of them and what follows it is on a slide."""
    shown = [cell]
    outputs, cell.outputs = cell.outputs, []
    for output in outputs:
        if "image/png" in output.get("data", {}):
            shown.append(copy.deepcopy(shown[0]))
            shown[-1].update(id=f"{cell.id}-{len(shown)}", outputs=[])
            look = {"slideshow": {"slide_type": "subslide"}, "transient": {"remove_source": True}}
            shown[-1].metadata.update(nbformat.from_dict(look))
        shown[-1].outputs.append(output)
    return shown


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
