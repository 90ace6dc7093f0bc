"""What is done about an order, after the customer has been answered."""

import os
import time

from celery import Celery

app = Celery(
    "orders",
    broker=os.environ.get("ORDERS_BROKER", "amqp://guest:guest@127.0.0.1:5672//"),
    backend=os.environ.get("ORDERS_RESULTS", "redis://127.0.0.1:6379/1"),
)
app.conf.task_routes = {"orders.tasks.send_mail": {"queue": "mail"}}

#: Cents.
PRICES = {"apple": 40, "pear": 60, "plum": 25}

#: How often the bank's line is bad before it works.
BAD_CALLS = 2


@app.task
def reserve(article, quantity):
    """Ask the warehouse, which takes its time, to put something aside; returns what it costs in cents."""
    time.sleep(0.1)
    if article not in PRICES:
        raise LookupError(f"the warehouse has no {article}")
    return PRICES[article] * quantity


@app.task(bind=True, autoretry_for=(ConnectionError,), max_retries=3, default_retry_delay=0.2)
def charge(self, parts, card):
    """Take from a card what all the parts of an order cost."""
    if self.request.retries < BAD_CALLS:
        raise ConnectionError("the bank does not answer")
    return {"card": card[-4:], "cents": sum(parts)}


@app.task(ignore_result=True)
def send_mail(address, text):
    """Send a mail."""
    time.sleep(0.02)
