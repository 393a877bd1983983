"""How answers to exercise 04.2 are put to the test: a real subscriber, whose connection is cut."""

import threading
import time
from collections.abc import Callable
from typing import Any

from redis.backoff import ExponentialBackoff
from redis.client import PubSub
from redis.retry import Retry

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer
from labsupport.servers import Server, start_server

__all__ = ["check_listen"]

_KEYS = ("user:1", "user:2", "d'Arc é")
_UNKNOWN, _MANY = "user:9", 50
_BEHIND, _SECONDS_BEHIND = 200, 10.0
_PATIENCE_SECONDS, _QUIET_SECONDS, _MOMENT_SECONDS = 2.0, 1.2, 0.1
_BUSY_SECONDS = 15.0  # for an answer whose thread has not had its turn


class _Subscriber(PubSub):
    """Notes how many words it has told (`told`), and how many of them are done with (`done`).

    With `more`, it tells the next word about a key without a copy so often again, without a pause,
    and then notes which copies there are (`kept`).
    """

    told = done = more = 0
    again: Any = None
    local: dict[str, Any]
    kept: set[str] | None = None

    def parse_response(self, block: bool = True, timeout: float = 0) -> Any:
        self.done = self.told  # who asks for the next word is done with the last
        if self.again is not None:
            if self.more:
                self.more -= 1
                return list(self.again)
            self.again, self.kept = None, {*self.local}
        word = super().parse_response(block, timeout)  # type: ignore[no-untyped-call]
        self.told += word is not None
        if self.more and isinstance(word, list) and word[-1] == _UNKNOWN:
            self.again = word
        return word


class _Listener:
    """The answer, at work in a thread of its own.

    Args:
        answer: the learner's function.
        server: whose messages it hears.
        late: the subscription was confirmed, and the connection is lost, before the answer is called.
    """

    def __init__(self, answer: Answer, server: Server, *, late: bool = False) -> None:
        self.local: dict[str, Any] = {}
        self.ended = ""
        self._server, self._client = server, server.client()
        retry = Retry(ExponentialBackoff(), 10)
        pool = server.client(client_name="listener", retry=retry).connection_pool
        subscriber = self._subscriber = _Subscriber(pool)
        subscriber.local = self.local
        subscriber.subscribe("invalidate")
        if late:
            subscriber.get_message(timeout=_PATIENCE_SECONDS)
            self.local.update({key: {} for key in _KEYS})
            server.disconnect("listener")
            self._until(lambda: self._hearers() == 0)

        def run() -> None:
            try:
                answer(subscriber, self.local)
                self.ended = "it returned"
            except BaseException as error:
                self.ended = f"it raised {type(error).__name__}: {error}"

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        self._until(lambda: self._hearers() == 1)

    def after_message(self, key: str, *, seconds: float = _PATIENCE_SECONDS) -> str:
        """What is wrong after a message about a key; "" for nothing."""
        self.local.update({key: {} for key in _KEYS})
        told = self._subscriber.told
        self._client.publish("invalidate", key)
        if not self._until(lambda: key not in self.local, seconds=seconds, told=told):
            return f"the copy of {key!r} was still there after a message about it"
        return ""

    def after_unknown(self) -> str:
        """What is wrong after a message about a key that has no copy, and one about a key that has."""
        told = self._subscriber.told
        self._client.publish("invalidate", _UNKNOWN)
        self._until(lambda: self._subscriber.done > told)
        return self.after_message("user:1")

    def after_others(self) -> str:
        """What is wrong after a message that comes behind many others."""
        told = self._subscriber.told
        with self._client.pipeline(transaction=False) as pipe:
            for _ in range(_BEHIND):
                pipe.publish("invalidate", _UNKNOWN)
            pipe.execute()
        if wrong := self.after_message("user:1", seconds=_SECONDS_BEHIND):
            return f"{wrong}, {_SECONDS_BEHIND:.0f} s later"
        # before anything else happens
        self._until(lambda: self._subscriber.done > told + _BEHIND, seconds=_SECONDS_BEHIND)
        return ""

    def after_many(self) -> str:
        """What is wrong after a message that many others follow, without a pause."""
        subscriber, key = self._subscriber, _KEYS[0]
        self.local.update({key: {} for key in _KEYS})
        subscriber.kept, subscriber.more = None, _MANY
        for one in (key, _UNKNOWN):
            self._client.publish("invalidate", one)
        self._until(lambda: subscriber.kept is not None)
        subscriber.more = 0
        if key in (subscriber.kept or ()):
            return f"the copy of {key!r} was still there after {_MANY} messages more"
        return ""

    def after_cut(self, *, others_speak: bool = False) -> str:
        """What is wrong after a message that was missed, as the connection was lost."""
        self.local.update({key: {} for key in _KEYS})
        told = self._subscriber.told
        self._server.disconnect("listener")
        self._until(lambda: self._hearers() == 1, told=told)
        if not self._until(lambda: self._none_left(others_speak=others_speak), told=told):
            return f"the copies of {', '.join(sorted(self.local))} were still there"
        return self.after_message("user:2")

    def after_late_start(self) -> str:
        """What is wrong when the connection was lost before anything was read from it."""
        if not self._until(lambda: not self.local, told=1):  # the first confirmation
            return f"the copies of {sorted(self.local)} were still there, and one may be old"
        return self.after_message("user:2")

    def after_quiet(self) -> str:
        """What is wrong after a time in which nobody says anything."""
        self.local.update({key: {} for key in _KEYS})
        self._thread.join(_MOMENT_SECONDS)
        if not self.local:
            return "there was no copy left, though nobody had said anything"
        self._thread.join(_QUIET_SECONDS)
        return self.after_message("user:1")

    def _none_left(self, *, others_speak: bool) -> bool:
        """Whether no copy is left; others may speak meanwhile: quiet is no sign of a gap."""
        if others_speak and self.local and self._subscriber.done == self._subscriber.told:
            self._client.publish("invalidate", _UNKNOWN)
        return not self.local

    def _hearers(self) -> int:
        return int(self._client.pubsub_numsub("invalidate")[0][1])

    def _until(
        self,
        done: Callable[[], bool],
        *,
        seconds: float = _PATIENCE_SECONDS,
        told: int | None = None,
    ) -> bool:
        """Wait for so long, or longer until the answer is done with more words than were told."""
        start = time.monotonic()
        while not done() and not self.ended:
            waited = time.monotonic() - start
            late = told is not None and self._subscriber.done <= told
            if waited > (max(seconds, _BUSY_SECONDS) if late else seconds):
                break
            time.sleep(0.001)
        return done()


def _heard(answer: Answer) -> Outcome | None:
    """What is wrong with what the answer makes of messages, gaps and quiet."""
    with start_server() as server:
        listener = _Listener(answer, server)
        turns: tuple[tuple[str, Callable[[], str]], ...] = (
            *(("A message", lambda key=key: listener.after_message(key)) for key in _KEYS),
            ("The same key once more", lambda: listener.after_message(_KEYS[-1])),
            ("A message about a key without a copy", listener.after_unknown),
            ("A message that many others follow", listener.after_many),
            (f"A message behind {_BEHIND} others", listener.after_others),
            ("A lost connection", listener.after_cut),
            ("A second lost connection", lambda: listener.after_cut(others_speak=True)),
            ("A second in which nobody says anything", listener.after_quiet),
            ("A third lost connection", listener.after_cut),
        )
        for situation, turn in turns:
            wrong = turn()
            if wrong or listener.ended:
                wrong = listener.ended or wrong
                return Outcome(False, f"{situation}: {wrong}.", situation)
    with start_server() as server:  # where nobody else listens
        late = _Listener(answer, server, late=True)
        wrong = late.after_late_start()
        if wrong or late.ended:
            situation = "A connection that was lost before the first word"
            return Outcome(False, f"{situation}: {late.ended or wrong}.", situation)
    return None


def check_listen(answer: Answer) -> Outcome:
    withstood = "no copy was older than it had to be, whatever was said or missed."
    return _heard(answer) or Outcome(True, withstood)
