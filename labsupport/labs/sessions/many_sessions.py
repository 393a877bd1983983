"""What an answer to exercise 12.3 makes of very many sessions of one user, on a real server."""

from labsupport.database import open_shop
from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer
from labsupport.servers import start_server

__all__ = ["end_many"]

_MANY = 8_100  # more than a Lua call can take as arguments


def end_many(answer: Answer) -> Outcome:
    """Does each of many sessions begin, and does a new address end them all?"""
    sign_in, change_email = answer()
    with start_server() as server, server.client() as redis, open_shop("") as db:
        (row,) = db.fetch_all("SELECT email FROM users WHERE id = 1")
        for number in range(_MANY):
            sign_in(redis, db, 1, row["email"], f"s{number}")
        there = sum(1 for _ in redis.scan_iter("session:*", count=1_000))
        told = "change_email"
        try:
            change_email(redis, db, 1, "ada@new.example")
        except Exception as error:
            told = f"change_email raised an error ({error}), and"
        left = sum(1 for _ in redis.scan_iter("session:*", count=1_000))
    if there < _MANY:
        reason = f"{_MANY:,} sessions of one user: {there:,} of them are there."
        return Outcome(False, reason, there)
    if left:
        reason = f"{_MANY:,} sessions of one user: {told} has left {left:,}; none is due."
        return Outcome(False, reason, left)
    return Outcome(True, "each of many sessions has ended.", left)
