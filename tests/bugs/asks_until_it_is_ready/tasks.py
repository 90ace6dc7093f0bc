import time

from celery import Celery

app = Celery("transcoding")


@app.task
def transcode(name):
    return name


@app.task
def watch(name):
    result = transcode.delay(name)
    for _ in range(20):
        if result.ready():
            return "ready"
        time.sleep(0.1)
    return "gave up"
