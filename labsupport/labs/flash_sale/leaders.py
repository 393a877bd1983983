"""The leaders' board: the best run of each name, in a small file beside that of the progress."""

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from labsupport.exercises import Progress

if TYPE_CHECKING:
    import pandas as pd

    from labsupport.experiments import Result

_FILE = ".flash_sale.json"
_MOST = 100  # names
_LONGEST = 40  # letters of one


class Leaders:
    """Who holds the most claims, and with the fewest round trips.

    A file that is damaged is a board that is empty; one that cannot be written costs the memory.

    Attributes:
        rows: for each name the claims that its best run holds, and its round trips per sale.
    """

    def __init__(self) -> None:
        self._path = Progress().path.with_name(_FILE)
        self.rows: dict[str, tuple[int, int]] = {}
        with suppress(OSError, ValueError, TypeError, AttributeError):
            saved = json.loads(self._path.read_text("utf-8"))
            self.rows = {
                str(name): (int(held), int(trips)) for name, (held, trips) in saved.items()
            }

    def enter(self, result: "Result", name: str = "") -> "pd.DataFrame":
        """Put a run on the board if it is the best of its name; returns the board.

        Args:
            result: what `FlashSale.run` returned.
            name: whose it is; default: the run's own.
        """
        name = str(name or result.name)[:_LONGEST]
        row = int(result.numbers["held"]), round(result.numbers["trips_per_sale"])
        if name not in self.rows or _rank(row) < _rank(self.rows[name]):
            self.rows[name] = row
        best = sorted(self.rows.items(), key=lambda entry: (_rank(entry[1]), entry[0]))[:_MOST]
        self.rows = dict(best)
        with suppress(OSError):
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(self.rows, indent=1, ensure_ascii=False), "utf-8")
            new.replace(self._path)
        return self.board

    @property
    def board(self) -> "pd.DataFrame":
        """The best first."""
        import pandas as pd

        rows = [(name, *row) for name, row in self.rows.items()]
        found = pd.DataFrame(rows, columns=["name", "claims held", "round trips per sale"])
        return found.set_axis(range(1, len(found) + 1))


def _rank(row: tuple[int, int]) -> tuple[int, int]:
    return -row[0], row[1]
