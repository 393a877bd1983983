"""Jobs go through a queue while workers are killed: is each one done, and does it count once?"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from labsupport.charts import Bar, Bars, Lanes, Mark, Part, Plot
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
from labsupport.labs.queues.clients import Function, collect_dead_letters, job_name, produce
from labsupport.labs.queues.states import States, jobs_of, lanes_busy, lanes_dead, lanes_killed
from labsupport.labs.queues.supervisor import Supervisor

_TO_END_SECONDS = 3.0


def _not_given_up(numbers: Numbers) -> bool:
    tried = numbers["poison_attempts"]
    given_up = numbers["poison_given_up"] >= numbers["poison"] and tried <= numbers["attempts"]
    return tried > 0 and not given_up


@dataclass(frozen=True, kw_only=True)
class JobQueue(Experiment):
    """A producer puts jobs into a queue, and workers in processes of their own take them out.

    The function under study is `work(redis, me, handle, running)`: the life of a worker whose name
    is `me`. While `running()`, it takes jobs and calls `handle(job)` for each, which may raise. Some
    jobs have their worker killed (kill -9) the first time, before or after they took effect; some
    kill it each time; some raise once; and workers are killed at any moment, too. Each dead worker
    is replaced by one with another name.

    Args:
        put: `put(redis, job)`: puts a job, a text such as "job-017", into the queue.
        effect: `effect(redis, job)`: what a job does: it notes in the hash "vouchers", under the
            job, how many vouchers it has issued.
        dead: `dead(redis)`: the jobs that were given up; default: what is in the key "dead".
        workers: how many work at a time.
        jobs: how many there are in all.
        kills: jobs whose worker is killed the first time, half before and half after the effect.
        poison: jobs that have their worker killed each time.
        failing: jobs that raise the first time.
        wild: workers that are killed at any moment.
        attempts: how often a job may be tried.
        seconds: for how long jobs are put.
    """

    parameters: ClassVar[tuple[str, ...]] = ("redis", "me", "handle", "running")

    put: Function
    effect: Function
    dead: Function | None = None
    workers: int = knob(4, low=2, high=16)
    jobs: int = knob(120, low=20, high=900, step=10)
    kills: int = knob(4, low=0, high=20)
    poison: int = knob(1, low=0, high=4)
    failing: int = knob(2, low=0, high=10)
    wild: int = knob(2, low=0, high=20)
    attempts: int = knob(3, low=1, high=10)
    seconds: float = knob(0.5, low=0.2, high=20.0, step=0.1)

    def check(self) -> None:
        special = self.kills + self.poison + self.failing
        if special > self.jobs // 2:
            raise InvalidSettingError(
                f"{special} of {self.jobs} jobs have a fate of their own.",
                "Make jobs at least twice kills + poison + failing.",
            )

    contrast = Contrast(
        text="{first} loses jobs or lets them lie, {other} does not",
        number=lambda n: n["lost"] + n["stuck"],
        met="killed_with_a_job",
        title="Jobs not done: {each}",
    )

    @property
    def claims(self) -> list[Rule]:
        rules = [
            Rule(
                text="No job is lost",
                met="killed_with_a_job",
                broken="lost",
                detail="{lost} of {jobs}",
                final=True,
            ),
            Rule(
                text="No job is left lying",
                met="killed_with_a_job",
                broken="stuck",
                detail="{stuck} of {jobs}",
                final=True,
            ),
        ]
        if self.failing:
            rules.append(
                Rule(
                    text="A job that fails does not end its worker",
                    met="failed",
                    broken="ended",
                    detail="{ended} ended",
                )
            )
        if self.poison:
            rules.append(
                Rule(
                    text="A job that kills each worker is given up within its attempts",
                    met="poison_attempts",
                    broken=_not_given_up,
                    detail="{poison_given_up} of {poison}, {poison_attempts:attempt|attempts}",
                    final=True,
                )
            )
        twice = Rule(
            text="No job counts twice",
            met="killed_after",
            broken="counted_twice",
            detail="{counted_twice} of {jobs}",
        )
        return [*rules, twice]

    findings = (
        Finding(
            "{lost} of {jobs} jobs {lost:~is|are} lost with {lost:~its worker|their workers}",
            "lost",
        ),
        Finding(
            "A job has killed {poison_attempts:worker|workers}, and is not given up",
            lambda n: n["poison"] > 0 and n["poison_attempts"] > n["attempts"],
        ),
        Finding("{stuck} of {jobs} jobs {stuck:~is|are} left lying", "stuck"),
        Finding("No job is lost, but {counted_twice:counts|count} twice", "counted_twice"),
        Finding(
            "{killed:worker|workers} killed, no job lost, {handled_again:job|jobs} done again",
            "handled_again",
        ),
        Finding("{killed:worker|workers} killed, no job lost"),
    )

    @property
    def conditions(self) -> str:
        return (
            f"{self.jobs} jobs, {self.workers} workers, {self.kills + self.wild} killed once, "
            + (f"{self.poison} poison jobs" if self.poison != 1 else "1 poison job")
        )

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        server = stage.server()
        dead = self.dead or _dead_letters
        pool = stage.pool
        pool.start(produce, self.put, server.url, self.jobs, float(self.seconds), name="put")
        pool.start(collect_dead_letters, dead, server.url, name="dead")
        supervisor = Supervisor(
            stage,
            (implementation, self.effect, server.url),
            name,
            self._fates(),
            workers=self.workers,
            jobs=self.jobs,
            wild=self.wild,
            attempts=self.attempts,
        )
        pool.begin()
        while not stage.wait(supervisor.over, seconds=60.0) and not stage.cut_short:
            pass
        stage.finish(patience_seconds=_TO_END_SECONDS)
        with server.client(encoding_errors="replace") as redis:  # others may have put bytes
            stage.facts |= {
                "vouchers": {job: int(n) for job, n in redis.hgetall("vouchers").items()},
                "dead": set(dead(redis)),
                "killed": len(supervisor.killed),
                "victims": supervisor.killed,
                "left": _everything(redis),
            }

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        put = {job_name(number) for number in jobs_of(history, "put")}
        dead, vouchers = facts["dead"] & put, facts["vouchers"]
        open_ = put - dead - vouchers.keys()
        stuck = {job for job in open_ if job in facts["left"]}
        fates = self._fates()
        poison = [number for number, fate in fates.items() if fate == "poison"]
        begun = jobs_of(history, "begun")
        handled = history.select("handled")
        at = dict(zip(jobs_of(history, "put"), history.select("put")["start_ns"], strict=True))
        took = [(row["end_ns"] - at[int(row["value"])]) / 1e6 for row in handled]
        p50, p99 = np.percentile(took, [50, 99]) if took else (np.nan, np.nan)
        return {
            "jobs": len(put),
            "done": len(put & vouchers.keys()),
            "dead_letters": len(dead),
            "lost": len(open_ - stuck),
            "stuck": len(stuck),
            "handled_again": len(handled) - len(set(jobs_of(history, "handled"))),
            "counted_twice": sum(count > 1 for count in vouchers.values()),
            "killed": facts["killed"],
            "killed_with_a_job": _killed_with_a_job(history, facts["victims"]),
            "killed_before": _struck(history, fates, "before"),
            "killed_after": _struck(history, fates, "after"),
            "poison_given_up": sum(job_name(number) in dead for number in poison),
            "poison_attempts": max((begun.count(number) for number in poison), default=0),
            "failed": len(history.select("failed")),
            "ended": len(history.select("ended")),
            "p50_ms": float(p50),
            "p99_ms": float(p99),
        }

    def plots(self) -> tuple[Plot, ...]:
        states = States()
        slots = [f"worker {slot + 1}" for slot in range(self.workers)]
        parts = [
            Part("done", "done", states.of("done")),
            Part("dead letters", "gone", states.of("dead")),
            Part("in progress", "work", states.of("in progress")),
            Part("waiting", "waiting", states.of("waiting")),
            Part("nobody has it", "alarm", states.of("orphaned")),
        ]
        return (
            Bars("jobs by state", parts, noun=None, per_seconds=0.02, top=self.jobs),
            Lanes(
                "who works",
                slots,
                bars=[Bar("busy", "work", lanes_busy), Bar("dead", "gone", lanes_dead)],
                marks=[Mark("kill -9", "alarm", lanes_killed)],
                gap="has no job",
            ),
        )

    def _fates(self) -> dict[int, str]:
        """What is in store for which job: the same each time."""
        many = ["after", "before"] * self.kills
        many = many[: self.kills] + ["poison"] * self.poison + ["fails"] * self.failing
        # after those that are put early, and so far apart that no two are taken in one batch of ten
        places = np.linspace(0.12, 0.76, len(many), endpoint=False) * self.jobs
        return dict(zip(places.astype(int).tolist(), many, strict=True))


def _dead_letters(redis: Any) -> list[str]:
    return _texts(redis, "dead")


def _texts(redis: Any, key: str) -> list[str]:
    """All that is in a key, whatever its type."""
    match redis.type(key):
        case "string":
            return [str(redis.get(key))]
        case "list":
            return list(redis.lrange(key, 0, -1))
        case "set":
            return list(redis.smembers(key))
        case "zset":
            return list(redis.zrange(key, 0, -1))
        case "hash":
            return [text for pair in redis.hgetall(key).items() for text in pair]
        case "stream":
            return [text for _, fields in redis.xrange(key) for text in (fields or {}).values()]
    return []


def _everything(redis: Any) -> str:
    """All names and contents of the server, in which a job is or is not."""
    keys = [key for key in redis.scan_iter(count=1000) if key != "vouchers"]
    return "\n".join(text for key in keys for text in (key, *_texts(redis, key)))


def _struck(history: History, fates: Mapping[int, str], fate: str) -> int:
    return sum(fates.get(number) == fate for number in jobs_of(history, "doomed"))


def _killed_with_a_job(history: History, victims: set[int]) -> int:
    """How many of the killed workers had a job in hand, or had not yet put it aside."""
    begun, doomed = (Counter(history.select(event)["client"]) for event in ("begun", "doomed"))
    ended = Counter(np.concatenate([history.select(e)["client"] for e in ("handled", "failed")]))
    return sum(begun[one] > ended[one] or doomed[one] > 0 for one in victims)
