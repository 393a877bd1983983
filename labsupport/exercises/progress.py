"""What the learner has passed and which hints were shown; a file beside the notebooks."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Progress"]

_FILE = ".progress.json"


@dataclass(slots=True)
class Progress:
    """What is kept of a learner's work.

    Args:
        path: the file; default: the variable LAB_PROGRESS, or a file in the working directory.
        passed: the numbers of the exercises that were passed.
        hints: how many hints were shown, by the exercise's number.
    """

    path: Path = field(default_factory=lambda: Path(os.environ.get("LAB_PROGRESS", _FILE)))
    passed: list[str] = field(default_factory=list)
    hints: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with suppress(OSError, ValueError, TypeError, AttributeError):  # absent, or damaged: anew
            saved = json.loads(self.path.read_text())
            self.passed = [str(number) for number in saved["passed"]]
            self.hints = {str(key): int(value) for key, value in saved["hints"].items()}

    def save(self) -> None:
        """Write the file; a read-only folder costs the memory of progress, nothing else."""
        with suppress(OSError):
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps({"passed": self.passed, "hints": self.hints}, indent=1))
            new.replace(self.path)
