import time

from celery import Celery

app = Celery("reports")


@app.task
def digest(seconds):
    end = time.monotonic() + seconds
    total = 0
    while time.monotonic() < end:
        total += 1
    return total > 0
