import asyncio
import threading

from celery import Celery

app = Celery("async_link")


class Link:
    """A line to the pricing service, kept open by a loop in a thread of its own."""

    def __init__(self):
        ready = threading.Event()
        threading.Thread(target=asyncio.run, args=(self._main(ready),), daemon=True).start()
        ready.wait(5)

    async def _main(self, ready):
        self.loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        self.reader, self.writer = await asyncio.open_connection(host, port)
        ready.set()
        await server.serve_forever()

    async def _serve(self, reader, writer):
        while line := await reader.readline():
            await asyncio.sleep(0.2)
            writer.write(line.upper())

    async def _ask(self, item):
        self.writer.write(item.encode() + b"\n")
        return (await self.reader.readline()).decode().strip()

    def ask(self, item):
        return asyncio.run_coroutine_threadsafe(self._ask(item), self.loop).result(5)


_link, _guard = None, threading.Lock()


def link():
    global _link
    with _guard:
        if _link is None:
            _link = Link()
        return _link


@app.task
def price(item):
    return link().ask(item)
