"""Lay out a new lab: a small one that works, to be rewritten piece by piece.

    python tools/new_lab.py NAME [TITLE]        e.g.  bloom_filter "Bloom filter"

It begins as lab 00 under another name and number: its experiment, its exercises, their tests, and of its
notebook the parts that every lab has. README.md and docs/teaching.md get a row each. A title that README.md
has as planned keeps its number; any other lab gets the next one.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]
MODEL = "start_here"
"""The lab that a new one begins as."""

_TO_WRITE = "to be written"
_PARTS = ("## Open the lab", "## Turn the knobs", "## Exercises")
_CARD = """# 00 · Start here: say what the reader will do

| | |
|:--|:--|
| **Time** | how many minutes |
| **You need** | what they should know |
| **You build** | what they will have in the end |
| **You learn to** | what they will be able to do |"""
_BELOW = """

Each section makes a claim, asks for your prediction, breaks the code, finds the reason and repairs it. What
"none breaks" proves, and what it doesn't, is in [lab 00](00_start_here.ipynb#What-a-proof-is). Words with
a fixed meaning are in the [glossary](../docs/glossary.md)."""


def main(arguments: list[str]) -> int:
    """Lay out the lab; returns the exit status."""
    name, *more = arguments or [""]
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise SystemExit("Name the lab's folder, e.g. make new LAB=bloom_filter")
    if (ROOT / "labsupport" / "labs" / name).exists():
        raise SystemExit(f"There is a lab {name} already.")
    title = " ".join(more) or name.replace("_", " ").capitalize()
    if not re.fullmatch(r"\w[\w /-]*", title):
        raise SystemExit(f"Give the lab a title of letters, spaces and hyphens, not {title!r}.")
    number = _number(title)
    for folder in ("labsupport", "tests"):
        _copy_code(ROOT / folder / "labs" / MODEL, name, number, title)
    notebook = _copy_notebook(name, number, title)
    link = f"[{number} {title}](notebooks/{notebook.name})"
    _add_row("README.md", rf"\| \[?{number} ", f"| {link} | {_TO_WRITE} | ? |", r"\| \[?\d\d ")
    weeks = re.findall(r"^\| (\d+) \| \d\d ", _read("docs/teaching.md"), re.MULTILINE)
    week = " | ".join([str(len(weeks) + 1), number, *[_TO_WRITE] * 3])
    _add_row("docs/teaching.md", rf"\| \d+ \| {number} ", f"| {week} |", r"\| \d+ \| \d\d ")
    print(f"Lab {number} {title}: what you see is lab 00's; make it yours.")
    for place in (f"labsupport/labs/{name}", f"tests/labs/{name}", f"notebooks/{notebook.name}"):
        print(f"  {place}")
    print("  one row in README.md, one in docs/teaching.md", flush=True)
    command = [sys.executable, str(ROOT / "tools" / "notebooks.py"), str(notebook)]
    return subprocess.run(command, check=False).returncode


def _number(title: str) -> str:
    """The number that is planned for a title, or the next one."""
    rows = re.findall(
        r"^\| \[?(\d\d) ([^\]|]+?)(?:\]\(\S+\))? \|", _read("README.md"), re.MULTILINE
    )
    planned = [number for number, known in rows if known == title]
    return planned[0] if planned else f"{max(int(number) for number, _ in rows) + 1:02}"


def _renamed(text: str, name: str, number: str, title: str) -> str:
    """What is said of lab 00, said of the new one."""
    text = text.replace(MODEL, name)
    text = re.sub(r"\b00( ·)? Start here", rf"{number}\1 {title}", text)
    text = re.sub(r"(?<![\d.])00\.(\d)\b", rf"{number}.\1", text)
    return re.sub(r"\b([Ll]ab) 00\b", rf"\1 {number}", text)


def _copy_code(folder: Path, name: str, number: str, title: str) -> None:
    target = folder.with_name(name)
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("__pycache__"))
    for path in target.rglob("*.py"):
        path.write_text(_renamed(path.read_text(), name, number, title))
    face = target / "__init__.py"
    if face.exists():
        face.write_text(re.sub(rf"({title}:) [^\"]*", rf"\1 {_TO_WRITE}.", face.read_text()))


def _copy_notebook(name: str, number: str, title: str) -> Path:
    """Of the notebook, the parts that every lab has."""
    notebook = nbformat.read(ROOT / "notebooks" / f"00_{MODEL}.ipynb", as_version=4)
    card, *cells = notebook.cells
    parts: list[list[nbformat.NotebookNode]] = [[]]
    for cell in cells:
        if cell.source.startswith("## "):
            parts.append([])
        parts[-1].append(cell)
    first, *parts = parts
    experiment = next(part for part in parts if any(".run(" in cell.source for cell in part))
    kept = [part for part in parts if part is experiment or part[0].source.startswith(_PARTS)]
    notebook.cells = [card, *first, *(cell for part in kept for cell in part), cells[-1]]
    card.source = _CARD
    for cell in notebook.cells:
        cell.source = _renamed(cell.source, name, number, title)
    card.source += _BELOW
    path = ROOT / "notebooks" / f"{number}_{name}.ipynb"
    nbformat.write(notebook, path)
    return path


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _add_row(name: str, planned: str, row: str, rows: str) -> None:
    """Put a row in the place of the planned one, or else below the table's last."""
    lines = _read(name).splitlines(keepends=True)
    there = [at for at, line in enumerate(lines) if re.match(planned, line)]
    end = max(at for at, line in enumerate(lines) if re.match(rows, line)) + 1
    at = slice(there[0], there[0] + 1) if there else slice(end, end)
    lines[at] = [f"{row}\n"]
    (ROOT / name).write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
