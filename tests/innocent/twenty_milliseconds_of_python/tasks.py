import time

from celery import Celery

app = Celery("prices")


@app.task
def total(rounds):
    end = time.process_time() + 0.02
    result = 0
    while time.process_time() < end:
        result += rounds
    return result > 0
