"""What a session of tests needs, those of nbval among them."""

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Generator

import pytest


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
        import nbval.kernel

        # Over TCP a kernel is told five ports that were free a moment ago: two that start at once
        # may be told the same one, and then one of them never answers.
        start, number = nbval.kernel.KernelManager, itertools.count()
        nbval.kernel.KernelManager = lambda **options: start(
            transport="ipc", ip=f"{directory}/kernel-{next(number)}", **options
        )


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
