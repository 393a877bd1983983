"""What kinds of things there are in memory: which may change, what they hold, whose they are."""

import enum
import gc
import itertools
import os
import re
from collections import ChainMap, deque
from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import fields
from decimal import Decimal
from pathlib import PurePath
from types import FunctionType, MappingProxyType, ModuleType, SimpleNamespace
from typing import Any

from labsupport.explorer.clients.captured import hidden
from labsupport.explorer.clients.namespaces import CACHED, installed

__all__ = [
    "MOST_INSIDE",
    "contents_of",
    "enclosed_by",
    "held_by",
    "is_for_all",
    "is_inner",
    "is_theirs",
    "leads_to_files",
    "may_change",
    "module_of",
    "part_of",
    "slots_of",
]

_FIXED = (int, float, complex, str, bytes, bool, type(None), range, slice, enum.Enum, Decimal)
# Libraries whose objects are made once and used by all; what they hold is in the stores.
_FIXED_MODULES = re.compile(
    r"_?(?:abc|contextvars|datetime|enum|fractions|labsupport|logging|operator|pathlib|re|redis"
    r"|sqlalchemy|string|struct|types|typing|uuid|zoneinfo)\b"
)
_CHANGING = re.compile(
    r"redis\.(?:asyncio\.)?lock\b|sqlalchemy\.(?:ext\.asyncio|orm)\.(?:scop|sess)"
)
# of os, os.path, shutil, glob or a path
_ON_FILES = frozenset(
    {"access", "copy", "copyfile", "exists", "glob", "is_dir", "is_file", "isdir", "isfile"}
    | {"iterdir", "lexists", "link", "listdir", "makedirs", "mkdir", "move", "remove"}
    | {"removedirs", "rename", "replace", "rmdir", "rmtree", "scandir", "stat", "symlink"}
    | {"touch", "truncate", "unlink"}
)
_OF_FILES = frozenset(
    {"genericpath", "glob", "nt", "os", "pathlib", "posix", "posixpath", "shutil"}
)
MOST_INSIDE = 1000  # of the things in containers, or a few more, that are looked at
_OPEN = (FunctionType, staticmethod, classmethod, property, CACHED)


def held_by(name: str, thing: Any) -> Iterator[tuple[str, Any]]:
    """What is in a thing that may not change, or that hides it."""
    if isinstance(thing, CACHED):
        yield name, thing.__wrapped__
        yield from ((name, one) for one in itertools.islice(hidden(thing), MOST_INSIDE))
    elif isinstance(thing, enum.Enum):
        yield thing.name, thing.value
    elif isinstance(thing, MappingProxyType):
        yield from ((name, one) for one in gc.get_referents(thing))
    elif isinstance(thing, ContextVar):
        with suppress(LookupError):  # it is not set
            yield thing.name, thing.get()
    elif _is_frozen(thing):
        yield from ((one.name, getattr(thing, one.name, None)) for one in fields(thing))


def slots_of(kind: type) -> Iterator[str]:
    """The names of a class's slots, as they are outside of it."""
    for one in kind.__mro__:
        slots = vars(one).get("__slots__", ())
        for slot in [slots] if isinstance(slots, str) else slots:
            private = slot.startswith("__") and not slot.endswith("__")
            yield f"_{one.__name__.lstrip('_')}{slot}" if private else slot


def contents_of(thing: Any) -> Iterator[Any]:
    """What a container holds: two may hold the same."""
    if isinstance(thing, ChainMap):
        yield from thing.maps
    elif isinstance(thing, SimpleNamespace):
        yield from vars(thing).values()
    elif isinstance(thing, dict):
        yield from itertools.islice(dict.values(thing), MOST_INSIDE)
    elif isinstance(thing, list | set | deque):
        yield from itertools.islice(thing, MOST_INSIDE)


def module_of(thing: Any) -> str:
    """Where a function or a class is written, or the class of anything else."""
    kind = type(thing)
    return str((thing if issubclass(kind, FunctionType | type) else kind).__module__)


def leads_to_files(value: Any, names: set[str]) -> bool:
    """Whether it is a path, or a module, class or function for files, of which one of `names` is used."""
    used = names & _ON_FILES
    if value is os and "path" not in names:
        used -= {"exists"}  # Redis has a command of that name
    if not used:
        return False
    if isinstance(value, ModuleType):
        return value.__name__ in _OF_FILES
    return isinstance(value, PurePath) or getattr(value, "__module__", None) in _OF_FILES


def enclosed_by(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The variables of outer functions that a function uses, with their values."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not yet assigned
            continue


def part_of(owner: Any, name: str) -> Any:
    """What a module or a class has by a name, or the class of an object; None of anything else."""
    if name == "__class__":
        return type(owner)
    spaces = owner.__mro__ if isinstance(owner, type) else [owner]
    known = (vars(one) for one in spaces if isinstance(one, type | ModuleType))
    return next((space[name] for space in known if name in space), None)


def is_for_all(value: Any) -> bool:
    """Whether it is a library's class, or an object of one that is made once and used by all."""
    if isinstance(value, type):
        return is_theirs(value)
    return bool(_FIXED_MODULES.match(module_of(value))) and hasattr(value, "__dict__")


def is_theirs(value: Any) -> bool:
    """Whether it is code of a library, as that has put it into its class."""
    code = callable(value) or isinstance(value, ModuleType) or hasattr(type(value), "__get__")
    return code and installed(module_of(value))


def is_inner(name: str, value: Any) -> bool:
    """Whether it is what Python, or a library, keeps in a class for itself."""
    theirs = hasattr(type(value), "__get__") and installed(type(value).__module__)
    if name == "_field_defaults" or (theirs and not isinstance(value, _OPEN)):
        return True
    code = isinstance(value, FunctionType | staticmethod | classmethod)
    return name.startswith("_") and name.endswith("_") and not code


def _is_frozen(value: Any) -> bool:
    """Whether it is a frozen dataclass: what its fields hold may change all the same."""
    return bool(getattr(getattr(type(value), "__dataclass_params__", None), "frozen", False))


def may_change(value: Any) -> bool:
    """Whether an object may change: no number or text, nor what libraries make once for all."""
    kind = type(value)
    if isinstance(value, SimpleNamespace):
        return True
    if isinstance(value, _FIXED) or _is_frozen(value):
        return False
    return not _FIXED_MODULES.match(kind.__module__) or bool(_CHANGING.match(kind.__module__))
