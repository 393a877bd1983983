"""The settings of an embedded server: what the lab fixes, what a caller may set, what went wrong."""

import secrets
import socket
from collections.abc import Mapping

from labsupport.errors import InvalidSettingError, LabError, ServerUnreachableError

SOCKET = "redis.sock"
"""The name of the socket in the server's directory."""
_FIXED = {
    "bind": "127.0.0.1",
    "daemonize": "no",
    "dir": ".",
    "logfile": '""',
    "port": "0",
    "unixsocket": SOCKET,
    "unixsocketperm": "700",
}
_DEFAULTS = {
    "appendonly": "no",
    "repl-diskless-sync-delay": "0",  # the default lets a new replica wait for others for 5 s
    "save": '""',
}


def checked(config: Mapping[str, str]) -> dict[str, str]:
    """Settings with the names and values that redis.conf takes."""
    found = {name.replace("_", "-").lower(): str(value) for name, value in config.items()}
    for name, value in found.items():
        if name in _FIXED:
            raise InvalidSettingError(
                f"{name!r} is set by the lab itself.", "Leave it out; for a port, use tcp=True."
            )
        if any(sign in name + value for sign in "\r\n\0"):
            raise InvalidSettingError(f"The value of {name!r} is not one line.", "Correct it.")
    return {name: value or '""' for name, value in found.items()}


def file_of(config: Mapping[str, str], *, port: int) -> str:
    """The text of a redis.conf; port 0 is none."""
    settings = _DEFAULTS | dict(config) | _FIXED | {"port": str(port)}
    return "".join(f"{name} {value}\n" for name, value in settings.items())


def free_port() -> int:
    """A port that nobody listens on, below those that systems give to outgoing connections."""
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def refusal(words: str) -> LabError:
    """Why it did not start, from what it printed."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    if "CONFIG FILE ERROR" in words:
        reason = " ".join(line for line in lines[-2:]).removeprefix(">>> ")
        return InvalidSettingError(f"Redis refuses its configuration: {reason}.", "Correct config.")
    return ServerUnreachableError(
        f"The lab's Redis server did not start: {lines[-1] if lines else 'it printed nothing'}",
        "Look for a full disk or too little memory, or set REDIS_URL to a server of yours.",
    )
