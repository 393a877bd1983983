"""Jobs go through a queue while workers are killed: is each one done, and does it count once?"""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from labsupport.charts import Bar, Bars, Lanes, Mark, Panel, Part
from labsupport.errors import InvalidSettingError
from labsupport.experiments.experiment import Experiment, Implementation, Numbers
from labsupport.experiments.job_states import States, jobs_of, lanes_busy, lanes_dead, lanes_killed
from labsupport.experiments.knobs import knob
from labsupport.experiments.result import Result
from labsupport.experiments.stage import Stage
from labsupport.history import History
from labsupport.servers import connect_client
from labsupport.servers.connection import with_database
from labsupport.verdict import Claim, Status
from labsupport.workers import Client, Worker

__all__ = ["JobQueue"]

Function = Callable[..., Any]

_ROUNDS = 4_000  # of the hash that is a job's work: a millisecond or two
_EARLY = 0.1  # the share of the jobs that are put before there is a worker
_PATIENCE_SECONDS = 0.7  # several leases: who finds nothing for so long finds nothing any more
_LOOKS = 3  # that each worker must have made in that time
_SIGN_SECONDS = 0.01
_TO_END_SECONDS = 3.0


class _JobFailedError(Exception):
    """What a job raises."""


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

    @property
    def conditions(self) -> str:
        return (
            f"{self.jobs} jobs, {self.workers} workers, {self.kills + self.wild} killed once, "
            + (f"{self.poison} poison" if self.poison != 1 else "1 poison job")
        )

    def conduct(self, stage: Stage, implementation: Implementation, name: str) -> None:
        server = stage.server()
        dead = self.dead or _dead_letters
        crew = stage.crew
        crew.start(_produce, self.put, server.url, self.jobs, float(self.seconds), name="put")
        crew.start(_watch, dead, server.url, name="dead")
        task = (implementation, self.effect, server.url, self._fates(), name)
        run = _Overseer(self, stage, task)
        for slot in range(self.workers):
            run.hire(slot)
        crew.begin()
        while not stage.wait(run.over, seconds=60.0):
            pass
        stage.finish(patience_seconds=_TO_END_SECONDS)
        with server.client(encoding_errors="replace") as redis:  # others may have put bytes
            facts = {
                "vouchers": {job: int(n) for job, n in redis.hgetall("vouchers").items()},
                "dead": set(dead(redis)),
                "killed": len(run.killed),
                "left": _everything(redis),
            }
        stage.facts |= facts

    def measure(self, history: History, facts: Mapping[str, Any]) -> dict[str, float]:
        put = {_job(number) for number in jobs_of(history, "put")}
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
            "killed_before": _struck(history, fates, "before"),
            "killed_after": _struck(history, fates, "after"),
            "poison_given_up": sum(_job(number) in dead for number in poison),
            "poison_attempts": max((begun.count(number) for number in poison), default=0),
            "failed": len(history.select("failed")),
            "ended": len(history.select("ended")),
            "p50_ms": float(p50),
            "p99_ms": float(p99),
        }

    def judge(self, numbers: Numbers) -> Sequence[Claim]:
        met = numbers["killed"] > 0
        n = {key: f"{value:,.0f}" for key, value in numbers.items()}
        of = f" of {n['jobs']}"
        claims = [
            Claim("No job is lost", _is(met, numbers["lost"] == 0), n["lost"] + of),
            Claim("No job is left lying", _is(met, numbers["stuck"] == 0), n["stuck"] + of),
        ]
        if self.failing:
            claims.append(
                Claim(
                    "A job that fails does not end its worker",
                    _is(numbers["failed"] > 0, numbers["ended"] == 0),
                    f"{n['ended']} ended",
                )
            )
        if self.poison:
            given_up = numbers["poison_given_up"] == self.poison
            claims.append(
                Claim(
                    "A job that kills each worker is given up within its attempts",
                    _is(
                        numbers["poison_attempts"] > 0,
                        given_up and numbers["poison_attempts"] <= self.attempts,
                    ),
                    f"{n['poison_given_up']} of {self.poison}, {n['poison_attempts']} attempts",
                )
            )
        met = numbers["killed_after"] > 0
        once = _is(met, numbers["counted_twice"] == 0)
        return [*claims, Claim("No job counts twice", once, n["counted_twice"] + of)]

    def find(self, name: str, numbers: Numbers) -> str:
        n = {key: f"{value:,.0f}" for key, value in numbers.items()}
        if numbers["lost"]:
            return f"{n['lost']} of {n['jobs']} jobs are lost with their workers"
        if self.poison and numbers["poison_attempts"] > self.attempts:
            return f"A job has killed {n['poison_attempts']} workers, and is not given up"
        if numbers["stuck"]:
            return f"{n['stuck']} of {n['jobs']} jobs are left lying"
        if numbers["counted_twice"]:
            return f"No job is lost, and {n['counted_twice']} count twice"
        again = f", {n['handled_again']} of them done again" if numbers["handled_again"] else ""
        return f"{n['killed']} workers killed, no job lost{again}"

    def panels(self) -> Sequence[Panel]:
        states = States()
        slots = [f"worker {slot + 1}" for slot in range(self.workers)]
        parts = [
            Part("done", "good", states.of("done")),
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
            ),
        )

    def contrast(self, results: Sequence[Result]) -> tuple[str, Sequence[Claim]]:
        first, *others = results
        claims = []
        for other in others:
            met = all(result.numbers["killed"] > 0 for result in (first, other))
            worse, better = ((r.numbers["lost"] + r.numbers["stuck"]) for r in (first, other))
            text = f"{first.name} loses jobs or lets them lie, {other.name} does not"
            claims.append(Claim(text, _is(met, worse > 0 and better == 0)))
        shown = ", ".join(
            f"{result.name} {result.numbers['lost'] + result.numbers['stuck']:.0f}"
            for result in results
        )
        return f"Jobs not done: {shown}", claims

    def _fates(self) -> dict[int, str]:
        """What is in store for which job: the same each time."""
        many = ["after", "before"] * self.kills
        many = many[: self.kills] + ["poison"] * self.poison + ["fails"] * self.failing
        # after those that are put early, and so far apart that no two are taken in one batch of ten
        places = np.linspace(0.12, 0.76, len(many), endpoint=False) * self.jobs
        return dict(zip(places.astype(int).tolist(), many, strict=True))


class _Overseer:
    """Kills workers at their appointed jobs, and at any moment; hires others; knows when all is over."""

    def __init__(self, plan: JobQueue, stage: Stage, task: tuple[Any, ...]) -> None:
        self.killed: set[int] = set()
        self._plan, self._stage, self._task = plan, stage, task
        self._slots: dict[int, Worker] = {}
        self._seen = 0
        self._quiet_since = time.monotonic_ns()
        # when all appointed kills are over, so that none of them is missed
        self._wild = (np.linspace(0.78, 0.85, plan.wild) * plan.jobs).astype(int).tolist()
        self._fates = plan._fates()
        doomed = plan.kills + plan.wild + plan.failing
        self._most = 2 * (plan.workers + doomed + plan.poison * (plan.attempts + 3))

    def hire(self, slot: int) -> None:
        before, now = self._slots.get(slot), time.monotonic_ns()
        predecessor = -1 if before is None else before.clients[0]
        work, *rest, name = self._task
        crew = self._stage.crew
        worker = crew.start(_work, work, *rest, slot, predecessor, now, name=name)
        self._slots[slot] = worker
        if before is not None:
            worker.send("begin")

    def over(self) -> bool:
        """Do what is due; True when every job has come to its end, or none will any more."""
        history, now = self._stage.history, time.monotonic_ns()
        signs = len(history) - len(history.select("looked"))
        if signs != self._seen:
            self._seen, self._quiet_since = signs, now
        doomed = set(history.select("doomed")["client"].tolist())
        handled = jobs_of(history, "handled")
        at_any_moment = [mark for mark in self._wild if mark <= len(handled)]
        for slot, worker in list(self._slots.items()):
            client = worker.clients[0]
            if at_any_moment and worker.up and client not in doomed:
                self._wild.remove(at_any_moment.pop())
                self._kill(slot)
            elif client in doomed and client not in self.killed:
                self._kill(slot)
            elif worker.done and client not in self.killed:
                self._replace(slot)
        return self._complete(history, handled) or self._hopeless(history, now)

    def _kill(self, slot: int) -> None:
        worker = self._slots[slot]
        worker.kill()
        self.killed.add(worker.clients[0])
        self._replace(slot)

    def _replace(self, slot: int) -> None:
        if len(self._stage.crew.workers) < self._most:
            self.hire(slot)

    def _complete(self, history: History, handled: list[int]) -> bool:
        """Every job was done, once more if it was killed after its effect, or was given up."""
        given_up = set(jobs_of(history, "dead"))
        if len(history.select("put")) < self._plan.jobs:
            return False
        due = {
            number: 1 + (self._fates.get(number) == "after") for number in range(self._plan.jobs)
        }
        counts = np.bincount(handled, minlength=self._plan.jobs)
        return all(counts[number] >= times or number in given_up for number, times in due.items())

    def _hopeless(self, history: History, now: int) -> bool:
        """Nothing has happened for long, though all have looked; or a job kills one after the other."""
        begun = np.bincount(jobs_of(history, "begun"), minlength=1)
        for number, fate in self._fates.items():
            if fate == "poison" and number < len(begun) and begun[number] > self._plan.attempts + 1:
                return True
        quiet = now - self._quiet_since
        if quiet < _PATIENCE_SECONDS * 1e9:
            return False
        looked = history.select("looked")
        looked = looked[looked["start_ns"] > self._quiet_since]
        counts = np.bincount(looked["client"], minlength=1)
        alive = [worker.clients[0] for worker in self._slots.values() if not worker.done]
        lively = all(client < len(counts) and counts[client] >= _LOOKS for client in alive)
        return lively or quiet > 5 * _PATIENCE_SECONDS * 1e9


def _produce(client: Client, put: Function, url: str, jobs: int, seconds: float) -> None:
    """Put some jobs before anybody works, and the others one by one."""
    redis = connect_client(url)
    early = max(1, int(_EARLY * jobs))
    for number in range(jobs):
        if number == early:
            client.meet()
        elif number > early:
            client.rest(seconds / jobs)
        client.note("put", number)
        put(redis, _job(number))


def _watch(client: Client, dead: Function, url: str) -> None:
    """See what is given up."""
    redis = connect_client(url)
    known: set[str] = set()
    client.meet()
    while client.running:
        for job in set(dead(redis)) - known:
            known.add(job)
            client.note("dead", _number(job))
        client.rest(0.02)


def _work(
    client: Client,
    work: Implementation,
    effect: Function,
    url: str,
    fates: Mapping[int, str],
    slot: int,
    predecessor: int,
    killed_ns: int,
) -> None:
    """Be a worker."""
    redis, own = connect_client(url), connect_client(url)
    notes = connect_client(with_database(url, 1))  # out of sight of the queue
    looked = 0

    def running() -> bool:
        nonlocal looked
        now = time.monotonic_ns()
        if now - looked > _SIGN_SECONDS * 1e9:
            looked = now
            client.note("looked")
        return client.running

    def be_killed(number: int) -> None:
        client.note("doomed", number)
        while client.running:
            client.rest(60.0)
        raise _JobFailedError("the run is over")

    def handle(job: str) -> None:
        number = _number(job)
        start = time.monotonic_ns()
        client.note("begun", number)
        hashlib.pbkdf2_hmac("sha256", job.encode(), b"shop", _ROUNDS)
        fate = fates.get(number, "")
        first = fate != "" and notes.incr(job) == 1
        if fate == "poison" or (fate == "before" and first):
            be_killed(number)
        if fate == "fails" and first:
            client.note("failed", number)
            raise _JobFailedError("the printer is away")
        effect(own, job)
        client.record("handled", start, time.monotonic_ns(), number)
        if fate == "after" and first:
            be_killed(number)

    client.meet()
    client.note("hired", slot)
    if predecessor >= 0:
        client.record("killed", killed_ns, killed_ns, predecessor)
    try:
        work(redis, f"worker-{client.number}", handle, running)
    except _JobFailedError:
        if client.running:
            client.note("ended")


def _dead_letters(redis: Any) -> Iterable[str]:
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


def _job(number: int) -> str:
    return f"job-{number:03d}"


def _number(job: str) -> int:
    return int(job.rpartition("-")[2])


def _struck(history: History, fates: Mapping[int, str], fate: str) -> int:
    return sum(fates.get(number) == fate for number in jobs_of(history, "doomed"))


def _is(met: bool, held: bool) -> Status:
    if not held:
        return "broken"
    return "holds" if met else "not exercised"
