"""`threading.local` while clients are explored: each client is a thread of its own to it, in each run."""

import ctypes
from collections.abc import Iterable
from typing import Any

__all__ = ["OwnLocals"]

_dict_of_thread = ctypes.pythonapi.PyThreadState_GetDict
_dict_of_thread.restype = ctypes.c_void_p  # borrowed, which py_object would take for its own


class OwnLocals:
    """What one client keeps in the thread's locals; they live in a dict of the thread, by their address.

    Args:
        locals_: those that matter, which are kept alive.
    """

    def __init__(self, locals_: Iterable[Any]) -> None:
        self._locals = list(locals_)
        self._keys = [f"thread.local.{id(one):#x}" for one in self._locals]
        self._kept: dict[str, Any] = {}

    def restart(self) -> None:
        """Forget what a run has kept: a thread begins with nothing."""
        self._kept.clear()

    def swap(self) -> None:
        """Exchange the thread's for the client's, and back again."""
        if not self._keys:
            return
        thread: dict[str, Any] = ctypes.cast(_dict_of_thread(), ctypes.py_object).value
        kept, self._kept = self._kept, {}
        for key in self._keys:
            if key in thread:
                self._kept[key] = thread.pop(key)
        thread.update(kept)
