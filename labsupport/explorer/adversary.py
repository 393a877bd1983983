"""The adversary of one run: which moves it has now, and what comes of the one it makes."""

import functools
import itertools
import operator
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labsupport.errors import ImplementationError, NotDeterministicError
from labsupport.explorer.clients import loops
from labsupport.explorer.clients.actor import Actor
from labsupport.explorer.names import Names
from labsupport.explorer.operations import (
    ANY_KEY,
    EVERYTHING,
    NOTHING,
    Effects,
    Move,
    Operation,
    Taken,
    glob_matches,
    owner,
    prolongs,
    reads,
    tries,
)
from labsupport.explorer.system import System

__all__ = [
    "LASTS",
    "MAX_IDLE",
    "MAX_PATIENCE",
    "MOST_MOMENTS",
    "REMEMBERS_NOT",
    "Adversary",
    "Powers",
]

REMEMBERS_NOT = (
    "Reset in `given` what the functions remember between runs, and decide nothing by the clock or by "
    "chance. What a library does once in a process (PING, COMMAND), let `given` have it do, too."
)

MAX_IDLE = 1_000
"""A client that repeats a step so often in vain, with nobody else to move, would do so for ever."""

MAX_PATIENCE = 300
"""The same, of one that repeats it while others stand still, though they could move; a rerun may say more."""

LASTS = ("last", *(f"last but {n}" for n in ("one", "two", "three", "four", "five")))
"""At which step of the last attempt before a client gives up a reply is lost."""

MOST_MOMENTS = 12
"""So many moments at which something changes are passed in one pause."""

_MOST_VAIN = 100  # pauses in a row in which nothing came of anything: there are years among them
_SEEN_VAIN = 24  # moves in a row like that, after which the same are not tried once more
_FAULTS = frozenset({"crash", "expire", "lose", "late", "delay", "wait"})
_COUNTED = 200  # of the attempts in vain, the last ones: does the client count in its loop?
_MOST_GIVEN_UP = 3  # by one client at one place, in one run: it may try for ever
# No real clock is asked at the very moment: a deadline is over for < and for <=.
_JUST_AFTER_US = 10
_MOST_AGAIN = 20  # attempts are left; who makes more goes by a clock
_ONE_BY_ONE = 12  # so many attempts that are left are made one by one, of more all but the last
_HASTE_AFTER = 16  # such repetitions, each sleep lasts twice as long as the one before
_MOST_STIRRED = 12  # so often one lets others try anew: a circle that nothing comes of has an end
_LEAST_SLEPT_US = 50_000  # less is what a retry waits between two attempts
_MOST_CAUGHT_UP = 8  # before the same step: what prolongs a TTL for ever is seen to change nothing
_MOST_OUTWAITED = 50  # days, or more, that one waits in a run for what the server's time brings
_LONG_SECONDS = 0.5  # a shorter sleep, of which there may be many, hardly outlasts a time to live
_DAY_US = 86_400_000_000
_MOST_DAYS = 1000  # at once
_OUTSIDER_SECONDS = 5.0
_OUTSIDER_POLL_SECONDS = 0.001
_PASS = Move("pass", "time")
# Time passes, too, and who stands still before a look at a clock goes on standing.
_WAIT = Move("wait", "time")
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


class Adversary:
    """Lets one client take one step at a time, and makes the moves that it may make.

    Args:
        system: the server and the database that the steps go to.
        actors: the clients.
        powers: what it may do.

    Attributes:
        clients: as they were given.
        actors: the clients, each followed by its tasks that have taken a step in this run.
        trace: the moves of this run, each with the step that was taken (or not, in a crash).
        moved: how many moves were made, in all runs.
        foreseen: how often moments to come were looked for, in all runs.
        serial: True while one client after the other runs, and nothing else was done.
        oversleeps: who slept, while others stood still, for longer than something in Redis lives.
        may_wait: True when that one may have slept to wait for others.
        unmatched: the patterns of `expires` that nothing with a time to live has matched in any run.
        passed_once: True once time has passed while somebody could move.
        cut_short: True once a pause has ended, though something changes later.
        tasks: the client that was seen to have several; empty when none was.
        gives_up: the client that was seen to give up alone, with replies that may be lost; or empty.
        vain_since: how many moves there were before those in a row of which nothing came.
        patience: how often one may repeat a step in vain while others stand still.
    """

    def __init__(self, system: System, actors: Sequence[Actor], powers: Powers) -> None:
        self.clients = list(actors)
        self.actors = list(actors)
        self.powers = powers
        self.trace: list[Taken] = []
        self.moved = 0
        self.foreseen = 0
        self.serial = False
        self.oversleeps, self.may_wait = "", False
        self.unmatched = list(powers.expires)
        self.passed_once, self.cut_short, self.tasks = False, False, ""
        self._system = system
        self._named = {actor.name: actor for actor in actors}
        # sites that are known to repeat for ever, and after how many steps of the client's
        self._endless: dict[int, int] = {}
        self._lasting: dict[int, int] = {}  # the same, while others stand still
        self._gave_up: Counter[tuple[str, Any]] = Counter()  # who, at which site, in this run
        self._caught_up: Counter[tuple[str, Any]] = Counter()  # who, before which step, in this run
        self._timed_out: Counter[str] = Counter()  # how often whose wait has, in this run
        self._outwaited: Counter[str] = Counter()  # who has let days pass for all, in this run
        self._stirred: Counter[str] = Counter()  # who has let others try anew, in this run
        self.gives_up = ""
        self.vain_since = 0
        self.patience = MAX_PATIENCE
        self._vain = Counter[str]()  # pauses, and whose steps, since then
        self._vain_at = set[int]()  # where in their code these stand
        self._counting: set[int] = set()  # sites of loops that have not come to their end, and may
        self._attempts: dict[tuple[Any, ...], int] = {}  # until it gives up: who, after which moves
        self._names = Names()
        self._keys: dict[str, list[str]] = {}  # what may expire, by the name in this run
        self._labelled = 0  # of the moves of this run, by `_names`
        self._lost = self._delayed = 0
        self._accompanied = False  # whether others were there before the last move
        self._passed = 0
        self._sites = set[int]()  # of the attempts that were made last
        self._at_last = ""  # who makes its last attempt now, before it gives up
        self._day_passed = False  # by the move that was made last, if time passed
        self._asked_for = NOTHING  # in the attempts in vain that were made last
        self._tried = 0.0  # when the last attempt in vain was made, on the clock of who made it
        self._ways = {
            "step": self._step,
            "lose": self._lose,
            "crash": self._crash,
            "timeout": self._timeout,
            "idle": self._idle,
            "again": self._again,
            "late": self._late,
            "delay": self._delay,
            "arrive": self._arrive,
            "begin": self._begin_late,
        }
        self._ways |= {kind: functools.partial(self._last, at) for at, kind in enumerate(LASTS)}
        for actor in actors:
            actor.may_lose = actor.name in powers.loses
            actor.waits_to_begin = powers.begins
        system.clock.outlasts = self._outlasts

    def begin(self, *, serial: bool) -> None:
        """Let every client come to its first step.

        Args:
            serial: the run is the first, one client after the other: what raises then is a mistake
                and no finding.
        """
        self.trace = []
        self._names = Names()
        self._keys = {}
        self.serial, self._at_last = serial, ""
        self._lost = self._passed = self._delayed = self._labelled = 0
        self._gave_up.clear()
        self._stirred.clear()
        self._timed_out.clear()
        self._outwaited.clear()
        self._caught_up.clear()
        self._hope(0)
        if len(self.actors) > len(self.clients):
            self.actors = list(self.clients)
            self._named = {actor.name: actor for actor in self.clients}
        for actor in self.clients:
            actor.start()
            self._check(actor)

    def join(self, task: Actor, client: Actor) -> None:
        """Let a task take its steps beside its client."""
        at = max(i for i, one in enumerate(self.actors) if owner(one.name) == client.name)
        self.actors.insert(at + 1, task)
        if self.actors[at] is not client:
            self.tasks = client.name
        self._named[task.name] = task

    def end(self) -> None:
        """Unwind what a run that was broken off has left."""
        for actor in self.clients:
            actor.end()

    def dismiss(self) -> None:
        """End the clients' greenlets, too."""
        for actor in self.clients:
            actor.end()
            actor.retire()

    @property
    def stuck(self) -> list[Actor]:
        """The clients that have not ended."""
        return [actor for actor in self.actors if actor.live and not actor.stands_back]

    @property
    def counting(self) -> str:
        """Who makes very many attempts in vain, and counts them: it may come to an end; empty if none."""
        live = [one for one in self.stuck if one.pending is not None]
        return next((a.name for a in live if a.pending and a.pending.site in self._counting), "")

    # what can happen next

    def moves(self) -> list[Move]:
        """The moves that can be made now; when only waiting is left, those that end a wait."""
        if self.hopeless:
            return []
        found = self._moves()
        if self._vain.total() < _SEEN_VAIN or not self._all_in_vain or not self._all_repeat:
            return found
        left_out = _FAULTS | ({"pass"} if any(move.kind == "step" for move in found) else set())
        return [move for move in found if move.kind not in left_out]

    @property
    def hopeless(self) -> bool:
        """Whether time passes, and nothing has come of it for long: all repeat the same in vain."""
        if self._vain[_PASS.who] < _MOST_VAIN or any(one.punctual for one in self.clients):
            return False
        counts = any(loops.counting(one.whole.counted or {}) for one in self.actors if one.live)
        return not counts and self._all_in_vain

    @property
    def _all_in_vain(self) -> bool:
        """Whether all who can move, or sleep, have repeated something in vain."""
        live = [one for one in self.actors if one.live]
        moving = [one for one in live if one.ready or one.wake_us or one.until_us]
        return all(self._vain[one.name] > 1 for one in moving)

    @property
    def _all_repeat(self) -> bool:
        """Whether nobody who can move is about to do what was not done in vain: a loop may be over."""
        coming = (one.pending for one in self.actors if one.live and one.ready)
        return all(one is None or one.site in self._vain_at for one in coming)

    def _hope(self, since: int) -> None:
        """Something has come of a move, or may."""
        self.vain_since = since
        self._vain.clear()
        self._vain_at.clear()
        for client in self.clients:
            client.counted = None

    def _note_vain(self, move: Move, operation: Operation | None, ends: int) -> None:
        """Note that a move has changed nothing but the time, if it has not."""
        idle = move in (_PASS, _WAIT) and ends == len(self._system.deadlines_us())
        again = (
            operation is not None
            and operation.site
            and move.kind in {"step", "timeout"}
            and self._named[move.who].live
            and (self._named[move.who].waiting is not None or self._system.no_op(operation))
        )
        if not idle and not again:
            self._hope(len(self.trace))
        self._vain[move.who] += 1
        if operation is not None and again:
            self._vain_at.add(operation.site)
        if self._vain[_PASS.who] == _MOST_VAIN // 2:
            for client in self.clients:
                client.counted = {}

    def _moves(self) -> list[Move]:
        if self.trace and self.trace[-1].move == _WAIT:
            return self._pauses()
        if self._at_last:
            return [Move("lose", self._at_last)]
        live = [actor for actor in self.actors if actor.live]
        ready = [actor for actor in live if actor.ready]
        moves = [actor.move for actor in ready if not actor.parked]
        if moves and len(moves) < len(ready):
            moves += self._patience(ready)
        moves += self._arrivals(live, others=bool(moves))
        asleep = any(actor.wake_us is not None for actor in live)
        if not live or (moves and self.powers.none and not asleep):
            return moves
        more = [Move("crash", a.name) for a in live if a.name in self.powers.crashes]
        more += [Move("expire", key) for key in self._expirable()]
        if moves:
            if self._lost < self.powers.losses - self.powers.at_last:
                more += [Move("lose", move.who) for move in moves if self._may_lose(move.who)]
            if self._may_pass():
                more += self._pauses()
            if self._passed < self.powers.passes:
                more += self._begins()
            if self.powers.passes:
                more += self._naps(live)
            return moves + more
        return self._ways_out(live, ready, others=bool(more)) + more

    def _patience(self, ready: list[Actor]) -> list[Move]:
        """Those who repeat a step in vain may do so until they give up, while others stand still.

        Or not quite so long: any of their attempts may be the one that is no longer in vain.
        """
        moves = []
        for actor in ready:
            if not actor.parked or actor.pending is None:
                continue
            site = actor.pending.site
            if self._known(self._endless, actor) or self._known(self._lasting, actor):
                continue
            if actor.left > 1:
                moves.append(Move("again", actor.name))
            elif not actor.left and self._gave_up[actor.name, site] < _MOST_GIVEN_UP:
                moves += [Move("idle", actor.name), Move("again", actor.name)]
        return moves

    def _may_pass(self) -> bool:
        """Whether time may pass now: up to any moment, as one pause after the other is one pause."""
        paused, more = self._paused, self._passed < self.powers.passes
        if not more and not (self.powers.passes and paused):
            return False
        may = self._next_moment() is not None
        self.cut_short |= may and not more and paused >= MOST_MOMENTS
        return may and (more or paused < MOST_MOMENTS)

    def _pauses(self) -> list[Move]:
        """Time passes up to the next moment, or beyond it, before who stands still looks at a clock."""
        standing = self._paused + 1 < MOST_MOMENTS and any(one.standing for one in self.actors)
        first = self._next_moment() if standing else None
        more = first is not None and self._next_moment(first + _JUST_AFTER_US) is not None
        return [_PASS, _WAIT] if more else [_PASS]

    @property
    def _paused(self) -> int:
        """How many moments the pause has passed in which the run stands; 0 when it is in none."""
        passed = itertools.takewhile(
            lambda taken: taken.move in (_PASS, _WAIT), reversed(self.trace)
        )
        return sum(1 for _ in passed)

    def _begins(self) -> list[Move]:
        """Those who look at a clock before their first step may do so later: they begin later."""
        if any(taken.move.kind != "begin" for taken in self.trace) or self._next_moment() is None:
            return []
        standing = [at for at, actor in enumerate(self.clients) if actor.standing]
        rest = self.clients[max(standing, default=-1) + 1 :]
        return [Move("begin", actor.name) for actor in rest if actor.live and actor.looked]

    def _naps(self, live: list[Actor]) -> list[Move]:
        """Those who sleep between two attempts may go on until they give up, or not quite so long."""
        moves, may = [], self._passed < self.powers.passes
        for actor in live:
            if actor.wake_us is None or actor.last is None or not actor.last.refused:
                continue
            if actor.left > 1:
                moves.append(Move("again", actor.name))
            elif may and not actor.left and self._gave_up[_nap_of(actor)] < _MOST_GIVEN_UP:
                moves += [Move("idle", actor.name), Move("again", actor.name)]
        return moves

    def variants(self, move: Move) -> list[Move]:
        """The same step, after which the client looks at a clock later, or whose reply is late or lost.

        Args:
            move: what was made last.
        """
        actor, found = self._named.get(move.who), []
        if move.kind == "idle" and self.powers.at_last and self._lost < self.powers.losses:
            return [Move(kind, move.who) for kind in LASTS[: len(self._sites)]]
        if move.kind != "step" or actor is None:
            return []
        passes = actor.whole.looked and self._passed < self.powers.passes
        if passes and self._next_moment() is not None:
            found.append(Move("late", move.who))
        if self._accompanied and self._delayed < self.powers.delays:
            found.append(Move("delay", move.who))
        return found

    def _arrivals(self, live: list[Actor], *, others: bool) -> list[Move]:
        """Replies that are on their way arrive, but not before anybody else has moved."""
        last = self.trace[-1].move if self.trace else None
        coming = [one for one in live if one.on_its_way]
        return [Move("arrive", one.name) for one in coming if not others or one.move != last]

    def looks_after(self, move: Move) -> bool:
        """Whether the client has looked at a clock after its step, so that it may do so later."""
        actor = self._named.get(move.who)
        return bool(self.powers.passes and actor is not None and actor.whole.looked)

    def last_resort(self) -> Move | None:
        """What the environment does when nothing else ends a wait: a time to live ends by itself."""
        asleep = any(actor.wake_us is not None for actor in self.stuck)
        if self._system.deadlines_us() and not asleep and not self._all_prolonged():
            return _PASS
        return None

    def _all_prolonged(self) -> bool:
        """Whether those who wait give whatever they ask for a new time to live with each attempt."""
        attempts = [one for actor in self.stuck for one in (actor.last, actor.pending) if one]
        attempts = [one for one in attempts if one.kind == "redis"]
        prolonged = {key for one in attempts for args in one.commands for key in prolongs(args)}
        if not prolonged:
            return False
        asked = functools.reduce(
            operator.or_, (one.effects(self._system.keys_of) for one in attempts)
        )
        touched = {name.removeprefix("key:") for name in asked.reads | asked.writes}
        ends = [
            one
            for one in self._system.expirable(["*"])
            if asked.everything or ANY_KEY in asked.reads or one[0] in touched
        ]
        return bool(ends) and all(len(one) == 1 and one[0] in prolonged for one in ends)

    def _ways_out(self, live: list[Actor], ready: list[Actor], *, others: bool) -> list[Move]:
        waits = [a for a in live if a.waiting and a.waiting[2] and a.until_us is None]
        moves = [Move("timeout", a.name) for a in waits]
        if self._lost < self.powers.losses - self.powers.at_last:  # that there was nothing
            moves += [Move("lose", a.name) for a in waits if self._may_lose(a.name)]
        if any(a.wake_us or a.until_us or a.standing for a in live):
            moves += self._pauses() if self.powers.passes else [_PASS]
        return moves + [
            Move("idle", a.name)
            for a in ready
            if not self._known(self._endless, a)
            and not (self._others_time_out(a) and self._known(self._lasting, a))
        ]

    def _known(self, sites: dict[int, int], actor: Actor) -> bool:
        """Whether one that has taken so many steps is known to repeat the next one in vain."""
        site = actor.pending.site if actor.pending is not None else 0
        return site in sites and actor.steps >= sites[site]

    def _others_time_out(self, actor: Actor) -> bool:
        """Whether others wait for a while, and may then do what this one waits for."""
        return any(
            one.waiting is not None and one.waiting[2] for one in self.actors if one is not actor
        )

    def command(self, move: Move) -> str:
        """What the move is about, in a word or two; "-" when it cannot be made now."""
        if move in (_PASS, _WAIT):
            return move.kind if self._next_moment() is not None else "-"
        if move.kind == "expire":
            return move.kind if move.who in self._expirable() else "-"
        actor = self._named.get(move.who)
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
        actor = self._named.get(move.who)
        if move.kind in {"step", "late"} and actor is not None and actor.pending is not None:
            return actor.pending.effects(self._system.keys_of)
        if move.kind == "crash" and actor is not None:
            holds = actor.waiting is not None or actor.db.in_transaction or actor.others
            return EVERYTHING if holds else NOTHING
        return EVERYTHING

    def _outlasts(self, who: str, seconds: float, once: float) -> bool:
        """Whether a client is the last one, and its sleep outlasts a time to live in Redis."""
        now, others = self._system.clock.now_us, self._others_than(who)
        last = self._named[who].last
        waits = last is not None and last.refused  # for others, perhaps, who go on meanwhile
        tried = last is not None and waits and tries(last)
        if others and (self.oversleeps or once < _LONG_SECONDS or tried):
            return False
        if others:
            if any(moment - now <= once * 1e6 for moment in self._system.ends_us()):
                ends = self._system.deadlines_us(self._changed_by(who))
                own = any(moment - now <= once * 1e6 for moment in ends)
                self.oversleeps, self.may_wait = who, waits and not own
            return False
        ends = [moment - now for moment in self._system.deadlines_us()]
        slept = once if ends and self._all_prolonged() else seconds
        return any(end <= slept * 1e6 for end in ends)

    def _note_slept_before(self, client: Actor) -> None:
        """Note that others have slept on, or worked on, for longer than what they made meanwhile lives."""
        until = self._system.clock.now_us + client.slept_us
        if not self.oversleeps and client.slept_us >= _LONG_SECONDS * 1e6:
            ends = self._system.ends_us() if self._others_than(client.name) else []
            self.oversleeps = client.name if any(end <= until for end in ends) else ""

    def _catch_up(self, actor: Actor) -> None:
        """Let time pass for all when the last one has slept: a TTL that it gives begins only then."""
        client = actor.whole
        slept = client.slept_us
        if slept < _LEAST_SLEPT_US or client.divided or self._others_than(client.name):
            return
        site = actor.pending.site if actor.pending is not None else 0
        self._caught_up[actor.name, site] += 1
        if self._caught_up[actor.name, site] > _MOST_CAUGHT_UP:
            return
        now = self._system.clock.now_us + slept
        if all(end > now for end in self._system.deadlines_us()):
            self._system.advance(now)
            client.catch_up(slept)

    def _changed_by(self, who: str) -> Effects:
        """What a client has changed in this run."""
        changed = NOTHING
        for move, operation, _ in self.trace:
            if operation is not None and owner(move.who) == owner(who) and not operation.refused:
                changed |= Effects(writes=operation.effects(self._system.keys_of).writes)
        return changed

    def _others_than(self, who: str) -> bool:
        return any(one.live and owner(one.name) != owner(who) for one in self.actors)

    def _may_lose(self, who: str) -> bool:
        actor = self._named[who]
        return actor.may_lose and actor.pending is not None and actor.pending.kind == "redis"

    def foresee(self) -> None:
        """Look for moments to come, as the run did that a replay follows: what is seen is remembered."""
        self._next_moment()

    def _next_moment(self, after: int | None = None) -> int | None:
        """The next moment at which anything may change, or the next one after that."""
        self.foreseen += 1
        for actor in self.actors:
            if actor.live and actor.pending is not None and not actor.pending.noted:
                actor.pending.noted = True
                self._system.note_times(actor.pending)
        live = [actor for actor in self.actors if actor.live]
        ends = [at for actor in live for at in (actor.wake_us, actor.until_us) if at]
        return self._system.clock.next_moment(
            [*ends, *self._system.moments_us()],
            any_day=after is None and self._any_day,
            asked=self._system.clock.any_day and any(actor.asked for actor in self.clients),
            after=after,
        )

    @property
    def _any_day(self) -> bool:
        """Whether time may pass though nothing is known to change: who stands must go on some time.

        After other moments, too, if somebody asks what day it is.
        """
        clock, standing = self._system.clock, any(actor.standing for actor in self.actors)
        if not self._paused:
            return clock.any_day or (clock.passing and standing)
        asked = any(actor.asked for actor in self.clients)
        return clock.any_day and asked and not self._day_passed

    def _expirable(self) -> list[str]:
        """The keys, and fields of hashes, that may expire, by the names that they have in this run."""
        if not self.powers.expires:
            return []
        for taken in self.trace[self._labelled :]:  # what is random is named as it came
            if taken.operation is not None:
                if taken.move.kind in {"step", "lose"}:
                    self._names.reply(taken.operation)
                self._names.label(taken.operation)
        self._labelled = len(self.trace)
        found = self._system.expirable(self.powers.expires)
        for key, *_ in found if self.unmatched else ():
            self.unmatched = [one for one in self.unmatched if not glob_matches(one, key)]
        self._keys = {}
        for one in found:
            name = " of ".join(map(self._names.of, reversed(one)))
            while name in self._keys:  # another that is shown alike
                name += "′"
            self._keys[name] = one
        return list(self._keys)

    # making it happen

    def make(self, move: Move) -> bool:
        """Make a move; False when it turns out that nothing can come of it."""
        actor = self._named.get(move.who)
        operation = actor.at if actor is not None else None
        ends = len(self._system.deadlines_us()) if move in (_PASS, _WAIT) else 0
        made = self._make(move)
        self._note_vain(move, operation, ends)
        return made

    def _make(self, move: Move) -> bool:
        self.moved += 1
        if move.kind == "expire":
            self._expire(move)
            self._tell(None)
            return True
        if move in (_PASS, _WAIT):
            return self._pass(move)
        actor = self._named[move.who]
        operation = actor.at
        whole = actor.whole
        # before the step: its reply may have ended the others, as one who wakes their task does
        self._accompanied = any(a.live and a is not actor and a is not whole for a in self.actors)
        since = self._system.clock.now_us
        if not self._ways[move.kind](actor, move, operation):
            return False
        if not self._nobody_sees(actor, move, operation, since):
            self._tell(actor)
        elif actor.waiting is not None:
            self._serve(actor)
        self._check(actor)
        return True

    def _begin_late(self, actor: Actor, move: Move, operation: Operation | None) -> bool:
        """Let it begin anew, and stand still before it looks at a clock."""
        self.trace.append(Taken(move, None, actor.name))
        actor.end()
        self.actors = [one for one in self.actors if one is actor or one.whole is not actor]
        actor.reset()
        actor.redis.start()
        actor.late = True
        actor.start()
        self._check(actor)
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
        actor.delayed = False  # it waits, or has failed: there is no reply yet
        return taken and actor.on_its_way

    def _arrive(self, actor: Actor, move: Move, operation: Operation | None) -> bool:
        self.trace.append(Taken(move, operation))
        actor.proceed()
        return True

    def _step(self, actor: Actor, move: Move, operation: Operation | None, note: str = "") -> bool:
        self.trace.append(Taken(actor.move, operation, note))
        actor.whole.looked = False
        if not actor.steps:
            self._note_slept_before(actor.whole)
        self._catch_up(actor)
        actor.proceed()
        if actor.busy and not self._somebody_holds(actor):
            self._outwait(actor)
        if actor.busy:  # another client has the database's lock: nothing was done
            actor.busy = False
            self.trace.pop()
            return False
        if operation is not None:
            self._system.note_idle_times(operation)
        return True

    def _somebody_holds(self, waiting: Actor) -> bool:
        """Whether a lock that is not free may be held by a client, or by the one that waits for it."""
        return any(
            one.others or (one is not waiting and one.db.in_transaction) for one in self.actors
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
        self._at_last, actor.losing = "", True
        self.trace.append(Taken(move, operation))
        if actor.waiting is not None:  # and in vain
            self._let_time_out(actor)
        else:
            actor.proceed()
        if actor.waiting is not None and actor.served():  # a blocking command had not to wait
            actor.proceed()
        if actor.losing:  # it blocks: there is no reply yet that could be lost
            actor.losing = False
            return False
        return True

    def _crash(self, actor: Actor, move: Move, operation: Operation | None) -> bool:
        self.trace.append(Taken(move, operation))
        actor.crash()
        return True

    def _timeout(self, actor: Actor, move: Move, operation: Operation | None) -> bool:
        self.trace.append(Taken(move, actor.last))
        self._let_time_out(actor)
        return True

    def _let_time_out(self, actor: Actor) -> None:
        """End the timeout of a blocking command: it takes time as a sleep does."""
        assert actor.waiting is not None
        left = max(actor.waiting[2] - self._system.clock.now_us, 0)
        actor.time_out()
        self._timed_out[actor.name] += 1
        haste = max(self._timed_out[actor.name] - _HASTE_AFTER, 0)
        actor.whole.wait(max(min(left << haste, _DAY_US), left))
        self._wait_for_ends(actor.whole)
        actor.proceed()

    def _wait_for_ends(self, client: Actor) -> None:
        """Let time pass for all if something ends while one waits, and nobody else can move."""
        until = self._system.clock.now_us + client.slept_us
        if any(end <= until for end in self._system.deadlines_us()):
            self._let_pass(client.slept_us)

    def _let_pass(self, waited_us: int) -> None:
        """Let so much time pass for all, which somebody has waited."""
        self._system.advance(self._system.clock.now_us + waited_us)
        for one in self.clients:
            one.catch_up(waited_us)

    def _outwait_time(self, actor: Actor) -> None:
        """Let days pass for all that one has waited who asks the server what time it is."""
        waited = actor.whole.slept_us
        if waited >= _DAY_US and self._outwaited[actor.name] < _MOST_OUTWAITED:
            self._outwaited[actor.name] += 1
            self._let_pass(min(waited, _MOST_DAYS * _DAY_US))

    def _idle(self, actor: Actor, move: Move, operation: Operation | None) -> bool:
        """Let a client retry while nothing else moves; True when it does something else."""
        assert operation is not None
        if actor.wake_us is not None:
            return self._sleeps_on(actor)
        others = any(one.ready and not one.parked for one in self.actors)
        most = self.patience if others or self._others_time_out(actor) else MAX_IDLE
        here, steps = self._here(actor), actor.steps
        self.trace.append(Taken(actor.move, operation))
        attempts = self._attempt(actor, most, alone=not others)
        if attempts == most and actor.ready and actor.parked:
            self.trace.pop()
            if most == MAX_IDLE and loops.counting(actor.whole.counted or {}):
                self._counting.add(operation.site)
            sites = self._endless if most == MAX_IDLE else self._lasting
            sites[operation.site] = min(steps, sites.get(operation.site, steps))
            return False
        self._gave_up[actor.name, operation.site] += 1
        self._note_given_up(actor, here, attempts)
        if not others:
            return True
        self.trace[-1] = Taken(actor.move, operation, "until it gives up")
        return self._in_vain(actor)

    def _last(self, later: int, actor: Actor, move: Move, operation: Operation | None) -> bool:
        """Let a client that gives up retry in vain up to its last attempt, where a reply is then lost.

        Args:
            later: how many steps it then takes, if its replies come.
        """
        more = self._attempts.get(self._here(actor), 0) - 1 - later
        if more < 1 or not actor.may_lose:
            return False
        if actor.wake_us is not None:
            self._passed += 1
            self._nap(actor, more)
            if actor.wake_us is not None:
                self._advance(actor.wake_us)
        else:
            others = any(one.ready and not one.parked for one in self.actors)
            self.trace.append(Taken(actor.move, operation, f"{more} times" if more > 1 else ""))
            self._attempt(actor, more, alone=not others)
            if others and not self._in_vain(actor):
                return False
        self._at_last = actor.name
        return actor.ready and self._may_lose(actor.name)

    def _again(self, actor: Actor, move: Move, operation: Operation | None) -> bool:
        """Let a client that gives up some time retry in vain, but not so often."""
        left = actor.left or self._attempts.get(self._here(actor), 0)
        if not 1 < left <= _MOST_AGAIN:  # it gives up with the next attempt; or late, or never
            return False
        more = 1 if left <= _ONE_BY_ONE else left - 1
        if actor.wake_us is not None:
            self._passed += not actor.left
            self._nap(actor, more)
        else:
            assert operation is not None
            self.trace.append(Taken(actor.move, operation, f"{more} times" if more > 1 else ""))
            self._attempt(actor, more, alone=False)
            if not self._in_vain(actor):
                return False
        actor.left = left - more
        return True

    def _sleeps_on(self, actor: Actor) -> bool:
        """Let time pass until one who sleeps between its attempts gives up; False if it does not."""
        here = self._here(actor)
        self._passed += 1
        self._sites = {0}
        self._gave_up[_nap_of(actor)] += 1
        attempts = self._nap(actor, self.patience)
        if actor.wake_us is not None:
            self._gave_up[_nap_of(actor)] = _MOST_GIVEN_UP
            self.trace.pop()
            return False
        self._note_given_up(actor, here, attempts)
        return True

    def _note_given_up(self, actor: Actor, here: tuple[Any, ...], attempts: int) -> None:
        self._attempts[here] = attempts
        if actor.may_lose and attempts > 1:
            self.gives_up = self.gives_up or actor.whole.name

    def _nap(self, actor: Actor, most: int) -> int:
        """Let time pass in which one who sleeps between its attempts makes so many; how many it made."""
        begin, operation, attempts = self._system.clock.now_us, actor.last, 0
        here, told = len(self.trace), ""
        self.trace.append(Taken(actor.move, operation))
        for _ in range(2 * most):  # one of two sleeps may be followed by none
            if attempts == most or actor.wake_us is None:
                break
            self._advance(actor.wake_us)
            attempts += self._attempting(actor) is not None
            while (one := self._attempting(actor)) is not None:
                one.proceed()
                self.moved += 1
                if one.last is None or not self._system.no_op(one.last):
                    operation, told = one.last, "after"
                    break
        seconds = _duration((self._system.clock.now_us - begin) / 1e6)
        taken = Taken(actor.move, operation, f"{told} {seconds}")
        if actor.wake_us is not None:
            taken = Taken(actor.move, operation, f"{attempts} times more, in {seconds}")
        elif not attempts:  # it slept, and does something else
            taken = Taken(Move("pass", actor.name), None, seconds)
        elif not told:
            taken = Taken(actor.move, operation, f"until it gives up, in {seconds}")
        self.trace[here] = taken
        self._tell(actor)
        return attempts

    def _attempting(self, client: Actor) -> Actor | None:
        """The client, or its task, that is about to repeat what it did."""
        for one in self.actors:
            if one.whole is client and one.ready and one.pending is not None and one.pending.site:
                return one
        return None

    def _here(self, actor: Actor) -> tuple[Any, ...]:
        """Where the run stands, and who is asked: the same in each run that has come here."""
        return actor.name, *((taken.move, taken.note) for taken in self.trace)

    def _attempt(self, actor: Actor, most: int, *, alone: bool) -> int:
        """Repeat a step until something else comes, or so often; how often it was.

        Args:
            alone: nobody else can move now.
        """
        haste_after = _HASTE_AFTER if alone else self.patience // 2
        self._asked_for, goes_by_time = NOTHING, False
        self._sites.clear()
        try:
            for attempt in range(most):
                if attempt > haste_after:
                    actor.haste = min(actor.haste * 2, 1 << 40)
                if attempt == MAX_IDLE - _COUNTED:
                    actor.whole.counted = {}
                self._tried = actor.whole.monotonic()
                self._catch_up(actor)
                if actor.pending is not None:
                    self._sites.add(actor.pending.site)
                    self._asked_for |= actor.pending.effects(self._system.keys_of)
                    goes_by_time |= self._system.asks_time(actor.pending)
                if goes_by_time and most == MAX_IDLE:
                    self._outwait_time(actor)
                actor.proceed()
                if alone and actor.waiting and actor.waiting[2] and not actor.until_us:
                    actor.proceed() if actor.served() else self._let_time_out(actor)
                self.moved += 1
                going = actor.parked or (actor.pending is not None and actor.pending.lets_go)
                if not actor.ready or not going or self._stirs(actor):
                    return attempt + 1
            return most
        finally:
            actor.haste = 1

    def _stirs(self, actor: Actor) -> bool:
        """Whether one that goes round in a circle has changed what others repeat their attempts for.

        Redis is as before when it has come round; but not all the way: a lock is free in between.
        """
        last = actor.last
        others = [one for one in self.actors if one is not actor and one.parked]
        if not others or last is None or last.refused or self._system.no_op(last):
            return False
        self._stirred[actor.name] += 1
        if self._stirred[actor.name] > _MOST_STIRRED:
            return False
        for one in others:
            one.parked = False
        return True

    def _in_vain(self, actor: Actor) -> bool:
        """True unless what it waited for would have ended before: it sleeps, or a TTL was shorter."""
        until = self._system.clock.now_us + (self._tried - actor.since) * 1e6
        ends = self._system.deadlines_us(self._asked_for)
        return actor.whole.wake_us is None and all(at > until for at in ends)

    def _expire(self, move: Move) -> None:
        self.trace.append(Taken(move, None, move.who))
        key = self._keys.get(move.who)
        if key is None:
            raise NotDeterministicError(
                f"{move.who} expired by itself while the orders were explored.",
                "Reset in `given` what the functions remember between runs.",
            )
        self._system.expire(*key)

    def _pass(self, move: Move) -> bool:
        clock = self._system.clock
        moment = self._next_moment()
        if moment is None:
            return False
        chosen = any((one.ready and not one.parked) or one.standing for one in self.actors)
        self._passed += chosen and not self._paused
        self.passed_once = self.passed_once or chosen
        if not chosen:
            moment += self._more(moment)
        self._day_passed = moment - clock.now_us >= _DAY_US
        seconds = (moment - clock.now_us) / 1e6
        self.trace.append(Taken(move, None, _duration(seconds)))
        self._advance(moment + (_JUST_AFTER_US if chosen else 0), on=move == _PASS)
        self._tell(None)
        return True

    def _more(self, moment: int) -> int:
        """For how much longer time passes, if nothing has come of many pauses, and all repeat the same."""
        now, haste = self._system.clock.now_us, self._vain[_PASS.who] - _HASTE_AFTER
        if haste <= 0 or not self._all_in_vain or any(one.punctual for one in self.clients):
            return 0
        longer = min((moment - now) << haste, _MOST_DAYS * _DAY_US)
        known = self._system.clock.next_moment(self._system.moments_us())
        return max(min(longer, known - now if known else longer) - (moment - now), 0)

    def _advance(self, moment: int, *, on: bool = True) -> None:
        """Let it be a later moment: sleeps are over, and waits; those who stood still go `on`."""
        self._system.advance(moment)
        for actor in list(self.actors):
            if not actor.live:
                continue
            if actor.until_us is not None and actor.until_us <= moment:
                if not actor.served():
                    actor.time_out()
            elif actor.wake_us is not None and actor.wake_us <= moment:
                actor.wake_us = None
            elif not (actor.standing and on):
                continue
            actor.proceed()
            self._check(actor)

    def _tell(self, mover: Actor | None) -> None:
        """Others see that something was changed; blocked clients that were served go on."""
        waiting = False
        for actor in self.actors:
            if actor is not mover:
                actor.seen_moving()
            waiting = waiting or actor.waiting is not None
        if waiting:
            self._serve(mover)

    def _nobody_sees(
        self, actor: Actor, move: Move, operation: Operation | None, since: int
    ) -> bool:
        """Whether a move has changed nothing that another could see: an attempt in vain, or a wait."""
        if move.kind == "timeout":
            again, last = actor.pending, actor.last
            asks_again = again is not None and last is not None and again.commands == last.commands
            return actor.ready and asks_again and self._system.clock.now_us == since
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

    def _serve(self, mover: Actor | None) -> None:
        for actor in self.actors:
            while actor.live and actor.served():
                if actor is not mover and actor.last is not None:
                    actor.last.waited = True
                actor.proceed()
                self._check(actor)
                for other in self.actors:
                    if other is not actor:
                        other.seen_moving()

    def _check(self, actor: Actor) -> None:
        """Raise what is no finding of the exploration but a mistake in using it."""
        for one in self.actors:
            if one.fault is not None:
                raise one.fault
        client = actor.whole
        error = client.error
        if error is None or not self.serial or isinstance(error, self.powers.raises):
            return
        clock = self._system.clock
        chosen = clock.alike or bool(clock.fractions)
        if not (chosen or any(taken.move in (_PASS, _WAIT) for taken in self.trace)):
            raise ImplementationError(f"The client {client.name!r}", error) from error


def _nap_of(actor: Actor) -> tuple[str, Any]:
    """What one who sleeps tries for."""
    return actor.name, actor.last.word if actor.last is not None else ""


@functools.lru_cache(maxsize=512)
def _selects(sql: str) -> bool:
    return bool(_READ.match(sql))


def _duration(seconds: float) -> str:
    return f"{seconds:,.3f}".rstrip("0").rstrip(".") + " s"
