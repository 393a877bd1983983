"""What the exercises of lab 10 ask for, as models: a job in sight, three attempts, jobs for later."""

from collections import Counter
from collections.abc import Generator
from typing import Any, ClassVar

from hypothesis import strategies as st
from redis.exceptions import ConnectionError, ResponseError, WatchError

from labsupport.exercises.contract import ME, WAIT, Call, Case, Contract
from labsupport.exercises.matching import Raised
from labsupport.exercises.state import KEPT, Scores, State
from labsupport.labs.queues.handling import Handle

__all__ = ["Reap", "ReleaseDue", "WorkOnce"]

_JOBS = st.sampled_from(["a", "b", "", "0", "d'Arc"])
_WAITING = ["q", "r"]  # jobs that were in the list before


_WORK = Call("work_once", (ME, Handle()))
_FAIL = Call("work_once", (ME, Handle(fails=True)))
_FAILS_AS_REDIS = [
    Call("work_once", (ME, Handle(fails=True, error=error)))
    for error in (ConnectionError, ResponseError, WatchError)
]


class WorkOnce(Contract):
    """10.1: a job is in a list until it was handled."""

    answer = "work_once"
    visible = ("jobs", "jobs:*", "done")
    clauses: ClassVar = {
        "raised": "An error in handle reaches the caller, and the job stays in a list.",
        "told": "Handle the oldest job of the list jobs; return it, or None when there is none.",
        "ends": "return it, or None when there is none",
        "the list of what was handled": "Handle the oldest job of the list jobs",
        "left": "Until it was handled, a job is always in jobs or in jobs:{me}; afterwards in neither.",
        "crash": "What killed workers of the same name have left in jobs:{me} comes first.",
        "at once": "several workers do this at once, no two with the same name",
    }
    others: ClassVar = {"put": lambda redis, job: redis.lpush("jobs", job)}
    calls = st.one_of(
        st.just(_WORK), st.just(_FAIL), st.builds(Call, st.just("put"), st.tuples(_JOBS))
    )
    rare = (
        *(
            Case(State({"jobs": ["a"]}), after=(("ada", fails), ("ada", _WORK)))
            for fails in _FAILS_AS_REDIS
        ),
        # several were killed, each with a job of its own; a name and a job may be any text
        Case(State({"jobs": ["c"], "jobs:ada": ["b", "a"]}), after=(("ada", _WORK),) * 3),
        Case(State({"jobs:Ada B": ["a"]}), after=(("Ada B", _WORK),)),
        *(Case(State({"jobs": [job]}), after=(("ada", _WORK),)) for job in (" a\n", "07", "É")),
    )
    starts = st.builds(
        lambda jobs, left, others: State({"jobs": jobs, "jobs:ada": left, "jobs:cyd": others}),
        st.lists(_JOBS, max_size=3),
        _JOBS.flatmap(lambda job: st.sampled_from([[], [job], [job, job]])),
        st.sampled_from([[], ["c"]]),
    )

    def sequences(self) -> Any:
        """One worker: what it finds of its own comes first, and its order is its own affair."""
        turns = st.tuples(st.just("ada"), self.calls)
        return st.builds(
            Case, self.starts, after=st.lists(turns, min_size=1, max_size=4).map(tuple)
        )

    def race_starts(self) -> Any:
        return st.builds(
            lambda jobs, others: State({"jobs": jobs, "jobs:cyd": others}),
            st.lists(_JOBS, max_size=3),
            st.sampled_from([[], ["c"]]),
        )

    def race_calls(self) -> Any:
        return st.one_of(st.just(_WORK), self.calls)

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """A job that was left may be put back into jobs before it is taken."""
        lists = state.settled(self.visible)
        done = lists.pop("done", [])
        others = lists.pop("jobs:cyd", [])
        waiting = sorted(job for jobs in lists.values() for job in jobs)
        return {
            "jobs and jobs:{me}": waiting,
            "jobs:cyd": others,
            "the list of what was handled": done,
        }

    def work_once(self, state: State, me: str, handle: Handle) -> Generator[Any, Any, Any]:
        jobs, mine = state.list_at("jobs"), state.list_at(f"jobs:{me}")
        if not mine:
            if not jobs:
                return None
            mine.insert(0, jobs.pop())
        left = sorted({*mine})  # which of several comes first is free
        job = (yield left) if len(left) > 1 else mine[-1]
        yield
        if handle.fails:
            # in which list it stays is free
            match (yield ("its own", "the right end of jobs", "the left end")):
                case "the right end of jobs":
                    mine.remove(job)
                    jobs.append(job)
                case "the left end":
                    mine.remove(job)
                    jobs.insert(0, job)
            return Raised(handle.error)
        state.list_at("done").append(job)
        yield
        mine.remove(job)
        return job

    def put(self, state: State, job: str) -> None:
        state.list_at("jobs").insert(0, job)


# A worker comes back. KEYS: its lease, its list; returns the jobs that it has, which it goes on with.
_COME_BACK = """
redis.call('SET', KEYS[1], '', 'PX', 60000)
return redis.call('LRANGE', KEYS[2], 0, -1)
"""


class Reap(Contract):
    """10.2: the jobs of the dead go back, each counted, each in one list."""

    answer = "reap"
    effort = 0.6
    visible = ("workers", "jobs", "jobs:*", "lease:*", "attempts", "dead")
    clauses: ClassVar = {
        "told": "return how many this call has moved",
        "attempts": "Each job of its list jobs:{name} gets one more in the hash attempts",
        "jobs": "and goes to the right end of jobs",
        "dead": "at three attempts it goes to the list dead instead",
        "jobs:*": "A worker of the set workers is dead when there is no key lease:{name}.",
        "crash": "each job is in exactly one list at any time, and counted once",
        "at once": "Reapers may meet and may be killed, and a worker may come back meanwhile",
        "left": "Nothing else changes.",
    }
    others: ClassVar = {
        "put": lambda redis, job: redis.lpush("jobs", job),
        "comes_back": lambda redis, name: redis.eval(
            _COME_BACK, 2, f"lease:{name}", f"jobs:{name}"
        ),
        "dies": lambda redis, name: redis.delete(f"lease:{name}") and None,
    }
    _names = ("ada", "bob", "c d")
    _reaps = Call("reap")
    _reap = st.just(Call("reap"))
    calls = st.one_of(
        _reap,
        _reap,
        st.just(Call("put", ("r",))),
        st.builds(Call, st.just("comes_back"), st.tuples(st.sampled_from(_names))),
    )

    @staticmethod
    def _start(workers: Any, waiting: Any, dead: Any, attempts: Any) -> State:
        state = State({"jobs": waiting, "dead": dead, "attempts": attempts})
        for name, (known, lease, jobs) in workers.items():
            state[f"jobs:{name}"] = jobs
            if known:
                state.set_at("workers").add(name)
            if lease is not None:
                state.keep(f"lease:{name}", lease, 60_000)
        held = [job for _, _, jobs in workers.values() for job in jobs]
        for job in {*held}:  # no job dies, and is there once more
            most = 3 - held.count(job)
            state["attempts"] = {**state["attempts"]}
            if int(state["attempts"].get(job, 0)) > most:
                state["attempts"][job] = most
        return state

    _jobs = st.lists(_JOBS, max_size=3).filter(
        lambda jobs: max(map(jobs.count, jobs), default=0) < 3
    )
    _worker = st.tuples(
        st.sampled_from([True, True, True, False]), st.sampled_from([None, None, "", "1"]), _jobs
    )
    _others = (
        st.sampled_from([[], ["q"], ["q", "q"]]),
        st.sampled_from([[], ["d"]]),
        st.dictionaries(_JOBS, st.sampled_from([1, 2]), max_size=3),
    )
    starts = st.builds(
        _start, st.dictionaries(st.sampled_from(_names), _worker, max_size=3), *_others
    ).filter(lambda state: all(n > 0 for n in state["attempts"].values()))

    _alive = _start({"ada": (True, "1", ["a"])}, [], [], {})
    _alive.lives["lease:ada"] = KEPT
    _late = _alive.copy()
    _late.lives["lease:ada"] = 40
    rare = (
        Case(_alive, after=(("ada", _reaps),)),  # a lease, though it has no TTL
        Case(_late, after=(("ada", _reaps),)),  # or hardly any
        *(  # a name is no pattern, and not the beginning of another
            Case(
                State(
                    {"workers": {name}, f"jobs:{name}": ["a"], "jobs:ada": ["b"], "lease:ada": "1"}
                ),
                after=(("ada", Call("reap")),),
            )
            for name in ("a*", "[a]da", "ad", "da")
        ),
        Case(  # who puts it back from the list dead gives it no more attempts
            State({"workers": {"ada"}, "jobs:ada": ["a"], "attempts": {"a": 3}}),
            after=(("ada", _reaps),),
        ),
        Case(  # jobs that are alike are not the same
            State({"workers": {"ada"}, "jobs:ada": ["7", "07"]}), after=(("ada", _reaps),)
        ),
        Case(State({"workers": {"ada"}, "jobs:ada": ["a", " a", "A"]}), after=(("ada", _reaps),)),
        Case(  # many are dead, and one like it
            State(
                {
                    "workers": {"ada"},
                    "jobs:ada": ["a"],
                    "attempts": {"a": 2},
                    "dead": ["z"] * 250 + ["a"],
                }
            ),
            after=(("ada", _reaps),),
        ),
    )

    def race_starts(self) -> Any:
        """One is dead; its jobs are tried for the first time, or for the last."""
        some = [("a", ""), ("a", "aa"), ("ab", "bb"), ("aa", "a")]
        return st.sampled_from(some).map(
            lambda one: self._start({"ada": (True, None, [*one[0]])}, ["q"], [], Counter(one[1]))
        )

    def race_calls(self) -> Any:
        return st.sampled_from(
            [Call("reap"), Call("reap"), Call("comes_back", ("ada",)), Call("put", ("r",))]
        )

    def races(self) -> Any:
        """Now and then two have the same job, one of whom dies when a reaper has passed by."""
        workers = {"ada": (True, "1", ["a"]), "bob": (True, None, ["a"])}
        bob = (Call("dies", ("ada",)), self._reaps)
        same = Case(self._start(workers, [], [], {"a": 1}), {"ada": (self._reaps,), "bob": bob})
        return st.integers(0, 6).flatmap(
            lambda n: super(Reap, self).races() if n else st.just(same)
        )

    def crowd(self) -> Case:
        """Jobs come meanwhile."""
        start = self._start({"ada": (True, None, ["a"])}, [], [], {})
        return Case(start, {"ada": (self._reaps,), "bob": (Call("put", ("r",)),) * 36})

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """In which order the jobs of the dead are moved is not said."""
        found = state.settled(self.visible)
        jobs, dead = found.pop("jobs", []), sorted(found.pop("dead", []))
        front = sum(job in _WAITING for job in jobs)
        return {"dead": dead, "jobs": jobs[:front] + sorted(jobs[front:]), **found}

    def reap(self, state: State) -> Generator[Any, Any, int]:
        moved = 0
        while options := [
            (name, job)
            for name in sorted(state.get("workers", ()))
            if f"lease:{name}" not in state
            for job in sorted({*state.get(f"jobs:{name}", ())})
        ]:
            name, job = yield options
            state[f"jobs:{name}"].remove(job)
            counts = state.hash_at("attempts")
            counts[job] = int(counts.get(job, 0)) + 1
            state.list_at("dead" if counts[job] >= 3 else "jobs").append(job)
            moved += 1
            yield
        return moved

    def put(self, state: State, job: str) -> None:
        state.list_at("jobs").insert(0, job)

    def dies(self, state: State, name: str) -> None:
        state.remove(f"lease:{name}")

    def comes_back(self, state: State, name: str) -> list[str]:
        state.keep(f"lease:{name}", "", 60_000)
        return [*state.get(f"jobs:{name}", ())]


# Plans a job 90 s ahead. KEYS: the sorted set; ARGV: the job.
_PLAN_AHEAD = """
local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000) + 90000
return redis.call('ZADD', KEYS[1], string.format('%d', ms), ARGV[1])
"""


class ReleaseDue(Contract):
    """10.3: what is due moves, what is not stays."""

    answer = "release_due"
    visible = ("later", "jobs")
    faults = ("crash", "clocks", "stall")
    clauses: ClassVar = {
        "told": "return how many",
        "later": "Move what is due from the sorted set later",
        "jobs": "to the left end of the list jobs",
        "clock": "by the server's clock",
        "crash": "each job is in exactly one of the two at any time",
        "at once": "Several processes do this, and may be killed",
    }
    others: ClassVar = {
        "put": lambda redis, job: redis.lpush("jobs", job),
        "plan": lambda redis, job: redis.zadd("later", {job: 0}),  # long due
        "plan_ahead": lambda redis, job: redis.eval(_PLAN_AHEAD, 1, "later", job),
    }
    _due = st.sampled_from([-5_000_000.0, -60_000.0, -1_500.0, -2.0])
    _later = st.sampled_from([15_000.0, 90_000.0, 3_600_000.0, 40_000_000_000.0])
    calls = st.one_of(st.just(Call("release_due")), st.just(Call("put", ("r",))))
    rare = (
        *(  # due at this very moment, or a little earlier in this second
            Case(
                State({"later": Scores({"a": due, "b": 251.0}), "jobs": []}),
                after=(("ada", Call(WAIT, (0.25,))), ("ada", Call("release_due"))),
            )
            for due in (250.0, 249.0)
        ),
        Case(  # and more than a reply should hold
            State({"later": Scores({f"n{n}": -1.0 - n for n in range(150)}), "jobs": []}),
            after=(("ada", Call("release_due")),),
        ),
        Case(  # and one like it waits
            State({"later": Scores({"q": -2.0}), "jobs": ["q"]}),
            after=(("ada", Call("release_due")),),
        ),
        *(  # a job may be any text
            Case(State({"later": Scores(due), "jobs": []}), after=(("ada", Call("release_due")),))
            for due in ({" a": -2.0, "a": -2.0}, {"07": -2.0, "É\n": -2.0})
        ),
    )
    starts = st.builds(
        lambda later, jobs: State({"later": Scores(later), "jobs": jobs}),
        st.dictionaries(
            st.sampled_from(["a", "b", "", "0", "é x"]), st.one_of(_due, _later), max_size=4
        ),
        st.sampled_from([[], ["q"], ["q", "q"]]),
    )

    def __init__(self) -> None:
        self._now_ms = 0.0

    def race_starts(self) -> Any:
        """Two are due, and one is not."""
        return st.builds(
            lambda one, two, later, jobs: State(
                {"later": Scores({"a": one, "b": two, "c": later}), "jobs": jobs}
            ),
            self._due, self._due, self._later, st.sampled_from([[], ["q"]]),
        )  # fmt: skip

    def race_calls(self) -> Any:
        return st.sampled_from([Call("release_due"), Call("release_due"), Call("plan", ("n",))])

    def crowd(self) -> Case:
        """Others plan what is not due yet."""
        start = State({"later": Scores({"a": -2.0}), "jobs": []})
        plans = tuple(Call("plan_ahead", (f"n{number}",)) for number in range(36))
        return Case(start, {"ada": (Call("release_due"),), "bob": plans})

    def write(self, start: State, redis: Any, db: Any) -> None:
        """The model's scores are in ms from now."""
        seconds, micros = redis.time()
        self._now_ms = float(seconds * 1000 + micros // 1000)
        later = {job: self._now_ms + score for job, score in start["later"].items()}
        State({**start, "later": Scores(later)}).write(redis)

    def read(self, redis: Any, db: Any) -> State:
        state = State.read(redis)
        if "later" in state:
            later = {job: score and score - self._now_ms for job, score in state["later"].items()}
            state["later"] = Scores(later)
        return state

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """In which order the jobs are moved is not said."""
        found = state.settled(self.visible)
        jobs = found.get("jobs", [])
        new = [job for job in jobs if job not in _WAITING]
        others = [job for job in jobs if job in _WAITING]
        found["jobs"] = sorted(new) + others if jobs[: len(new)] == new or "r" in jobs else jobs
        return found

    def release_due(self, state: State) -> Generator[Any, Any, int]:
        """What comes while it is at work may be moved, or left to the next."""
        moved = 0
        later, now = state.scores_at("later"), state.get("clock", 0.0)
        first = {job for job, score in later.items() if score <= now}
        while due := sorted(job for job, score in later.items() if score <= now):
            job = yield due if first & {*due} else [*due, None]
            if job is None:
                break
            del later[job]
            state.list_at("jobs").insert(0, job)
            moved += 1
            yield
        return moved

    def wait(self, state: State, seconds: float) -> None:
        super().wait(state, seconds)
        state["clock"] = state.get("clock", 0.0) + seconds * 1000

    def put(self, state: State, job: str) -> None:
        state.list_at("jobs").insert(0, job)

    def plan(self, state: State, job: str) -> None:
        state.scores_at("later")[job] = 0.0

    def plan_ahead(self, state: State, job: str) -> None:
        state.scores_at("later")[job] = state.get("clock", 0.0) + 90_000.0
