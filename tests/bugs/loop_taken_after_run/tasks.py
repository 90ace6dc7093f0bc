import asyncio

from celery import Celery

app = Celery("mixed")


async def answer():
    return 42


@app.task
def modern():
    return asyncio.run(answer())


@app.task
def old_style():
    return asyncio.get_event_loop().run_until_complete(answer())
