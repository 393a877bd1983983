"""The adversary of one run: which moves it has now, and what comes of the one it makes."""

import functools
import time
from collections.abc import Sequence

from labsupport.errors import NotDeterministicError
from labsupport.explorer.clients.actor import Actor
from labsupport.explorer.moves.attempts import LASTS, Attempts
from labsupport.explorer.moves.expiries import Expiries
from labsupport.explorer.moves.futility import Futility
from labsupport.explorer.moves.passing_time import PassingTime
from labsupport.explorer.moves.stage import PASS, REMEMBERS_NOT, WAIT, Powers, Stage
from labsupport.explorer.operations import (
    EVERYTHING,
    NOTHING,
    Effects,
    Move,
    Operation,
    Taken,
    owner,
)
from labsupport.explorer.system import System

__all__ = ["Adversary"]

_FAULTS = frozenset({"crash", "expire", "lose", "late", "delay", "wait"})
_OUTSIDER_SECONDS = 5.0
_OUTSIDER_POLL_SECONDS = 0.001


class Adversary:
    """Lets one client take one step at a time, and makes the moves that it may make.

    Args:
        system: the server and the database that the steps go to.
        clients: as they were given.
        powers: what it may do.

    Attributes:
        stage: the clients, and what they did in this run.
        passing: how time passes for all of them.
        attempts: how one repeats its steps in vain.
        futility: whether anything still comes of what is done.
        expiries: the times to live that may end.
    """

    def __init__(self, system: System, clients: Sequence[Actor], powers: Powers) -> None:
        self.powers = powers
        self.stage = Stage(system, clients, powers.raises)
        self.futility = Futility(self.stage)
        self.passing = PassingTime(self.stage, powers, self.futility)
        self.attempts = Attempts(self.stage, powers, self.passing, self.futility)
        self.expiries = Expiries(self.stage, powers.expires)
        self._system = system
        self._lost = self._delayed = 0
        self._accompanied = False  # whether others were there before the last move, or a timer ran
        self._ways = {
            "step": self._step,
            "lose": self._lose,
            "crash": self._crash,
            "timeout": self._timeout,
            "idle": self.attempts.idle,
            "again": self.attempts.again,
            "late": self._late,
            "delay": self._delay,
            "arrive": self._arrive,
            "begin": self._begin_late,
        }
        self._ways |= {
            kind: functools.partial(self.attempts.last, at) for at, kind in enumerate(LASTS)
        }
        for actor in clients:
            actor.may_lose = actor.name in powers.loses
            actor.waits_to_begin = powers.begins

    @property
    def clients(self) -> list[Actor]:
        """As they were given."""
        return self.stage.clients

    @property
    def trace(self) -> list[Taken]:
        """The moves of this run, each with the step that was taken (or not, in a crash)."""
        return self.stage.trace

    @property
    def stuck(self) -> list[Actor]:
        """The clients that have not ended."""
        return self.stage.stuck

    def begin(self, *, serial: bool) -> None:
        """Let every client come to its first step.

        Args:
            serial: the run is the first, one client after the other: what raises then is a mistake
                and no finding.
        """
        self.stage.begin(serial=serial)
        self.expiries.begin()
        self.passing.begin()
        self.attempts.begin()
        self.futility.hope(0)
        self._lost = self._delayed = 0
        for actor in self.stage.clients:
            actor.start()
            self.stage.check(actor)

    def end(self) -> None:
        """Unwind what a run that was broken off has left."""
        for actor in self.stage.clients:
            actor.end()

    def dismiss(self) -> None:
        """End the clients' greenlets, too."""
        for actor in self.stage.clients:
            actor.end()
            actor.retire()

    def moves(self) -> list[Move]:
        """The moves that can be made now; when only waiting is left, those that end a wait."""
        if self.futility.hopeless:
            return []
        found = self._moves()
        if not self.futility.seen:
            return found
        left_out = _FAULTS | ({"pass"} if any(move.kind == "step" for move in found) else set())
        return [move for move in found if move.kind not in left_out]

    def _moves(self) -> list[Move]:
        if self.stage.trace and self.stage.trace[-1].move == WAIT:
            return self.passing.pauses()
        if self.attempts.at_last:
            return [Move("lose", self.attempts.at_last)]
        live = [actor for actor in self.stage.actors if actor.live]
        ready = [actor for actor in live if actor.ready]
        moves = [actor.move for actor in ready if not actor.parked]
        if moves and len(moves) < len(ready):
            moves += self.attempts.patient(ready)
        moves += self._arrivals(live, others=bool(moves))
        asleep = any(actor.wake_us is not None for actor in live)
        if not live or (moves and self.powers.none and not asleep):
            return moves
        more = [Move("crash", a.name) for a in live if a.name in self.powers.crashes]
        more += [Move("expire", key) for key in self.expiries.possible()]
        if moves:
            if self._lost < self.powers.losses - self.powers.at_last:
                more += [Move("lose", move.who) for move in moves if self.stage.may_lose(move.who)]
            if self.passing.may_pass():
                more += self.passing.pauses()
            if self.passing.more:
                more += self._begins()
            if self.powers.passes:
                more += self.attempts.naps(live)
            return moves + more
        return self._ways_out(live, ready, others=bool(more)) + more

    def _begins(self) -> list[Move]:
        """Those who look at a clock before their first step may do so later: they begin later."""
        if any(taken.move.kind != "begin" for taken in self.stage.trace):
            return []
        standing = [at for at, actor in enumerate(self.stage.clients) if actor.standing]
        rest = self.stage.clients[max(standing, default=-1) + 1 :]
        return [Move("begin", actor.name) for actor in rest if actor.live and actor.looked]

    def variants(self, move: Move) -> list[Move]:
        """The same step, after which the client looks at a clock later, or whose reply is late or lost.

        Args:
            move: what was made last.
        """
        actor, found = self.stage.named.get(move.who), []
        if move.kind == "idle" and self.powers.at_last and self._lost < self.powers.losses:
            return [Move(kind, move.who) for kind in LASTS[: len(self.attempts.sites)]]
        if move.kind != "step" or actor is None:
            return []
        passes = actor.whole.looked and self.passing.more
        if passes and self.passing.next_moment() is not None:
            found.append(Move("late", move.who))
        if self._accompanied and self._delayed < self.powers.delays:
            found.append(Move("delay", move.who))
        return found

    def _arrivals(self, live: list[Actor], *, others: bool) -> list[Move]:
        """Replies that are on their way arrive, but not before anybody else has moved."""
        last = self.stage.trace[-1].move if self.stage.trace else None
        coming = [one for one in live if one.on_its_way]
        return [Move("arrive", one.name) for one in coming if not others or one.move != last]

    def looks_after(self, move: Move) -> bool:
        """Whether the client has looked at a clock after its step, so that it may do so later."""
        actor = self.stage.named.get(move.who) if self.powers.passes else None
        return actor is not None and actor.whole.looked

    def last_resort(self) -> Move | None:
        """What the environment does when nothing else ends a wait: a time to live ends by itself."""
        asleep = any(actor.wake_us is not None for actor in self.stage.stuck)
        if self._system.deadlines_us() and not asleep and not self.passing.all_prolonged():
            return PASS
        return None

    def _ways_out(self, live: list[Actor], ready: list[Actor], *, others: bool) -> list[Move]:
        idle = [a for a in ready if not self.attempts.endless(a)]
        trying = {a.whole for a in idle}  # whose timers end as it goes on, and not before
        waits = [a for a in live if a.waiting and a.waiting[2] and a.until_us is None]
        waits = [a for a in waits if not (a.stands_back and a in trying)]
        moves = [Move("timeout", a.name) for a in waits]
        if self._lost < self.powers.losses - self.powers.at_last:  # that there was nothing
            moves += [Move("lose", a.name) for a in waits if self.stage.may_lose(a.name)]
        if any(a.wake_us or a.until_us or a.standing for a in live):
            moves += self.passing.pauses() if self.powers.passes else [PASS]
        return moves + [Move("idle", a.name) for a in idle]

    def command(self, move: Move) -> str:
        """What the move is about, in a word or two; "-" when it cannot be made now."""
        if move in (PASS, WAIT):
            return move.kind if self.passing.next_moment() is not None else "-"
        if move.kind == "expire":
            return move.kind if move.who in self.expiries.possible() else "-"
        actor = self.stage.named.get(move.who)
        if actor is None:
            raise NotDeterministicError(
                f"By the same schedule {owner(move.who)} began a task in one run, and not in the next.",
                REMEMBERS_NOT,
            )
        if not actor.live:
            return "-"
        operation = actor.at
        if operation is None:
            return move.kind
        return operation.word

    def effects(self, move: Move) -> Effects:
        """The keys and tables that the move reads and writes."""
        actor = self.stage.named.get(move.who)
        if move.kind in {"step", "late"} and actor is not None and actor.pending is not None:
            return actor.pending.effects(self._system.keys_of)
        if move.kind == "crash" and actor is not None:
            holds = actor.waiting is not None or actor.db.in_transaction or actor.others
            return EVERYTHING if holds else NOTHING
        return EVERYTHING

    def make(self, move: Move) -> bool:
        """Make a move; False when it turns out that nothing can come of it."""
        actor = self.stage.named.get(move.who)
        operation = actor.at if actor is not None else None
        ends = len(self._system.deadlines_us()) if move in (PASS, WAIT) else 0
        made = self._make(move)
        self.futility.note(move, operation, ends)
        return made

    def _make(self, move: Move) -> bool:
        self.stage.moved += 1
        if move.kind == "expire":
            self.expiries.expire(move)
            self.stage.tell(None)
            return True
        if move in (PASS, WAIT):
            return self.passing.let_pass(move)
        actor = self.stage.named[move.who]
        operation = actor.at
        whole = actor.whole
        # before the step: its reply may have ended the others, as one who wakes their task does
        self._accompanied = bool(self.powers.delays) and (
            bool(self.powers.passes and whole.timed)
            or any(a.live and a is not actor and a is not whole for a in self.stage.actors)
        )
        since = self._system.clock.now_us
        if not self._ways[move.kind](actor, move, operation):
            return False
        if not self.stage.nobody_sees(actor, move, operation, since):
            self.stage.tell(actor)
        elif actor.waiting is not None:
            self.stage.serve(actor)
        self.stage.check(actor)
        return True

    def _begin_late(self, actor: Actor, move: Move, operation: Operation | None) -> bool:
        """Let it begin anew, and stand still before it looks at a clock."""
        self.stage.trace.append(Taken(move, None, actor.name))
        actor.end()
        self.stage.actors = [
            one for one in self.stage.actors if one is actor or one.whole is not actor
        ]
        actor.reset()
        actor.redis.start()
        actor.late = True
        actor.start()
        self.stage.check(actor)
        return actor.standing

    def _late(self, actor: Actor, move: Move, operation: Operation | None) -> bool:
        """Let it take its step, and stand still before it looks at a clock."""
        actor.whole.late = True
        taken = self._step(actor, move, operation, "then it reads its clock late")
        actor.whole.late = False
        return taken and actor.whole.standing

    def _delay(self, actor: Actor, move: Move, operation: Operation | None) -> bool:
        """Let it take its step, while the reply is on its way until it arrives."""
        self._delayed += 1
        actor.delayed = True
        taken = self._step(actor, move, operation, "still on its way")
        if actor.waiting is not None and actor.served():  # a blocking command had not to wait
            actor.proceed()
        actor.delayed = False  # it waits, or has failed: there is no reply yet
        return taken and actor.on_its_way

    def _arrive(self, actor: Actor, move: Move, operation: Operation | None) -> bool:
        self.stage.trace.append(Taken(move, operation))
        actor.proceed()
        return True

    def _step(self, actor: Actor, move: Move, operation: Operation | None, note: str = "") -> bool:
        self.stage.trace.append(Taken(actor.move, operation, note))
        actor.whole.looked = False
        if not actor.steps:
            self.passing.note_slept_before(actor.whole)
        self.passing.catch_up(actor)
        actor.proceed()
        if actor.busy and not self._somebody_holds(actor):
            self._outwait(actor)
        if actor.busy:  # another client has the database's lock: nothing was done
            actor.busy = False
            self.stage.trace.pop()
            return False
        if operation is not None:
            self._system.note_idle_times(operation)
        return True

    def _somebody_holds(self, waiting: Actor) -> bool:
        """Whether a lock that is not free may be held by a client, or by the one that waits for it."""
        return any(
            one.others or (one is not waiting and one.db.in_transaction)
            for one in self.stage.actors
        )

    def _outwait(self, actor: Actor) -> None:
        """Repeat a step that somebody from outside keeps from its lock: the database's own vacuum, say."""
        until = time.monotonic() + _OUTSIDER_SECONDS
        while actor.busy:
            if time.monotonic() > until:
                raise NotDeterministicError(
                    f"The client {actor.name!r} waits for a lock in the database, and no client holds it.",
                    "End what else uses these tables: another session, or a transaction left open.",
                )
            time.sleep(_OUTSIDER_POLL_SECONDS)
            actor.busy = False
            actor.proceed()

    def _lose(self, actor: Actor, move: Move, operation: Operation | None) -> bool:
        self._lost += 1
        self.attempts.at_last, actor.losing = "", True
        self.stage.trace.append(Taken(move, operation))
        if actor.waiting is not None:  # and in vain
            self.passing.let_time_out(actor)
        else:
            actor.proceed()
        if actor.waiting is not None and actor.served():  # a blocking command had not to wait
            actor.proceed()
        others = any(a.live and a not in (actor, actor.whole) for a in self.stage.actors)
        if actor.losing and (actor.waiting is None or not others):
            actor.losing = False  # there is no reply that could be lost, nor will one come
            return False
        return True

    def _crash(self, actor: Actor, move: Move, operation: Operation | None) -> bool:
        self.stage.trace.append(Taken(move, operation))
        actor.crash()
        return True

    def _timeout(self, actor: Actor, move: Move, operation: Operation | None) -> bool:
        self.stage.trace.append(Taken(move, actor.last))
        self.passing.let_time_out(actor)
        return True
