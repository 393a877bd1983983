"""Replies without what the machine makes of them: the order of a set, the age of a connection, INFO."""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

from labsupport.explorer.commands.reach import refused

__all__ = ["SetInOrder", "ageless", "held", "held_info"]


def ageless(clients: Any) -> Any:
    """What CLIENT tells of connections, without what the machine's clock makes of them."""
    for one in clients if isinstance(clients, list) else [clients]:
        if isinstance(one, dict):
            one.update(dict.fromkeys(one.keys() & {"age", "idle"}, "0"))
    return clients


_STAYS = re.compile(
    r"(redis|valkey|server|os|arch|gcc|maxmemory|maxclients|aof_enabled|role|cluster_enabled"
    r"|connected_slaves|mem_allocator)(_(?!seconds|time).*)?"
)
_UNKNOWN = "unknown in an exploration"  # no number: whoever reckons with it is stopped
_LINE = re.compile(r"^([^:#\r\n]+):[^\r\n]*", re.MULTILINE)


def held_info(found: Any) -> Any:
    """What INFO tells of the server, without what changes by itself; as a text to a client of one's own."""
    if isinstance(found, bytes):
        return held_info(found.decode()).encode()
    if isinstance(found, str):
        return _LINE.sub(
            lambda at: at[0] if _STAYS.fullmatch(at[1]) else f"{at[1]}:{_UNKNOWN}", found
        )
    return HeldInfo(found) if isinstance(found, dict) else found


class HeldInfo(dict[str, Any]):
    """The same to the client that is handed out.

    Raises:
        NotSteppableError: something else is asked for.
    """

    def __init__(self, found: dict[str, Any]) -> None:
        super().__init__({k: v for k, v in found.items() if _STAYS.fullmatch(k)})
        self._others = found.keys() - self.keys()

    def __missing__(self, key: str) -> Any:
        if key in self._others:
            raise refused(f"INFO's {key}")
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self or key in self._others else default


class SetInOrder(set[Any]):
    """A set of a reply, in the order of its members: Python has another one in each process."""

    __class__ = set  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(super().__iter__(), key=lambda one: (type(one).__name__, one)))

    def __repr__(self) -> str:
        return f"{{{', '.join(map(repr, self))}}}" if self else "set()"

    def pop(self) -> Any:
        one = next(iter(self), None)
        if not self:
            raise KeyError("pop from an empty set")
        self.remove(one)
        return one


def _in_order(name: str) -> Callable[..., Any]:
    plain = getattr(set, name)

    @functools.wraps(plain)
    def made(self: set[Any], *others: Any) -> Any:
        found = plain(self, *others)
        return SetInOrder(found) if type(found) is set else found

    return made


for _name in (
    "__and__", "__or__", "__sub__", "__xor__", "__rand__", "__ror__", "__rsub__", "__rxor__",
    "copy", "difference", "intersection", "symmetric_difference", "union",
):  # fmt: skip
    setattr(SetInOrder, _name, _in_order(_name))


def held(reply: Any) -> Any:
    """A set in the order of its members; any other reply as it is."""
    return SetInOrder(reply) if type(reply) is set else reply
