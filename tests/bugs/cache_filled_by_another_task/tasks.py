import time

from celery import Celery

app = Celery("catalogue")
prices = {}


@app.task
def load(item, price):
    prices[item] = price
    return price


@app.task
def quote(item):
    time.sleep(0.1)
    return prices.get(item)
