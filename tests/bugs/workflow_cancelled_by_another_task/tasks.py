import time

from celery import Celery

app = Celery("workflows")


@app.task
def step(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.05)
    return "finished"
