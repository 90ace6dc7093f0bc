import contextlib
import threading
import time

from celery import Celery

app = Celery("tasks")


class Nesting(threading.local):
    def __init__(self):
        self.depth = 0


NESTING = Nesting()


@contextlib.contextmanager
def atomic():
    NESTING.depth += 1
    try:
        yield NESTING.depth == 1
    finally:
        NESTING.depth -= 1


@app.task
def transfer(amount):
    with atomic() as outermost:
        with atomic() as again:
            time.sleep(0.05)
            if amount < 0:
                raise ValueError(amount)
    return outermost and not again
