"""One client under exploration: the learner's function, which stops before each of its steps."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from greenlet import GreenletExit, getcurrent, greenlet

from labsupport.errors import LabError, NotSteppableError
from labsupport.explorer.clients.loops import Loops
from labsupport.explorer.operations import Move, Operation

__all__ = ["Actor", "DatabaseSeat", "RedisSeat"]

_MAX_REFUSALS = 100


class RedisSeat(Protocol):
    """The Redis client that the function is handed."""

    def drop(self, admin: Any) -> None:
        """End its connections, as the system does for a process that died."""


class DatabaseSeat(Protocol):
    """The database session that the function is handed."""

    @property
    def in_transaction(self) -> bool:
        """True while a transaction may hold locks."""

    def rollback(self) -> None:
        """Undo what was begun."""


class Actor:
    """One client: the learner's function in a greenlet of its own, and the two connections it uses.

    Args:
        name: the client's name.
        function: called with (redis, db).
        redis: its own client of the server.
        db: its own session on the database.
        admin: a connection of the explorer, which asks the server who is blocked.
        no_op: tells of a step that was taken whether it changed nothing.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        redis: RedisSeat,
        db: DatabaseSeat,
        admin: Any,
        no_op: Callable[[Operation], bool],
    ) -> None:
        self.name = name
        self.move = Move("step", name)
        self.function = function
        self.redis = redis
        self.db = db
        self._admin = admin
        self._no_op = no_op
        self._hub: greenlet | None = None
        self._greenlet: greenlet | None = None
        self._resting = False  # the greenlet waits for the next run
        self.fault: LabError | None = None
        self.reset()

    def reset(self) -> None:
        """Back to the moment before the first step."""
        self.pending: Operation | None = None
        self.error: Exception | None = None
        self.done = False
        self.crashed = False
        self._refused = 0
        self.clock = 0.0
        # a client that repeats a step in vain is parked until something else has moved
        self.parked = False
        self.last: Operation | None = None
        self._loops = Loops(self._no_op, _BOTTOM)
        self.alone = 0  # how many steps it took since anything else has moved
        self.busy = False
        self.waiting: tuple[Any, int, bool] | None = None  # blocked: connection, its id, a timeout

    def start(self) -> None:
        """Run up to the first step."""
        if not self._resting:  # there is none, or it cannot be ended
            self._hub = getcurrent()
            self._greenlet = _ActorGreenlet(self, self._play)
        assert self._greenlet is not None
        self._resting = False
        self._greenlet.gr_context = None  # nor does a run know the context variables of another
        self._greenlet.switch()

    def proceed(self) -> None:
        """Take the pending step, and run up to the next one."""
        assert self._greenlet is not None
        self._greenlet.switch()

    @property
    def live(self) -> bool:
        """True while the function has not ended."""
        return not (self.done or self.crashed)

    def crash(self) -> None:
        """Drop the connections, as the system does for a process that died; no more code runs."""
        self.crashed = True
        self.waiting = None
        self.redis.drop(self._admin)
        self.db.rollback()

    def end(self) -> None:
        """Unwind the function, so that it holds nothing; its `finally` blocks reach no server."""
        if self._greenlet is None or self._resting or self._greenlet.dead:
            return
        stuck = self.waiting is not None
        self.crashed = True
        self._greenlet.throw(GreenletExit)
        if stuck:
            self.redis.drop(self._admin)
        self.db.rollback()

    def retire(self) -> None:
        """End the greenlet; the next run gets another."""
        if self._greenlet is not None and self._resting:
            self._greenlet.throw(GreenletExit)
        self._greenlet, self._resting = None, False

    def gate(self, operation: Operation) -> None:
        """Stop before a step until the explorer lets the client take it."""
        if getcurrent() is not self._greenlet:
            self.fault = NotSteppableError(
                f"The client {self.name!r} was used outside its function, in another thread or run.",
                "Use the redis and db that the explorer hands to a function in that function only.",
            )
            raise SystemExit  # ends a thread silently; the explorer reports the fault
        assert self._hub is not None
        if self.crashed:
            self._refused += 1
            if self._refused > _MAX_REFUSALS:  # it swallows every error, and goes on
                # for ever in a cycle: to collect a greenlet is to raise in it once more
                self._greenlet.itself = self._greenlet
                self._hub.switch()
            raise GreenletExit
        self.parked = self._loops.spins(operation, self.last, self.alone)
        self.pending = operation
        self._hub.switch()
        if self.crashed:
            raise GreenletExit

    def took(self, operation: Operation, reply: Any) -> None:
        """Note a step that was taken, and its reply."""
        operation.replies = [reply]
        self.last = operation
        self.alone += 1

    def block(self, operation: Operation, connection: Any, number: int, timeout: bool) -> None:
        """Return when `connection`, the server's client `number`, has a reply."""
        assert self._hub is not None
        self.last = operation
        self.waiting = (connection, number, timeout)
        self._hub.switch()
        if self.crashed:
            raise GreenletExit

    def served(self) -> bool:
        """True when the reply that this client waits for is there or on its way."""
        if self.waiting is None:
            return False
        connection, number, _ = self.waiting
        while not connection.can_read(timeout=0):
            if self._is_blocked(number):
                return False
        self.waiting = None
        return True

    def time_out(self) -> None:
        """Let the blocking command's timeout pass."""
        assert self.waiting is not None
        self._admin.execute_command("CLIENT UNBLOCK", self.waiting[1], "TIMEOUT")
        self.waiting = None

    def sleep(self, seconds: float) -> None:
        """A sleep takes no time here: it moves the client's clock and yields."""
        self.clock += float(seconds)

    def _is_blocked(self, connection_id: int) -> bool:
        entries = self._admin.execute_command("CLIENT LIST", "ID", connection_id)
        entry = entries[0] if isinstance(entries, list) else str(entries)
        flags = entry["flags"] if isinstance(entry, Mapping) else entry.partition("flags=")[2]
        return "b" in flags.split()[0]

    def _play(self) -> None:
        """One run after the other: to make a greenlet takes as long as a step."""
        assert self._hub is not None
        while True:
            with suppress(GreenletExit):
                self._main()
            self._resting = True
            self._hub.switch()

    def _main(self) -> None:
        try:
            returned = self.function(self.redis, self.db)
            if hasattr(type(returned), "__await__"):
                getattr(returned, "close", lambda: None)()
                self.fault = NotSteppableError(
                    f"The client {self.name!r} is a coroutine; the explorer steps plain functions.",
                    "Write it with redis.Redis instead of redis.asyncio, without async and await.",
                )
        except Exception as error:
            self.error = error
        finally:
            self.pending = None
            self.done = True


class _ActorGreenlet(greenlet):  # type: ignore[misc]
    def __init__(self, actor: Actor, run: Callable[[], None]) -> None:
        super().__init__(run)
        self.actor = actor


_BOTTOM = Actor._main.__code__
