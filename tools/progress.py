"""Say which exercises were passed and what comes next, or write that as the course's page.

    python tools/progress.py [PAGE]

`make lab` opens the page first. The progress is the file beside the notebooks, or LAB_PROGRESS.
"""

import os
import re
import sys
from pathlib import Path

from labsupport.course import exercise_titles, overview, titles

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: list[str]) -> int:
    """Print or write it; returns the exit status."""
    os.environ.setdefault("LAB_PROGRESS", str(ROOT / "notebooks" / ".progress.json"))
    from labsupport.exercises import Progress

    page = overview(Progress().passed, ROOT / "notebooks")
    if arguments:
        Path(arguments[0]).write_text(page, encoding="utf-8")
        return 0
    head = page.partition("\n\n* ")[0]
    print(re.sub(r"\[(.*?)\]\(.*?\)|[*#]+ ?", r"\1", head).strip(), end="\n\n")
    passed = Progress().passed
    for title in titles().values():
        print(title)
        for number, told in exercise_titles().items():
            if number[:2] == title[:2]:
                print(f"  {'✓' if number in passed else '○'} {number} {told}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
