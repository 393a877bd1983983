"""What can be seen of a sale while it goes on: how often something has happened, and when all is over."""

import time
from collections.abc import Sequence

from labsupport.database import Database
from labsupport.experiments import Stage
from labsupport.labs.flash_sale.clients import booked_in
from labsupport.labs.flash_sale.plan import FAULTS
from labsupport.workers import Worker

_QUIET_SECONDS = 1.0
_LOOKS = 8  # of each worker that is there, before quiet means over
_PATIENCE_SECONDS = 15.0
_MOST_SECONDS = 60.0


class Watch:
    """Counts what the processes of a sale have recorded.

    Args:
        stage: whose history it is.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage, self._history = stage, stage.history

    def of(self, event: str, worker: Worker) -> int:
        """How many such events of a worker's client there are."""
        self._history.read()
        return int((self._history.select(event)["client"] == worker.clients[0]).sum())

    def count(self, event: str, *, value: float | None = None, since: str = "") -> int:
        """How many such events there are, of that value, or since a fault has struck."""
        self._history.read()
        rows = self._history.select(event)
        if value is not None:
            rows = rows[rows["value"] == value]
        if since:
            struck = self._history.select("struck")
            at = struck["start_ns"][struck["client"] == FAULTS.index(since)].max(initial=0)
            rows = rows[rows["start_ns"] > at]
        return len(rows)

    def wait_for_mail(self, mailer: Worker) -> None:
        """Until the mailer has sent what was confirmed, or looks around and finds nothing."""
        enough = self.of("looked", mailer) + _LOOKS

        def over() -> bool:
            told = set(self._history.select("confirmed")["value"])
            return told <= set(self._history.select("mailed")["value"])

        self._stage.wait(
            lambda: self.of("looked", mailer) >= enough or over(), seconds=_PATIENCE_SECONDS
        )

    def waiting(self, db: Database) -> int:
        """How many orders are placed, and not booked."""
        return self.count("placed") - len(set(booked_in(db)))

    def wait_for_the_end(self, working: Sequence[Worker], db: Database) -> None:
        """Until every order is booked and every mail sent, or all look around and nothing happens."""

        def signs() -> int:
            return self.count("mailed") + self.count("after booking")

        def looks() -> list[int]:
            return [self.of("looked", worker) for worker in working]

        def done() -> bool:
            placed, mailed = (set(self._history.select(e)["value"]) for e in ("placed", "mailed"))
            return placed <= mailed and len(set(booked_in(db))) >= len(placed)

        seen, looked, since = signs(), looks(), time.monotonic()

        def over() -> bool:
            nonlocal seen, looked, since
            if (now := signs()) != seen:
                seen, looked, since = now, looks(), time.monotonic()
            quiet = time.monotonic() - since > _QUIET_SECONDS
            enough = all(n >= m + _LOOKS for n, m in zip(looks(), looked, strict=True))
            return (quiet and enough) or done()

        if not self._stage.wait(over, seconds=_MOST_SECONDS):
            self._stage.cut_short = True
