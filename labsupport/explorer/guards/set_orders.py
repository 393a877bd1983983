"""Noticing who goes through a set of plain objects: these are in the order of their addresses."""

import dis
import functools
import gc
import inspect
import sys
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

from labsupport.explorer.clients.loops import forget_shown
from labsupport.explorer.clients.namespaces import installed

__all__ = ["sets_gone_through"]

_BY_ADDRESS: Any = object.__hash__
_SET_ITERATOR: type = type(iter(set()))
_TO_ITS_END = sys.maxsize
_OURS = 3  # references to one of the old iterators: the list's, the loop's and the call's
_KEEPING = frozenset((name,) for name in ("enumerate", "iter", "list", "tuple"))  # … an order


@contextmanager
def sets_gone_through() -> Iterator[Callable[[FrameType], str]]:
    """Watch who goes through sets of plain objects; to be entered before the clients begin.

    These are in the order of their addresses, which is another in each process, and in each run.

    Returns:
        What tells the name of such a set that a frame of one's own code goes through; "" if there is none.
    """
    old: list[Any] = []

    def now() -> list[Any]:
        """Those that are gone through: a frame does not tell of a set without a name."""
        return _young_iterators() + [one for one in old if sys.getrefcount(one) > _OURS]

    def keep(phase: str, told: Mapping[str, int]) -> None:
        """Note the iterators that the collector will no longer count among the young ones."""
        nonlocal old
        if phase == "start" and told["generation"] > 0:
            old = now()

    gc.callbacks.append(keep)
    try:
        before = now()
        yield lambda frame: _unordered(frame, now, before)
    finally:
        gc.callbacks.remove(keep)
        old = before = []  # what they go through is nobody's any more


def _unordered(frame: FrameType, now: Callable[[], list[Any]], before: Collection[Any]) -> str:
    """See `sets_gone_through`."""
    at = frame.f_lasti
    known = [one for one in _goes_through(frame.f_code) if one[1] < at < one[2]]
    for path, _, end in known:
        if not path:
            continue
        shown = frame.f_locals
        value: Any = shown.get(path[0], frame.f_globals.get(path[0]))
        forget_shown(frame, shown)
        for name in path[1:]:
            value = inspect.getattr_static(value, name, None)
        most = 1 if end == _TO_ITS_END else 2  # what is taken out of it is no longer there
        value = vars(value)["data"] if type(value) is weakref.WeakSet else value
        a_set = type(value) in (set, frozenset) and len(value) >= most
        if a_set and any(map(_by_address, value)):
            return ".".join(path)
    for one in now() if any(end != _TO_ITS_END for _, _, end in known) else ():
        for some in () if any(one is other for other in before) else gc.get_referents(one):
            mine = [each for each in some if not installed(type(each).__module__)]
            if len(some) > 1 and any(map(_by_address, mine)):
                return "{…}"
    return ""


def _young_iterators() -> list[Any]:
    """The iterators of sets that were made not long ago."""
    found = []
    for age in (0, 1) if gc.isenabled() else ():
        for one in gc.get_objects(age):  # a list of all of them would hold itself, and so all
            if type(one) is _SET_ITERATOR:
                found.append(one)
    return found


def _by_address(thing: Any) -> bool:
    one = thing() if issubclass(type(thing), weakref.ref) else thing
    return type(one).__hash__ is _BY_ADDRESS


@functools.lru_cache(maxsize=4096)
def _goes_through(code: CodeType) -> tuple[tuple[tuple[str, ...], int, int], ...]:
    """What a `for` goes through, or pop() takes from, by its name; and between which instructions."""
    found: list[tuple[tuple[str, ...], int, int]] = []
    path, source, ordered = tuple[str, ...](), tuple[str, ...](), ""
    for one in dis.get_instructions(code):
        if one.opname == "FOR_ITER":
            found.append((source, one.offset, one.argval))
        source = path if one.opname == "GET_ITER" else ()
        if one.opname in {"LOAD_ATTR", "LOAD_METHOD"} and path:
            if one.argval == "pop":
                found.append((path, one.offset, _TO_ITS_END))
            path = (*path, one.argval)
        elif one.opname.startswith("LOAD_"):
            ordered = path[0] if path in _KEEPING else ""
            path = (one.argval,) if isinstance(one.argval, str) else ()
        elif one.opname not in {"PRECALL", "CALL", "PUSH_NULL"} or not ordered:
            path = ()
    return tuple(found)
