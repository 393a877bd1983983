"""The Redis client that a client under exploration is handed: it stops before each command."""

from typing import Any

import redis
import redis.lock
from redis.client import Pipeline
from redis.exceptions import NoScriptError, ResponseError

from labsupport.errors import NotSteppableError
from labsupport.explorer.clients.actor import Actor
from labsupport.explorer.clients.direct_redis import DirectRedis
from labsupport.explorer.operations import Operation

__all__ = ["SteppedPipeline", "SteppedRedis"]

# Where a blocking command keeps its timeout. The explorer, not the clock, decides when it is over.
_TIMEOUT_LAST = frozenset({"BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX"})
_TIMEOUT_FIRST = frozenset({"BLMPOP", "BZMPOP"})
_TIMEOUT_OPTION = frozenset({"XREAD", "XREADGROUP"})
_BLOCKING = _TIMEOUT_LAST | _TIMEOUT_FIRST | _TIMEOUT_OPTION
_FOR_EVER = 0
# Bookkeeping of redis-py that no other client can notice.
_UNSTEPPED = frozenset({"SCRIPT EXISTS", "SCRIPT LOAD"})


class SteppedRedis(DirectRedis):
    """A redis-py client, each of whose commands is a step; a MULTI/EXEC block or a script is one."""

    actor: Actor

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        self._known: set[str] = set()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        name = args[0]
        if name in _UNSTEPPED:
            return super().execute_command(*args, **options)
        if name == "EVALSHA":
            self.require_script(args[1])
        sent, timeout = args, None
        if str(name).upper() in _BLOCKING:
            sent, timeout = _without_timeout(args)
        operation = Operation("redis", (args,))
        actor = self.actor
        actor.gate(operation)
        wire = self.wire or self.dial()
        try:
            wire.send_packed_command(wire.pack_command(*sent), check_health=False)
            if timeout is not None:
                actor.block(operation, wire, self.number, timeout != _FOR_EVER)
            reply = self.parse_response(wire, name, **options)
        except ResponseError as error:
            actor.took(operation, error)
            raise
        actor.took(operation, reply)
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

    def drop(self, admin: redis.Redis) -> None:
        """End the connections at the server's side first, so that it knows at once."""
        if self.wire is not None:
            admin.execute_command("CLIENT KILL", "ID", self.number)
        self.hang_up()


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
        return self._step(operation, super().immediate_execute_command, *args, **options)

    def _execute_transaction(self, connection: Any, commands: Any, raise_on_error: bool) -> Any:
        operation = Operation(
            "redis", [args for args, _ in commands], transaction="multi", watched=self._watched
        )
        self._watched = ()
        execute = super()._execute_transaction
        return self._step(operation, execute, connection, commands, raise_on_error)

    def _execute_pipeline(self, connection: Any, commands: Any, raise_on_error: bool) -> Any:
        execute = super()._execute_pipeline

        def execute_one(command: Any) -> Any:
            return execute(connection, [command], False)[0]

        replies = [
            self._step(Operation("redis", (command[0],)), execute_one, command)
            for command in commands
        ]
        if raise_on_error:
            self.raise_first_error(commands, replies)
        return replies

    def _step(self, operation: Operation, execute: Any, *args: Any, **options: Any) -> Any:
        self._actor.gate(operation)
        try:
            reply = execute(*args, **options)
        except Exception as error:
            self._actor.took(operation, error)
            raise
        self._actor.took(operation, reply)
        return reply


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


def _without_timeout(args: tuple[Any, ...]) -> tuple[tuple[Any, ...], float | None]:
    """A blocking command with its timeout out of reach, and the timeout (None: it does not block)."""
    name = str(args[0]).upper()
    if name in _TIMEOUT_LAST:
        at = len(args) - 1
    elif name in _TIMEOUT_FIRST:
        at = 1
    else:
        words = [str(part, "utf-8") if isinstance(part, bytes) else str(part) for part in args]
        at = next((i + 1 for i, word in enumerate(words) if word.upper() == "BLOCK"), 0)
    if not at:
        return args, None
    return (*args[:at], _FOR_EVER, *args[at + 1 :]), float(args[at])
