"""What the functions of two clients share in the memory of the process, where pruning cannot see it."""

import functools
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from labsupport.explorer.clients.namespaces import installed, names_of

__all__ = ["shared_names"]

_FIXED = (
    int, float, complex, str, bytes, bool, tuple, frozenset, type(None), type, range, ModuleType,
    FunctionType, BuiltinFunctionType, MethodType,
)  # fmt: skip


def shared_names(clients: Mapping[str, Callable[..., Any]]) -> list[str]:
    """Names of the values that may change and that more than one client's function reaches, sorted."""
    users: dict[int, set[str]] = {}
    names: dict[int, str] = {}
    for client, function in clients.items():
        for name, value in _mutable(function).items():
            users.setdefault(id(value), set()).add(client)
            names.setdefault(id(value), name)
    return sorted({names[at] for at, found in users.items() if len(found) > 1})


def _mutable(function: Callable[..., Any]) -> dict[str, Any]:
    """The values that a function and those that it calls reach by a name, and that may change."""
    found: dict[str, Any] = {}
    seen: set[int] = set()
    queue: list[Any] = [function]
    while queue:
        thing = queue.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, functools.partial):
            queue.append(thing.func)
            continue
        if isinstance(thing, MethodType):
            queue.append(thing.__func__)
            if _may_change(thing.__self__):
                found[type(thing.__self__).__name__] = thing.__self__
            continue
        if not isinstance(thing, FunctionType) or installed(thing.__module__ or ""):
            continue
        for name, value in _names(thing):
            if isinstance(value, FunctionType | MethodType | functools.partial):
                queue.append(value)
            elif _may_change(value):
                found[name] = value
    return found


def _names(function: FunctionType) -> list[tuple[str, Any]]:
    known = [
        (name, function.__globals__[name])
        for name in names_of(function.__code__)
        if name in function.__globals__
    ]
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            known.append((name, cell.cell_contents))
        except ValueError:  # not yet assigned
            continue
    return known


def _may_change(value: Any) -> bool:
    if isinstance(value, _FIXED):
        return False
    kind = type(value)
    return kind.__module__ in {"builtins", "collections"} or not installed(kind.__module__)
