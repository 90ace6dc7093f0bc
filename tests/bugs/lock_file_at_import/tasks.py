import fcntl
import os
import time

from celery import Celery

app = Celery("bank")
guard = open(os.environ["CASE_DIR"] + "/bank.lock", "a")


@app.task
def pay(amount):
    fcntl.flock(guard, fcntl.LOCK_EX)
    try:
        time.sleep(0.02)
        return amount
    finally:
        fcntl.flock(guard, fcntl.LOCK_UN)
