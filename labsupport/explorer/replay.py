"""Steps that are run again, one when the next is asked for."""

import inspect
import threading
import weakref
from collections.abc import Generator
from typing import Any, ClassVar

from labsupport.errors import InvalidSettingError

__all__ = ["Replay"]


class Replay:
    """An iterator over steps that are run again: whoever holds it may never ask for the next one.

    Args:
        steps: between two of them, nothing else is explored; a new exploration ends them.
    """

    _latest: ClassVar["weakref.ref[Replay] | None"] = None

    def __init__(self, steps: Generator[Any, None, None]) -> None:
        self._steps = steps
        self._thread = threading.get_ident()
        self._ended = False

    def __iter__(self) -> "Replay":
        return self

    def __next__(self) -> Any:
        if self._ended:
            raise InvalidSettingError(
                "Another exploration has begun, and has ended this replay.",
                "Ask for it again: report.replay().",
            )
        Replay._latest = weakref.ref(self)
        return next(self._steps)

    def close(self) -> None:
        """Run no more steps."""
        self._steps.close()

    @classmethod
    def end(cls) -> None:
        """End the one that waits in this thread for somebody to ask; a failed test's traceback holds it."""
        one = cls._latest() if cls._latest else None
        if one is None or one._thread != threading.get_ident():
            return
        if inspect.getgeneratorstate(one._steps) == inspect.GEN_SUSPENDED:
            one._ended = True
            one.close()
