"""The doctor's table."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from labsupport import doctor

FILE = Path(doctor.__file__)


def test_finds_everything_here(monkeypatch, capsys):
    """Where the tests run, nothing is missing, and the table says what is in use."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    findings = doctor.examine()
    assert {one.status for one in findings.values()} <= {"ok", "note"}, findings
    assert re.match(r"\d+\.\d+\.\d+, /", findings["Redis server"].found)
    assert doctor.main() == 0
    assert "30,000 orders" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variable", "url", "what"),
    [
        ("REDIS_URL", "redis://:secret@127.0.0.1:1", "Redis in use"),
        ("DATABASE_URL", "postgresql://ada:secret@127.0.0.1:1/shop", "Database in use"),
    ],
)
def test_says_which_connection_fails(monkeypatch, capsys, variable, url, what):
    """A server that does not answer is a line with a remedy, and the password is not in it."""
    monkeypatch.setenv(variable, url)
    assert doctor.main() == 1
    shown = capsys.readouterr().out
    assert f"✗ {what}" in shown
    assert variable in shown
    assert "secret" not in shown


def test_works_without_any_package():
    """A bare interpreter gets a table that says what to do, not a traceback."""
    bare = subprocess.run(
        [sys.executable, "-S", "-I", FILE], capture_output=True, text=True, check=False
    )
    assert bare.returncode == 1
    assert "make setup" in bare.stdout
    assert bare.stderr == ""


def test_names_the_python_that_is_too_old(monkeypatch):
    """With another Python only the Python is to be mended; the rest cannot be known."""
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    findings = doctor.examine()
    assert findings["Python"].status == "missing"
    assert "PYTHON=" in findings["Python"].remedy
    assert findings["Redis server"].found.startswith("not looked at")
