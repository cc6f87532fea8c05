"""A forwarder that lets every request to AWS wait as a network would: ``python -m tests.bench.delay``.

A client sends one request at a time on a connection, so that the first bytes after an answer are a new request's. They
wait; the rest goes through as it comes. The body that follows ``100 Continue`` is no new request.
"""

import argparse
import asyncio
from contextlib import suppress

from tests.bench.processes import announce

_CHUNK = 1 << 20
_CONTINUE = b"HTTP/1.1 100"


class Connection:
    """One connection of a client, with its own to the server."""

    def __init__(self, seconds: float, server_port: int) -> None:
        self._seconds = seconds
        self._port = server_port
        self._is_idle = True

    async def carry(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Carry bytes both ways until either side closes."""
        server, to_server = await asyncio.open_connection("127.0.0.1", self._port, limit=_CHUNK)
        ways = [
            asyncio.ensure_future(self._carry_requests(client, to_server)),
            asyncio.ensure_future(self._carry_answers(server, to_client)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        to_server.close()
        to_client.close()

    async def _carry_requests(self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await client.read(_CHUNK):
                if self._is_idle:
                    self._is_idle = False
                    await asyncio.sleep(self._seconds)
                to_server.write(data)
                await to_server.drain()

    async def _carry_answers(self, server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await server.read(_CHUNK):
                self._is_idle = not data.startswith(_CONTINUE)
                to_client.write(data)
                await to_client.drain()


async def _serve(seconds: float, server_port: int) -> None:
    server = await asyncio.start_server(
        lambda reader, writer: Connection(seconds, server_port).carry(reader, writer), "127.0.0.1", 0, limit=_CHUNK
    )
    announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def main() -> None:
    """Serve until the parent ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, required=True, help="how long a request waits")
    parser.add_argument("--port", type=int, required=True, help="the server's port on loopback")
    options = parser.parse_args()
    asyncio.run(_serve(options.seconds, options.port))


if __name__ == "__main__":
    main()
