"""A client that repeats a step in vain: until it gives up, not quite so long, or for ever."""

import math
from collections import Counter
from typing import Any

from labsupport.explorer.clients import loops
from labsupport.explorer.clients.actor import Actor
from labsupport.explorer.moves.futility import Futility
from labsupport.explorer.moves.passing_time import PassingTime, duration
from labsupport.explorer.moves.stage import Powers, Stage
from labsupport.explorer.operations import NOTHING, Move, Operation, Taken

__all__ = ["LASTS", "MAX_IDLE", "MAX_PATIENCE", "Attempts"]

MAX_IDLE = 1_000
"""A client that repeats a step so often in vain, with nobody else to move, would do so for ever."""

MAX_PATIENCE = 300
"""The same, of one that repeats it while others stand still, though they could move; a rerun may say more."""

LASTS = ("last", *(f"last but {n}" for n in ("one", "two", "three", "four", "five")))
"""At which step of the last attempt before a client gives up a reply is lost."""

_COUNTED = 200  # of the attempts in vain, the last ones: does the client count in its loop?
_MOST_GIVEN_UP = 3  # by one client at one place, in one run: it may try for ever
_MOST_AGAIN = 20  # attempts are left; who makes more goes by a clock
_ONE_BY_ONE = 12  # so many attempts that are left are made one by one, of more all but the last
_HASTE_AFTER = 16  # such repetitions, each sleep lasts twice as long as the one before
_LOOKED_AT = 48  # by then it is seen whether one counts them
_MOST_STIRRED = 12  # so often one lets others try anew: a circle that nothing comes of has an end

_Known = dict[int, dict[frozenset[Any], int]]


class _Pace:
    """How fast time goes for one who repeats a step in vain: sleeps grow, so that a deadline comes.

    Args:
        actor: who repeats it.
        calm: after so many attempts each sleep is twice as long as the one before.
        looks: look whether it counts its attempts.

    Attributes:
        counts: it may count them; True unless that was looked at.
    """

    def __init__(self, actor: Actor, calm: int, *, looks: bool) -> None:
        self._actor = actor
        self._counted = actor.whole.counted
        self._looks = looks
        self._calm = calm
        self.counts = True
        if looks:
            actor.whole.counted = {}

    def begin(self, attempt: int) -> None:
        """Begin an attempt."""
        if attempt > self._calm:
            self._actor.haste = min(self._actor.haste * 2, 1 << 40)
        if self._looks and attempt == _LOOKED_AT:
            self.counts = loops.counting(self._actor.whole.counted or {})
            self._actor.whole.counted = self._counted

    def end(self) -> dict[int, list[Any]]:
        """Let time go as before; what was counted last."""
        seen = self._actor.whole.counted or {}
        self._actor.haste, self._actor.whole.ends = 1, ()
        self._actor.whole.counted = self._counted
        return seen


class Attempts:
    """Lets a client repeat what it does in vain.

    Args:
        stage: whose clients they are.
        powers: how often time may pass between two attempts.
        passing: lets it pass.
        futility: is told of loops that may come to an end.

    Attributes:
        patience: how often one may repeat a step in vain while others stand still.
        gives_up: the client that was seen to give up alone, with replies that may be lost; or empty.
        at_last: who makes its last attempt now, before it gives up; or empty.
        sites: where in their code the attempts stood that were made last.
    """

    def __init__(
        self, stage: Stage, powers: Powers, passing: PassingTime, futility: Futility
    ) -> None:
        self._stage = stage
        self._system = stage.system
        self._powers = powers
        self._passing = passing
        self._futility = futility
        self.patience = MAX_PATIENCE
        self.gives_up = self.at_last = ""
        self.sites = set[int]()
        # sites that are known to repeat for ever; after what was told, and how many steps of the client's
        self._endless: _Known = {}
        self._lasting: _Known = {}  # the same, while others stand still
        self._gave_up: Counter[tuple[str, Any]] = Counter()  # who, at which site, in this run
        self._stirred: Counter[str] = Counter()  # who has let others try anew, in this run
        self._attempts: dict[tuple[Any, ...], int] = {}  # until it gives up: who, after which moves
        # after how many attempts each sleep grows: where the run stands, and with what patience
        self._hastes: dict[tuple[Any, int], int] = {}
        self._by_clock = set[int]()  # sites of those who gave up only when their sleeps grew
        self._counted: dict[int, list[Any]] = {}  # by who made the last attempts in vain
        self._counts = True  # it may count these attempts
        self._asked_for = NOTHING  # in the attempts in vain that were made last
        self._tried = 0.0  # when the last attempt in vain was made, on the clock of who made it

    def begin(self) -> None:
        """Another run begins."""
        self.at_last = ""
        self._gave_up.clear()
        self._stirred.clear()

    def patient(self, ready: list[Actor]) -> list[Move]:
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

    def naps(self, live: list[Actor]) -> list[Move]:
        """Those who sleep between two attempts may go on until they give up, or not quite so long."""
        moves, may = [], self._passing.more
        for actor in live:
            if actor.wake_us is None or actor.last is None or not actor.last.refused:
                continue
            if actor.left > 1:
                moves.append(Move("again", actor.name))
            elif may and not actor.left and self._gave_up[_nap_of(actor)] < _MOST_GIVEN_UP:
                moves += [Move("idle", actor.name), Move("again", actor.name)]
        return moves

    def endless(self, actor: Actor) -> bool:
        """Whether one is known to repeat its next step for ever, as nobody else will end that."""
        lasts = self.others_time_out(actor) and self._known(self._lasting, actor)
        return lasts or self._known(self._endless, actor)

    def _known(self, sites: _Known, actor: Actor) -> bool:
        """Whether one that has taken so many steps is known to repeat the next one in vain.

        If it was told the same before: how often it tries may be what it was told.
        """
        known = sites.get(actor.pending.site) if actor.pending is not None else None
        return known is not None and actor.steps >= known.get(self._stage.told(actor), math.inf)

    def others_time_out(self, actor: Actor) -> bool:
        """Whether others wait for a while, and may then do what this one waits for."""
        return any(
            one.waiting is not None and one.waiting[2]
            for one in self._stage.actors
            if one is not actor
        )

    def idle(self, actor: Actor, move: Move, operation: Operation | None) -> bool:
        """Let a client retry while nothing else moves; True when it does something else."""
        assert operation is not None
        if actor.wake_us is not None:
            return self._sleeps_on(actor)
        others = any(one.ready and not one.parked for one in self._stage.actors)
        most = self.patience if others or self.others_time_out(actor) else MAX_IDLE
        here, steps, told = self._here(actor), actor.steps, self._stage.told(actor)
        looked = actor.whole.looks[1]
        self._stage.trace.append(Taken(actor.move, operation))
        attempts = self._attempt(actor, most, here, alone=not others)
        if attempts == most and actor.ready and actor.parked:
            self._stage.trace.pop()
            if most == MAX_IDLE and loops.counting(self._counted):
                self._futility.counting_at.add(operation.site)
            sites = self._endless if most == MAX_IDLE else self._lasting
            known = sites.setdefault(operation.site, {})
            known[told] = min(steps, known.get(told, steps))
            return False
        self._gave_up[actor.name, operation.site] += 1
        self._note_given_up(actor, here, attempts)
        late = attempts > self._hastes[here, self.patience]
        if late and actor.whole.looks[1] > looked and not self._counts:
            self._by_clock.add(operation.site)
        if not others:
            return True
        self._stage.trace[-1] = Taken(actor.move, operation, "until it gives up")
        return self._in_vain(actor)

    def last(self, later: int, actor: Actor, move: Move, operation: Operation | None) -> bool:
        """Let a client that gives up retry in vain up to its last attempt, where a reply is then lost.

        Args:
            later: how many steps it then takes, if its replies come.
        """
        here = self._here(actor)
        more = self._attempts.get(here, 0) - 1 - later
        if more < 1 or not actor.may_lose:
            return False
        if actor.wake_us is not None:
            self._passing.passed += 1
            self._nap(actor, more)
            if actor.wake_us is not None:
                self._passing.advance(actor.wake_us)
        else:
            others = any(one.ready and not one.parked for one in self._stage.actors)
            self._stage.trace.append(
                Taken(actor.move, operation, f"{more} times" if more > 1 else "")
            )
            self._attempt(actor, more, here, alone=not others)
            if others and not self._in_vain(actor):
                return False
        self.at_last = actor.name
        return actor.ready and self._stage.may_lose(actor.name)

    def again(self, actor: Actor, move: Move, operation: Operation | None) -> bool:
        """Let a client that gives up some time retry in vain, but not so often."""
        here = self._here(actor)
        left = actor.left or self._attempts.get(here, 0)
        if not 1 < left <= _MOST_AGAIN:  # it gives up with the next attempt; or late, or never
            return False
        if actor.pending is not None and actor.pending.site in self._by_clock:
            return False
        more = 1 if left <= _ONE_BY_ONE else left - 1
        if actor.wake_us is not None:
            self._passing.passed += not actor.left
            self._nap(actor, more)
        else:
            assert operation is not None
            self._stage.trace.append(
                Taken(actor.move, operation, f"{more} times" if more > 1 else "")
            )
            self._attempt(actor, more, here, alone=False)
            if not self._in_vain(actor):
                return False
        actor.left = left - more
        return True

    def _sleeps_on(self, actor: Actor) -> bool:
        """Let time pass until one who sleeps between its attempts gives up; False if it does not."""
        here = self._here(actor)
        self._passing.passed += 1
        self.sites = {0}
        self._gave_up[_nap_of(actor)] += 1
        attempts = self._nap(actor, self.patience)
        if actor.wake_us is not None:
            self._gave_up[_nap_of(actor)] = _MOST_GIVEN_UP
            self._stage.trace.pop()
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
        here, told = len(self._stage.trace), ""
        self._stage.trace.append(Taken(actor.move, operation))
        for _ in range(2 * most):  # one of two sleeps may be followed by none
            if attempts == most or actor.wake_us is None:
                break
            self._passing.advance(actor.wake_us)
            attempts += self._attempting(actor) is not None
            while (one := self._attempting(actor)) is not None:
                one.proceed()
                self._stage.moved += 1
                if one.last is None or not self._system.no_op(one.last):
                    operation, told = one.last, "after"
                    break
        seconds = duration((self._system.clock.now_us - begin) / 1e6)
        taken = Taken(actor.move, operation, f"{told} {seconds}")
        if actor.wake_us is not None:
            taken = Taken(actor.move, operation, f"{attempts} times more, in {seconds}")
        elif not attempts:  # it slept, and does something else
            taken = Taken(Move("pass", actor.name), None, seconds)
        elif not told:
            taken = Taken(actor.move, operation, f"until it gives up, in {seconds}")
        self._stage.trace[here] = taken
        self._stage.tell(actor)
        return attempts

    def _attempting(self, client: Actor) -> Actor | None:
        """The client, or its task, that is about to repeat what it did."""
        for one in self._stage.actors:
            if one.whole is client and one.ready and one.pending is not None and one.pending.site:
                return one
        return None

    def _here(self, actor: Actor) -> tuple[Any, ...]:
        """Where the run stands, and who is asked: the same in each run that has come here."""
        return actor.name, *((taken.move, taken.note) for taken in self._stage.trace)

    def _attempt(self, actor: Actor, most: int, here: tuple[Any, ...], *, alone: bool) -> int:
        """Repeat a step until something else comes, or so often; how often it was.

        Args:
            here: where the run stood before; who comes here again is given as much time.
            alone: nobody else can move now.
        """
        at = here, self.patience
        known = actor.pending is not None and actor.pending.site in self._by_clock
        most_calm = 1 if known else _HASTE_AFTER if alone else self.patience // 2
        calm = self._hastes.setdefault(at, most_calm)
        pace = _Pace(actor, calm, looks=not (alone or known))
        actor.whole.ends = () if alone else self._ends(actor)
        self._asked_for, goes_by_time = NOTHING, False
        self.sites.clear()
        try:
            for attempt in range(most):
                pace.begin(attempt)
                if attempt == MAX_PATIENCE < most and not pace.counts:
                    return most
                if attempt == most - _COUNTED and most == MAX_IDLE:
                    actor.whole.counted = {}
                self._tried = actor.whole.monotonic()
                self._passing.catch_up(actor)
                if actor.pending is not None:
                    self.sites.add(actor.pending.site)
                    self._asked_for |= actor.pending.effects(self._system.keys_of)
                    goes_by_time |= self._system.asks_time(actor.pending)
                if goes_by_time and most == MAX_IDLE:
                    self._passing.outwait_time(actor)
                actor.proceed()
                if alone and actor.waiting and actor.waiting[2] and not actor.until_us:
                    actor.proceed() if actor.served() else self._passing.let_time_out(actor)
                self._stage.moved += 1
                going = actor.parked or (actor.pending is not None and actor.pending.lets_go)
                if not actor.ready or not going or self._stirs(actor):
                    return attempt + 1
            return most
        finally:
            self._counted, self._counts = pace.end(), pace.counts

    def _stirs(self, actor: Actor) -> bool:
        """Whether one that goes round in a circle has changed what others repeat their attempts for.

        Redis is as before when it has come round; but not all the way: a lock is free in between.
        """
        last = actor.last
        others = [one for one in self._stage.actors if one is not actor and one.parked]
        if not others or last is None or last.refused or self._system.no_op(last):
            return False
        self._stirred[actor.name] += 1
        if self._stirred[actor.name] > _MOST_STIRRED:
            return False
        for one in others:
            one.parked = False
        return True

    def _ends(self, actor: Actor) -> tuple[float, ...]:
        """When what is in Redis ends, on the clock of one who alone goes on."""
        now = self._system.clock.now_us
        return tuple(actor.since + (at - now + 1) / 1e6 for at in self._system.deadlines_us())

    def _in_vain(self, actor: Actor) -> bool:
        """True unless what it waited for would have ended before: it sleeps, or a TTL was shorter."""
        until = self._system.clock.now_us + (self._tried - actor.since) * 1e6
        ends = self._system.deadlines_us(self._asked_for)
        return actor.whole.wake_us is None and all(at > until for at in ends)


def _nap_of(actor: Actor) -> tuple[str, Any]:
    """What one who sleeps tries for."""
    return actor.name, actor.last.word if actor.last is not None else ""
