import time

from celery import Celery

app = Celery("rates")

rates = []


def load():
    return [("EUR", 2), ("USD", 3)]


@app.task
def convert(amount):
    fresh = load()
    rates.clear()
    rates.extend(fresh)
    time.sleep(0.1)  # asks for the fee
    return amount * sum(rate for _, rate in rates)
