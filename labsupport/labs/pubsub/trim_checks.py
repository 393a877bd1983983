"""How answers to exercise 09.3, which trims a stream that many read, are put to the test."""

import itertools
from collections.abc import Iterator
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, ClientFunction, Trial, put_through, require
from labsupport.servers import start_server

__all__ = ["check_trim"]

_SAMPLE = 1_000  # enough for what asks the server a dozen questions; longer answers are right, too
_NAMES = ("ada", "bob")
_DONE = ("ada", "cyd", "dan")
# of one millisecond, as when many are sold at once; or not
_ENTRIES = "5-8", "5-9", "5-10", "5-11", "5-12"
_APART = "9-11", "10-3", "10-20", "100-0"
_MANY = 2_500

Clients = dict[str, ClientFunction]


def check_trim(answer: Answer) -> Outcome:
    found = _in_all_orders(answer)
    return _many(answer, found) if found.passed else found


def _many(answer: Answer, few: Outcome) -> Outcome:
    """Does it look at more entries than one reply should hold, or are pending; at all names?"""
    for handled, oldest in ((_MANY, None), (_MANY - 1_500, _MANY - 1_499)):
        with start_server() as server, server.client() as redis:
            with redis.pipeline() as pipe:
                for number in range(1, _MANY + 1):
                    pipe.xadd("orders", {"text": ""}, id=f"{number}-0")
                for name, done in (*((other, _MANY) for other in _DONE), ("bob", handled)):
                    pipe.xgroup_create("orders", name, id="0")
                    pipe.xreadgroup(name, name, {"orders": ">"})
                    pipe.xack("orders", name, *(f"{number}-0" for number in range(1, done + 1)))
                pipe.execute()
            answer(redis, (*_DONE, "bob"))
            left = redis.xrange("orders", count=1)
        first, due = (left[0][0] if left else None), (f"{oldest}-0" if oldest else None)
        if first != due:
            reason = (
                f"{_MANY:,} orders, and bob, the last of {len(_DONE) + 1} names, has handled "
                f"{handled:,} of them, the others all: the oldest "
            )
            return Outcome(False, f"{reason}entry is {first} afterwards; {due} is due.", first)
    return few


def _in_all_orders(answer: Answer) -> Outcome:
    one: Clients = {"trimmer": lambda redis, db: answer(redis, _NAMES)}
    reads, adds = {**one, "bob": _reader}, {**one, "publisher": _publisher}
    return put_through(
        (
            Trial("One subscriber is behind", one, _stream(ada=(4, 0), bob=(2, 2)), _exactly),
            Trial("One is a message behind", one, _stream(ada=(2, 0), bob=(1, 1)), _exactly),
            Trial("All are done", one, _stream(ada=(4, 0), bob=(4, 0)), _exactly),
            Trial("One has not begun to read", one, _stream(ada=(4, 0), bob=(0, 0)), _exactly),
            Trial("One has not started", one, _stream(ada=(4, 0)), _exactly),
            Trial("One begins at the end", one, _stream(ada=(4, 0), behind=4), _exactly),
            Trial("One begins in the middle", one, _stream(ada=(4, 0), behind=2), _exactly),
            Trial(
                "One has not started, somebody else has",
                one,
                _stream(ada=(4, 0), zoe=(4, 0)),
                _exactly,
            ),
            *_similar_groups(one),
            Trial(
                "A group of somebody else",
                one,
                _stream(ada=(4, 0), bob=(2, 0), zoe=(1, 1)),
                _exactly,
            ),
            Trial(
                "A subscriber reads on meanwhile",
                reads,
                _stream(ada=(4, 0), bob=(1, 0)),
                _meanwhile(answer, 4),
                prune=True,
                sample=_SAMPLE,
            ),
            Trial(
                "A subscriber handles its last meanwhile",
                reads,
                _stream(ada=(4, 0), bob=(2, 1)),
                _meanwhile(answer, 4),
                prune=True,
                sample=_SAMPLE,
            ),
            Trial(
                "An order comes meanwhile",
                adds,
                _stream(ada=(4, 0), bob=(2, 1)),
                _meanwhile(answer, 5),
            ),
            Trial(
                "An order comes after the last",
                adds,
                _stream(ada=(4, 0), bob=(4, 0)),
                _meanwhile(answer, 5),
            ),
            *_any_groups(one),
        )
    )


def _stream(
    *,
    entries: tuple[str, ...] = _ENTRIES[:4],
    last: bool = False,
    behind: int = 0,
    **groups: tuple[int, int],
) -> ClientFunction:
    """Four orders, and groups that have acknowledged so many and been given so many more.

    With `last`, a group has acknowledged the last that it was given, and not the first; with
    `behind`, Bob's was made behind so many entries, and nobody has read in it.
    """

    def prepare(redis: Any, db: Any) -> None:
        for entry in entries:
            redis.xadd("orders", {"text": entry}, id=entry)
        for name, (handled, more) in groups.items():
            redis.xgroup_create("orders", name, id="0")
            for consumer, count in ((name, handled + more - 1), ("another", 1)):
                if count > 0 and handled + more:
                    redis.xreadgroup(name, consumer, {"orders": ">"}, count=count)
            if handled:
                given = entries[: handled + more]
                redis.xack("orders", name, *(given[more:] if last else given[:handled]))
        if behind:
            redis.xgroup_create("orders", "bob", id=entries[behind - 1])
        redis.set("before", _books(redis))
        if entries == _APART:
            redis.set("apart", 1)

    return prepare


def _books(redis: Any) -> str:
    """What the server knows of the groups: how far each is, and who has what in hand."""
    told = ("consumers", "pending", "last-delivered-id", "entries-read")
    groups = []
    for group in redis.xinfo_groups("orders"):
        facts = [f"{what} {group[what]}" for what in told]
        facts += [
            f"{one['message_id']} given to {one['consumer']} {one['times_delivered']}x"
            for one in redis.xpending_range("orders", group["name"], "-", "+", 10)
        ]
        groups.append(f"{group['name']} has {', '.join(facts)}")
    return "; ".join(groups)


def _reader(redis: Any, db: Any) -> None:
    """Handle what is pending and one more entry, and take another one in hand."""
    for after in ("0", ">"):
        for _, entries in redis.xreadgroup("bob", "bob", {"orders": after}, count=1):
            for entry, _ in entries:
                redis.xack("orders", "bob", entry)
    redis.xreadgroup("bob", "bob", {"orders": ">"}, count=1)


def _publisher(redis: Any, db: Any) -> None:
    redis.xadd("orders", {"text": _ENTRIES[4]}, id=_ENTRIES[4])


def _needed(redis: Any, added: int) -> dict[str, list[str]]:
    """Who needs what, by the server's own books."""
    found = {}
    groups = {group["name"]: group["last-delivered-id"] for group in redis.xinfo_groups("orders")}
    for name in _NAMES:
        last = groups.get(name, "0-0")
        all_of_them = _APART if redis.get("apart") else _ENTRIES[:added]
        read = all_of_them.index(last) + 1 if last in all_of_them else 0
        pending = redis.xpending_range("orders", name, "-", "+", 10) if name in groups else []
        found[name] = [one["message_id"] for one in pending] + list(all_of_them[read:])
    return found


def _safe(redis: Any, added: int) -> None:
    there = [entry for entry, _ in redis.xrange("orders")]
    for name, entries in _needed(redis, added).items():
        gone = [entry for entry in entries if entry not in there]
        require(not gone, f"Removed, though {name} still needs it: {', '.join(gone)}.")


def _trimmed(redis: Any, added: int) -> None:
    wanted = set().union(*_needed(redis, added).values())
    there = [entry for entry, _ in redis.xrange("orders", count=1)]
    idle = [entry for entry in there if entry not in wanted]
    require(not idle, f"The oldest entry is {' '.join(idle)}, and all have handled it.")


def _exactly(redis: Any, db: Any) -> bool:
    """what somebody needs is there, what is older is not, and the groups are as they were"""
    require(redis.exists("orders") == 1, "There is no stream any more, and so there is no group.")
    now, before = _books(redis), redis.get("before")
    require(now == before, f"The groups have changed. Now {now}. Before, {before or 'none'}.")
    _safe(redis, 4)
    _trimmed(redis, 4)
    return True


def _meanwhile(answer: Answer, added: int) -> ClientFunction:
    def invariant(redis: Any, db: Any) -> bool:
        """nothing that somebody needs is gone, and the next call removes the rest"""
        _safe(redis, added)
        answer(redis, _NAMES)
        _safe(redis, added)
        _trimmed(redis, added)
        return True

    return invariant


def _any_groups(one: Clients) -> Iterator[Trial]:
    """Each of the two groups in any state, or not there."""
    states = [None, (0, 0), (0, 2), (1, 0), (1, 1), (2, 0), (2, 2), (3, 1), (4, 0)]
    for number, pair in enumerate(itertools.product(states, states)):
        groups: dict[str, Any] = {
            name: state for name, state in zip(_NAMES, pair, strict=True) if state
        }
        told = [
            f"{name} {' and '.join(map(str, state)) if state else 'not started'}"
            for name, state in zip(_NAMES, pair, strict=True)
        ]
        apart, last = number % 2 == 1, number % 3 == 1
        yield Trial(
            f"Handled, and in hand: {', '.join(told)}",
            one,
            _stream(entries=_APART if apart else _ENTRIES[:4], last=last, **groups),
            _exactly,
        )


def _similar_groups(one: Clients) -> Iterator[Trial]:
    """The group of somebody else has nearly the name of one that is not there."""
    for name in ("Bob", "bobby", "bob:mails", "the bob"):
        groups: dict[str, Any] = {"ada": (4, 0), name: (4, 0)}
        yield Trial(f"One has not started, {name!r} has", one, _stream(**groups), _exactly)
