"""What functions under study print: a few lines are shown, and all of it can be read afterwards.

A `print` in a function that runs some thousand times would bury the page.
"""

import contextlib
import io
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

__all__ = ["capped", "keep_in", "printed", "show"]

_LINES = 20
_SHOWN = 8_000  # characters
_CHARACTERS = 1 << 20

_last: list[str] = []


def printed() -> str:
    """What the functions of the last run, check or exploration printed that printed anything."""
    return "".join(_last)


@contextlib.contextmanager
def capped() -> Iterator[None]:
    """Show only the first lines of what a block of code prints, and say how many more there are."""
    if isinstance(sys.stdout, _Capped):  # an exploration in a check
        yield
        return
    shown = sys.stdout
    writer = _Capped(shown)
    try:
        with contextlib.redirect_stdout(writer):
            yield
    finally:
        writer.end()


def show(text: str) -> None:
    """Show the first lines of what was printed elsewhere, as `capped` does."""
    if text:
        with capped():
            sys.stdout.write(text)


def keep_in(path: Path) -> None:
    """From now on this process prints into a file, which others may write to, too."""
    sys.stdout = _Limited(path.open("a", encoding="utf-8", buffering=1))


class _Capped(io.TextIOBase):
    """Hands on the first lines, and keeps the rest."""

    def __init__(self, shown: TextIO) -> None:
        super().__init__()
        self._shown = shown
        self._lock = threading.Lock()
        self._lines = self._size = self._said = 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self._lock:
            if not self._size:
                _last.clear()
            if self._lines < _LINES and self._said < _SHOWN:
                lines = "".join(text.splitlines(keepends=True)[: _LINES - self._lines])
                self._said += self._shown.write(lines[: _SHOWN - self._said])
            self._lines += text.count("\n")
            if self._size < _CHARACTERS:
                _last.append(text)
            self._size += len(text)
        return len(text)

    def flush(self) -> None:
        self._shown.flush()

    def end(self) -> None:
        """Say how much was left out, and where to read it."""
        if self._said == self._size:
            return
        more, what = self._lines - _LINES, "line"
        if more <= 0:
            more, what = self._size - self._said, "character"
        cut = " (the first megabyte)" if self._size > _CHARACTERS else ""
        self._shown.write(
            f"… {more:,} more {what if more == 1 else what + 's'} printed. To read them{cut}:"
            " from labsupport import printed; print(printed())\n"
        )


class _Limited(io.TextIOBase):
    """Writes into a file until it is large."""

    def __init__(self, file: TextIO) -> None:
        super().__init__()
        self._file = file
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._size < _CHARACTERS:
            self._file.write(text)
        self._size += len(text)
        return len(text)

    def flush(self) -> None:
        self._file.flush()
