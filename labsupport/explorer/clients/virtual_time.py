"""Time as a client under exploration sees it: a sleep yields, and takes none."""

import functools
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType, MethodType
from typing import Any

from greenlet import getcurrent

from labsupport.explorer.clients.actor import Actor

__all__ = ["virtual_time"]

_INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))


def _actor() -> Actor | None:
    return getattr(getcurrent(), "actor", None)


def _skew() -> float:
    actor = _actor()
    return 0.0 if actor is None else actor.clock


class _VirtualTime:
    """Stands for the module `time`: inside a client, `sleep` yields and moves that client's clock."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    @staticmethod
    def sleep(seconds: float) -> None:
        actor = _actor()
        if actor is None:
            time.sleep(seconds)
        else:
            actor.sleep(seconds)

    @staticmethod
    def time() -> float:
        return time.time() + _skew()

    @staticmethod
    def time_ns() -> int:
        return time.time_ns() + int(_skew() * 1e9)

    @staticmethod
    def monotonic() -> float:
        return time.monotonic() + _skew()

    @staticmethod
    def monotonic_ns() -> int:
        return time.monotonic_ns() + int(_skew() * 1e9)

    @staticmethod
    def perf_counter() -> float:
        return time.perf_counter() + _skew()


_VIRTUAL = _VirtualTime()
_STAND_INS: dict[int, Any] = {id(time): _VIRTUAL} | {
    id(getattr(time, name)): getattr(_VIRTUAL, name)
    for name in ("sleep", "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter")
}


@contextmanager
def virtual_time(functions: Iterable[Callable[..., Any]]) -> Iterator[None]:
    """Replace `time`, and names imported from it, in the namespaces that `functions` use.

    Only the learner's own namespaces are touched, and only for the length of the block; the
    interpreter's `time` stays as it is.
    """
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for namespace in _namespaces(functions):
            for name, value in list(namespace.items()):
                if id(value) in _STAND_INS:
                    replaced.append((namespace, name, value))
                    namespace[name] = _STAND_INS[id(value)]
        yield
    finally:
        for namespace, name, value in replaced:
            namespace[name] = value


def _namespaces(functions: Iterable[Callable[..., Any]]) -> list[dict[str, Any]]:
    """The globals of the functions, and of the learner's functions that these reach."""
    found: dict[int, dict[str, Any]] = {}
    seen: set[int] = set()
    queue: list[Any] = list(functions)
    while queue:
        thing = queue.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, functools.partial | MethodType):
            queue.append(getattr(thing, "func", None) or thing.__func__)  # type: ignore[union-attr]
        elif isinstance(thing, type) and not _installed(getattr(thing, "__module__", "")):
            queue.extend(vars(thing).values())
        elif isinstance(thing, FunctionType):
            queue.extend(_enclosed(thing))  # a check's own function encloses the learner's
            # by the file of its code: what a cell defines belongs to the module that runs the cell
            if _ours(thing.__module__) or thing.__code__.co_filename.startswith(_INSTALLED):
                continue
            found[id(thing.__globals__)] = thing.__globals__
            queue.extend(_named(thing))
        elif type(thing).__module__ not in {"builtins", "labsupport"} and callable(thing):
            queue.append(type(thing))
    return list(found.values())


def _enclosed(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not yet assigned
            continue


def _named(function: FunctionType) -> Iterator[Any]:
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _installed(module: str) -> bool:
    """True for the standard library, installed packages and the lab itself."""
    import sys

    if _ours(module):
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    return file is not None and file.startswith(_INSTALLED)


def _ours(module: str | None) -> bool:
    return (module or "").partition(".")[0] == "labsupport"
