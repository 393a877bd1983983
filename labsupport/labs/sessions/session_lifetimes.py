"""Users come back, stay away, log out, or die while they log in: when do their sessions end?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from labsupport.charts import Bar, Lanes, Line, Lines, Mark, Plot
from labsupport.errors import InvalidSettingError
from labsupport.experiments import (
    Contrast,
    Experiment,
    Finding,
    Implementation,
    Numbers,
    Rule,
    Stage,
    knob,
)
from labsupport.history import History
from labsupport.labs.sessions.clients import (
    HELD_BEFORE,
    KILLED_BEFORE,
    KINDS,
    count_sessions,
    count_without_ttl,
    die_in_a_login,
    log_in_and_out,
    request,
    visit,
)
from labsupport.labs.sessions.ends import (
    ROWS,
    Ends,
    late_requests,
    logouts,
    sessions_there,
)
from labsupport.servers import with_database
from labsupport.workers import Worker

_PATIENCE_SECONDS = 8.0
_MOST_ROUNDS = 8
_WORST = (
    ("stuck", "{stuck:user is|users are} never answered"),
    ("turned_away", "{turned_away:visit is|visits are} turned away too early"),
    ("for_ever", "{for_ever:session stays|sessions stay} for ever"),
    ("back_after_logout", "{back_after_logout:comes|come} back after the logout"),
    ("let_in_old", "{let_in_old:visit is|visits are} let in after the absolute timeout"),
    ("let_in_idle", "{let_in_idle:idle session goes|idle sessions go} on"),
    ("let_in_out", "{let_in_out:visit is|visits are} let in after the logout"),
)


def _any_of_the_worst(numbers: Numbers) -> bool:
    return any(numbers[number] for number, _ in _WORST)


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

    claims = (
        Rule(
            text="A session that was destroyed stays destroyed",
            met=("held_requests", "asked_out"),
            broken=("back_after_logout", "let_in_out"),
            detail="{back_after_logout} came back, {let_in_out} were let in",
        ),
        Rule(
            text="Every key has a TTL, even after a crash or a late write",
            met=("logins", "killed_logins", "held_requests"),
            broken="for_ever",
            detail="{for_ever} {for_ever:~stays|stay} for ever",
        ),
        Rule(
            text="A session that is idle too long has ended",
            met="asked_idle",
            broken="let_in_idle",
            detail="{let_in_idle} were let in",
        ),
        Rule(
            text="No session outlives its absolute timeout",
            met="asked_old",
            broken="let_in_old",
            detail="{let_in_old} were let in",
        ),
        Rule(
            text="No user is turned away within both",
            met="asked_within",
            broken=("turned_away", "stuck"),
            detail="{turned_away} were",
        ),
    )
    findings = (
        Finding(
            lambda n: ", ".join([text for number, text in _WORST if n[number]][:2]),
            _any_of_the_worst,
        ),
        Finding("Every session ends when it should, and none before"),
    )
    contrast = Contrast(
        text="{first} has sessions after their end, {other} has none",
        number=lambda n: n["for_ever"] + n["let_in_old"],
        met=("asked_old", "killed_logins"),
        title="Sessions that stay for ever: {each}",
        each="{name} {for_ever}",
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

        def held(*does: Any) -> Worker:
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
        stage.start(count_sessions, (url, apart), clients=1, processes=1)
        desk, late = held(log_in_and_out, aside), held(request, aside)
        victims = [held(die_in_a_login, place) for place in KILLED_BEFORE]
        pool.begin()
        self._hold_requests(stage, desk, late)
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

    def _hold_requests(self, stage: Stage, desk: Worker, late: Worker) -> None:
        """Hold a request at each of its places until its user has logged out.

        On a slow machine the session may have been idle too long before the request came; then
        there are more of them, up to a bound.
        """
        for case in range(_MOST_ROUNDS * len(HELD_BEFORE)):
            desk.until("logged in")
            late.until("breakpoint")
            stage.wait(seconds=self.idle_seconds / 5)  # to be seen in the chart
            desk.until("logged out")
            stage.wait(seconds=self.idle_seconds / 5)
            late.until("over")
            desk.until("looked")
            stage.history.read()
            enough = case + 1 >= len(HELD_BEFORE) and stage.history.select("late")["value"].any()
            if enough or stage.cut_short:
                return

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        asked = {kind: history.select(kind)["value"] for kind in KINDS}
        return {
            "logins": len(history.select("login")),
            "held_requests": int(history.select("late")["value"].sum()),
            "killed_logins": int((history.select("login")["value"] < -100).sum()),
            "back_after_logout": len(history.select("back")),
            "for_ever": facts["for_ever"],
            **{f"asked_{kind}": len(let_in) for kind, let_in in asked.items()},
            **{f"let_in_{kind}": int(let_in.sum()) for kind, let_in in asked.items()},
            "turned_away": int((asked["within"] == 0).sum()),
            "stuck": facts["stuck"],
        }

    def plots(self) -> tuple[Plot, ...]:
        ends = Ends(self.idle_seconds, self.absolute_seconds)
        return (
            Lines(
                "sessions in Redis",
                (Line("there", "work", sessions_there), Line("valid", "limit", ends.valid)),
                top=float(self.users),
                gap=("there", "valid", "alarm", "there, not valid"),
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
                gap="no session",
            ),
        )
