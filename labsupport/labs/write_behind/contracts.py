"""What the exercises of lab 03 ask for, as models: each view is in Redis or in the database, once."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from hypothesis import strategies as st

from labsupport.exercises.contract import Call, Case, Contract, Functions
from labsupport.exercises.matching import ANYTHING
from labsupport.exercises.state import Entries, State

__all__ = ["FlushDeltas", "FlushPage", "ViewPage"]

_BEFORE = {"1": 16, "2": 39}  # views in the database
_PAGES = [str(number) for number in range(1, 41)]
_IN_VAIN = "the count of calls that found nothing gathered, and asked the database,"


class _Views(Contract):
    """Views of two pages; `stats` in the state is what the database has."""

    takes = ("redis", "db")
    visible: ClassVar[Sequence[str]] = ("stats",)
    effort = 0.6

    def __init__(self) -> None:
        self._pages = len(_BEFORE)

    def write(self, start: State, redis: Any, db: Any) -> None:
        self._pages = len(start.get("stats", _BEFORE))
        for page, views in start.get("stats", {}).items():
            put = "UPDATE page_stats SET views = :views WHERE id = :page"
            db.execute(put, views=views, page=int(page))
        State({k: v for k, v in start.items() if k != "stats"}, start.lives).write(redis)

    def read(self, redis: Any, db: Any) -> State:
        state = State.read(redis)
        select = "SELECT id, views FROM page_stats WHERE id <= :most ORDER BY id"
        rows = db.fetch_all(select, most=self._pages)
        state.keep("stats", {str(row["id"]): row["views"] for row in rows})
        return state

    def _add(self, state: State, page: Any, views: int) -> None:
        stats = state["stats"] = {**state.get("stats", _BEFORE)}
        stats[str(page)] = int(stats[str(page)]) + views

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """The views in the database, and what is promised of Redis."""
        found = state.settled(self.visible)
        stats = found.pop("stats", None) or State({"stats": _BEFORE}).settled(["stats"])["stats"]
        return {**found, **{f"page {n} in the database": views for n, views in stats.items()}}


class _Watched:
    """A database that notes whether it was asked anything that was not rolled back."""

    def __init__(self, db: Any) -> None:
        self._db, self.asked = db, False

    def __getattr__(self, name: str) -> Any:
        self.asked |= name in ("execute", "fetch_one", "fetch_all")
        return getattr(self._db, name)

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        asked = self.asked
        try:
            with self._db.transaction():
                yield self
        except BaseException:
            self.asked = asked
            raise


class FlushPage(_Views):
    """03.1: flush a counter that visitors add to."""

    answer = "flush_page"
    visible = ("stats", "views:1", "views:2")
    faults = ("stall",)
    clauses: ClassVar = {
        "told": "return how many views",
        "page *": "Add what views:{page} has gathered to the page's row in page_stats",
        "the count*": "With nothing gathered, return 0 and leave the database alone.",
        "left": "each view is added once",
        "lives": "Visitors keep counting (INCR views:{page})",
        "at once": "each view is added once",
    }
    others: ClassVar = {"visit": lambda redis, db, page: redis.incr(f"views:{page}") and None}
    _flush = st.sampled_from([1, 1, 2]).map(lambda page: Call("flush_page", (page,)))
    calls = st.one_of(_flush, _flush, st.sampled_from([1, 2]).map(lambda n: Call("visit", (n,))))
    starts = st.dictionaries(
        st.sampled_from(["views:1", "views:2"]), st.sampled_from([1, 3, 41])
    ).map(State)
    rare = (  # more views than a call may take
        Case(State({"views:1": 12_345}), after=(("ada", Call("flush_page", (1,))),)),
    )

    def __init__(self) -> None:
        super().__init__()
        self._in_vain = 0

    def ask(self, functions: Functions, redis: Any, db: Any, who: str, call: Call) -> Any:
        watched = _Watched(db)
        told = super().ask(functions, redis, watched, who, call)
        self._in_vain += call.name == self.answer and told == 0 and watched.asked
        return told

    def write(self, start: State, redis: Any, db: Any) -> None:
        self._in_vain = 0
        super().write(start, redis, db)

    def read(self, redis: Any, db: Any) -> State:
        state = super().read(redis, db)
        if self._in_vain:
            state.keep(_IN_VAIN, self._in_vain)
        return state

    def races(self) -> Any:
        one, visit = Call("flush_page", (1,)), Call("visit", (1,))
        return st.builds(
            lambda views, bob, cyd: Case(
                State({"views:1": views} if views is not None else {}),
                {"ada": (one,), "bob": bob, **cyd},
            ),
            st.sampled_from([3, 1, None]),
            st.sampled_from([(visit,), (one,), (visit, one)]),
            st.sampled_from([{}, {"cyd": (visit,)}]),
        )

    def shown(self, state: State, start: State) -> dict[str, Any]:
        """A counter of 0 and none are the same."""
        found = super().shown(state, start) | {_IN_VAIN: state.get(_IN_VAIN, 0)}
        return {key: one for key, one in found.items() if key[:6] != "views:" or one != "0"}

    def flush_page(self, state: State, page: int) -> int:
        key = f"views:{page}"
        views = state.number_at(key)
        state.remove(key)
        self._add(state, page, views)
        return views

    def visit(self, state: State, page: int) -> None:
        state[f"views:{page}"] = state.number_at(f"views:{page}") + 1


class FlushDeltas(_Views):
    """03.2: flush a hash exactly once, whoever crashes; what is looked at, three calls come before."""

    answer = "flush_deltas"
    faults = ("crash", "stall")
    effort = 0.4
    visible = ("stats",)
    clauses: ClassVar = {
        "left": "Add the views in the hash deltas (a field for each page) to page_stats, each exactly "
        "once",
        "at once": "Visitors go on counting (HINCRBY deltas {page} 1), a second flusher may be at work",
        "crash": "a flusher may crash at any step: later calls finish what it leaves",
    }
    others: ClassVar = {
        "visit": lambda redis, db, page: redis.hincrby("deltas", page, 1) and None,
    }
    _flush, _visit = Call("flush_deltas"), Call("visit", (1,))
    calls = st.sampled_from([_flush, _flush, _visit, Call("visit", (2,))])
    starts = st.dictionaries(st.sampled_from(["1", "2"]), st.sampled_from([1, 2, 12])).map(
        lambda deltas: State({"deltas": deltas})
    )
    rare = (  # more pages than a call or three may take
        Case(
            State({"stats": dict.fromkeys(_PAGES, 3), "deltas": dict.fromkeys(_PAGES, 1)}),
            after=(("ada", Call("flush_deltas")),),
        ),
    )

    def __init__(self) -> None:
        super().__init__()
        self._answer: Any = None

    def race_starts(self) -> Any:
        return st.just(State({"deltas": {"1": 2}}))

    def races(self) -> Any:
        """A flusher or two; one of them may be a batch ahead."""
        one, ahead = (self._flush,), (self._flush, self._visit, self._flush)
        programs = [
            {"bob": one, "ada": ahead},
            {"ada": one, "bob": one},
            {"ada": one, "bob": (self._visit,)},
        ]
        return st.builds(Case, self.race_starts(), st.sampled_from(programs))

    def recoveries(self) -> Any:
        """What a crash leaves is finished by three calls, before it is looked at."""
        start = st.sampled_from([State({"deltas": {"1": 2}}), State({"deltas": {"1": 1, "2": 2}})])
        programs = st.sampled_from(
            [{"ada": (self._flush,)}, dict.fromkeys(self.clients, (self._flush,))]
        )
        after = (("bob", self._flush), ("bob", self._visit), ("bob", self._flush))
        return st.builds(lambda start, programs: Case(start, programs, after), start, programs)

    def ask(self, functions: Functions, redis: Any, db: Any, who: str, call: Call) -> Any:
        self._answer = functions[self.answer]
        return super().ask(functions, redis, db, who, call)

    def write(self, start: State, redis: Any, db: Any) -> None:
        db.execute("CREATE TABLE flushes (batch TEXT PRIMARY KEY)")
        for batch in start.get("flushes", ()):
            db.execute("INSERT INTO flushes VALUES (:batch)", batch=batch)
        rest = {key: one for key, one in start.items() if key != "flushes"}
        super().write(State(rest, start.lives), redis, db)

    def read(self, redis: Any, db: Any) -> State:
        for _ in range(3):
            with suppress(Exception):  # an error here would end the search; what it leaves is told
                self._answer(redis, db)
        state = super().read(redis, db)
        state.keep("flushes", [row["batch"] for row in db.fetch_all("SELECT batch FROM flushes")])
        return state

    def shown(self, state: State, start: State) -> dict[str, Any]:
        if "flushes" not in state:  # the model's: all is added
            state = state.copy()
            for page, views in state.get("deltas", {}).items():
                self._add(state, page, int(views))
        return super().shown(state, start)

    def flush_deltas(self, state: State) -> Any:
        return ANYTHING

    def visit(self, state: State, page: int) -> None:
        deltas = state.hash_at("deltas")
        deltas[str(page)] = int(deltas.get(str(page), 0)) + 1


def _flush_stream(redis: Any, db: Any) -> None:
    """Be a flusher that is beyond reproach, as long as it does not crash."""
    entries, _ = redis.pipeline().xrange("views").xtrim("views", maxlen=0).execute()
    for _, entry in entries:
        add = "UPDATE page_stats SET views = views + 1 WHERE id = :page"
        db.execute(add, page=int(entry["page"]))


class ViewPage(_Views):
    """03.3: a backlog with a bound, and nobody's view lost."""

    answer = "view_page"
    faults = ("crash", "stall")
    visible = ("stats", "views")
    clauses: ClassVar = {
        "views": 'as an entry {"page": page} of the stream views, while it has room',
        "page *": "When it is full, add the view to the page's row in page_stats instead",
        "told": "The stream never has more than most entries",
        "left": "Count a view once",
        "ends": "nobody waits for room",
        "waits": "nobody waits for room",
        "at once": "Meanwhile others view pages, and a flusher empties the stream",
        "crash": "after a crash it counts once, or not at all",
    }
    others: ClassVar = {
        "how_many": lambda redis, db: redis.xlen("views"),
        "flush": _flush_stream,
    }
    calls = st.one_of(
        st.builds(
            lambda page, most: Call("view_page", (page, most)),
            st.sampled_from([1, 1, 2]),
            st.sampled_from([2, 3, 10]),
        ),
        st.just(Call("flush")),
    )
    starts = st.lists(st.sampled_from([1, 2]), max_size=2).map(
        lambda pages: State({"views": Entries({"page": page} for page in pages)})
    )

    def races(self) -> Any:
        one, flush = Call("view_page", (1, 2)), Call("flush")
        meets = [(one,), (flush,), (Call("how_many"),), (Call("view_page", (2, 2)),), (flush, one)]
        starts = [State({"views": Entries({"page": 1} for _ in range(n))}) for n in range(3)]
        return st.builds(
            lambda start, meets: Case(start, {"ada": (one,), "bob": meets}),
            st.sampled_from(starts),
            st.sampled_from(meets),
        )

    rare = (  # there is room for more than a thousand
        Case(
            State({"views": Entries({"page": 1} for _ in range(1_200))}),
            after=(("ada", Call("view_page", (1, 1_201))),) * 2,
        ),
    )
    crowds = tuple(  # until there is no room any more, which it may find at any step
        Case(State(), dict.fromkeys(("ada", "bob"), (Call("view_page", (1, most)),)))
        for most in range(3, 37, 2)
    )

    def crowd(self) -> Case:
        """There is room for all."""
        one = (Call("view_page", (1, 1_000)),)
        return Case(State(), {"ada": one, "bob": one})

    def recoveries(self) -> Any:
        one = Call("view_page", (1, 2))
        after = ("ada", one), ("bob", Call("flush")), ("bob", one)
        return self.starts.map(lambda start: Case(start, {"ada": (one,)}, after))

    def view_page(self, state: State, page: int, most: int) -> Any:
        entries = state.setdefault("views", Entries())
        if len(entries) < most:
            entries.append({"page": page})
        else:
            self._add(state, page, 1)
        return ANYTHING

    def how_many(self, state: State) -> int:
        return len(state.get("views", ()))

    def flush(self, state: State) -> Generator[Any, Any, Any]:
        entries = state.pop("views", Entries())
        yield
        for entry in entries:
            self._add(state, entry["page"], 1)
        return ANYTHING
