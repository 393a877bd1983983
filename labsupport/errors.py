"""What can go wrong, and the remedy.

Every error that the lab raises on purpose is a `LabError`: it says in one line what failed and in a
second line what to do now. In a notebook it is shown as those two lines, without a traceback.
"""

import functools
import inspect
import os
import re
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

_Parameters = ParamSpec("_Parameters")
_Returned = TypeVar("_Returned")
_LAB = str(Path(__file__).parent) + os.sep
_ELSEWHERE = ("site-packages", _LAB, sysconfig.get_paths()["stdlib"])
_WHERE_IN_A_SCRIPT = re.compile(r" script: (?:[0-9a-f]{40}, )?on @\w+:\d+\.$")


class LabError(Exception):
    """Something failed that the reader can mend.

    Args:
        problem: what failed, in one sentence, naming the setting, server or key.
        remedy: what to do now, in one sentence.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n{self.remedy}"

    def _render_traceback_(self) -> list[str]:
        """IPython asks an exception for this before it formats a traceback."""
        return [f"{type(self).__name__}: {self.problem}", f"→ {self.remedy}"]


class Interrupted(KeyboardInterrupt):
    """Interrupt was pressed; what was begun has been ended. A notebook shows it as one line."""

    def __str__(self) -> str:
        return "stopped, and nothing of it is left running."

    def _render_traceback_(self) -> list[str]:
        return [f"KeyboardInterrupt: {self}"]


class ServerNotFoundError(LabError):
    """There is no redis-server to start: no wheel, none on PATH, no REDIS_URL."""


class ServerTooOldError(LabError):
    """The server is older than the oldest that the labs support."""


class NotOnThisServerError(LabError):
    """The server lacks what was asked for, or the client refuses it there; another one will do."""


class ServerUnreachableError(LabError):
    """The server does not answer, or refuses the credentials."""


class ForeignKeysError(LabError):
    """The database holds keys that the lab did not write."""


class BeyondDatabaseError(LabError):
    """A command reaches beyond the lab's database, on a server that is not the lab's."""


class DatabaseUnreachableError(LabError):
    """DATABASE_URL cannot be opened."""


class DatabaseBusyError(LabError):
    """Another transaction holds the lock that this statement needs."""


class StatementError(LabError):
    """The database refused a SQL statement, or its parameters do not fit it."""


class ConstraintError(StatementError):
    """A SQL statement would have broken a constraint, e.g. a unique key; nothing was changed."""


class InvalidSettingError(LabError):
    """A knob or an argument is outside its range or of the wrong type."""


class AddressError(InvalidSettingError):
    """The address of a server, in a variable or an argument, cannot be that of one."""


class CallError(LabError, TypeError):
    """A function of the lab was called with too few arguments, too many, or one of another name."""


class NotInstalledError(LabError, ImportError):
    """What was asked for needs a package that this environment lacks."""


class LabClosedError(LabError):
    """A client of a lab was used after the lab was closed."""


class UnknownNameError(LabError):
    """There is no lab, exercise or experiment of that name."""


class NotSteppableError(LabError):
    """The explorer was given code whose steps it cannot control."""


class NotDeterministicError(LabError):
    """The same schedule gave different steps when it was replayed."""


class WorkerError(LabError):
    """A worker process failed, or did not do what it was told in time."""


def plain_error(error: BaseException) -> str:
    """An error's text, with the errors of a group.

    Of a script's, without the digest, which each server puts in another way.
    """
    try:
        text = _WHERE_IN_A_SCRIPT.sub("", str(error))
    except Exception:  # the learner's own class has no text
        text = ""
    if not isinstance(error, BaseExceptionGroup):
        return text
    return f"{text}: " + ", ".join(
        f"{type(one).__name__}: {plain_error(one)}".removesuffix(": ") for one in _leaves(error)
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors of a group, and of the groups in it; another one by itself."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for one in error.exceptions:
        yield from _leaves(one)


class ImplementationError(LabError):
    """The function under study raised; the original is `__cause__`.

    Args:
        where: which function, client or run it happened in.
        error: what it raised.
    """

    def __init__(self, where: str, error: BaseException) -> None:
        self.where = where
        self.error = error
        frames = traceback.extract_tb(next(_leaves(error)).__traceback__)
        at = next(
            (
                f" at line {f.lineno}: {f.line}"
                for f in reversed(frames)
                if _is_learners(f.filename)
            ),
            "",
        )
        super().__init__(
            f"{where} raised {type(error).__name__}: {plain_error(error)}".removesuffix(": ") + at,
            "Mend the function and run it again; `error.__cause__` is the original.",
        )
        self.__cause__ = error

    def __reduce__(self) -> tuple[type, tuple[str, BaseException]]:
        return type(self), (self.where, self.error)


SURROUNDINGS = (
    ServerNotFoundError,
    ServerTooOldError,
    NotOnThisServerError,
    ServerUnreachableError,
    ForeignKeysError,
    DatabaseUnreachableError,
    AddressError,
)
"""What says that the machine or a setting is in the way, and nothing of the reader's function."""


def called_as(
    form: str,
) -> Callable[[Callable[_Parameters, _Returned]], Callable[_Parameters, _Returned]]:
    """A decorator: who calls the function wrongly is told so in two lines, with the right call.

    Args:
        form: how it is called; {type} stands for the class of a method's object.
    """

    def decorate(function: Callable[_Parameters, _Returned]) -> Callable[_Parameters, _Returned]:
        @functools.wraps(function)
        def called(*args: _Parameters.args, **options: _Parameters.kwargs) -> _Returned:
            require_call(function, args, options, form=form)
            return function(*args, **options)

        return called

    return decorate


def require_call(
    function: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any], *, form: str
) -> None:
    """Refuse arguments that a function does not take, before it is called.

    Raises:
        CallError: it would raise a TypeError; the remedy is the right call.
    """
    try:
        inspect.signature(function).bind(*args, **options)
    except TypeError as error:
        name = function.__name__
        if name == "__init__":
            name = type(args[0]).__name__
        remedy = form.replace("{type}", type(args[0]).__name__ if args else "")
        raise CallError(f"{name}(): {error}.", f"Call it as {remedy}.") from None


def own_lines(error: BaseException) -> TracebackType | None:
    """An error's traceback without the lab's lines, up to the last line of the reader's code."""
    lines: list[TracebackType] = []
    trace = error.__traceback__
    while trace is not None:
        lines.append(trace)
        trace = trace.tb_next
    files = [one.tb_frame.f_code.co_filename for one in lines]
    while files and not _is_learners(files[-1]):
        files.pop()
    shown = None
    for one, file in reversed(list(zip(lines, files, strict=False))):
        if not file.startswith(_LAB):
            shown = TracebackType(shown, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return shown


def _is_learners(file: str) -> bool:
    return not any(place in file for place in _ELSEWHERE)
