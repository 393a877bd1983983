"""Look into the learners' volumes; runs in the container `hub` of docker-compose.yml.

    .venv/bin/python jupyter/learners.py            what the class has passed, and why answers were refused
    .venv/bin/python jupyter/learners.py collect    their notebooks and progress as a tar archive, to stdout

It works whether their servers run or not. Nothing of theirs is run, and a link is not followed.
"""

import io
import socket
import sys
import tarfile
import tempfile
from pathlib import Path

import docker

from tools import classroom


def main(arguments: list[str]) -> int:
    """Do the one or the other; returns the exit status."""
    engine = docker.from_env()
    here = engine.containers.get(socket.gethostname())
    prefix = f"{here.labels['com.docker.compose.project']}-learner-"
    names = [one.name for one in engine.volumes.list() if one.name.startswith(prefix)]
    learners = [name.removeprefix(prefix) for name in sorted(names)]
    volumes = [f"{prefix}{learner}:/class/{learner}:ro" for learner in learners]
    # It is never started: the engine can read the volumes of a container that only exists.
    box = engine.containers.create(here.image, volumes=volumes, network_mode="none")
    try:
        if arguments == ["collect"]:
            sys.stdout.buffer.writelines(box.get_archive("/class")[0])
            return 0
        with tempfile.TemporaryDirectory() as directory:
            for learner in learners:
                folder = Path(directory, learner)
                folder.mkdir()
                (folder / ".progress.json").write_bytes(_progress(box, learner))
            return classroom.main([directory])
    finally:
        box.remove()


def _progress(box: docker.models.containers.Container, learner: str) -> bytes:
    """A learner's file as it is, or nothing."""
    try:
        parts, _ = box.get_archive(f"/class/{learner}/.progress.json")
    except docker.errors.NotFound:
        return b""
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as archive:
        found = archive.extractfile(member) if (member := archive.next()) else None
        return found.read() if member and member.isfile() and found else b""


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
