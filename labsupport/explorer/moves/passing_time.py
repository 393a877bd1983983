"""Time that passes for the server and for all clients, up to the moments at which something changes."""

import functools
import itertools
import operator
from collections import Counter
from typing import Any

from labsupport.explorer.clients.actor import Actor
from labsupport.explorer.moves.futility import Futility
from labsupport.explorer.moves.stage import PASS, WAIT, Powers, Stage
from labsupport.explorer.operations import (
    ANY_KEY,
    NOTHING,
    Effects,
    Move,
    Taken,
    owner,
    prolongs,
    tries,
)

__all__ = ["MOST_MOMENTS", "PassingTime", "duration"]

MOST_MOMENTS = 12
"""So many moments at which something changes are passed in one pause."""

# No real clock is asked at the very moment: a deadline is over for < and for <=.
_JUST_AFTER_US = 10
_HASTE_AFTER = 16  # so many waits, or pauses, each lasts twice as long as the one before
_LEAST_SLEPT_US = 50_000  # less is what a retry waits between two attempts
_MOST_CAUGHT_UP = 8  # before the same step: what prolongs a TTL for ever is seen to change nothing
_MOST_OUTWAITED = 50  # days, or more, that one waits in a run for what the server's time brings
_LONG_SECONDS = 0.5  # a shorter sleep, of which there may be many, hardly outlasts a time to live
_DAY_US = 86_400_000_000
_MOST_DAYS = 1000  # at once


class PassingTime:
    """Lets time pass, and notes what was slept through.

    Args:
        stage: for whom it passes.
        powers: how often it may pass while somebody could move.
        futility: after much that was in vain, pauses grow longer.

    Attributes:
        passed: how often it has passed in this run while somebody could move.
        passed_once: True once it has, in any run, up to a moment that was known.
        cut_short: True once a pause has ended, though something changes later.
        foreseen: how often moments to come were looked for, in all runs.
        oversleeps: who slept, while others stood still, for longer than something in Redis lives.
        may_wait: True when that one may have slept to wait for others.
    """

    def __init__(self, stage: Stage, powers: Powers, futility: Futility) -> None:
        self._stage = stage
        self._system = stage.system
        self._powers = powers
        self._futility = futility
        self.passed = self.foreseen = 0
        self.passed_once, self.cut_short = False, False
        self.oversleeps, self.may_wait = "", False
        self._day_passed = False  # by the move that was made last, if time passed
        self._caught_up: Counter[tuple[str, Any]] = Counter()  # who, before which step, in this run
        self._timed_out: Counter[str] = Counter()  # how often whose wait has, in this run
        self._outwaited: Counter[str] = Counter()  # who has let days pass for all, in this run
        # who in this run, after how many steps, for so long
        self._slept: dict[str, list[tuple[int, float]]] = {}
        self._system.clock.outlasts = self._outlasts

    def begin(self) -> None:
        """Another run begins."""
        self.passed = 0
        self._caught_up.clear()
        self._timed_out.clear()
        self._outwaited.clear()
        self._slept.clear()

    @property
    def more(self) -> bool:
        """Whether it may pass once more while somebody could move."""
        return self.passed < self._powers.passes

    def may_pass(self) -> bool:
        """Whether time may pass now: up to any moment, as one pause after the other is one pause."""
        paused, more = self.paused, self.more
        if not more and not (self._powers.passes and paused):
            return False
        may = self.next_moment() is not None
        self.cut_short |= may and not more and paused >= MOST_MOMENTS
        return may and (more or paused < MOST_MOMENTS)

    def pauses(self) -> list[Move]:
        """Time passes up to the next moment, or beyond it, before who stands still looks at a clock."""
        standing = self.paused + 1 < MOST_MOMENTS and any(
            one.standing for one in self._stage.actors
        )
        first = self.next_moment() if standing else None
        more = first is not None and self.next_moment(first + _JUST_AFTER_US) is not None
        return [PASS, WAIT] if more else [PASS]

    @property
    def paused(self) -> int:
        """How many moments the pause has passed in which the run stands; 0 when it is in none."""
        passed = itertools.takewhile(
            lambda taken: taken.move in (PASS, WAIT), reversed(self._stage.trace)
        )
        return sum(1 for _ in passed)

    def next_moment(self, after: int | None = None, *, days: bool = True) -> int | None:
        """The next moment at which anything may change, or the next one after that.

        Args:
            after: the next one after this; after now without it.
            days: a day from now, too, where none is known and one may pass.
        """
        self.foreseen += 1
        for actor in self._stage.actors:
            if actor.live and actor.pending is not None and not actor.pending.noted:
                actor.pending.noted = True
                self._system.note_times(actor.pending)
        live = [actor for actor in self._stage.actors if actor.live]
        ends = [at for actor in live for at in (actor.wake_us, actor.until_us) if at]
        return self._system.clock.next_moment(
            [*ends, *self._system.moments_us()],
            any_day=days and after is None and self._any_day,
            asked=self._system.clock.any_day and any(actor.asked for actor in self._stage.clients),
            after=after,
        )

    @property
    def _any_day(self) -> bool:
        """Whether time may pass though nothing is known to change: who stands must go on some time.

        After other moments, too, if somebody asks what day it is.
        """
        clock, standing = self._system.clock, any(actor.standing for actor in self._stage.actors)
        if not self.paused:
            return clock.any_day or (clock.passing and standing)
        asked = any(actor.asked for actor in self._stage.clients)
        return clock.any_day and asked and not self._day_passed

    def foresee(self) -> None:
        """Look for moments to come, as the run did that a replay follows: what is seen is remembered."""
        self.next_moment()

    def all_prolonged(self) -> bool:
        """Whether those who wait give whatever they ask for a new time to live with each attempt."""
        attempts = [
            one for actor in self._stage.stuck for one in (actor.last, actor.pending) if one
        ]
        attempts = [one for one in attempts if one.kind == "redis" and one.site]  # made before, too
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

    def _outlasts(self, who: str, seconds: float, once: float) -> bool:
        """Whether a client is the last one, and its sleep outlasts a time to live in Redis."""
        now, others = self._system.clock.now_us, self._stage.others_than(who)
        last = self._stage.named[who].last
        waits = last is not None and last.refused  # for others, perhaps, who go on meanwhile
        tried = last is not None and waits and tries(last)
        if others and (self.oversleeps or once < _LONG_SECONDS or tried):
            return False
        if others:
            own = self._outsleeps_its_own(who, once)
            if own or any(moment - now <= once * 1e6 for moment in self._system.ends_us()):
                self.oversleeps, self.may_wait = who, waits and not own
            return False
        ends = [moment - now for moment in self._system.deadlines_us()]
        slept = once if ends and self.all_prolonged() else seconds
        return any(end <= slept * 1e6 for end in ends)

    def _outsleeps_its_own(self, who: str, once: float) -> bool:
        """Whether all that it slept since it has written a key is longer than that lives.

        What it slept before it repeated an attempt in vain does not count: it may have been answered soon.
        """
        now, last = self._system.clock.now_us, self._stage.named[who].last
        steps = [one for move, one, _ in self._stage.trace if one and owner(move.who) == owner(who)]
        if last is not None and last.refused and last.site:
            self._slept[who] = []
        sleeps = self._slept.setdefault(who, [])
        sleeps.append((len(steps), once))
        later = NOTHING
        for count in range(len(steps), 0, -1):
            one = steps[count - 1]
            if self._system.no_op(one):
                continue
            written = Effects(writes=one.effects(self._system.keys_of).writes - later.writes)
            slept = sum(seconds for steps_taken, seconds in sleeps if steps_taken >= count)
            ends = self._system.deadlines_us(written)
            if any(end - now <= slept * 1e6 for end in ends):
                return True
            later |= written
        return False

    def note_slept_before(self, client: Actor) -> None:
        """Note that others have slept on, or worked on, for longer than what they made meanwhile lives."""
        until = self._system.clock.now_us + client.slept_us
        if not self.oversleeps and client.slept_us >= _LONG_SECONDS * 1e6:
            ends = self._system.ends_us() if self._stage.others_than(client.name) else []
            self.oversleeps = client.name if any(end <= until for end in ends) else ""

    def catch_up(self, actor: Actor) -> None:
        """Let time pass for all when the last one has slept: a TTL that it gives begins only then."""
        client = actor.whole
        slept = client.slept_us
        if slept < _LEAST_SLEPT_US or client.divided or self._stage.others_than(client.name):
            return
        site = actor.pending.site if actor.pending is not None else 0
        self._caught_up[actor.name, site] += 1
        if self._caught_up[actor.name, site] > _MOST_CAUGHT_UP:
            return
        now = self._system.clock.now_us + slept
        if all(end > now for end in self._system.deadlines_us()):
            self._system.advance(now)
            client.catch_up(slept)

    def let_time_out(self, actor: Actor) -> None:
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
            self._all_wait(client.slept_us)

    def _all_wait(self, waited_us: int) -> None:
        """Let so much time pass for all, which somebody has waited."""
        self._system.advance(self._system.clock.now_us + waited_us)
        for one in self._stage.clients:
            one.catch_up(waited_us)

    def outwait_time(self, actor: Actor) -> None:
        """Let days pass for all that one has waited who asks the server what time it is."""
        waited = actor.whole.slept_us
        if waited >= _DAY_US and self._outwaited[actor.name] < _MOST_OUTWAITED:
            self._outwaited[actor.name] += 1
            self._all_wait(min(waited, _MOST_DAYS * _DAY_US))

    def let_pass(self, move: Move) -> bool:
        """Let it be the next moment; False when there is none."""
        clock = self._system.clock
        moment = self.next_moment()
        if moment is None:
            return False
        chosen = any((one.ready and not one.parked) or one.standing for one in self._stage.actors)
        self.passed += chosen and not self.paused
        if chosen and not self.passed_once:
            self.passed_once = self.next_moment(days=False) is not None
        if not chosen:
            moment += self._longer(moment)
        self._day_passed = moment - clock.now_us >= _DAY_US
        seconds = (moment - clock.now_us) / 1e6
        self._stage.trace.append(Taken(move, None, duration(seconds)))
        self.advance(moment + (_JUST_AFTER_US if chosen else 0), on=move == PASS)
        self._stage.tell(None)
        return True

    def _longer(self, moment: int) -> int:
        """For how much longer time passes, if nothing has come of many pauses, and all repeat the same."""
        now, haste = self._system.clock.now_us, self._futility.pauses - _HASTE_AFTER
        if (
            haste <= 0
            or not self._futility.all_in_vain
            or any(one.punctual for one in self._stage.clients)
        ):
            return 0
        longer = min((moment - now) << haste, _MOST_DAYS * _DAY_US)
        known = self._system.clock.next_moment(self._system.moments_us())
        return max(min(longer, known - now if known else longer) - (moment - now), 0)

    def advance(self, moment: int, *, on: bool = True) -> None:
        """Let it be a later moment: sleeps are over, and waits; those who stood still go `on`."""
        self._system.advance(moment)
        for actor in list(self._stage.actors):
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
            self._stage.check(actor)


def duration(seconds: float) -> str:
    """As it is read: 2.5 s, 86,400 s."""
    return f"{seconds:,.3f}".rstrip("0").rstrip(".") + " s"
