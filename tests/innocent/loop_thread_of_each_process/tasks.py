import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from celery import Celery

app = Celery("crawler")


class Io:
    def __init__(self):
        self.start()

    def start(self):
        self.pid = os.getpid()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def run(self, coroutine):
        if self.pid != os.getpid():
            self.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=5)


io = Io()


async def load(url):
    await asyncio.sleep(0.05)
    return len(url)


def slow():
    time.sleep(0.3)


@app.task
def crawl(url):
    with ThreadPoolExecutor(1) as executor:
        future = executor.submit(slow)
        try:
            future.result(timeout=0.05)
        except TimeoutError:
            pass
    return io.run(load(url))
