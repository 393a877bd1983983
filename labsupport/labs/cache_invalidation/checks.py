"""How answers to exercise 04.2 are put to the test: a real subscriber, whose connection is cut."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, outcome_of
from labsupport.labs.cache_invalidation.stale_reads import StaleReads
from labsupport.servers import Server, start_server

__all__ = ["check_listen"]

_USER = "SELECT * FROM users WHERE id = :id"
_RENAME = "UPDATE users SET username = :name, version = version + 1 WHERE id = :id"
_KEYS = ("user:1", "user:2", "d'Arc é")
_PATIENCE_SECONDS, _QUIET_SECONDS = 2.0, 1.2


class _Listener:
    """The answer, at work in a thread of its own.

    Args:
        answer: the learner's function.
        server: whose messages it hears.
    """

    def __init__(self, answer: Answer, server: Server) -> None:
        self.local: dict[str, Any] = {}
        self.ended = ""
        self._server, self._client = server, server.client()
        retry = Retry(ExponentialBackoff(), 10)
        subscriber = server.client(client_name="listener", retry=retry).pubsub()
        subscriber.subscribe("invalidate")

        def run() -> None:
            try:
                answer(subscriber, self.local)
                self.ended = "it returned"
            except BaseException as error:
                self.ended = f"it raised {type(error).__name__}: {error}"

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        self._until(lambda: self._hearers() == 1)

    def after_message(self, key: str) -> str:
        """What is wrong after a message about a key; "" for nothing."""
        self.local.update({key: {} for key in _KEYS})
        self._client.publish("invalidate", key)
        if not self._until(lambda: key not in self.local):
            return f"the copy of {key!r} was still there after a message about it"
        return ""

    def after_unknown(self) -> str:
        """What is wrong after a message about a key that has no copy."""
        self._client.publish("invalidate", "user:9")
        return self.after_message("user:1")

    def after_cut(self) -> str:
        """What is wrong after a message that was missed, as the connection was lost."""
        self.local.update({key: {} for key in _KEYS})
        self._server.disconnect("listener")
        self._until(lambda: self._hearers() == 1)
        if not self._until(lambda: not self.local):
            return f"the copies of {sorted(self.local)} were still there after a lost connection"
        return self.after_message("user:2")

    def after_quiet(self) -> str:
        """What is wrong after a time in which nobody says anything."""
        self._thread.join(_QUIET_SECONDS)
        return self.after_message("user:1")

    def _hearers(self) -> int:
        return int(self._client.pubsub_numsub("invalidate")[0][1])

    def _until(self, done: Callable[[], bool]) -> bool:
        over = time.monotonic() + _PATIENCE_SECONDS
        while not done() and not self.ended and time.monotonic() < over:
            time.sleep(0.001)
        return done()


def _heard(answer: Answer) -> Outcome | None:
    """What is wrong with what the answer makes of messages, gaps and quiet."""
    with start_server() as server:
        listener = _Listener(answer, server)
        turns = (
            *(("A message", lambda key=key: listener.after_message(key)) for key in _KEYS),
            ("A message about a key without a copy", listener.after_unknown),
            ("A lost connection", listener.after_cut),
            ("A second lost connection", listener.after_cut),
            ("A second in which nobody says anything", listener.after_quiet),
            ("A third lost connection", listener.after_cut),
        )
        for situation, turn in turns:
            wrong = turn()
            if wrong or listener.ended:
                wrong = listener.ended or wrong
                return Outcome(False, f"{situation}: {wrong}.", situation)
    return None


class _NoCopiesError(Exception):
    """Raised by a service whose copies are never there."""


def _service_with(listen: Answer) -> Answer:
    """A service whose local copies are kept true by `listen`."""

    def service(connect: Any, db: Any, ttl: float) -> tuple[Answer, Answer]:
        redis, local = connect(), dict[Any, Any]()
        subscriber = connect(retry=Retry(ExponentialBackoff(), 10)).pubsub()
        subscriber.subscribe("invalidate")
        failed: list[BaseException] = []
        reads = loads = 0

        def run() -> None:
            try:
                listen(subscriber, local)
            except BaseException as error:
                failed.append(error)

        def get(user_id: int) -> Any:
            nonlocal reads, loads
            if failed:
                raise failed[0]
            key = f"user:{user_id}"
            row, until = local.get(key, (None, 0.0))
            reads += 1
            if time.monotonic() >= until:
                loads += 1
                cached = redis.get(key)
                row = json.loads(cached) if cached else db.fetch_one(_USER, id=user_id)
                redis.set(key, json.dumps(row), ex=3600)
                local[key] = row, time.monotonic() + ttl
            if reads > 20 and loads > reads / 2:
                raise _NoCopiesError(f"{loads} of {reads} reads found no local copy")
            return row

        def update(user_id: int, name: str) -> None:
            db.execute(_RENAME, id=user_id, name=name)
            redis.delete(f"user:{user_id}")
            redis.publish("invalidate", f"user:{user_id}")

        threading.Thread(target=run, daemon=True).start()
        return get, update

    return service


def check_listen(answer: Answer) -> Outcome:
    if found := _heard(answer):
        return found
    services = StaleReads(services=2, seconds=0.2)
    result = services.run(_service_with(answer), live=False, name="listen")
    withstood = "both services had each new row, also the one that was cut off."
    return outcome_of(result, "Two services, one of them cut off", withstood=withstood)
