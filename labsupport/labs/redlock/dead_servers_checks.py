"""How answers to exercise 08.2 are put to the test: real servers that fail, in every way, and return."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

from labsupport.errors import ImplementationError, WorkerError
from labsupport.exercises import Outcome
from labsupport.exercises.matching import listed
from labsupport.exercises.trials import Answer
from labsupport.labs.redlock.fronts import CUT, MUTE, Front
from labsupport.servers import Server, start_masters
from labsupport.workers import Client, Worker, WorkerPool, point

__all__ = ["check_lock_on"]

_KEY, _LAMP = "lock:kettle", "lock:lamp"
_TTL = 1.2  # ten times what two nodes that hang cost an answer that waits 50 ms for each
_LAMP_TTL = 600.5
_SECONDS = 10.0  # for what has to end, and nothing more
DEAD, HANGS, REFUSES = "is dead", "hangs", "answers with an error"

_OVERTAKEN = (1, 2, 3)  # before which command of a free: it may look first
_TAKEN_AWAY = "free took away a lock that has another token."
_LEFT = "a server still has the lock that nobody has any more."

Faults = Mapping[int, str]
"""How some of the servers fail, by place."""


@dataclass(frozen=True, slots=True)
class _Servers:
    """Five servers that can fail.

    Args:
        real: those that hold the keys.
        urls: what the answer is told.
        strike: makes some fail, and heals all others.
        overtake: lets another have the lamp's lock before a server's n-th command from now (0: never),
            and returns who was met by that, as it happens; None where it is not tried.
    """

    real: Sequence[Server]
    urls: list[str]
    strike: Callable[[Faults], None]
    overtake: Callable[[int], list[Server]] | None = None


@dataclass(frozen=True, slots=True)
class _Round:
    """One take, and one free.

    Args:
        taking: how servers fail while the lock is taken.
        freeing: how they fail while it is freed.
    """

    taking: Faults
    freeing: Faults

    def __str__(self) -> str:
        parts = [f"server {place + 1} {how}" for place, how in self.taking.items()]
        later = [f"server {place + 1} {how}" for place, how in self.freeing.items()]
        now = f"Five servers; {listed(parts)}" if parts else "Five servers"
        return f"{now}; then {listed(later)}" if later and later != parts else now


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one round was seen to do: who voted of those that did not fail, and what is left."""

    voted: int
    left: int


def check_lock_on(answer: Answer) -> Outcome:
    for trial in (_some_return, _any_fail):
        # a reply that a busy machine has made late is so once, and what is wrong is wrong twice
        for _ in range(2):
            with ExitStack() as closing:
                wrong = trial(closing, answer)
            if not wrong:
                break
        else:
            return Outcome(False, wrong, wrong)
    return Outcome(True, "it took and freed the lock, whichever servers failed, and however.")


def _some_return(closing: ExitStack, answer: Answer) -> str:
    """Some are dead before the answer has their URLs, and return; later others hang, or die."""
    servers = [closing.enter_context(server) for server in start_masters(5)]
    rounds = [
        _Round(taking, {place: how for place, how in taking.items() if how == DEAD})
        for taking in (
            dict.fromkeys((0, 1, 2), DEAD),
            dict.fromkeys((0, 1), DEAD),
            dict.fromkeys((2, 3), HANGS),  # which have a connection to the answer
            dict.fromkeys((2, 4), DEAD),
        )
    ]

    def strike(faults: Faults) -> None:
        for place, server in enumerate(servers):
            fault = faults.get(place)
            if fault == DEAD:
                server.kill()
                continue
            if not server.alive:
                server.restart()
            if fault == HANGS:
                server.pause()
            else:
                server.resume()

    strike(rounds[0].taking)
    five = _Servers(servers, [server.url for server in servers], strike)
    return _play(closing, answer, five, rounds)


def _any_fail(closing: ExitStack, answer: Answer) -> str:
    """Each set of servers fails while the lock is taken, and another while it is freed."""
    servers = [closing.enter_context(server) for server in start_masters(5, tcp=True)]
    fronts = [closing.enter_context(Front(server.url)) for server in servers]
    clients = [server.client() for server in servers]

    def strike(faults: Faults) -> None:
        for place, (client, front) in enumerate(zip(clients, fronts, strict=True)):
            fault = faults.get(place, "")
            front.fault, front.overtakes = ("" if fault == REFUSES else fault), None
            # a replica refuses to write
            client.replicaof(*("127.0.0.1", "1") if fault == REFUSES else ("NO", "ONE"))

    def overtake(number: int) -> list[Server]:
        struck: list[Server] = []

        def take_over(server: Server, client: Any) -> None:
            client.set(_LAMP, "another token")
            struck.append(server)

        for server, client, front in zip(servers, clients, fronts, strict=True):
            front.overtakes = (number, partial(take_over, server, client)) if number else None
        return struck

    five = _Servers(servers, [front.url for front in fronts], strike, overtake)
    return _play(closing, answer, five, _subsets())


def _subsets() -> list[_Round]:
    """Rounds in which each one, two or three of five fail, and others when it is freed."""
    rounds = []
    several = [some for n in (1, 2, 3) for some in combinations(range(5), n)]
    for number, some in enumerate(several):
        kinds = (CUT, REFUSES, MUTE)[: 3 if len(some) < 3 else 2]  # each that is mute costs time
        taking = dict.fromkeys(some, kinds[number % len(kinds)])
        freeing = {(place + 1) % 5: kinds[(number + 1) % 2] for place in some}
        rounds.append(_Round(taking, freeing if len(some) < 3 else {}))
    return [*rounds, _Round(dict.fromkeys((1, 2, 4), MUTE), {})]


def _play(closing: ExitStack, answer: Answer, five: _Servers, rounds: Sequence[_Round]) -> str:
    """What is wrong with an answer that goes through the rounds; "" if nothing is."""
    pool = closing.enter_context(WorkerPool())
    overtaken = _OVERTAKEN if five.overtake else ()
    worker = pool.start(_act, answer, five.urls, len(rounds), overtaken, gated=True)
    situation, seen = "Five servers", []
    try:
        if wrong := _lamp(worker, five):
            return f"{situation}: {wrong}"
        for one in rounds:
            situation = str(one)
            seen.append(_one_round(pool, worker, five, one))
        took = worker.finish()
    except WorkerError as error:
        return f"{situation}: {error.problem}"
    except ImplementationError as error:
        cause = error.__cause__ or error
        wrong = f"{type(cause).__name__} was raised." if error.__cause__ else error.problem
        return f"{situation}: {wrong}"
    for one, found, token in zip(rounds, seen, took, strict=True):
        if wrong := _wrong(one, found, token):
            return f"{one}: {wrong}"
    return ""


def _lamp(worker: Worker, five: _Servers) -> str:
    """What is wrong where nothing fails: with one lock, two who want it, and one who comes late."""
    if five.overtake is None:
        return ""
    servers = five.real
    worker.until("taken")
    before = _having(servers, _LAMP)
    if len(before) < 3:
        return "take returned None, or no majority has the lock, though all are alive."
    for server in before:
        lives = _lives(server, _LAMP)
        if not (_LAMP_TTL - 60) * 1000 < lives <= _LAMP_TTL * 1000:
            return f"a ttl of {_LAMP_TTL:g} s was asked for, and the key lives {lives} ms."
    worker.until("asked again")
    if _having(servers, _LAMP) != before:
        return "who asked for a lock that is held has changed it."
    worker.until("freed with another token")
    if _having(servers, _LAMP) != before:
        return _TAKEN_AWAY
    worker.until("freed")
    if _having(servers, _LAMP):
        return _LEFT
    for number in _OVERTAKEN:
        worker.until("holds")
        struck = five.overtake(number)
        worker.until("is late")
        if len(_having(struck, _LAMP)) < len(struck):
            return _TAKEN_AWAY
        five.overtake(0)
        _clear(servers, _LAMP)
    return ""


def _one_round(pool: WorkerPool, worker: Worker, five: _Servers, one: _Round) -> _Seen:
    """Let the lock be taken and freed.

    Raises:
        WorkerError: that took too long.
    """
    worker.until("ready")
    five.strike(one.taking)
    if len(one.taking) > 2:  # nothing is promised of how long it takes to find no majority
        _in_time(worker, "decided", _SECONDS, "take did not come back.")
    else:
        late = f"take did not come back before its ttl of {_TTL:g} s was over."
        _in_time(worker, "decided", _TTL, late)
    voted = len(_having([server for n, server in enumerate(five.real) if n not in one.taking]))
    hung = [five.real[place] for place, how in one.taking.items() if how == HANGS]
    five.strike(one.freeing)
    pool.wait(lambda: len(_having(hung)) == len(hung), seconds=0.3)  # as they wake, they vote
    _in_time(worker, "told", _SECONDS, "free did not come back.")
    there = [server for place, server in enumerate(five.real) if place not in one.freeing]
    left = len(_having(there))
    five.strike({place: how for place, how in one.freeing.items() if how == DEAD})
    _clear(five.real, _KEY)
    return _Seen(voted, left)


def _in_time(worker: Worker, place: str, seconds: float, otherwise: str) -> None:
    try:
        worker.until(place, seconds=seconds)
    except WorkerError as error:
        raise WorkerError(otherwise, error.remedy) from None


def _wrong(one: _Round, found: _Seen, took: bool) -> str:
    """What is wrong with what was seen in a round; "" if nothing is."""
    alive = len(one.taking) <= 2
    if took is not alive:
        return (
            "take returned None, though a majority is alive."
            if alive
            else "take returned a token, though there is no majority."
        )
    if took and found.voted < 3:
        return "take returned a token that no majority of the servers has."
    if not took and found.voted:
        return _LEFT
    return _LEFT if took and found.left else ""


def _act(
    client: Client, answer: Answer, urls: list[str], rounds: int, overtaken: Sequence[int]
) -> list[bool]:
    """Take and free, again and again; tells for each round whether there was a token."""
    take, free = answer(urls)
    if overtaken:
        token = take(_LAMP, _LAMP_TTL)
        point("taken")
        second = take(_LAMP, _LAMP_TTL)
        point("asked again")
        free(_LAMP, "another token" if second is None else second)
        point("freed with another token")
        free(_LAMP, token)
        point("freed")
    for _ in overtaken:
        token = take(_LAMP, _LAMP_TTL)
        point("holds")
        free(_LAMP, token)
        point("is late")
    took = []
    for _ in range(rounds):
        point("ready")
        token = take(_KEY, _TTL)
        point("decided")
        if token is not None:
            free(_KEY, token)
        point("told")
        took.append(token is not None)
    return took


def _lives(server: Server, key: str) -> Any:
    """The ms that a key has to live; None where it is not."""
    with server.client() as client:
        lives = client.pttl(key)
    return None if lives == -2 else lives


def _clear(servers: Sequence[Server], key: str) -> None:
    for server in filter(lambda server: server.alive, servers):
        with server.client() as client:
            client.delete(key)


def _having(servers: Sequence[Server], key: str = _KEY) -> list[Server]:
    """Those that have the lock."""
    return [server for server in servers if server.alive and _lives(server, key) is not None]
