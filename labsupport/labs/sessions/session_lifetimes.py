"""Users come back, stay away, log out, or die while they log in: when do their sessions end?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from labsupport.charts import Bar, Lanes, Line, Lines, Mark, Plot
from labsupport.errors import InvalidSettingError
from labsupport.experiments.experiment import Experiment, Implementation, Numbers
from labsupport.experiments.knobs import knob
from labsupport.experiments.result import Result
from labsupport.experiments.stage import Stage
from labsupport.history import History
from labsupport.labs.sessions.clients import (
    HELD_BEFORE,
    KILLED_BEFORE,
    KINDS,
    count_without_ttl,
    die_in_a_login,
    log_in_and_out,
    request,
    visit,
    watch,
)
from labsupport.labs.sessions.ends import (
    ROWS,
    Ends,
    late_requests,
    logouts,
    sessions_there,
)
from labsupport.servers import with_database
from labsupport.verdict import Claim, status_of
from labsupport.workers import Worker

__all__ = ["SessionLifetimes"]

_PATIENCE_SECONDS = 8.0


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
        server, pool = stage.server(), stage.pool
        # the faults have a database of their own, in which nobody else's sessions are
        url, apart, aside = (with_database(server.url, number) for number in range(3))
        limits = round(self.idle_seconds * 1000), round(self.absolute_seconds * 1000)
        visits = max(self.seconds - self.idle_seconds - 0.1, 0.0)

        def fault(*does: Any) -> Worker:
            return pool.start(*does, implementation, apart, *limits, gated=True, name=name)

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
        users = list(pool.workers)
        stage.start(watch, (url, apart), clients=1, processes=1)
        desk, late = fault(log_in_and_out, aside), fault(request, aside)
        victims = [fault(die_in_a_login, place) for place in KILLED_BEFORE]
        pool.begin()
        for case in range(8 * len(HELD_BEFORE)):
            desk.until("logged in")
            late.until("breakpoint")
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
            victim.until("breakpoint")
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

    def plots(self) -> Sequence[Plot]:
        ends = Ends(self.idle_seconds, self.absolute_seconds)
        return (
            Lines(
                "sessions in Redis",
                (Line("there", "work", sessions_there), Line("valid", "limit", ends.valid)),
                top=float(self.users),
                gap=("there", "valid", "alarm"),
            ),
            Lanes(
                "three users, and three who log out during a request",
                ROWS,
                bars=(
                    Bar("valid", "good", ends.valid_spans),
                    Bar("over, let in", "alarm", ends.late_spans),
                ),
                marks=(
                    Mark("logout", "gone", logouts),
                    Mark("late request", "second", late_requests),
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
