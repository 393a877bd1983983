"""Putting the stand-ins in place for the length of an exploration.

Functions are replaced in the interpreter's modules, and where libraries or the explored code keep one of
their own. Classes that are written in Python are replaced for the explored code alone.
"""

import builtins
import importlib
import operator
import os
import queue
import sched
import sys
import threading
import time
import timeit
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from types import FunctionType, ModuleType
from typing import Any

from labsupport.explorer.clients.captured import Captured, stand_in_for
from labsupport.explorer.clients.namespaces import Namespaces, installed
from labsupport.explorer.guards.foreign import OF_DRIVERS, driver_imported
from labsupport.explorer.stand_ins import chance, clocks, machine
from labsupport.explorer.stand_ins.timekeeper import timekeeper_here

__all__ = ["standing_in"]


def _importing_by_name(usual: Callable[..., Any]) -> Callable[..., Any]:
    def import_module(name: str, package: str | None = None) -> Any:
        found = usual(name, package)
        driver_imported(found.__name__)
        return found

    return import_module


_FUNCTIONS: list[tuple[ModuleType, dict[str, Any]]] = [
    (time, clocks.CLOCKS),
    (queue, {"time": clocks.CLOCKS["monotonic"]}),
    (threading, {"_time": clocks.CLOCKS["monotonic"]}),
    (timeit, {"default_timer": clocks.CLOCKS["perf_counter"]}),
    (importlib, {"import_module": _importing_by_name(importlib.import_module)}),
    *chance.FUNCTIONS,
    *machine.FUNCTIONS,
]
_CLASSES = [*chance.CLASSES, *machine.CLASSES]


class _Module(ModuleType):
    """A module, some of whose names lead elsewhere."""

    def __init__(self, module: ModuleType, names: dict[str, Any]) -> None:
        super().__init__(module.__name__, module.__doc__)
        self.__dict__["_module"] = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_module"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            super().__setattr__(name, value)
        else:
            setattr(self.__dict__["_module"], name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__dict__["_module"], name)


def _by_identity(replaced: Iterable[tuple[ModuleType, dict[str, Any]]]) -> dict[int, Any]:
    return {
        id(getattr(module, name)): value
        for module, names in replaced
        for name, value in names.items()
    }


_MODULES = {module.__name__: _Module(module, names) for module, names in _CLASSES}
_OF_LIBRARIES = _by_identity(_FUNCTIONS)
_OF_ITS_OWN = (
    _OF_LIBRARIES
    | _by_identity(_CLASSES)
    | {id(module): _MODULES[module.__name__] for module, _ in _CLASSES}
)


_Site = tuple[dict[str, Any], str, Any, Any]
_Default = tuple[FunctionType, str, Any, Any]


@contextmanager
def standing_in(functions: Iterable[Callable[..., Any]]) -> Iterator[Captured]:
    """Put the stand-ins in place; what the explored code keeps is looked for at the beginning.

    Args:
        functions: the clients, `given` and the invariant.

    Returns:
        What the functions have kept, with the generators of random numbers among it.

    Raises:
        NotSteppableError: a clock has been replaced by another.
    """
    functions = list(functions)
    clocks.refuse_other_clocks()
    _OF_LIBRARIES.update(OF_DRIVERS)
    _OF_ITS_OWN.update(OF_DRIVERS)
    with ExitStack() as undo:
        undo.enter_context(clocks.dates_held())
        undo.enter_context(clocks.in_zone(clocks.ZONE))
        found = undo.enter_context(
            Captured(functions, _OF_ITS_OWN, goes_on=machine.has_one_process())
        )
        _hold_generators(found, undo)
        _hold_defaults(undo)
        own = (_own_sites(space) for space in Namespaces(functions).own)
        undo.enter_context(_placed([*chain.from_iterable(own), *_library_sites(), *_of_modules()]))
        yield found


def _hold_generators(found: Captured, undo: ExitStack) -> None:
    """Let the generators of random numbers that explored code keeps draw from the explorer's."""
    asked = ("getrandbits", "random")  # by randint(), uniform() and their like
    vars(chance.DRAWER).update((name, chance.OF_RANDOM[name]) for name in asked)
    undo.callback(_forget, vars(chance.DRAWER), asked)
    for generator in found.generators:
        if generator is chance.DRAWER:  # code has imported one of its methods by name
            continue
        methods = chance.drawing(generator)
        found.each_run(vars(generator).update, methods)
        undo.callback(_forget, vars(generator), methods)


def _hold_defaults(undo: ExitStack) -> None:
    """Let functions of libraries that keep a clock as a default argument be given the explorer's."""
    for function, name, usual, held in _library_defaults():
        if getattr(function, name) is usual:
            undo.callback(setattr, function, name, usual)
            setattr(function, name, held)


def _forget(space: dict[str, Any], names: Iterable[str]) -> None:
    for name in names:
        space.pop(name, None)


@contextmanager
def _placed(sites: Iterable[_Site]) -> Iterator[None]:
    """Let each name lead to its stand-in, unless it leads elsewhere by now."""
    placed: list[_Site] = []
    try:
        for namespace, name, value, stand_in in sites:
            if namespace.get(name) is value:
                namespace[name] = stand_in
                placed.append((namespace, name, value, stand_in))
        yield
    finally:
        for namespace, name, value, stand_in in reversed(placed):
            if namespace.get(name) is stand_in:
                namespace[name] = value


def _of_modules() -> Iterator[_Site]:
    """The sites in Python's own modules, and in NumPy's where a seed comes from."""
    for module, names in _FUNCTIONS:
        for name, value in names.items():
            yield vars(module), name, getattr(module, name), value
    yield vars(builtins), "__import__", builtins.__import__, _importing()
    # a notebook's box for the answer would stay when the exploration is over, and bar all cells
    yield vars(builtins), "input", builtins.input, machine.asking(builtins.input)
    if numpy := sys.modules.get("numpy.random.bit_generator"):
        bits = vars(numpy)["randbits"]
        yield vars(numpy), "randbits", bits, chance.drawn(bits, chance.seeding)
    if process := sys.modules.get("multiprocessing.process"):  # where current_process() asks
        yield vars(process), "os", os, _MODULES["os"]


def _importing() -> Callable[..., Any]:
    """An import that an explored function makes finds the stand-ins of classes.

    A library that is imported only now finds the classes themselves, as it may derive others from them.
    """
    usual = builtins.__import__

    def look(name: str, space: Any = None, *args: Any, **options: Any) -> Any:
        found = usual(name, space, *args, **options)
        driver_imported(name)
        if name in _MODULES and timekeeper_here() is not None:
            by = str((space or {}).get("__name__", ""))
            return found if installed(by, sys.modules.get(by)) else _MODULES[name]
        return found

    return look


def _sites(namespace: dict[str, Any], stand_ins: dict[int, Any]) -> list[_Site]:
    return [
        (namespace, name, value, stand_in)
        for name, value in list(namespace.items())
        if (stand_in := stand_in_for(value, stand_ins)) is not value
    ]


def _own_sites(namespace: dict[str, Any]) -> list[_Site]:
    """The sites of the learner's; of an imported module looked for again only when it has changed.

    A test's process has hundreds of modules, which would be looked through for each exploration.
    """
    module = sys.modules.get(str(namespace.get("__name__")))
    if module is None or vars(module) is not namespace or module.__name__ == "__main__":
        return _sites(namespace, _OF_ITS_OWN)
    names, values = list(namespace), list(namespace.values())
    known = _looked_through.get(id(namespace))
    same = known is not None and known[0] == names and len(known[1]) == len(values)
    if known is not None and same and all(map(operator.is_, known[1], values)):
        return known[2]
    found = _sites(namespace, _OF_ITS_OWN)
    _looked_through[id(namespace)] = names, values, found
    return found


_looked_through: dict[int, tuple[list[str], list[Any], list[_Site]]] = {}  # by namespace, as it was
_known: dict[str, Any] = {"namespaces": None, "sites": [], "defaults": []}


def _library_sites() -> list[_Site]:
    """Where libraries lead to a clock; looked for again only when there are more of them."""
    found: list[_Site] = _of_libraries()["sites"]
    return found


def _library_defaults() -> list[_Default]:
    """What cachetools and the sched of Python keep, say."""
    found: list[_Default] = _of_libraries()["defaults"]
    return found


def _of_libraries() -> dict[str, Any]:
    namespaces = Namespaces.libraries()
    if _known["namespaces"] is not namespaces:
        spaces = [vars(sched), vars(timeit), *namespaces]
        _known["namespaces"] = namespaces
        _known["sites"] = [one for each in namespaces for one in _sites(each, _OF_LIBRARIES)]
        _known["defaults"] = [one for each in spaces for one in _defaults(each)]
    return _known


def _defaults(namespace: dict[str, Any]) -> Iterator[_Default]:
    """Functions and methods of a module that have a clock as a default, and what replaces the defaults."""
    values = list(namespace.values())
    if not any(value is time or id(value) in _OF_LIBRARIES for value in values):
        return
    for thing in values:
        is_class = issubclass(type(thing), type) and thing.__module__ == namespace["__name__"]
        for one in list(vars(thing).values()) if is_class else [thing]:
            function = one.__func__ if type(one) in (staticmethod, classmethod) else one
            if type(function) is not FunctionType:
                continue
            usual, named = function.__defaults__ or (), function.__kwdefaults__ or {}
            if not _OF_LIBRARIES.keys().isdisjoint(map(id, usual)):
                held = tuple(_OF_LIBRARIES.get(id(value), value) for value in usual)
                yield function, "__defaults__", usual, held
            if not _OF_LIBRARIES.keys().isdisjoint(map(id, named.values())):
                kept = {name: _OF_LIBRARIES.get(id(value), value) for name, value in named.items()}
                yield function, "__kwdefaults__", named, kept
