import asyncio
import signal

from celery import Celery

app = Celery("graceful_crawl")


async def page(number, stop):
    if stop.is_set():
        return None
    await asyncio.sleep(0.1)
    return number


async def crawl_pages(count):
    """Operators cut a crawl short with SIGUSR2: what is there so far is kept."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR2, stop.set)
    try:
        pages = [await page(n, stop) for n in range(count)]
    finally:
        loop.remove_signal_handler(signal.SIGUSR2)
    return [p for p in pages if p is not None]


@app.task
def crawl(count):
    return asyncio.run(crawl_pages(count))
