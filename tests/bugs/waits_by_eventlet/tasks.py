"""Prices of several shops at once; the tasks were written for workers of eventlet."""
import eventlet
from celery import Celery

app = Celery("prices")

SHOPS = {"north": 17, "south": 19, "harbour": 16}


def ask(shop):
    eventlet.sleep(0.25)  # the shop takes its time
    return shop, SHOPS[shop]


@app.task
def cheapest(names):
    pool = eventlet.GreenPool(4)
    prices = dict(pool.imap(ask, names))
    return min(prices, key=prices.get)
