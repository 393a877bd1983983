"""How answers to exercise 09.3, which trims a stream that many read, are put to the test."""

from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, ClientFunction, Trial, put_through, require

__all__ = ["check_trim"]

_SAMPLE = 1_000  # enough for what asks the server a dozen questions; longer answers are right, too
_NAMES = ("ada", "bob")
# of one millisecond, as when many are sold at once
_ENTRIES = "5-8", "5-9", "5-10", "5-11", "5-12"


def check_trim(answer: Answer) -> Outcome:
    def stream(**groups: tuple[int, int]) -> ClientFunction:
        """Four orders, and groups that have acknowledged so many and been given so many more."""

        def prepare(redis: Any, db: Any) -> None:
            for entry in _ENTRIES[:4]:
                redis.xadd("orders", {"text": entry}, id=entry)
            for name, (handled, more) in groups.items():
                redis.xgroup_create("orders", name, id="0")
                if handled + more:
                    redis.xreadgroup(name, name, {"orders": ">"}, count=handled + more)
                if handled:
                    redis.xack("orders", name, *_ENTRIES[:handled])
            redis.set("before", books(redis))

        return prepare

    def books(redis: Any) -> str:
        """What the server knows of the groups."""
        told = ("name", "pending", "last-delivered-id")
        return str([[group[what] for what in told] for group in redis.xinfo_groups("orders")])

    def trimmer(redis: Any, db: Any) -> None:
        answer(redis, _NAMES)

    def reader(redis: Any, db: Any) -> None:
        """Handle what is pending and one more entry, and take another one in hand."""
        for after in ("0", ">"):
            for _, entries in redis.xreadgroup("bob", "bob", {"orders": after}, count=1):
                for entry, _ in entries:
                    redis.xack("orders", "bob", entry)
        redis.xreadgroup("bob", "bob", {"orders": ">"}, count=1)

    def publisher(redis: Any, db: Any) -> None:
        redis.xadd("orders", {"text": _ENTRIES[4]}, id=_ENTRIES[4])

    def needed(redis: Any, added: int) -> dict[str, list[str]]:
        """Who needs what, by the server's own books."""
        found = {}
        groups = {
            group["name"]: group["last-delivered-id"] for group in redis.xinfo_groups("orders")
        }
        for name in _NAMES:
            last = groups.get(name, "0-0")
            read = _ENTRIES.index(last) + 1 if last in _ENTRIES else 0
            pending = redis.xpending_range("orders", name, "-", "+", 10) if name in groups else []
            found[name] = [one["message_id"] for one in pending] + list(_ENTRIES[read:added])
        return found

    def safe(redis: Any, added: int) -> None:
        there = [entry for entry, _ in redis.xrange("orders")]
        for name, entries in needed(redis, added).items():
            gone = [entry for entry in entries if entry not in there]
            require(not gone, f"Removed, though {name} still needs it: {', '.join(gone)}.")

    def trimmed(redis: Any, added: int) -> None:
        wanted = set().union(*needed(redis, added).values())
        there = [entry for entry, _ in redis.xrange("orders", count=1)]
        idle = [entry for entry in there if entry not in wanted]
        require(not idle, f"The oldest entry is {' '.join(idle)}, and all have handled it.")

    def exactly(redis: Any, db: Any) -> bool:
        """what somebody needs is there, what is older is not, and the groups are as they were"""
        require(
            redis.exists("orders") == 1, "There is no stream any more, and so there is no group."
        )
        require(books(redis) == redis.get("before"), f"The groups have changed: {books(redis)}.")
        safe(redis, 4)
        trimmed(redis, 4)
        return True

    def meanwhile(added: int) -> ClientFunction:
        def invariant(redis: Any, db: Any) -> bool:
            """nothing that somebody needs is gone, and the next call removes the rest"""
            safe(redis, added)
            answer(redis, _NAMES)
            safe(redis, added)
            trimmed(redis, added)
            return True

        return invariant

    one = {"trimmer": trimmer}
    reads, adds = {**one, "bob": reader}, {**one, "publisher": publisher}
    return put_through(
        (
            Trial("One subscriber is behind", one, stream(ada=(4, 0), bob=(2, 2)), exactly),
            Trial("One is a message behind", one, stream(ada=(2, 0), bob=(1, 1)), exactly),
            Trial("All are done", one, stream(ada=(4, 0), bob=(4, 0)), exactly),
            Trial("One has not begun to read", one, stream(ada=(4, 0), bob=(0, 0)), exactly),
            Trial("One has not started", one, stream(ada=(4, 0)), exactly),
            Trial(
                "A group of somebody else",
                one,
                stream(ada=(4, 0), bob=(2, 0), zoe=(1, 1)),
                exactly,
            ),
            Trial(
                "A subscriber reads on meanwhile",
                reads,
                stream(ada=(4, 0), bob=(1, 0)),
                meanwhile(4),
                prune=True,
                sample=_SAMPLE,
            ),
            Trial(
                "A subscriber handles its last meanwhile",
                reads,
                stream(ada=(4, 0), bob=(2, 1)),
                meanwhile(4),
                prune=True,
                sample=_SAMPLE,
            ),
            Trial("An order comes meanwhile", adds, stream(ada=(4, 0), bob=(2, 1)), meanwhile(5)),
            Trial(
                "An order comes after the last", adds, stream(ada=(4, 0), bob=(4, 0)), meanwhile(5)
            ),
        )
    )
