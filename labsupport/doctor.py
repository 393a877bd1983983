"""What this machine has for the labs, what is missing, and what to do about it.

    make doctor        or, without make,    python3 labsupport/doctor.py

The exit status is 1 when something is missing that the labs cannot do without. Nothing but the
standard library is imported at the top, so that it can say so when the packages are not there, and
in a Python that is too old.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import webbrowser
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

__all__ = ["Finding", "examine", "main"]

PROJECT = "redis-patterns-lab"
ROOT = Path(__file__).resolve().parents[1]
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""The names by which the browser's test looks for a Chromium on PATH."""

_SET_UP = "make setup"
_UNFORESEEN = "mend what is above; if this line stays, it is a fault of the labs: report it"
_IMPORTING = ("Packages", "Redis server", "Redis in use", "Database in use")
_MARKS = {"ok": "✓", "note": "·", "missing": "✗", "unseen": "?"}


class Finding(NamedTuple):
    """One line of the table.

    Args:
        status: "ok", "note" (the labs work, with less comfort), "missing", or "unseen" (something
            else must be there first).
        found: what is there.
        remedy: what to do now; "" when there is nothing to do.
    """

    status: str
    found: str
    remedy: str = ""


def examine() -> dict[str, Finding]:
    """Look at everything that the labs need; nothing is changed, and nothing is left behind."""
    checks: dict[str, Callable[[], Finding]] = {
        "Python": _python,
        "Tools": _tools,
        "Packages": _packages,
        "Redis server": _server,
        "Redis in use": _redis,
        "Database in use": _database,
        "Free space": _space,
        "Processors": _processors,
        "Browser": _browser,
        "Port 8888": _port,
    }
    findings = {what: _careful(check) for what, check in checks.items()}
    if findings["Python"].status == "missing":  # then what its imports raised says nothing
        unseen = Finding("unseen", "not looked at: this Python cannot")
        findings.update(dict.fromkeys(_IMPORTING, unseen))
    return findings


def main() -> int:
    """Print the table; returns the exit status."""
    findings = examine()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows no ✓ shows a ?
    wide = max(map(len, findings))
    for what, one in findings.items():
        print(f"{_MARKS[one.status]} {what:{wide}}  {one.found}")
        if one.remedy:
            print(f"  {'':{wide}}  → {one.remedy}")
    found = {
        status: [what for what, one in findings.items() if one.status == status]
        for status in _MARKS
    }
    missing = found["missing"] or found["unseen"]
    print()
    print(f"To mend first: {', '.join(missing)}." if missing else "Everything is there: make lab")
    return int(bool(missing))


def _careful(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except ImportError as error:
        return Finding("unseen", f"not looked at: there is no package {error.name}", _SET_UP)
    except Exception as error:
        # A LabError knows its own remedy; the class cannot be imported where packages are missing.
        problem = getattr(error, "problem", f"{type(error).__name__}: {error}")
        return Finding("missing", problem, getattr(error, "remedy", _UNFORESEEN))


def _python() -> Finding:
    found = f"{platform.python_version()}, {sys.executable}"
    if platform.system() == "Windows":
        return Finding(
            "missing", f"{found}, on Windows itself", "use WSL 2 or Docker, see README.md"
        )
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Finding("ok", found)
    return Finding(
        "missing",
        f"{found}: the labs need 3.11, 3.12 or 3.13",
        "install one (python.org, apt, brew, pyenv) and run make setup PYTHON=/path/to/it",
    )


def _tools() -> Finding:
    lacking = [name for name in ("make", "git") if not _runs(name)]
    if not lacking:
        return Finding("ok", "make, git")
    mac = platform.system() == "Darwin"
    remedy = "xcode-select --install" if mac else f"apt-get install {' '.join(lacking)}"
    what = "make runs every command" if "make" in lacking else "make reset needs it"
    return Finding("note", f"no {', no '.join(lacking)}: {what}", remedy)


def _runs(name: str) -> bool:
    """Not just whether it is there: on a Mac without its tools both are, and do nothing."""
    program = shutil.which(name)
    if program is None:
        return False
    return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0


def _packages() -> Finding:
    try:
        wanted = metadata.requires(PROJECT) or []
    except metadata.PackageNotFoundError:
        if find_spec("ensurepip") is None:  # Debian and Ubuntu keep it apart
            return Finding(
                "missing",
                "not installed, and this Python cannot make a .venv for them",
                f"apt-get install python3-venv, then {_SET_UP}",
            )
        return Finding("missing", "not installed in this Python", _SET_UP)
    from packaging.requirements import Requirement

    labs = {"extra": "lab"}
    needed = [
        one for one in map(Requirement, wanted) if not one.marker or one.marker.evaluate(labs)
    ]
    amiss = []
    for one in needed:
        try:
            version = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            amiss.append(f"no {one.name}")
        else:
            if not one.specifier.contains(version, prereleases=True):
                amiss.append(f"{one.name} {version} (needed: {one.specifier})")
    if amiss:
        return Finding("missing", ", ".join(amiss), _SET_UP)
    return Finding("ok", f"all {len(needed)}, with JupyterLab {metadata.version('jupyterlab')}")


def _server() -> Finding:
    from labsupport.errors import LabError
    from labsupport.servers import find_server
    from labsupport.servers.product import product_of_program

    try:
        program = find_server()
    except LabError as error:
        if not os.environ.get("REDIS_URL"):
            raise
        found = f"{error.problem} Yours will do, but for the experiments that kill one."
        return Finding("note", found, error.remedy.partition(", or set REDIS_URL")[0])
    return Finding("ok", f"{product_of_program(program)}, {program}")


def _redis() -> Finding:
    from labsupport.servers import open_redis

    with open_redis() as endpoint:
        endpoint.client().ping()
        return Finding("ok", f"{endpoint.description} ({_source('REDIS_URL')})")


def _database() -> Finding:
    from labsupport.database import open_shop

    shop = open_shop()
    try:
        row = shop.fetch_one("SELECT count(*) AS orders FROM orders") or {"orders": 0}
        return Finding(
            "ok", f"{shop.description}, {row['orders']:,} orders ({_source('DATABASE_URL')})"
        )
    finally:
        shop.close()


def _space() -> Finding:
    needed = 0.3 if (ROOT / ".venv").is_dir() else 1.5
    places = {"here": ROOT, "for temporary files": Path(tempfile.gettempdir())}
    free = {name: shutil.disk_usage(place).free / 1e9 for name, place in places.items()}
    found = ", ".join(f"{size:.1f} GB {name}" for name, size in free.items())
    sealed = [str(place) for place in places.values() if not os.access(place, os.W_OK)]
    if sealed:
        return Finding("missing", f"cannot write to {', '.join(sealed)}", "change its owner")
    if min(free.values()) < needed:
        return Finding("missing", found, f"free {needed:.1f} GB, or set TMPDIR to a roomier place")
    return Finding("ok", found)


def _processors() -> Finding:
    # Not os.cpu_count(): a container or taskset may leave this process fewer than there are.
    usable = getattr(os, "sched_getaffinity", None)
    count = len(usable(0)) if usable else os.cpu_count() or 1
    found = f"{count}, {platform.system()} {platform.machine()}"
    if count > 1:
        return Finding("ok", found)
    return Finding("note", found, "verdicts are the same on one; charts move more slowly")


def _browser() -> Finding:
    chromium = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    try:
        webbrowser.get()
    except webbrowser.Error:
        if chromium is None:
            return Finding("note", "none found", "open the address that make lab BROWSER=no prints")
    if chromium is None:
        return Finding("ok", "a browser for you; no Chromium, so its test is skipped")
    return Finding("ok", chromium)


def _port() -> Finding:
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", 8888)) != 0:
            return Finding("ok", "free")
    return Finding("note", "in use", "make lab takes the next one, or give it PORT=8890")


def _source(variable: str) -> str:
    return f"from {variable}" if os.environ.get(variable) else f"{variable} is not set"


if __name__ == "__main__":
    if sys.path[0] == str(ROOT / "labsupport"):  # run as a file: then the package is beside it
        sys.path[0] = str(ROOT)
    raise SystemExit(main())
