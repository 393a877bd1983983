"""The exercises of lab 00: count, move, sell, with others at work and crashes at every step."""

# Stubs and solutions are shown to the reader as they stand here, and notebooks carry no annotations.
# mypy: allow-untyped-defs, allow-untyped-calls

from collections.abc import Callable, Mapping
from typing import Any

from labsupport.exercises import Exercise, Outcome
from labsupport.exercises.trials import Answer, ClientFunction, Trial, put_through, require

__all__ = ["EXERCISES"]


def count_visit_stub(redis, page):
    """Count one visit in visits:{page}, and return its number: 1 for the first visitor."""
    number = int(redis.get(f"visits:{page}") or 0) + 1
    redis.set(f"visits:{page}", number)
    return number


def count_visit_solution(redis, page):
    """Count one visit in visits:{page}, and return its number: 1 for the first visitor."""
    return redis.incr(f"visits:{page}")


def move_credit_stub(redis, giver, receiver, cents):
    """Move cents from credit:{giver} to credit:{receiver}."""
    redis.decrby(f"credit:{giver}", cents)
    redis.incrby(f"credit:{receiver}", cents)


def move_credit_solution(redis, giver, receiver, cents):
    """Move cents from credit:{giver} to credit:{receiver}."""
    with redis.pipeline(transaction=True) as pipe:
        pipe.decrby(f"credit:{giver}", cents)
        pipe.incrby(f"credit:{receiver}", cents)
        pipe.execute()


def buy_stub(redis, product, customer):
    """Take one from stock:{product} and add the customer to the list buyers:{product}.

    Return True, or False when there is none left; then nothing changes.
    """
    if int(redis.get(f"stock:{product}") or 0) < 1:
        return False
    redis.decr(f"stock:{product}")
    redis.rpush(f"buyers:{product}", customer)
    return True


def buy_solution(redis, product, customer):
    """Take one from stock:{product} and add the customer to the list buyers:{product}.

    Return True, or False when there is none left; then nothing changes.
    """
    script = """
    -- Sells one piece if there is one.
    -- KEYS: stock (a number), buyers (a list); ARGV: customer; returns 1 (sold) or 0.
    if tonumber(redis.call('GET', KEYS[1]) or 0) < 1 then
      return 0
    end
    redis.call('DECR', KEYS[1])
    redis.call('RPUSH', KEYS[2], ARGV[1])
    return 1
    """
    return bool(redis.eval(script, 2, f"stock:{product}", f"buyers:{product}", customer))


def _together(
    who: str,
    clients: Mapping[str, ClientFunction],
    given: ClientFunction,
    invariant: Callable[[Any, Any], bool],
) -> list[Trial]:
    """All orders; then with pauses that outlast every time to live; then with crashes, too."""
    return [
        Trial(who, clients, given, invariant),
        Trial(f"{who}, a long pause", clients, given, invariant, expires="*"),
        Trial(f"{who}, a crash", clients, given, invariant, expires="*", crashes=["ada"]),
    ]


def _check_count_visit(answer: Answer) -> Outcome:
    numbers: dict[str, Any] = {}
    came: set[str] = set()

    def visitor(name: str) -> ClientFunction:
        def visit(redis: Any, db: Any) -> None:
            came.add(name)
            numbers[name] = answer(redis, "home")

        return visit

    def given(redis: Any, db: Any) -> None:
        numbers.clear()
        came.clear()
        redis.set("visits:home", 41)

    def each_counted(redis: Any, db: Any) -> bool:
        """every visit counts once, and has a number of its own"""
        for name, number in numbers.items():
            require(type(number) is int, f"{name} was given {number!r}, which is not a number.")
        counter = int(redis.get("visits:home") or 0)
        # a visitor who crashed may have been counted or not
        low, high = 41 + len(numbers), 41 + len(came)
        due = f"{low}" if low == high else f"{low} or {high}"
        require(low <= counter <= high, f"The counter says {counter} where {due} is due.")
        given_out = sorted(numbers.values())
        shown = " and ".join(map(str, given_out))
        require(len(set(given_out)) == len(given_out), f"Two visitors were given {shown}.")
        require(set(given_out) <= {*range(42, high + 1)}, f"After 41 came number {shown}.")
        return True

    both = {"ada": visitor("ada"), "bob": visitor("bob")}
    return put_through(
        [
            Trial("One visitor alone", {"ada": both["ada"]}, given, each_counted),
            *_together("Two visitors at once", both, given, each_counted),
        ]
    )


def _check_move_credit(answer: Answer) -> Outcome:
    start = {"ada": 1000, "bob": 500, "cyd": 0}
    transfers = {"ada": ("bob", 300), "bob": ("cyd", 200)}
    came: dict[str, bool] = {}  # the givers, and whether the transfer was reported as done

    def mover(giver: str) -> ClientFunction:
        def move(redis: Any, db: Any) -> None:
            came[giver] = False
            answer(redis, giver, *transfers[giver])
            came[giver] = True

        return move

    def given(redis: Any, db: Any) -> None:
        came.clear()
        redis.mset({f"credit:{name}": cents for name, cents in start.items()})

    def balanced(redis: Any, db: Any) -> bool:
        """no cent is lost or made, and a transfer that was made is there"""
        credit = {name: int(redis.get(f"credit:{name}") or 0) for name in start}
        lost = sum(start.values()) - sum(credit.values())
        require(lost <= 0, f"{lost} cents are gone.")
        require(lost == 0, f"{-lost} cents came from nowhere.")
        possible = [start]
        for giver, done in came.items():
            receiver, cents = transfers[giver]
            after = [
                {**at, giver: at[giver] - cents, receiver: at[receiver] + cents} for at in possible
            ]
            possible = after if done else possible + after
        shown = ", ".join(f"{name} {cents}" for name, cents in credit.items())
        require(credit in possible, f"The cents in the end: {shown}.")
        return True

    both = {"ada": mover("ada"), "bob": mover("bob")}
    one = {"ada": both["ada"]}
    return put_through(
        [
            Trial("One transfer alone", one, given, balanced),
            Trial("One transfer that may crash", one, given, balanced, crashes=["ada"]),
            *_together("Two transfers at once", both, given, balanced),
        ]
    )


def _check_buy(answer: Answer) -> Outcome:
    replies: dict[str, Any] = {}

    def customer(name: str) -> ClientFunction:
        def buy(redis: Any, db: Any) -> None:
            replies[name] = answer(redis, 7, name)

        return buy

    def given(stock: int | None) -> ClientFunction:
        def prepare(redis: Any, db: Any) -> None:
            replies.clear()
            if stock is not None:
                redis.set("stock:7", stock)

        return prepare

    def sold_once(stock: int) -> Callable[[Any, Any], bool]:
        def invariant(redis: Any, db: Any) -> bool:
            """every piece is in stock or with one buyer, and every reply is true"""
            for name, reply in replies.items():
                require(type(reply) is bool, f"{name} was told {reply!r}, not True or False.")
            left = int(redis.get("stock:7") or 0)
            buyers = redis.lrange("buyers:7", 0, -1)
            count = f"Of {stock}, {left} in stock and {len(buyers)} with buyers."
            require(left >= 0 and left + len(buyers) == stock, count)
            require(len(set(buyers)) == len(buyers), f"The buyers are {', '.join(buyers)}.")
            for name, reply in replies.items():
                told = f"{name} was told {reply}"
                require(reply == (name in buyers), f"{told}; the buyers: {', '.join(buyers)}.")
                require(reply or left == 0, f"{told}, and {left} is left.")
            return True

        return invariant

    both = {"ada": customer("ada"), "bob": customer("bob")}
    one = {"ada": both["ada"]}
    return put_through(
        [
            Trial("One customer, three items", one, given(3), sold_once(3)),
            Trial("One customer, no item left", one, given(0), sold_once(0)),
            Trial("One customer, no such product", one, given(None), sold_once(0)),
            Trial("Two customers, two items", both, given(2), sold_once(2)),
            *_together("Two customers, one item", both, given(1), sold_once(1)),
        ]
    )


EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        number="00.1",
        title="Count without losing a visit",
        stub=count_visit_stub,
        solution=count_visit_solution,
        hints=(
            "Which two steps must nobody come between? The schedule above shows who came.",
            "A read, a sum in Python and a write are two round trips. Redis can do the sum itself.",
            "`INCR` adds one and replies with the new number, in one step: return that reply. A `GET` "
            "after it may see somebody else's visit.",
        ),
        check=_check_count_visit,
    ),
    Exercise(
        number="00.2",
        title="Move credit so that a crash at any step leaves the sum right",
        stub=move_credit_stub,
        solution=move_credit_solution,
        hints=(
            "Look at the sum of the two balances after the first step. Another order of the two "
            "steps does not help: what would the sum be then?",
            "`except` and `finally` do not run when a process is killed. The server must get both "
            "changes at once, or none.",
            "Queue `decrby` and `incrby` in `redis.pipeline(transaction=True)` and send them with one "
            "`execute()`. Do not read the balances: what you read may be old when you write.",
        ),
        check=_check_move_credit,
    ),
    Exercise(
        number="00.3",
        title="Sell the last item once",
        stub=buy_stub,
        solution=buy_solution,
        hints=(
            "The check and the sale are separate steps. MULTI alone cannot join them: it has to know "
            "its commands before it has seen a reply.",
            "Either decide inside the server, in a Lua script, or `WATCH` the stock *before* you read "
            "it, and start again when `execute()` raises `WatchError`.",
            "`redis.eval(script, 2, stock_key, buyers_key, customer)`: in the script, `GET` the stock "
            "(a missing key is `false`, so write `or 0`), return 0 when it is below 1, else `DECR`, "
            "`RPUSH` and return 1. In Python, turn the reply into `True` or `False` with `bool`.",
        ),
        check=_check_buy,
    ),
)
