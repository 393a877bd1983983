"""Connections to the exploration's server, in place of those that the code's own clients would open."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from redis.connection import AbstractConnection, ConnectionPool

from labsupport.errors import NotSteppableError
from labsupport.explorer.clients.actor import actor_here, refusal
from labsupport.explorer.clients.direct_redis import DirectRedis, plain_numbers

__all__ = ["Settings", "Wire", "Wires", "reserve"]

_USUAL = AbstractConnection.send_command, AbstractConnection.send_packed_command
_TAKE = ConnectionPool.get_connection
_GIVE = ConnectionPool.release


class Settings(NamedTuple):
    """How a client talks: what it makes of replies. All else of it is for the server that it names."""

    decode_responses: bool = False
    encoding: str = "utf-8"
    encoding_errors: str = "strict"
    protocol: Any = None
    legacy_responses: bool = True

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Settings":
        """Those of a pool, by its connections' options."""
        return cls(**{name: options[name] for name in cls._fields if name in options})


class Wire:
    """One connection to the exploration's server.

    Args:
        real: redis-py's connection.
        settings: how it talks.

    Attributes:
        number: what the server calls it (CLIENT ID).
        watched: keys that the next EXEC depends on.
        clean: False while something that was sent is not yet answered.
    """

    def __init__(self, real: Any, settings: Settings) -> None:
        self.real = real
        self.settings = settings
        real.send_command("CLIENT", "ID")
        self.number = real.read_response()
        self.watched: tuple[Any, ...] = ()
        self.clean = True

    def send(self, *commands: tuple[Any, ...]) -> None:
        """Send commands as they are."""
        self.clean = False
        plain = [plain_numbers(one) for one in commands]
        self.real.send_packed_command(self.real.pack_commands(plain), check_health=False)


class Wires:
    """The wires of one system, kept from run to run.

    Args:
        direct: the explorer's own client: its pool knows the server, and its wiring the clock.
    """

    def __init__(self, direct: DirectRedis) -> None:
        self.direct = direct
        self._free: dict[Settings, list[Wire]] = {}
        self._lent: dict[int, Wire] = {}
        self._target = ""

    def begin(self) -> None:
        """Begin an exploration: nothing is known of where its code would connect to."""
        self._target = ""

    def restart(self) -> None:
        """Take back what a run has not given back."""
        for wire in list(self._lent.values()):
            self.give_back(wire)

    def lend(self, settings: Settings) -> Wire:
        """A wire that talks as `settings` say."""
        free = self._free.get(settings)
        wire = free.pop() if free else self._dial(settings)
        self._lent[wire.number] = wire
        return wire

    def give_back(self, wire: Wire) -> None:
        """Keep a wire for the next who asks, or end it if it is in the middle of something."""
        if self._lent.pop(wire.number, None) is None:
            return
        if wire.clean and not wire.watched:
            self._free.setdefault(wire.settings, []).append(wire)
            return
        with suppress(Exception):  # at the server's side first, so that it knows at once
            self.direct.raw("CLIENT", "KILL", "ID", wire.number)
        wire.real.disconnect()

    def meet(self, options: Mapping[str, Any]) -> None:
        """Note where a client would connect to; the explorer has one server with one database.

        Raises:
            NotSteppableError: another client of this exploration would connect elsewhere.
        """
        host = str(options.get("host") or "localhost").lower().replace("127.0.0.1", "localhost")
        place = options.get("path") or f"{host}:{options.get('port') or 6379}"
        target = f"{place}, database {int(options.get('db') or 0)}"
        if self._target and target != self._target:
            raise NotSteppableError(
                f"The explored code connects to two databases, {self._target} and {target}; the "
                "explorer has one.",
                "Explore what uses the one and what uses the other apart, or let both use one.",
            )
        self._target = target

    def close(self) -> None:
        """End all connections."""
        for wire in [*self._lent.values(), *(one for free in self._free.values() for one in free)]:
            wire.real.disconnect()
        self._lent.clear()
        self._free.clear()

    def _dial(self, settings: Settings) -> Wire:
        pool = self.direct.connection_pool
        options = {**pool.connection_kwargs, **settings._asdict()}
        if "legacy_responses" not in pool.connection_kwargs:  # redis-py before 8
            del options["legacy_responses"]
        actor = actor_here()
        if actor is None:
            return Wire(pool.connection_class(**options), settings)
        actor.trusted += 1  # to connect is the explorer's doing
        try:
            return Wire(pool.connection_class(**options), settings)
        finally:
            actor.trusted -= 1


def reserve(pool: ConnectionPool) -> ConnectionPool:
    """Mark a pool as the explorer's own: what is done to the code's pools is not done to it."""
    usual = pool.connection_class

    class Reserved(usual):  # type: ignore[misc, valid-type]
        send_command, send_packed_command = _USUAL

    def get_connection(*args: Any) -> Any:
        actor = actor_here()
        if actor is not None and not actor.trusted:
            raise refusal(
                f"The client {actor.name!r} takes a connection from the pool of the redis that it is given.",
                "Hand on that redis itself, or let the code make a client of its own, by any URL: its "
                "commands are steps, too.",
            )
        return _TAKE(pool, *args)

    pool.connection_class = Reserved
    pool.get_connection = get_connection  # type: ignore[assignment]
    pool.release = _GIVE.__get__(pool)  # type: ignore[method-assign]
    return pool
