import time

from celery import Celery

app = Celery("payments")
charged = set()


@app.task
def charge(order):
    if order in charged:
        return "duplicate"
    time.sleep(0.15)  # the payment provider
    charged.add(order)
    return "charged"
