import logging
import time

from celery import Celery

app = Celery("sync")
log = logging.getLogger("sync")
ROWS = {"warm": 1, "a": 5, "b": 3}


@app.task
def sync(customer, verbose):
    if verbose:
        log.setLevel(logging.DEBUG)
    try:
        for _ in range(ROWS[customer]):
            log.debug("row of %s", customer)
            time.sleep(0.04)
    finally:
        log.setLevel(logging.INFO)
    return customer
