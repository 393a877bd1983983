"""Errors: a problem, a remedy, and no traceback of ours."""

import copy
import inspect
import pickle
import re

import pytest

from labsupport import errors
from labsupport.errors import ImplementationError, LabError, ServerNotFoundError


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
