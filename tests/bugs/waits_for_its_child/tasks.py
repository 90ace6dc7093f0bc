import time

from celery import Celery

app = Celery("pipeline")


@app.task
def resize(name):
    time.sleep(0.05)
    return name + ".small"


@app.task
def publish(name):
    small = resize.delay(name)
    return small.get(timeout=5)
