"""What happens to an answer to exercise 08.1 when several ask at once, or one crashes."""

from collections.abc import Iterator, Sequence
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import (
    MANY,
    Answer,
    ClientFunction,
    Trial,
    keys_of,
    put_through,
    require,
    require_ttl,
)
from labsupport.labs.redlock.slow_nodes import nodes_of
from labsupport.servers import start_server

__all__ = ["check_majority"]

_KEY = "lock:kettle"
_TTL = 10.0  # only the explorer decides when it is over


def check_majority(answer: Answer) -> Outcome:
    found = put_through(_Election(answer).trials())
    return _many_tokens(answer, found) if found.passed else found


class _Election:
    """Clients that ask nodes for their votes, and what each was told."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._told: dict[str, Any] = {}

    def trials(self) -> Iterator[Trial]:
        for count in (3, 4):
            clients = {name: self._asks(name, count) for name in ("ada", "bob")}
            yield Trial(
                f"Two clients and {count} nodes",
                clients,
                self._some_held(),
                self._one_winner,
                prune=True,
                sample=900,
            )
        both = {"ada": self._frees, "bob": self._takes_over}
        yield Trial("A release that comes too late", both, self._held, self._kept)
        late = {"ada": self._asks("ada", 3), "bob": self._takes_over}
        yield Trial("Votes given back too late", late, self._some_held(2, 3), self._kept)
        for places in ((2,), (1, 3)):
            nodes = f"node{'s' if len(places) > 1 else ''} {' and '.join(map(str, places))}"
            situation = f"Another's lock on {nodes} of 3"
            asks_here = {"ada": self._asks_here}
            yield Trial(situation, asks_here, self._some_held(*places), self._once)
        alone = {"ada": self._asks("ada", 3)}
        yield Trial("A crash", alone, self._some_held(), self._expires, crashes=True)

    # what there is before

    def _some_held(self, *places: int) -> ClientFunction:
        def given(redis: Any, db: Any) -> None:
            self._told.clear()
            for place in places:
                redis.set(f"node{place}:{_KEY}", "token of bob", px=10_000)

        return given

    def _held(self, redis: Any, db: Any) -> None:
        self._told.clear()
        redis.set(f"node1:{_KEY}", "token of ada", px=10_000)

    # what the clients do

    def _asks(self, name: str, count: int) -> ClientFunction:
        def client(redis: Any, db: Any) -> None:
            self._told["nodes"] = count
            self._told[name] = self._answer()[0](nodes_of(redis, count), _KEY, _TTL)

        return client

    def _asks_here(self, redis: Any, db: Any) -> None:
        nodes = nodes_of(redis, 3)
        won = self._answer()[0](nodes, _KEY, _TTL)
        self._told["twice"] = [node.name for node in nodes if _asked_twice(node.asked, bool(won))]

    def _frees(self, redis: Any, db: Any) -> None:
        self._answer()[1](nodes_of(redis, 1), _KEY, "token of ada")

    def _takes_over(self, redis: Any, db: Any) -> None:
        redis.pexpire(f"node1:{_KEY}", 0)
        self._told["bob"] = self._answer()[0](nodes_of(redis, 1), _KEY, _TTL)

    # what must hold afterwards; the first lines name the claims

    def _one_winner(self, redis: Any, db: Any) -> bool:
        """at most one gets the lock and keeps its majority, and the other leaves no vote behind"""
        told = self._told
        winners = [name for name in ("ada", "bob") if told[name]]
        require(len(winners) < 2, "Both have the lock.")
        mine = {told[name][0] for name in winners}
        lasting = sum(token in mine for token in _votes(redis).values())
        enough = not mine or 2 * lasting > told["nodes"]
        require(enough, "The votes of the one who has the lock are gone.")
        left = {key: token for key, token in _votes(redis).items() if token not in mine}
        keys = " and ".join(left)
        require(not left, f"Nobody has the lock with the vote that is left in {keys}.")
        return True

    def _once(self, redis: Any, db: Any) -> bool:
        """acquire asks each node once"""
        twice = self._told["twice"]
        require(not twice, f"Asked twice for a vote: {' and '.join(twice)}.")
        return True

    def _kept(self, redis: Any, db: Any) -> bool:
        """nobody frees the lock of another"""
        won = self._told["bob"]
        lost = won and redis.get(f"node1:{_KEY}") != won[0]
        require(not lost, "Bob has the lock, and his key is gone.")
        return True

    def _expires(self, redis: Any, db: Any) -> bool:
        """a crash leaves no key without a TTL"""
        require_ttl(redis)
        return True


def _many_tokens(answer: Answer, few: Outcome) -> Outcome:
    """Is each of many tokens another one?"""
    acquire = answer()[0]
    with start_server() as server, server.client() as redis:
        tokens = [acquire([redis], f"lock:{number}", 60.0)[0] for number in range(MANY)]
    if len(set(tokens)) < MANY:
        reason = f"{MANY:,} locks, one after the other: not each has a token that no other has."
        return Outcome(False, reason, tokens)
    return few


def _asked_twice(commands: Sequence[tuple[Any, ...]], won: bool) -> bool:
    """Whether a node was asked for the same vote again.

    A script that comes twice is one when the lock was won, and nothing had to be given back. What
    comes after a NOSCRIPT, a handshake, or a look at the key is no second question.
    """
    asked = []
    for name, *args in commands:
        if str(name).upper() in ("SET", "SETNX"):
            asked.append("SET")
        elif won and str(name).upper() in ("EVAL", "EVALSHA"):
            asked.append(str([one for one in map(str, args) if not one.isdigit()]))
    return len(set(asked)) < len(asked)


def _votes(redis: Any) -> dict[str, str]:
    """The keys of the nodes, each with the token in it."""
    return {key: redis.get(key) for key in keys_of(redis)}
