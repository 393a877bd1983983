"""Opening a lab: a Redis, a database, and a line that says what they are."""

import weakref
from contextlib import suppress
from typing import Any, ClassVar

import redis
from IPython import get_ipython
from IPython.display import display

from labsupport.course import titles
from labsupport.database import Database, open_shop
from labsupport.errors import LabClosedError, LabError, UnknownNameError, called_as
from labsupport.exploration import close_testbed
from labsupport.processes import Closing
from labsupport.servers import open_redis


class Lab(Closing):
    """A lab's own Redis and its own copy of the shop's database.

    Opening a lab closes the one that was open in this kernel, so a cell can be run again.

    Args:
        name: the name of its folder, e.g. "cache_aside".
        redis_url: a Redis to use instead of an embedded one; default: the variable REDIS_URL.
        database_url: a database to use instead of SQLite; default: the variable DATABASE_URL.

    Attributes:
        redis: a client of the lab's Redis; replies are text.
        db: a session on the lab's database.

    Raises:
        UnknownNameError: there is no lab of that name.
        LabError: the Redis or the database cannot be had; the message says what to do.
    """

    _open: ClassVar["Lab | None"] = None

    @called_as('Lab("start_here")')
    def __init__(
        self, name: str, *, redis_url: str | None = None, database_url: str | None = None
    ) -> None:
        if name not in titles():
            raise UnknownNameError(
                f"There is no lab {name!r}.", f"The labs are: {', '.join(titles())}."
            )
        if Lab._open is not None:
            Lab._open.close()
        self.name = name
        self._endpoint = open_redis(redis_url)
        self._pools: list[weakref.ref[redis.ConnectionPool]] = []
        try:
            self.redis: redis.Redis = self.client()
            self.db: Database = open_shop(database_url)
        except BaseException:  # an interrupt, too
            self._endpoint.close()
            raise
        Lab._open = self
        self._told_in: object = None
        self._ipython_display_()

    def __repr__(self) -> str:
        return f"Lab {titles()[self.name]}\n  {self._endpoint.description}\n  {self.db.description}"

    def _ipython_display_(self) -> None:
        """Say what it is; once in a cell, also where `Lab("…")` is the cell's last line."""
        cell = getattr(get_ipython(), "execution_count", object())
        if cell != self._told_in:
            display({"text/plain": repr(self)}, raw=True)
        self._told_in = cell

    def client(self, **options: Any) -> redis.Redis:
        """One more client of the lab's Redis.

        Args:
            options: passed to `redis.Redis.from_url`, e.g. `decode_responses=False`.
        """
        client = self._endpoint.client(**options)
        self._pools.append(weakref.ref(client.connection_pool))
        return client

    def _refuse(self, *_: Any, **__: Any) -> Any:
        """What a client of a closed lab does in place of connecting to a server that is not there."""
        raise LabClosedError(
            "This client's lab is closed, and its Redis is gone.",
            f'Open it again: lab = Lab("{self.name}"), then use lab.redis.',
        )

    def close(self) -> None:
        """Close the connections; remove what the lab wrote; stop the server if it is the lab's.

        What `explore` keeps for the next exploration is given back, too.
        """
        if Lab._open is self:
            Lab._open = None
            with suppress(LabError):  # one is running, in another thread: it ends with the kernel
                close_testbed()
        self.redis.close()
        for pool in self._pools:
            if (kept := pool()) is not None:
                kept.get_connection = self._refuse  # type: ignore[method-assign]
        self.db.close()
        self._endpoint.close()
