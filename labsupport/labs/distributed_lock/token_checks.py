"""How answers to exercises 07.1 and 07.2 are put to the test with many holders."""

from itertools import pairwise

from labsupport.exercises import Outcome
from labsupport.exercises.trials import MANY, Answer, elsewhere
from labsupport.servers import start_server

__all__ = ["check_many_numbers", "check_many_tokens"]

_TTL = 60.0


def check_many_tokens(answer: Answer) -> Outcome:
    """Does each of many locks have a token of its own?"""
    other = elsewhere(answer)()[0]
    take = answer()[0]
    with start_server() as server, server.client() as redis:
        tokens = [take(redis, f"lock:{number}", _TTL) for number in range(MANY)]
        token = other(redis, "lock:of another process", _TTL)
    if len(set(tokens)) < MANY:
        reason = f"{MANY:,} locks, one after the other: not each has a token that no other has."
        return Outcome(False, reason, tokens)
    if token in tokens:
        reason = f"Two processes, each with a memory of its own: both have the token {token!r}."
        return Outcome(False, reason, token)
    return Outcome(True, "each of many locks has a token of its own.", len(tokens))


def check_many_numbers(answer: Answer) -> Outcome:
    """Does each of many holders have a greater number than the one before?"""
    numbers = []
    with start_server() as server, server.client() as redis:
        for _ in range(MANY):
            numbers.append(answer(redis, "lock:kettle", _TTL))
            redis.delete("lock:kettle")
    for place, (before, number) in enumerate(pairwise(numbers), 2):
        if number <= before:
            reason = (
                f"{MANY:,} holders, one after the other: holder {place} has the number {number}, "
                f"and the one before has {before}."
            )
            return Outcome(False, reason, numbers)
    return Outcome(True, "each of many holders has a greater number.", len(numbers))
