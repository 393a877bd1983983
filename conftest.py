"""What a session of tests needs, those of nbval among them."""

import itertools
import os
import shutil
import tempfile

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Give the session a place of its own, and its kernels sockets that nobody else can take."""
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
