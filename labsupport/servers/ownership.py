"""How labs share a server without ever meeting, or touching what is not theirs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import redis
from redis.exceptions import RedisError, ResponseError

from labsupport.errors import ForeignKeysError, InvalidSettingError
from labsupport.servers.connection import (
    connect_client,
    database_of,
    redacted,
    unreachable,
    with_database,
)
from labsupport.servers.presence import Presence

OWNER_KEY = "labsupport:owner"
"""The key that marks a database as a lab's; its value is the lab's token."""

_State = Literal["empty", "foreign", "left", "ours", "taken"]

# Says whose the selected database is, and takes it if it is nobody's. The mark and the keys are looked at
# in one step, so that two labs never take the same. A lab is alive while somebody is subscribed to
# its channel. KEYS[1]: the mark; ARGV[1]: the token; ARGV[2]: "take", or "look" to change nothing.
# Returns {state, token of the owner}: ours, taken (by another), left (by a dead one), empty, foreign.
_TAKE = """
local state, owner = 'empty', ''
if redis.call('TYPE', KEYS[1]).ok == 'string' then
  owner = redis.call('GET', KEYS[1])
  if owner == ARGV[1] then return {'ours', owner} end
  if redis.call('PUBSUB', 'SHARDNUMSUB', 'labsupport:' .. owner)[2] > 0 then
    return {'taken', owner}
  end
  state = 'left'
elseif redis.call('DBSIZE') > 0 then
  return {'foreign', owner}
end
if ARGV[2] == 'take' then redis.call('SET', KEYS[1], ARGV[1]) end
return {state, owner}
"""

# Removes the mark if it is still ours. KEYS[1]: the mark; ARGV[1]: the token. Returns 1 or 0.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


class Ownership:
    """One database of a server is this lab's, until `release()`.

    A URL without a number gets the first database that is empty or was left behind by a dead lab,
    whose keys are removed: 1, 2, … and 0 last, where other programs look first. A URL with a number
    gets that one; a second lab of the same process then gets another.

    Args:
        url: a well-formed URL of a server that answers.
        tag: of a cluster's: what puts the lab's channel into the slot of the mark.

    Attributes:
        url: the same, with the number of the database.
        left: True when a dead lab had it before.

    Raises:
        ForeignKeysError: the database that the URL names holds foreign keys or is another lab's, or
            every database is in use.
        InvalidSettingError: the server has no database of that number.
        ServerUnreachableError: the server refuses what the lab needs.
    """

    def __init__(self, url: str, *, tag: str = "") -> None:
        self.url = url
        self.left = False
        self._at_once = 1 if tag else 1000
        self._number: int | None = None
        self._owner = os.getpid()
        try:
            self._presence = Presence(
                url, self._confirm, tag=tag
            )  # a mark always has a living owner
        except RedisError as error:
            raise unreachable(url, error) from None
        try:
            with _databases(url) as databases:
                self._number = self._choose(databases)
        except RedisError as error:
            self._presence.end()
            raise unreachable(url, error) from None
        except BaseException:
            self._presence.end()
            raise
        self.url = with_database(url, self._number)

    @property
    def mine(self) -> bool:
        """True as long as the mark is this lab's."""
        if self._owner != os.getpid() or self._number is None:
            return False
        with _databases(self.url) as databases:
            return self._state(databases, self._number) == "ours"

    def release(self) -> None:
        """Remove the lab's keys and its mark; what another lab has taken meanwhile is left alone."""
        if self._owner != os.getpid() or self._number is None:
            return  # a forked child has no say
        number, self._number = self._number, None
        with suppress(RedisError, OSError), _databases(self.url) as databases:
            if self._state(databases, number) == "ours":
                remove_keys(databases, at_once=self._at_once)
                databases.eval(_RELEASE, 1, OWNER_KEY, self._presence.token)
        self._presence.end()

    def _choose(self, databases: redis.Redis) -> int:
        number = database_of(self.url)
        if number is not None:
            state = self._state(databases, number, take=True)
            if state is None:
                raise InvalidSettingError(
                    f"There is no database {number} on the Redis at {redacted(self.url)}.",
                    "Leave the number out of REDIS_URL: the lab then takes an empty one itself.",
                )
            if state in ("empty", "left", "ours"):
                return number
            if state == "foreign" or not self._owner_is_here(databases):
                raise self._occupied(databases, number, state)
        found = self._search(databases, take=True)
        if found is None:
            raise ForeignKeysError(
                f"Every database of the Redis at {redacted(self.url)} is in use.",
                "Start another Redis, or unset REDIS_URL to use the embedded one.",
            )
        return found

    def _state(self, databases: redis.Redis, number: int, *, take: bool = False) -> _State | None:
        """Whose a database is; with `take`, take it if it can be had. None: it does not exist."""
        if not _select(databases, number):
            return None
        task = "take" if take else "look"
        reply: list[bytes] = databases.eval(_TAKE, 1, OWNER_KEY, self._presence.token, task)
        state: _State = reply[0].decode()  # type: ignore[assignment]
        if state == "left" and take:
            self.left = True
            remove_keys(databases, at_once=self._at_once)
        return state

    def _search(self, databases: redis.Redis, *, take: bool) -> int | None:
        """The first database that can be had, and with `take` is had."""
        number = 1
        while (state := self._state(databases, number, take=take)) not in ("empty", "left"):
            if number == 0:
                return None
            number = number + 1 if state else 0
        return number

    def _owner_is_here(self, databases: redis.Redis) -> bool:
        owner: bytes = databases.get(OWNER_KEY) or b""  # type: ignore[assignment]
        return owner.decode(errors="replace").startswith(self._presence.process)

    def _occupied(self, databases: redis.Redis, number: int, state: str | None) -> ForeignKeysError:
        holds = (
            "holds keys that the lab did not write" if state == "foreign" else "is another lab's"
        )
        free = self._search(databases, take=False)
        if free is None:
            remedy = "Start another Redis (every database is in use), or unset REDIS_URL."
        else:
            remedy = f"Set REDIS_URL={redacted(with_database(self.url, free))}, which is empty"
            remedy += ", with your password for ***." if "***" in remedy else "."
        where = redacted(with_database(self.url, number))
        return ForeignKeysError(f"Database {number} ({where}) {holds}.", remedy)

    def _confirm(self) -> None:
        """After a loss of the connection: put the mark back if the server has lost it."""
        if self._number is not None:
            with _databases(self.url) as databases:
                self._state(databases, self._number, take=True)


@contextmanager
def _databases(url: str) -> Iterator[redis.Redis]:
    """One connection that can select any database; replies are bytes, as keys may be anything."""
    with connect_client(
        with_database(url, 0), protocol=2, single_connection_client=True, decode_responses=False
    ) as client:
        yield client


def _select(databases: redis.Redis, number: int) -> bool:
    try:
        databases.execute_command("SELECT", number)
    except ResponseError as error:
        if "out of range" in str(error) or "cluster" in str(error):
            return False
        raise
    return True


def remove_keys(databases: redis.Redis, *, at_once: int = 1000) -> None:
    """Remove every key of the selected database but the mark.

    Args:
        databases: a client with one connection.
        at_once: how many keys go in one command; in a cluster, each lies in a slot of its own.
    """
    cursor = None
    while cursor != 0:
        cursor, page = databases.scan(cursor or 0, count=1000)
        names = [name for name in page if name not in (OWNER_KEY, OWNER_KEY.encode())]
        for first in range(0, len(names), at_once):
            databases.unlink(*names[first : first + at_once])
