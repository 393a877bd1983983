"""How answers to exercises 08.1 and 08.3 are put to the test."""

from collections.abc import Iterator
from typing import Any

from labsupport.exercises import Outcome
from labsupport.exercises.trials import Answer, Trial, keys_of, put_through, require, require_ttl
from labsupport.explorer.clients.nodes import Node

__all__ = ["check_change_stock", "check_majority"]

_KEY = "lock:kettle"
_TTL = 10.0  # only the explorer decides when it is over
_SHORT = 2.5  # seconds may be a fraction
_VOTES = frozenset({"SET", "SETNX", "EVAL", "EVALSHA"})
_DRIFT = 0.01 * _TTL + 0.002


class _SlowNode(Node):
    """A node whose answers take a while, by the client's own clock."""

    def __init__(self, client: Any, name: str, seconds: float) -> None:
        super().__init__(client, name)
        self._left = seconds

    def execute_command(self, *args: Any, **options: Any) -> Any:
        reply = super().execute_command(*args, **options)
        if str(args[0]).upper() in _VOTES:  # the first, by whatever command it is asked for
            self._client.actor.sleep(self._left)  # type: ignore[attr-defined]
            self._left = 0.0
        return reply


def check_majority(answer: Answer) -> Outcome:
    told: dict[str, Any] = {}

    def forget(redis: Any, db: Any) -> None:
        told.clear()

    def nodes(redis: Any, count: int, seconds: float = 0.0) -> list[Node]:
        return [_SlowNode(redis, f"node{place + 1}", seconds) for place in range(count)]

    def asks(name: str, count: int, seconds: float = 0.0) -> Answer:
        def client(redis: Any, db: Any) -> None:
            told[name] = answer()[0](nodes(redis, count, seconds), _KEY, _TTL)

        return client

    def alone(redis: Any, db: Any) -> None:
        acquire, release = answer()
        told["ada"] = acquire(nodes(redis, 3), _KEY, _TTL)
        told["votes"] = _votes(redis)
        told["ttls"] = [redis.pttl(key) for key in _votes(redis)]
        told["again"] = acquire(nodes(redis, 3), _KEY, _TTL)
        told["other"] = acquire(nodes(redis, 3), "lock:lamp", _TTL)
        told["short"] = acquire(nodes(redis, 3), "lock:mug", _SHORT)
        told["short ttls"] = [redis.pttl(key) for key in keys_of(redis) if key.endswith("mug")]
        given = {_KEY: told["ada"], "lock:lamp": told["other"], "lock:mug": told["short"]}
        for key, place in given.items():
            if place:
                release(nodes(redis, 3), key, place[0])

    def is_well(redis: Any, db: Any) -> bool:
        """one client alone gets the lock, with its validity, and frees it"""
        _require_lease(told["ada"], _TTL - _DRIFT)
        have = set(told["votes"].values())
        require(len(told["votes"]) == 3 and have == {told["ada"][0]}, "Not every node was asked.")
        _require_lease(told["short"], _SHORT)
        for ttl, lease, ms in (
            (_TTL, told["ada"], told["ttls"]),
            (_SHORT, told["short"], told["short ttls"]),
        ):
            fits = all(lease[1] * 1000 <= one <= ttl * 1000 for one in ms)
            words = (
                f"With ttl={ttl:g} the keys have TTLs of {ms} ms, and a validity of {lease[1]:g} s."
            )
            require(fits, words)
        require(told["again"] is None, "A lock that is held was given once more.")
        _require_lease(told["other"], _TTL - _DRIFT)
        require(told["other"][0] != told["ada"][0], "Two locks have the same token.")
        require(not _votes(redis), f"After release, {' and '.join(_votes(redis))} is still there.")
        return True

    def one_winner(redis: Any, db: Any) -> bool:
        """at most one gets the lock and keeps it, and who does not leaves no vote behind"""
        winners = [name for name, lease in told.items() if lease]
        require(len(winners) < 2, "Both have the lock.")
        mine = {told[name][0] for name in winners}
        kept = sum(token in mine for token in _votes(redis).values())
        require(not mine or kept > 1, "The votes of the one who has the lock are gone.")
        left = {key: token for key, token in _votes(redis).items() if token not in mine}
        require(
            not left, f"Nobody has the lock with the vote that is left in {' and '.join(left)}."
        )
        return True

    def in_time(seconds: float) -> Answer:
        def invariant(redis: Any, db: Any) -> bool:
            """the time that the nodes took is no longer there"""
            left = _TTL - 3 * seconds - _DRIFT
            if left > 0:
                _require_lease(told["ada"], left)
                return True
            took = f"The nodes took {3 * seconds:g} s of {_TTL:g}, and a lock was returned."
            require(told["ada"] is None, took)
            require(not _votes(redis), f"{' and '.join(_votes(redis))} is left.")
            return True

        return invariant

    def one_taken(redis: Any, db: Any) -> None:
        forget(redis, db)
        redis.set(f"node2:{_KEY}", "token of bob", px=10_000)

    def majority_is_enough(redis: Any, db: Any) -> bool:
        """a vote that another has is not needed, and stays"""
        _require_lease(told["ada"], _TTL - _DRIFT)
        kept = redis.get(f"node2:{_KEY}") == "token of bob"
        require(kept, "The vote of another was taken away.")
        return True

    def held(redis: Any, db: Any) -> None:
        forget(redis, db)
        redis.set(f"node1:{_KEY}", "token of ada", px=10_000)

    def frees(redis: Any, db: Any) -> None:
        answer()[1](nodes(redis, 1), _KEY, "token of ada")

    def takes_over(redis: Any, db: Any) -> None:
        redis.pexpire(f"node1:{_KEY}", 0)
        told["bob"] = answer()[0](nodes(redis, 1), _KEY, _TTL)

    def kept(redis: Any, db: Any) -> bool:
        """nobody frees the lock of another"""
        lost = told["bob"] and redis.get(f"node1:{_KEY}") != told["bob"][0]
        require(not lost, "Bob has the lock, and his key is gone.")
        return True

    def expires(redis: Any, db: Any) -> bool:
        """a crash leaves no key without a TTL"""
        require_ttl(redis)
        return True

    def trials() -> Iterator[Trial]:
        yield Trial("One client", {"ada": alone}, forget, is_well)
        ada = {"ada": asks("ada", 3)}
        yield Trial("One of three nodes is another's", ada, one_taken, majority_is_enough)
        for count in (3, 4):
            clients = {name: asks(name, count) for name in ("ada", "bob")}
            yield Trial(
                f"Two clients and {count} nodes",
                clients,
                forget,
                one_winner,
                prune=True,
                sample=900,
            )
        for seconds in (1.0, 4.0):
            clients = {"ada": asks("ada", 3, seconds)}
            situation = f"Nodes that take {seconds:g} s each, of a ttl of {_TTL:g}"
            yield Trial(situation, clients, forget, in_time(seconds))
        both = {"ada": frees, "bob": takes_over}
        yield Trial("A release that comes too late", both, held, kept)
        yield Trial("A crash", {"ada": asks("ada", 3)}, forget, expires, crashes=True)

    return put_through(trials())


def _votes(redis: Any) -> dict[str, str]:
    """The keys of the nodes, each with the token in it."""
    return {key: redis.get(key) for key in keys_of(redis)}


def _require_lease(lease: Any, most: float) -> None:
    require(lease is not None, "Nobody else wants the lock, and acquire returned None.")
    right = isinstance(lease, tuple) and len(lease) == 2
    require(right, f"acquire returned {type(lease).__name__}, which is not (token, validity).")
    valid = 0 < lease[1] <= most + 1e-9
    require(valid, f"A validity that is not above 0 and up to {most:.3f} s was returned.")


def check_change_stock(answer: Answer) -> Outcome:
    start = 89  # as in the shop's data; the last piece leaves 0, which is a stock, too
    told: list[bool] = []

    def given(redis: Any, db: Any, claimed: str | None = None, pieces: int = 89) -> None:
        nonlocal start
        start = pieces
        told.clear()
        db.execute("ALTER TABLE products ADD COLUMN claimed_by TEXT")
        db.execute("UPDATE products SET stock = :stock, claimed_by = :by", stock=start, by=claimed)

    def holder(*tokens: str, by: int = -1) -> Answer:
        def client(redis: Any, db: Any) -> None:
            for token in tokens:
                told.append(answer(db, token, lambda stock: stock + by))

        return client

    def nothing_lost(redis: Any, db: Any) -> bool:
        """each change that was reported is in the stock, and no other"""
        stock = db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"]
        kinds = all(isinstance(one, bool) for one in told)
        require(kinds, f"{told} was returned, which is not all True or False.")
        counts = (
            f"{sum(told)} reported a change by one, and the stock went from {start} to {stock}."
        )
        require(start - stock == sum(told), counts)
        return True

    def all_served(redis: Any, db: Any) -> bool:
        """who is alone is not refused"""
        require(all(told), "Nobody else was there, and it was refused.")
        return nothing_lost(redis, db)

    def set_to(wanted: int) -> Answer:
        def is_set(redis: Any, db: Any) -> bool:
            """who is alone is not refused, whatever the stock is, and becomes"""
            stock = db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"]
            words = f"{told} was returned, and the stock went from {start} to {stock}."
            require(told == [True] and stock == wanted, words)
            return True

        return is_set

    # tokens are random: the later one may be smaller, or greater
    pairs = (("Kc7", "Xq2"), ("Xq2", "Kc7"))
    return put_through(
        (
            Trial("One holder after another", {"ada": holder("Kc7", "Xq2")}, given, all_served),
            Trial(
                "The last piece",
                {"ada": holder("Kc7")},
                lambda redis, db: given(redis, db, pieces=1),
                all_served,
            ),
            Trial(
                "An empty stock is filled",
                {"ada": holder("Kc7", by=5)},
                lambda redis, db: given(redis, db, pieces=0),
                set_to(5),
            ),
            Trial("A stock that stays as it is", {"ada": holder("Kc7", by=0)}, given, set_to(89)),
            Trial(
                "One holder after one who crashed",
                {"ada": holder("Kc7")},
                lambda redis, db: given(redis, db, claimed="Zz9"),
                all_served,
            ),
            *(
                Trial(
                    f"Two holders at once, {one} and {two}",
                    {"ada": holder(one), "bob": holder(two)},
                    given,
                    nothing_lost,
                )
                for one, two in pairs
            ),
        )
    )
