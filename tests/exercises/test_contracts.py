"""Contracts: each clause is a sentence of the docstring, and each attack has its clause."""

import inspect
import re
from collections import Counter
from dataclasses import replace

import pytest
from redis.connection import Connection, UnixDomainSocketConnection

from labsupport.course import exercises_of, titles
from labsupport.exercises import attacks
from labsupport.exercises.contract import Call, Case
from labsupport.exercises.judge import clause_of, judged_by
from labsupport.exercises.possibilities import Fault
from labsupport.exercises.rehearsal.run import Breach
from labsupport.exercises.state import Scores, State

MODELLED = [
    one for lab in titles() for one in exercises_of(lab) if isinstance(one.check, judged_by)
]

each_contract = pytest.mark.parametrize("one", MODELLED, ids=lambda one: one.number)

BY_FAULT = {
    "crash": "crash",
    "pause": "pause",
    "clocks": "clock",
    "crash, clocks": "clock",
    "lost reply": "reply that is lost",
    "stall": "at once",
}


def words(text):
    return re.sub(r"\s+", " ", text)


@each_contract
def test_clauses_are_the_docstrings_words(one):
    """What a refusal quotes stands in the docstring."""
    docstring = words(inspect.getdoc(one.stub))
    contract = one.check.contract
    cases = (*contract.always, *contract.rare, *contract.crowds)
    for clause in (*contract.clauses.values(), *(case.about for case in cases)):
        assert words(clause) in docstring


@each_contract
def test_each_attack_has_a_clause(one):
    """A fault that is tried is one that the docstring speaks of; what is told is always said."""
    clauses = one.check.contract.clauses
    assert "told" in clauses or "left" in clauses
    for fault in one.check.contract.faults:
        assert BY_FAULT[fault] in clauses


@each_contract
def test_the_model_is_called_as_the_stub(one):
    """The contract names the learner's function as the stub does."""
    assert one.check.contract.answer == one.stub.__name__.removesuffix("_stub")


AFTER, CRASH = "one call after the other", "a client that crashes"


@pytest.mark.parametrize(
    ("number", "attack", "kind", "key", "due"),
    [
        ("01.3", CRASH, "left", "the count of calls that asked", "on a hit it does not ask"),
        ("04.3", CRASH, "lives", "user:2:lease", "over within a minute"),
        ("04.3", CRASH, "left", "the last deadline of a writer", "over within a minute"),
        ("04.3", CRASH, "left", "the TTL of user:2:writers", "is still ahead"),
        ("04.3", CRASH, "left", "the count of deadlines of others", "one for each writer"),
        ("04.3", CRASH, "left", "user:2 in the cache", "no crash leaves an old row"),
        (
            "06.1",
            "several clients at once",
            "left",
            "the life of the key in seconds",
            "key expires",
        ),
        ("07.1", AFTER, "lives", "lock:kettle", "then they change nothing"),
        ("01.2", "at once", "left", "the list of locks that others freed", "nobody frees a lock"),
        ("09.1", AFTER, "raised", "", "The copy is always the stock"),
        ("13.1", CRASH, "stays", "visit:7", "what else you keep in Redis"),
    ],
)
def test_the_clause_that_is_broken(number, attack, kind, key, due):
    """What says the most of a fault is quoted: a count in words, a life, what the last call promises."""
    (one,) = (one for one in MODELLED if one.number == number)
    call = ("ada", Call("renew", ("lock:kettle", "zoe's", 60)))
    case = Case(State(), after=(call,)) if attack is AFTER else Case(State(), {"ada": (call[1],)})
    breach = Breach(attack, case, Fault(kind, "", key), done=int(attack is AFTER))
    assert due in clause_of(one.check.contract, breach)


def test_a_case_says_what_it_is_about():
    """A reply that is wrong breaks the sentence that the case was made for; a key that stays, its own."""
    (credit,) = (one for one in MODELLED if one.number == "11.3")
    contract = credit.check.contract
    (case,) = (one for one in contract.always if one.about)
    told, stays = (
        Breach(AFTER, case, Fault(kind, "", "mark"), done=2) for kind in ("told", "stays")
    )
    assert clause_of(contract, told) == case.about
    assert clause_of(contract, stays) == contract.clauses["stays"]


def test_a_case_is_tried_once(monkeypatch):
    """Who of several clients is named first is no other case: each starts first in some order."""
    tried = Counter()

    def attempt(case, most):
        tried[str(case.start), str(sorted(case.programs.items()))] += 1
        return 1, None

    (at_once,) = (one for one in attacks.ATTACKS if one.name == "several clients at once")
    monkeypatch.setattr(attacks, "ATTACKS", (replace(at_once, attempt=lambda *_: attempt),))
    (count,) = (one for one in MODELLED if one.number == "00.1")
    assert len(list(attacks.attack(count.check.contract, {}))) == 1
    assert len(tried) > 2
    assert set(tried.values()) == {1}


def test_a_start_is_one_round_trip(redis_server, monkeypatch):
    """However many keys a case begins with: it is written before each of thousands of runs."""
    start = State(
        {"text": "1", "list": ["a", "b"], "set": {"x"}, "hash": {"f": "1"}, "scores": Scores(a=1)},
        {"text": 60_000, "hash": 5_000},
    )
    redis = redis_server.client()
    redis.ping()
    sent = Counter()
    send = Connection.send_packed_command
    monkeypatch.setattr(
        UnixDomainSocketConnection,
        "send_packed_command",
        lambda *args, **options: sent.update(["trip"]) or send(*args, **options),
    )
    start.write(redis)
    monkeypatch.undo()
    assert sent["trip"] == 1
    assert State.read(redis) == start
