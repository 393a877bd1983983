"""What a function, and those that it calls, may touch in the process's memory."""

import functools
import gc
import os
import sys
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType, MethodWrapperType, ModuleType
from typing import Any

import redis.asyncio

from labsupport.explorer.clients.namespaces import installed, names_of, stands_in
from labsupport.explorer.memory.code import (
    BY_TEXT,
    bare_names,
    changes_of,
    only_added_to,
    paths_set,
    texts_in,
)
from labsupport.explorer.memory.things import (
    MOST_INSIDE,
    contents_of,
    enclosed_by,
    held_by,
    is_for_all,
    is_inner,
    leads_to_files,
    may_change,
    module_of,
    part_of,
    slots_of,
)

__all__ = ["Reach"]

_FILES = frozenset(
    {"open", "read_bytes", "read_text", "write_bytes", "write_text", "SharedMemory", "ZipFile"}
    | {"dbm", "loadtxt", "mmap", "read_csv", "read_pickle", "savetxt", "savez", "shelve"}
    | {"to_csv", "to_pickle", "FileSystemCache"}
)
_PLAIN = int | float | complex | str | bytes | bool | None
_CONTAINERS = frozenset({"builtins", "collections"})
_CHANGEABLE = (bytearray, Counter, defaultdict, deque, dict, list, OrderedDict, set)
_DEPTH = 3  # from an object of a library's to what it keeps of one's own
_IMPORTS = frozenset({"import_module", "__import__", "importlib"})
_BASES = frozenset({"__base__", "__bases__", "__mro__", "mro"})
_KINDS = frozenset({"__class__", "type"})
# classes of what a client is handed, or of what it comes by with that
_HANDED: tuple[type, ...] = (redis.Redis, redis.client.Pipeline, redis.lock.Lock)
_HANDED += (redis.asyncio.Redis, redis.asyncio.client.Pipeline, redis.asyncio.lock.Lock)
_BY_NAME = frozenset({"eval", "exec", "globals", "vars"})  # what reaches any name of a module
_SPACES = frozenset({"__globals__", "f_globals"})  # in which any name is
_GET_BY_TEXT = frozenset({"attrgetter", "getattr"})
_OF_PYTHON = frozenset({"__annotations__", "__dataclass_fields__", "__dict__", "__weakref__"})


class Reach:
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
        self._room = MOST_INSIDE
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
            if id(thing) in seen or stands_in(thing) or not installed(module_of(thing)):
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
        logs = only_added_to(code, counts=self._counts) if code is not None else ()
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
                yield from ((n, v) for n, v in vars(thing).items() if not is_inner(n, v))
                yield from ((base.__name__, base) for base in thing.__mro__[1:])
        elif isinstance(thing, ModuleType):
            if not installed(thing.__name__, thing):
                self.owners[id(thing)] = name, thing
        else:
            yield from self._instance(name, thing)

    def _instance(self, name: str, thing: Any) -> Iterator[tuple[str, Any]]:
        kind = type(thing)
        yield from held_by(name, thing)
        if not may_change(thing):
            if getattr(thing, "__dict__", None):
                self.owners[id(thing)] = name, thing
            return
        self.values[id(thing)] = name
        if self._room > 0:
            inside = list(contents_of(thing))
            self._room -= len(inside)
            yield from ((name, one) for one in inside)
        if kind.__module__ in _CONTAINERS:
            return
        if installed(kind.__module__):
            yield from ((name, one) for one in self._own_code_in(thing, {id(thing): name}))
        else:
            yield kind.__name__, kind
            yield from getattr(thing, "__dict__", {}).items()
            yield from ((slot, getattr(thing, slot, None)) for slot in slots_of(kind))

    def _function(self, name: str, function: FunctionType) -> Iterator[tuple[str, Any]]:
        module = function.__module__ or ""
        if module.startswith("labsupport"):  # a check's own function: it encloses the learner's
            yield from ((n, v) for n, v in enclosed_by(function) if isinstance(v, _CODE))
            return
        if installed(module):  # a decorator's
            self._decorated.append((name, function))
            enclosed = dict(enclosed_by(function))
            yield from ((name, one) for one in self._own_code_in(enclosed, {id(function): name}))
            return
        self.owners[id(function)] = name, function
        names = set(names_of(function.__code__))
        if names & (_GET_BY_TEXT | BY_TEXT):
            names |= texts_in(function.__code__)
        self.words |= names
        self._bindings(function, names)
        if names & _FILES:
            self.values[id(open)] = "files"
        held = list(enclosed_by(function))
        held += [(name, one) for one in function.__defaults__ or ()]
        held += (function.__kwdefaults__ or {}).items()
        held += vars(function).items()
        for word, one in held:
            yield from self._named(word, one, names)
        if any(leads_to_files(one, names) for _, one in held):
            self.values[id(open)] = "files"
        yield from self._global(function, names)

    def _global(self, function: FunctionType, names: set[str]) -> Iterator[tuple[str, Any]]:
        """What a function's code finds by a global name, or by that of a module."""
        used_bare = bare_names(function.__code__)  # `loads` is not json.loads
        for used in sorted(names):  # what has several names is called the same in each process
            known = function.__globals__ if used in used_bare else {}
            value = known.get(used, sys.modules.get(used))
            if leads_to_files(value, names):
                self.values[id(open)] = "files"
            if value is os and names & {"environ", "getenv", "putenv"}:
                self.values[id(os.environ)] = "os.environ"
            if (value is sys and "modules" in names) or used in _IMPORTS:
                for word, one in list(sys.modules.items()):
                    if isinstance(one, ModuleType) and not installed(word, one):
                        yield from self._named(word, one, names)
                for word in texts_in(function.__code__) & sys.modules.keys():
                    self.libraries.update(
                        {(id(sys.modules[word]), name): word for name in self.sets_elsewhere}
                    )
            yield from self._named(used, value, names)

    def _own_code_in(self, thing: Any, keeper: dict[int, str]) -> Iterator[Any]:
        """The functions, and objects, of one's own that a library's object keeps: a task, a callback."""
        queue, seen = deque([(thing, 0)]), {id(thing)}
        while queue and len(seen) < MOST_INSIDE:
            holder, depth = queue.popleft()
            for held in gc.get_referents(holder):
                one: Any = held() if isinstance(held, weakref.ref) else held
                if id(one) in seen or issubclass(type(one), ModuleType | _PLAIN):
                    continue
                seen.add(id(one))
                if not installed(module_of(one)):
                    yield one
                elif issubclass(type(one), FunctionType):
                    queue.append((dict(enclosed_by(one)), depth))
                elif depth < _DEPTH and not issubclass(type(one), type):
                    queue.append((one, depth + 1))
                    if may_change(one):
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
        space = vars(value) if module or is_for_all(value) else {}
        for one in sorted(names & space.keys()):
            inner = space[one]
            if not theirs or type(inner) in _CHANGEABLE or isinstance(inner, ModuleType | type):
                yield from self._named(one, inner, names, of)

    def _bindings(self, function: FunctionType, names: set[str]) -> None:
        sets, binds, elsewhere, handed = changes_of(function.__code__)
        by_name = texts_in(function.__code__) if names & BY_TEXT else set[str]()
        self.sets_elsewhere |= elsewhere | by_name
        self.handed |= handed | by_name
        by_text = names & {"setattr", "delattr"} or names >= {"type", "__setattr__"}
        self.sets |= sets | by_name | ({"setattr"} if by_text else set())
        here = id(function.__globals__)
        bare = bare_names(function.__code__)
        enclosed = dict(enclosed_by(function))
        for path, attribute in sorted(paths_set(function.__code__)):
            root = function.__globals__.get(path[0], sys.modules.get(path[0]))
            owner = functools.reduce(part_of, path[1:], enclosed.get(path[0], root))
            known = isinstance(owner, FunctionType | type) and installed(owner.__module__ or "")
            if isinstance(owner, ModuleType):
                known = attribute in BY_TEXT or installed(owner.__name__, owner)
            for text in texts_in(function.__code__) if known and attribute in BY_TEXT else ():
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


_CODE = (FunctionType, MethodType, functools.partial, type)
