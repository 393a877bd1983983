"""The adversary of one run: which moves it has now, and what comes of the one it makes."""

from collections.abc import Iterable, Sequence

from labsupport.errors import ImplementationError, NotDeterministicError
from labsupport.explorer.clients.actor import Actor
from labsupport.explorer.operations import EVERYTHING, NOTHING, Effects, Move, Names, Operation
from labsupport.explorer.system import System

__all__ = ["Adversary"]

MAX_IDLE = 64
"""A client that repeats a step so often in vain, with nobody else to move, would do so for ever."""


class Adversary:
    """Lets one client take one step at a time, crashes clients, and lets keys expire.

    Args:
        system: the server and the database that the steps go to.
        actors: the clients.
        crashes: names of the clients that may crash.
        expires: keys, or glob patterns, that may expire.

    Attributes:
        trace: the moves of this run, each with the step that was taken (or not, in a crash).
        moved: how many moves were made, in all runs.
    """

    def __init__(
        self,
        system: System,
        actors: Sequence[Actor],
        crashes: Iterable[str],
        expires: Sequence[str],
    ) -> None:
        self.actors = list(actors)
        self.trace: list[tuple[Move, Operation | None]] = []
        self.moved = 0
        self._system = system
        self._named = {actor.name: actor for actor in actors}
        self._crashes = frozenset(crashes)
        self._expires = expires
        self._endless: set[int] = set()  # sites that are known to repeat for ever
        self._names = Names()
        self._keys: dict[str, str] = {}  # of the keys that may expire, by the name in this run
        self._serial = False
        self._latest: Actor | None = None  # who moved last

    def begin(self, *, serial: bool) -> None:
        """Let every client come to its first step.

        Args:
            serial: the run is the first, one client after the other: what raises then is a mistake
                and no finding.
        """
        self.trace = []
        self._names = Names()
        self._keys = {}
        self._serial = serial
        self._latest = None
        for actor in self.actors:
            actor.start()
            self._check(actor)

    def end(self) -> None:
        """Unwind what a run that was broken off has left."""
        for actor in self.actors:
            actor.end()

    def dismiss(self) -> None:
        """End the clients' greenlets, too."""
        for actor in self.actors:
            actor.end()
            actor.retire()

    @property
    def stuck(self) -> bool:
        """True while a client has not ended."""
        return any(actor.live for actor in self.actors)

    # what can happen next

    def moves(self) -> list[Move]:
        """The moves that can be made now."""
        live = [actor for actor in self.actors if not (actor.done or actor.crashed)]
        ready = [actor for actor in live if actor.waiting is None]
        moves = [actor.move for actor in ready if not actor.parked]
        if not live or (moves and not self._crashes and not self._expires):
            return moves
        crashes = [Move("crash", a.name) for a in live if a.name in self._crashes]
        expiries = [Move("expire", key) for key in self._expirable()]
        if not moves:
            # Only waiting is left: it ends when a timeout is over, or a client stops retrying.
            moves = [
                Move("timeout", a.name) for a in live if a.waiting is not None and a.waiting[2]
            ]
            others = bool(moves or expiries)
            moves += [
                Move("idle", a.name)
                for a in ready
                if not (others and a.pending and a.pending.site in self._endless)
            ]
            if not moves and not expiries:
                return []
        return moves + crashes + expiries

    def command(self, move: Move) -> str:
        """What the move is about, in a word or two; "-" when it cannot be made now."""
        if move.kind == "expire":
            return move.kind if move.who in self._expirable() else "-"
        actor = self._named[move.who]
        operation = actor.pending or actor.last
        if operation is None or actor.done or actor.crashed:
            return "-"
        return operation.word

    def effects(self, move: Move) -> Effects:
        """The keys and tables that the move reads and writes."""
        actor = self._named.get(move.who)
        if move.kind == "step" and actor is not None and actor.pending is not None:
            return actor.pending.effects(self._system.keys_of)
        if move.kind == "crash" and actor is not None:
            holds = actor.waiting is not None or actor.db.in_transaction
            return EVERYTHING if holds else NOTHING
        return EVERYTHING

    def _expirable(self) -> list[str]:
        """The keys that may expire, by the names that they have in this run."""
        self._keys = {self._names.of(k): k for k in self._system.expirable(self._expires)}
        return list(self._keys)

    # making it happen

    def make(self, move: Move) -> bool:
        """Make a move; False when it turns out that nothing can come of it."""
        self.moved += 1
        if move.kind == "expire":
            self._expire(move)
            self._tell(None)
            return True
        actor = self._named[move.who]
        operation = actor.pending or actor.last
        if move.kind == "step":
            self.trace.append((move, operation))
            actor.proceed()
            if actor.busy:  # the database has no lock to give: nothing was done
                actor.busy = False
                self.trace.pop()
                return False
        elif move.kind == "crash":
            self.trace.append((move, operation))
            actor.crash()
        elif move.kind == "timeout":
            self.trace.append((move, actor.last))
            actor.time_out()
            actor.proceed()
        elif not self._idle(actor):
            return False
        self._tell(actor)
        self._check(actor)
        return True

    def _expire(self, move: Move) -> None:
        self.trace.append((move, None))
        key = self._keys.get(move.who)
        if key is None:
            raise NotDeterministicError(
                f"{move.who} expired by itself while the orders were explored.",
                "Give it a TTL of some seconds; it is the explorer that decides when it is over.",
            )
        self._system.expire(key)

    def _idle(self, actor: Actor) -> bool:
        """Let a client retry while nothing else moves; True when it does something else."""
        operation = actor.pending
        assert operation is not None
        self.trace.append((actor.move, operation))
        for _ in range(MAX_IDLE):
            actor.proceed()
            self.moved += 1
            if not actor.live or not actor.parked:
                return True
        self._endless.add(operation.site)
        return False

    def _tell(self, mover: Actor | None) -> None:
        """Others see that something moved; blocked clients that were served go on."""
        if mover is None or mover is not self._latest:  # otherwise they have seen it
            self._latest = mover
            for actor in self.actors:
                if actor is not mover:
                    actor.alone, actor.parked = 0, False
        for actor in self.actors:
            if actor.waiting is not None:
                self._serve()
                return

    def _serve(self) -> None:
        for actor in self.actors:
            while actor.live and actor.served():
                actor.proceed()
                self._latest = None
                self._check(actor)

    def _check(self, actor: Actor) -> None:
        """Raise what is no finding of the exploration but a mistake in using it."""
        if actor.fault is not None:
            raise actor.fault
        if actor.error is not None and self._serial:
            raise ImplementationError(f"The client {actor.name!r}", actor.error) from actor.error
