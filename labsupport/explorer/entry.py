"""The call: the arguments are checked, the rounds run, and the report is made."""

import inspect
import math
import os
import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from functools import partial
from typing import Any, Literal

from labsupport.errors import InvalidSettingError
from labsupport.explorer.exploring import resumed
from labsupport.explorer.moves.attempts import MAX_PATIENCE
from labsupport.explorer.moves.search import Search
from labsupport.explorer.moves.stage import Powers
from labsupport.explorer.operations import Move
from labsupport.explorer.replay import Replay
from labsupport.explorer.report import Moment, Report, Rerun
from labsupport.explorer.rerun import run_again, tables_of
from labsupport.explorer.rounds import Question, Rounds
from labsupport.explorer.stand_ins.clocks import in_zone
from labsupport.explorer.system import System
from labsupport.verdict import Claim, Status, Verdict

__all__ = ["explore"]

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
        max_runs: the search is given up after so many runs, and says so; or after 50 moves for each of
            them (a million at least), where runs are long. The last of them are alike in how they
            begin; half as many more, 500 at the most, are those in which clients switch seldom; and
            again as many, in which the adversary makes one of its moves, too, where they switch.

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
    _count(passes or 0, "passes")
    question = Question(
        system,
        clients,
        given or _nothing,
        invariant,
        powers,
        passes=passes,
        delays=delays,
        clocks=clocks,
        prune=prune,
        stop_first=stop == "first",
        max_runs=max_runs,
    )
    begin = time.perf_counter()
    rounds = Rounds(question)
    with system.alone():
        search = rounds.run()
    return _report(search, question, rounds.notes, time.perf_counter() - begin)


def _report(
    search: Search,
    question: Question,
    notes: list[str],
    seconds: float,
) -> Report:
    checker = search.checker
    findings = tuple(sorted(checker.findings.values(), key=lambda finding: finding.rank))
    exhausted = not search.given_up
    status: Status = "broken" if findings else "holds" if exhausted else "not exercised"

    tables = tables_of(findings[0].schedule) if findings else []

    def again(moves: tuple[Move, ...]) -> Generator[Moment, None, None]:
        zone = os.environ.get("TZ")
        with resumed(search, question.functions):
            system, names = search.system, checker.names()
            for taken in search.replay(moves):
                step = checker.steps([taken], names)[0]
                moment = Moment(step, system.contents(), system.rows(tables))
                with in_zone(zone):  # what the caller does meanwhile is not explored
                    yield moment

    def anew(moves: Iterable[Move], *, patience: int = MAX_PATIENCE, looks: bool = True) -> Rerun:
        search.adversary.attempts.patience = patience
        with resumed(search, question.functions):
            return run_again(search, moves, tables, looks=looks)

    return Report(
        interleavings=search.interleavings,
        findings=findings,
        exhausted=exhausted,
        verdict=Verdict([Claim(f"In every order of the steps: {checker.claim}", status)]),
        clients=tuple(question.clients),
        given_up=search.given_up,
        pruned=search.prune,
        serial=checker.serial,
        notes=tuple(notes),
        seconds=seconds,
        again=lambda moves: Replay(again(moves)),
        anew=anew,
    )


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
