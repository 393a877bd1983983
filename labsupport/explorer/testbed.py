"""What the explorer needs of a server and a database: a protocol, so that it can be taken home."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import redis

__all__ = ["Session", "Testbed"]

Around = Callable[[str, dict[str, Any], bool, Callable[[], Any]], Any]
"""What a session calls in place of each statement: see `Session`."""


class Session(Protocol):
    """One client's session on the database.

    In place of each statement it calls what it was made with: with the SQL, the parameters, whether
    it is inside a transaction, and the function that runs it. COMMIT and ROLLBACK come so, too.
    """

    @property
    def in_transaction(self) -> bool:
        """True while a transaction may hold locks."""

    def rollback(self) -> None:
        """Undo what was begun, as the database does for a client that is gone."""

    def close(self) -> None:
        """End the connection."""


class Testbed(Protocol):
    """A Redis and a database that are the explorer's alone.

    Attributes:
        kept_key: a key of the database that is not to be removed; "" if there is none.
        server_pid: the server's process if it is the testbed's own, else None.
        db: what `given` and the invariant are handed as the database.
    """

    kept_key: str
    server_pid: int | None
    db: Any

    @property
    def alive(self) -> bool:
        """False when the server or the database is gone."""

    def client(self) -> "redis.Redis":
        """A new client of the server; replies are text."""

    def session(self, around: Around) -> Session:
        """A session for one client, which does not wait for a lock that is taken."""

    def restore(self) -> None:
        """Bring the database back to the state that each run begins with."""

    def close(self) -> None:
        """Give back the database, and the server if it is the testbed's own."""
