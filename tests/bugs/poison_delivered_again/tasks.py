import os

from celery import Celery

app = Celery("poison")


@app.task(acks_late=True, reject_on_worker_lost=True)
def parse(text):
    if text == "bomb":
        os.abort()
    return text
