"""A directory for temporary files that is too long for sockets, or full."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

RUN = """
from labsupport.workers import WorkerPool

with WorkerPool() as pool:
    print(pool.start(lambda client: "ran").finish())
"""
# a file may not grow: every write fails, as on a full disk
FULL = """
import resource, tempfile
from labsupport.{room} import {name}

tempfile.gettempdir()  # it is full a moment later
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
{name}()
"""


def run(code: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_workers_start_where_a_socket_would_have_too_long_a_path(tmp_path: Path) -> None:
    """The fork server listens in /tmp then; all is gone in the end, and nobody complains."""
    deep = tmp_path / ("x" * 150)
    deep.mkdir()
    ended = run(RUN, deep)
    assert (ended.stdout, ended.stderr) == ("ran\n", "")
    assert list(deep.iterdir()) == []


@pytest.mark.parametrize(("room", "name"), [("servers", "start_server"), ("database", "open_shop")])
def test_a_full_disk_is_said(room: str, name: str) -> None:
    """The error names the place and what to do; nothing is left."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # short enough for a socket
        ended = run(FULL.format(room=room, name=name), Path(place))
        assert list(Path(place).iterdir()) == []
    assert f"{place}/labsupport-" in ended.stderr
    assert ended.stderr.endswith(
        "cannot be written: File too large.\n"
        "Make room on the disk, or set TMPDIR to a directory that has some.\n"
    )
