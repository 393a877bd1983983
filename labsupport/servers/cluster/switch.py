"""The program behind a `Network`: all that is said to the nodes of a cluster goes through it.

Its arguments are two ports a node, the node's own and that of its cluster bus; it prints the two that
it listens on in their place. It imports nothing of the lab, so that it starts at once. The socket in
its directory takes an order a line, and answers each with how many bytes the bus has carried.
"""

import asyncio
import contextlib
import json
import struct
import sys

SOCKET = "orders.sock"

_BYTES = 1 << 16
_HEADER = struct.Struct("!4sIHH")  # "RCmb", length, version, and the port of the node that speaks
_REPLICA = b"REPLCONF"  # what a replica says before it asks for data, and a client never does


class Link:
    """A connection: what it is for ("clients", "replication" or "bus"), and the nodes at its ends."""

    def __init__(self, kind: str, node: int) -> None:
        self.kind, self.ends = kind, [node]


class Switch:
    """Passes on what is said to the nodes, and holds what it is told to hold.

    Args:
        targets: the port and the bus port of each node.
    """

    def __init__(self, targets: list[tuple[int, int]]) -> None:
        self._targets = targets
        self._ports: list[list[int]] = []
        self._held: set[tuple[str, int]] = set()
        self._changed = asyncio.Condition()
        self._bus_bytes = 0

    async def run(self) -> None:
        """Listen until killed."""
        for node, targets in enumerate(self._targets):
            self._ports.append([])
            for kind, target in zip(("clients", "bus"), targets, strict=True):
                server = await self._listen(kind, node, target)
                self._ports[-1].append(server.sockets[0].getsockname()[1])
        await asyncio.start_unix_server(self._obey, SOCKET)
        print(json.dumps(self._ports), flush=True)
        await asyncio.Event().wait()

    async def _listen(self, kind: str, node: int, target: int) -> asyncio.Server:
        async def join(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
            link, first = Link(kind, node), b""
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if kind == "bus":
                    first = await near.readexactly(_HEADER.size)
                    speaker = _HEADER.unpack(first)[3]
                    link.ends += [n for n, (port, _) in enumerate(self._ports) if port == speaker]
                far, forth = await asyncio.open_connection("127.0.0.1", target)
                await asyncio.gather(
                    self._pump(near, forth, link, first), self._pump(far, back, link)
                )
            back.close()

        return await asyncio.start_server(join, "127.0.0.1", 0)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        link: Link,
        data: bytes = b"",
    ) -> None:
        """Pass on what comes from one end, until either is closed."""
        with contextlib.suppress(OSError):
            while data := data or await source.read(_BYTES):
                if link.kind == "clients" and _REPLICA in data:
                    link.kind = "replication"
                if self._holds(link):
                    async with self._changed:
                        await self._changed.wait_for(lambda: not self._holds(link))
                self._bus_bytes += len(data) if link.kind == "bus" else 0
                sink.write(data)
                await sink.drain()
                data = b""
        sink.close()

    def _holds(self, link: Link) -> bool:
        return any((link.kind, node) in self._held for node in link.ends)

    async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            async with self._changed:
                self._held = {(kind, node) for kind, node in json.loads(line)}
                self._changed.notify_all()
            writer.write(f"{self._bus_bytes}\n".encode())
            await writer.drain()


if __name__ == "__main__":
    numbers = list(map(int, sys.argv[1:]))
    asyncio.run(Switch(list(zip(numbers[::2], numbers[1::2], strict=True))).run())
