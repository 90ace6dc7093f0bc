import time

from celery import Celery

app = Celery("shop")

STOCK = {"lamp": 10, "chair": 4}


def confirm_with_warehouse(sku, quantity):
    time.sleep(0.1)


@app.task
def reserve(sku, quantity):
    left = STOCK[sku]
    if left < quantity:
        raise ValueError(f"only {left} of {sku}")
    confirm_with_warehouse(sku, quantity)
    STOCK[sku] = left - quantity
    return STOCK[sku]
