import asyncio

from celery import Celery

app = Celery("crm")


def run(coroutine):
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(5)


async def fetch(customer, seconds):
    await asyncio.sleep(seconds)
    return customer


@app.task
def synchronise(customer, seconds):
    return run(fetch(customer, seconds))
