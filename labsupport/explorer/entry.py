"""The call: check the arguments, set the clients up, search, and report."""

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from labsupport.errors import InvalidSettingError, NotSteppableError
from labsupport.explorer.adversary import Adversary
from labsupport.explorer.checker import Checker
from labsupport.explorer.clients.actor import Actor
from labsupport.explorer.clients.guard import (
    PATIENCE_SECONDS,
    StepTimeout,
    foreign_use_noticed,
    watched,
)
from labsupport.explorer.clients.virtual_time import virtual_time
from labsupport.explorer.report import Report
from labsupport.explorer.search import Search
from labsupport.explorer.system import Seat, System
from labsupport.verdict import Claim, Status, Verdict

__all__ = ["explore"]

Function = Callable[..., Any]


def explore(
    clients: Mapping[str, Function],
    *,
    system: System,
    given: Function | None = None,
    invariant: Function,
    crashes: bool | Collection[str] = False,
    expires: str | Iterable[str] = (),
    prune: bool = False,
    max_runs: int = 20_000,
) -> Report:
    """Run `clients` in every order of their steps, and say after which of them the invariant fails.

    A step is one Redis command or SQL statement; it goes to a real server or database. A MULTI/EXEC
    block and a script are one step, a pipeline without MULTI is as many as it has commands, and a
    COMMIT or ROLLBACK is one. A sleep yields and takes no time. A client that only repeats a step in
    vain waits until something else has moved. The timeout of a blocking command ends when nobody
    else can move.

    Args:
        clients: name and function of each; a function is called with (redis, db).
        system: the server and the database; `labsupport.explore` gives the lab's own.
        given: sets the state before each run, called with (redis, db); Redis starts empty, and the
            database as the shop's data has it.
        invariant: called with (redis, db) when all have finished; returns True when all is well. Its
            docstring's first line, if it has one, names the claim.
        crashes: True lets every client crash in place of any of its steps; or the names of those
            that may.
        expires: keys, or glob patterns, that may expire at any moment while they have a TTL.
        prune: run one order of each class that differ only in the order of steps that commute.
        max_runs: the search is given up after so many runs, and says so.

    Returns:
        A `Report`: .interleavings, .violations, .exhausted, .counterexample, .verdict.

    Raises:
        InvalidSettingError: an argument makes no sense.
        ImplementationError: a function raises in the very first order, or `given` or the invariant do.
        NotSteppableError: a client uses threads, asyncio, or connections that it was not handed.
        NotDeterministicError: the same order gave different steps when it was repeated.
    """
    _check(clients, given, invariant, max_runs)
    keys = [expires] if isinstance(expires, str) else [str(key) for key in expires]
    crashing = _crashing(crashes, clients)
    given = given or _nothing
    doc = (invariant.__doc__ or "").strip().splitlines()
    claim = doc[0].rstrip(".") if doc else "the invariant holds"
    with system.alone():
        begin = time.perf_counter()
        actors = [
            _actor(name, function, seat, system)
            for (name, function), seat in zip(
                clients.items(), system.seats(len(clients)), strict=True
            )
        ]
        adversary = Adversary(system, actors, crashing, keys)
        checker = Checker(system, invariant, claim)
        search = Search(system, adversary, checker, given, prune=prune, max_runs=max_runs)
        try:
            _run(search, [*clients.values(), given, invariant])
        except KeyboardInterrupt:
            # IPython then shows the cell that was interrupted, and little more
            __tracebackhide__ = True
            raise KeyboardInterrupt from None
    return _report(search, tuple(clients), claim, prune, time.perf_counter() - begin)


def _actor(name: str, function: Function, seat: Seat, system: System) -> Actor:
    actor = Actor(name, function, seat.redis, seat.db, system.redis, system.no_op)
    seat.redis.actor = seat.steps.actor = actor
    return actor


def _run(search: Search, functions: list[Function]) -> None:
    chance = random.getstate()
    try:
        with (
            search.system.one_core(),
            virtual_time(functions),
            watched(lambda: search.adversary.moved),
            foreign_use_noticed(),
        ):
            if search.first():
                search.rest()
    except StepTimeout:
        raise NotSteppableError(
            f"A function ran for {PATIENCE_SECONDS:.0f} s without a command to Redis or the database.",
            "Look for a loop that never ends, or a wait for something outside the explorer.",
        ) from None
    finally:
        search.adversary.dismiss()
        random.setstate(chance)
        search.system.reset()


def _report(
    search: Search, clients: tuple[str, ...], claim: str, prune: bool, seconds: float
) -> Report:
    exhausted = not search.given_up
    status: Status = (
        "broken" if search.checker.violations else "holds" if exhausted else "not exercised"
    )
    text = f"In every order of the steps: {claim}"
    verdict = Verdict([Claim(text, status)])
    return Report(
        interleavings=search.interleavings,
        violations=search.checker.violations,
        exhausted=exhausted,
        counterexample=search.checker.shortest,
        verdict=verdict,
        clients=clients,
        reason=search.checker.reason,
        given_up=search.given_up,
        pruned=prune,
        seconds=seconds,
    )


def _check(clients: Any, given: Any, invariant: Any, max_runs: Any) -> None:
    if not isinstance(clients, Mapping) or not clients:
        raise InvalidSettingError(
            "`clients` is not a dict of names and functions.",
            'Write clients={"reader": lambda redis, db: get_user(redis, db, 1)}.',
        )
    for name, function in {**clients, "given": given or _nothing, "invariant": invariant}.items():
        if not callable(function):
            raise InvalidSettingError(
                f"{name!r} is {type(function).__name__}, not a function of (redis, db).",
                "Put `lambda redis, db:` in front of the call.",
            )
    if not isinstance(max_runs, int) or max_runs < 1:
        raise InvalidSettingError(f"max_runs is {max_runs!r}.", "Give a whole number above 0.")


def _crashing(crashes: bool | Collection[str], clients: Mapping[str, Function]) -> frozenset[str]:
    if isinstance(crashes, bool):
        return frozenset(clients if crashes else ())
    names = frozenset([crashes] if isinstance(crashes, str) else crashes)
    if names - set(clients):
        raise InvalidSettingError(
            f"crashes names {', '.join(sorted(names - set(clients)))}, which is no client.",
            f"The clients are {', '.join(clients)}.",
        )
    return names


def _nothing(redis: Any, db: Any) -> None:
    """Leave Redis empty and the database as it is."""
