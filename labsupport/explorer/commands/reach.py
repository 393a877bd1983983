"""What a client's command may not do: reach beyond the explorer's database, or read the machine's clock."""

import itertools
from typing import Any

from labsupport.errors import NotSteppableError
from labsupport.explorer.clients.actor import refusal
from labsupport.explorer.commands.scripts import BEYOND
from labsupport.explorer.commands.server_time import word
from labsupport.explorer.commands.wiring import Wiring

__all__ = ["CHECKED", "REPLICATED", "as_seen", "check_reach", "refused"]

_BEYOND = frozenset(
    {"ACL", "AUTH", "BGREWRITEAOF", "BGSAVE", "CLUSTER", "DEBUG", "FAILOVER", "FLUSHALL", "HELLO"}
    | {"MIGRATE", "MODULE", "MONITOR", "MOVE", "PSUBSCRIBE", "PSYNC", "QUIT", "REPLICAOF", "RESET"}
    | {"LASTSAVE", "SAVE", "SELECT", "SENTINEL", "SHUTDOWN", "SLAVEOF", "SSUBSCRIBE", "SUBSCRIBE"}
    | {"SWAPDB", "SYNC"}
)
_ALLOWED = {
    "CLIENT": frozenset({"ID", "INFO", "LIST", "GETNAME", "UNBLOCK"}),
    "CONFIG": frozenset({"GET"}),
    "XINFO": frozenset({"STREAM", "GROUPS", "HELP"}),
    "OBJECT": frozenset({"ENCODING", "REFCOUNT", "HELP"}),
    "FUNCTION": frozenset({"LOAD", "DELETE", "LIST", "DUMP", "HELP"}),
    "LATENCY": frozenset({"HELP"}),
    "MEMORY": frozenset({"USAGE", "HELP"}),
    "SLOWLOG": frozenset({"HELP"}),
}
# an option, and where they begin
_BEYOND_WITH = {"COPY": ("DB", 3), "XINFO": ("FULL", 2), "XREADGROUP": ("CLAIM", 4)}
_BLOCK = frozenset({"MULTI", "EXEC", "DISCARD"})
REPLICATED = frozenset({"WAIT", "WAITAOF"})  # which end with a number of replicas, and a timeout
CHECKED = _BEYOND | _ALLOWED.keys() | _BEYOND_WITH.keys() | _BLOCK | REPLICATED | {""}
"""The commands that may reach too far."""


def check_reach(args: tuple[Any, ...]) -> tuple[str, str]:
    """A command's two words, the second empty where it has one; what reaches too far is refused.

    Raises:
        NotSteppableError: it reaches beyond the explorer's database, or reads a clock that cannot
            be held.
    """
    first, _, second = word(args[0]).partition(" ")
    second = second or (word(args[1]) if len(args) > 1 else "")
    if not first:
        raise refusal("An empty command was sent: a server never answers it.", "Name a command.")
    if first in _BLOCK:
        raise refusal(
            f"{first} was sent by itself; the explorer cannot tell where its block ends.",
            "Use a pipeline: with redis.pipeline() as pipe: … pipe.execute().",
        )
    if first in REPLICATED and _waits_for_ever(args):
        raise refusal(
            f"{first} without a timeout never ends: the explorer's server has no replica.",
            "Give it a timeout in ms, or put it to an experiment with a replica.",
        )
    if first in _BEYOND or (first in _ALLOWED and second not in _ALLOWED[first]):
        raise refused(f"{first} {second}" if first in _ALLOWED else first)
    if first in _BEYOND_WITH:
        option, begin = _BEYOND_WITH[first]
        options = itertools.takewhile(lambda one: one != "STREAMS", map(word, args[begin:]))
        if option in options:
            raise refused(f"{first} {option}")
    return first, second


def _waits_for_ever(args: tuple[Any, ...]) -> bool:
    """Whether a WAIT asks for replicas, and has no timeout."""
    return len(args) > 2 and word(args[-2]) != "0" and word(args[-1]) == "0"


def refused(name: str) -> NotSteppableError:
    """What is said of a command that an exploration cannot have, whatever the code makes of it."""
    if name.endswith(" WITH"):
        return refusal(
            f"{name}{'VALUES' if name.startswith('H') else 'SCORES'} draws by the server's chance, which "
            "the explorer does not hold there.",
            "Draw without them, and ask for the values or scores of what was drawn.",
        )
    remedy = (
        "Leave it out of the explored functions; put it to an experiment with a server of its own."
    )
    if name.startswith("CLUSTER"):
        remedy = (
            "Hand the code a redis.Redis in place of a RedisCluster: its commands are the same. Put what "
            "slots and failovers do to an experiment."
        )
    return refusal(
        f"{name.strip()} reaches beyond the database that the explorer sets back, or reads the machine's "
        "clock.",
        remedy,
    )


def as_seen(error: Exception, wiring: Wiring) -> Exception:
    """An error of the server's as the client is to see it."""
    found = BEYOND.search(str(error))
    return refused(found[1]) if found else wiring.scripts.as_written(error)
