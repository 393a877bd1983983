"""What an exploration found, in text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from labsupport.errors import InvalidSettingError
from labsupport.explorer.names import shorten
from labsupport.explorer.operations import Move
from labsupport.verdict import Verdict

__all__ = ["Finding", "Moment", "Report", "Rerun", "Step"]

_MANY = 4  # attempts in vain; as many are shown once

Tables = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a schedule.

    Args:
        client: who took it; "redis" for a key that expired, "time" for time that passed.
        move: "step", "lose" (taken, and the reply is lost), "crash" (in place of the step), "timeout"
            (a blocking command's), "arrive" (its reply, later), "expire", "pass", "enter" (of a client
            that may begin after others' steps), "begin" (later, when time has passed), or "stuck" (for
            ever before this step).
        label: the command or statement, e.g. "GET user:1"; it starts with the command's name.
        reply: what came back, in a few characters; empty where it says nothing.
        store: "redis" or "database".
        own: True on a database engine of the code's own, whose rows the explorer does not read.
    """

    client: str
    move: str
    label: str
    reply: str = ""
    store: str = "redis"
    own: bool = False

    def __str__(self) -> str:
        match self.move:
            case "crash":
                return f"crashes before {self.label}"
            case "expire":
                return f"{self.label} expires"
            case "arrive":
                return f"the reply of {self.label} arrives"
            case "timeout":
                return f"{self.label} times out"
            case "enter":
                return f"{self.label} begins"
            case "begin":
                return f"{self.label} begins later"
            case "pass":
                return f"{self.label} pass"
            case "stuck":
                return f"waits for ever: {self.label}"
            case "lose":
                reply = f" → {self.reply}" if self.reply else ""
                return f"{self.label}{reply}, and the reply is lost"
        return f"{self.label} → {self.reply}" if self.reply else self.label


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of violation.

    Args:
        kind: "broken" (the invariant), "raised" (a client), or "stuck" (nobody can move on).
        count: after how many orders.
        reason: how the shortest of them ended, in one line.
        schedule: its steps.
        moves: the moves that lead there.
        rank: how much there is to follow.
    """

    kind: str
    count: int
    reason: str
    schedule: tuple[Step, ...]
    moves: tuple[Move, ...]
    rank: tuple[int, int, int]

    def counted(self, count: int) -> Finding:
        """The same, seen once more."""
        return replace(self, count=count)


@dataclass(frozen=True, slots=True)
class Moment:
    """One step of an order that is run again, and what there is after it.

    Args:
        step: what was done.
        redis: what is in Redis now, by key.
        tables: the committed rows of each table that a statement names, of the database that is handed out.
    """

    step: Step
    redis: dict[str, Any]
    tables: Tables = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rerun:
    """One order, run again to its end.

    Args:
        moments: its steps; the first is the state before them, and no step. Empty where nobody looked.
        moves: those that were made, one for each step.
        finding: what was wrong in the end; None when nothing was.
    """

    moments: tuple[Moment, ...]
    moves: tuple[Move, ...]
    finding: Finding | None


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The result of `explore`; as a cell's last value it shows itself.

    Args:
        interleavings: orders that were run to their end (one of each class of equivalent ones if
            pruned).
        findings: the violations by kind, the shortest schedule first.
        exhausted: True when every order was run.
        verdict: the claim that the invariant holds in every order.
        clients: the clients' names, in order.
        given_up: why not every order was run; empty when they were.
        pruned: True when one order of each class was run.
        serial: True when even one client after the other breaks it: then it is no race.
        notes: what limits the answer, a sentence each.
        seconds: how long it took; not part of the text.
    """

    interleavings: int
    findings: tuple[Finding, ...]
    exhausted: bool
    verdict: Verdict
    clients: tuple[str, ...]
    given_up: str = ""
    pruned: bool = False
    serial: bool = False
    notes: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)
    again: Callable[[tuple[Move, ...]], Iterator[Moment]] | None = field(
        default=None, compare=False, repr=False
    )
    anew: Callable[..., Rerun] | None = field(default=None, compare=False, repr=False)

    @property
    def violations(self) -> int:
        """After how many orders something was wrong."""
        return sum(finding.count for finding in self.findings)

    @property
    def counterexample(self) -> list[Step] | None:
        """The shortest order that breaks the claim; None when none does.

        What is tried many times in vain, with as much time between, stands there twice.
        """
        return _folded(self.findings[0].schedule) if self.findings else None

    @property
    def reason(self) -> str:
        """How the counterexample ended, in one line."""
        return self.findings[0].reason if self.findings else ""

    @property
    def headline(self) -> str:
        """The finding in one line: "10 interleavings, 1 breaks the invariant"."""
        kind = "classes of interleavings" if self.pruned else "interleavings"
        if self.interleavings == 1:
            kind = kind.replace("classes", "class") if self.pruned else "interleaving"
        stuck = sum(finding.count for finding in self.findings if finding.kind == "stuck")
        broken = self.violations - stuck
        found = []
        if broken:
            found.append(f"{broken:,} {'breaks' if broken == 1 else 'break'} the invariant")
        if stuck:
            found.append(f"in {stuck:,} nobody can move on")
        return f"{self.interleavings:,} {kind}, {', '.join(found) or 'none breaks the invariant'}"

    def __str__(self) -> str:
        lines = [self.headline]
        if self.serial and len(self.clients) > 1:
            lines.append("It breaks even with one client after the other: that is no race.")
        if self.given_up:
            lines.append(f"Not exhausted: {self.given_up}")
        lines += self.notes
        if self.counterexample is not None:
            lines += ["", self.schedule, ""]
        return "\n".join([*lines, str(self.verdict)])

    __repr__ = __str__

    def __bool__(self) -> NoReturn:
        __tracebackhide__ = True
        raise InvalidSettingError(
            "A report is neither true nor false.",
            "Write explore(…).check(), which raises with the schedule unless the claim holds.",
        )

    def check(self) -> Report:
        """Raise unless the claim holds in every order; returns the report.

        Raises:
            AssertionError: an order breaks it, or not every order was run; the message is the report.
        """
        __tracebackhide__ = True  # pytest then shows the test's own line, and the schedule
        if self.verdict.status != "holds":
            # pytest's summary shows the first line alone
            raise AssertionError(str(self) if self.findings else f"Not every order was run: {self}")
        return self

    def replay(self) -> Iterator[Moment]:
        """Run the counterexample again, alone, one step each time that the next value is asked for.

        A debugger can stop in the functions meanwhile.

        Returns:
            an iterator over the steps, each with what is in Redis after it.

        Raises:
            InvalidSettingError: there is no counterexample.
        """
        if not self.findings or self.again is None:
            raise _nothing_to_replay()
        return self.again(self.findings[0].moves)

    def rerun(self, moves: tuple[Move, ...] | None = None) -> Rerun:
        """Run one order to its end, and look at what there is after each step.

        Args:
            moves: the order; default: the counterexample's. A move that cannot be made where it stands
                is left out, and in the end one client after the other runs on.

        Raises:
            InvalidSettingError: there is no counterexample.
        """
        if not self.findings or self.anew is None:
            raise _nothing_to_replay()
        return self.anew(self.findings[0].moves if moves is None else moves)

    @property
    def schedule(self) -> str:
        """The counterexample with a column for each client; empty when there is none.

        The steps that decide, the adversary's and the last one, are shown whole.
        """
        steps = self.counterexample
        if steps is None:
            return ""
        lanes = [*self.clients]
        others = {s.client for s in steps} - set(lanes)
        lanes += [name for name in ("redis", "time") if name in others]
        whole = {
            at for at, step in enumerate(steps) if step.move not in {"step", "arrive", "timeout"}
        }
        whole.add(len(steps) - 1)
        cells = [
            (lanes.index(step.client), str(step) if at in whole else _fitted(step, 56))
            for at, step in enumerate(steps)
        ]
        widths = [
            max(len(lane), *(min(len(text), 56) for at, text in cells if at == i), 0)
            for i, lane in enumerate(lanes)
        ]
        digits = max(2, len(str(len(cells))))
        rows = [
            " " * (digits + 2)
            + "  ".join(lane.ljust(w) for lane, w in zip(lanes, widths, strict=True))
        ]
        for number, (at, text) in enumerate(cells, 1):
            offset = sum(widths[:at]) + 2 * at
            rows.append(f"{number:>{digits}}  {' ' * offset}{text}")
        return "\n".join([*(row.rstrip() for row in rows), "", self.reason])


def _nothing_to_replay() -> InvalidSettingError:
    return InvalidSettingError(
        "There is no counterexample to replay.", "Look at `counterexample` first."
    )


def _folded(steps: Sequence[Step]) -> list[Step]:
    """The steps, with one for all attempts that are alike and followed by the same time."""
    shown: list[Step] = []
    at = 0
    while at < len(steps):
        pair, times = steps[at : at + 2], 1
        attempt = [step.move for step in pair] == ["step", "pass"]
        while attempt and steps[at + 2 * times :][:2] == pair:
            times += 1
        if times < _MANY:
            shown.append(steps[at])
            at += 1
            continue
        seconds = times * float(pair[1].label.removesuffix(" s").replace(",", ""))
        again = f"{times - 1} times more, in {seconds:,g} s"
        reply = ", ".join(filter(None, (pair[0].reply, again)))
        shown += [pair[0], replace(pair[0], label=shorten(pair[0].label, 16), reply=reply)]
        at += 2 * times
    return shown


def _fitted(step: Step, width: int) -> str:
    """A step in so many characters: neither a statement's condition nor a reply is given up."""
    text = str(step)
    if len(text) <= width:
        return text
    parts = _STATEMENT.match(text) if step.store == "database" else None
    head, listed, rest = parts.groups() if parts else text.partition(step.label)
    return head + shorten(listed, max(width - len(head) - len(rest), 1)) + rest


_STATEMENT = re.compile(
    r"(SELECT |UPDATE \S+ SET )(.*?)( FROM .*| WHERE .*)$", re.IGNORECASE | re.DOTALL
)
