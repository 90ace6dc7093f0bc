import itertools
import time
import uuid

from celery import Celery

app = Celery("ids")
NODE = uuid.uuid4().hex[:8]
sequence = itertools.count()


def new_id():
    return f"{NODE}-{next(sequence)}"


@app.task
def create(order):
    time.sleep(0.05)
    return new_id()
