"""An exception from a worker, made to look as if it had happened here."""

import sysconfig
from pathlib import Path
from types import FunctionType

from labsupport.workers.client import Failure, Frame

_MOST_FRAMES = 20


def rebuild(failure: Failure) -> BaseException:
    """Give the exception a traceback of the learner's own lines, which this process can show.

    A traceback cannot be sent, and the worker does not have the text of a notebook's cells. So the
    exception is raised again here, by functions that carry the file names and line numbers of there.
    """
    error = failure.error.with_traceback(None)
    frames = [frame for frame in failure.frames if _is_learners(frame)]
    call: FunctionType | None = None  # of the frame that the next one calls
    for frame in reversed(frames[-_MOST_FRAMES:]):
        line = "raise error" if call is None else "call()"
        code = compile("\n" * (frame.line - 1) + line, frame.path, "exec")
        names = {"error": error, "call": call}
        call = FunctionType(code.replace(co_name=frame.function), names)
    if call is None:
        return error
    try:
        call()
    except BaseException as raised:
        here = raised.__traceback__
        return raised.with_traceback(here.tb_next if here else None)
    raise AssertionError("what was to raise did not")


def _is_learners(frame: Frame) -> bool:
    paths = sysconfig.get_paths()
    libraries = (paths["stdlib"], paths["purelib"], paths["platlib"], "<frozen")
    ours = str(Path(__file__).parents[1])
    return not frame.path.startswith((*libraries, ours))
