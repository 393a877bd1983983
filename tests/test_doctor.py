"""The doctor's table."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labsupport import doctor
from labsupport.errors import ServerNotFoundError
from labsupport.servers import start_server

ROOT = Path(__file__).resolve().parents[1]
FILE = Path(doctor.__file__)


def test_finds_everything_here(monkeypatch, capsys):
    """Where the tests run, nothing is missing, and the table says what is in use."""
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    findings = doctor.examine()
    assert {one.status for one in findings.values()} <= {"ok", "note"}, findings
    assert re.match(r"(Redis|Valkey) \d+\.\d+\.\d+, /", findings["Redis server"].found)
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
    assert bare.stdout.endswith("To mend first: Packages.\n")  # the rest follows from it
    assert bare.stderr == ""


def test_names_what_debian_keeps_apart(monkeypatch):
    """Where Python cannot make a .venv, `make setup` alone is no remedy."""
    monkeypatch.setattr(doctor, "PROJECT", "a-package-that-is-not-there")
    assert doctor.examine()["Packages"].remedy == "make setup"
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    assert "python3-venv, then make setup" in doctor.examine()["Packages"].remedy


def test_a_server_of_yours_is_enough_for_most(monkeypatch):
    """No redis-server to start is a fault without REDIS_URL, and a note with it."""

    def none():
        raise ServerNotFoundError("There is none.", "Install one, or set REDIS_URL to yours.")

    with start_server(tcp=True) as server:
        monkeypatch.setattr("labsupport.servers.find_server", none)
        monkeypatch.delenv("REDIS_URL", raising=False)
        findings = doctor.examine()
        assert findings["Redis server"] == (
            "missing",
            "There is none.",
            "Install one, or set REDIS_URL to yours.",
        )
        monkeypatch.setenv("REDIS_URL", server.url.removesuffix("/0"))
        findings = doctor.examine()
    assert findings["Redis server"].status == "note"
    assert findings["Redis server"].remedy == "Install one"
    assert findings["Redis in use"].status == "ok"


def test_names_the_tools_that_lack(monkeypatch):
    """Without make and git there is a note; on a Mac one command brings both."""
    assert doctor.examine()["Tools"] == ("ok", "make, git", "")
    monkeypatch.setenv("PATH", "")
    assert doctor.examine()["Tools"].remedy == "apt-get install make git"
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert doctor.examine()["Tools"].status == "note"
    assert doctor.examine()["Tools"].remedy == "xcode-select --install"


def test_windows_itself_is_told_where_to_go(monkeypatch):
    """What the labs do with processes needs a Unix."""
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    assert "WSL 2 or Docker" in doctor.examine()["Python"].remedy


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
class TestCommand:
    """`make doctor` before there is a .venv."""

    @pytest.fixture
    def folder(self, tmp_path):
        for name in ("Makefile", "tools/setup.sh", "labsupport/doctor.py"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
        for name in ("requirements.lock", "pyproject.toml"):
            (tmp_path / name).touch()
        (tmp_path / "bin").mkdir()
        for name in ("make", "sh", "dirname", "cat", "cksum"):
            (tmp_path / "bin" / name).symlink_to(shutil.which(name))
        old = tmp_path / "bin" / "python3"
        old.write_text("#!/bin/sh\nexit 1\n")  # what a Python that is too old says to the question
        old.chmod(0o755)
        return tmp_path

    def doctor(self, folder, *arguments):
        outer = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}  # those of the `make test` that runs this
        others = {key: value for key, value in os.environ.items() if key not in outer}
        return subprocess.run(
            ["make", "doctor", *arguments],
            cwd=folder,
            env=others | {"PATH": str(folder / "bin")},
            capture_output=True,
            text=True,
            check=False,
        )

    def test_takes_the_python_that_setup_would(self, folder):
        """A python3 that is too old does not matter where a newer one is there under its own name."""
        name = folder / "bin" / f"python3.{sys.version_info.minor}"
        name.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        name.chmod(0o755)
        assert "✓ Python" in self.doctor(folder).stdout

    def test_says_so_when_there_is_none(self, folder):
        """No Python that will do, or a PYTHON= that is none, is told with the remedy."""
        assert "install one" in self.doctor(folder).stderr
        assert "/no/python is not a Python 3.11" in self.doctor(folder, "PYTHON=/no/python").stderr


def test_names_the_python_that_is_too_old(monkeypatch):
    """With another Python only the Python is to be mended; the rest cannot be known."""
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    findings = doctor.examine()
    assert findings["Python"].status == "missing"
    assert "PYTHON=" in findings["Python"].remedy
    assert findings["Redis server"].found.startswith("not looked at")
