"""Starting worker processes: a fork server, and functions sent to it by value."""

import atexit
import functools
import inspect
import io
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import multiprocessing.spawn
import multiprocessing.util
import sys
import sysconfig
import tempfile
import threading
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, ClassVar

import cloudpickle

from labsupport.errors import InvalidSettingError
from labsupport.processes import deaf, discard, place_for_sockets, protect, writing_to
from labsupport.workers.client import Job, restore_code, serve

_LABS = "labsupport.labs."
_STARTING = threading.Lock()
_LISTENER = "pymp-12345678/listener-12345678"  # as multiprocessing names it
_PRELOADED = [
    "labsupport.database",
    "labsupport.servers",
    "labsupport.workers.client",
    "redis",
    "sqlalchemy.dialects.sqlite",
]


def warm_up() -> None:
    """Start the fork server, if it is not there yet; it imports what workers need meanwhile.

    A fork of the kernel itself would carry over locks that its other threads hold; the fork server
    has no threads.
    """
    _make_place_to_listen()
    multiprocessing.forkserver.set_forkserver_preload(_PRELOADED)
    # this one unblocks SIGINT when it starts, so it comes first
    multiprocessing.resource_tracker.ensure_running()
    with deaf():  # and so each worker: they would print a traceback each
        multiprocessing.forkserver.ensure_running()


@functools.cache
def _make_place_to_listen() -> None:
    """Make the directory in which the fork server listens; two remove it, but never both."""
    usual = tempfile.tempdir
    tempfile.tempdir = str(place_for_sockets(_LISTENER))
    try:
        with writing_to(tempfile.tempdir):
            directory = Path(multiprocessing.util.get_temp_dir())
    finally:
        tempfile.tempdir = usual
    protect(directory)
    atexit.register(discard, directory)  # at an end in order multiprocessing removes it


def launch(job: Job) -> tuple[ForkServerProcess, Connection]:
    """Start a process that does the job; the connection is the lab's end of a pipe to it."""
    warm_up()
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, job), daemon=True)
    try:
        with _without_the_script(process.name):
            process.start()
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours


@contextmanager
def _without_the_script(name: str) -> Iterator[None]:
    """Have a process run none of the script that started it: its functions come by value.

    Multiprocessing would import that script in each process, whose own first lines would start more.
    """
    spawn: Any = multiprocessing.spawn

    def prepared(child: str) -> dict[str, Any]:
        drop = ("init_main_from_name", "init_main_from_path") if child == name else ()
        return {key: value for key, value in usual(child).items() if key not in drop}

    with _STARTING:
        usual = spawn.get_preparation_data
        spawn.get_preparation_data = prepared
        try:
            yield
        finally:
            spawn.get_preparation_data = usual


def pack(function: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    """Pickle a function with its arguments so that it works where its module is not known.

    Raises:
        InvalidSettingError: it uses something that only exists in this process.
    """
    modules = {_module_by_value(item) for item in (function, *args) if callable(item)}
    # a worker that imported a lab would import its figures, and with them all that draws
    labs = [module for name, module in sys.modules.items() if name.startswith(_LABS)]
    with _by_value({module for module in (*modules, *labs) if module}):
        try:
            return _dumps((function, args))
        except Exception as error:
            raise _explain((function, *args), error) from None


def _reduce_code(code: CodeType) -> tuple[Callable[..., CodeType], tuple[Any, ...]]:
    make, args = cloudpickle.Pickler.dispatch_table[CodeType](code)
    return restore_code, (make, args, code.co_filename)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Keeps the names of the files that code is from: since 3.1.3 cloudpickle drops them.

    Without them a traceback from a worker could not show the learner's own line.
    """

    dispatch_table: ClassVar[Mapping[Any, Any]] = ChainMap(
        {CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table
    )


def _dumps(item: Any) -> bytes:
    buffer = io.BytesIO()
    _Pickler(buffer).dump(item)
    return buffer.getvalue()


def _module_by_value(item: Callable[..., Any]) -> ModuleType | None:
    """The module of a function if it is the learner's, not a library's."""
    while isinstance(item, functools.partial):
        item = item.func
    module = sys.modules.get(getattr(item, "__module__", None) or "")
    path = getattr(module, "__file__", None)
    if module is None or path is None or module.__name__ in ("__main__", "__mp_main__"):
        return None  # cloudpickle takes __main__ by value as it is
    if module.__name__.startswith("labsupport."):
        return None
    libraries = (sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))
    return None if any(Path(path).is_relative_to(library) for library in libraries) else module


@contextmanager
def _by_value(modules: Iterable[ModuleType]) -> Iterator[None]:
    registered = [
        module
        for module in modules
        if module.__name__ not in cloudpickle.list_registry_pickle_by_value()
    ]
    for module in registered:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in registered:
            cloudpickle.unregister_pickle_by_value(module)


def _explain(items: tuple[Any, ...], error: Exception) -> InvalidSettingError:
    """Find the function that cannot be sent, and the name in it that is the cause."""
    for item in items:
        if not _can_be_sent(item):
            name = getattr(item, "__name__", type(item).__name__)
            used = inspect.getclosurevars(item) if inspect.isfunction(item) else None
            names = {**used.globals, **used.nonlocals} if used else {}
            guilty = next(
                (f"`{key}`" for key, value in names.items() if not _can_be_sent(value)), ""
            )
            what = f"{guilty}, which " if guilty else "something that "
            return InvalidSettingError(
                f"{name} uses {what}cannot be sent to another process: {error}.",
                "Use only what the function is given (its `redis` and `db`), or make it inside.",
            )
    return InvalidSettingError(f"The workers' task cannot be sent: {error}.", "Simplify it.")


def _can_be_sent(item: Any) -> bool:
    try:
        _dumps(item)
    except Exception:
        return False
    return True
