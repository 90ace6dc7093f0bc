import asyncio

from celery import Celery

app = Celery("api")


async def call(number):
    lock = asyncio.Lock()
    async with lock:
        await asyncio.sleep(0.05)
    return number


@app.task
def fetch(number):
    return asyncio.run(call(number))
