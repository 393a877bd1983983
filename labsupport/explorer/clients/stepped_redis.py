"""The Redis client that a client under exploration is handed: it stops before each command."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from greenlet import getcurrent
from redis.exceptions import ResponseError, WatchError
from redis.exceptions import TimeoutError as RedisTimeoutError

from labsupport.explorer.clients.actor import Actor, actor_here, refusal
from labsupport.explorer.clients.direct_redis import DirectPipeline, DirectRedis, transmit
from labsupport.explorer.commands.server_time import word
from labsupport.explorer.commands.wiring import Difference, Wiring
from labsupport.explorer.operations import Operation

__all__ = ["BLOCKING", "SteppedPipeline", "SteppedRedis", "blocks", "without_timeout"]

# Where a blocking command keeps its timeout. The explorer, not the clock, decides when it is over.
_TIMEOUT_LAST = frozenset({"BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BZPOPMIN", "BZPOPMAX"})
_TIMEOUT_FIRST = frozenset({"BLMPOP", "BZMPOP"})
_TIMEOUT_OPTION = frozenset({"XREAD", "XREADGROUP"})
BLOCKING = _TIMEOUT_LAST | _TIMEOUT_FIRST | _TIMEOUT_OPTION
_FOR_EVER = 0
# What replies alike as long as nothing in Redis changes, however much time passes.
_STEADY = frozenset(
    {"EXISTS", "GET", "GETRANGE", "HEXISTS", "HGET", "HLEN", "LINDEX", "LLEN", "SCARD", "SET"}
    | {"SISMEMBER", "STRLEN", "XLEN", "ZCARD", "ZCOUNT", "ZSCORE"}
)
_SCRIPTED = frozenset({"EVALSHA", "EVALSHA_RO"})
_UNCHANGEABLE = (str, bytes, int, float, type(None))
_MILLISECONDS = 1000


class SteppedRedis(DirectRedis):
    """A redis-py client, each of whose commands is a step; a MULTI/EXEC block or a script is one.

    Args:
        client: a client of the server; its connections are used.
        wiring: the clock and the scripts.
        admin: a connection of the explorer, which asks the server who is blocked.
    """

    actor: Actor

    def __init__(self, client: redis.Redis, wiring: Wiring, admin: DirectRedis) -> None:
        super().__init__(client, wiring)
        self._admin = admin
        self._retry: Any = redis.Redis().get_retry()  # what a client of one's own has
        self._touched = False
        self._told: dict[Any, tuple[int, Any]] = {}  # replies, and at which version
        self._callbacks: dict[str, Any] = {}  # those that the function has replaced
        self._own: frozenset[str] = frozenset()  # its attributes before the first run

    def execute_command(self, *args: Any, **options: Any) -> Any:
        client = self.here()
        if client is not self:
            return client.execute_command(*args, **options)
        done, reply = self.without_the_server(args)
        if done:
            return reply
        if self.actor.may_lose:
            return self.retry.call_with_retry(
                lambda: self.step(args, options), lambda error: self._reconnect()
            )
        return self.step(args, options)

    def step(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Take a command as a step; what is lost is not tried again."""
        actor = self.actor
        operation = Operation("redis", (args,))
        actor.gate(operation)
        if operation.word == "TIME":
            actor.note_present()
        again = actor.repeated(operation)
        if again and self._as_before(operation, options):
            actor.arrival()
            return operation.replies[0]
        difference = Difference(self.wiring, operation, again=again)
        sent, convert = self.prepare(args)
        difference.look()
        actor.trusted += 1  # to connect is the explorer's doing
        try:
            reply = self._exchange(operation, sent, convert, options)
        except ResponseError as error:
            actor.took(operation, error)
            self._lose()
            raise
        except Exception as error:  # e.g. it cannot be read as text: nor can what follows it
            actor.took(operation, error)
            self._reconnect()
            raise
        finally:
            actor.trusted -= 1
        actor.took(operation, reply)
        if difference.note(reply) and again:
            self._remember(args, options, reply)
        self._lose()
        actor.arrival()
        return reply

    def _exchange(
        self, operation: Operation, sent: tuple[Any, ...], convert: Any, options: dict[str, Any]
    ) -> Any:
        """Send what was prepared for a step; the reply, when a wait for it is over."""
        (args,), timeout = operation.commands, None
        if _may_block(args[0]):
            sent, timeout = without_timeout(sent)
        wire = self.wire or self.dial()
        transmit(wire, sent)
        if timeout is not None:
            self.actor.block(operation, wire, self.number, timeout)
        return self.receive(args, sent, convert, **options)

    def _as_before(self, operation: Operation, options: dict[str, Any]) -> bool:
        """Answer a step that is known to change nothing, as nothing has changed since it was taken last."""
        if self.actor.losing:
            return False
        version, reply = self._told.get(_question(operation.commands[0], options), (None, None))
        if version != self.wiring.version:
            return False
        self.actor.took(operation, reply)
        operation.unchanged = True
        return True

    def _remember(self, args: tuple[Any, ...], options: dict[str, Any], reply: Any) -> None:
        name = word(args[0])
        scripted = name in _SCRIPTED and not self.wiring.scripts.varies(args[1])
        if (name in _STEADY or scripted) and isinstance(reply, _UNCHANGEABLE):
            self._told[_question(args, options)] = self.wiring.version, reply

    def _lose(self) -> None:
        if self.actor.losing and self.actor.loses():
            self._reconnect()
            raise RedisTimeoutError("Timeout reading from socket")

    @property
    def retry(self) -> Any:
        """How redis-py would try again: as the function has set it, or as it is by default."""
        return self.get_retry() if self._touched else self._retry

    def set_retry(self, retry: Any) -> None:
        """Try again as `retry` says, to the end of the run."""
        self._touched = True
        super().set_retry(retry)

    def start(self) -> None:
        """Forget what an earlier run has done to the client."""
        if self._touched:
            self._touched = False
            super().set_retry(self._retry)
        if self._callbacks:
            self.response_callbacks.update(self._callbacks)
            self._callbacks.clear()
        self._told.clear()
        self._own = self._own or frozenset(vars(self))
        for name in vars(self).keys() - self._own:
            delattr(self, name)

    def set_response_callback(self, command: str, callback: Any) -> None:
        """Make of a reply what `callback` says, to the end of the run."""
        name = command.upper()  # as redis-py knows it
        self._callbacks.setdefault(name, self.response_callbacks.get(name, _as_told))
        super().set_response_callback(command, callback)

    def here(self) -> Any:
        """The client of whoever calls: an object that two functions share has a connection for each."""
        actor = self.actor
        if actor.here:
            return self
        other = actor_here()
        if other is not None:
            return other.redis
        keeper = getattr(getcurrent(), "timekeeper", None)
        return self if keeper is None else self._admin  # `given` and the invariant have their own

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
        client = self.here()
        if client is not self:
            return client.pipeline(transaction, shard_hint)
        return SteppedPipeline(self, transaction)

    def pubsub(self, **options: Any) -> Any:
        raise refusal(
            "The explorer does not step a Pub/Sub subscription.",
            "Explore the commands around it, and test the subscription in an experiment.",
        )

    def monitor(self) -> Any:
        raise refusal("The explorer does not step MONITOR.", "Look at the report's steps instead.")

    def drop(self) -> None:
        """End the connections at the server's side first, so that it knows at once."""
        if self.wire is not None:
            self._admin.raw("CLIENT", "KILL", "ID", self.number)
        self.hang_up()

    def is_blocked(self, number: int) -> bool:
        """True while the server keeps a connection waiting."""
        listed = self._admin.raw("CLIENT", "LIST", "ID", number)
        text = listed.decode() if isinstance(listed, bytes) else str(listed)
        return "b" in text.partition("flags=")[2].split()[0]

    def state(self) -> str:
        """A digest of what is in Redis."""
        return str(self.wiring.state())

    def unblock(self, number: int) -> None:
        """Let the timeout of a blocking command pass."""
        self._admin.raw("CLIENT", "UNBLOCK", number, "TIMEOUT")

    def _reconnect(self) -> None:
        if self.wire is not None:
            self.wire.disconnect()
            self.connection_pool.release(self.wire)
            self.wire = None


def _as_it_is(reply: Any) -> Any:
    return reply


def _as_told(reply: Any, **options: Any) -> Any:
    return reply


class SteppedPipeline(DirectPipeline):
    """A pipeline: one step with MULTI, and as many as it has commands without."""

    def __init__(self, client: SteppedRedis, transaction: bool) -> None:
        super().__init__(client, transaction)
        self._stepped = client
        self._watched: tuple[Any, ...] = ()
        self._asked: tuple[Any, ...] = ()
        self._version: int | None = None  # before a command was prepared that is not sent yet

    def execute(self, raise_on_error: bool = True) -> Any:
        with self._connecting():
            return super().execute(raise_on_error)

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] == "WATCH":
            self._watched += args[1:]
        elif blocks(args):
            return self._block(args, options)
        self._asked, self._version = args, self._stepped.wiring.version
        with self._connecting():
            return super().immediate_execute_command(*args, **options)

    def _block(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Wait as the client does; if its reply is lost, so is what was watched."""
        if not self.watching:
            return self._stepped.execute_command(*args, **options)
        try:
            return self._stepped.step(args, options)
        except RedisTimeoutError as error:
            self.reset()
            raise WatchError("the connection was lost while keys were watched") from error

    def _send_command_parse_response(  # type: ignore[override]
        self, connection: Any, name: str, *args: Any, **options: Any
    ) -> Any:
        operation, convert = Operation("redis", (self._asked,)), self.convert
        send = super()._send_command_parse_response
        return self._step(
            operation, send, connection, name, *args, seen=convert or _as_it_is, **options
        )

    @contextmanager
    def _connecting(self) -> Iterator[None]:
        """To connect is the explorer's doing; to try again is as the client has it."""
        actor = self._stepped.actor
        actor.trusted += 1
        try:
            if actor.may_lose:
                self.connection = self.connection or self.connection_pool.get_connection()
                self.connection.retry = self._stepped.retry
            yield
        finally:
            actor.trusted -= 1

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

        def reply_to(args: tuple[Any, ...], options: dict[str, Any]) -> Any:
            if not blocks(args):
                return self._step(Operation("redis", (args,)), execute_one, (args, options))
            try:
                return self._stepped.execute_command(*args, **options)
            except ResponseError as error:
                return error

        replies = [reply_to(*command) for command in commands]
        if raise_on_error:
            self.raise_first_error(commands, replies)
        return replies

    def _step(
        self,
        operation: Operation,
        execute: Any,
        *args: Any,
        seen: Callable[[Any], Any] = _as_it_is,
        **options: Any,
    ) -> Any:
        """Take a step; `seen` makes of its reply what the client is told."""
        actor = self._stepped.actor
        watching, wiring = self.watching, self._stepped.wiring
        prepared, self._version = self._version, None
        if prepared is not None:
            wiring.is_as_at(prepared)
        actor.gate(operation)
        version, quiet = wiring.version, operation.only_reads
        wiring.touch()
        asks = not quiet and not operation.tells and actor.repeated(operation)
        before = wiring.changes_before(operation, version) if asks else None
        try:
            reply = execute(*args, **options)
        except Exception as error:
            actor.took(operation, error)
            raise
        actor.took(operation, seen(reply))
        operation.changed = before is not None and wiring.changed(before)
        if quiet or (asks and not operation.changed):
            wiring.is_as_at(version)
        if actor.losing and actor.loses():
            self.watching = watching  # the reply of EXEC, which would have ended the watch, is lost
            if self.connection is not None:
                self.connection.disconnect()
            raise RedisTimeoutError("Timeout reading from socket")
        actor.arrival()
        return reply


def _question(args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """What tells one command from another: 1 and True are equal, and are not sent alike."""
    return args, tuple(map(type, args)), repr(options) if options else ""


@functools.lru_cache(maxsize=512)
def blocks(args: tuple[Any, ...]) -> bool:
    """Whether the server may hold back its reply to a command, as it goes over the wire."""
    return _may_block(args[0]) and without_timeout(args)[1] is not None


def _may_block(name: Any) -> bool:
    return word(name) in BLOCKING


def without_timeout(args: tuple[Any, ...]) -> tuple[tuple[Any, ...], float | None]:
    """A blocking command with its timeout out of reach, and the timeout.

    Args:
        args: the command as it goes over the wire.

    Returns:
        what is sent in its place, and after how many seconds the wait ends; 0 when it never does, None
        when the command does not block.
    """
    name, unit = word(args[0]), 1
    if name in _TIMEOUT_LAST:
        at = len(args) - 1
    elif name in _TIMEOUT_FIRST:
        at = 1
    else:
        at = next((i + 1 for i, part in enumerate(args) if word(part) == "BLOCK"), 0)
        unit = _MILLISECONDS
    if not at:
        return args, None
    return (*args[:at], _FOR_EVER, *args[at + 1 :]), float(args[at]) / unit
