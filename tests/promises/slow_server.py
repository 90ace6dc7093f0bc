"""An HTTP server that answers each GET after a fixed delay, to thousands of connections at once.

``python slow_server.py SECONDS`` prints its port, and ends when its standard input does: with its owner at the latest.
"""

import asyncio
import resource
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"


class Connection(asyncio.Protocol):
    """A request, a delay, an answer."""

    def __init__(self, delay):
        self._delay = delay
        self._request = b""

    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._request += data
        if self._request.endswith(b"\r\n\r\n"):
            asyncio.get_running_loop().call_later(self._delay, self._answer)

    def _answer(self):
        self._transport.write(ANSWER)
        self._transport.close()


class Owner(asyncio.Protocol):
    """Standard input, which ends with whoever started the server."""

    def __init__(self, ended):
        self._ended = ended

    def connection_lost(self, exc):
        if not self._ended.done():
            self._ended.set_result(None)


async def serve(delay):
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    await loop.connect_read_pipe(lambda: Owner(ended), sys.stdin)
    server = await loop.create_server(lambda: Connection(delay), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(serve(float(sys.argv[1])))
