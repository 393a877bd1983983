"""Record the README's moving picture: two real runs of lab 01, as their live charts drew them.

    python tools/hero.py [FILE]

The functions are those of the notebook; without a file it goes to docs/herd.webp.
"""

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from PIL import Image

from labsupport.experiments import Result
from labsupport.labs.cache_aside import ThunderingHerd

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "notebooks" / "01_cache_aside.ipynb"
NAMES = ("cache_aside", "single_flight")
_PER_SECOND = 10
_HELD_MILLISECONDS = 2500
_SLOWER = 1.5


def functions() -> dict[str, Any]:
    """The functions under study, by name, from the notebook's own cells."""
    space: dict[str, Any] = {"__name__": "__main__"}  # sent to the workers by value
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        code = cell.source if cell.cell_type == "code" else ""
        if re.search(rf"^def ({'|'.join(NAMES)})\(", code, re.MULTILINE):
            exec(code.partition("\nherd")[0], space)
        elif "from labsupport import" in code:
            exec(re.sub(r"^lab = .*", "", code, flags=re.MULTILINE), space)
    return {name: space[name] for name in NAMES}


def film(result: Result) -> Iterator[tuple[Image.Image, int]]:
    """The frames of a run, each with how long it stands."""
    pictures = list(result.frames(per_second=_PER_SECOND))
    for number, picture in enumerate(pictures):
        last = number == len(pictures) - 1
        frame = Image.open(io.BytesIO(picture.data)).convert("RGB")
        frame = frame.resize((picture.width, picture.height), Image.Resampling.LANCZOS)
        yield frame, _HELD_MILLISECONDS if last else round(_SLOWER * 1000 / _PER_SECOND)


def main(arguments: list[str]) -> int:
    """Record it; returns the exit status."""
    target = Path(arguments[0]) if arguments else ROOT / "docs" / "herd.webp"
    herd = ThunderingHerd(clients=40, seconds=1.6, ttl_seconds=0.4)
    runs = [herd.run(function, live=False) for function in functions().values()]
    frames, milliseconds = zip(*(one for run in runs for one in film(run)), strict=True)
    frames[0].save(
        target,
        save_all=True,
        append_images=frames[1:],
        duration=list(milliseconds),
        loop=0,
        lossless=True,
        method=4,
        minimize_size=True,
    )
    print(f"{target.name}: {len(frames)} frames, {target.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
