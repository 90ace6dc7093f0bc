import contextlib
import threading
import time

from celery import Celery

app = Celery("rates")


class Context(threading.local):
    def __init__(self):
        self.currency = "USD"


cache = threading.local()
cache.rates = {"EUR": 1.0, "USD": 1.1}
context = Context()


def rates():
    with contextlib.suppress(AttributeError):
        return cache.rates
    if not hasattr(cache, "rates"):
        time.sleep(0.02)  # asks the bank
        cache.rates = {"EUR": 1.0, "USD": 1.1}
    return cache.rates


@app.task
def convert(amount):
    return round(amount * rates()[context.currency], 2)
