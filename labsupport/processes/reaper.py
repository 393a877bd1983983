"""No orphans: what the lab started ends with the kernel, even when the kernel is killed with -9."""

import os
import subprocess
import threading
import weakref
from contextlib import suppress
from pathlib import Path

from labsupport.processes.interrupt import deaf

# Reads "+ PID", "- PID", "+ /DIRECTORY" and "- /DIRECTORY" lines until the last writer is gone, then
# kills and removes what is left. SIGKILL reaches stopped processes too. A child that leads a process
# group (each server does) takes its group with it.
_REAPER = r"""
trap '' HUP INT TERM
while read -r sign what; do
  if [ "$sign" = + ]; then
    set -- "$@" "$what"
  else
    for kept do
      shift
      [ "$kept" = "$what" ] || set -- "$@" "$kept"
    done
  fi
done
for what do
  case $what in
    /*) ;;
    *) kill -s KILL -- "$what" "-$what" ;;
  esac
done
for what do
  case $what in
    /*) rm -rf -- "$what" || { sleep 1; rm -rf -- "$what"; } ;;
  esac
done
"""
# A child tells the reaper its number before it becomes the program: there is no moment at which the
# kernel could die and leave it. Descriptor 0, since dash refuses those above 9.
_REGISTER = 'echo "+ $$" >&0; exec "$@" </dev/null'


class _Reaper:
    """The one `sh` process of this kernel that waits for the end of a pipe; starts when needed."""

    def __init__(self) -> None:
        self._forget()
        self._watches_forks = False

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._pipe: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._kept: dict[str, None] = {}

    def _after_fork(self) -> None:
        # A forked child that held the write end would keep everything alive after its parent's death.
        if self._pipe is not None:
            os.close(self._pipe)
        if self._process is not None:
            self._process.returncode = 0  # not ours to wait for
        self._forget()

    def _start(self) -> int:
        """The write end of the pipe to a living reaper; the lock is held."""
        if self._pipe is not None and self._process is not None and self._process.poll() is None:
            return self._pipe
        if self._pipe is not None:
            os.close(self._pipe)
        read_end, self._pipe = os.pipe()
        with deaf():
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _REAPER, "labsupport-reaper"],
                stdin=read_end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        os.close(read_end)
        # Finalizers made later, of all that it watches over, run before this one.
        weakref.finalize(self, self._finish, os.getpid())
        if not self._watches_forks:
            os.register_at_fork(after_in_child=self._after_fork)
            self._watches_forks = True
        for what in self._kept:
            os.write(self._pipe, f"+ {what}\n".encode())
        return self._pipe

    def _finish(self, owner: int) -> None:
        """At the interpreter's end: let the reaper do its work, and wait for it."""
        if os.getpid() != owner or self._pipe is None or self._process is None:
            return
        os.close(self._pipe)
        self._pipe = None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)

    def keep(self, what: str) -> None:
        with self._lock:
            pipe = self._start()
            self._kept[what] = None
            os.write(pipe, f"+ {what}\n".encode())

    def drop(self, what: str) -> None:
        with self._lock:
            if self._kept.pop(what, "") is None:
                os.write(self._start(), f"- {what}\n".encode())

    def spawn(self, command: list[str], directory: Path, log: Path) -> "subprocess.Popen[bytes]":
        with self._lock, log.open("ab") as output, deaf():
            process = subprocess.Popen(
                ["/bin/sh", "-c", _REGISTER, "sh", *command],
                stdin=self._start(),
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                start_new_session=True,
            )
            self._kept[str(process.pid)] = None
            return process


_THE_REAPER = _Reaper()


def adopt(pid: int) -> None:
    """Have a process killed with -9 as soon as this kernel is gone, however it goes."""
    if pid <= 1:
        raise ValueError(f"{pid} is not a process to be killed")
    _THE_REAPER.keep(str(pid))


def release(pid: int) -> None:
    """No longer watch over a process; call it before the process is waited for, or right after."""
    _THE_REAPER.drop(str(pid))


def protect(directory: Path) -> None:
    """Have a directory removed as soon as this kernel is gone."""
    if not directory.is_absolute() or directory == Path("/") or "\n" in str(directory):
        raise ValueError(f"{directory} is not a directory to be removed")
    _THE_REAPER.keep(str(directory))


def discard(directory: Path) -> None:
    """No longer watch over a directory."""
    _THE_REAPER.drop(str(directory))


def spawn(command: list[str], *, directory: Path, log: Path) -> "subprocess.Popen[bytes]":
    """Start an adopted program in a session of its own, so that Interrupt does not reach it.

    Args:
        command: the program and its arguments.
        directory: where it runs.
        log: the file that its output is added to.
    """
    return _THE_REAPER.spawn(command, directory, log)
