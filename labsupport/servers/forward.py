"""The program behind a `Proxy`: passes bytes on between whoever connects to it and one port.

It prints the port that it listens on, and after each SIGUSR1 how many replies it was told to lose
so far. It imports nothing of the lab, so that it starts at once.
"""

import contextlib
import itertools
import signal
import socket
import sys
import threading

_BYTES = 1 << 16
_TO_LOSE = threading.Semaphore(0)


def pump(source: socket.socket, sink: socket.socket, replies: bool) -> None:
    """Pass on what comes from one end, until either is closed, or a reply is to be lost."""
    with contextlib.suppress(OSError):
        while data := source.recv(_BYTES):
            if replies and _TO_LOSE.acquire(blocking=False):
                break
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def main(port: int) -> None:
    """Listen until killed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        numbers = itertools.count(1)

        def lose_one(*_: object) -> None:
            _TO_LOSE.release()
            print("loses", next(numbers), flush=True)

        signal.signal(signal.SIGUSR1, lose_one)
        print(listener.getsockname()[1], flush=True)
        while True:
            client, _ = listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", port))
            except OSError:
                client.close()
                continue
            for source, sink in ((client, server), (server, client)):
                way = source, sink, source is server
                threading.Thread(target=pump, args=way, daemon=True).start()


if __name__ == "__main__":
    main(int(sys.argv[1]))
