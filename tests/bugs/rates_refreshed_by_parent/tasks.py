import threading
import time

from celery import Celery

app = Celery("rates")
rate = 0
fresh = threading.Event()


def refresh():
    global rate
    while True:
        time.sleep(0.05)
        rate += 1
        fresh.set()


threading.Thread(target=refresh, daemon=True, name="rates").start()


@app.task
def convert(amount):
    fresh.clear()
    if not fresh.wait(1):
        return amount
    return amount * max(rate, 1) // max(rate, 1)
