import os

from celery import Celery

app = Celery("metrics")


@app.task
def report(value):
    if os.fork() == 0:
        os._exit(0 if value < 100 else 1)
    return value
