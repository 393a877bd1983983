"""What is sent for a command that is not sent as it is written, and what makes the reply that is seen."""

import functools
import hashlib
import re
from collections.abc import Callable
from typing import Any

from labsupport.explorer.commands.reach import CHECKED, REPLICATED, refused
from labsupport.explorer.commands.replies import ageless, held_info
from labsupport.explorer.commands.scripts import SCANNED
from labsupport.explorer.commands.server_time import on_the_wire, word
from labsupport.explorer.commands.wiring import Wiring

__all__ = ["idle_times", "note_times", "plain", "what_is_sent"]

Arguments = tuple[Any, ...]
Sent = tuple[Arguments, Callable[[Any], Any] | None]

_SCRIPTS = frozenset({"EVAL", "EVALSHA", "EVAL_RO", "EVALSHA_RO"})
_DRAW = "return redis.pcall(ARGV[1], KEYS[1], unpack(ARGV, 2))"
_DRAW_KEY = "return redis.call('RANDOMKEY')"


def what_is_sent(args: Arguments, wiring: Wiring) -> Sent:
    """The command to be sent, and what makes the reply that the client is to see (None: as it is)."""
    if plain(args[0]):
        return on_the_wire(args, wiring.clock.now_ms)
    name = word(args[0])
    if name == "FUNCTION" and len(args) > 1:
        name = f"FUNCTION {word(args[1])}"
    otherwise = _OTHERWISE.get(name) or _OTHERWISE.get(name.partition(" ")[0])
    sent = otherwise(name, args, wiring) if otherwise is not None else None
    return on_the_wire(args, wiring.clock.now_ms) if sent is None else sent


@functools.lru_cache(maxsize=512)
def plain(name: Any) -> bool:
    """True for a command that is sent as it is written, but for its times."""
    return word(name).partition(" ")[0] not in _SPECIAL


def _script(name: str, args: Arguments, wiring: Wiring) -> Sent:
    evaluates = name.startswith("EVAL") and not name.startswith("EVALSHA")
    digest = wiring.scripts.load(args[1]) if evaluates else args[1]
    if wiring.scripts.reads_idle_times(digest):
        wiring.streams = True
        wiring.settle()
    by_digest = "EVALSHA_RO" if name.endswith("_RO") else "EVALSHA"
    moment = wiring.moment("EVAL", str(digest), chance=wiring.scripts.draws(digest))
    return (by_digest, wiring.scripts.wrapped(digest), *args[2:], moment), None


def _drawn(name: str, args: Arguments, wiring: Wiring) -> Sent:
    script = wiring.scripts.wrapped(wiring.scripts.load(_DRAW))
    moment = wiring.moment(name, *map(str, args[1:2]), chance=True)
    return ("EVALSHA", script, 1, *args[1:2], *args[:1], *args[2:], moment), None


def _drawn_key(name: str, args: Arguments, wiring: Wiring) -> Sent:
    script = wiring.scripts.wrapped(wiring.scripts.load(_DRAW_KEY))
    return ("EVALSHA", script, 0, wiring.moment(name, chance=True)), None


def _replicated(name: str, args: Arguments, wiring: Wiring) -> Sent | None:
    """What comes in time from the replicas that there are: nothing."""
    return ((*args[:-2], 0, *args[-1:]), None) if len(args) > 2 else None


def _info(name: str, args: Arguments, wiring: Wiring) -> Sent:
    return args, held_info


def _client(name: str, args: Arguments, wiring: Wiring) -> Sent:
    return args, ageless


def _function(name: str, args: Arguments, wiring: Wiring) -> Sent:
    return (*args, wiring.moment(name, *map(str, args[1:2]), chance=True)), None


def _load_library(name: str, args: Arguments, wiring: Wiring) -> Sent:
    library = _library_of(args[-1])
    if not wiring.own(library) and "REPLACE" in map(word, args[1:-1]):
        raise refused(f"FUNCTION LOAD REPLACE of {library!r}, which was there before,")
    return (*args[:-1], wiring.scripts.library(args[-1])), None


def _delete_library(name: str, args: Arguments, wiring: Wiring) -> None:
    if not wiring.own(_text(args[-1])):
        raise refused(f"FUNCTION DELETE of {args[-1]!r}, which was there before,")


def _empty(name: str, args: Arguments, wiring: Wiring) -> Sent:
    return wiring.empty, lambda _: True


def _read_by_group(name: str, args: Arguments, wiring: Wiring) -> None:
    wiring.streams = True


def _claim(name: str, args: Arguments, wiring: Wiring) -> None:
    if wiring.streams:
        wiring.settle()


def _overview(name: str, args: Arguments, wiring: Wiring) -> Sent:
    """KEYS, SCAN or DBSIZE without a key that is not the client's, and in an order that is no server's.

    KEYS come in the order of their names; of SCAN, which key is on which page goes by a digest of its
    name: what is there all the time comes once, whatever else comes and goes, as Redis has it.
    """

    hidden = wiring.hidden

    def others(keys: Any) -> list[Any]:
        return sorted(key for key in keys if key not in (hidden, hidden.encode()))

    if name == "DBSIZE":
        return args, lambda count: count - bool(hidden)
    if name == "KEYS":
        return args, others
    options = list(args[2:])
    try:
        at = next(n for n in range(0, len(options) - 1, 2) if word(options[n]) == "COUNT")
        count = int(options.pop(at + 1))
        del options[at]
    except StopIteration:
        count = 10
    except ValueError:
        return args, None
    cursor = int(_text(args[1])) if len(args) > 1 and _text(args[1]).isdigit() else None
    if cursor is None or count < 1:  # the server says what is wrong
        return args, None

    def page(reply: Any) -> tuple[Any, list[Any]]:
        ranked = sorted((_rank(key), key) for key in others(reply[1]))
        rest = [one for one in ranked if one[0] >= cursor]
        begin = rest[count][0] if len(rest) > count else 0
        found = sorted(key for rank, key in rest if rank < begin or not begin)
        kind = type(reply[0])
        return (str(begin).encode() if kind is bytes else kind(begin)), found

    return (args[0], 0, *options, "COUNT", SCANNED), page


def _rank(key: Any) -> int:
    sent = key if isinstance(key, bytes) else str(key).encode(errors="surrogateescape")
    return int(hashlib.sha1(sent, usedforsecurity=False).hexdigest()[:12], 16) + 1


def _text(part: Any) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else str(part)


def _library_of(code: Any) -> str:
    """The name of a library of functions, from its first line."""
    found = re.match(r"#!.*?\bname=(\S+)", _text(code), re.IGNORECASE)
    return found[1] if found else ""


def note_times(args: tuple[Any, ...], wiring: Wiring) -> None:
    """Remember the moments, and the spans of time, that a command names: time may pass up to them."""
    wiring.clock.note(*args[1:])
    name = word(args[0])
    if name.endswith("TTL"):
        wiring.clock.watch_ends(exact="PTTL" in name)
    counted = 3 if name in _SCRIPTS else 2 if name == "HINCRBY" else 1  # a key, or a field
    wiring.clock.note_windows(*args[counted : counted + 1])
    for ms in idle_times(args, wiring):
        wiring.clock.span(ms / 1000)


def idle_times(args: tuple[Any, ...], wiring: Wiring) -> list[int]:
    """The idle times in ms that a command may wait for, as it claims what is pending."""
    name = word(args[0])
    if name in {"XAUTOCLAIM", "XCLAIM"}:
        asked = [args[4]]
    elif name in _SCRIPTS and wiring.scripts.reads_idle_times(_digest_of(args[1])):
        asked = list(args[3:])
    else:
        return []
    return [int(value) for value in asked if word(value).isdigit() and int(value) > 1]


def _digest_of(script: Any) -> str:
    """The digest of a script, or of the text of one."""
    text = script.decode() if isinstance(script, bytes) else str(script)
    if len(text) == 40 and text.isalnum():
        return text
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


_OTHERWISE: dict[str, Callable[[str, Arguments, Wiring], Sent | None]] = {
    **dict.fromkeys(_SCRIPTS, _script),
    **dict.fromkeys(("HRANDFIELD", "SPOP", "SRANDMEMBER", "ZRANDMEMBER"), _drawn),
    "RANDOMKEY": _drawn_key,
    **dict.fromkeys(REPLICATED, _replicated),
    "INFO": _info,
    "CLIENT": _client,
    **dict.fromkeys(("DBSIZE", "KEYS", "SCAN"), _overview),
    **dict.fromkeys(("FCALL", "FCALL_RO"), _function),
    "FUNCTION LOAD": _load_library,
    "FUNCTION DELETE": _delete_library,
    "FLUSHDB": _empty,
    "XREADGROUP": _read_by_group,
    **dict.fromkeys(("XAUTOCLAIM", "XCLAIM", "XPENDING"), _claim),
}
_SPECIAL = CHECKED | {name.partition(" ")[0] for name in _OTHERWISE} | {"SCRIPT"}
