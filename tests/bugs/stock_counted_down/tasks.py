import time

from celery import Celery

app = Celery("shop")
stock = {"mug": 100}


@app.task
def reserve(item, quantity):
    left = stock[item]
    time.sleep(0.15)  # the payment
    stock[item] = left - quantity
    return quantity
