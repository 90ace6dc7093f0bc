import time

from celery import Celery

app = Celery("monitored")


@app.task
def work(seconds):
    time.sleep(seconds)
    return seconds
