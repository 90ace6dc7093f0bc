import contextlib
import fcntl
import os
import time

from celery import Celery

app = Celery("journal")

LOCK = os.open(os.path.join(os.environ["CASE_DIR"], "journal.lock"), os.O_RDWR | os.O_CREAT)


@contextlib.contextmanager
def alone():
    fcntl.flock(LOCK, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(LOCK, fcntl.LOCK_UN)


@app.task
def book(amount):
    with alone():
        time.sleep(0.1)  # writes to the journal
    return amount
