"""Say what a class has passed, and why its answers were refused.

    python tools/classroom.py DIRECTORY

The directory has a folder for each learner, by name, with the file .progress.json from beside their
notebooks. docs/teaching.md has the command for a class on the course's own JupyterHub.
"""

import sys
from collections import Counter
from pathlib import Path

from labsupport.course import exercise_titles
from labsupport.exercises import Progress

__all__ = ["main", "summary"]

_REASONS = 3


def summary(class_of: dict[str, Progress]) -> str:
    """Two tables as text: the learners, and the exercises that somebody has tried.

    Args:
        class_of: what is kept of each learner's work, by name.
    """
    titles = exercise_titles()
    width = max(map(len, class_of), default=0)
    lines = [f"{len(class_of)} learners, {len(titles)} exercises", ""]
    for name, one in sorted(class_of.items()):
        passed = [number for number in titles if number in one.passed]
        refused = sum(sum(one.refused.get(number, {}).values()) for number in titles)
        hints = sum(one.hints.get(number, 0) for number in titles)
        lines.append(
            f"{name:{width}}  {len(passed):2} passed, {refused:3} refusals, {hints:2} hints"
            f"{'; last ' + one.passed[-1] if passed else ''}"
        )
    for number, title in titles.items():
        passes = sum(number in one.passed for one in class_of.values())
        hinted = sum(number in one.hints for one in class_of.values())
        reasons = Counter[str]()
        for one in class_of.values():
            reasons.update(one.refused.get(number, {}))
        if passes or hinted or reasons:
            told = f"{passes} passed, {reasons.total()} refusals, {hinted} took hints"
            lines += ["", f"{number} {title}: {told}"]
            lines += [f"  {count:3} × {why}" for why, count in reasons.most_common(_REASONS)]
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Print it; returns the exit status."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("python tools/classroom.py DIRECTORY, with a folder for each learner")
        return 2
    folders = [one for one in Path(arguments[0]).iterdir() if one.is_dir()]
    text = summary({one.name: Progress(one / ".progress.json") for one in folders})
    # What learners can write is no business of the terminal's.
    print("".join(one for one in text if one.isprintable() or one == "\n"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
