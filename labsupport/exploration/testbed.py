"""The lab's own Redis and shop as the explorer's testbed."""

import atexit
import functools
import sys
from contextlib import suppress
from typing import Any

import redis

from labsupport.database import Database, open_shop
from labsupport.errors import ServerNotFoundError
from labsupport.explorer import Session, System
from labsupport.servers import OWNER_KEY, Endpoint, connect_client, open_redis

__all__ = ["LabTestbed", "close_testbed", "open_system"]

# Then hashes and sets keep the order in which they were filled, however long what they hold is; that of
# one with very many is by a seed which each server draws for itself.
_IN_ORDER = {f"{kind}-max-listpack-value": 1_000_000 for kind in ("hash", "set", "zset")}

# A busy machine is late, and is no fault that the explorer made: here only a dead server answers nothing.
_PATIENCE_SECONDS = 60.0

_COURSE = frozenset({"labsupport.course", "labsupport.lab"})


class LabTestbed:
    """A Redis of the explorer's own, and a copy of the shop.

    In the course, REDIS_URL and DATABASE_URL name other servers for them; elsewhere these variables are
    those of the explored code.
    """

    kept_key = OWNER_KEY

    def __init__(self) -> None:
        in_the_course = not _COURSE.isdisjoint(sys.modules)
        self._endpoint = open_redis() if in_the_course else _own_redis()
        self.db: Database = open_shop(None if in_the_course else "")
        self.db.snapshot()
        server = self._endpoint.server
        self.server_pid = server.pid if server is not None else None
        if server is not None:
            self._keep_in_order()

    def _keep_in_order(self) -> None:
        with self.client() as admin:
            for setting, most in _IN_ORDER.items():
                with suppress(redis.ResponseError):  # Redis 7.0 knows no such sets
                    admin.config_set(setting, most)

    @property
    def alive(self) -> bool:
        """False when the database is gone."""
        return self.db.fetch_one("SELECT 1 AS one") is not None

    def client(self) -> redis.Redis:
        """A new client of the server."""
        most = _PATIENCE_SECONDS
        return connect_client(self._endpoint.url, socket_timeout=most, socket_connect_timeout=most)

    def session(self, around: Any) -> Session:
        """One more session on the shop, which does not wait for a lock."""
        return self.db.session(busy_seconds=0, around=around)

    def restore(self) -> None:
        """Bring the shop back to the data's state."""
        self.db.restore()

    def close(self) -> None:
        """Remove the shop, and end the server if it is the lab's."""
        self.db.close()
        self._endpoint.close()


def _own_redis() -> Endpoint:
    try:
        return open_redis("")
    except ServerNotFoundError:  # it says to set REDIS_URL
        return open_redis()


@functools.cache
def _shared() -> list[System]:
    return []


def open_system() -> System:
    """The system of this process; made when first needed, and anew when its server is gone.

    Raises:
        InvalidSettingError: an exploration is running.
    """
    systems = _shared()
    with System.alone():
        if systems and not systems[-1].alive:
            _close(systems)
        if not systems:
            systems.append(System(LabTestbed()))
            atexit.register(close_testbed)
        return systems[-1]


def close_testbed() -> None:
    """Give back what the explorer keeps in this process; the next exploration makes it anew.

    Raises:
        InvalidSettingError: an exploration is running.
    """
    with System.alone():
        _close(_shared())


def _close(systems: list[System]) -> None:
    for system in list(systems):
        with suppress(Exception):  # its server may be gone, and with it what was to be closed
            system.close()
    systems.clear()
