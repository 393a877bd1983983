"""Errors: a problem, a remedy, and no traceback of ours."""

import copy
import inspect
import pickle
import re
import traceback

import pytest

from labsupport import errors, explore
from labsupport.errors import CallError, ImplementationError, LabError, ServerNotFoundError


def test_an_error_says_what_and_what_now():
    """Text form is two lines; a notebook shows the two lines in place of a traceback."""
    error = ServerNotFoundError("There is no redis-server.", "Install one.")
    assert str(error) == "There is no redis-server.\nInstall one."
    shown = error._render_traceback_()
    assert shown == ["ServerNotFoundError: There is no redis-server.", "→ Install one."]


def test_every_error_is_a_lab_error_and_public():
    """Each class of the module is public, ends in Error, and can be caught as LabError."""
    classes = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, Exception)]
    assert all(re.fullmatch(r"[A-Z]\w+Error", c.__name__) for c in classes)
    assert all(issubclass(c, LabError) and c.__doc__ for c in classes)


def test_errors_cross_processes():
    """An error that a worker sends arrives with its problem and remedy."""
    error = pickle.loads(pickle.dumps(LabError("p", "r")))
    assert (error.problem, error.remedy) == ("p", "r")
    assert str(copy.copy(error)) == "p\nr"


def test_an_interrupted_exploration_is_told_in_a_line():
    """In a script, too: with the reader's own lines, and what is left of it."""

    def client(redis, db):
        redis.ping()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="nothing of it is left running") as caught:
        explore({"ada": client}, invariant=lambda redis, db: True)
    assert "entry.py" not in "".join(traceback.format_exception(caught.value))


def test_the_learners_own_error_is_named_with_its_line():
    """An exception of the function under study is shown with the line that raised it."""

    def broken():
        return {}["missing"]

    with pytest.raises(KeyError) as caught:
        broken()
    error = ImplementationError("get_user", caught.value)
    assert "get_user raised KeyError: 'missing' at line" in error.problem
    assert 'return {}["missing"]' in error.problem
    assert error.__cause__ is caught.value
    assert "get_user" in pickle.loads(pickle.dumps(error)).problem


def _wrong_calls():
    from labsupport import Lab, check, explore, hint
    from labsupport.labs.start_here import LostUpdates

    race = LostUpdates()

    def count(redis, key):
        return 1

    return {
        "check(f)": (lambda: check(count), 'check("01.1", get_product)'),
        'check("00.1")': (lambda: check("00.1"), 'check("01.1", get_product)'),
        'check(f, "00.1")': (lambda: check(count, "00.1"), 'check("01.1", get_product)'),
        "hint()": (lambda: hint(), 'hint("01.1")'),
        "Lab()": (lambda: Lab(), 'Lab("start_here")'),
        "explore()": (lambda: explore(), "invariant=lambda redis, db"),
        "LostUpdates(foo=1)": (lambda: LostUpdates(foo=1), "LostUpdates(clients=2)"),
        "LostUpdates(second=1)": (lambda: LostUpdates(second=1), "LostUpdates(seconds=1.0)"),
        "LostUpdates(3)": (lambda: LostUpdates(3), "LostUpdates(clients=2)"),
        "run()": (lambda: race.run(), "run(function)"),
        "run(f, clients=3)": (lambda: race.run(count, clients=3), "LostUpdates(seconds=1.0)"),
        "panel(f)": (lambda: race.panel(count), "panel(naive=get_user"),
        "compare(a, foo=b)": (lambda: race.compare(1, 2, foo=3), "compare(naive, fixed)"),
    }


@pytest.mark.parametrize("call", list(_wrong_calls()))
def test_a_wrong_call_is_told_the_right_one(call):
    """Who forgets an argument, or names one that there is not, is told in two lines what to write."""
    wrong, right = _wrong_calls()[call]
    with pytest.raises(CallError) as caught:
        wrong()
    assert right in caught.value.remedy
    assert len(caught.value._render_traceback_()) == 2


def test_what_a_function_does_wrong_inside_is_left_alone():
    """Only the call itself is looked at."""

    @errors.called_as("add(1)")
    def add(number):
        return number + "1"

    with pytest.raises(TypeError, match="unsupported operand") as caught:
        add(1)
    assert not isinstance(caught.value, CallError)
