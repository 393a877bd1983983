"""An exception from a worker, made to look as if it had happened here."""

import sysconfig
from pathlib import Path
from typing import Any

from labsupport.workers.client import Failure, Frame

__all__ = ["rebuild"]

_MOST_FRAMES = 20


def rebuild(failure: Failure) -> BaseException:
    """Give the exception a traceback of the learner's own lines, which this process can show.

    A traceback cannot be sent, and the worker does not have the text of a notebook's cells. So the
    exception is raised again here, by code that carries the file names and line numbers of there.
    """
    error = failure.error
    error.__traceback__ = None
    scope: dict[str, Any] = {"error": error}
    source = "raise error"
    frames = [frame for frame in failure.frames if _is_learners(frame)]
    for frame in reversed(frames[-_MOST_FRAMES:]):
        code = compile("\n" * (frame.line - 1) + source, frame.path, "exec")
        scope = {"inner": code.replace(co_name=frame.function), "scope": scope}
        source = "exec(inner, scope)"
    try:
        exec(source, scope)
    except BaseException as raised:
        trace = raised.__traceback__
        for _ in range(2 if trace and trace.tb_next else 0):  # this function, and the line above
            trace = trace.tb_next if trace else None
        return raised.with_traceback(trace)
    raise AssertionError("what was to raise did not")


def _is_learners(frame: Frame) -> bool:
    paths = sysconfig.get_paths()
    libraries = (paths["stdlib"], paths["purelib"], paths["platlib"], "<frozen")
    ours = str(Path(__file__).parents[1])
    return not frame.path.startswith((*libraries, ours))
