"""What the exercises 11.1 and 11.2 ask for, as models: a stream, and what is pending in its group."""

from collections.abc import Generator
from typing import Any, ClassVar

from hypothesis import strategies as st
from redis.exceptions import ConnectionError, ResponseError, WatchError

from labsupport.exercises.contract import ME, Call, Case, Contract
from labsupport.exercises.matching import Raised
from labsupport.exercises.state import KEPT, State
from labsupport.labs.queues.handling import Handle

__all__ = ["Consume", "Take"]

_JOBS = st.sampled_from(["a", "b", "", "0", "d'Arc"])
_ONGOING, _LATELY, _LONG = _IDLE_MS = 0, 60_000, 3_600_000
_MIN_IDLE_MS = (
    600_000  # far from what is idle for a shorter time, and from what is for a longer one
)
_MOST = 3
_MORE = {"to": "ada@example.org"}
"""The fields that an entry has beside its job."""


def _put(redis: Any, job: str) -> None:
    redis.xadd("jobs", {"job": job, **_MORE})


def _job_of(fields: dict[str, str]) -> str:
    rest = {name: value for name, value in fields.items() if name != "job"}
    return fields.get("job", "(no job)") if rest == _MORE else f"{fields} without all its fields"


class _Group(Contract):
    """The stream jobs and its group mailers.

    In a state, "jobs" are the entries that nobody was given, each [ID, job]; "pending" are those that
    somebody has, each [ID, job, consumer, deliveries, idle ms]; without "group" there is none yet.
    """

    visible = ("jobs", "pending", "done", "dead", "group")
    place = "In the stream"
    _who = st.sampled_from(["old", "old", "bob"])
    _pending = st.lists(
        st.tuples(_JOBS, _who, st.integers(1, 4), st.sampled_from(_IDLE_MS)), max_size=3
    )

    @staticmethod
    def start(pending: Any, new: Any, dead: Any = (), *, group: bool = True) -> State:
        """A start from what is pending, each (job, consumer, deliveries, idle ms), and new jobs."""
        rows = [[f"{n}-0", *one] for n, one in enumerate(pending, 1)]
        more = [[f"{n}-0", job] for n, job in enumerate(new, 1 + len(rows))]
        return State({"pending": rows, "jobs": more, "dead": [*dead], "group": int(group)})

    def write(self, start: State, redis: Any, db: Any) -> None:
        rows = start["pending"]
        for entry, job, *_ in sorted(
            [*rows, *start["jobs"]], key=lambda row: [int(part) for part in row[0].split("-")]
        ):
            redis.xadd("jobs", {"job": job, **_MORE}, id=entry)
        for job in start.get("dead", ()):
            redis.xadd("dead", {"job": job, **_MORE})
        if start.get("group"):
            redis.xgroup_create("jobs", "mailers", id="0", mkstream=True)
            if rows:
                redis.xreadgroup("mailers", "old", {"jobs": ">"}, count=len(rows))
            for entry, _, who, times, idle in rows:
                redis.xclaim("jobs", "mailers", who, 0, [entry], idle=idle, retrycount=times)
        State({"done": start.get("done", [])}).write(redis)

    def read(self, redis: Any, db: Any) -> State:
        state = State.read(redis)
        entries = dict(redis.xrange("jobs"))
        jobs = {entry: fields.get("job", "?") for entry, fields in entries.items()}
        groups = redis.xinfo_groups("jobs") if "jobs" in state else []
        last = groups[0]["last-delivered-id"] if groups else "0-0"
        rows = redis.xpending_range("jobs", "mailers", "-", "+", 1_000) if groups else []
        state["pending"] = [
            [
                row["message_id"],
                jobs.get(row["message_id"], "(deleted)"),
                row["consumer"],
                row["times_delivered"],
                min(_IDLE_MS, key=lambda ms: abs(ms - row["time_since_delivered"])),
            ]
            for row in rows
        ]
        state["jobs"] = [
            [entry, job] for entry, job in jobs.items() if _place(entry) > _place(last)
        ]
        state["dead"] = [_job_of(fields) for fields in state.get("dead", ())]
        state["group"] = len(groups)
        state.lives |= dict.fromkeys(("pending", "jobs", "dead", "group"), KEPT)
        return state

    def begins(self, start: State) -> str:
        """The start in a line, for the learner."""
        new = [job for _, job in start["jobs"]]
        parts = [f"new in jobs: {', '.join(map(repr, new)) or 'nothing'}"]
        parts += [
            f"{job!r} pending with {who} for {_lasting(idle)}, delivery {times}"
            for _, job, who, times, idle in start["pending"]
        ]
        if not start["group"]:
            parts.append("no group yet")
        return "At the start: " + "; ".join(parts)

    def put(self, state: State, job: str) -> None:
        state.list_at("jobs").append(["", job])


def _lasting(ms: int) -> str:
    return f"{ms} ms" if ms % 60_000 else f"{ms // 60_000} min"


def _place(entry: str) -> list[int]:
    return [int(part) for part in entry.split("-")]


# XAUTOCLAIM looks at ten entries for each that it is asked for
_BEHIND_OTHERS = [*((f"{n}", "old", 1, _LATELY) for n in range(11)), ("late", "old", 1, _LONG)]
_CONSUME = Call("consume", (ME, Handle(), _MIN_IDLE_MS))
_IDLE_FIRST = "A job that has been pending for min_idle ms comes before a new one."
_BLANKS = " a\n"  # a job may be any text
_NO_SECOND_MS = 900  # and a time any number of ms
_FOR_NO_SECOND = [_Group.start([("a", "bob", 1, idle)], []) for idle in (_ONGOING, 950)]
_AT_ONCE = Call("consume", (ME, Handle(), 0))
_FAIL = Call("consume", (ME, Handle(fails=True), _MIN_IDLE_MS))
_FAILS_AS_REDIS = [
    Call("consume", (ME, Handle(fails=True, error=error), _MIN_IDLE_MS))
    for error in (ConnectionError, ResponseError, WatchError)
]


class Consume(_Group):
    """11.1: no job is skipped, none acknowledged too early."""

    answer = "consume"
    clauses: ClassVar = {
        "raised": "a job whose handle raises (the error reaches the caller)",
        "told": "Handle one job of the stream jobs as consumer me of the group mailers; return it, or None.",
        "ends": "return it, or None",
        "what was handled": "Handle one job of the stream jobs",
        "pending": "It is acknowledged when it was handled",
        "new": "Jobs added before the group existed count, too",
        "crash": "or whose consumer is killed, is handled again later",
        "at once": "many consumers begin at once",
        "left": "It is acknowledged when it was handled",
    }
    others: ClassVar = {"put": _put}
    calls = st.one_of(
        st.sampled_from([_CONSUME, _CONSUME, _AT_ONCE, _FAIL]),
        st.builds(Call, st.just("put"), st.tuples(_JOBS)),
    )
    starts = st.one_of(
        st.builds(_Group.start, st.just(()), st.lists(_JOBS, max_size=2), group=st.just(False)),
        st.builds(_Group.start, _Group._pending, st.lists(_JOBS, max_size=2)),
    )
    always = (
        Case(_Group.start([], ["a", "b"], group=False), after=(("ada", _CONSUME),) * 3),
        Case(_Group.start([], ["a"]), after=(("ada", _FAIL), ("bob", _AT_ONCE))),
        *(
            Case(_Group.start(pending, new), after=(("ada", _CONSUME),) * 2, about=_IDLE_FIRST)
            for pending, new in (
                ([("late", "bob", 1, _LONG)], ["new"]),
                ([("a", "bob", 1, _LATELY)], []),
                (_BEHIND_OTHERS, ["new"]),
            )
        ),
    )

    rare = (
        *(
            Case(_Group.start([], ["a", "b"]), after=(("ada", fails), ("bob", _AT_ONCE)))
            for fails in _FAILS_AS_REDIS
        ),
        Case(_Group.start([], [_BLANKS]), after=(("ada", _CONSUME),)),
        *(
            Case(start, after=(("ada", Call("consume", (ME, Handle(), _NO_SECOND_MS))),))
            for start in _FOR_NO_SECOND
        ),
    )

    def race_starts(self) -> Any:
        """Of two that are idle each gets one, before there is a new one for anybody."""
        idle, lately = ("p", "old", 1, _LONG), ("p", "old", 1, _LATELY)
        one = st.sampled_from([[], [idle], [lately], [idle, ("o", "old", 1, _LONG)]])
        without = st.builds(_Group.start, st.just(()), st.just(["a", "b"]), group=st.just(False))
        new = st.sampled_from([[], ["a"], ["a", "b"]])
        return st.one_of(without, st.builds(_Group.start, one, new))

    def race_calls(self) -> Any:
        return st.sampled_from([_CONSUME, _CONSUME, _FAIL, Call("put", ("n",))])

    def recoveries(self) -> Any:
        """The next one finds what a killed consumer had, however short ago."""

        def case(start: State, call: Call) -> Case:
            return Case(start, {"ada": (call,)}, (("ada", call), ("bob", call), ("bob", call)))

        return st.builds(case, self.race_starts(), st.just(_AT_ONCE))

    def shown(self, state: State, start: State) -> dict[str, Any]:
        return {
            "what was handled": state.get("done", []),
            "pending": sorted(job for _, job, *_ in state["pending"]),
            "new": [job for _, job in state["jobs"]],
            **{k: v for k, v in state.settled("*").items() if k.startswith("jobs:")},
        }

    def consume(
        self, state: State, me: str, handle: Handle, min_idle: int
    ) -> Generator[Any, Any, Any]:
        """What one has oneself may be handled again at once, or when it is idle."""
        state["group"] = 1
        pending, new = state["pending"], state["jobs"]
        idle = [row[0] for row in pending if row[4] >= min_idle]
        own = [row[0] for row in pending if row[2] == me and row[4] < min_idle]
        options: list[Any] = [*idle, *own]
        if not idle:
            options.append(None)
        entry = (yield options) if options != [None] else None
        if entry is None:
            if not new:
                return None
            entry, job = new.pop(0)
            entry = entry or f"put-{len(pending)}"
            pending.append([entry, job, me, 1, 0])
        else:
            row = next(row for row in pending if row[0] == entry)
            row[2:] = [me, row[3] + 1, 0]
            job = row[1]
        yield
        if handle.fails:
            return Raised(handle.error)
        state.list_at("done").append(job)
        yield
        state["pending"] = [row for row in state["pending"] if row[0] != entry]
        return job


_TAKE = Call("take", (ME, _MIN_IDLE_MS))
_TAKE_NOW = Call("take", (ME, 0))


class Take(_Group):
    """11.2: three deliveries, then the dead letters."""

    answer = "take"
    clauses: ClassVar = {
        "told": "Take a job that has been pending for min_idle ms; return (entry, job), or None.",
        "deliveries": "A job is handed out three times at the most: the next to find it puts it into the "
        "stream dead, with the same fields, instead, and acknowledges it",
        "dead": "the next to find it puts it into the stream dead, with the same fields, instead, "
        "and acknowledges it",
        "crash": "no job is lost, and none is in dead twice",
        "at once": "Many do this at once, and may be killed",
        "left": "no job is lost, and none is in dead twice",
    }
    others: ClassVar = {"put": _put}
    calls = st.sampled_from([_TAKE, _TAKE, _TAKE_NOW, Call("put", ("n",))])
    starts = st.builds(
        _Group.start, _Group._pending, st.sampled_from([[], ["new"]]), st.sampled_from([[], ["z"]])
    )
    always = (
        *(
            Case(_Group.start([("a", "old", times, idle)], []), after=(("ada", _TAKE),) * 2)
            for times, idle in ((1, _LONG), (2, _LONG), (3, _LONG), (1, _LATELY), (3, _LATELY))
        ),
        Case(_Group.start(_BEHIND_OTHERS, []), after=(("ada", _TAKE),)),
        Case(  # an older one dies later
            _Group.start([("a", "old", 2, _LONG), ("b", "old", 3, _LONG)], []),
            after=(("ada", _TAKE_NOW),) * 4,
        ),
    )
    rare = (
        *(
            Case(_Group.start([(_BLANKS, "old", times, _LONG)], []), after=(("ada", _TAKE),))
            for times in (1, 3)
        ),
        *(
            Case(start, after=(("ada", Call("take", (ME, _NO_SECOND_MS))),))
            for start in _FOR_NO_SECOND
        ),
    )

    @staticmethod
    def _pending_for_long(deliveries: list[int]) -> Any:
        def start(counts: list[int]) -> State:
            rows = zip("ab", counts, strict=False)
            return _Group.start([(job, "old", count, _LONG) for job, count in rows], (), [])

        return st.lists(st.sampled_from(deliveries), min_size=1, max_size=2).map(start)

    def races(self) -> Any:
        """Takers that meet, and two that have the same job, as the first was away for min_idle."""
        twice = st.builds(
            Case,
            self._pending_for_long([3, 4]),
            st.just({"ada": (_TAKE_NOW,), "bob": (_TAKE_NOW,)}),
        )
        return st.one_of(super().races(), twice)

    def race_starts(self) -> Any:
        return self._pending_for_long([2, 3, 3])

    def race_calls(self) -> Any:
        return st.just(_TAKE)

    def recoveries(self) -> Any:
        def case(start: State, call: Call) -> Case:
            return Case(start, {"ada": (call,)}, (("ada", call), ("bob", call), ("bob", call)))

        return st.builds(case, self.race_starts(), st.just(_TAKE_NOW))

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """How often one was delivered that dies next does not matter."""
        return {
            "dead": sorted(state.get("dead", [])),
            "deliveries": {row[0]: min(row[3], _MOST) for row in state["pending"]},
            "jobs": sorted(row[1] for row in [*state["pending"], *state["jobs"]]),
        }

    def take(self, state: State, me: str, min_idle: int) -> Generator[Any, Any, Any]:
        """Which of several is free; who has buried one may look for another, or not."""
        buried = False
        while True:
            ripe = {row[0]: row for row in state["pending"] if row[4] >= min_idle}
            if not ripe:
                return None
            options: list[Any] = [(entry, False) for entry in ripe]
            options += [(entry, True) for entry, row in ripe.items() if row[3] >= _MOST]
            choice = yield [*options, None] if buried else options
            if choice is None:
                return None
            entry, at_once = choice
            row = ripe[entry]
            if not at_once:
                row[2:] = [me, row[3] + 1, 0]
                if row[3] <= _MOST:
                    return (entry, row[1])
                yield  # claimed, and not yet dead
            if row in state["pending"]:
                state["pending"].remove(row)
                state.list_at("dead").append(row[1])
            buried = True
            yield
