"""Putting an answer to the test: one situation after the other, until one breaks it."""

import random
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

import cloudpickle

from labsupport.exercises import Outcome
from labsupport.exploration import explore
from labsupport.servers import OWNER_KEY, start_server
from labsupport.workers.launch import pack

if TYPE_CHECKING:
    from labsupport.experiments import Result

__all__ = [
    "MANY",
    "Answer",
    "ClientFunction",
    "Trial",
    "each_counts_once",
    "elsewhere",
    "keys_of",
    "nothing_for_ever",
    "outcome_of",
    "put_through",
    "require",
    "require_ttl",
]

_LARGEST = 10**9
MANY = 3_000
"""More than the usual MAXLEN; of so many, some are alike in 20 bits of whatever, 70 to 1."""

Answer = Callable[..., Any]
"""What the learner wrote."""
ClientFunction = Callable[[Any, Any], Any]
"""What somebody does with `redis` and `db`: a client, a state that is given, an invariant."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One question to the explorer; the arguments are those of `explore`.

    Args:
        situation: what is tried, in a few words.
        clients: name and function of each.
        given: sets the state before each run, or None.
        invariant: what must hold; its docstring is the claim. `require` in it gives the reason.
        crashes: who may crash.
        expires: keys that may expire at any moment.
        prune: run one order of each class of equivalent ones.
        sample: give up quietly after so many runs: a long answer is not a wrong one.
    """

    situation: str
    clients: Mapping[str, ClientFunction]
    given: ClientFunction | None
    invariant: ClientFunction
    _: KW_ONLY
    crashes: bool | Collection[str] = False
    expires: Collection[str] = ()
    prune: bool = False
    sample: int | None = None


def put_through(trials: Iterable[Trial]) -> Outcome:
    """The first trial that breaks the answer, or a pass."""
    orders = 0
    for trial in trials:
        report = explore(
            trial.clients,
            given=trial.given,
            invariant=trial.invariant,
            crashes=trial.crashes,
            expires=trial.expires,
            passes=False,
            delays=False,
            prune=trial.prune,
            max_runs=trial.sample or 20_000,
        )
        orders += report.interleavings
        if report.violations and report.findings[0].kind == "stuck":
            told = report.reason.removeprefix("Nobody can move on: ")
            return Outcome(
                False, f"{trial.situation}: an order does not end, because {told}", report
            )
        if report.violations:
            claim = (trial.invariant.__doc__ or "").strip().rstrip(".")
            share = "it"
            if report.interleavings > 1:
                share = f"{report.violations:,} of {report.interleavings:,} orders"
            verb = "breaks" if report.violations == 1 else "break"
            reason = f"{trial.situation}: {share} {verb} the claim {claim!r}."
            return Outcome(False, reason, report)
        sampled = trial.sample is not None and report.given_up.startswith("more than")
        if not report.exhausted and not sampled:
            reason = f"{trial.situation}: an order does not end, because {report.given_up}"
            return Outcome(False, reason, report)
    return Outcome(True, f"it withstood all {orders:,} orders of the steps.", report)


def outcome_of(result: "Result", situation: str, *, withstood: str) -> Outcome:
    """The first claim of an experiment that does not hold for the answer, or a pass."""
    for claim in result.verdict.claims:
        if claim.status != "holds":
            return Outcome(False, f"{situation}: {claim.status}: {claim.text!r}.", result)
    return Outcome(True, withstood, result)


def each_counts_once(count: Callable[[Any, int], Any]) -> Outcome:
    """Whether each of many calls counts one more, and the first of them no second time.

    Args:
        count: makes the call with that number, and returns the count.
    """
    numbers = random.Random(9).sample(range(_LARGEST), MANY)
    with start_server() as server, server.client() as redis:
        for call, number in enumerate([*numbers, numbers[0]], 1):
            told, due = count(redis, number), min(call, MANY)
            if told != due:
                many = f"{MANY:,} calls that differ, and the first again"
                reason = f"{many}: call {call:,} was given {told!r}; {due:,} is due."
                return Outcome(False, reason, told)
    return Outcome(True, "each of many calls counts once.", MANY)


def elsewhere(answer: Answer) -> Answer:
    """The answer as another process has it, whose memory is its own; itself if it cannot be sent."""
    try:
        copy: Answer = cloudpickle.loads(pack(answer, ()))[0]
    except Exception:  # some of it cannot be sent, or does not come back
        return answer
    return copy


def require(held: bool, otherwise: str) -> None:
    """Fail with what is wrong; the explorer shows it below the schedule."""
    if not held:
        raise AssertionError(otherwise)


def keys_of(redis: Any, pattern: str = "*") -> list[str]:
    """The keys of those who were put to the test, without the lab's own."""
    return sorted(key for key in redis.keys(pattern) if key != OWNER_KEY)


def require_ttl(redis: Any, pattern: str = "*") -> None:
    """Fail if a key has no TTL."""
    for key in keys_of(redis, pattern):
        require(redis.pttl(key) != -1, f"{key} has no TTL: it stays for ever.")


def nothing_for_ever(redis: Any, db: Any) -> bool:
    """a crash leaves nothing that stays for ever"""
    require_ttl(redis)
    return True
