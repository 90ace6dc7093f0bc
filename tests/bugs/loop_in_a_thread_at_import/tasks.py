import asyncio
import threading

from celery import Celery

app = Celery("crawler")
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True, name="io").start()


async def load(url):
    await asyncio.sleep(0.05)
    return len(url)


@app.task
def crawl(url):
    return asyncio.run_coroutine_threadsafe(load(url), loop).result(timeout=3)
