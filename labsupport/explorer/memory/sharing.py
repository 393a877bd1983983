"""What the functions of two clients share in the memory of the process, where pruning cannot see it."""

import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any

from labsupport.explorer.clients.seats import SharedLock
from labsupport.explorer.memory.reach import Reach
from labsupport.explorer.memory.things import is_theirs

__all__ = ["shared_locks", "shared_names"]

_REENTRANT, _PLAIN_LOCK = type(threading.RLock()), type(threading.Lock())
_RECURSIVE = 0  # the kind of a SemLock of multiprocessing's
# of a function, or a partial one, what is changed when it is named
_OF_CODE: dict[type, set[str]] = {
    FunctionType: {"__code__", "__defaults__", "__kwdefaults__", "cell_contents"},
    functools.partial: {"keywords"},
    ModuleType: set(),
    type: set(),
}
# by which an object of a library's, that is else the same for all, is changed
_SETTERS = frozenset({"addFilter", "addHandler", "removeFilter", "removeHandler", "setLevel"})
_SETTERS |= {"set_response_callback", "set_retry"}


def shared_names(
    clients: Mapping[str, Any],
    *,
    logs: bool = True,
    reader: Callable[..., Any] | None = None,
) -> list[str]:
    """Names of what may change and what more than one client's function reaches, sorted.

    A Counter that is only updated, and that neither a client nor the reader looks at, is left out: it
    comes to the same in any order.

    Args:
        clients: the functions, or several of each, by name.
        logs: also lists that are only appended to, which neither a client nor the reader looks at.
        reader: the invariant.
    """
    reached = [Reach(function) for function in clients.values()]
    lookers = [*reached, Reach(reader, counts=True)] if reader is not None else reached
    looked_at = {at for one in lookers for at in one.looked_at}
    for one in reached:
        for at in (one.counters if logs else one.lists | one.counters) - looked_at:
            one.values.pop(at, None)
    shared: set[str] = set()
    for one in reached:
        for other in reached:
            if one is other:
                continue
            shared.update(one.values[at] for at in one.values.keys() & other.values.keys())
            shared.update(other.values[at] for at in one.inside.keys() & other.values.keys())
            for at in one.inside.keys() & other.inside.keys():
                keepers = one.inside[at] | other.inside[at]
                shared.update(keepers.values() if len(keepers) > 1 else ())
            shared.update(name for at, name in one.bound.items() if at in other.variables)
            used = {at for at, _ in other.variables}
            shared.update(word for at, word in one.namespaces.items() if at in used)
            for at in one.owners.keys() & other.owners.keys():
                name, owner = one.owners[at]
                inner = one.words & _OF_CODE.get(type(owner), _SETTERS)
                kept = (_is_kept(owner, word) for word in one.sets)
                if "setattr" in one.sets or inner or any(kept):
                    shared.add(name)
            shared.update(_set_from_outside(one, other))
            shared.update(_set_in_libraries(one, other))
    return sorted(shared)


def shared_locks(clients: Mapping[str, Any]) -> list[SharedLock]:
    """Locks that more than one client's function reaches; all clients are one thread to them.

    Args:
        clients: the functions, or several of each, by name.
    """
    reached = [Reach(function) for function in clients.values()]
    times = Counter(at for one in reached for at in one.values)
    found = {}
    for one in reached:
        for at, name in one.values.items():
            lock = _lock(name, one.seen.get(at)) if times[at] > 1 else None
            if lock is not None:
                found[id(getattr(lock.held, "__self__", None))] = lock
    return list(found.values())


def _lock(name: str, lock: Any) -> SharedLock | None:
    """What is known of a lock; None of anything else."""
    by_processes = type(lock).__module__ == "multiprocessing.synchronize"
    if by_processes or issubclass(type(lock), threading.Condition):
        lock = vars(lock).get("_lock", lock)  # a condition's
    if by_processes:
        inner = vars(lock)["_semlock"]
        again = inner.kind == _RECURSIVE
        return SharedLock(name, inner._is_mine if again else inner._is_zero, again)
    if issubclass(type(lock), _REENTRANT):
        return SharedLock(name, lock._is_owned, again=True)
    return (
        SharedLock(name, lock.locked, again=False) if issubclass(type(lock), _PLAIN_LOCK) else None
    )


def _set_from_outside(one: "Reach", other: "Reach") -> Iterator[str]:
    """The modules whose global names one sets as attributes, and another uses as its own."""
    for name, owner in one.owners.values():
        if isinstance(owner, ModuleType):
            used = {known for at, known in other.variables if at == id(vars(owner))}
            if used & one.sets or (used and "setattr" in one.sets):
                yield name


def _set_in_libraries(one: "Reach", other: "Reach") -> Iterator[str]:
    """What one sets attributes of in libraries, and another reaches, or asks for by their names."""
    known = other.seen.keys() | other.owners.keys() | other.theirs.keys()
    for (at, attribute), word in one.libraries.items():
        if at in known or attribute in other.words:
            yield word
    wanted = one.sets_elsewhere & other.words
    for name, owner in one.theirs.values():
        if any(_may_be_set(owner, word, one.handed) for word in wanted):
            yield name


def _is_kept(owner: Any, name: str) -> bool:
    """Whether a class, module or function itself keeps an attribute; a descriptor's are its objects'."""
    return name in vars(owner) and not hasattr(vars(owner)[name], "__set__")


def _may_be_set(owner: Any, name: str, handed: set[str]) -> bool:
    """Whether a library's class, module or function keeps what code of one's own may have set there."""
    if not _is_kept(owner, name) or is_theirs(vars(owner)[name]):
        return False
    return not isinstance(owner, ModuleType) or name in handed or name not in _written(owner)


def _written(module: ModuleType) -> frozenset[str]:
    """The names that a module's own code uses; none if it is written in C."""
    get_code = getattr(getattr(module.__spec__, "loader", None), "get_code", None)
    with suppress(ImportError, OSError):  # it goes by another name
        code = get_code(module.__name__) if get_code is not None else None
        return frozenset(code.co_names if code is not None else ())
    return frozenset()
