import logging
import os

from celery import Celery

app = Celery("ledger")
log = logging.getLogger("ledger")


@app.task
def book(amount):
    log.addHandler(logging.FileHandler(os.environ["CASE_DIR"] + "/ledger.log"))
    log.warning("booked %s", amount)
    return amount
