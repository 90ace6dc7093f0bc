import gevent
import requests
from celery import Celery

app = Celery("shipping")

FLAT_RATES = {"parcel": 6.9, "pallet": 89.0}


def live_price(url, kind):
    response = requests.get(url, params={"kind": kind})
    response.raise_for_status()
    return response.json()["price"]


@app.task
def shipping_price(url, kind):
    price = None
    with gevent.Timeout(0.5, False):
        price = live_price(url, kind)
    if price is None:
        return {"price": FLAT_RATES[kind], "source": "flat"}
    return {"price": price, "source": "live"}
