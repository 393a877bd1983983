"""The program behind a `Proxy`: passes bytes on between whoever connects to it and one port.

It prints the port that it listens on. It imports nothing of the lab, so that it starts at once.
"""

import contextlib
import socket
import sys
import threading

_BYTES = 1 << 16


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes from one end, until either is closed."""
    with contextlib.suppress(OSError):
        while data := source.recv(_BYTES):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def main(port: int) -> None:
    """Listen until killed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            client, _ = listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", port))
            except OSError:
                client.close()
                continue
            for ends in ((client, server), (server, client)):
                threading.Thread(target=pump, args=ends, daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]))
