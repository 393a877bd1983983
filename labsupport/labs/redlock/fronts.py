"""What stands before a server and lets its clients down: cut off, or mute."""

import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

__all__ = ["CUT", "MUTE", "Front"]

CUT, MUTE = "is cut off", "does as told, and never answers"

_BYTES = 1 << 16
_LOOK_SECONDS = 0.05
_OPENING = frozenset({b"AUTH", b"CLIENT", b"COMMAND", b"HELLO", b"PING", b"SELECT"})


class Front:
    """A port that passes on to a server what its clients send, and the replies to them.

    A server that is stopped answers no greeting either; here a client is connected, sends its
    command, and only then waits in vain.

    Args:
        url: the server's.

    Attributes:
        url: what clients are told.
        fault: CUT ends each connection; MUTE withholds the reply to any command but a greeting, on
            that connection for ever; "" for neither.
        overtakes: a number, and what happens before that command from now is passed on.
    """

    def __init__(self, url: str) -> None:
        self.fault = ""
        self.overtakes: tuple[int, Callable[[], object]] | None = None
        self._port = urlsplit(url).port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Front":
        return self

    def __exit__(self, *error: object) -> None:
        self.fault = CUT
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with (
            suppress(OSError),
            client,
            socket.create_connection(("127.0.0.1", self._port)) as server,
        ):
            mute = False
            while True:
                ready, _, _ = select.select([client, server], [], [], _LOOK_SECONDS)
                if self.fault == CUT:
                    return
                for source in ready:
                    if not (data := source.recv(_BYTES)):
                        return
                    if source is client:
                        if not _opens(data):
                            mute = mute or self.fault == MUTE
                            self._be_overtaken()
                        server.sendall(data)
                    elif not mute:
                        client.sendall(data)

    def _be_overtaken(self) -> None:
        if self.overtakes is not None:
            left, act = self.overtakes
            self.overtakes = (left - 1, act) if left > 1 else None
            if left == 1:
                act()


def _opens(data: bytes) -> bool:
    """True when a client only greets the server."""
    words = data.split(b"\r\n", 3)
    return len(words) > 2 and words[2].upper() in _OPENING
