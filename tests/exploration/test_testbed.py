"""The explorer on a server of one's own."""

import os
import signal
import subprocess
import sys
import time

import pytest
from redis.exceptions import ResponseError

from labsupport import explore
from labsupport.errors import InvalidSettingError, NotSteppableError
from labsupport.exploration.testbed import LabTestbed, close_testbed
from labsupport.explorer import System
from labsupport.processes import wait_for_status
from labsupport.servers import OWNER_KEY, connect_client, start_server

LIBRARY = "#!lua name={0}\nredis.register_function('{0}', function() return {1} end)"
SCRIPT = """
local found = redis.call('SCAN', '0', 'COUNT', 100)
return {redis.call('KEYS', '*'), found[2], redis.call('DBSIZE')}
"""


AT_HOME = """
import os
from labsupport import explore

def look(redis, db):
    redis.set("stock", db.fetch_one("SELECT stock FROM products WHERE id = 1")["stock"])

explore({"ada": look}, invariant=lambda redis, db: redis.get("stock") == "89").check()
print(os.environ["REDIS_URL"], os.environ["DATABASE_URL"])
"""


def test_outside_of_the_course_the_variables_are_the_codes_own():
    """Whoever explores an application has its servers in the environment: the explorer takes its own."""
    urls = {"REDIS_URL": "redis://127.0.0.1:1/0", "DATABASE_URL": "mysql://shop.example/shop"}
    ran = subprocess.run(
        [sys.executable, "-c", AT_HOME],
        env=os.environ | urls,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == [*urls.values()]


@pytest.fixture
def own_server(monkeypatch):
    with start_server() as server:
        monkeypatch.setenv("REDIS_URL", server.url)
        close_testbed()
        yield server
        close_testbed()


def test_the_mark_is_shown_to_nobody(own_server):
    """What says who is on the server is no key of the code that is explored, nor of its invariant."""

    def look(redis, db):
        redis.set("a", 1, ex=60)
        pipe = redis.pipeline().dbsize().keys("*")
        seen = [redis.keys("*"), redis.scan(count=100)[1], redis.dbsize(), *pipe.execute()]
        return seen + redis.eval(SCRIPT, 0)

    seen = []

    def all_end(redis, db, told):
        """Every key ends by itself"""
        with connect_client(own_server.url) as server:
            seen.append(server.exists(OWNER_KEY))
        assert told["ada"] == [["a"], ["a"], 1, 1, ["a"], ["a"], ["a"], 1]
        return all(redis.ttl(key) > 0 for key in redis.keys("*"))

    assert explore({"ada": look}, invariant=all_end).violations == 0
    assert seen == [1]


def test_a_script_that_empties_the_database(own_server):
    """FLUSHDB in a script leaves the mark, as it does on the wire."""

    def flush(redis, db):
        redis.set("a", 1)
        redis.eval("return redis.call('FLUSHDB')", 0)

    def empty(redis, db):
        """Only the mark is left"""
        with connect_client(own_server.url) as server:
            return server.exists(OWNER_KEY) and redis.dbsize() == 0

    assert explore({"ada": flush}, invariant=empty).violations == 0


@pytest.mark.parametrize(
    "touch",
    [
        lambda redis: redis.function_load(LIBRARY.format("theirs", 2), replace=True),
        lambda redis: redis.function_delete("theirs"),
    ],
)
def test_functions_of_others(own_server, touch):
    """A library that was there before stays as it is; one that a run has loaded goes with it."""
    with own_server.client() as theirs:
        theirs.function_load(LIBRARY.format("theirs", 1))

    def load(redis, db):
        redis.function_load(LIBRARY.format("ours", 3))
        redis.fcall("ours", 0)

    def reach(redis, db):
        redis.ping()
        touch(redis)

    explore({"ada": load, "bob": load}, invariant=lambda r, d: True, raises=ResponseError).check()
    with pytest.raises(NotSteppableError, match="'theirs', which was there before"):
        explore({"ada": reach}, invariant=lambda r, d: True)
    with own_server.client() as theirs:
        assert theirs.fcall("theirs", 0) == 1
        assert len(theirs.function_list()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what waits for a core")
def test_a_server_that_gets_no_core_is_moved():
    """Pinned to the explorer's core, it would wait there for whoever else is pinned to it."""
    testbed = LabTestbed()
    system, pid = System(testbed), testbed.server_pid
    if pid is None:
        system.close()
        pytest.skip("the server is not ours")
    cores, busy = os.sched_getaffinity(0), []
    try:
        with system.one_core():
            kept = os.sched_getaffinity(pid)
            os.kill(pid, signal.SIGSTOP)
            assert wait_for_status(pid, "stopped")
            assert not system.relieve_server()  # it does not wait for a core
            assert os.sched_getaffinity(pid) == kept
            os.kill(pid, signal.SIGCONT)
            os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))  # gives way to all others
            loop = f"import os; os.sched_setaffinity(0, {kept}); print(flush=True)"
            loop += "\nwhile True: pass"
            command = [sys.executable, "-c", loop]
            busy += [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
            for process in busy:
                process.stdout.readline()
            connection = testbed.client().connection_pool.get_connection()
            connection.send_command("EVAL", "while true do end", 0)
            while not system.relieve_server():
                time.sleep(0.1)
            assert os.sched_getaffinity(pid) == (cores - kept or cores)
        assert os.sched_getaffinity(pid) == cores
    finally:
        for process in busy:
            process.kill()
            process.communicate()
        os.kill(pid, signal.SIGKILL)
        system.close()


def test_one_exploration_at_a_time():
    """On whatever server: what stands for clocks and chance does so in all of the process."""

    def adds(redis, db):
        redis.incr("n")

    def refuses_another(redis, db):
        with pytest.raises(InvalidSettingError, match="Another exploration is running"):
            explore({"a": adds}, invariant=lambda redis, db: True)
        return True

    system = System(LabTestbed())
    try:
        explore({"a": adds}, invariant=refuses_another, system=system).check()
    finally:
        system.close()
