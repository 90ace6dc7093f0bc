import time

from celery import Celery

app = Celery("night")


@app.task
def tidy(seconds):
    time.sleep(seconds)
    return seconds
