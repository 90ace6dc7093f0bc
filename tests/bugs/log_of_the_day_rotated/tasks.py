import logging
import os
import time
from logging.handlers import RotatingFileHandler

from celery import Celery

app = Celery("audit")
PATH = os.path.join(os.environ["CASE_DIR"], "audit.log")
handler = RotatingFileHandler(PATH, maxBytes=10_000_000, backupCount=5)
audit = logging.getLogger("audit")
audit.propagate = False
audit.setLevel(logging.INFO)
audit.addHandler(handler)


@app.task
def close_day():
    handler.doRollover()


@app.task
def record(order):
    audit.info("order %s", order)
    time.sleep(0.1)


@app.task
def todays_orders():
    with open(PATH) as f:
        return f.read().splitlines()
