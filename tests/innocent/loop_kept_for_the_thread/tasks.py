import asyncio
import threading

from celery import Celery

app = Celery("crawl")
kept = threading.local()


async def load(url):
    return url


def loop():
    if not hasattr(kept, "loop"):
        kept.loop = asyncio.new_event_loop()
    return kept.loop


@app.task
def crawl(url):
    return loop().run_until_complete(load(url))


@app.task
def fetch(url):
    mine = asyncio.new_event_loop()
    try:
        return mine.run_until_complete(load(url))
    finally:
        mine.close()
