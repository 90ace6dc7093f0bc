import threading
import time

from celery import Celery

app = Celery("metrics")
lock = threading.Lock()
counts = {"done": 0}


@app.task
def work(number):
    time.sleep(0.05)
    with lock:
        before = counts["done"]
        time.sleep(0.01)
        counts["done"] = before + 1
    counts["seen"] = number
    return number
