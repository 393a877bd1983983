"""Nothing is left running, however a kernel ends. SOAK=50 repeats the kill that often."""

import os
import signal
import tempfile
import time
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager

OPEN = """
import json
from labsupport import Lab, explore
from labsupport.labs.cache_aside import ThunderingHerd

lab = Lab("cache_aside")

def cache_aside(redis, key, load, ttl):
    cached = redis.get(key)
    if cached is None:
        cached = json.dumps(load())
        redis.set(key, cached, px=int(ttl * 1000))
    return json.loads(cached)

herd = ThunderingHerd(clients=12, seconds=60, processes=2)
print("ready", flush=True)
herd.run(cache_aside)
"""


@pytest.fixture
def kernel():
    """A kernel, and the directory for temporary files that marks every process it starts."""
    with tempfile.TemporaryDirectory(prefix="orphans-", ignore_cleanup_errors=True) as mark:
        manager = KernelManager(kernel_name="python3")
        others = {key: value for key, value in os.environ.items() if key != "REDIS_URL"}
        manager.start_kernel(env=others | {"TMPDIR": mark})  # with two servers of its own to leave
        client = manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=60)
        yield manager, client, mark
        client.stop_channels()
        if manager.is_alive():
            manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def marked(mark):
    """The processes that carry the mark, by number and command."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                # redis-server writes its title over its environment; but it works in a directory there
                where = (entry / "environ").read_bytes() + os.readlink(entry / "cwd").encode()
                if mark.encode() in where:
                    found[int(entry.name)] = command
            except OSError:  # it ended meanwhile
                continue
    return found


def wait_until(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def workers_run(mark):
    """Kernel, reaper, two servers and at least two workers are there."""
    commands = list(marked(mark).values())
    return sum(b"redis-server" in c for c in commands) >= 2 and len(commands) >= 6


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
@pytest.mark.parametrize("attempt", range(int(os.environ.get("SOAK", "2"))))
def test_a_kernel_killed_in_mid_run_leaves_nothing(kernel, attempt):
    """kill -9 of the kernel in the middle of an experiment: servers and workers end with it."""
    manager, client, mark = kernel
    client.execute(OPEN)
    wait_until(lambda: workers_run(mark), "the experiment did not start")
    time.sleep(0.1 * (attempt % 5))
    os.kill(manager.provisioner.pid, signal.SIGKILL)
    wait_until(lambda: not marked(mark), "a process was left behind")
    left = [path.name for path in Path(mark).iterdir()]
    assert not left, "a directory was left behind"


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_an_interrupted_run_leaves_the_lab_usable(kernel):
    """Interrupt ends the run's own processes; the lab's server answers in the next cell."""
    manager, client, mark = kernel
    # A kernel aborts what reaches it right after an error, unless it was told not to stop on one.
    request = client.execute(OPEN, stop_on_error=False)
    wait_until(lambda: workers_run(mark), "the experiment did not start")
    manager.interrupt_kernel()
    while True:  # a kernel that was slow to start has been asked for its name more than once
        reply = client.get_shell_msg(timeout=60)
        if reply["parent_header"]["msg_id"] == request:
            break
    assert reply["content"]["ename"] == "Interrupted"
    (line,) = reply["content"]["traceback"]  # no frame of the lab's
    assert line == "KeyboardInterrupt: stopped, and nothing of it is left running."
    reply = client.execute_interactive(
        "assert lab.redis.ping(); lab.close()", timeout=60, output_hook=lambda message: None
    )
    assert reply["content"]["status"] == "ok"
    wait_until(
        lambda: not any(b"redis-server" in c for c in marked(mark).values()),
        "a server was left behind",
    )


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_a_restarted_kernel_leaves_nothing(kernel):
    """A restart from the menu ends what the old kernel had started."""
    manager, client, mark = kernel
    client.execute(OPEN)
    wait_until(lambda: workers_run(mark), "the experiment did not start")
    manager.restart_kernel(now=True)
    wait_until(
        lambda: not any(b"redis-server" in c for c in marked(mark).values()),
        "a server was left behind",
    )
