import asyncio

from celery import Celery

app = Celery("fetcher")


async def fetch_all(urls):
    await asyncio.sleep(0.1)
    return len(urls)


@app.task
def fetch(urls):
    return asyncio.run(fetch_all(urls))
