"""The whole course on servers that are not the lab's: what else is on them stays as it is.

The notebooks run under the same strict comparison as on the embedded server, as a user with no more
rights than CONTRIBUTING.md gives a class, on a Redis with a password and 10,000 keys of somebody
else's in database 0, and on PostgreSQL.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labsupport.servers import start_server

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
FOREIGN_KEYS = 10_000
ADMIN, USER = "s3cret-admin", "s3cret-user"
RIGHTS = re.search(r"ACL SETUSER learner (.*)", (ROOT / "CONTRIBUTING.md").read_text())


class Shared:
    """Somebody's server, full of their keys, with a user for the labs."""

    def __init__(self, server):
        self.server = server
        self.url = server.url.replace(f":{ADMIN}@", f"learner:{USER}@").removesuffix("/0")
        assert RIGHTS, "CONTRIBUTING.md names no rights"
        rights = RIGHTS.group(1).replace(">PASSWORD", f">{USER}").split()
        with server.client() as admin:
            admin.execute_command("ACL", "SETUSER", "learner", *rights)
            admin.mset({f"theirs:{number}": number for number in range(FOREIGN_KEYS)})
        self.began = time.monotonic()

    def keyspace(self):
        with self.server.client() as admin:
            return {name: found["keys"] for name, found in admin.info("keyspace").items()}

    def refused(self):
        """What the user had no right to do."""
        with self.server.client() as admin:
            return {entry["object"] for entry in admin.acl_log()}


@pytest.fixture(scope="module")
def shared():
    with start_server(tcp=True, config={"requirepass": ADMIN}) as server:
        yield Shared(server)


def nbval(path, **variables):
    """Start the strict comparison of a notebook; returns the process."""
    options = ["--nbval", "--nbval-current-env", "--nbval-kernel-startup-timeout=60"]
    return run_pytest(*options, "--nbval-cell-timeout=600", str(path), **variables)


def run_pytest(*arguments, **variables):
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def passed(process):
    said, _ = process.communicate(timeout=1800)
    assert process.returncode == 0, said[-4000:]
    assert re.search(r"\d+ passed", said)
    return said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, shared, postgresql):
    """It says the same, is refused nothing, tells no password, and leaves nothing behind."""
    said = passed(nbval(path, REDIS_URL=shared.url, DATABASE_URL=postgresql))
    assert USER not in said
    assert shared.refused() == set()
    assert shared.keyspace() == {"db0": FOREIGN_KEYS}


def test_two_notebooks_at_once(shared):
    """Two kernels on one server do not meet: each has the text of a run alone."""
    both = [nbval(NOTEBOOKS[0], REDIS_URL=shared.url) for _ in range(2)]
    for process in both:
        passed(process)
    assert shared.keyspace() == {"db0": FOREIGN_KEYS}


def test_over_tls(shared, tls):
    """rediss:// with a certificate of one's own."""
    with tls(shared.server.directory / "redis.sock") as (port, certificate):
        user = shared.url.removeprefix("redis://").partition("@")[0]
        url = f"rediss://{user}@127.0.0.1:{port}?ssl_ca_certs={certificate}"
        passed(nbval(NOTEBOOKS[0], REDIS_URL=url))
    assert shared.keyspace() == {"db0": FOREIGN_KEYS}


def test_the_user_cannot_do_harm(shared):
    """No FLUSHALL, no CONFIG, no SHUTDOWN, no other user's rights: the server says no."""
    harmful = ["FLUSHALL", "FLUSHDB", "CONFIG SET maxmemory 1", "SHUTDOWN NOSAVE", "ACL LIST"]
    harmful += ["DEBUG SLEEP 0", "REPLICAOF NO ONE", "MONITOR", "SAVE", "SWAPDB 0 1"]
    with shared.server.client() as admin:
        for command in harmful:
            reply = admin.execute_command("ACL", "DRYRUN", "learner", *command.split())
            assert "no permissions" in str(reply), command


def test_keys_of_others_are_unread_and_unchanged(shared):
    """All 10,000 are there with their values, and none was looked at since they were written.

    It comes last in this file, after the notebooks.
    """
    names = [f"theirs:{number}" for number in range(FOREIGN_KEYS)]
    with shared.server.client() as admin:
        least = time.monotonic() - shared.began - 2  # OBJECT IDLETIME counts whole seconds
        with admin.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.object("idletime", name)
            assert min(pipe.execute()) >= least
        assert admin.mget(names) == [str(number) for number in range(FOREIGN_KEYS)]
        assert admin.dbsize() == FOREIGN_KEYS


def test_quick_tests():
    """What stands on a server passes on the Redis of docker-compose.yml, too, and leaves it empty."""
    paths = "tests/explorer", "tests/exploration", "tests/servers", "tests/test_lab.py"
    with start_server(tcp=True) as server, server.client() as client:
        passed(run_pytest("-m", "not long", *paths, REDIS_URL=server.url.removesuffix("/0")))
        assert client.info("keyspace") == {}
