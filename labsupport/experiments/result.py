"""What a run leaves: history, figure, verdict, numbers."""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd

from labsupport.charts import LabFigure, LiveChart, Picture, Place, Reel
from labsupport.errors import Interrupted
from labsupport.history import History
from labsupport.verdict import Verdict

_FRAMES_PER_SECOND = 10


@dataclass(frozen=True, eq=False)
class Result:
    """One run of an experiment; as a cell's last value it shows its verdict.

    Args:
        name: of the implementation.
        verdict: what the run says of the experiment's claims.
        numbers: what was measured, with the unit in each name; it varies from run to run.
        events: what happened, as the experiment's own charts read it.
        seconds: how long the run was.
        conditions: the knobs in words.
        lacking: why the server allowed no run, and nothing was measured; "" if it did.
    """

    name: str
    verdict: Verdict
    numbers: dict[str, float]
    events: History
    seconds: float
    conditions: str
    _draw: Callable[[], LabFigure]
    _chart: Callable[[Place], LiveChart]
    lacking: str = ""

    @functools.cached_property
    def history(self) -> pd.DataFrame:
        """What happened: columns client, process, event, start_seconds, end_seconds, value."""
        return self.events.frame()

    @functools.cached_property
    def figure(self) -> LabFigure:
        """The finished chart."""
        return self._draw()

    def frames(self, *, per_second: int = 10) -> Iterator[Picture]:
        """The run once more, as pictures; the last one is the finished chart.

        Args:
            per_second: how many there are for each second of the run.
        """
        reel = Reel()
        chart = self._chart(reel)
        for number in range(int(self.seconds * per_second) + 1):
            chart.draw(self.events.until(number / per_second))
            assert reel.picture is not None
            yield reel.picture
        yield Picture.of(self.figure, self.figure.alt)

    def replay(self, *, slower: float = 3.0) -> None:
        """Show the run once more, slowed down, for the length that a teacher can speak over.

        Args:
            slower: how many times as long it takes.
        """
        place = Place(f"{self.name}, once more")
        each = slower / _FRAMES_PER_SECOND
        due = time.monotonic()
        try:
            for picture in self.frames(per_second=_FRAMES_PER_SECOND):
                place.put(picture)
                due += each
                time.sleep(max(0.0, due - time.monotonic()))  # a film keeps its time
        except KeyboardInterrupt:
            raise Interrupted from None

    def __repr__(self) -> str:
        said = f"{self.name}\n{self.verdict}"
        return f"{said}\nNot on this server: {self.lacking}" if self.lacking else said

    def _repr_html_(self) -> str:
        said = self.verdict._repr_html_()
        return (
            f"{said}<div>Not on this server: {escape(self.lacking)}</div>" if self.lacking else said
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several runs of one experiment; as a cell's last value it shows its verdict.

    Args:
        results: the runs, in the order in which they were given.
        verdict: what they say of each other.
        figure: all of them on the same axes.
    """

    results: Sequence[Result]
    verdict: Verdict
    figure: LabFigure

    @property
    def numbers(self) -> pd.DataFrame:
        """What was measured, a column for each run."""
        columns: dict[str, Any] = {result.name: result.numbers for result in self.results}
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        return f"{' | '.join(result.name for result in self.results)}\n{self.verdict}"

    def _repr_html_(self) -> str:
        return self.verdict._repr_html_()
