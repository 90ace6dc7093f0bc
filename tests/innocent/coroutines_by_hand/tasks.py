import functools
import time

from celery import Celery

app = Celery("coroutines_by_hand")


class Nap:
    def __init__(self, seconds):
        self.seconds = seconds

    def __await__(self):
        return (yield self.seconds)


def driven(func):
    """The client library is written for asyncio and trio; here its coroutines only nap."""

    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        coro = func(*args, **kwargs)
        try:
            while True:
                time.sleep(coro.send(None))
        except StopIteration as stop:
            return stop.value

    return wrapper


async def fetch(page):
    await Nap(0.15)
    return page * 10


@app.task
@driven
async def crawl(pages):
    return [await fetch(page) for page in range(pages)]
