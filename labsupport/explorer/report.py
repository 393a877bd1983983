"""What an exploration found, in text."""

from dataclasses import dataclass, field

from labsupport.explorer.operations import shorten
from labsupport.verdict import Verdict

__all__ = ["Report", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a schedule.

    Args:
        client: who took it; "redis" for a key that expired.
        move: "step", "crash" (in place of the step), "expire", or "timeout" (a blocking command's).
        label: the command or statement, e.g. "GET user:1"; it starts with the command's name.
        reply: what came back, in a few characters; empty where it says nothing.
        store: "redis" or "database".
    """

    client: str
    move: str
    label: str
    reply: str = ""
    store: str = "redis"

    def __str__(self) -> str:
        match self.move:
            case "crash":
                return f"crashes before {self.label}"
            case "expire":
                return f"{self.label} expires"
            case "timeout":
                return f"{self.label} times out"
        return f"{self.label} → {self.reply}" if self.reply else self.label


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The result of `explore`; as a cell's last value it shows itself.

    Args:
        interleavings: complete orders that were run (one of each class of equivalent ones if pruned).
        violations: those after which the invariant did not hold.
        exhausted: True when every order was run.
        counterexample: the shortest order that breaks the invariant; None when none does.
        reason: how the counterexample ended, in one line.
        given_up: why not every order was run; empty when they were.
        verdict: the claim that the invariant holds in every order.
        clients: the clients' names, in order.
        seconds: how long it took; not part of the text.
    """

    interleavings: int
    violations: int
    exhausted: bool
    counterexample: list[Step] | None
    verdict: Verdict
    clients: tuple[str, ...]
    reason: str = ""
    given_up: str = ""
    pruned: bool = False
    seconds: float = field(default=0.0, compare=False)

    @property
    def headline(self) -> str:
        """The finding in one line: "10 interleavings, 1 breaks the invariant"."""
        kind = "classes of interleavings" if self.pruned else "interleavings"
        if self.interleavings == 1:
            kind = kind.replace("classes", "class") if self.pruned else "interleaving"
        if self.violations == 0:
            found = "none breaks the invariant"
        elif self.violations == 1:
            found = "1 breaks the invariant"
        else:
            found = f"{self.violations:,} break the invariant"
        return f"{self.interleavings:,} {kind}, {found}"

    def __str__(self) -> str:
        lines = [self.headline]
        if self.given_up:
            lines.append(f"Not exhausted: {self.given_up}")
        if self.counterexample is not None:
            lines += ["", self.schedule, ""]
        return "\n".join([*lines, str(self.verdict)])

    __repr__ = __str__

    @property
    def schedule(self) -> str:
        """The counterexample with a column for each client; empty when there is none."""
        if self.counterexample is None:
            return ""
        lanes = [*self.clients]
        if any(step.client not in lanes for step in self.counterexample):
            lanes.append("redis")
        cells = [(lanes.index(s.client), shorten(str(s), 56)) for s in self.counterexample]
        widths = [
            max(len(lane), *(len(text) for at, text in cells if at == i), 0)
            for i, lane in enumerate(lanes)
        ]
        rows = ["    " + "  ".join(lane.ljust(w) for lane, w in zip(lanes, widths, strict=True))]
        for number, (at, text) in enumerate(cells, 1):
            offset = sum(widths[:at]) + 2 * at
            rows.append(f"{number:>2}  {' ' * offset}{text}")
        return "\n".join([*(row.rstrip() for row in rows), "", self.reason])
