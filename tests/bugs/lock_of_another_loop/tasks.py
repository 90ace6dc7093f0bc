import asyncio

from celery import Celery

app = Celery("api")

one_at_a_time = asyncio.Semaphore(1)


async def call(number):
    async with one_at_a_time:
        await asyncio.sleep(0.2)
    return number


@app.task
def fetch(number):
    return asyncio.run(asyncio.wait_for(call(number), 2))
