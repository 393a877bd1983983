"""The call: check the arguments, set the clients up, search, and report."""

import functools
import inspect
import math
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from linecache import getline
from types import FrameType, TracebackType
from typing import Any, Literal

from greenlet import GreenletExit

from labsupport.errors import (
    ImplementationError,
    Interrupted,
    InvalidSettingError,
    NotSteppableError,
)
from labsupport.explorer.checker import Checker
from labsupport.explorer.clients.actor import Actor, CoroutineFoundError, SharedLock
from labsupport.explorer.clients.captured import OwnLocals
from labsupport.explorer.clients.guard import (
    StepTimeout,
    acquiring,
    foreign_use_noticed,
    sets_gone_through,
    watched,
)
from labsupport.explorer.clients.namespaces import Namespaces, installed
from labsupport.explorer.clients.stand_ins import in_zone, standing_in
from labsupport.explorer.clock import Clock
from labsupport.explorer.moves.adversary import Adversary
from labsupport.explorer.moves.attempts import MAX_PATIENCE
from labsupport.explorer.moves.passing_time import MOST_MOMENTS
from labsupport.explorer.moves.stage import Powers
from labsupport.explorer.operations import Move, owner
from labsupport.explorer.own.async_pools import async_pools_stepped, handed_out
from labsupport.explorer.own.coroutines import CoroutineActor
from labsupport.explorer.own.engines import engines_stepped
from labsupport.explorer.own.hosted import hosted
from labsupport.explorer.own.pools import pools_stepped
from labsupport.explorer.report import Moment, Report, Rerun
from labsupport.explorer.rerun import run_again, tables_of
from labsupport.explorer.search import NoStepError, Search
from labsupport.explorer.shared_memory import shared_locks, shared_names
from labsupport.explorer.system import Replay, Seat, System
from labsupport.verdict import Claim, Status, Verdict

__all__ = ["explore"]

_MOST_UNASKED = 2_000  # orders in which time passes, though nobody asked for it
_MOST_MOVES_UNASKED = 12_000  # in all of them
_MOST_DELAYED = 400  # orders in which a reply comes late, though nobody asked for it
_MOST_MOVES_DELAYED = 5_000
_MOST_UNASKED_TWICE = 10_000  # where a client asks twice what time it is
_MOST_MOVES_UNASKED_TWICE = 100_000
_OTHER_CLOCK = (
    "The database's clock (now(), CURRENT_TIMESTAMP) is the machine's, where no time passes: hand a "
    "statement the time that Python says."
)

_DRAWN_ALIKE = "The server draws the same for all who ask it for any member."
_DRAWN = "What the server draws is one of many: tried were the same for all, and for each another."
_DRAWN_ONCE = "What the server draws is one of many: one was tried."
_FEW_ALIKE = "Clients that draw one of a few (a code, a digit) draw the same here."
_FEW = "Clients draw one of a few: tried were the same for all, and for each another."
_FRACTIONS = (
    "Clients draw fractions, or go by one of very many (random.random() and its like): tried were some, "
    "very small and very large ones."
)
_FRACTIONS_FOUND = (
    "All fractions, and numbers out of very many, that clients draw and go by are very {} here."
)
_FEW_ONCE = "A client draws one of a few (a code, a digit): one was tried."
_TRIED_ONE = (
    "Of very many values that are drawn (by numpy, by gauss() and its like, or as a token that code goes "
    "by) one was tried."
)
_LAST_ATTEMPT = (
    "{} gives up after several attempts: not in all orders was the last one's reply lost, too."
)
_FEW_LATE = "Replies came late in orders with few switches only, though {}; delays=True tries all."

Function = Callable[..., Any]
Who = bool | str | Collection[str]


def explore(
    clients: Mapping[str, Function],
    *,
    system: System,
    given: Function | None = None,
    invariant: Function,
    crashes: Who = False,
    expires: str | Iterable[str] = (),
    loses: Who = False,
    losses: int = 1,
    passes: bool | int | None = None,
    delays: bool | int | None = None,
    clocks: Mapping[str, float] | None = None,
    raises: type[BaseException] | tuple[type[BaseException], ...] = (),
    prune: bool = False,
    stop: Literal["first", "all"] = "all",
    max_runs: int = 20_000,
) -> Report:
    """Run `clients` in every order of their steps, and say after which of them the invariant fails.

    A step is one Redis command or SQL statement; it goes to a real server or database. A MULTI/EXEC
    block and a script are one step, a pipeline without MULTI is as many as it has commands, and a
    COMMIT or ROLLBACK is one. A client that only repeats a step in vain waits until something else has
    moved. The timeout of a blocking command ends when nobody else can move; it takes time as a sleep does,
    and lets a TTL end that is over by then. If then nobody can move on at all, that is a violation, too: a
    deadlock, or a wake-up that was lost.

    No clock of the machine decides anything. All clocks, the server's too, begin each run at the same
    moment and stand still, but for a client's own sleeps; `passes` lets time move on. A sleep of the last
    client that outlasts a TTL lets time pass for all, as does a wait for what only the server's clock
    can bring. Where a client asks twice what time it is, with a step in between, time may have passed; so
    it does, to a moment at which something changes, unless `passes` says otherwise.

    Args:
        clients: name and function of each; a function is called with (redis, db), a coroutine function
            with a redis.asyncio client.
        system: the server and the database; `labsupport.explore` gives the lab's own.
        given: sets the state before each run, called with (redis, db); Redis starts empty, and the
            database as the testbed has it. It and the invariant may be coroutine functions, too.
        invariant: called with (redis, db) when all have finished; returns True when all is well. Its
            docstring's first line, if it has one, names the claim. If it takes a third argument, it is
            given what each client returned, or the error that it raised, by name; a client that
            crashed is not among them.
        crashes: True lets every client crash in place of any of its steps; or the names of those
            that may.
        expires: keys, or glob patterns, that may expire at any moment while they have a TTL, and
            fields of these that have one.
        loses: True lets the reply of any client's command be lost: the command is done, and the client
            gets what redis-py makes of it, by its defaults a second attempt; or the names of those.
        losses: how many replies may be lost in one run.
        passes: True lets time pass once in a run, to a moment at which anything may change (a TTL or a
            timeout ends, an entry is idle for long enough, a sleep or a moment that a command named is
            over), or by a day where none is known; or how often. It may pass before a client begins,
            and between a reply and the client's look at a clock. False lets it stand still.
        delays: True lets the reply of any step come later than others' steps, once in a run; or how
            often. That matters where clients, or tasks of one client, share memory; there a reply may
            come late unless this is False.
        clocks: by how many seconds a client's own clock is ahead of the others, by name.
        raises: errors that are part of what the clients promise, and no finding.
        prune: run one order of each class that differ only in the order of steps that commute, by the
            keys and tables that they name; not where clients share the memory of the process.
        stop: "first" ends the search at the first violation.
        max_runs: the search is given up after so many runs, and says so. The last of them are alike in
            how they begin; half as many more, 500 at the most, are those in which clients switch seldom.

    Returns:
        A `Report`: .interleavings, .violations, .exhausted, .counterexample, .verdict, .check().

    Raises:
        InvalidSettingError: an argument makes no sense.
        ImplementationError: a function raises in the very first order, or `given` or the invariant do.
        NotSteppableError: a client uses what cannot be stepped: threads, processes, other connections.
        NotDeterministicError: the same order gave different steps when it was repeated.
    """
    _check(clients, given, invariant, max_runs, stop)
    powers = partial(
        Powers,
        crashes=_named(crashes, clients, "crashes"),
        expires=_patterns(expires),
        loses=_named(loses, clients, "loses"),
        losses=_count(losses, "losses"),
        delays=_count(delays or 0, "delays"),
        raises=_errors(raises),
    )
    _check_clocks(clocks or {}, clients)

    def memory(late: bool, code: Mapping[str, Any]) -> tuple[list[str], bool, list[SharedLock]]:
        """What is shared in it, for pruning, whether clients are to begin later for it, and its locks."""
        late |= bool(delays) and bool(shared_names(code, logs=False, reader=invariant))
        shared = shared_names(code, reader=invariant) if prune else []
        return shared, late, shared_locks(code)

    shared, late, locks = memory(False, clients)
    functions = [*clients.values(), given or _nothing, invariant]
    awaited = {name for name, function in clients.items() if _awaits(function)}
    begin = time.perf_counter()

    alike = False

    def run(
        times: int,
        most: int = max_runs,
        moves: float = math.inf,
        fractions: str = "",
        **other: Any,
    ) -> Search:
        chance: dict[str, Any] = {"alike": alike, "fractions": fractions}
        system.begin(Clock(clocks, passing=bool(times), any_day=bool(passes), **chance))
        search = _search(
            system,
            clients,
            given or _nothing,
            invariant,
            powers(passes=times, **({"begins": late} | other)),
            awaited,
        )
        for actor in search.adversary.clients:
            actor.shared_locks = locks
        search.prune = prune and not shared and not search.adversary.powers.delays
        search.limit(max_runs=most, max_moves=moves, stop_first=stop == "first")
        try:
            _run(search, functions)
        except CoroutineFoundError:  # a lambda around a coroutine function: begin again
            found = {actor.name for actor in search.adversary.clients if actor.fault is not None}
            if found <= awaited:
                raise
            awaited.update(found)
            return run(times, most, moves, fractions, **other)
        except KeyboardInterrupt:
            raise Interrupted from None
        return search

    with system.alone():
        search = None
        try:
            search = run(_count(passes or 0, "passes"))
        except (ImplementationError, NoStepError):
            # all have begun at once: who finds memory in use may find it free when it begins later
            if late or not shared_names(clients, logs=False, reader=invariant):
                raise
            late = True
        search = search or run(_count(passes or 0, "passes"))
        found = search.checker.violations and not search.checker.serial
        if not found and (shared, late, locks) != (after := memory(late, _code_of(search))):
            # `given`, or a library's call, leads to what the clients share
            shared, late, locks = after
            search = run(_count(passes or 0, "passes"))
        notes = [_NOT_PRUNED.format(", ".join(shared))] if shared else []
        drew, few = system.clock.drew, system.clock.drew_few
        if not search.checker.violations and max(len(drew), len(few)) > 1:
            alike = True
            other = run(_count(passes or 0, "passes"))
            alike = bool(other.checker.violations)
            search = other if alike else search
            search.given_up = search.given_up or other.given_up
            notes += [_DRAWN_ALIKE if alike else _DRAWN] if len(drew) > 1 else []
            notes += [_FEW_ALIKE if alike else _FEW] if len(few) > 1 else []
        elif not search.checker.violations:
            notes += [_DRAWN_ONCE] * bool(drew) + [_FEW_ONCE] * bool(few)
        if not search.checker.violations and system.clock.drew_fraction:
            search, note = _in_fractions(search, partial(run, passes or 0))
            notes.append(note)
        if not search.checker.violations and system.clock.drew_once:
            notes.append(_TRIED_ONE)
        if search.adversary.attempts.gives_up and not (
            search.checker.violations or search.given_up
        ):
            search, note = _at_last(search, partial(run, passes or 0), max_runs)
            notes += [note] if note else []
        if passes is None and not search.checker.violations:
            search, note = _in_time(search, run, max_runs)
            notes += [note] if note else []
        if delays is None and not search.given_up:
            search, note = _delayed(search, partial(run, passes or 0), invariant, max_runs)
            notes += [note] if note else []
        if not search.checker.violations:
            notes += _limits_of(search)
    if system.clock.database:
        notes.append(_OTHER_CLOCK)
    if asked := [actor.name for actor in search.adversary.clients if actor.asked_process]:
        notes.append(_OWN_PROCESS.format(asked[0]))
    if seeded := [actor.name for actor in search.adversary.clients if actor.gave_seed]:
        notes.append(_OWN_SEED.format(seeded[0]))
    return _report(search, tuple(clients), notes, functions, time.perf_counter() - begin)


def _in_fractions(search: Search, run: Callable[..., Search]) -> tuple[Search, str]:
    """The same once more, with very small fractions and with very large ones; and a note of it."""
    for fractions in ("small", "large"):
        other = run(fractions=fractions)
        search.given_up = search.given_up or other.given_up
        if other.checker.violations:
            return other, _FRACTIONS_FOUND.format(fractions)
    return search, _FRACTIONS


def _in_time(search: Search, run: Callable[..., Search], most: int) -> tuple[Search, str]:
    """The same once more, while time passes, where that may matter; and a note of it."""
    actors = search.adversary.clients
    twice = [actor.name for actor in actors if actor.read_twice]
    asked = [actor.name for actor in actors if actor.asked]
    limits = min(most, _MOST_UNASKED_TWICE), _MOST_MOVES_UNASKED_TWICE
    if twice:
        why = f"{twice[0]} asks twice what time it is"
    elif who := search.adversary.passing.oversleeps:
        why = f"{who} sleeps for longer than something in Redis lives"
        if search.adversary.passing.may_wait:
            return search, _still(why)
        limits = min(most, _MOST_UNASKED), _MOST_MOVES_UNASKED
    elif len(asked) > 1:
        return search, _still(f"{asked[0]} and {asked[1]} ask what time it is")
    elif any(search.system.clock.idle_ms) and not search.checker.violations:
        return search, _still("an entry is claimed only once it has been idle for a while")
    else:
        return search, ""
    other = run(1, *limits)
    if other.checker.violations or (other.adversary.passing.passed_once and not other.given_up):
        return other, f"Time may pass once, as {why}."
    return search, _still(why)


def _at_last(search: Search, run: Callable[..., Search], most: int) -> tuple[Search, str]:
    """The same once more, while a reply is lost at the last attempt before a client gives up."""
    other = run(min(most, _MOST_UNASKED), _MOST_MOVES_UNASKED, at_last=True)
    if other.checker.violations:
        return other, ""
    who = search.adversary.attempts.gives_up
    return search, _LAST_ATTEMPT.format(who) if other.given_up else ""


def _delayed(
    search: Search,
    run: Callable[..., Search],
    invariant: Function,
    most: int,
) -> tuple[Search, str]:
    """The same once more, while clients begin, or replies come, later, where memory is shared."""
    broken = search.checker.violations
    if broken and not search.checker.serial:
        return search, ""
    names = shared_names(_code_of(search), logs=False, reader=invariant)
    alone: dict[str, Any] = {"crashes": frozenset(), "expires": (), "loses": frozenset()}
    most, few = min(most, _MOST_DELAYED), _few(search)
    why = f"the clients share {', '.join(names)} in the process's memory"
    left_out = False
    if names:
        other = run(most, _MOST_MOVES_DELAYED, begins=True, **alone)
        if other.checker.violations and not (broken and other.checker.serial):
            return other, f"A client may begin later than another's step, as {why}."
        left_out = bool(other.given_up)
    if who := search.adversary.stage.tasks:
        why = f"tasks of {who} share its memory"
    if broken or not (names or who):
        return search, ""
    other = run(most, _MOST_MOVES_DELAYED if few else 1, delays=1, **alone)
    if other.checker.violations:
        return other, f"A reply may come later than another's step, as {why}."
    return search, _FEW_LATE.format(why) if other.given_up or left_out else ""


def _code_of(search: Search) -> dict[str, tuple[Function, ...]]:
    """The clients' functions, and those that have led to their steps in the first order."""
    actors = search.adversary.clients
    return {actor.name: (actor.function, *actor.ran.values()) for actor in actors}


def _few(search: Search) -> bool:
    """Whether all orders may be run with late replies, else only those with few switches."""
    moves, orders = search.adversary.stage.moved, search.interleavings or 1
    return 2 * moves * moves / orders < _MOST_MOVES_DELAYED


def _still(why: str) -> str:
    return f"Time stood still, though {why}; passes=True lets it pass."


def _limits_of(search: Search) -> list[str]:
    """What an answer without a violation does not say; at worst that it says nothing."""
    notes = []
    unmatched = search.adversary.expiries.unmatched
    if unmatched and search.interleavings:
        told = " or ".join(map(repr, unmatched))
        notes.append(f"Nothing that matches {told} was there to expire.")
    if search.adversary.passing.cut_short:
        notes.append(
            f"A pause passed {MOST_MOMENTS} moments at which something changes; there were more."
        )
    if left := [actor.name for actor in search.adversary.clients if actor.left_tasks]:
        notes.append(_LEFT_TASKS.format(left[0]))
    anew = [actor.name for actor in search.adversary.clients if actor.looked_anew]
    if anew and not search.given_up:
        search.given_up = (
            f"a statement of {anew[0]} waited for a lock, and then went by what was there; PostgreSQL "
            "goes by what was there when it began."
        )
    return notes


def _search(
    system: System,
    clients: Mapping[str, Function],
    given: Function,
    invariant: Function,
    powers: Powers,
    awaited: Collection[str],
) -> Search:
    actors = [
        _actor(name, function, seat, system, name in awaited)
        for (name, function), seat in zip(clients.items(), system.seats(len(clients)), strict=True)
    ]
    said = invariant.func if isinstance(invariant, functools.partial) else invariant
    doc = (said.__doc__ or "").strip().splitlines()
    checker = Checker(
        system,
        hosted(invariant, handed_out),
        doc[0].rstrip(".") if doc else "the invariant holds",
        powers.raises,
        functools.cache(lambda: system.named_scripts(Namespaces([*clients.values(), given]).own)),
    )
    adversary = Adversary(system, actors, powers)
    for actor in actors:
        if isinstance(actor, CoroutineActor):
            actor.join = functools.partial(adversary.stage.join, client=actor)
            actor.handed = handed_out
    return Search(system, adversary, checker, hosted(given, handed_out))


def _actor(name: str, function: Function, seat: Seat, system: System, awaited: bool) -> Actor:
    kind = CoroutineActor if awaited else Actor
    actor = kind(name, function, seat.redis, seat.db, system.clock, system.no_op)
    seat.redis.actor = seat.steps.actor = actor
    return actor


def _awaits(function: Function) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 (an object with an async __call__)
    )


def _run(search: Search, functions: list[Function]) -> None:
    with _exploring(search, functions):
        if search.first():
            search.rest()
        search.look_for_steps()


class _exploring(ExitStack):  # noqa: N801 (used as a function is)
    """All that holds while clients are explored, and is put back afterwards."""

    def __init__(self, search: Search, functions: list[Function]) -> None:
        super().__init__()
        self._search = search
        self._functions = functions
        self._chance = random.getstate()
        self._in_the_way: SharedLock | None = None

    def __enter__(self) -> "_exploring":
        super().__enter__()
        try:
            self._enter()
        except BaseException:  # `with` calls no __exit__ then
            super().__exit__(*sys.exc_info())
            raise
        return self

    def _enter(self) -> None:
        search = self._search
        self.callback(search.system.reset)
        self.callback(random.setstate, self._chance)
        self.callback(setattr, sys, "unraisablehook", sys.unraisablehook)
        sys.unraisablehook = _but_for_crashes(sys.unraisablehook)
        self.callback(search.adversary.dismiss)
        self.enter_context(search.system.one_core())
        watch = self.enter_context(engines_stepped())
        self.enter_context(foreign_use_noticed())
        self.enter_context(pools_stepped(search.system.wires))
        self.enter_context(async_pools_stepped(search.system.wires))
        kept = self.enter_context(standing_in(self._functions))

        def restart() -> None:
            search.system.clock.drew_once |= kept.drew_by_numpy
            kept.restart()

        search.restart = restart
        self.callback(restart)
        for connection in kept.connections:
            watch(connection)
        unordered = self.enter_context(sets_gone_through())
        for actor in search.adversary.clients:
            actor.locals, actor.unordered = OwnLocals(kept.locals), unordered
        adversary = search.adversary
        search.heed = self.enter_context(
            watched(
                lambda: adversary.stage.moved,
                lambda: any(one.running for one in adversary.stage.actors),
                self._is_locked,
                search.system.relieve_server,
            )
        )

    def _is_locked(self, frame: FrameType | None) -> bool:
        """Whether a client that is not at work has a lock of the process, perhaps one made in the run."""
        actors = self._search.adversary.clients
        at_work = {owner(one.name) for one in self._search.adversary.stage.actors if one.running}
        for lock in actors[0].shared_locks:
            if lock.holder not in {"", *at_work} and lock.held():
                self._in_the_way = replace(lock, holder=repr(lock.holder))
        if self._in_the_way is None and acquiring(frame):
            known = [lock.held for lock in actors[0].shared_locks]
            for lock in shared_locks(_code_of(self._search)):
                if lock.held not in known and lock.held():
                    lock.holder = "another client"
                    self._in_the_way = lock
        return self._in_the_way is not None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Literal[False]:
        super().__exit__(kind, error, trace)
        if isinstance(error, StepTimeout):
            from labsupport.explorer.clients import guard

            if lock := self._in_the_way:
                raise NotSteppableError(
                    f"A client waits for {lock.name}, a lock of the process that {lock.holder} has while "
                    f"it stands still{_place(trace)}.",
                    "The explorer runs all clients in one thread: let each have a lock of its own, as "
                    "processes do, keep it in Redis or in the database, or try it with blocking=False.",
                ) from None
            raise NotSteppableError(
                f"A function ran for more than {guard.PATIENCE_SECONDS:.0f} s without a command to Redis or "
                f"the database{_place(trace)}.",
                "Look for a loop that never ends, or a wait for something outside the explorer; for a lock "
                "of the process, say, which another client has that stands still meanwhile.",
            ) from None
        return False


def _but_for_crashes(tell: Callable[[Any], object]) -> Callable[[Any], object]:
    """Tells of what could not be raised, unless a crash did it: in a generator that nobody goes on with."""
    return lambda told: None if issubclass(told.exc_type, GreenletExit) else tell(told)


def _place(trace: TracebackType) -> str:
    """The line of one's own code in which an error was raised."""
    own = [
        (frame.f_code, line)
        for frame, line in traceback.walk_tb(trace)
        if not installed(str(frame.f_globals.get("__name__")))
    ]
    if not own:
        return ""
    code, line = own[-1]
    return f", in line {line} of {code.co_name}: {getline(code.co_filename, line).strip()}"


def _report(
    search: Search,
    clients: tuple[str, ...],
    notes: list[str],
    functions: list[Function],
    seconds: float,
) -> Report:
    checker = search.checker
    findings = tuple(sorted(checker.findings.values(), key=lambda finding: finding.rank))
    exhausted = not search.given_up
    status: Status = "broken" if findings else "holds" if exhausted else "not exercised"

    tables = tables_of(findings[0].schedule) if findings else []

    def again(moves: tuple[Move, ...]) -> Generator[Moment, None, None]:
        zone = os.environ.get("TZ")
        with _resumed(search, functions):
            system, names = search.system, checker.names()
            for taken in search.replay(moves):
                step = checker.steps([taken], names)[0]
                moment = Moment(step, system.contents(), system.rows(tables))
                with in_zone(zone):  # what the caller does meanwhile is not explored
                    yield moment

    def anew(moves: Iterable[Move], *, patience: int = MAX_PATIENCE, looks: bool = True) -> Rerun:
        search.adversary.attempts.patience = patience
        with _resumed(search, functions):
            return run_again(search, moves, tables, looks=looks)

    return Report(
        interleavings=search.interleavings,
        findings=findings,
        exhausted=exhausted,
        verdict=Verdict([Claim(f"In every order of the steps: {checker.claim}", status)]),
        clients=clients,
        given_up=search.given_up,
        pruned=search.prune,
        serial=checker.serial,
        notes=tuple(notes),
        seconds=seconds,
        again=lambda moves: Replay(again(moves)),
        anew=anew,
    )


@contextmanager
def _resumed(search: Search, functions: list[Function]) -> Iterator[None]:
    """Explore once more what was explored before, perhaps with others in between."""
    system, actors = search.system, search.adversary.clients
    with system.alone():
        if not system.alive:
            raise InvalidSettingError(
                "The server on which the orders were run is gone.", "Run the exploration again."
            )
        system.begin(actors[0].clock)
        for actor, seat in zip(actors, system.seats(len(actors)), strict=True):
            seat.redis.actor = seat.steps.actor = actor
        with _exploring(search, functions):
            yield


_OWN_PROCESS = (
    "{} asks os.getpid(): each client is a process of its own; to threads it is the same."
)
_LEFT_TASKS = (
    "When {} ended, a task of its own was still at work, and was cancelled, as asyncio.run does; await it to "
    "have all of it explored."
)
_OWN_SEED = (
    "{} calls random.seed() or setstate(): each client draws from a generator of its own then, as processes "
    "do; threads share one."
)
_NOT_PRUNED = "Not pruned: the clients share {} in the process's memory, which pruning cannot see."


def _check(clients: Any, given: Any, invariant: Any, max_runs: Any, stop: Any) -> None:
    if not isinstance(clients, Mapping) or not clients:
        raise InvalidSettingError(
            "`clients` is not a dict of names and functions.",
            'Write clients={"reader": lambda redis, db: get_user(redis, db, 1)}.',
        )
    if odd := [name for name in clients if not isinstance(name, str)]:
        raise InvalidSettingError(
            f"A client is called {odd[0]!r}, which is {type(odd[0]).__name__}.",
            "Give each client a name, as text.",
        )
    for name, function in {**clients, "given": given or _nothing, "invariant": invariant}.items():
        if not callable(function):
            raise InvalidSettingError(
                f"{name!r} is {type(function).__name__}, not a function of (redis, db).",
                "Put `lambda redis, db:` in front of the call.",
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidSettingError(
                f"{name!r} is a generator function: none of it runs until somebody asks for its values.",
                "Loop over it in a function: lambda redis, db: list(function(redis, db)).",
            )
    if not isinstance(max_runs, int) or max_runs < 1:
        raise InvalidSettingError(f"max_runs is {max_runs!r}.", "Give a whole number above 0.")
    if stop not in {"first", "all"}:
        raise InvalidSettingError(f"stop is {stop!r}.", 'Give "first" or "all".')


def _named(who: Who, clients: Mapping[str, Function], argument: str) -> frozenset[str]:
    """The clients that an argument names."""
    if isinstance(who, bool):
        return frozenset(clients if who else ())
    if not isinstance(who, Iterable):
        raise InvalidSettingError(f"{argument} is {who!r}.", "Give names of clients, or True.")
    names = frozenset([who] if isinstance(who, str) else who)
    if names - set(clients):
        raise InvalidSettingError(
            f"{argument} names {', '.join(sorted(names - set(clients)))}, which is no client.",
            f"The clients are {', '.join(clients)}.",
        )
    return names


def _patterns(expires: Any) -> tuple[str, ...]:
    """The keys that may expire, as text; Redis has them as bytes, too."""
    if not isinstance(expires, Iterable):
        raise InvalidSettingError(
            f"expires is {expires!r}.", 'Give a key, or patterns of keys: "lock:*".'
        )
    several = [expires] if isinstance(expires, str | bytes) else expires
    return tuple(one.decode() if isinstance(one, bytes) else str(one) for one in several)


def _errors(raises: Any) -> tuple[type[BaseException], ...]:
    """What the clients may raise: classes of errors, however they are grouped."""
    found: list[type[BaseException]] = []
    for one in raises if isinstance(raises, list | tuple | set | frozenset) else (raises,):
        if isinstance(one, tuple):
            found += _errors(one)
        elif isinstance(one, type) and issubclass(one, BaseException):
            found.append(one)
        else:
            raise InvalidSettingError(
                f"raises names {one!r}, which is no class of errors.",
                "Give a class, or a tuple of them: raises=(WatchError, LockError).",
            )
    return tuple(found)


def _check_clocks(clocks: Any, clients: Mapping[str, Function]) -> None:
    if not isinstance(clocks, Mapping):
        raise InvalidSettingError(
            f"clocks is {clocks!r}.", 'Give seconds by the client\'s name: clocks={"bob": 60}.'
        )
    _named(list(clocks), clients, "clocks")
    for who, ahead in clocks.items():
        if (
            isinstance(ahead, bool)
            or not isinstance(ahead, int | float)
            or not math.isfinite(ahead)
        ):
            raise InvalidSettingError(
                f"clocks says {ahead!r} of {who!r}.",
                "Give a number of seconds; behind if negative.",
            )


def _count(number: Any, argument: str) -> int:
    if not isinstance(number, int) or number < 0:
        raise InvalidSettingError(f"{argument} is {number!r}.", "Give a whole number, or True.")
    return int(number)


def _nothing(redis: Any, db: Any) -> None:
    """Leave Redis empty and the database as it is."""
