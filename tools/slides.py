"""Write the notebooks as slides: pages for a browser, to present from or to hand out.

    python tools/slides.py [DIRECTORY]

They show what the notebooks hold; to run a cell inside a slide, present from JupyterLab (`make
present`). Without a directory they go to .lab/slides. Their page fetches reveal.js from the net; put
the package's folder beside them, as `reveal.js`, and that one is used.
"""

import sys
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter

__all__ = ["main", "slides"]

ROOT = Path(__file__).resolve().parents[1]
STYLE = ROOT / "jupyter" / "rise.css"
WIDTH, HEIGHT = 1280, 720
"""Of a slide, in pixels of CSS."""


def slides(notebook: nbformat.NotebookNode, *, title: str, reveal: str = "") -> str:
    """The page of a notebook.

    Args:
        title: what the browser's tab says.
        reveal: where the page finds reveal.js; without it, on the net.
    """
    exporter = SlidesExporter(
        reveal_width=str(WIDTH),
        reveal_height=str(HEIGHT),
        reveal_transition="none",
        reveal_number="c/t",
        reveal_url_prefix=reveal,
    )
    resources = {"metadata": {"name": title}}
    page, _ = exporter.from_notebook_node(notebook, resources)
    return page.replace("</head>", f"<style>{STYLE.read_text()}</style></head>", 1)


def main(arguments: list[str]) -> int:
    """Write the slides; returns the exit status."""
    directory = Path(arguments[0]) if arguments else ROOT / ".lab" / "slides"
    directory.mkdir(parents=True, exist_ok=True)
    reveal = "reveal.js" if (directory / "reveal.js").is_dir() else ""
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        target = directory / f"{path.stem}.html"
        page = slides(nbformat.read(path, as_version=4), title=path.stem, reveal=reveal)
        target.write_text(page)
        print(target.relative_to(ROOT) if target.is_relative_to(ROOT) else target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
