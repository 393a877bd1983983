"""docker-compose.yml as it is: the lab alone, and with the profile `class` a hub that lets learners in.

Where no Docker engine answers, this is skipped. LAB_IMAGES=built takes the images of the project
"labtest" as they are; otherwise they are built first.
"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[2]
PROJECT = "labtest"
PASSWORDS = {"CLASS_PASSWORD": "only for a test", "TEACHER_PASSWORD": "only for a test, " * 2}
HUB = "http://127.0.0.1:8000"
# Prints nothing where no engine answers; `docker info` alone says much of the client there.
_ENGINE = ("docker", "version", "--format", "{{.Server.Version}}")


def _output(*command, check=True, **environment):
    kept = {key: value for key, value in os.environ.items() if key not in PASSWORDS}
    done = subprocess.run(
        command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, timeout=1800
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def compose():
    """Calls Compose with a profile (or "") and arguments; whichever of its two forms is here."""
    for form in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(form[0]) and _output(*form, "version", check=False):
            break
    else:
        pytest.skip("no Docker Compose here")

    def run(profile, *arguments, **environment):
        chosen = ["--profile", profile] if profile else []
        return _output(*form, "-p", PROJECT, *chosen, *arguments, **environment)

    return run


@pytest.fixture(scope="module")
def started(compose):
    """The hub answers; what ran before it was asked for. Afterwards only the images are left."""
    if not shutil.which("docker") or not _output(*_ENGINE, check=False).strip():
        pytest.skip("no Docker engine answers")
    try:
        if os.environ.get("LAB_IMAGES") != "built":
            compose("class", "build")
        compose("", "up", "-d", "--no-build")
        alone = _output("docker", "ps", "--format", "{{.Names}}")
        compose("class", "up", "-d", "--no-build", **PASSWORDS)
        _until(lambda: httpx.get(f"{HUB}/hub/login").is_success)
        yield alone
    finally:
        compose("class", "down", "--volumes")
        for name in _output("docker", "volume", "ls", "-q").split():
            if name.startswith(f"{PROJECT}-learner-"):
                _until(lambda name=name: _is_gone(name))


def _is_gone(volume):
    """Remove it; the engine may still be at work on its container, which the hub has ended."""
    _output("docker", "volume", "rm", volume, check=False)
    return volume not in _output("docker", "volume", "ls", "-q").split()


def _until(done, *, seconds=300):
    end = time.monotonic() + seconds
    while True:
        try:
            if found := done():
                return found
        except httpx.TransportError:
            pass  # not yet
        assert time.monotonic() < end, "the state did not come"
        time.sleep(1)


def _log_in(name, password):
    browser = httpx.Client(base_url=HUB, follow_redirects=True, timeout=60)
    browser.get("/hub/login")
    form = {"username": name, "password": password, "_xsrf": browser.cookies["_xsrf"]}
    return browser, browser.post("/hub/login", data=form)


@pytest.mark.parametrize("profile", ["", "class"])
def test_reading_it_asks_for_no_password(compose, profile):
    """Without the profile nobody needs one; with it the hub says so, not Compose."""
    compose(profile, "config", "--quiet")


def test_the_lab_works_beside_its_redis(compose, started):
    """Without the profile there is no hub. JupyterLab answers, and tests pass on that Redis."""
    assert f"{PROJECT}_lab" in started.replace("-", "_")
    assert f"{PROJECT}_hub" not in started.replace("-", "_")
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8888/api').status)"
    python = ("exec", "-T", "lab", ".venv/bin/python")
    _until(lambda: "200" in compose("", *python, "-c", f"try:\n {ask}\nexcept OSError: pass"))
    assert " passed" in compose("", *python, "-m", "pytest", "-q", "tests/test_lab.py")


def test_a_learner_gets_a_server_with_limits(compose, started):
    """The wrong password opens nothing; the right one a container of their own, and the teacher sees it."""
    assert _log_in("ada", "a guess")[1].status_code == 403
    assert _log_in("teacher", PASSWORDS["CLASS_PASSWORD"])[1].status_code == 403
    assert _log_in("teacher", PASSWORDS["TEACHER_PASSWORD"])[1].is_success
    browser, _ = _log_in("ada", PASSWORDS["CLASS_PASSWORD"])
    browser.get("/hub/spawn")
    _until(lambda: "jupyter-config-data" in browser.get("/user/ada/lab").text)
    (found,) = json.loads(_output("docker", "inspect", f"{PROJECT}-learner-ada"))
    limits = found["HostConfig"]
    assert (limits["Memory"], limits["MemorySwap"]) == (2**31, 2**31)
    assert (limits["PidsLimit"], limits["CpuQuota"]) == (512, 100_000)
    assert found["Config"]["User"] == "lab"
    python = ("exec", "-T", "hub", ".venv/bin/python", "jupyter/learners.py")
    assert "ada       0 passed" in compose("class", *python)
