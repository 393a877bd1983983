"""All that holds while clients are explored, and is put back afterwards."""

import random
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from linecache import getline
from types import FrameType, TracebackType
from typing import Any, Literal

from greenlet import GreenletExit

from labsupport.errors import InvalidSettingError, NotSteppableError
from labsupport.explorer.clients.captured import OwnLocals
from labsupport.explorer.clients.namespaces import installed
from labsupport.explorer.clients.seats import SharedLock
from labsupport.explorer.guards import patience
from labsupport.explorer.guards.foreign import foreign_use_noticed
from labsupport.explorer.guards.patience import StepTimeout, acquiring, watched
from labsupport.explorer.guards.set_orders import sets_gone_through
from labsupport.explorer.memory.sharing import shared_locks
from labsupport.explorer.moves.search import Search
from labsupport.explorer.operations import owner
from labsupport.explorer.own.async_pools import async_pools_stepped
from labsupport.explorer.own.engines import engines_stepped
from labsupport.explorer.own.pools import pools_stepped
from labsupport.explorer.stand_ins.placing import standing_in

__all__ = ["code_of", "exploring", "resumed"]

Function = Callable[..., Any]


def code_of(search: Search) -> dict[str, tuple[Function, ...]]:
    """The clients' functions, and those that have led to their steps in the first order."""
    actors = search.adversary.clients
    return {actor.name: (actor.function, *actor.ran.values()) for actor in actors}


class exploring(ExitStack):  # noqa: N801 (used as a function is)
    """All that holds while clients are explored, and is put back afterwards."""

    def __init__(self, search: Search, functions: list[Function]) -> None:
        super().__init__()
        self._search = search
        self._functions = functions
        self._chance = random.getstate()
        self._in_the_way: SharedLock | None = None

    def __enter__(self) -> "exploring":
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
            for lock in shared_locks(code_of(self._search)):
                if lock.held not in known and lock.held():
                    lock.holder = "another client"
                    self._in_the_way = lock
        return self._in_the_way is not None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Literal[False]:
        super().__exit__(kind, error, trace)
        if isinstance(error, StepTimeout):
            if lock := self._in_the_way:
                raise NotSteppableError(
                    f"A client waits for {lock.name}, a lock of the process that {lock.holder} has while "
                    f"it stands still{_place(trace)}.",
                    "The explorer runs all clients in one thread: let each have a lock of its own, as "
                    "processes do, keep it in Redis or in the database, or try it with blocking=False.",
                ) from None
            raise NotSteppableError(
                f"A function ran for more than {patience.PATIENCE_SECONDS:.0f} s without a command to "
                f"Redis or the database{_place(trace)}.",
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


@contextmanager
def resumed(search: Search, functions: list[Function]) -> Iterator[None]:
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
        with exploring(search, functions):
            yield
