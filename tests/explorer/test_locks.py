"""A lock in the database that no client of the exploration holds."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from labsupport import explore
from labsupport.database import Database
from labsupport.errors import NotDeterministicError
from labsupport.exploration import testbed
from labsupport.explorer.moves import adversary

_LOCK = {
    "sqlite": "UPDATE products SET stock = stock WHERE id = 0",
    "postgresql": "LOCK TABLE products IN ACCESS EXCLUSIVE MODE",  # as a vacuum does
}


@pytest.fixture
def shop(backend) -> Iterator[str]:
    """The explorer's shop, in each of the two databases."""
    testbed.close_testbed()
    yield backend
    testbed.close_testbed()


@contextmanager
def visitor(*, holds: float) -> Iterator[None]:
    """Somebody from outside takes the shop's lock, again and again."""
    over, url = threading.Event(), testbed.open_system().db.url

    def visit() -> None:
        with Database(url) as db:
            while not over.wait(0.001):
                with db.transaction():
                    db.execute(_LOCK[db.backend])
                    over.wait(holds)

    thread = threading.Thread(target=visit)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def sell(redis, db):
    stock = db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"]
    db.execute("UPDATE products SET stock = :left WHERE id = 1", left=stock - 1)
    db.execute("UPDATE products SET fence = fence + 1 WHERE id = 1")


def counted(redis, db):
    """Each sale is counted"""
    return db.fetch_one("SELECT fence FROM products WHERE id = 1")["fence"] in (0, 2)


@pytest.mark.long
def test_an_outsider_s_lock_takes_no_interleaving_away(shop):
    """The step is taken when the lock is free: the report is the same."""
    clients = {"ada": sell, "bob": sell}
    alone = explore(clients, invariant=counted)
    with visitor(holds=0.003):
        beside = explore(clients, invariant=counted)
    assert str(beside) == str(alone)


def test_an_outsider_that_does_not_let_go_is_told_of(monkeypatch, shop):
    """There is no verdict on steps that could not be taken."""
    monkeypatch.setattr(adversary, "_OUTSIDER_SECONDS", 0.01)
    outsider = Database(testbed.open_system().db.url)
    with outsider, ExitStack() as held:

        def given(redis, db):
            held.enter_context(outsider.transaction())
            outsider.execute(_LOCK[shop])

        def told(*args):
            held.close()  # what comes after the exploration needs the lock, too
            return NotDeterministicError(*args)

        monkeypatch.setattr(adversary, "NotDeterministicError", told)
        with pytest.raises(NotDeterministicError, match="no client holds it"):
            explore({"ada": sell, "bob": sell}, given=given, invariant=lambda redis, db: True)
