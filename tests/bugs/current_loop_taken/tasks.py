import asyncio

from celery import Celery

app = Celery("crawl")


async def load(url):
    await asyncio.sleep(0.01)
    return url


def run(coroutine):
    return asyncio.get_event_loop().run_until_complete(coroutine)


@app.task
def crawl(url):
    return run(load(url))
