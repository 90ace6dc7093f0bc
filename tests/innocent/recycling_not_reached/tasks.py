import asyncio

from celery import Celery

app = Celery("recycled")
app.conf.worker_max_tasks_per_child = 50
app.conf.worker_max_memory_per_child = 2_000_000


async def ask(n):
    await asyncio.sleep(0)
    return n


@app.task
def run(n):
    return asyncio.run(ask(n))


@app.task
def rows(n):
    return list(range(n))
