"""Users come back, stay away, log out, or die while they log in: when do their sessions end?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from labsupport.charts import Bar, Lanes, Line, Lines, Mark, Panel
from labsupport.errors import InvalidSettingError
from labsupport.experiments.experiment import Experiment, Implementation, Numbers
from labsupport.experiments.knobs import knob
from labsupport.experiments.result import Result
from labsupport.experiments.session_users import (
    HELD_BEFORE,
    KILLED_BEFORE,
    KINDS,
    LOGINS_EACH,
    count_without_ttl,
    die_in_a_login,
    log_in_and_out,
    request,
    visit,
    watch,
)
from labsupport.experiments.stage import Stage
from labsupport.history import History
from labsupport.servers.connection import with_database
from labsupport.verdict import Claim, status_of
from labsupport.workers import Worker

__all__ = ["SessionLifetimes"]

_PATIENCE_SECONDS = 8.0
_SLACK_NS = 5e6  # in the chart only
_USERS = ("comes back", "stays away", "logs out")
_ROWS = (*_USERS, *(f"late request {place}" for place in range(1, len(HELD_BEFORE) + 1)))


@dataclass(frozen=True, kw_only=True)
class SessionLifetimes(Experiment):
    """Users log in and come back, under an idle timeout and an absolute one.

    The function under study is `open_store(redis, idle_ms, absolute_ms)`, e.g. a class. What it
    returns has the methods `create(user)`, which returns a token; `get(token)`, which returns what
    is in the session, or None, and counts as activity; `put(token, name, value)`; and
    `destroy(token)`. Each session is one key `session:…`.

    A third of the users come back all the time, a third stay away until the server's clock says
    that they were idle too long, a third log out. Before, requests are held between two commands
    until their user has logged out in another process, and processes are killed in a login.

    Args:
        users: how many there are, each with connections of its own.
        seconds: how long it takes; the users go on until they have met the timeouts.
        idle_seconds: how long a session may be idle.
        absolute_seconds: how long it may last.
        processes: how many processes the users share.
    """

    parameters: ClassVar[tuple[str, ...]] = ("redis", "idle_ms", "absolute_ms")

    users: int = knob(12, low=3, high=120)
    seconds: float = knob(1.5, low=0.5, high=60.0, step=0.1)
    idle_seconds: float = knob(0.3, low=0.2, high=10.0, step=0.1)
    absolute_seconds: float = knob(0.8, low=0.4, high=30.0, step=0.1)
    processes: int = knob(2, low=1, high=16)

    def check(self) -> None:
        if self.absolute_seconds < 2 * self.idle_seconds:
            raise InvalidSettingError(
                f"absolute_seconds is {self.absolute_seconds:g} and idle_seconds is"
                f" {self.idle_seconds:g}: one could not tell which of them ended a session.",
                "Make absolute_seconds at least twice idle_seconds.",
            )

    @property
    def conditions(self) -> str:
        return (
            f"{self.users} users, idle timeout {self.idle_seconds:g} s,"
            f" absolute timeout {self.absolute_seconds:g} s"
        )

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        server, crew = stage.server(), stage.crew
        # the faults have a database of their own, in which nobody else's sessions are
        url, apart, aside = (with_database(server.url, number) for number in range(3))
        limits = round(self.idle_seconds * 1000), round(self.absolute_seconds * 1000)
        visits = max(self.seconds - self.idle_seconds - 0.1, 0.0)

        def fault(*does: Any) -> Worker:
            return crew.start(*does, implementation, apart, *limits, gated=True, name=name)

        stage.start(
            visit,
            visits,
            implementation,
            url,
            *limits,
            clients=self.users,
            processes=self.processes,
            name=name,
        )
        users = list(crew.workers)
        stage.start(watch, (url, apart), clients=1, processes=1)
        desk, late = fault(log_in_and_out, aside), fault(request, aside)
        victims = [fault(die_in_a_login, place) for place in KILLED_BEFORE]
        crew.begin()
        for case in range(8 * len(HELD_BEFORE)):
            desk.until("logged in")
            late.until("held")
            stage.wait(seconds=self.idle_seconds / 5)  # to be seen in the chart
            desk.until("logged out")
            stage.wait(seconds=self.idle_seconds / 5)
            late.until("over")
            desk.until("looked")
            stage.history.read()
            # on a slow machine the session may have been idle too long before the request came
            if case + 1 >= len(HELD_BEFORE) and stage.history.select("late")["value"].any():
                break
        for victim in victims:
            victim.until("held")
        for worker in (desk, late, *victims):
            worker.kill()

        def over() -> bool:
            met = all(len(stage.history.select(kind)) for kind in KINDS)
            return all(user.done for user in users) or (
                met and stage.history.elapsed_ns > 2e9 * self.seconds
            )

        stage.wait(over, seconds=self.seconds + _PATIENCE_SECONDS)
        # for the chart: until all has ended that ends by itself
        stage.wait(seconds=self.idle_seconds + 0.1)
        stage.facts["stuck"] = len(stage.finish(patience_seconds=_PATIENCE_SECONDS))
        stage.facts["for_ever"] = count_without_ttl(url) + count_without_ttl(apart)

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        asked = {kind: history.select(kind)["value"] for kind in KINDS}
        return {
            "logins": len(history.select("login")),
            "held_requests": int(history.select("late")["value"].sum()),
            "back_after_logout": len(history.select("back")),
            "for_ever": facts["for_ever"],
            **{f"asked_{kind}": len(let_in) for kind, let_in in asked.items()},
            **{f"let_in_{kind}": int(let_in.sum()) for kind, let_in in asked.items()},
            "turned_away": int((asked["within"] == 0).sum()),
            "stuck": facts["stuck"],
        }

    def judge(self, numbers: Numbers) -> Sequence[Claim]:
        def claim(text: str, broken: Sequence[str], *tried: str) -> Claim:
            bad, all_tried = sum(numbers[name] for name in broken), all(map(numbers.get, tried))
            return Claim(text, status_of(all_tried, broken=bad != 0), f"{bad:,.0f} do not")

        return (
            claim(
                "A session that was destroyed stays destroyed",
                ["back_after_logout", "let_in_out"],
                "held_requests",
                "asked_out",
            ),
            claim("No key is without a TTL, whoever dies or is late", ["for_ever"], "logins"),
            claim("A session that is idle too long has ended", ["let_in_idle"], "asked_idle"),
            claim("No session outlives its absolute timeout", ["let_in_old"], "asked_old"),
            claim("Nobody is turned away within both", ["turned_away", "stuck"], "asked_within"),
        )

    def find(self, name: str, numbers: Numbers) -> str:
        worst = (
            ("stuck", "users are never answered"),
            ("turned_away", "visits are turned away too early"),
            ("for_ever", "sessions stay for ever"),
            ("back_after_logout", "come back after the logout"),
            ("let_in_old", "visits are let in after the absolute timeout"),
            ("let_in_idle", "idle sessions go on"),
            ("let_in_out", "visits are let in after the logout"),
        )
        found = [f"{numbers[key]:,.0f} {text}" for key, text in worst if numbers[key]]
        return ", ".join(found[:2]) or "Every session ends when it should, and none before"

    def panels(self) -> Sequence[Panel]:
        return (
            Lines(
                "sessions in Redis",
                (Line("there", "work", _there), Line("valid", "limit", self._valid)),
                top=float(self.users),
                gap=("there", "valid", "alarm"),
            ),
            Lanes(
                "three users, and three who log out during a request",
                _ROWS,
                bars=(
                    Bar("valid", "good", lambda history: self._spans(history, late=False)),
                    Bar("over, let in", "alarm", lambda history: self._spans(history, late=True)),
                ),
                marks=(
                    Mark("logout", "gone", _logouts),
                    Mark("late request", "second", _late_requests),
                ),
            ),
        )

    def contrast(self, results: Sequence[Result]) -> tuple[str, Sequence[Claim]]:
        first, *others = results
        claims = []
        for other in others:
            bad = [one.numbers["for_ever"] + one.numbers["let_in_old"] for one in (first, other)]
            met = all(one.numbers["asked_old"] for one in (first, other))
            better = bad[0] and not bad[1]
            text = f"{first.name} has sessions after their end, {other.name} has none"
            claims.append(
                Claim(text, ("holds" if better else "broken") if met else "not exercised")
            )
        told = ", ".join(f"{one.name} {one.numbers['for_ever']:,.0f}" for one in results)
        return f"Sessions that stay for ever: {told}", claims

    def _sessions(self, history: History) -> NDArray[np.float64]:
        """A row for each login: its number, when it began, should have ended, was last used."""
        logouts, seen = history.select("logout"), history.select("seen")
        idle, absolute = self.idle_seconds * 1e9, self.absolute_seconds * 1e9
        found = []
        for login in history.select("login"):
            number = float(login["value"])
            used = np.append(login["end_ns"], seen[seen["value"] == number]["end_ns"])
            pauses = np.flatnonzero(np.diff(used) > idle + _SLACK_NS)
            end = min(
                used[pauses[0] if len(pauses) else -1] + idle,
                login["end_ns"] + absolute,
                *logouts[logouts["value"] == number]["end_ns"],
            )
            found.append((number, login["start_ns"], end, used[-1]))
        return np.array(found, float).reshape(-1, 4)

    def _valid(self, history: History) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """How many of the sessions that are there are still good, whenever Redis was asked."""
        samples = history.select("there")
        _, begun, end, _ = self._sessions(history).T[:, :, None]
        good = (begun < samples["end_ns"]) & (samples["start_ns"] < end + _SLACK_NS)
        return samples["start_ns"] - history.origin_ns, np.minimum(good.sum(0), samples["value"])

    def _spans(self, history: History, *, late: bool) -> NDArray[np.int64]:
        now = history.origin_ns + history.elapsed_ns
        back = {one["value"]: one["end_ns"] for one in history.select("back")}
        spans = []
        for number, begun, end, used in self._sessions(history):
            if not late:
                spans.append((_row(number), begun, min(end, now)))
            elif number in back:
                spans.append((_row(number), back[number], now))
            elif used > end + _SLACK_NS:
                spans.append((_row(number), end, used))
        found = np.array(spans).reshape(-1, 3).astype("i8")
        return found[found[:, 0] < len(_ROWS)] - [0, history.origin_ns, history.origin_ns]


def _row(number: float) -> int:
    """The row of a login in the chart, or one that is not there."""
    if number < 0:
        return len(_USERS) - 1 - int(number)
    user = int(number) // LOGINS_EACH
    return user if user < len(_USERS) else len(_ROWS)


def _there(history: History) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    samples = history.select("there")
    return samples["start_ns"] - history.origin_ns, samples["value"]


def _late_requests(history: History) -> NDArray[np.int64]:
    requests = history.select("late")
    rows = np.arange(len(requests)) + len(_USERS)
    held = (requests["value"] == 1) & (rows < len(_ROWS))
    return np.column_stack([rows[held], requests["end_ns"][held] - history.origin_ns])


def _logouts(history: History) -> NDArray[np.int64]:
    logouts = history.select("logout")
    rows = np.array([_row(number) for number in logouts["value"]], "i8")
    found = np.column_stack([rows, logouts["end_ns"] - history.origin_ns])
    return found[found[:, 0] < len(_ROWS)]
