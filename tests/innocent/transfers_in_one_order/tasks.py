import random
import threading
import time

from celery import Celery

app = Celery("bank")

locks = {account: threading.Lock() for account in ("savings", "current")}
shelf, counter = threading.Lock(), threading.Lock()


@app.task
def transfer(source, target):
    first, second = sorted((source, target))
    with locks[first]:
        time.sleep(0.2)
        with locks[second]:
            time.sleep(0.2)
    return source, target


def with_both(first, second):
    while True:
        with first:
            if second.acquire(timeout=0.1):
                try:
                    time.sleep(0.2)
                    return
                finally:
                    second.release()
        time.sleep(random.uniform(0.01, 0.1))  # somebody else has the other one: give way


@app.task
def sell():
    with_both(counter, shelf)
    return "sold"


@app.task
def restock():
    with_both(shelf, counter)
    return "restocked"
