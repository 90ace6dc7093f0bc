"""A small Celery application: orders of a shop."""

import time

from celery import Celery

app = Celery("shop", broker="redis://localhost:6379/0", backend="redis://localhost:6379/0")
app.conf.task_routes = {"shop.send_mail": {"queue": "mail"}}


@app.task
def price(quantity, each):
    """Return what an order costs."""
    return quantity * each


@app.task
def total(prices):
    """Add up the prices of an order."""
    return sum(prices)


@app.task
def ask_warehouse(article):
    """Ask a slow service whether an article is in stock."""
    time.sleep(0.1)
    return {"article": article, "stock": 3}


@app.task(bind=True, max_retries=2, default_retry_delay=0.2)
def charge(self, card):
    """Charge a card; the bank's line is bad and works at the third attempt."""
    if self.request.retries < 2:
        raise self.retry(exc=ConnectionError("the bank does not answer"))
    return f"charged {card}"


@app.task(ignore_result=True)
def send_mail(address):
    """Send a mail, or fail."""
    if "@" not in address:
        raise ValueError(f"{address!r} is no address")
