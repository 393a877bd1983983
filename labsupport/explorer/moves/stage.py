"""The clients of one run, what was done in it, and how one sees what another has done."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labsupport.errors import ImplementationError
from labsupport.explorer.clients.actor import Actor
from labsupport.explorer.operations import Move, Operation, Taken, owner, reads
from labsupport.explorer.system import System

__all__ = ["PASS", "REMEMBERS_NOT", "WAIT", "Powers", "Stage"]

REMEMBERS_NOT = (
    "Reset in `given` what the functions remember between runs, and decide nothing by the clock or by "
    "chance. What a library does once in a process (PING, COMMAND), let `given` have it do, too."
)

PASS = Move("pass", "time")
"""Time passes up to the next moment at which something changes."""
WAIT = Move("wait", "time")
"""Time passes, too, and who stands still before a look at a clock goes on standing."""

_READ = re.compile(r"\s*select\b(?!.*\bfor\s+update\b)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Powers:
    """What the adversary may do beside letting clients take steps.

    Args:
        crashes: names of the clients that may crash.
        expires: keys, or glob patterns, that may expire.
        loses: names of the clients whose replies may be lost.
        losses: how many replies at the most in one run.
        passes: how often time may pass in one run while somebody could move.
        delays: how many replies may come later than others' steps in one run.
        begins: True where a client may also begin only after others' steps: they share memory.
        at_last: True where a reply is lost at the last attempt before a client gives up alone.
        raises: what each client may raise, as its contract has it.
    """

    crashes: frozenset[str] = frozenset()
    expires: tuple[str, ...] = ()
    loses: frozenset[str] = frozenset()
    losses: int = 1
    passes: int = 0
    delays: int = 0
    begins: bool = False
    at_last: bool = False
    raises: tuple[type[BaseException], ...] = ()

    @property
    def none(self) -> bool:
        """True when clients only take steps."""
        return not (self.crashes or self.expires or self.loses or self.passes or self.delays)

    @property
    def at_a_switch(self) -> list[tuple[str, int]]:
        """Kinds of the adversary's own moves, each with the number of a switch that it may come at."""
        on = {
            "crash": self.crashes,
            "expire": self.expires,
            "lose": self.loses,
            "pass": self.passes,
        }
        return [(kind, switch) for kind in on if on[kind] for switch in (1, 2)]


class Stage:
    """The clients of one run, and what they did; a new run begins with the clients alone.

    Args:
        system: the server and the database that the steps go to.
        clients: in the order in which they were given.
        raises: what each client may raise, as its contract has it.

    Attributes:
        actors: the clients, each followed by its tasks that have taken a step in this run.
        named: the same by their names.
        trace: the moves of this run, each with the step that was taken (or not, in a crash).
        moved: how many moves were made, in all runs.
        serial: True while one client after the other runs, and nothing else was done.
        tasks: the client that was seen to have several; empty when none was.
    """

    def __init__(
        self, system: System, clients: Sequence[Actor], raises: tuple[type[BaseException], ...]
    ) -> None:
        self.system = system
        self.clients = list(clients)
        self.actors = list(clients)
        self.named = {actor.name: actor for actor in clients}
        self.trace: list[Taken] = []
        self.moved = 0
        self.serial, self.tasks = False, ""
        self._raises = raises

    def begin(self, *, serial: bool) -> None:
        """Nothing was done yet, and no client has begun."""
        self.trace = []
        self.serial = serial
        if len(self.actors) > len(self.clients):
            self.actors = list(self.clients)
            self.named = {actor.name: actor for actor in self.clients}

    @property
    def stuck(self) -> list[Actor]:
        """The clients that have not ended."""
        return [actor for actor in self.actors if actor.live and not actor.stands_back]

    def join(self, task: Actor, client: Actor) -> None:
        """Let a task take its steps beside its client."""
        at = max(i for i, one in enumerate(self.actors) if owner(one.name) == client.name)
        self.actors.insert(at + 1, task)
        if self.actors[at] is not client:
            self.tasks = client.name
        self.named[task.name] = task

    def others_than(self, who: str) -> bool:
        """Whether any other client has not ended."""
        return any(one.live and owner(one.name) != owner(who) for one in self.actors)

    def may_lose(self, who: str) -> bool:
        """Whether the reply of a client's next step may be lost."""
        actor = self.named[who]
        return actor.may_lose and actor.pending is not None and actor.pending.kind == "redis"

    def told(self, actor: Actor) -> frozenset[Any]:
        """What a client was told in this run; of the database, when it asked: its code goes by that."""
        mine, changes = set[Any](), 0
        for move, operation, _ in self.trace:
            if operation is None:
                continue
            if owner(move.who) != actor.whole.name:
                changes += self._changes(operation)
                continue
            reply = changes if operation.kind == "sql" else repr(operation.replies)
            mine.add((operation.target or operation.word, reply))
        return frozenset(mine)

    def tell(self, mover: Actor | None) -> None:
        """Others see that something was changed; blocked clients that were served go on."""
        waiting = False
        for actor in self.actors:
            if actor is not mover:
                actor.seen_moving()
            waiting = waiting or actor.waiting is not None
        if waiting:
            self.serve(mover)

    def nobody_sees(
        self, actor: Actor, move: Move, operation: Operation | None, since: int
    ) -> bool:
        """Whether a move has changed nothing that another could see: an attempt in vain, or a wait."""
        if move.kind == "timeout":
            again, last = actor.pending, actor.last
            asks_again = again is not None and last is not None and again.commands == last.commands
            return actor.ready and asks_again and self.system.clock.now_us == since
        if move.kind == "step":
            waits = actor.waiting is not None and operation is not None
            enters = operation is not None and operation.word == "XREADGROUP"  # it may be new there
            return (waits and not enters) or not self._changes(operation)
        return move.kind == "again"

    def _changes(self, operation: Operation | None) -> bool:
        """False when it is certain that the step has changed nothing that another could see."""
        if operation is None:
            return True
        if operation.unchanged or operation.changed:
            return operation.changed
        if operation.kind == "sql":
            return bool(operation.transaction) or not _selects(operation.commands[0][0])
        return any(not reads(args) for args in operation.commands)

    def serve(self, mover: Actor | None) -> None:
        """Blocked clients that have been served go on."""
        for actor in self.actors:
            while actor.live and actor.served():
                if actor is not mover and actor.last is not None:
                    actor.last.waited = True
                actor.proceed()
                self.check(actor)
                for other in self.actors:
                    if other is not actor:
                        other.seen_moving()

    def check(self, actor: Actor) -> None:
        """Raise what is no finding of the exploration but a mistake in using it."""
        for one in self.actors:
            if one.fault is not None:
                raise one.fault
        client = actor.whole
        error = client.error
        if error is None or not self.serial or isinstance(error, self._raises):
            return
        clock = self.system.clock
        chosen = clock.alike or bool(clock.fractions)
        if not (chosen or any(taken.move in (PASS, WAIT) for taken in self.trace)):
            raise ImplementationError(f"The client {client.name!r}", error) from error


@functools.lru_cache(maxsize=512)
def _selects(sql: str) -> bool:
    return bool(_READ.match(sql))
