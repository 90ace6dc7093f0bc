import asyncio

from celery import Celery

app = Celery("notices", task_ignore_result=True)


@app.task(ignore_result=True)
async def notify(user):
    await asyncio.sleep(0.01)
    return user
