import time

from celery import Celery
from celery.contrib.abortable import AbortableTask

app = Celery("abortable")


@app.task(bind=True, base=AbortableTask)
def scan(self, rounds):
    for n in range(rounds):
        if self.is_aborted():
            return n
        time.sleep(0.05)
    return rounds


@app.task
def wait(seconds):
    time.sleep(seconds)
