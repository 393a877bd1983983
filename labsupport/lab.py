"""Opening a lab: a Redis, a database, and a line that says what they are."""

from contextlib import suppress
from types import TracebackType
from typing import Any, ClassVar, Self

import redis
from IPython.display import display

from labsupport.course import labs
from labsupport.database import Database, open_shop
from labsupport.errors import LabError, UnknownNameError
from labsupport.exploration import close_testbed
from labsupport.servers import open_redis


class Lab:
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

    def __init__(
        self, name: str, *, redis_url: str | None = None, database_url: str | None = None
    ) -> None:
        if name not in labs():
            raise UnknownNameError(
                f"There is no lab {name!r}.", f"The labs are: {', '.join(labs())}."
            )
        if Lab._open is not None:
            Lab._open.close()
        self.name = name
        self._endpoint = open_redis(redis_url)
        try:
            self.redis: redis.Redis = self._endpoint.client()
            self.db: Database = open_shop(database_url)
        except LabError:
            self._endpoint.close()
            raise
        Lab._open = self
        display({"text/plain": repr(self)}, raw=True)

    def __repr__(self) -> str:
        return f"Lab {labs()[self.name]}\n  {self._endpoint.description}\n  {self.db.description}"

    def client(self, **options: Any) -> redis.Redis:
        """One more client of the lab's Redis.

        Args:
            options: passed to `redis.Redis.from_url`, e.g. `decode_responses=False`.
        """
        return self._endpoint.client(**options)

    def close(self) -> None:
        """Close the connections; remove what the lab wrote; stop the server if it is the lab's.

        What `explore` keeps for the next exploration is given back, too.
        """
        if Lab._open is self:
            Lab._open = None
            with suppress(LabError):  # one is running, in another thread: it ends with the kernel
                close_testbed()
        self.redis.close()
        self.db.close()
        self._endpoint.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
