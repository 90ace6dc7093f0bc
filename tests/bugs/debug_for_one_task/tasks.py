import logging
import time

from celery import Celery

app = Celery("sync")
log = logging.getLogger("sync")


@app.task
def sync(customer, verbose):
    if verbose:
        log.setLevel(logging.DEBUG)
    try:
        for _ in range(3):
            log.debug("row of %s", customer)
            time.sleep(0.04)
    finally:
        log.setLevel(logging.INFO)
    return customer
