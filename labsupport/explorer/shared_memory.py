"""What the functions of two clients share in the memory of the process, where pruning cannot see it."""

import dis
import enum
import functools
import gc
import itertools
import os
import re
import sys
import threading
import weakref
from collections import ChainMap, Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import fields
from decimal import Decimal
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import redis.asyncio

from labsupport.explorer.clients.actor import SharedLock
from labsupport.explorer.clients.captured import hidden
from labsupport.explorer.clients.namespaces import CACHED, installed, names_of, stands_in

__all__ = ["shared_locks", "shared_names"]

_FIXED = (int, float, complex, str, bytes, bool, type(None), range, slice, enum.Enum, Decimal)
# Libraries whose objects are made once and used by all; what they hold is in the stores.
_FIXED_MODULES = re.compile(
    r"_?(?:abc|contextvars|datetime|enum|fractions|labsupport|logging|operator|pathlib|re|redis"
    r"|sqlalchemy|string|struct|types|typing|uuid|zoneinfo)\b"
)
_CHANGING = re.compile(
    r"redis\.(?:asyncio\.)?lock\b|sqlalchemy\.(?:ext\.asyncio|orm)\.(?:scop|sess)"
)
_FILES = frozenset(
    {"open", "read_bytes", "read_text", "write_bytes", "write_text", "SharedMemory", "ZipFile"}
    | {"dbm", "loadtxt", "mmap", "read_csv", "read_pickle", "savetxt", "savez", "shelve"}
    | {"to_csv", "to_pickle", "FileSystemCache"}
)
# of os, os.path, shutil, glob or a path
_ON_FILES = frozenset(
    {
        "access",
        "copy",
        "copyfile",
        "exists",
        "glob",
        "is_dir",
        "is_file",
        "isdir",
        "isfile",
        "iterdir",
    }
    | {"lexists", "link", "listdir", "makedirs", "mkdir", "move", "remove", "removedirs", "rename"}
    | {"replace", "rmdir", "rmtree", "scandir", "stat", "symlink", "touch", "truncate", "unlink"}
)
_OF_FILES = frozenset(
    {"genericpath", "glob", "nt", "os", "pathlib", "posix", "posixpath", "shutil"}
)
_PLAIN = int | float | complex | str | bytes | bool | None
_CONTAINERS = frozenset({"builtins", "collections"})
_CHANGEABLE = (bytearray, Counter, defaultdict, deque, dict, list, OrderedDict, set)
_DEPTH = 3  # from an object of a library's to what it keeps of one's own
_MOST_INSIDE = 1000  # of the things in containers, or a few more, that are looked at
_REENTRANT, _PLAIN_LOCK = type(threading.RLock()), type(threading.Lock())
_RECURSIVE = 0  # the kind of a SemLock of multiprocessing's
_IMPORTS = frozenset({"import_module", "__import__", "importlib"})
_CALLS = frozenset({"CALL", "PRECALL"})
_SETS = frozenset({"STORE_ATTR", "DELETE_ATTR"})
_STORES = frozenset({"STORE_FAST", "STORE_DEREF", "STORE_NAME"})
_BASES = frozenset({"__base__", "__bases__", "__mro__", "mro"})
_KINDS = frozenset({"__class__", "type"})
# classes of what a client is handed, or of what it comes by with that
_HANDED: tuple[type, ...] = (redis.Redis, redis.client.Pipeline, redis.lock.Lock)
_HANDED += (redis.asyncio.Redis, redis.asyncio.client.Pipeline, redis.asyncio.lock.Lock)
_LOADS = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_GLOBALS = _LOADS | {"STORE_GLOBAL", "DELETE_GLOBAL"}
_BY_NAME = frozenset({"eval", "exec", "globals", "vars"})  # what reaches any name of a module
_SPACES = frozenset({"__globals__", "f_globals"})  # in which any name is
# what reaches any attribute
_BY_TEXT = frozenset({"__dict__", "__setattr__", "delattr", "setattr", "vars"})
_GET_BY_TEXT = frozenset({"attrgetter", "getattr"})
_METHODS = frozenset({"LOAD_METHOD", "LOAD_ATTR"})
_NOTES = frozenset({"append", "update"})  # a list's, a Counter's: nobody asks what is in it
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
_OF_PYTHON = frozenset({"__annotations__", "__dataclass_fields__", "__dict__", "__weakref__"})
_BINDS = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL", "STORE_DEREF", "DELETE_DEREF"})


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
    reached = [_Reach(function) for function in clients.values()]
    lookers = [*reached, _Reach(reader, counts=True)] if reader is not None else reached
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
    reached = [_Reach(function) for function in clients.values()]
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


def _set_from_outside(one: "_Reach", other: "_Reach") -> Iterator[str]:
    """The modules whose global names one sets as attributes, and another uses as its own."""
    for name, owner in one.owners.values():
        if isinstance(owner, ModuleType):
            used = {known for at, known in other.variables if at == id(vars(owner))}
            if used & one.sets or (used and "setattr" in one.sets):
                yield name


def _set_in_libraries(one: "_Reach", other: "_Reach") -> Iterator[str]:
    """What one sets attributes of in libraries, and another reaches, or asks for by their names."""
    known = other.seen.keys() | other.owners.keys() | other.theirs.keys()
    for (at, attribute), word in one.libraries.items():
        if at in known or attribute in other.words:
            yield word
    wanted = one.sets_elsewhere & other.words
    for name, owner in one.theirs.values():
        if any(_may_be_set(owner, word, one.handed) for word in wanted):
            yield name


class _Reach:
    """What a function, and those that it calls, may touch in the process's memory.

    Args:
        function: a client's, or several.
        counts: that it asks how long a list is says nothing of what is in it, or of its order.

    Attributes:
        values: names of what may change, by identity.
        inside: what may change in a library's own objects, a cache in a decorator's: by identity, and
            the names of what keeps it, by theirs.
        owners: classes, modules and functions whose attributes may be set, with their names.
        sets: names of the attributes that the code sets on anything.
        variables: global names and variables of outer functions that the code uses.
        bound: those that it binds anew, with their names.
        namespaces: global ones that it may change by name, with the word that it does so by.
        lists: identities of plain lists among the values.
        counters: identities of Counters among them.
        looked_at: those of both that are used for more than to append to, or to update.
        libraries: names of the libraries' modules, classes and functions that it sets attributes of, by
            identity and attribute; and of one's own modules whose names it may change by text.
        theirs: classes, modules and functions of libraries that it may come by, with their names.
        words: the names that the code uses, of attributes too.
        sets_elsewhere: names of the attributes that it sets on more than its own `self`.
        handed: those that it sets on what a function was handed.
        seen: all that it reaches, by identity.
    """

    def __init__(self, function: Any, *, counts: bool = False) -> None:
        self.values: dict[int, str] = {}
        self.inside: dict[int, dict[int, str]] = {}
        self.owners: dict[int, tuple[str, Any]] = {}
        self.sets: set[str] = set()
        self.variables: set[tuple[int, str]] = set()
        self.bound: dict[tuple[int, str], str] = {}
        self.namespaces: dict[int, str] = {}
        self.lists: set[int] = set()
        self.counters: set[int] = set()
        self.looked_at: set[int] = set()
        self.libraries: dict[tuple[int, str], str] = {}
        self.theirs: dict[int, tuple[str, Any]] = {}
        self.words: set[str] = set()
        self.sets_elsewhere: set[str] = set()
        self.handed: set[str] = set()
        self._room = _MOST_INSIDE
        self._counts = counts
        self.seen: dict[int, Any] = {}
        self._decorated: list[tuple[str, FunctionType]] = []
        self._walk([("function", function)])
        self._walk(self._dunders())
        self._use_attributes()
        self._libraries()

    def _walk(self, queue: list[tuple[str, Any]]) -> None:
        while queue:
            name, thing = queue.pop()
            if id(thing) not in self.seen:
                self.seen[id(thing)] = thing
                found: list[tuple[str, Any]] = []
                try:
                    found.extend(self._look(name, thing))
                except Exception:  # a stand-in for what is not there says nothing of itself
                    self.values[id(thing)] = name
                self._lists(thing, found)
                queue.extend(found)

    def _dunders(self) -> list[tuple[str, Any]]:
        """What classes of one's own keep under such names, where the code uses these."""
        kinds = [kind for _, kind in self.owners.values() if isinstance(kind, type)]
        used = {name for name in self.words - _OF_PYTHON if name[:1] == "_" == name[-1:]}
        return [
            (name, vars(kind)[name]) for kind in kinds for name in sorted(used & vars(kind).keys())
        ]

    def _use_attributes(self) -> None:
        """What a library's decorator keeps is also changed by what it hangs on the function: its clear()."""
        for name, function in self._decorated:
            used = {id(vars(function)[word]): name for word in self.words & vars(function).keys()}
            for keepers in self.inside.values():
                keepers.update(used if id(function) in keepers else {})

    def _libraries(self) -> None:
        """Note the classes and functions of libraries that the code may find by what it names."""
        queue, seen = list(self.seen.values()), set[int]()
        queue += _HANDED if self.words & _KINDS else ()
        while queue:
            thing = queue.pop()
            kind = type(thing)
            if id(thing) in seen or stands_in(thing) or not installed(_module_of(thing)):
                continue
            seen.add(id(thing))
            if issubclass(kind, FunctionType | type | ModuleType):
                self.theirs[id(thing)] = thing.__name__, thing
            if issubclass(kind, type):
                queue += thing.__mro__[1:] if self.words & _BASES else ()
            elif self.words & _KINDS:
                queue.append(kind)
            if issubclass(kind, type | ModuleType):
                queue += (vars(thing)[word] for word in self.words & vars(thing).keys())

    def _lists(self, thing: Any, found: list[tuple[str, Any]]) -> None:
        """Note the lists and Counters a thing leads to, and whether it is a function that only adds."""
        if issubclass(type(thing), weakref.ref):
            return  # seen where it is kept
        found = [
            (name, one() if issubclass(type(one), weakref.ref) else one) for name, one in found
        ]
        lists = [(name, one) for name, one in found if type(one) in (list, Counter)]
        code = thing.__code__ if lists and isinstance(thing, FunctionType) else None
        logs = _appended(code, counts=self._counts) if code is not None else ()
        for name, one in lists:
            (self.lists if type(one) is list else self.counters).add(id(one))
            if name not in logs:
                self.looked_at.add(id(one))

    def _look(self, name: str, thing: Any) -> Iterator[tuple[str, Any]]:
        """Note what a thing is, and say what else it leads to."""
        if isinstance(thing, weakref.ref):
            yield name, thing()
        elif issubclass(type(thing), weakref.ProxyTypes):
            yield name, thing.__repr__.__self__
        elif isinstance(thing, functools.partial):
            self.owners[id(thing)] = name, thing
            yield from ((name, one) for one in (thing.func, *thing.args, *thing.keywords.values()))
        elif isinstance(thing, MethodType):
            yield from ((name, thing.__func__), (type(thing.__self__).__name__, thing.__self__))
        elif isinstance(thing, staticmethod | classmethod):
            yield name, thing.__func__
        elif isinstance(thing, property):
            yield from ((name, one) for one in (thing.fget, thing.fset, thing.fdel))
        elif isinstance(thing, BuiltinFunctionType | MethodWrapperType):
            if not isinstance(thing.__self__, ModuleType):
                yield name, thing.__self__
        elif isinstance(thing, tuple | frozenset):
            if getattr(thing, "__dict__", None):
                self.owners[id(thing)] = name, thing
            yield from ((name, one) for one in thing)
        elif isinstance(thing, FunctionType):
            yield from self._function(name, thing)
        elif isinstance(thing, type):
            if not installed(thing.__module__):
                self.owners[id(thing)] = name, thing
                yield type(thing).__name__, type(thing)
                yield from ((n, v) for n, v in vars(thing).items() if not _is_inner(n, v))
                yield from ((base.__name__, base) for base in thing.__mro__[1:])
        elif isinstance(thing, ModuleType):
            if not installed(thing.__name__, thing):
                self.owners[id(thing)] = name, thing
        else:
            yield from self._instance(name, thing)

    def _instance(self, name: str, thing: Any) -> Iterator[tuple[str, Any]]:
        kind = type(thing)
        yield from _held(name, thing)
        if not _may_change(thing):
            if getattr(thing, "__dict__", None):
                self.owners[id(thing)] = name, thing
            return
        self.values[id(thing)] = name
        if self._room > 0:
            inside = list(_inside(thing))
            self._room -= len(inside)
            yield from ((name, one) for one in inside)
        if kind.__module__ in _CONTAINERS:
            return
        if installed(kind.__module__):
            yield from ((name, one) for one in self._own_code_in(thing, {id(thing): name}))
        else:
            yield kind.__name__, kind
            yield from getattr(thing, "__dict__", {}).items()
            yield from ((slot, getattr(thing, slot, None)) for slot in _slots(kind))

    def _function(self, name: str, function: FunctionType) -> Iterator[tuple[str, Any]]:
        module = function.__module__ or ""
        if module.startswith("labsupport"):  # a check's own function: it encloses the learner's
            yield from ((n, v) for n, v in _enclosed(function) if isinstance(v, _CODE))
            return
        if installed(module):  # a decorator's
            self._decorated.append((name, function))
            enclosed = dict(_enclosed(function))
            yield from ((name, one) for one in self._own_code_in(enclosed, {id(function): name}))
            return
        self.owners[id(function)] = name, function
        names = set(names_of(function.__code__))
        if names & (_GET_BY_TEXT | _BY_TEXT):
            names |= _texts(function.__code__)
        self.words |= names
        self._bindings(function, names)
        if names & _FILES:
            self.values[id(open)] = "files"
        held = list(_enclosed(function))
        held += [(name, one) for one in function.__defaults__ or ()]
        held += (function.__kwdefaults__ or {}).items()
        held += vars(function).items()
        for word, one in held:
            yield from self._named(word, one, names)
        if any(_leads_to_files(one, names) for _, one in held):
            self.values[id(open)] = "files"
        used_bare = _bare(function.__code__)  # `loads` is not json.loads
        for used in sorted(names):  # what has several names is called the same in each process
            known = function.__globals__ if used in used_bare else {}
            value = known.get(used, sys.modules.get(used))
            if _leads_to_files(value, names):
                self.values[id(open)] = "files"
            if value is os and names & {"environ", "getenv", "putenv"}:
                self.values[id(os.environ)] = "os.environ"
            if (value is sys and "modules" in names) or used in _IMPORTS:
                for word, one in list(sys.modules.items()):
                    if isinstance(one, ModuleType) and not installed(word, one):
                        yield from self._named(word, one, names)
                for word in _texts(function.__code__) & sys.modules.keys():
                    self.libraries.update(
                        {(id(sys.modules[word]), name): word for name in self.sets_elsewhere}
                    )
            yield from self._named(used, value, names)

    def _own_code_in(self, thing: Any, keeper: dict[int, str]) -> Iterator[Any]:
        """The functions, and objects, of one's own that a library's object keeps: a task, a callback."""
        queue, seen = deque([(thing, 0)]), {id(thing)}
        while queue and len(seen) < _MOST_INSIDE:
            holder, depth = queue.popleft()
            for held in gc.get_referents(holder):
                one: Any = held() if isinstance(held, weakref.ref) else held
                if id(one) in seen or issubclass(type(one), ModuleType | _PLAIN):
                    continue
                seen.add(id(one))
                if not installed(_module_of(one)):
                    yield one
                elif issubclass(type(one), FunctionType):
                    queue.append((dict(_enclosed(one)), depth))
                elif depth < _DEPTH and not issubclass(type(one), type):
                    queue.append((one, depth + 1))
                    if _may_change(one):
                        self.inside.setdefault(id(one), {}).update(keeper)

    def _named(
        self, name: str, value: Any, names: set[str], of: set[int] | None = None
    ) -> Iterator[tuple[str, Any]]:
        """A value, and what code of these names takes from it if it is a module.

        From a library's, its classes and its objects that are the same for all, containers are taken.
        """
        of = set() if of is None else of
        module = value if isinstance(value, ModuleType) else None
        theirs = module is None or installed(module.__name__, module)
        if theirs:
            yield name, value
        elif id(value) not in of:
            self.owners[id(value)] = name, value
        if id(value) in of or stands_in(value):
            return
        of.add(id(value))
        space = vars(value) if module or _is_for_all(value) else {}
        for one in sorted(names & space.keys()):
            inner = space[one]
            if not theirs or type(inner) in _CHANGEABLE or isinstance(inner, ModuleType | type):
                yield from self._named(one, inner, names, of)

    def _bindings(self, function: FunctionType, names: set[str]) -> None:
        sets, binds, elsewhere, handed = _changes(function.__code__)
        by_name = _texts(function.__code__) if names & _BY_TEXT else set[str]()
        self.sets_elsewhere |= elsewhere | by_name
        self.handed |= handed | by_name
        by_text = names & {"setattr", "delattr"} or names >= {"type", "__setattr__"}
        self.sets |= sets | by_name | ({"setattr"} if by_text else set())
        here = id(function.__globals__)
        bare = _bare(function.__code__)
        enclosed = dict(_enclosed(function))
        for path, attribute in sorted(_of_paths(function.__code__)):
            root = function.__globals__.get(path[0], sys.modules.get(path[0]))
            owner = functools.reduce(_part, path[1:], enclosed.get(path[0], root))
            known = isinstance(owner, FunctionType | type) and installed(owner.__module__ or "")
            if isinstance(owner, ModuleType):
                known = attribute in _BY_TEXT or installed(owner.__name__, owner)
            for text in _texts(function.__code__) if known and attribute in _BY_TEXT else ():
                self.libraries[id(owner), text] = path[-1]
            if known:
                self.libraries[id(owner), attribute] = path[-1]
        if called := bare & _BY_NAME | names & _SPACES:
            self.namespaces[here] = f"{min(called)}()"
        self.variables.update((here, name) for name in names & bare)
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        self.variables.update((id(cell), name) for name, cell in cells.items())
        for name in binds:
            at = id(cells[name]) if name in cells else here
            self.bound[at, name] = name


_OPEN = (FunctionType, staticmethod, classmethod, property, CACHED)
_CODE = (FunctionType, MethodType, functools.partial, type)


def _held(name: str, thing: Any) -> Iterator[tuple[str, Any]]:
    """What is in a thing that may not change, or that hides it."""
    if isinstance(thing, CACHED):
        yield name, thing.__wrapped__
        yield from ((name, one) for one in itertools.islice(hidden(thing), _MOST_INSIDE))
    elif isinstance(thing, enum.Enum):
        yield thing.name, thing.value
    elif isinstance(thing, MappingProxyType):
        yield from ((name, one) for one in gc.get_referents(thing))
    elif isinstance(thing, ContextVar):
        with suppress(LookupError):  # it is not set
            yield thing.name, thing.get()
    elif _is_frozen(thing):
        yield from ((one.name, getattr(thing, one.name, None)) for one in fields(thing))


def _slots(kind: type) -> Iterator[str]:
    """The names of a class's slots, as they are outside of it."""
    for one in kind.__mro__:
        slots = vars(one).get("__slots__", ())
        for slot in [slots] if isinstance(slots, str) else slots:
            private = slot.startswith("__") and not slot.endswith("__")
            yield f"_{one.__name__.lstrip('_')}{slot}" if private else slot


def _inside(thing: Any) -> Iterator[Any]:
    """What a container holds: two may hold the same."""
    if isinstance(thing, ChainMap):
        yield from thing.maps
    elif isinstance(thing, SimpleNamespace):
        yield from vars(thing).values()
    elif isinstance(thing, dict):
        yield from itertools.islice(dict.values(thing), _MOST_INSIDE)
    elif isinstance(thing, list | set | deque):
        yield from itertools.islice(thing, _MOST_INSIDE)


def _module_of(thing: Any) -> str:
    """Where a function or a class is written, or the class of anything else."""
    kind = type(thing)
    return str((thing if issubclass(kind, FunctionType | type) else kind).__module__)


def _leads_to_files(value: Any, names: set[str]) -> bool:
    """Whether it is a path, or a module, class or function for files, of which one of `names` is used."""
    used = names & _ON_FILES
    if value is os and "path" not in names:
        used -= {"exists"}  # Redis has a command of that name
    if not used:
        return False
    if isinstance(value, ModuleType):
        return value.__name__ in _OF_FILES
    return isinstance(value, PurePath) or getattr(value, "__module__", None) in _OF_FILES


def _enclosed(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not yet assigned
            continue


@functools.lru_cache(maxsize=4096)
def _changes(code: CodeType) -> tuple[frozenset[str], ...]:
    """What code sets: attributes, names outside of it, attributes of others than `self`, of arguments."""
    sets, binds, elsewhere, handed = set(), set(), set(), set()
    given = set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]) - {"self"}
    used = [one for one in dis.get_instructions(code) if one.opname != "COPY"]
    pairs = {(_last(of), one.argval) for of, one in itertools.pairwise(used)}
    for before, one in itertools.pairwise(used):
        if one.opname in _SETS:
            sets.add(one.argval)
            mine = before.opname == "SWAP" and ("self", one.argval) in pairs  # self.n += 1
            if not mine and _last(before) != "self":
                elsewhere.add(one.argval)
            if any((argument, one.argval) in pairs for argument in given):
                handed.add(one.argval)
        elif one.opname in _BINDS and one.argval not in code.co_cellvars:
            binds.add(one.argval)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            more, outer, others, inner_handed = _changes(inner)
            sets |= more
            binds |= outer - set(code.co_cellvars)
            elsewhere |= others
            handed |= inner_handed
    return frozenset(sets), frozenset(binds), frozenset(elsewhere), frozenset(handed)


def _last(one: dis.Instruction) -> Any:
    """The name that is on the stack after an instruction that loads one, or two."""
    return one.argval[-1] if isinstance(one.argval, tuple) and one.argval else one.argval


@functools.lru_cache(maxsize=4096)
def _of_paths(code: CodeType) -> frozenset[tuple[tuple[str, ...], str]]:
    """The attributes that code sets of what has a name, or how it does: `cache` of (redis, Redis).

    A local variable stands for what it was assigned last.
    """
    found, local = set[tuple[tuple[str, ...], str]](), dict[str, tuple[str, ...]]()
    path: tuple[str, ...] = ()
    module, by_text, text, listed, copied = path, "", "", None, False
    for one in dis.get_instructions(code):
        name = _last(one)
        if one.opname in {"COPY", "PUSH_NULL"}:
            copied = one.opname == "COPY"  # x.n += 1
            continue
        if one.opname == "IMPORT_NAME":
            path = module = (name if listed else name.partition(".")[0],)
        elif one.opname == "IMPORT_FROM":
            path = (*module, name)
        elif one.opname in _STORES:
            local[name], path = path, ()
        elif one.opname in _SETS | _METHODS and path:
            sets = copied or one.opname in _SETS or name in _BY_TEXT
            found |= {(path, name)} if sets else set()
            path = (*path, name)
            by_text = name if name in _BY_TEXT else by_text
        elif one.opname.startswith("LOAD_"):
            listed, text, by_text = one.argval, by_text, name if name in _BY_TEXT else ""
            known = local.get(name, ()) if one.opname.startswith("LOAD_FAST") else (name,)
            path = local.get(name, known) if isinstance(name, str) else ()
        else:
            path = ()
        found |= {(path, text)} if path and text else set()
        copied = False
    inner = (_of_paths(one) for one in code.co_consts if isinstance(one, CodeType))
    return frozenset(found.union(*inner))


def _part(owner: Any, name: str) -> Any:
    """What a module or a class has by a name, or the class of an object; None of anything else."""
    if name == "__class__":
        return type(owner)
    spaces = owner.__mro__ if isinstance(owner, type) else [owner]
    known = (vars(one) for one in spaces if isinstance(one, type | ModuleType))
    return next((space[name] for space in known if name in space), None)


def _texts(code: CodeType) -> set[str]:
    """The texts in code: names by which getattr may ask."""
    found = {one for one in code.co_consts if isinstance(one, str)}
    inner = (_texts(one) for one in code.co_consts if isinstance(one, CodeType))
    return found.union(*inner)


@functools.lru_cache(maxsize=4096)
def _bare(code: CodeType) -> frozenset[str]:
    """The global names that code uses as such, and not as attributes."""
    used = {one.argval for one in dis.get_instructions(code) if one.opname in _GLOBALS}
    inner = (_bare(one) for one in code.co_consts if isinstance(one, CodeType))
    return frozenset(used.union(*inner))


@functools.lru_cache(maxsize=4096)
def _appended(code: CodeType, *, counts: bool = False) -> frozenset[str]:
    """The names outside of it of which code does nothing but append, update, or ask for the length."""
    appended, other, before = set[str](), set[str](), ""
    for one, following in itertools.pairwise(dis.get_instructions(code)):
        if one.opname in _LOADS | {"LOAD_DEREF"}:
            logs = following.opname in _METHODS and following.argval in _NOTES
            logs |= counts and before == "len" and following.opname in _CALLS
            (appended if logs else other).add(one.argval)
        before = one.argval if one.opname in _LOADS else ""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            known = _appended(inner, counts=counts)
            appended |= known
            other |= (_bare(inner) | set(inner.co_freevars)) - known
    return frozenset(appended - other)


def _is_kept(owner: Any, name: str) -> bool:
    """Whether a class, module or function itself keeps an attribute; a descriptor's are its objects'."""
    return name in vars(owner) and not hasattr(vars(owner)[name], "__set__")


def _may_be_set(owner: Any, name: str, handed: set[str]) -> bool:
    """Whether a library's class, module or function keeps what code of one's own may have set there."""
    if not _is_kept(owner, name) or _is_theirs(vars(owner)[name]):
        return False
    return not isinstance(owner, ModuleType) or name in handed or name not in _written(owner)


def _written(module: ModuleType) -> frozenset[str]:
    """The names that a module's own code uses; none if it is written in C."""
    get_code = getattr(getattr(module.__spec__, "loader", None), "get_code", None)
    with suppress(ImportError, OSError):  # it goes by another name
        code = get_code(module.__name__) if get_code is not None else None
        return frozenset(code.co_names if code is not None else ())
    return frozenset()


def _is_for_all(value: Any) -> bool:
    """Whether it is a library's class, or an object of one that is made once and used by all."""
    if isinstance(value, type):
        return _is_theirs(value)
    return bool(_FIXED_MODULES.match(_module_of(value))) and hasattr(value, "__dict__")


def _is_theirs(value: Any) -> bool:
    """Whether it is code of a library, as that has put it into its class."""
    code = callable(value) or isinstance(value, ModuleType) or hasattr(type(value), "__get__")
    return code and installed(_module_of(value))


def _is_inner(name: str, value: Any) -> bool:
    """Whether it is what Python, or a library, keeps in a class for itself."""
    theirs = hasattr(type(value), "__get__") and installed(type(value).__module__)
    if name == "_field_defaults" or (theirs and not isinstance(value, _OPEN)):
        return True
    code = isinstance(value, FunctionType | staticmethod | classmethod)
    return name.startswith("_") and name.endswith("_") and not code


def _is_frozen(value: Any) -> bool:
    """Whether it is a frozen dataclass: what its fields hold may change all the same."""
    return bool(getattr(getattr(type(value), "__dataclass_params__", None), "frozen", False))


def _may_change(value: Any) -> bool:
    kind = type(value)
    if isinstance(value, SimpleNamespace):
        return True
    if isinstance(value, _FIXED) or _is_frozen(value):
        return False
    return not _FIXED_MODULES.match(kind.__module__) or bool(_CHANGING.match(kind.__module__))
