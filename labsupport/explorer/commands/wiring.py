"""What the connections of one exploration share: its clock and scripts, and what may have changed."""

import zlib
from typing import Any

from labsupport.explorer.clients.actor import actor_here
from labsupport.explorer.clock import Clock
from labsupport.explorer.commands.scripts import Scripts
from labsupport.explorer.operations import Operation

__all__ = ["Difference", "Wiring"]

_ALWAYS = (-1, "")


class Wiring:
    """What the connections of one system share.

    Args:
        clock: of the exploration that is running.
        scripts: what was loaded.
        empty: the digest of the script that empties the database, and its argument.

    Attributes:
        hidden: a key of the server's that nobody is shown; "" if there is none.
        streams: True once an entry was read by a group: then idle times matter.
        settle: brings the idle times of pending entries up to the clock.
        changes: how many changes the server has made to its data, and where others use it, too, a digest
            of the database.
        state: a digest of its data.
        libraries: those of functions that the run has loaded, by name.
        has_library: whether the server has one.
        draws: how often each client, or task, has let the server draw from what.
        version: another one whenever something in Redis may have changed, and none that was there before.
        counted: the version at which the changes were counted last, and what was told.
    """

    def __init__(self, clock: Clock, scripts: Scripts, empty: tuple[Any, ...]) -> None:
        self.clock = clock
        self.scripts = scripts
        self.empty = empty
        self.hidden = ""
        self.streams = False
        self.settle: Any = None
        self.changes: Any = None
        self.state: Any = None
        self.libraries: set[str] = set()
        self.has_library: Any = None
        self.draws: dict[Any, int] = {}
        self.version = self._versions = 0
        self.counted: tuple[int, tuple[int, str]] = (-1, (0, ""))

    def touch(self) -> None:
        """Note that something in Redis may change now."""
        self.version = self._versions = self._versions + 1

    def is_as_at(self, version: int) -> None:
        """Note that nothing has changed since that version."""
        if self.counted[0] == self.version:
            self.counted = version, self.counted[1]
        self.version = version

    def changes_before(self, operation: Operation, version: int) -> tuple[int, str]:
        """What `changes` says, or has said of this version; nothing is asked where `changed` is known."""
        counted, told = self.counted
        if operation.always_changes and not self.hidden:
            return _ALWAYS
        return told if counted == version and not self.streams else self.changes()

    def changed(self, before: tuple[int, str]) -> bool:
        """Whether anything in the database is not as it was when `changes` said this."""
        if before is _ALWAYS:
            return True
        after = self.changes()
        self.counted = self.version, after
        return before[0] != after[0] and (before[1] != after[1] or not before[1])

    def moment(self, *asked: Any, chance: bool) -> str | int:
        """What a script is passed: the time, and a seed where chance counts, as the clock has it.

        Args:
            asked: the command, and the key or the script.
        """
        if not chance:
            return self.clock.now_ms
        actor = actor_here()
        who = actor.running_as if actor is not None else ""
        # who draws from a seed that is half of all away draws what is half of all away, time and again
        shift = self.clock.shift(self.clock.drew, who) if actor is not None else 0
        self.draws[who, *asked] = count = self.draws.get((who, *asked), 0) + 1
        return f"{self.clock.now_ms}:{(zlib.crc32(f':{count}'.encode()) + shift) % 2**32}"

    def own(self, library: str) -> bool:
        """Take a library for the run's own; False if it was there before."""
        if library not in self.libraries and self.has_library(library):
            return False
        self.libraries.add(library)
        return True


class Difference:
    """What one command changes, as far as can be told: the server is asked only where it repeats itself.

    Args:
        wiring: of the connection that it is sent on, before it is prepared.
        operation: the step; it is told what comes out.
        again: its client has asked for the same before.
    """

    def __init__(self, wiring: Wiring, operation: Operation, *, again: bool) -> None:
        self._wiring = wiring
        self._operation = operation
        self._again = again
        self._version = self._touched = wiring.version
        self._before: tuple[int, str] | None = None

    def look(self) -> None:
        """Look before it is sent, and after it was prepared."""
        self._touched = self._wiring.version
        asks = self._again and not (self._operation.tells or self._operation.only_reads)
        if asks:
            self._before = self._wiring.changes_before(self._operation, self._version)

    def note(self, reply: Any) -> bool:
        """Note what it has changed; True when it is known that Redis is as it was before."""
        operation = self._operation
        if self._before is not None:
            operation.changed = self._wiring.changed(self._before)
            operation.unchanged = not operation.changed
        else:
            operation.unchanged = self._again and operation.told_that_nothing_changed(reply)
        # while it blocked, others may have taken steps
        same = self._wiring.version == self._touched
        same = same and (operation.unchanged or operation.only_reads)
        if same:
            self._wiring.is_as_at(self._version)
        return same
