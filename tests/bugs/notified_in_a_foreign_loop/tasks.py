import asyncio
import os
from pathlib import Path

from celery import Celery

app = Celery("notify")
OUTBOX = Path(os.environ["CASE_DIR"])


def run_async(coro):
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(coro)
    else:
        loop.create_task(coro)


async def push(user):
    await asyncio.sleep(0.3)
    (OUTBOX / f"{user}.sent").write_text("hello")


@app.task
def notify(user):
    run_async(push(user))
    return user
