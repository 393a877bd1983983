"""The clients that the explorer hands out: real connections that stop before each step."""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import redis
import redis.lock
from greenlet import GreenletExit, getcurrent, greenlet
from redis.client import Pipeline
from redis.exceptions import NoScriptError, ResponseError

from labsupport.database import Database
from labsupport.errors import DatabaseBusyError, LabError, NotSteppableError
from labsupport.explore.operations import Move, Operation
from labsupport.servers import connect_client

__all__ = ["Actor", "SteppedDatabase", "SteppedPipeline", "SteppedRedis"]

# Where a blocking command keeps its timeout. The explorer, not the clock, decides when it is over.
_TIMEOUT_LAST = frozenset({"BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX"})
_TIMEOUT_FIRST = frozenset({"BLMPOP", "BZMPOP"})
_TIMEOUT_OPTION = frozenset({"XREAD", "XREADGROUP"})
_FOR_EVER = 0
_MAX_REFUSALS = 100
# Bookkeeping of redis-py that no other client can notice.
_UNSTEPPED = frozenset({"SCRIPT EXISTS", "SCRIPT LOAD"})


class Actor:
    """One client: the learner's function in a greenlet of its own, and the two connections it uses.

    Args:
        name: the client's name.
        function: called with (redis, db).
        redis: its own client of the server.
        db: its own session on the database.
        admin: a connection of the explorer, which asks the server who is blocked.
        vain: tells of a step that was taken whether it changed nothing.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        redis: "SteppedRedis",
        db: "SteppedDatabase",
        admin: "redis.Redis",
        vain: Callable[[Operation], bool],
    ) -> None:
        self.name = name
        self.move = Move("step", name)
        self.function = function
        self.redis = redis
        self.db = db
        redis.actor = db.actor = self
        self._admin = admin
        self._vain = vain
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
        self._taken: list[Operation] = []
        self.alone = 0  # how many steps it took since anything else has moved
        self.busy = False
        self.waiting: tuple[Any, int, bool] | None = None  # blocked: connection, its id, a timeout
        self._hub: greenlet | None = None
        self._greenlet: greenlet | None = None

    def start(self) -> None:
        """Run up to the first step."""
        self._hub = getcurrent()
        self._greenlet = _ActorGreenlet(self, self._main)
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
        self.db.drop()

    def end(self) -> None:
        """Unwind the greenlet, so that it holds nothing; its `finally` blocks reach no server."""
        if self._greenlet is None or self._greenlet.dead:
            return
        stuck = self.waiting is not None
        self.crashed = True
        self._greenlet.throw(GreenletExit)
        if stuck:
            self.redis.drop(self._admin)
        self.db.drop()

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
                self._hub.switch()
            raise GreenletExit
        self._mind(operation)
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

    def _mind(self, operation: Operation) -> None:
        """Notice a client that only spins: it went twice round a loop in vain, and begins again."""
        taken = self._taken
        if self.last is not None and not (taken and taken[-1] is self.last):
            taken.append(self.last)
        self.parked = False
        length = next(
            (i for i, step in enumerate(reversed(taken), 1) if operation.repeats(step)), 0
        )
        if not length:
            return
        operation.site = _site()
        latest, before = taken[-length:], taken[-2 * length : -length]
        self.parked = (
            self.alone >= length
            and latest[0].site == operation.site
            and len(before) == length
            and all(map(Operation.repeats, latest, before))
            and all(map(self._vain, latest + before))
        )

    def _main(self) -> None:
        try:
            returned = self.function(self.redis, self.db)
            if inspect.isawaitable(returned):
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


def _site() -> int:
    """Where in the client's code the step stands: each frame's code and instruction."""
    frame = sys._getframe(3)
    places = []
    while frame is not None and frame.f_code is not Actor._main.__code__:
        places.append((id(frame.f_code), frame.f_lasti))
        frame = frame.f_back  # type: ignore[assignment]
    return hash(tuple(places))


class SteppedRedis(redis.Redis):
    """A redis-py client, each of whose commands is a step; a MULTI/EXEC block or a script is one."""

    actor: Actor

    def __init__(self, url: str) -> None:
        super().__init__(connection_pool=connect_client(url).connection_pool)
        self._own: Any = None
        self._own_id = 0
        self._known: set[str] = set()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        name = args[0]
        if name in _UNSTEPPED:
            return super().execute_command(*args, **options)
        if name == "EVALSHA":
            self.require_script(args[1])
        patient, timeout = _without_timeout(args)
        operation = Operation("redis", (args,))
        self.actor.gate(operation)
        if self._own is None:
            self._connect()
        try:
            self._own.send_packed_command(self._own.pack_command(*patient), check_health=False)
            if timeout is not None:
                self.actor.block(operation, self._own, self._own_id, timeout != _FOR_EVER)
            reply = self.parse_response(self._own, name, **options)
        except ResponseError as error:
            self.actor.took(operation, error)
            raise
        self.actor.took(operation, reply)
        return reply

    def require_script(self, digest: str) -> None:
        """A script that the server does not know yet costs no step: say so before the step."""
        if digest not in self._known:
            if not super().execute_command("SCRIPT EXISTS", digest)[0]:
                raise NoScriptError("No matching script.")
            self._known.add(digest)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> "SteppedPipeline":
        return SteppedPipeline(self.actor, self, transaction)

    def lock(self, *args: Any, **options: Any) -> Any:
        options.setdefault("lock_class", _SteppedLock)
        return super().lock(*args, **options)

    def pubsub(self, **options: Any) -> Any:
        raise NotSteppableError(
            "The explorer does not step a Pub/Sub subscription.",
            "Explore the commands around it, and put the subscription to an experiment.",
        )

    def monitor(self) -> Any:
        raise NotSteppableError(
            "The explorer does not step MONITOR.", "Look at the report's steps instead."
        )

    def drop(self, admin: "redis.Redis") -> None:
        """End the connections at the server's side first, so that it knows at once."""
        pool = self.connection_pool
        if self._own is not None:
            admin.execute_command("CLIENT KILL", "ID", self._own_id)
            self._own.disconnect()
            pool.release(self._own)
            self._own = None
        pool.disconnect()

    def _connect(self) -> None:
        self._own = self.connection_pool.get_connection()
        self._own.send_command("CLIENT", "ID")
        self._own_id = self._own.read_response()


class SteppedPipeline(Pipeline):
    """A pipeline: one step with MULTI, and as many as it has commands without."""

    def __init__(self, actor: Actor, client: SteppedRedis, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._actor = actor
        self._client = client
        self._watched: tuple[Any, ...] = ()

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] in _UNSTEPPED:
            return super().immediate_execute_command(*args, **options)
        if args[0] == "WATCH":
            self._watched += args[1:]
        if args[0] == "EVALSHA":
            self._client.require_script(args[1])
        operation = Operation("redis", (args,))
        self._actor.gate(operation)
        try:
            reply = super().immediate_execute_command(*args, **options)
        except Exception as error:
            self._actor.took(operation, error)
            raise
        self._actor.took(operation, reply)
        return reply

    def _execute_transaction(self, connection: Any, commands: Any, raise_on_error: bool) -> Any:
        operation = Operation(
            "redis", [args for args, _ in commands], transaction="multi", watched=self._watched
        )
        self._watched = ()
        self._actor.gate(operation)
        try:
            reply = super()._execute_transaction(connection, commands, raise_on_error)
        except Exception as error:
            self._actor.took(operation, error)
            raise
        self._actor.took(operation, reply)
        return reply

    def _execute_pipeline(self, connection: Any, commands: Any, raise_on_error: bool) -> Any:
        replies = []
        for command in commands:
            operation = Operation("redis", (command[0],))
            self._actor.gate(operation)
            try:
                reply = super()._execute_pipeline(connection, [command], False)[0]
            except Exception as error:
                self._actor.took(operation, error)
                raise
            self._actor.took(operation, reply)
            replies.append(reply)
        if raise_on_error:
            self.raise_first_error(commands, replies)
        return replies


class _SteppedLock(redis.lock.Lock):
    """redis-py's lock, whose wait between two attempts is a yield."""

    def acquire(
        self,
        sleep: Any = None,
        blocking: Any = None,
        blocking_timeout: Any = None,
        token: Any = None,
    ) -> bool:
        actor = self.redis.actor
        pause = self.sleep if sleep is None else sleep
        blocking = self.blocking if blocking is None else blocking
        limit = self.blocking_timeout if blocking_timeout is None else blocking_timeout
        end = None if limit is None else actor.clock + limit
        while not super().acquire(blocking=False, token=token):
            if not blocking or (end is not None and actor.clock + pause > end):
                return False
            actor.sleep(pause)
        return True


class SteppedDatabase(Database):
    """A database session, each of whose statements, and each commit, is a step."""

    actor: Actor

    def _statement(self, sql: str, params: dict[str, Any]) -> Any:
        operation = Operation("sql", ((sql, params),), transaction="inside" * self._inside)
        while True:
            self.actor.gate(operation)
            try:
                result = super()._statement(sql, params)
            except DatabaseBusyError:  # a lock is not free: the step was not taken
                self.actor.busy = True
                continue
            except Exception as error:
                self.actor.took(operation, error)
                raise
            self.actor.took(operation, result)
            return result

    def _commit(self) -> None:
        self._end("COMMIT", super()._commit)

    def _rollback(self) -> None:
        self._end("ROLLBACK", super()._rollback)

    def drop(self) -> None:
        """What the database does for a client that is gone."""
        super()._rollback()

    def _end(self, sql: str, end: Callable[[], None]) -> None:
        operation = Operation("sql", ((sql, {}),), transaction="inside")
        self.actor.gate(operation)
        end()
        self.actor.took(operation, None)


def _without_timeout(args: tuple[Any, ...]) -> tuple[tuple[Any, ...], float | None]:
    """The command with its timeout out of reach, and the timeout (None: it does not block)."""
    name = str(args[0]).upper()
    if name in _TIMEOUT_LAST:
        at = len(args) - 1
    elif name in _TIMEOUT_FIRST:
        at = 1
    elif name in _TIMEOUT_OPTION:
        words = [str(part, "utf-8") if isinstance(part, bytes) else str(part) for part in args]
        at = next((i + 1 for i, word in enumerate(words) if word.upper() == "BLOCK"), 0)
    else:
        return args, None
    if not at:
        return args, None
    return (*args[:at], _FOR_EVER, *args[at + 1 :]), float(args[at])
