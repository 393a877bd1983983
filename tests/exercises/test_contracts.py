"""Contracts: each clause is a sentence of the docstring, and each attack has its clause."""

import inspect
import re

import pytest

from labsupport.course import exercises_of, titles
from labsupport.exercises.judge import judged_by

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
    for clause in one.check.contract.clauses.values():
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
