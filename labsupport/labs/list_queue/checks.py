"""What answers of lab 10 make of ten thousand jobs at once, on a real server."""

from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.matching import listed
from labsupport.exercises.trials import Answer
from labsupport.servers import start_server

__all__ = ["reap_many", "release_many"]

_MANY = 10_000
_OTHERS = [f"worker {number}" for number in range(1_000)]


def reap_many(answer: Answer) -> Outcome:
    """Does it give back more jobs than a Lua call can take as arguments, and all workers'?"""
    with start_server() as server, server.client() as redis:
        with redis.pipeline() as pipe:
            pipe.sadd("workers", "ada", *_OTHERS)
            pipe.rpush("jobs:ada", *map(str, range(len(_OTHERS), _MANY)))
            for number, name in enumerate(_OTHERS):
                pipe.rpush(f"jobs:{name}", str(number))
            pipe.execute()
        told = _called(answer, redis)
        left = sum(redis.llen(key) for key in redis.keys("jobs:*"))
        found = {"jobs": redis.llen("jobs"), "jobs:*": left}
    return _many(told, found, {"jobs": _MANY, "jobs:*": 0})


def release_many(answer: Answer) -> Outcome:
    """The same, of jobs that are due."""
    with start_server() as server, server.client() as redis:
        redis.zadd("later", {str(n): n for n in range(_MANY)})
        told = _called(answer, redis)
        found = {"jobs": redis.llen("jobs"), "later": redis.zcard("later")}
    return _many(told, found, {"jobs": _MANY, "later": 0})


def _called(answer: Answer, redis: Any) -> Any:
    try:
        return answer(redis)
    except Exception as error:
        return error


def _many(told: Any, found: dict[str, int], due: dict[str, int]) -> Outcome:
    if told == _MANY and found == due:
        return Outcome(True, f"{_MANY:,} jobs were moved.", found)
    lengths = listed([f"{key} has {length:,}" for key, length in found.items()])
    said = f"an error ({told})" if isinstance(told, Exception) else repr(told)
    reason = f"{_MANY:,} jobs at once: the caller was given {said}, and {lengths}."
    return Outcome(False, reason, found)
