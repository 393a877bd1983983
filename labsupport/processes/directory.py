"""Directories for temporary files: private, with room for a socket's path, gone with the kernel."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labsupport.errors import LabError
from labsupport.processes.reaper import discard, protect

_LONGEST_SOCKET_PATH = 99  # macOS takes 103 bytes, Linux 107


class PrivateDirectory:
    """A directory that only this user can enter; this process removes it, or else the reaper.

    Args:
        socket: the path of a socket in it, for which it has to be short enough.

    Attributes:
        path: where it is, once it was made.
    """

    def __init__(self, socket: str = "") -> None:
        name = f"labsupport-{secrets.token_hex(6)}"
        self.path = place_for_sockets(f"{name}/{socket}") / name
        self._owner = os.getpid()

    def make(self) -> None:
        """Make it, if it is not there."""
        if not self.path.exists():
            # before it exists: there is no moment at which it could be left
            protect(self.path)
            with writing_to(self.path):
                self.path.mkdir(mode=0o700)

    def remove(self) -> None:
        """Remove it with all that is in it; a forked child has no say."""
        if self._owner == os.getpid():
            shutil.rmtree(self.path, ignore_errors=True)
            discard(self.path)


def place_for_sockets(socket: str) -> Path:
    """The directory for temporary files; /tmp if the path of a socket there would be too long.

    Args:
        socket: its path below that directory.

    Raises:
        LabError: nothing can be written anywhere.
    """
    with writing_to("The directory for temporary files"):
        usual = Path(tempfile.gettempdir()).absolute()
    fits = len(os.fsencode(usual / socket)) <= _LONGEST_SOCKET_PATH
    return usual if fits else Path("/tmp")


@contextmanager
def writing_to(place: Path | str) -> Iterator[None]:
    """Say what to do when the operating system refuses to write: a full disk, no permission.

    Raises:
        LabError: instead of the OSError.
    """
    try:
        yield
    except OSError as error:
        raise LabError(
            f"{place} cannot be written: {error.strerror or error}.",
            "Make room on the disk, or set TMPDIR to a directory that has some.",
        ) from error
