"""The checks of lab 15: a test is judged by the shops that it tells apart, a sale by every order."""

import inspect
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from redis.asyncio import Redis
from redis.exceptions import LockError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from labsupport.errors import ImplementationError, LabError
from labsupport.exercises import Outcome
from labsupport.exercises.matching import Skipped
from labsupport.exploration import by_default, explore
from labsupport.labs.own_code import variants
from labsupport.labs.own_code.shop import Base, Order, Product, Shop, restock

__all__ = ["check_limit_test", "check_price_test", "check_sell"]

_MOST_RUNS = 2_000  # of a test for one shop: three clients at once may have a hundred times as many
_TIMES_OVERTAKEN, _RIVAL = 12, "another"
_UNSURE = Skipped()  # what is told by an answer that promises nothing
_CACHE = Redis(decode_responses=True)  # in an exploration it is the explorer's


@contextmanager
def _database() -> Iterator[AsyncEngine]:
    """An engine on an SQLite file of its own, whose tables are there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.db"
        plain = sa.create_engine(f"sqlite:///{path}")
        Base.metadata.create_all(plain)
        plain.dispose()
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        try:
            yield engine
        finally:
            engine.sync_engine.dispose()


# 15.1 and 15.2: a test


def check_price_test(answer: Callable[..., Any]) -> Outcome:
    """Does the test find the shops whose prices may stay old, and no others?"""
    return _tells_apart(answer, variants.RIGHT_PRICES, variants.WRONG_PRICES)


def check_limit_test(answer: Callable[..., Any]) -> Outcome:
    """Does the test find the limits that fail, and no others?"""
    return _tells_apart(answer, variants.RIGHT_LIMITS, variants.WRONG_LIMITS)


def _tells_apart(
    test: Callable[..., Any], right: tuple[type[Shop], ...], wrong: tuple[type[Shop], ...]
) -> Outcome:
    processes: dict[str, Any] = {"delays": False}  # they share no memory
    with _database() as engine, by_default(max_runs=_MOST_RUNS, **processes):
        for kind in right:
            if (refusal := _refusal(test, kind(engine, _CACHE))) is not None:
                told = str(refusal).strip() or "assert without a message"
                reason = f"It fails for a shop that is right. {kind.__doc__}\n\n{told}"
                return Outcome(False, reason, refusal)
        for kind in wrong:
            shop = kind(engine, _CACHE)
            if _refusal(test, shop) is None:
                return Outcome(False, f"It passes for a shop that is wrong. {kind.__doc__}", shop)
    return Outcome(
        True,
        f"It passes for {len(right)} shops that are right and fails for {len(wrong)} that are wrong.",
        test,
    )


def _refusal(test: Callable[..., Any], shop: Shop) -> AssertionError | None:
    try:
        result = test(shop)
    except AssertionError as error:
        return error
    except ImplementationError as error:
        if isinstance(error.__cause__, AssertionError):
            problem = f"{error.problem.rstrip('.')}. To `explore` that is an error, and no finding."
            remedy = "Put the assert into the invariant, or into the test itself."
            raise LabError(problem, remedy) from error
        raise
    except LabError:
        raise
    except Exception as error:
        raise ImplementationError("The test", error) from error
    if inspect.isawaitable(result):
        getattr(result, "close", lambda: None)()
        raise LabError(
            "The test is a coroutine function.",
            "Write a plain function: `explore` does the awaiting.",
        )
    return None


# 15.3: a sale


def check_sell(answer: Callable[..., Any]) -> Outcome:
    """Is each piece sold once, with its order, whoever pauses or crashes?"""
    if not inspect.iscoroutinefunction(answer):
        raise LabError("sell is no coroutine function.", "Keep its form: `async def sell(…)`.")
    alone, both = {" Joan d'Arc ": 3}, {"ada": 1, "bob": 1}
    with _database() as engine:
        for situation, stock, clients, moves in (
            ("One after the other", 2, alone, {"product": 2}),
            ("Two at once", 1, both, {"expires": "*"}),  # if a lock is over, for one
            ("Two at once, with enough for both", 5, both, {"max_runs": 100}),
            (
                "Overtaken at each UPDATE",
                _TIMES_OVERTAKEN + 1,
                {"ada": 1},
                {"rivals": _TIMES_OVERTAKEN},
            ),
            ("A crash", 1, both, {"crashes": ["ada"], "expires": "*"}),
        ):
            faults, report = _sold(answer, engine, stock, clients, **moves)
            if report.findings:
                fault = faults[-1] if faults else report.findings[0].reason
                return Outcome(False, f"{situation}: {fault}", report)
            if not report.exhausted and not report.given_up.startswith("more than"):
                return Outcome(False, f"{situation}: {report.given_up}", report)
    return Outcome(True, "Each piece was sold once, with its order, in every order tried.", report)


def _sold(
    answer: Callable[..., Any],
    engine: AsyncEngine,
    stock: int,
    clients: dict[str, int],
    rivals: int = 0,
    product: int = 1,
    **moves: Any,
) -> tuple[list[str], Any]:
    """What was wrong, the latest last, and the explorer's report."""
    faults: list[str] = []

    async def given(redis: Any, db: Any) -> None:
        await restock(engine, stock=stock if product == 1 else 1)
        async with AsyncSession(engine) as session:  # nobody asks for the other one
            session.add(Product(id=2, price=1, stock=stock if product == 2 else 1))
            await session.commit()

    def client(name: str, times: int) -> Callable[..., Any]:
        async def buy(redis: Any, db: Any) -> list[Any]:
            with _overtaken(engine, rival, rivals):
                return [await _told(answer, engine, redis, product, name) for _ in range(times)]

        return buy

    async def sold_once(redis: Any, db: Any, told: dict[str, Any]) -> bool:
        """Each piece is sold once, with its order"""
        left, mine, others = await _sales(engine, product)
        if others:
            faults.append("Another product was sold, too.")
            return False
        finished = {name: said for name, said in told.items() if isinstance(said, list)}
        everybody = len(finished) == len(clients)
        fault = _fault(stock, left, mine, finished, everybody=everybody)
        faults.extend([fault] if fault else [])
        return not fault

    buyers = {name: client(name, times) for name, times in clients.items()}
    options: dict[str, Any] = {"stop": "first", "max_runs": 250, "delays": False, **moves}
    with closing(_connection(engine)) as rival:
        return faults, explore(buyers, given=given, invariant=sold_once, **options)


async def _sales(engine: AsyncEngine, product: int) -> tuple[int | None, list[str], bool]:
    """How many are left, whose the orders are, and whether the other product was sold, too."""
    async with AsyncSession(engine) as session:
        products = sa.select(Product.id, Product.stock)
        left = {row.id: row.stock for row in await session.execute(products)}
        orders = [(one.product_id, one.customer) for one in await session.scalars(sa.select(Order))]
    mine = [customer for number, customer in orders if number == product]
    return left.get(product), mine, left.get(3 - product) != 1 or len(mine) < len(orders)


def _connection(engine: AsyncEngine) -> sqlite3.Connection:
    """One that waits for nobody, and that no explorer sees."""
    return sqlite3.connect(engine.url.database or "", timeout=0, check_same_thread=False)


@contextmanager
def _overtaken(engine: AsyncEngine, rival: sqlite3.Connection, times: int) -> Iterator[None]:
    """Before an UPDATE another process sells a piece, so many times, where the database lets it."""
    left = times

    def sell(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        nonlocal left
        if left == 0 or not statement.lstrip().upper().startswith("UPDATE"):
            return
        left -= 1
        with suppress(sqlite3.OperationalError), rival:
            rival.execute("UPDATE products SET stock = stock - 1 WHERE id = 1")
            rival.execute("INSERT INTO orders (product_id, customer) VALUES (1, ?)", [_RIVAL])

    sa.event.listen(engine.sync_engine, "before_cursor_execute", sell)
    try:
        yield
    finally:
        sa.event.remove(engine.sync_engine, "before_cursor_execute", sell)


async def _told(
    answer: Callable[..., Any], engine: AsyncEngine, redis: Any, product: int, name: str
) -> Any:
    try:
        return await answer(engine, redis, product, name)
    except LockError:  # its lock was over
        return _UNSURE


def _fault(
    stock: int,
    left: int | None,
    mine: list[str],
    told: dict[str, list[Any]],
    *,
    everybody: bool,
) -> str:
    """What is wrong; "" if nothing is."""
    replies = [reply for said in told.values() for reply in said]
    sure = everybody and _UNSURE not in replies
    for reply in replies:
        if not isinstance(reply, (bool, Skipped)):
            return f"The reply is {reply!r}, not True or False."
    if len(mine) > stock or left != stock - len(mine):
        return f"The stock was {stock} and is {left} now; orders written: {len(mine)}."
    for name, said in told.items():
        if said.count(True) > mine.count(name) or (
            _UNSURE not in said and said.count(True) < mine.count(name)
        ):
            return (
                f"{name} was told {', '.join(map(str, said))}, and has {mine.count(name)} orders."
            )
    if left and False in replies:
        return f"Somebody was told False, and {left} of {stock} pieces are left."
    sold = len(mine) - mine.count(_RIVAL)
    if sure and sold != min(stock - mine.count(_RIVAL), len(replies)):
        return f"{len(replies)} asked for {stock} pieces, and {sold} were sold."
    return ""
