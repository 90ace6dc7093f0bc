import asyncio

from celery import Celery

app = Celery("crawl")


async def load(url):
    await asyncio.sleep(0.01)
    return url


@app.task
def crawl(url):
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(load(url))
    finally:
        loop.close()
