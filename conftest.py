"""What a session of tests needs, those of nbval among them."""

import functools
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterable
from typing import Any

import pytest

_LACKS = "Not on this server: "
_LONGEST = frozenset({"15_own_code.ipynb"})


def pytest_configure(config: pytest.Config) -> None:
    """Give the session a place of its own, and its kernels sockets that nobody else can take."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background of a script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # In /tmp, because a socket's path may be no longer than some 100 characters.
    directory = tempfile.mkdtemp(prefix="lab-", dir="/tmp")
    config.add_cleanup(lambda: shutil.rmtree(directory, ignore_errors=True))
    os.environ["JUPYTER_RUNTIME_DIR"] = directory
    # Not the reader's own progress: what hint() shows depends on it.
    os.environ["LAB_PROGRESS"] = os.path.join(directory, "progress.json")
    if config.getoption("nbval", default=False):
        config.option.loadscopereorder = False  # the most cells first is not the longest first
        # Nobody watches: a frame in two seconds shows that charts draw, and leaves the cores to the runs.
        os.environ.setdefault("LAB_FRAMES_PER_SECOND", "0.5")
        plain = {"LAB_SHARPER": "1"}  # of kernels: no projector shows their pictures
        import nbval.kernel

        # Over TCP a kernel is told five ports that were free a moment ago: two that start at once
        # may be told the same one, and then one of them never answers.
        start, number = nbval.kernel.KernelManager, itertools.count()

        def with_own_sockets(**options: Any) -> Any:
            manager = start(transport="ipc", ip=f"{directory}/kernel-{next(number)}", **options)
            manager.start_kernel = functools.partial(manager.start_kernel, env=plain | os.environ)
            return manager

        nbval.kernel.KernelManager = with_own_sockets


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: at the end it would be alone, and a core idle."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Skip a cell of a notebook that its server does not allow, or that only tells so."""
    try:
        return (yield)
    except Exception:
        if lacking := _lacking(item):
            pytest.skip(lacking)
        raise


def _lacking(item: Any) -> str:
    """What the server lacks, if a cell differs from the saved one by nothing else; else ""."""
    outputs = getattr(item, "test_outputs", None) or ()
    errors = [one for one in outputs if one.get("ename")]
    if errors or not outputs:
        allowed = [one["evalue"] for one in errors if one["ename"] == "NotOnThisServerError"]
        return str(allowed[0]).partition("\n")[0] if allowed else ""
    saved, lines = _lines(item.cell.outputs), _lines(outputs)
    for line in [line for line in lines if line.startswith(_LACKS)]:
        item.parent.lacking = line.removeprefix(_LACKS)
        lines.remove(line)
    differ = [line for line, before in zip(lines, saved, strict=False) if line != before]
    if differ and len(lines) == len(saved) and all("not exercised" in line for line in differ):
        return getattr(item.parent, "lacking", "")
    return ""


def _lines(outputs: Iterable[Any]) -> list[str]:
    """The lines of a cell's outputs as text, without what aligns the columns of a table."""
    texts = (one.get("text") or one.get("data", {}).get("text/plain", "") for one in outputs)
    return [" ".join(line.split()) for text in texts for line in text.splitlines()]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what a notebook's cell wrote to stderr, which nbval only says is there."""
    report = yield
    for output in getattr(item, "test_outputs", None) or ():
        if report.failed and output.get("name") == "stderr":
            report.sections.append(("What the cell wrote to stderr", output["text"]))
    return report
