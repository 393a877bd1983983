"""Whether a run broke what must hold, and the shortest run of each kind that did."""

import inspect
import re
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise
from typing import Any

from labsupport.errors import ImplementationError, InvalidSettingError, plain_error
from labsupport.explorer.clients.actor import Actor
from labsupport.explorer.clients.stepped_redis import blocks
from labsupport.explorer.names import Names
from labsupport.explorer.operations import Move, Taken, owner
from labsupport.explorer.report import Finding, Step
from labsupport.explorer.system import System

__all__ = ["Checker"]

_STEPS = frozenset({"step", "arrive", "idle", "timeout"})
_ADDRESS = re.compile(r" at 0x[0-9a-f]+(?=>)")  # another in each call


class Checker:
    """Puts the invariant to each run that came to its end.

    Args:
        system: holds the state that a run has left.
        invariant: must hold when all have finished; called with (redis, db), or with the outcomes, too.
        claim: what it says, in words.
        raises: errors that clients may raise.
        names: gives those of scripts, by their digest or text, when something is to be shown.

    Attributes:
        claim: what is claimed.
        violations: how many runs broke it.
        findings: the shortest of each kind, with the fewest moves of the adversary and switches.
        serial: True when even one client after the other breaks it.
    """

    def __init__(
        self,
        system: System,
        invariant: Callable[..., Any],
        claim: str,
        raises: tuple[type[BaseException], ...] = (),
        names: Callable[[], dict[str, str]] = dict,
    ) -> None:
        self.violations = 0
        self.findings: dict[str, Finding] = {}
        self.serial = False
        self._system = system
        self._invariant = invariant
        self.claim = claim
        self._raises = raises
        self._scripts = names
        self._told = _takes_outcomes(invariant)

    def check(
        self, actors: Sequence[Actor], trace: Sequence[Taken], moves: Sequence[Move], serial: bool
    ) -> None:
        """Look at what a complete run has left."""
        for actor in actors:
            error = actor.error
            if error is not None and not isinstance(error, self._raises):
                self._keep("raised", _raised(actor.name, error), trace, moves, serial)
                return
        reason = self._broken(actors, serial)
        if reason is not None:
            told = reason or "When all have finished, this does not hold: " + self.claim
            self._keep("broken", told, trace, moves, serial)

    def stuck(
        self, actors: Sequence[Actor], trace: Sequence[Taken], moves: Sequence[Move], serial: bool
    ) -> None:
        """Take in a run in which nobody can move on."""
        shown = list(trace)
        told = [f"{a.name} waits for what none of its tasks does" for a in actors if a.stalled]
        actors = [actor for actor in actors if not actor.stalled]
        for actor in actors:
            last = actor.pending or actor.last
            while (at := _last_of(shown, actor.name)) is not None:
                operation = shown[at].operation
                if operation is None or last is None or not operation.refused:
                    break
                if not last.repeats(operation):
                    break
                del shown[at]  # one more attempt in vain
        waits = [
            Taken(Move("stuck", actor.name), operation)
            for actor in actors
            if (operation := actor.pending or actor.last) is not None
        ]
        steps = self.steps([*shown, *waits])
        told += [
            f"{step.client} {'waits for' if _waits(taken) else 'repeats'} {step.label} for ever"
            for step, taken in zip(steps[len(shown) :], waits, strict=True)
        ]
        self._keep(
            "stuck", f"Nobody can move on: {'; '.join(told)}.", [*shown, *waits], moves, serial
        )

    def steps(self, trace: Sequence[Taken], names: Names | None = None) -> list[Step]:
        """A run as it is shown.

        Args:
            trace: its moves.
            names: what gives tokens their names; default: new ones.
        """
        return _steps(trace, names or self.names())

    def names(self) -> Names:
        """What gives tokens their names in one run."""
        return Names(self._scripts())

    def anew(self) -> "Checker":
        """A checker of the same claim that has seen nothing."""
        return Checker(self._system, self._invariant, self.claim, self._raises, self._scripts)

    def _broken(self, actors: Sequence[Actor], serial: bool) -> str | None:
        """How the run broke the invariant, empty if it just does not hold; None when it holds."""
        told: tuple[Any, ...] = ()
        if self._told:
            told = (
                {
                    actor.name: actor.error if actor.error is not None else actor.returned
                    for actor in actors
                    if not actor.crashed
                },
            )
        try:
            with self._system.hosting(after=True):
                held = self._invariant(self._system.redis, self._system.db, *told)
        except AssertionError as error:
            return str(error).partition("\n")[0]
        except Exception as error:
            if serial:
                raise ImplementationError("The invariant", error) from error
            return f"What is left cannot be judged: {type(error).__name__}: {error}"
        except BaseException as error:
            if type(error).__name__ != "Failed":  # pytest.fail
                raise
            return str(error).partition("\n")[0]
        if not isinstance(held, bool | int) and type(held).__name__ not in {"bool", "bool_"}:
            raise InvalidSettingError(
                f"The invariant returned {held!r}, which is neither True nor False.",
                "Let it return a comparison, such as redis.get('n') == '2'.",
            )
        return None if held else ""

    def _keep(
        self, kind: str, reason: str, trace: Sequence[Taken], moves: Sequence[Move], serial: bool
    ) -> None:
        self.violations += 1
        self.serial = self.serial or (serial and _in_turn(trace))
        known = self.findings.get(kind)
        count = known.count + 1 if known else 1
        rank = _rank(trace)
        if known is not None and known.rank <= rank:
            self.findings[kind] = known.counted(count)
            return
        steps = tuple(self.steps(trace))
        self.findings[kind] = Finding(kind, count, reason, steps, tuple(moves), rank)


def _in_turn(trace: Sequence[Taken]) -> bool:
    """Whether no client came back after another one."""
    whose = [owner(taken.move.who) for taken in trace if taken.operation is not None]
    return len([who for who, _ in groupby(whose)]) == len(set(whose))


def _rank(trace: Sequence[Taken]) -> tuple[int, int, int]:
    """How much there is to follow: moves, those of the adversary, switches."""
    moves = [taken.move for taken in trace]
    extra = sum(move.kind not in _STEPS for move in moves)
    return len(moves), extra, sum(a.who != b.who for a, b in pairwise(moves))


def _steps(trace: Sequence[Taken], names: Names) -> list[Step]:
    steps = []
    for move, operation, note in trace:
        if operation is None:
            who, kind = ("redis", "expire") if move.kind == "expire" else ("time", move.kind)
            steps.append(Step(who, "pass" if kind == "wait" else kind, note))
            continue
        if operation.kind == "begin" and move.kind == "step":
            steps.append(Step("time", "enter", move.who))
            continue
        store = "redis" if operation.kind == "redis" else "database"
        reply = names.reply(operation) if move.kind in {"step", "lose"} else ""
        reply = f"waits, then {reply}" if operation.waited and reply else reply
        reply = ", ".join(part for part in (reply, note) if part)
        who, _, task = move.who.partition("\0")
        label = names.label(operation)
        if task > "1":
            label += f" (task {task})"
        steps.append(Step(who, move.kind, label, reply, store, operation.own))
    return steps


def _raised(name: str, error: BaseException) -> str:
    text = _ADDRESS.sub("", plain_error(error))
    told = f"{name} raised {type(error).__name__}: {text}".removesuffix(": ")
    if isinstance(error, UnicodeDecodeError):
        told += " (what is stored is no text; read it with decode_responses=False)"
    return told


def _waits(taken: Taken) -> bool:
    operation = taken.operation
    return operation is not None and operation.kind == "redis" and blocks(operation.commands[0])


def _last_of(trace: Sequence[Taken], who: str) -> int | None:
    """Where a client's last move stands."""
    return next((at for at in reversed(range(len(trace))) if trace[at].move.who == who), None)


def _takes_outcomes(invariant: Callable[..., Any]) -> bool:
    """True when it needs a third argument."""
    try:
        signature = inspect.signature(invariant)
        signature.bind(None, None, None)
    except (TypeError, ValueError):
        return False
    needed = [
        one
        for one in signature.parameters.values()
        if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    return len(needed) == 3
