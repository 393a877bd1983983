"""What explored code keeps of clocks, chance and thread-locals: in defaults, closures, attributes."""

import datetime
import functools
import gc
import pickle
import random
import sqlite3
import sys
import threading
from asyncio import events
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from contextvars import Context, ContextVar
from types import BuiltinMethodType, FunctionType, MappingProxyType, MethodType, ModuleType
from typing import Any

from labsupport.errors import NotSteppableError
from labsupport.explorer.clients.namespaces import CACHED, UNSEEN, installed, names_of, stands_in

__all__ = ["Captured", "OwnLocals", "hidden", "stand_in_for"]

_PRESENT = frozenset({"now", "today", "utcnow"})
_WHO = frozenset({"current_thread", "get_ident", "get_native_id", "getpid"})  # and no clocks
_REGISTRY = "ThreadLocalRegistry"  # of a scoped_session of SQLAlchemy's
_HIDING = (ContextVar, CACHED, type(iter(int, 1)), map, filter, zip)
_OF_MODULE = random.random.__self__  # type: ignore[attr-defined]
_MOST_VALUES = 1_000  # of a container; longer ones hold data, and are looked at, but not into


class Captured(ExitStack):
    """Puts a stand-in wherever the functions keep what it stands for; undone at the end of the block.

    Args:
        functions: the clients, `given` and the invariant; all that they reach is looked at.
        stand_ins: by the identity of what each stands for.
        goes_on: a generator does not draw in the next exploration what it has drawn in this one.

    Attributes:
        connections: those to SQLite that were found.
        locals: those of threads.
        generators: of random numbers, of Python's.
        drew_by_numpy: one of numpy's was drawn from.

    Raises:
        NotSteppableError: a tuple keeps one, and cannot be changed.
    """

    def __init__(
        self,
        functions: Iterable[Callable[..., Any]],
        stand_ins: dict[int, Any],
        *,
        goes_on: bool = False,
    ) -> None:
        super().__init__()
        self._goes_on = goes_on
        *self._clients, given, invariant = functions
        self._others = [given, invariant]
        self._stand_ins = stand_ins
        self.connections: list[sqlite3.Connection] = []
        self.locals: list[threading.local] = []
        self.generators: list[random.Random] = []
        self._of_numpy: list[tuple[Callable[[], Any], bytes]] = []
        self._chance: list[
            tuple[Callable[[Any], object], Any]
        ] = []  # how to set a state, and which

    def __enter__(self) -> "Captured":
        super().__enter__()
        seen: dict[int, Any] = {}
        for functions in (self._clients, self._others):
            self._in_clients = functions is self._clients
            queue: list[Any] = list(functions)
            while queue:
                thing = queue.pop()
                if id(thing) in seen or stands_in(thing):
                    continue
                if isinstance(thing, str | bytes | int | float | None):
                    continue
                seen[id(thing)] = thing
                queue.extend(self._look(thing))
        return self

    def restart(self) -> None:
        """Let each generator of random numbers draw the same in the next run."""
        for put_back, state in self._chance:
            put_back(state)

    @property
    def drew_by_numpy(self) -> bool:
        return any(pickle.dumps(state()) != begin for state, begin in self._of_numpy)

    def each_run(self, put_back: Callable[[Any], object], state: Any) -> None:
        """Have a state set at the beginning of each run."""
        self._chance.append((put_back, state))

    def _look(self, thing: Any) -> Iterable[Any]:
        """Replace what a thing keeps, and say what else to look at."""
        if isinstance(thing, FunctionType):
            return self._function(thing)
        if isinstance(thing, functools.partial):
            return self._partial(thing)
        if isinstance(thing, MethodType):
            return [thing.__func__, thing.__self__]
        if isinstance(thing, staticmethod | classmethod):
            return [thing.__func__]
        if isinstance(thing, property):
            return [thing.fget, thing.fset]
        if isinstance(thing, type):
            return [] if installed(thing.__module__) else self._class(thing)
        if isinstance(thing, ModuleType):
            if thing.__name__ in {"numpy", "numpy.random"}:
                numpy = sys.modules["numpy"]
                self._numpy_draws(numpy.random.set_state, numpy.random.get_state)
            return [] if installed(thing.__name__, thing) else list(vars(thing).values())
        if isinstance(thing, dict):
            made = getattr(thing, "default_factory", None)
            if self._has(made):
                thing.default_factory = self._for(made)  # type: ignore[attr-defined]
                self.callback(setattr, thing, "default_factory", made)
            return [made, *self._items(thing, list(thing.items()))]
        if isinstance(thing, list):
            return self._items(thing, list(enumerate(thing)))
        if isinstance(thing, tuple | set | frozenset):
            return self._fixed(thing)
        return self._instance(thing)

    def _function(self, function: FunctionType) -> Iterator[Any]:
        ours = (function.__module__ or "").startswith("labsupport")
        if installed(function.__module__ or "") and not ours:
            return
        defaults = function.__defaults__ or ()
        if any(self._has(value) for value in defaults):
            function.__defaults__ = tuple(self._for(value) for value in defaults)
            self.callback(setattr, function, "__defaults__", defaults)
        yield from defaults
        if function.__kwdefaults__:
            yield from self._items(function.__kwdefaults__, list(function.__kwdefaults__.items()))
        yield from self._cells(function)
        yield getattr(function, "__wrapped__", None)
        if ours:  # a check's own function: it encloses the learner's
            return
        for name in names_of(function.__code__):
            yield function.__globals__.get(name)

    def _cells(self, function: FunctionType) -> Iterator[Any]:
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:  # not yet assigned
                continue
            if self._has(value):
                cell.cell_contents = self._for(value)
                self.callback(setattr, cell, "cell_contents", value)
            yield value

    def _table(self, table: Any) -> Iterator[Any]:
        """What SQLAlchemy calls for the values of columns: it has wrapped what the code gave."""
        for column in table.columns:
            for default in (column.default, column.onupdate):
                called = getattr(default, "arg", None)
                if isinstance(called, FunctionType):
                    yield from self._cells(called)

    def _partial(self, partial: Any) -> Iterable[Any]:
        function, args, options, attributes = partial.__reduce__()[2]
        if any(self._has(value) for value in (function, *args)):
            args_now = tuple(self._for(value) for value in args)
            partial.__setstate__((self._for(function), args_now, options, attributes))
            self.callback(partial.__setstate__, (function, args, options, attributes))
        return [function, *args, *self._items(options, list(options.items()))]

    def _class(self, owner: type) -> Iterator[Any]:
        for name, value in list(vars(owner).items()):
            inner = value.__func__ if isinstance(value, staticmethod) else value
            if self._has(inner):
                now = self._for(inner)
                setattr(owner, name, staticmethod(now) if inner is not value else now)
                self.callback(setattr, owner, name, value)
            yield value
        yield from owner.__mro__[1:]
        yield type(owner)

    def _items(self, container: Any, items: list[tuple[Any, Any]]) -> list[Any]:
        for key, value in items:
            if self._has(value):
                container[key] = self._for(value)
                self.callback(_put_back, container, key, value, container[key])
        return [value for _, value in items] if len(items) <= _MOST_VALUES else []

    def _fixed(self, values: Any, holder: Any = None) -> list[Any]:
        """What cannot be changed: it must keep no clock."""
        for value in values:
            if not self._has(value) or isinstance(value, type | ModuleType):
                continue
            if getattr(value, "__name__", "") not in _WHO:
                kind = type(values if holder is None else holder)
                raise NotSteppableError(
                    f"The explored code keeps {getattr(value, '__name__', value)!r} in a "
                    f"{kind.__name__.strip('_')}, where the explorer cannot hold the clock.",
                    "Keep it in a list, a dict or an attribute, or call it by its name.",
                )
        return list(values) if len(values) <= _MOST_VALUES else []

    def _instance(self, thing: Any) -> Iterable[Any]:
        kind = type(thing)
        module = str(kind.__module__)  # a class of Cython's has a descriptor there
        if isinstance(thing, threading.local):
            self.locals.append(thing)
            return []
        self._note(thing, module)
        self._refuse_unseen(kind, module)
        if module == "sqlalchemy.sql.schema" and kind.__name__ == "Table":
            return self._table(thing)
        if isinstance(thing, deque):
            return self._items(thing, list(enumerate(thing)))
        if isinstance(thing, MappingProxyType):
            return gc.get_referents(thing)
        if isinstance(thing, _HIDING):
            return self._fixed(list(hidden(thing)), thing)
        if module == "builtins":
            return []
        return self._attributes(thing, kind, module)

    def _note(self, thing: Any, module: str) -> None:
        """Keep what draws by chance, to have it draw the same in each run, and connections."""
        if isinstance(thing, random.Random):
            self.generators.append(thing)
            # the module's own, which a method brings that was imported by name, draws the same anyway
            if thing is not _OF_MODULE and not isinstance(thing, random.SystemRandom):
                state = thing.getstate()
                if self._goes_on:  # in the end, once it was put back
                    self.callback(thing.setstate, random.Random(repr(state)).getstate())
                self._draws(thing.setstate, state)
        elif module == "numpy.random._generator":
            bits = thing.bit_generator
            set_state = functools.partial(setattr, bits, "state")
            self._numpy_draws(set_state, functools.partial(getattr, bits, "state"))
        elif module == "numpy.random.mtrand":
            self._numpy_draws(thing.set_state, thing.get_state)
        elif isinstance(thing, sqlite3.Connection):
            self.connections.append(thing)
        elif isinstance(thing, sqlite3.Cursor):
            self.connections.append(thing.connection)

    def _refuse_unseen(self, kind: type, module: str) -> None:
        library = module.partition(".")[0]
        if not self._in_clients or library not in UNSEEN:
            return
        if hasattr(kind, "cursor") or hasattr(kind, "execute"):
            raise NotSteppableError(
                f"The explored code keeps a {kind.__name__} of {library}, "
                "whose statements the explorer cannot see.",
                "Use the db of the function, or an SQLAlchemy engine.",
            )

    def _attributes(self, thing: Any, kind: type, module: str) -> Iterable[Any]:
        """What an object's attributes lead to; of a library's, as far as that matters."""
        try:
            kept = getattr(thing, "__dict__", None)
        except Exception:  # it stands for something that is not there: a request, outside of one
            return []
        found = self._items(kept, list(kept.items())) if isinstance(kept, dict) else []
        if module.startswith("labsupport"):
            return [one for one in found if _may_lead_out(one)]
        if module == "collections":  # UserDict, ChainMap and their like
            return found
        if installed(module):
            # a lock of redis-py's keeps its token so, a scoped_session itself
            found += [thing.registry] if kind.__name__ == _REGISTRY else []
            return [
                one
                for one in found
                if isinstance(one, threading.local)
                or type(one).__name__ == _REGISTRY
                or _is_part(one, module)
            ]
        for slot in (name for one in kind.__mro__ for name in getattr(one, "__slots__", ())):
            value = getattr(thing, slot, None)
            if self._has(value):
                setattr(thing, slot, self._for(value))
                self.callback(setattr, thing, slot, value)
            found.append(value)
        return [*found, kind]

    def _numpy_draws(self, put_back: Callable[[Any], object], state: Callable[[], Any]) -> None:
        self._of_numpy.append((state, pickle.dumps(state())))
        self._draws(put_back, state())

    def _draws(self, put_back: Callable[[Any], object], state: Any) -> None:
        self.each_run(put_back, state)
        self.callback(put_back, state)  # the next exploration begins where this one did

    def _has(self, value: Any) -> bool:
        return stand_in_for(value, self._stand_ins) is not value

    def _for(self, value: Any) -> Any:
        return stand_in_for(value, self._stand_ins)


class OwnLocals:
    """What one client keeps in `threading.local`, to which it is a thread of its own in each run.

    The event loop that runs in it is one such thing.

    Args:
        locals_: those that matter.
    """

    def __init__(self, locals_: Iterable[threading.local]) -> None:
        self._locals = list(locals_)
        self.restart()

    def restart(self) -> None:
        """Forget what a run has kept: a thread begins anew."""
        self._kept: list[dict[str, Any] | None] = [None] * len(self._locals)
        self._loop: Any = None

    def swap(self) -> None:
        """Exchange the thread's for the client's, and back again."""
        loop = events._get_running_loop()
        if loop is not self._loop:
            events._set_running_loop(self._loop)
            self._loop = loop
        for at, local in enumerate(self._locals):
            there, kept = vars(local), self._kept[at]
            self._kept[at] = dict(there)
            there.clear()
            there.update(_begun(local) if kept is None else kept)


def _begun(local: threading.local) -> dict[str, Any]:
    """What a thread finds in it first: a class of the code's own may put something there."""
    found: dict[str, Any] = {}
    if type(local).__init__ is not object.__init__:
        thread = threading.Thread(target=lambda: found.update(vars(local)))
        thread.start()
        thread.join()
    return found


def stand_in_for(value: Any, stand_ins: dict[int, Any]) -> Any:
    """What stands for a value; what `datetime.now` was bound to asks for it again. Else the value itself.

    Args:
        value: of any kind.
        stand_ins: by the identity of what each stands for.
    """
    owner = value.__self__ if issubclass(type(value), BuiltinMethodType) else None
    if isinstance(owner, type) and issubclass(owner, datetime.date) and value.__name__ in _PRESENT:
        name = value.__name__
        return lambda *args, **options: getattr(owner, name)(*args, **options)
    return stand_ins.get(id(value), value)


def _is_part(thing: Any, module: str) -> bool:
    """Whether a library's object keeps another one of the library's, which may keep the clock."""
    library, *_ = module.split(".")
    if library in sys.stdlib_module_names:
        return False
    return str(type(thing).__module__).partition(".")[0] == library


def hidden(thing: Any) -> Iterator[Any]:
    """What an iterator, a context variable or a cached function has kept, as far as it can be seen."""
    if isinstance(thing, ContextVar):
        with suppress(LookupError):  # it has no default; what is set, no client sees
            yield Context().run(thing.get)
        return
    for kept in gc.get_referents(thing):
        yield kept
        if isinstance(thing, CACHED) and isinstance(kept, dict):
            for result in kept.values():  # or the link of a list that has it
                yield from (result, *gc.get_referents(result))


def _may_lead_out(kept: Any) -> bool:
    """Whether what the lab's own objects keep is the learner's, or a database that no client is handed."""
    return isinstance(
        kept, FunctionType | MethodType | sqlite3.Connection
    ) or "labsupport.database" in (type(kept).__module__, type(kept).__module__.rpartition(".")[0])


def _put_back(container: Any, key: Any, value: Any, stand_in: Any) -> None:
    with suppress(LookupError):  # the code has dropped it
        if container[key] is stand_in:
            container[key] = value
