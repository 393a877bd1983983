"""How answers to exercise 12.3 are put to the test: who signs in while an account changes."""

from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, ClientFunction, Trial, put_through, require

__all__ = ["check_accounts"]

_HOUR_MS = 3_600_000
_ROOM_MS = 60_000  # for a slow machine: no order of steps takes a minute


def check_accounts(answer: Answer) -> Outcome:
    functions = answer()
    if not (isinstance(functions, tuple) and len(functions) == 2 and all(map(callable, functions))):
        return Outcome(False, "accounts() does not return two functions, sign_in and change_email.")
    sign_in, change_email = functions
    told: dict[str, Any] = {}
    old, new = "ada@example.com", "ada@new.example"

    def forget(redis: Any, db: Any) -> None:
        told.clear()

    def signed_in(redis: Any, db: Any) -> None:
        told.clear()
        sign_in(redis, db, 1, old, "first")

    def visitor(name: str, email: str = old) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            told[name] = sign_in(redis, db, 1, email, name)

        return client

    def changer(redis: Any, db: Any) -> None:
        change_email(redis, db, 1, new)

    def in_sequence(redis: Any, db: Any) -> None:
        replies = [
            sign_in(redis, db, 1, "bob@example.com", "wrong"),
            sign_in(redis, db, 1, old, "right"),
            sign_in(redis, db, 2, "alan@example.com", "other"),
        ]
        told["before"] = replies, _sessions(redis)
        change_email(redis, db, 1, new)
        told["changed"] = _sessions(redis)
        told["after"] = [sign_in(redis, db, 1, old, "late"), sign_in(redis, db, 1, new, "again")]

    def right(redis: Any, db: Any) -> bool:
        """who has the right address is in, and a change of it ends that user's sessions"""
        replies, there = told["before"]
        told_as = f"Three who sign in, the first with a wrong address, were told {replies}."
        require(replies == [False, True, True], told_as)
        require(
            there == ["other", "right"], f"The sessions then were {', '.join(there) or 'none'}."
        )
        left = ", ".join(told["changed"])
        require(told["changed"] == ["other"], f"After the change there were {left or 'none'}.")
        require(told["after"] == [False, True], f"The old and the new address: {told['after']}.")
        user = redis.get("session:again")
        require(user == "1", f"With the new address session:again holds {user!r}.")
        ttl = redis.pttl("session:again")
        require(_HOUR_MS - _ROOM_MS < ttl <= _HOUR_MS, f"session:again has a TTL of {ttl} ms.")
        return True

    def none_stays(redis: Any, db: Any) -> bool:
        """no session is there that began with an old address"""
        row = db.fetch_one("SELECT * FROM users WHERE id = 1")
        stale = _sessions(redis) if row["email"] != old else []
        require(not stale, f"session:{', '.join(stale)} began with {old}, and stays.")
        return True

    def both_in(redis: Any, db: Any) -> bool:
        """two who have the right address are both in"""
        there = _sessions(redis)
        require(told == {"ada": True, "eve": True}, f"They were told {told}.")
        require(there == ["ada", "eve"], f"The sessions are {', '.join(there) or 'none'}.")
        return True

    one = {"ada": visitor("ada")}
    two = {**one, "eve": visitor("eve")}
    return put_through(
        (
            Trial("One after the other", {"ada": in_sequence}, forget, right),
            Trial(
                "A sign-in while the address changes",
                {**one, "change": changer},
                forget,
                none_stays,
            ),
            Trial(
                "The same, with a session that was there before",
                {**one, "change": changer},
                signed_in,
                none_stays,
            ),
            Trial("Two sign-ins at once", two, forget, both_in, prune=True),
            Trial(
                "A sign-in that may crash, while the address changes",
                {**one, "change": changer},
                forget,
                none_stays,
                crashes=["ada"],
            ),
            Trial(
                "Two sign-ins while the address changes",
                {**two, "change": changer},
                signed_in,
                none_stays,
                prune=True,
                sample=6_000,
            ),
        )
    )


def _sessions(redis: Any) -> list[str]:
    """The names of the sessions; fails if one stays for ever."""
    keys = sorted(redis.scan_iter(match="session:*"))
    for key in keys:
        require(redis.pttl(key) != -1, f"{key} has no TTL: it stays for ever.")
    return [key.removeprefix("session:") for key in keys]
