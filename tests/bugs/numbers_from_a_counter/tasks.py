import itertools
import time

from celery import Celery

app = Celery("invoices")
numbers = itertools.count(1)


@app.task
def number(order):
    time.sleep(0.05)
    return next(numbers)
