"""The namespaces that explored code uses: its functions' own, those of modules, and what they share."""

import functools
import operator
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

__all__ = ["CACHED", "UNSEEN", "Namespaces", "installed", "names_of", "stands_in"]

CACHED = type(functools.cache(lambda: None))
"""The type of a function whose results are kept (functools.cache and lru_cache)."""

UNSEEN = frozenset(
    {"MySQLdb", "_duckdb", "_mysql", "apsw", "cx_Oracle", "duckdb", "ibm_db", "mariadb", "oracledb"}
    | {"psycopg2", "pymssql", "pyodbc", "sqlcipher3"}
)
"""Drivers written in C, of whose statements nothing in Python tells."""

_PATHS = sysconfig.get_paths()
# the user's own, Debian's, and another environment's that a .pth file names, are on sys.path only
_SITE = tuple(
    {_PATHS["purelib"], _PATHS["platlib"]}
    | {path for path in sys.path if Path(path).name in {"site-packages", "dist-packages"}}
)
_INSTALLED = (_PATHS["stdlib"], *_SITE)
# Whatever runs the notebook or the test: its own clock is none of the explored code's.
_HOSTS = frozenset(
    {"IPython", "_pytest", "comm", "coverage", "debugpy", "execnet", "ipykernel", "ipywidgets"}
    | {"jupyter_client", "jupyter_core", "matplotlib", "matplotlib_inline", "nbclient", "numpy"}
    | {
        "pandas",
        "pip",
        "pluggy",
        "psutil",
        "pydevd",
        "pytest",
        "sqlalchemy",
        "tornado",
        "traitlets",
    }
    | {
        "xdist",
        "zmq",
        "hypothesis",
        "labsupport",
        "greenlet",
        "setuptools",
        "PIL",
        "prompt_toolkit",
    }
)


class Namespaces:
    """What the functions can reach.

    Args:
        functions: the clients, `given` and the invariant.

    Attributes:
        own: the namespaces of code that is not installed: the learner's.
    """

    _known: tuple[list[Any], list[ModuleType], list[dict[str, Any]]] = ([], [], [])

    def __init__(self, functions: Iterable[Callable[..., Any]]) -> None:
        found = {id(vars(module)): vars(module) for module in self._modules()[0]}
        for function in _reached(functions):
            if not _belongs_elsewhere(function):
                found[id(function.__globals__)] = function.__globals__
        self.own = list(found.values())

    @classmethod
    def libraries(cls) -> list[dict[str, Any]]:
        """The namespaces of installed libraries, but for those that run the notebook or the test."""
        return cls._modules()[1]

    @classmethod
    def _modules(cls) -> tuple[list[ModuleType], list[dict[str, Any]]]:
        """The learner's modules, and the libraries'; looked up anew when one was imported."""
        known, own, libraries = cls._known
        present = list(sys.modules.values())
        if len(known) != len(present) or not all(map(operator.is_, known, present)):
            own, libraries = [], []
            for name, module in list(sys.modules.items()):
                if not isinstance(module, ModuleType):
                    continue
                file = str(getattr(module, "__file__", None) or "")
                if not installed(name, module):
                    own.append(module)
                elif name.partition(".")[0] not in _HOSTS and file.startswith(_SITE):
                    libraries.append(vars(module))
            cls._known = (present, own, libraries)
        return own, libraries


@functools.lru_cache(maxsize=4096)
def _is_installed_file(file: str) -> bool:
    return file.startswith(_INSTALLED) and not file.startswith(_from_a_folder())


@functools.cache
def _from_a_folder() -> tuple[str, ...]:
    """What was installed from a folder or a repository: the application's own (PEP 610).

    conda's packages were built from a folder, on another machine.
    """
    found: list[str] = []
    for direct in (
        file for site in _SITE for file in Path(site).glob("*.dist-info/direct_url.json")
    ):
        known = metadata.PathDistribution(direct.parent)
        if "archive_info" in direct.read_text():  # a wheel that was carried here
            continue
        if (known.read_text("INSTALLER") or "").strip() != "conda":
            parts = {file.parts[0] for file in known.files or ()}
            tops = (str(known.locate_file(part)) for part in parts - {".."})
            found += (top if top.endswith(".py") else top + os.sep for top in tops)
    return tuple(found)


def installed(name: str, module: ModuleType | None = None) -> bool:
    """True for a module of the standard library, of an installed library, or of the lab itself.

    What was installed from a folder or a repository, as `pip install .` does, is no library.
    """
    name = str(name)  # a class of Cython's has a descriptor there
    if name.partition(".")[0] in {"labsupport", "tests"} and name != "tests":
        return name.startswith("labsupport")
    module = module or sys.modules.get(name)
    if module is None:
        return False
    if name in sys.builtin_module_names or name in sys.stdlib_module_names:
        return True
    file = getattr(module, "__file__", None)
    return file is not None and _is_installed_file(file)


def names_of(code: CodeType) -> Iterator[str]:
    """The global names that a function's code uses, those of the functions inside it too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names_of(constant)


def stands_in(thing: Any) -> bool:
    """Whether something stands for another object, and says that it is one of its class.

    To ask it what it is may set that object up, or fail where there is none yet.
    """
    return any("__class__" in vars(kind) for kind in type(thing).__mro__[:-1])


def _belongs_elsewhere(function: FunctionType) -> bool:
    # by the file of its code: what a cell defines belongs to the module that runs the cell
    module = (function.__module__ or "").partition(".")[0]
    return module == "labsupport" or _is_installed_file(function.__code__.co_filename)


def _reached(functions: Iterable[Callable[..., Any]]) -> Iterator[FunctionType]:
    """The functions, and those that these reach through closures, classes, objects and names."""
    seen: set[int] = set()
    queue: list[Any] = list(functions)
    while queue:
        thing = queue.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        kind = type(thing)  # isinstance() would ask a stand-in, which may not be set up
        if issubclass(kind, functools.partial | MethodType):
            queue.append(getattr(thing, "func", None) or thing.__func__)
            queue.append(getattr(thing, "__self__", None))
        elif issubclass(kind, type):
            if not installed(getattr(thing, "__module__", "")):
                queue.extend(vars(thing).values())
        elif issubclass(kind, FunctionType):
            yield thing
            queue.extend(_enclosed(thing))  # a check's own function encloses the learner's
            if not _belongs_elsewhere(thing):
                queue.extend(
                    thing.__globals__[name]
                    for name in names_of(thing.__code__)
                    if name in thing.__globals__
                )
        elif not issubclass(kind, ModuleType) and kind.__module__ != "builtins":
            queue.append(kind)


def _enclosed(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not yet assigned
            continue
