"""Whose turn it is: the client, or `given` and the invariant, that uses a connection of its own."""

from typing import Any, Protocol

from labsupport.errors import LabError
from labsupport.explorer.clients.actor import Actor
from labsupport.explorer.operations import Operation

__all__ = ["ActorTurn", "HostTurn", "Turn"]


class Turn(Protocol):
    """Lets a command be sent when the explorer says so.

    Attributes:
        explored: True for a client; the explorer says when its blocking commands end.
    """

    explored: bool

    async def gate(self, operation: Operation) -> None:
        """Return when the step may be taken."""

    async def block(self, operation: Operation, wire: Any, number: int, timeout: float) -> None:
        """Return when a blocking command has a reply."""

    def took(self, operation: Operation, reply: Any) -> None:
        """Note a step that was taken."""

    def note_present(self) -> None:
        """It reads what time it is."""

    def repeated(self, operation: Operation) -> bool:
        """True when it is another attempt at a step that was taken before."""

    def loses(self) -> bool:
        """True, once, when the reply of the step that was taken is lost."""

    async def arrival(self) -> None:
        """Return when the reply of the step that was taken is there."""

    def refuse(self, error: LabError) -> None:
        """Let the exploration end with this error, whatever the code makes of it."""

    def holds(self, key: int, drop: Any) -> None:
        """Let `drop` be called if the client ends before it lets go of what it holds."""

    def lets_go(self, key: int) -> None:
        """It holds it no longer."""


class ActorTurn:
    """A client, whose function stops as a whole before each step.

    Args:
        actor: the client.
    """

    explored = True

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.took = actor.took
        self.repeated = actor.repeated
        self.note_present = actor.note_present

    async def gate(self, operation: Operation) -> None:
        self.actor.gate(operation)

    async def block(self, operation: Operation, wire: Any, number: int, timeout: float) -> None:
        self.actor.block(operation, wire, number, timeout)

    def loses(self) -> bool:
        return self.actor.losing and self.actor.loses()

    async def arrival(self) -> None:
        self.actor.arrival()

    def refuse(self, error: LabError) -> None:
        self.actor.fault = self.actor.fault or error

    def holds(self, key: int, drop: Any) -> None:
        self.actor.others[key] = drop

    def lets_go(self, key: int) -> None:
        self.actor.others.pop(key, None)


class HostTurn:
    """`given` or the invariant: nothing is a step, and nobody else is there."""

    explored = False

    async def gate(self, operation: Operation) -> None:
        pass

    async def block(self, operation: Operation, wire: Any, number: int, timeout: float) -> None:
        pass

    def took(self, operation: Operation, reply: Any) -> None:
        pass

    def note_present(self) -> None:
        pass

    def repeated(self, operation: Operation) -> bool:
        return False

    def loses(self) -> bool:
        return False

    async def arrival(self) -> None:
        pass

    def refuse(self, error: LabError) -> None:
        pass

    def holds(self, key: int, drop: Any) -> None:
        pass

    def lets_go(self, key: int) -> None:
        pass
