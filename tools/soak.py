"""Spend the flake budget: run notebooks many times under load, and report every verdict that differs.

    python tools/soak.py [--times 3] [--loads 0,4,16] [--seed 1] [--pinned] [--url REDIS_URL] [NOTEBOOK …]

Each notebook is run so often under each load, in random order; the load is busy loops that the script
starts and ends. A verdict is compared with the saved one. "not exercised" in place of one is counted by
itself: the machine was too busy for the fault to hit. Exit status 1: a verdict was wrong, a cell raised,
or a notebook hung.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbclient.exceptions import CellExecutionError

from labsupport.processes import adopt, release
from notebooks import ROOT, run

__all__ = ["Difference", "compare", "main", "verdicts"]

_CLAIM = re.compile(r"^(✓ holds|✗ broken|\? not exercised)\s+(.+)$", re.MULTILINE)


class Difference(NamedTuple):
    """A claim that came out otherwise than it was saved.

    Attributes:
        cell: the number of the code cell.
        claim: its words.
        saved: the status in the saved notebook; empty when the claim is not there.
        now: the status in this run.
    """

    cell: int
    claim: str
    saved: str
    now: str

    @property
    def wrong(self) -> bool:
        """False when the run only says that it did not exercise the claim."""
        return self.now != "not exercised" or not self.saved


def verdicts(notebook: nbformat.NotebookNode) -> dict[tuple[int, str, int], str]:
    """The status of each claim that a notebook shows, by its code cell, its words and its count there."""
    found: dict[tuple[int, str, int], str] = {}
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, 1):
        seen: Counter[str] = Counter()
        for output in cell.outputs:
            text = output.get("text") or output.get("data", {}).get("text/plain", "")
            for status, claim in _CLAIM.findall(text):
                found[number, claim, seen[claim]] = status.split(maxsplit=1)[1]
                seen[claim] += 1
    return found


def compare(saved: nbformat.NotebookNode, now: nbformat.NotebookNode) -> list[Difference]:
    """What two runs of one notebook say differently."""
    before, after = verdicts(saved), verdicts(now)
    return [
        Difference(key[0], key[1], before.get(key, ""), after.get(key, ""))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


@contextmanager
def _load(loops: int, core: int | None) -> Iterator[None]:
    """Busy loops beside the block; with a core, all of it stays on that one."""
    before = os.sched_getaffinity(0) if core is not None else set()
    if core is not None:
        os.sched_setaffinity(0, {core})
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    for process in busy:
        adopt(process.pid)
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()
            release(process.pid)
        if core is not None:
            os.sched_setaffinity(0, before)


def _once(path: Path, counts: Counter[str]) -> None:
    begin = time.monotonic()
    try:
        now = run(path)
    except (CellExecutionError, RuntimeError, TimeoutError) as error:
        if getattr(error, "ename", "") == "KeyboardInterrupt":  # somebody ends the soak, not a cell
            raise KeyboardInterrupt from None
        counts["hung" if isinstance(error, TimeoutError) else "raised"] += 1
        print(f"✗ {path.stem}: {str(error).strip().splitlines()[-1]}", flush=True)
        return
    differences = compare(nbformat.read(path, as_version=4), now)
    counts["wrong"] += sum(one.wrong for one in differences)
    counts["not exercised"] += sum(not one.wrong for one in differences)
    sign = "✗" if any(one.wrong for one in differences) else "?" if differences else "✓"
    print(f"{sign} {path.stem} {time.monotonic() - begin:.0f} s", flush=True)
    for one in differences:
        print(f"    In[{one.cell}] {one.saved or 'nothing'} → {one.now or 'nothing'}: {one.claim}")


def main(arguments: list[str]) -> int:
    """Run the notebooks; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--times", type=int, default=3, help="runs of each under each load")
    parser.add_argument("--loads", default="0,4,16", help="numbers of busy loops")
    parser.add_argument("--seed", type=int, default=1, help="of the order")
    parser.add_argument("--pinned", action="store_true", help="all on one core")
    parser.add_argument("--url", help="a Redis of yours, in place of the lab's own")
    asked = parser.parse_args(arguments)
    if asked.url:
        os.environ["REDIS_URL"] = asked.url
    paths = [path.resolve() for path in asked.notebooks]
    paths = paths or sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    core = min(os.sched_getaffinity(0)) if asked.pinned else None
    total: Counter[str] = Counter()
    for loops in map(int, asked.loads.split(",")):
        order = paths * asked.times
        random.Random(asked.seed + loops).shuffle(order)
        counts: Counter[str] = Counter()
        print(f"beside {loops} busy loops", flush=True)
        with _load(loops, core):
            for path in order:
                _once(path, counts)
        total += counts
        told = ", ".join(f"{name} {counts[name]}" for name in ("wrong", "raised", "hung"))
        print(f"{len(order)} runs: {told}, not exercised {counts['not exercised']}\n", flush=True)
    return int(any(total[name] for name in ("wrong", "raised", "hung")))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
