"""How answers to the exercises of lab 07 are put to the test."""

from itertools import pairwise
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import (
    Answer,
    ClientFunction,
    Trial,
    put_through,
    require,
    require_ttl,
)

__all__ = ["check_numbered_lock", "check_own_lock", "check_sell_once"]

_LOCK = "lock:kettle"
_TTL_SECONDS = 60  # only the explorer decides when it is over
_STOCK = "SELECT stock FROM products WHERE id = 1"
_MANY = 50
# Free a lock, or keep it for ever, if it is the caller's. KEYS: the lock; ARGV: the number.
_FREE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"
_KEEP = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PERSIST', KEYS[1]) or 0"


def check_own_lock(answer: Answer) -> Outcome:
    functions = answer()
    if not (isinstance(functions, tuple) and len(functions) == 3):
        return Outcome(False, "own_lock() does not return three functions: take, renew, free.")
    take, renew, free = functions
    told: list[Any] = []
    inside: list[int] = []

    def forget(redis: Any, db: Any) -> None:
        told.clear()
        inside.clear()

    def in_turn(redis: Any, db: Any) -> None:
        token = take(redis, _LOCK, _TTL_SECONDS)
        told.append(redis.pttl(_LOCK))
        told.append(renew(redis, _LOCK, token, 2 * _TTL_SECONDS))
        told.append(redis.pttl(_LOCK))
        told.append(free(redis, _LOCK, token))
        told.append(redis.exists(_LOCK))
        told.append(renew(redis, _LOCK, token, _TTL_SECONDS))
        told.append(free(redis, _LOCK, token))

    def told_the_truth(redis: Any, db: Any) -> bool:
        """the holder has the lock for its time, and is told the truth"""
        first, renewed, second, freed, there, *late = told
        require(30_000 < first <= 60_000, f"With ttl=60 the lock has {first} ms.")
        require(renewed is True, f"renew returned {renewed!r} to the holder, not True.")
        require(60_000 < second <= 120_000, f"Renewed for 120 s, the lock has {second} ms.")
        require(freed is True, f"free returned {freed!r} to the holder, not True.")
        require(not there, "After free the lock is still there.")
        require(late == [False, False], f"Who had lost the lock was told {late}, not False.")
        require(not redis.exists(_LOCK), "renew made a lock that nobody has taken.")
        return True

    def token_of_their_own(redis: Any, db: Any) -> bool:
        """each holder has a token that nobody else has"""
        tokens = set()
        for _ in range(_MANY):
            token = take(redis, _LOCK, _TTL_SECONDS)
            free(redis, _LOCK, token)
            tokens.add(token)
        require(len(tokens) == _MANY, "Of fifty holders in turn, some had the same token.")
        return True

    def holder(redis: Any, db: Any) -> None:
        token = take(redis, _LOCK, _TTL_SECONDS)
        inside.append(1)
        told.append(len(inside))
        db.fetch_one(_STOCK)
        inside.pop()
        free(redis, _LOCK, token)

    def one_at_a_time(redis: Any, db: Any) -> bool:
        """one at a time holds the lock, and nobody waits for ever"""
        return set(told) == {1}

    def nothing_for_ever(redis: Any, db: Any) -> bool:
        """a crash leaves nothing that stays for ever"""
        require_ttl(redis, f"{_LOCK}*")
        return True

    def late(act: ClientFunction) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            token = take(redis, _LOCK, _TTL_SECONDS)
            act(redis, token)

        return client

    def bob(redis: Any, db: Any) -> None:
        """Somebody whose lock does not expire, and is there until they free it."""
        if redis.set(_LOCK, "bob's", nx=True):
            told.append((redis.get(_LOCK), redis.pttl(_LOCK)))
            redis.delete(_LOCK)

    def bobs(redis: Any, db: Any) -> bool:
        """nobody frees, changes or renews the lock of another"""
        for value, ttl in told:
            require(value == "bob's", f"Bob has the lock, and finds {value!r:.40} in it.")
            require(ttl == -1, "Somebody has renewed Bob's lock.")
        return True

    def outlived(act: ClientFunction, what: str) -> Trial:
        return Trial(
            f"{what} that comes too late",
            {"ada": late(act), "bob": bob},
            forget,
            bobs,
            expires=[_LOCK],
        )

    return put_through(
        (
            Trial("One after the other", {"ada": in_turn}, forget, told_the_truth),
            Trial(
                "Two who want the lock",
                {"ada": holder, "bob": holder},
                forget,
                one_at_a_time,
                prune=True,
            ),
            Trial(
                "A holder who may crash", {"ada": holder}, forget, nothing_for_ever, crashes=True
            ),
            outlived(lambda redis, token: free(redis, _LOCK, token), "A free"),
            outlived(lambda redis, token: renew(redis, _LOCK, token, _TTL_SECONDS), "A renew"),
            Trial("Fifty holders", {"ada": holder}, forget, token_of_their_own),
        )
    )


def check_numbered_lock(answer: Answer) -> Outcome:
    numbers: list[Any] = []
    kept: list[tuple[Any, int, int]] = []

    def forget(redis: Any, db: Any) -> None:
        numbers.clear()
        kept.clear()

    def holder(redis: Any, db: Any) -> None:
        number = answer(redis, _LOCK, _TTL_SECONDS)
        require(type(number) is int, f"It returned {number!r:.40}, not an int.")
        numbers.append(number)

    def freeing(redis: Any, db: Any) -> None:
        number = answer(redis, _LOCK, _TTL_SECONDS)
        numbers.append(number)
        redis.eval(_FREE, 1, _LOCK, number)

    def bob(redis: Any, db: Any) -> None:
        """Somebody whose lock, once it is theirs, does not expire until they free it."""
        number = answer(redis, _LOCK, _TTL_SECONDS)
        numbers.append(number)
        if redis.eval(_KEEP, 1, _LOCK, number):
            kept.append((redis.get(_LOCK), number, max(numbers)))
            redis.delete(_LOCK)

    def in_its_place(redis: Any, db: Any) -> bool:
        """the lock holds the number for its time, and fifty holders have fifty numbers that rise"""
        held, ttl = redis.get(_LOCK), redis.pttl(_LOCK)
        require(held == str(numbers[0]), f"{numbers[0]} was returned, the lock holds {held!r:.40}.")
        require(30_000 < ttl <= 60_000, f"With ttl=60 the lock has {ttl} ms.")
        for _ in range(_MANY):
            redis.delete(_LOCK)
            numbers.append(answer(redis, _LOCK, _TTL_SECONDS))
        return rising(redis, db)

    def rising(redis: Any, db: Any) -> bool:
        """each number is greater than those before"""
        wrong = [pair for pair in pairwise(numbers) if pair[0] >= pair[1]]
        text = "A holder's number was not above that of the one before."
        require(not wrong and numbers[0] > 0, text)
        return True

    def his(redis: Any, db: Any) -> bool:
        """who has the lock keeps it, and has the greatest number"""
        for held, number, greatest in kept:
            require(held == str(number), f"Bob has number {number}, and his lock holds {held}.")
            require(number == greatest, f"Bob has the lock, and somebody else number {greatest}.")
        require(len(set(numbers)) == len(numbers), f"Two were given the number {numbers[0]}.")
        return True

    def nothing_for_ever(redis: Any, db: Any) -> bool:
        """a crash leaves no lock that stays for ever"""
        return bool(redis.pttl(_LOCK) != -1)

    return put_through(
        (
            Trial("One after the other", {"ada": holder}, forget, in_its_place),
            Trial(
                "A holder who may crash", {"ada": holder}, forget, nothing_for_ever, crashes=True
            ),
            Trial("Two who want the lock", {"ada": freeing, "bob": freeing}, forget, rising),
            Trial(
                "A holder who may be late, and one who is not",
                {"ada": holder, "bob": bob},
                forget,
                his,
                expires=f"{_LOCK}*",
                prune=True,
                sample=4_000,
            ),
        )
    )


def check_sell_once(answer: Answer) -> Outcome:
    sold: list[str] = []
    start = 3

    def given(stock: int) -> ClientFunction:
        def reset(redis: Any, db: Any) -> None:
            sold.clear()
            db.execute("UPDATE products SET stock = :stock WHERE id = 1", stock=stock)

        return reset

    def customer(name: str, *fences: int) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            for fence in fences:
                done = answer(db, fence)
                require(isinstance(done, bool), f"It returned {done!r:.40}, not True or False.")
                sold.extend([f"{name} with {fence}"] * done)

        return client

    def balanced(stock: int, *due: str) -> ClientFunction:
        def invariant(redis: Any, db: Any) -> bool:
            """what was sold has left the stock"""
            left = db.fetch_one(_STOCK)["stock"]
            gone = f"Sold: {', '.join(sold) or 'nothing'}; the stock went from {stock} to {left}."
            require(stock - left == len(sold) and left >= 0, gone)
            require(not due or sold == list(due), f"{gone} Due: {', '.join(due)}.")
            return True

        return invariant

    def trial(situation: str, stock: int, clients: dict[str, ClientFunction], *due: str) -> Trial:
        return Trial(situation, clients, given(stock), balanced(stock, *due), sample=8_000)

    three = {name: customer(name, fence) for name, fence in (("ada", 1), ("bob", 2), ("cleo", 3))}
    return put_through(
        (
            trial(
                "Numbers that rise, then one that is late",
                start,
                {"ada": customer("ada", 1, 3, 2)},
                "ada with 1",
                "ada with 3",
            ),
            trial("The last piece", 1, {"ada": customer("ada", 4, 5)}, "ada with 4"),
            trial("Two holders", start, {"ada": three["ada"], "bob": three["bob"]}),
            trial(
                "Two holders with one number",
                start,
                {"ada": customer("ada", 7), "bob": customer("bob", 7)},
            ),
            trial("Three holders", start, three),
        )
    )
