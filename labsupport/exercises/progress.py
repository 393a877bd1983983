"""What the learner has passed, what was refused, which hints were shown; a file beside the notebooks."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Progress"]

_FILE = ".progress.json"
_LONGEST, _MOST = 160, 20  # letters of a reason, reasons of an exercise


@dataclass(slots=True)
class Progress:
    """What is kept of a learner's work.

    Args:
        path: the file; default: the variable LAB_PROGRESS, or a file in the working directory.
        passed: the numbers of the exercises that were passed.
        hints: how many hints were shown, by the exercise's number.
        refused: why answers were refused and how often, by the exercise's number; a teacher reads it.
    """

    path: Path = field(default_factory=lambda: Path(os.environ.get("LAB_PROGRESS", _FILE)))
    passed: list[str] = field(default_factory=list)
    hints: dict[str, int] = field(default_factory=dict)
    refused: dict[str, dict[str, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with suppress(OSError, ValueError, TypeError, AttributeError):  # absent, or damaged: anew
            saved = json.loads(self.path.read_text(encoding="utf-8"))
            self.passed = [str(number) for number in saved["passed"]]
            self.hints = {str(key): int(value) for key, value in saved["hints"].items()}
            self.refused = {
                str(key): {str(why): int(count) for why, count in value.items()}
                for key, value in saved.get("refused", {}).items()
            }

    def note(self, number: str, reason: str) -> None:
        """Count a refusal by the clause of the contract that was broken, or by its first line."""
        _, _, clause = reason.rpartition("The contract: ")
        short = clause.partition("\n")[0][:_LONGEST]
        reasons = self.refused.setdefault(number, {})
        if short in reasons or len(reasons) < _MOST:  # numbers of a run may make each one new
            reasons[short] = reasons.get(short, 0) + 1

    def save(self) -> None:
        """Write the file; a read-only folder costs the memory of progress, nothing else."""
        with suppress(OSError):
            new = self.path.with_suffix(".new")
            kept = {"passed": self.passed, "hints": self.hints, "refused": self.refused}
            new.write_text(json.dumps(kept, indent=1, ensure_ascii=False), encoding="utf-8")
            new.replace(self.path)
