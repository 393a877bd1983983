"""What an actor asks of its two connections, and of the locks that it shares."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["DatabaseSeat", "RedisSeat", "SharedLock"]


class RedisSeat(Protocol):
    """The Redis client that the function is handed."""

    def start(self) -> None:
        """Forget what an earlier run has done to it."""

    def drop(self) -> None:
        """End its connections, as the system does for a process that died."""

    def is_blocked(self, number: int) -> bool:
        """True while the server keeps a connection waiting."""

    def unblock(self, number: int) -> None:
        """Let the timeout of a blocking command pass."""

    def state(self) -> str:
        """A digest of what is in Redis."""


class DatabaseSeat(Protocol):
    """The database session that the function is handed."""

    @property
    def in_transaction(self) -> bool:
        """True while a transaction may hold locks."""

    def rollback(self) -> None:
        """Undo what was begun."""


@dataclass(slots=True)
class SharedLock:
    """A lock of the process that clients share.

    Attributes:
        name: what the code calls it.
        held: says whether anybody has it.
        again: whoever has it takes it once more.
        holder: the client that was seen to have it; empty when none was.
    """

    name: str
    held: Callable[[], bool]
    again: bool
    holder: str = field(default="", compare=False)
