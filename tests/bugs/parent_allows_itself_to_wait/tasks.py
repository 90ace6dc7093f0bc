import time

from celery import Celery

app = Celery("assembly")


@app.task
def part(n):
    time.sleep(0.1)
    return n


@app.task
def whole(n):
    return part.delay(n).get(disable_sync_subtasks=False, timeout=4)
