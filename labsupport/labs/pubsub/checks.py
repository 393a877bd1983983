"""How answers to the exercises of lab 09 are put to the test."""

from collections import Counter
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, ClientFunction, Trial, put_through, require

__all__ = ["check_confirm", "check_follow"]

_CHANGES = ((1, "kettle", -1), (2, "teapot", 2), (3, "kettle", -3), (4, "teapot", 5))
_STOCK = (
    {"kettle": 10},
    {"kettle": 9},
    {"kettle": 9, "teapot": 2},
    {"kettle": 6, "teapot": 2},
    {"kettle": 6, "teapot": 7},
)
_PUBLISH = """
redis.call('HINCRBY', KEYS[1], ARGV[2], ARGV[3])
redis.call('INCR', KEYS[2])
return redis.call('RPUSH', KEYS[3], table.concat(ARGV, ' '))
"""


class _Counted:
    """A client that counts how often it is used."""

    def __init__(self, redis: Any) -> None:
        self.commands = 0
        self._redis = redis

    def __getattr__(self, name: str) -> Any:
        self.commands += 1
        return getattr(self._redis, name)


def check_follow(answer: Answer) -> Outcome:
    # what arrives is taken from a list, as from the buffer of a connection: in order, once
    told: list[tuple[int, int, int, dict[str, int], int]] = []
    copy: tuple[int, dict[str, int]] = 0, {}

    def start(at: int, published: int, arrive: int) -> ClientFunction:
        """The copy has one version, Redis another, and the last few messages are on their way."""

        def prepare(redis: Any, db: Any) -> None:
            nonlocal copy
            told.clear()
            copy = at, dict(_STOCK[at])
            redis.set("version", 0)
            redis.hset("stock", mapping=_STOCK[0])
            for number in range(1, published + 1):
                publish(redis, number)
            redis.ltrim("buffer", published - arrive, -1)

        return prepare

    def publish(redis: Any, number: int) -> None:
        redis.eval(_PUBLISH, 3, "stock", "version", "buffer", *_CHANGES[number - 1])

    def hear(redis: Any, message: tuple[int, str, int] | None) -> None:
        nonlocal copy
        asked = _Counted(redis)
        before = copy[0]
        version, stock = answer(asked, before, dict(copy[1]), message)
        copy = version, stock
        told.append((message[0] if message else 0, before, version, dict(stock), asked.commands))

    def take(redis: Any) -> bool:
        text = redis.lpop("buffer")
        if text is not None:
            number, product, change = text.split()
            hear(redis, (int(number), product, int(change)))
        return text is not None

    def subscriber(times: int, *, confirmed: bool = False) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            if confirmed:
                redis.delete("buffer")  # what was sent before it subscribed does not reach it
                hear(redis, None)
            for _ in range(times):
                take(redis)

        return client

    def publisher(*numbers: int) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            for number in numbers:
                publish(redis, number)

        return client

    def right(redis: Any, db: Any) -> bool:
        """the copy is the stock as it was at its version, and nobody is asked in vain"""
        while take(redis):
            pass
        for number, before, version, stock, commands in told:
            what = f"message {number}" if number else "the confirmation"
            wanted = _STOCK[version] if version in range(len(_STOCK)) else None
            require(wanted == stock, f"After {what}, version {version} is {stock}, not {wanted}.")
            require(version >= number, f"After {what}, the copy is at version {version}.")
            in_vain = commands > 0 and 0 < number <= before + 1
            require(not in_vain, f"Redis was asked at {what}, with the copy at {before}.")
        now = int(redis.get("version"))
        require(copy[0] == now, f"The copy stays at version {copy[0]}; the stock is at {now}.")
        return True

    waiting, late = subscriber(2), subscriber(2, confirmed=True)
    return put_through(
        (
            Trial("One message after the other", {"ada": waiting}, start(0, 2, 2), right),
            Trial("A message that never came", {"ada": waiting}, start(0, 2, 1), right),
            Trial("Messages that are in the copy", {"ada": waiting}, start(2, 2, 2), right),
            Trial("A confirmation, and silence", {"ada": late}, start(0, 2, 0), right),
            Trial(
                "Changes while the first copy is made",
                {"ada": late, "publisher": publisher(2, 3)},
                start(0, 1, 1),
                right,
            ),
            Trial(
                "Changes while a gap is closed",
                {"ada": waiting, "publisher": publisher(3, 4)},
                start(0, 2, 1),
                right,
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
