"""Nothing that the lab started outlives its process, however that ends. SOAK=50 repeats the kills."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest

import labsupport
from labsupport.processes import adopt, process_status, protect, release
from labsupport.processes.reaper import _Reaper

pytestmark = pytest.mark.long

REPEATS = int(os.environ.get("SOAK", "3"))

OPEN = (
    f"""
import json, os, subprocess, sys, tempfile, time, types
from pathlib import Path
# without the rest of the package, which takes seconds to import and is not needed
sys.modules["labsupport"] = types.ModuleType("labsupport")
sys.modules["labsupport"].__path__ = {labsupport.__path__!r}
"""
    + """
from labsupport.processes import adopt, protect, release
from labsupport.servers import open_redis, start_masters, start_server

def tell(*servers, pids=(), directories=()):
    pids = [server.pid for server in servers] + list(pids)
    directories = [str(server.directory) for server in servers] + list(directories)
    print(json.dumps([pids, directories]), flush=True)
"""
)

SERVERS = """
running, paused, saving = start_masters(3, config={"appendonly": "yes"})
paused.pause()
replica = running.replica()
gone = start_server()
gone.close()
tell(running, paused, saving, replica)
"""

CLUSTER = """
from labsupport.servers.cluster import start_cluster
cluster = start_cluster(network=True)
cluster.nodes[0].pause()
tell(*cluster.nodes, cluster.network)
"""

CHILDREN = """
stopped = subprocess.Popen(["sleep", "1000"], start_new_session=True)
adopt(stopped.pid)
os.kill(stopped.pid, 19 if sys.platform == "linux" else 17)
directory = tempfile.mkdtemp(prefix="a b*'")
Path(directory, "file").touch()
protect(Path(directory))
kept = tempfile.mkdtemp()
protect(Path(kept)); release(stopped.pid); adopt(stopped.pid)
tell(pids=[stopped.pid], directories=[directory, kept])
"""


def wait_until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.002)


@pytest.fixture
def kernel():
    """Starts a process that runs a text, in a group of its own as a kernel has."""
    started = []

    def start(code, **more):
        command = [sys.executable, "-c", OPEN + code]
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
            **more,
        )
        started.append(child)
        return child

    yield start
    for child in started:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            pipe.close()


@pytest.fixture
def directory():
    """A temporary directory whose name is short enough for sockets."""
    with tempfile.TemporaryDirectory() as directory:
        yield directory


def told(child):
    line = child.stdout.readline()
    assert line, child.stderr.read()
    return json.loads(line)


def all_gone(pids, directories):
    def gone():
        dead = all(process_status(pid) == "dead" for pid in pids)
        return dead and not any(map(os.path.exists, directories))

    wait_until(gone, f"left: {[(p, process_status(p)) for p in pids]} {directories}")


class TestKilled:
    @pytest.mark.parametrize("attempt", range(REPEATS))
    def test_servers(self, kernel, attempt):
        """kill -9: running, paused and replicating servers end, and their directories go."""
        child = kernel(SERVERS + "time.sleep(1000)")
        pids, directories = told(child)
        assert [process_status(pid) for pid in pids] == ["running", "stopped", "running", "running"]
        child.kill()
        all_gone(pids, directories)

    def test_a_cluster(self, kernel):
        """kill -9: six nodes, one of them paused, and their network end, and their directories go."""
        child = kernel(CLUSTER + "time.sleep(1000)")
        pids, directories = told(child)
        assert [process_status(pid) for pid in pids] == ["stopped"] + ["running"] * 6
        child.kill()
        all_gone(pids, directories)

    def test_what_was_adopted(self, kernel):
        """kill -9: an adopted child ends, stopped as it is; protected directories go."""
        child = kernel(CHILDREN + "time.sleep(1000)")
        pids, directories = told(child)
        child.kill()
        all_gone(pids, directories)

    @pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
    @pytest.mark.parametrize("attempt", range(REPEATS))
    def test_while_servers_start(self, kernel, attempt, directory):
        """kill -9 at any moment of a start: there is none at which a server could be left."""
        mark = str(uuid.uuid4())
        code = "from threading import Thread\n"
        code += "def work():\n    while True:\n        start_server(tcp=True).close()\n"
        code += "for _ in range(3): Thread(target=work, daemon=True).start()\n"
        code += "tell(); time.sleep(1000)"
        child = kernel(code, env={**os.environ, "LAB_TEST_MARK": mark, "TMPDIR": directory})
        told(child)
        time.sleep(0.0137 * (attempt + 1))
        child.kill()
        wait_until(lambda: not marked(mark), f"left: {marked(mark)}")
        assert not list(Path(directory).glob("labsupport-*"))

    def test_a_forked_child_keeps_nothing_alive(self, kernel):
        """A forked child that lives on does not hold the pipe open, nor end anything itself."""
        code = "server = start_server()\n"
        code += "if (child := os.fork()) == 0:\n    time.sleep(1000)\n"
        code += "tell(server, pids=[child]); time.sleep(1000)"
        child = kernel(code)
        (server, forked), directories = told(child)
        child.kill()
        all_gone([server], directories)
        assert process_status(forked) == "running"
        os.kill(forked, signal.SIGKILL)

    def test_a_forked_childs_own_server(self, kernel):
        """A forked child gets a reaper of its own."""
        code = "server = start_server()\n"
        code += "if os.fork() == 0:\n    server = start_server()\n"
        code += "tell(server, pids=[os.getpid()]); time.sleep(1000)"
        child = kernel(code)
        both = {found[0][1]: found for found in (told(child), told(child))}
        parents, (childs,) = both.pop(child.pid), both.values()
        child.kill()
        all_gone(*parents)
        assert process_status(childs[0][0]) == "running"
        os.kill(childs[0][1], signal.SIGKILL)
        all_gone(*childs)


class TestInterrupted:
    def test_a_server_survives_interrupt(self, kernel):
        """SIGINT to the process group, as JupyterLab sends it, does not reach the servers."""
        code = "server = start_server()\n"
        code += "try:\n"
        code += "    try:\n        tell(server); time.sleep(1000)\n"
        code += "    except KeyboardInterrupt:\n"
        code += "        print(server.client().ping(), flush=True); time.sleep(1000)\n"
        code += "except KeyboardInterrupt:\n    print('end', flush=True)\n"
        child = kernel(code)
        pids, directories = told(child)
        assert os.getpgid(pids[0]) == pids[0]
        os.killpg(child.pid, signal.SIGINT)
        assert child.stdout.readline() == "True\n"
        os.killpg(child.pid, signal.SIGINT)
        output, errors = child.communicate(timeout=60)
        assert (output, errors, child.returncode) == ("end\n", "", 0)
        # at its own end, a process waits until all is done
        assert [process_status(pid) for pid in pids] == ["dead"]
        assert not any(map(os.path.exists, directories))

    def test_uncaught(self, kernel):
        """A KeyboardInterrupt that ends the process leaves nothing."""
        child = kernel(SERVERS + CHILDREN + "time.sleep(1000)")
        first, second = told(child), told(child)
        os.killpg(child.pid, signal.SIGINT)
        child.communicate(timeout=60)
        all_gone(first[0] + second[0], first[1] + second[1])

    @pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
    @pytest.mark.parametrize("attempt", range(REPEATS))
    def test_while_servers_start(self, kernel, attempt):
        """An interrupt in the middle of start_server leaves no half-started server."""
        mark = str(uuid.uuid4())
        code = "tell()\ntry:\n    while True: start_server().close()\n"
        code += "except KeyboardInterrupt: tell()\n"
        code += "time.sleep(1000)"
        child = kernel(code, env={**os.environ, "LAB_TEST_MARK": mark})
        told(child)
        time.sleep(0.0137 * (attempt + 1))
        child.send_signal(signal.SIGINT)
        while not select.select([child.stdout], [], [], 2)[0]:
            # Python drops a KeyboardInterrupt that comes within a __del__, such as redis-py's
            child.send_signal(signal.SIGINT)
        told(child)
        wait_until(
            lambda: not any("redis-server" in command for command in marked(mark).values()),
            f"left: {marked(mark)}",
        )
        child.kill()
        wait_until(lambda: not marked(mark), f"left: {marked(mark)}")


class TestEnded:
    @pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "1 / 0", "os._exit(4)"])
    def test_any_end(self, kernel, end):
        """A normal end, an exit, an exception, an end without finalizers."""
        child = kernel(SERVERS + CHILDREN + "endpoint = open_redis()\n" + end)
        first, second = told(child), told(child)
        _, errors = child.communicate(timeout=60)
        all_gone(first[0] + second[0], first[1] + second[1])
        assert "Exception ignored" not in errors
        assert "Warning" not in errors

    def test_terminated(self, kernel):
        """SIGTERM, which Python does not turn into an exception."""
        child = kernel(SERVERS + "time.sleep(1000)")
        found = told(child)
        child.terminate()
        all_gone(*found)


@pytest.fixture
def sleepers():
    """Two processes that sleep."""
    sleepers = [subprocess.Popen(["sleep", "1000"]) for _ in range(2)]
    yield sleepers
    for sleeper in sleepers:
        sleeper.kill()
        sleeper.wait()


class TestReaper:
    def test_released(self, sleepers):
        """What was released is left alone, also if it was adopted twice."""
        reaper = _Reaper()
        released, kept = sleepers
        for sleeper in (released, kept, released):
            reaper.keep(str(sleeper.pid))
        reaper.drop(str(released.pid))
        reaper._finish(os.getpid())
        wait_until(lambda: kept.poll() is not None, "the adopted one lives")
        assert released.poll() is None

    def test_a_reaper_that_was_killed(self, sleepers):
        """Another takes over everything."""
        reaper = _Reaper()
        reaper.keep(str(sleepers[0].pid))
        reaper._process.kill()
        reaper._process.wait()
        reaper.keep(str(sleepers[1].pid))
        reaper._finish(os.getpid())
        wait_until(lambda: all(s.poll() is not None for s in sleepers), "one was not known")

    def test_unknown(self, tmp_path):
        """Releasing what was never adopted is no error; what is dead already is none either."""
        release(2**22)
        with subprocess.Popen(["true"]) as child:
            adopt(child.pid)
            child.wait()
            release(child.pid)
        with pytest.raises(ValueError, match="directory"):
            protect(tmp_path / "a\nb")
        with pytest.raises(ValueError, match="process"):
            adopt(0)


def marked(mark):
    """The processes that carry the mark in their environment, by number and command."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark.encode() in (entry / "environ").read_bytes():
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if process_status(int(entry.name)) != "dead":
                        found[int(entry.name)] = command
            except OSError:  # it ended meanwhile
                continue
    return found
