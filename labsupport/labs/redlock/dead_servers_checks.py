"""How answers to exercise 08.2 are put to the test: real servers that are dead, or hang."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from labsupport.errors import ImplementationError, WorkerError
from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer
from labsupport.labs.redlock.other_holder_checks import GAVE_UP, KEY, TOOK_AWAY, while_it_frees
from labsupport.servers import Server, start_masters
from labsupport.workers import Client, Worker, WorkerPool, point

__all__ = ["check_lock_on"]

_TTL = 1.2  # ten times what two nodes that hang cost an answer that waits 50 ms for each
_TRIES = 4  # at all of which an answer has to fail where a busy machine can be why
_SHORT_TTL = 0.9
_TINY_TTL = 0.01  # over before one that hangs has not answered
_LONG_TTL = 60.0
_MANY = 1_000  # of so many, two are alike in 16 bits of whatever
_PATIENCE_SECONDS = 15.0  # how long free may take is not said

_OTHER_TTL = f"the lock does not end when its ttl of {_LONG_TTL:g} s is over."
_LEFT = "a server still has the lock that nobody has any more."
_NO_VOTES = "take returned a token that no majority of the servers has."
_OVER = f"take returned a token after its ttl of {_TINY_TTL:g} s was over."

_Situation = Callable[[WorkerPool, Answer, Sequence[Server]], str]


def check_lock_on(answer: Answer) -> Outcome:
    trials = (
        ("Five servers", 0, 0, False, _TTL),
        ("Two of five servers hang", 0, 2, False, _TTL),
        ("Two of five servers dead", 2, 0, False, _TTL),
        ("Three of five servers dead", 3, 0, False, _TTL),
        ("Two of five servers dead from the start", 2, 0, True, _TTL),
        ("Three of five servers dead from the start", 3, 0, True, _TTL),
        ("Two of five servers hang", 0, 2, False, _SHORT_TTL),
    )
    on_time: tuple[tuple[str, _Situation], ...] = tuple(
        (situation, partial(_try_lock, dead=dead, hung=hung, early=early, ttl=ttl))
        for situation, dead, hung, early, ttl in trials
    )
    others: tuple[tuple[str, _Situation], ...] = (
        ("One of three servers dead", partial(_try_some, count=3, dead=1)),
        ("Two of four servers dead", partial(_try_some, count=4, dead=2)),
        ("Two of five servers hang until the lock is freed", _hang_until_freed),
        ("A lock that another has", _takes_twice),
        ("Two of five servers hang for longer than the ttl", _ends_too_soon),
        ("The lock ends while it is freed", partial(while_it_frees, cut=0)),
        ("The lock ends while a server loses a command", partial(while_it_frees, cut=2)),
    )
    for situation, trial in on_time + others:
        for _ in range(_TRIES):
            wrong = _on_servers(answer, trial)
            if wrong not in _BAD_LUCK:
                break
        if wrong:
            return Outcome(False, f"{situation}: {wrong}", situation)
    if wrong := _on_servers(answer, _takes_many):
        return Outcome(False, f"{_MANY:,} locks, one after the other: {wrong}", wrong)
    return Outcome(True, "it took and freed the lock with dead servers, and with some that hang.")


def _takes_many(pool: WorkerPool, answer: Answer, servers: Sequence[Server]) -> str:
    """What is wrong with the tokens of many locks: whoever has another's frees the lock of that one."""
    take, _ = answer([server.url for server in servers[:3]])
    tokens = [take(f"lock:{number}", _LONG_TTL) for number in range(_MANY)]
    taken = [token for token in tokens if token is not None]
    return "" if len(taken) == len(set(taken)) else "two of them have the same token."


def _try_some(
    pool: WorkerPool, answer: Answer, servers: Sequence[Server], *, count: int, dead: int
) -> str:
    return _try_lock(pool, answer, servers[:count], dead=dead, hung=0, early=False, ttl=_TTL)


def _hang_until_freed(pool: WorkerPool, answer: Answer, servers: Sequence[Server]) -> str:
    return _try_lock(pool, answer, servers, dead=0, hung=2, early=False, ttl=_TTL, stays=True)


def _takes_twice(pool: WorkerPool, answer: Answer, servers: Sequence[Server]) -> str:
    (first, _), (second, _) = (answer([server.url for server in servers]) for _ in range(2))
    both = first(KEY, _LONG_TTL) is not None and second(KEY, _LONG_TTL) is not None
    return "take returned a token, though the lock is not free." if both else ""


def _ends_too_soon(pool: WorkerPool, answer: Answer, servers: Sequence[Server]) -> str:
    take, _ = answer([server.url for server in servers])
    take("lock:lamp", _LONG_TTL)  # so that it is connected
    for server in servers[:2]:
        server.pause()
    try:
        begin = time.monotonic()
        token = take(KEY, _TINY_TTL)
        late = time.monotonic() - begin > 2 * _TINY_TTL
    finally:
        for server in servers[:2]:
            server.resume()
    return _OVER if late and token is not None else ""


def _late(ttl: float) -> str:
    return f"take did not come back before its ttl of {ttl:g} s was over."


def _on_servers(answer: Answer, trial: _Situation) -> str:
    """What is wrong with an answer on five new servers; "" if nothing is."""
    with ExitStack() as closing:
        servers = [closing.enter_context(server) for server in start_masters(5)]
        pool = closing.enter_context(WorkerPool())
        try:
            return trial(pool, answer, servers)
        except ImplementationError as error:
            cause = error.__cause__ or error
            return f"{type(cause).__name__} was raised." if error.__cause__ else error.problem


def _try_lock(
    pool: WorkerPool,
    answer: Answer,
    servers: Sequence[Server],
    *,
    dead: int,
    hung: int,
    early: bool,
    ttl: float,
    stays: bool = False,
) -> str:
    """What is wrong with an answer that meets dead and hanging servers; "" if nothing is.

    With `early`, they are dead before the answer is given their URLs, theirs first. With `stays`,
    those that hang do so until the lock is freed.
    """
    count, most = len(servers), len(servers) // 2 + 1
    for server in servers[count - dead :] if early else ():
        server.kill()
    urls = [server.url for server in (reversed(servers) if early else servers)]
    begin = time.monotonic()
    worker = pool.start(_take_and_free, answer, urls, ttl, gated=True)
    if count - early * dead >= most and (wrong := _keeps_anothers(worker, servers, most, begin)):
        return wrong
    worker.until("ready")
    for server in servers[count - dead :] if not early else ():
        server.kill()
    for server in servers[:hung]:  # those that are asked first
        server.pause()
    try:
        worker.until("took", seconds=ttl)
    except WorkerError:
        if not worker.done:
            return _late(ttl)
        return GAVE_UP if count - dead >= most else _left(servers)
    for server in servers[: 0 if stays else hung]:
        server.resume()
    if count - dead < most:
        return "take returned a token, though there is no majority."
    missing = [server for server in servers[hung : count - dead] if not _has(server)]
    if count - hung - dead - len(missing) < most:
        return _NO_VOTES
    if not stays:
        pool.wait(lambda: all(map(_has, servers[:hung])), seconds=0.3)  # as they wake, they vote
    return _finish(worker) or _left(servers[hung if stays else 0 :])


def _keeps_anothers(worker: Worker, servers: Sequence[Server], most: int, begin: float) -> str:
    """What is wrong when a lock is freed with a token that is not its own, or how long it lives.

    It may have been taken at any time since `begin`, however busy the machine is.
    """
    try:
        worker.until("another's")
    except WorkerError:
        return GAVE_UP
    found = [_lives_ms(server, "lock:lamp") for server in servers if server.alive]
    lives = [ms for ms in found if ms is not None]
    waited_ms = (time.monotonic() - begin) * 1000
    least_ms = max(_LONG_TTL * 750 - waited_ms, 0)
    if any(not least_ms <= ms <= _LONG_TTL * 1000 for ms in lives):
        return _OTHER_TTL
    return TOOK_AWAY if len(lives) < most and waited_ms < _LONG_TTL * 1000 else ""


def _finish(worker: Worker) -> str:
    """What is wrong when the lock is freed."""
    try:
        worker.finish(seconds=_PATIENCE_SECONDS)
    except WorkerError:
        return f"free did not come back within {_PATIENCE_SECONDS:g} s."
    return ""


def _take_and_free(client: Client, answer: Answer, urls: list[str], ttl: float) -> None:
    take, free = answer(urls)
    before = take("lock:lamp", _LONG_TTL)  # so that it is connected when a server stops to answer
    if before is not None:
        free("lock:lamp", "another token")
        point("another's")
        free("lock:lamp", before)
    point("ready")
    token = take(KEY, ttl)
    if token is not None:
        point("took")
        free(KEY, token)


def _has(server: Server) -> bool:
    with server.client() as client:
        return bool(client.exists(KEY))


def _lives_ms(server: Server, key: str) -> int | None:
    """How long a key lives, -1 for ever; None when it is not there."""
    with server.client() as client:
        ms: int = client.pttl(key)
    return None if ms == -2 else ms


def _left(servers: Sequence[Server]) -> str:
    left = any(_has(server) for server in servers if server.alive)
    return _LEFT if left else ""


# a server that answers late, as the machine is busy, is taken for one that hangs, and a TTL may be over
_BAD_LUCK = {_late(_TTL), _late(_SHORT_TTL), GAVE_UP, _LEFT, _NO_VOTES, _OVER}
