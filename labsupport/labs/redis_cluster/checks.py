"""How answers to exercises 14.2 and 14.3 are put to the test: a slot that moves, a replica that lags."""

from collections.abc import Sequence
from typing import Any

from redis.crc import key_slot
from redis.exceptions import RedisError

from labsupport.errors import ImplementationError, WorkerError
from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer
from labsupport.labs.redis_cluster.clients import KEYS
from labsupport.labs.redis_cluster.cluster_of_checks import checks_cluster
from labsupport.servers import connect_client, start_server
from labsupport.servers.cluster import Cluster
from labsupport.workers import Client, WorkerPool, point

__all__ = ["check_fetch", "check_promise"]

_MOST_SECONDS = 5.0  # ten times what is granted: a machine may be busy
_TRIES = 20
_MISSING = "basket:{cairo}"


def check_fetch(answer: Answer) -> Outcome:
    cluster = checks_cluster()
    slot = key_slot(KEYS[-1].encode())
    owner, other, third = (cluster.primary_of(key_slot(key.encode())) for key in reversed(KEYS))
    with cluster.client() as redis:
        for key in KEYS:
            redis.set(key, f"the value of {key}")
    tried: list[str] = []

    def ask(situation: str, first: Sequence[int], most: int) -> None:
        if not tried:
            wrong = _ask(answer, cluster, first, most)
            tried.extend([f"{situation}: {wrong}"] if wrong else [])

    def moving() -> None:
        ask("A slot that moves, asked at its old node", [owner], 1)
        ask("A slot that moves, asked at another node", [other], 2)

    ask("A settled cluster", [owner, other, third], 1)
    cluster.move_slot(slot, to=third, halfway=moving)
    ask("A slot that has moved", [owner, third], 1)
    cluster.move_slot(slot, to=owner, halfway=lambda: None)
    if tried:
        return Outcome(False, tried[0], tried[0])
    return Outcome(True, "it found all keys, before a slot moved, meanwhile, and afterwards.")


def _ask(answer: Answer, cluster: Cluster, first: Sequence[int], most: int) -> str:
    """What is wrong with an answer that begins at one of these nodes; "" if nothing is."""
    ports = dict(enumerate(cluster.ports))
    for start in first:
        order = [start, *(node for node in ports if node != start)]
        nodes = {f"127.0.0.1:{ports[node]}": cluster.nodes[node].client() for node in order}
        for key in (*KEYS, _MISSING):
            before = sum(cluster.redirections().values())
            wanted = None if key == _MISSING else f"the value of {key}"
            try:
                told = answer(nodes, key)
            except (RedisError, RecursionError) as error:
                return f"{type(error).__name__} was raised for {key}."
            if told != wanted:
                return f"{key} is {told!r}, not {wanted!r}."
            if sum(cluster.redirections().values()) - before > most:
                return f"more than {most} redirection{'s' * (most > 1)} for {key}."
    return ""


def check_promise(answer: Answer) -> Outcome:
    with start_server() as primary, start_server() as alone, WorkerPool() as pool:
        with primary.proxy() as proxy, primary.replica(through=proxy):
            worker = pool.start(
                _be_told, answer, primary.url, alone.url, gated=True, name="promise"
            )
            try:
                worker.until("lag", seconds=_TRIES * _MOST_SECONDS)
                proxy.pause()
                told = worker.finish(seconds=_MOST_SECONDS)
            except ImplementationError as error:
                cause = error.__cause__ or error
                wrong = f"A replica that keeps up: {type(cause).__name__} was raised."
                return Outcome(False, wrong, wrong)
            except WorkerError:
                wrong = (
                    "A replica that lags: promise did not come back in half a second, nor in five."
                )
                return Outcome(False, wrong, wrong)
        with primary.client() as redis:
            there = redis.lrange("orders", 0, -1)
    wrong = _broken_promise(told, there)
    return Outcome(not wrong, wrong or "it promised only what a replica had.", wrong or told)


def _be_told(client: Client, answer: Answer, primary: str, alone: str) -> dict[str, Any]:
    """Take orders while a replica keeps up, then while it lags, then where there is none."""
    redis, told = connect_client(primary), []
    for number in range(_TRIES):  # a busy machine may need more than 100 ms for one
        told.append(answer(redis, "orders", f"order-{number}"))
        if told[-1] is True:
            break
    redis.wait(1, int(_MOST_SECONDS * 1000))  # what came before is confirmed: it is no excuse
    point("lag")
    late = answer(redis, "orders", f"order-{len(told)}")
    return {"well": told, "late": late, "alone": answer(connect_client(alone), "orders", "order-0")}


def _broken_promise(told: dict[str, Any], there: list[str]) -> str:
    """What is wrong with what was told; "" if nothing is."""
    if told["well"][-1] is not True:
        return f"A replica that keeps up: the answer was {told['well'][-1]!r}, not True."
    if told["late"] is not False:
        return f"A replica that lags: the answer was {told['late']!r}, not False."
    if told["alone"] is not False:
        return f"No replica: the answer was {told['alone']!r}, not False."
    if there != [f"order-{number}" for number in range(len(told["well"]) + 1)]:
        return f"A replica that lags: the list holds {', '.join(there) or 'nothing'}."
    return ""
