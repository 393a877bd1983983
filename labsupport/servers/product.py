"""Which server it is: its own name and version, also of one that passes for Redis."""

import re
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import redis
from redis.exceptions import NoPermissionError

from labsupport.errors import ServerTooOldError
from labsupport.processes import deaf

MINIMUM_VERSION = (7, 0)
"""The oldest Redis that the labs support."""
NEEDED = ".".join(map(str, MINIMUM_VERSION))


class Product(NamedTuple):
    """A server's name and version, e.g. "Redis" and "8.2.3"; as a text "Redis 8.2.3"."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version as numbers, to be compared."""
        return numbers_of(self.version)

    def check(self, what: str, remedy: str) -> None:
        """Refuse one that is older than `MINIMUM_VERSION`.

        Raises:
            ServerTooOldError: it is.
        """
        if self.numbers < MINIMUM_VERSION:
            raise ServerTooOldError(
                f"{what} is version {self.version}; the labs need {NEEDED} or newer.", remedy
            )


def numbers_of(text: str) -> tuple[int, ...]:
    """A version's numbers, e.g. (7, 2) for "7.2"."""
    return tuple(map(int, re.findall(r"\d+", text)))


def product_of(client: redis.Redis) -> Product:
    """The product that answers a client.

    Raises:
        RedisError: it does not answer, or is no Redis.
    """
    try:
        found: dict[str, Any] = client.info("server")
    except NoPermissionError:
        # INFO is a command that an administrator may withhold; HELLO is not
        reply: Any = client.execute_command("HELLO")
        told = reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
        return Product(str(told["server"]).capitalize(), str(told["version"]))
    name = str(found.get("server_name", "redis"))
    try:
        # Valkey's redis_version is that of the Redis it stands in for
        return Product(
            name.capitalize(), str(found.get(f"{name}_version") or found["redis_version"])
        )
    except KeyError:
        raise redis.InvalidResponse("what answers is not a Redis server") from None


def product_of_program(program: Path) -> Product | None:
    """The product that a program says it is; None if it does not run here."""
    try:
        said = _version(program)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"(\w+) server v=(\d+(?:\.\d+)+)", said)
    return Product(found[1].capitalize(), found[2]) if found else None


@lru_cache(maxsize=8)
def _version(program: Path) -> str:
    with deaf():
        return subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
