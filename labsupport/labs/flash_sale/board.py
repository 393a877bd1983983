"""The live board of a sale: the customers so far, and each part before and after its fault."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from labsupport.charts import Bar, Lanes, Line, Lines, Mark, Plot
from labsupport.history import History
from labsupport.labs.flash_sale.shop import PARTS

__all__ = ["board"]


def board(customers: int) -> tuple[Plot, ...]:
    """New plots; the first one's axis reaches so many customers."""
    lines = [
        Line("knocks", "tail", partial(_so_far, events=("let in", "refused"))),
        Line("let in", "second", partial(_so_far, events=("let in",))),
        Line("sold", "good", partial(_so_far, events=("sold",))),
        Line("booked", "median", partial(_so_far, events=("booked",))),
    ]
    gap = "sold", "booked", "waiting", "not booked"
    so_far = Lines("at the door and in the shop, so far", lines, top=customers, gap=gap)
    lanes = Lanes(
        "the parts of the shop",
        PARTS,
        bars=[
            Bar("under its fault", "waiting", partial(_spans, which="struck")),
            Bar("holds", "good", partial(_spans, which="holds")),
            Bar("broken", "alarm", partial(_spans, which="broken")),
        ],
        marks=[Mark("the fault", "tail", _strikes)],
        gap="not struck yet",
    )
    return so_far, lanes


def _so_far(
    history: History, events: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    times = np.sort(np.concatenate([history.select(event)["start_ns"] for event in events]))
    return times - history.origin_ns, np.arange(1.0, len(times) + 1)


def _struck(history: History) -> dict[int, int]:
    """When each part was struck first, in ns since the start."""
    found: dict[int, int] = {}
    for row in history.select("struck"):
        found.setdefault(int(row["value"]), int(row["start_ns"]) - history.origin_ns)
    return found


def _spans(history: History, which: str) -> NDArray[np.int64]:
    struck, now = _struck(history), history.elapsed_ns
    broken = set(history.select("broken")["client"].tolist())
    counted = len(history.select("counted")) > 0

    def state(row: int) -> str:
        if not counted:
            return "struck"
        return "broken" if row in broken else "holds"

    found = [(row, at, now) for row, at in struck.items() if state(row) == which]
    return np.array(found, "i8").reshape(-1, 3)


def _strikes(history: History) -> NDArray[np.int64]:
    struck = history.select("struck")
    times = struck["start_ns"] - history.origin_ns
    return np.stack([struck["value"].astype("i8"), times], 1)
