"""How answers to the exercises of lab 09 are put to the test."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Trial, put_through, require

__all__ = ["check_catch_up", "check_confirm", "check_read_inbox"]

Answer = Callable[..., Any]
Client = Callable[[Any, Any], Any]


def check_catch_up(answer: Answer) -> Outcome:
    return _check_reader(answer, lambda redis: None)


def check_read_inbox(answer: Answer) -> Outcome:
    def acknowledged(redis: Any) -> None:
        for name in ("ada", "bob"):
            groups = [group["name"] for group in redis.xinfo_groups("orders")]
            require(name in groups, f"There is no group {name}: there are {groups}.")
            left = redis.xpending("orders", name)["pending"]
            require(left == 0, f"{left} messages of {name} are still unacknowledged.")

    return _check_reader(answer, acknowledged)


def _check_reader(answer: Answer, further: Callable[[Any], None]) -> Outcome:
    def given(*texts: str) -> Client:
        def prepare(redis: Any, db: Any) -> None:
            for text in texts:
                redis.xadd("orders", {"text": text})

        return prepare

    def read(redis: Any, name: str) -> None:
        # to handle a message is a step, too: a crash may come before it and after it
        answer(redis, name, lambda text: redis.rpush(f"handled:{name}", text))

    def reader(name: str) -> Client:
        return lambda redis, db: read(redis, name)

    def twice(redis: Any, db: Any) -> None:
        for _ in range(2):
            read(redis, "ada")

    def publisher(redis: Any, db: Any) -> None:
        redis.xadd("orders", {"text": "three"})

    def sent(redis: Any) -> list[str]:
        return [fields["text"] for _, fields in redis.xrange("orders")]

    def finish(redis: Any) -> list[tuple[str, list[str]]]:
        for name in ("ada", "bob"):
            read(redis, name)  # whoever has crashed is started again, and the other once more
        return [(name, redis.lrange(f"handled:{name}", 0, -1)) for name in ("ada", "bob")]

    def once(redis: Any, db: Any) -> bool:
        """every subscriber handles every message once, in order"""
        found, due = finish(redis), sent(redis)
        for name, seen in found:
            require(seen == due, f"{name} handled {seen}, of {due}.")
        further(redis)
        return True

    def at_least_once(redis: Any, db: Any) -> bool:
        """after a crash and a new start no message is lost"""
        found, due = finish(redis), sent(redis)
        for name, seen in found:
            lost = [text for text in due if text not in seen]
            require(not lost, f"{name} has lost {lost}: it handled {seen}, of {due}.")
            most = max(Counter(seen).values(), default=0)
            require(most <= 2, f"One crash, and {name} handled a message {most} times.")
        further(redis)
        return True

    ada, bob = {"ada": reader("ada")}, {"bob": reader("bob")}
    two = given("one", "two")
    return put_through(
        (
            Trial("A subscriber that reads twice", {"ada": twice}, two, once),
            Trial("Nothing was ever sent", {"ada": twice}, given(), once),
            Trial("Two subscribers at once", {**ada, **bob}, two, once, prune=True),
            Trial(
                "A subscriber that may crash",
                ada,
                two,
                at_least_once,
                crashes=True,
            ),
            Trial(
                "A message that comes while a subscriber reads",
                {**ada, "publisher": publisher},
                two,
                once,
            ),
            Trial(
                "A message that comes while a subscriber may crash",
                {**ada, "publisher": publisher},
                two,
                at_least_once,
                crashes={"ada"},
                prune=True,
            ),
        )
    )


def check_confirm(answer: Answer) -> Outcome:
    def caller(redis: Any, db: Any) -> None:
        answer(redis, "42")

    def twice(redis: Any, db: Any) -> None:
        for order in ("42", "43", "42"):
            answer(redis, order)

    def queued(redis: Any) -> Counter[str]:
        return Counter(fields.get("order", "?") for _, fields in redis.xrange("emails"))

    def one_each(redis: Any, db: Any) -> bool:
        """each order has one e-mail"""
        found = queued(redis)
        require(found == {"42": 1, "43": 1}, f"Two orders have the e-mails {dict(found)}.")
        return True

    def one(redis: Any, db: Any) -> bool:
        """one e-mail is queued, whoever calls"""
        found = queued(redis)["42"]
        require(found == 1, f"There are {found} e-mails for the order.")
        return True

    def one_after_all(redis: Any, db: Any) -> bool:
        """when somebody calls after a crash, there is one e-mail"""
        answer(redis, "42")
        return one(redis, db)

    return put_through(
        (
            Trial("One caller, two orders", {"ada": twice}, None, one_each),
            Trial("Two callers at once", {"ada": caller, "bob": caller}, None, one),
            Trial("A caller who crashes", {"ada": caller}, None, one_after_all, crashes=True),
            Trial(
                "Two callers, one of whom may crash",
                {"ada": caller, "bob": caller},
                None,
                one_after_all,
                crashes={"ada"},
                prune=True,
            ),
            Trial(
                "Two callers, and any key expires",
                {"ada": caller, "bob": caller},
                None,
                one_after_all,
                expires=["*"],
                prune=True,
            ),
        )
    )
