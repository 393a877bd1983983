"""A cell that has failed: the function of before is not judged in its place."""

from types import SimpleNamespace

import pytest

from labsupport.errors import InvalidSettingError
from labsupport.exercises.stale import require_current

NOW = 'def answer(redis):\n    return redis.get("n")'


def answer(redis):
    return redis.get("n")


@pytest.fixture
def cells(monkeypatch):
    """What was run in a notebook, the newest at the end."""
    run = []
    shell = SimpleNamespace(user_ns={"In": run})
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: shell)
    return run


def test_current(cells):
    """The newest cell that defines the function is where it comes from."""
    cells += ["", "def answer(redis):\n    return None", NOW, 'check("01.1", answer)']
    require_current(answer)


def test_failed_since(cells):
    """The newest cell did not compile."""
    cells += ["", NOW, "def answer(redis):\n    return redis.get('n'", 'check("01.1", answer)']
    with pytest.raises(InvalidSettingError, match="the one of before"):
        require_current(answer)


def test_from_a_file(cells):
    """What no cell defines is current."""
    cells += ["", "from answers import answer"]
    require_current(answer)


def test_without_a_notebook(monkeypatch):
    """In a plain script, too."""
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: None)
    require_current(answer)
